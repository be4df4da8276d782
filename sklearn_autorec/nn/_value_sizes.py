"""Sizes of single values in architectures."""

import base64

import numpy as np


def sizes_to_text(codes, candidates):
    """Numbers of the candidate of each value as plain values: "candidates", and bytes in base64.

    Parameters
    ----------
    codes : ndarray of int (V,)
        Below 256.
    candidates : list of int
    """
    text = base64.b64encode(np.asarray(codes, np.uint8).tobytes()).decode("ascii")
    return {"candidates": [int(w) for w in candidates], "codes": text}


def sizes_from_text(text):
    """The candidates, a list, and the number of that of each value, uint8 ndarray (V,).

    Raises
    ------
    ValueError
        If the text is not what `sizes_to_text` writes.
    """
    whole = isinstance(text, dict) and isinstance(text.get("codes"), str)
    candidates = text.get("candidates") if whole else None
    if (
        not isinstance(candidates, list)
        or not 1 <= len(candidates) <= 256
        or not all(type(w) is int and w > 0 for w in candidates)
        or sorted(set(candidates)) != candidates
    ):
        raise ValueError(
            "sizes must be a dict of 'candidates', rising ints, and 'codes', base64 text, got "
            f"{text!r:.200}."
        )
    codes = np.frombuffer(base64.b64decode(text["codes"], validate=True), np.uint8)
    if (codes >= len(candidates)).any():
        raise ValueError(
            f"codes of sizes must be below {len(candidates)}, the number of candidates, got "
            f"{codes.max()}."
        )
    return candidates, codes
