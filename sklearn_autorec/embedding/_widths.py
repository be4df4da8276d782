"""What the methods that give each field a width share."""

from numbers import Integral

from ..nn._mixed import check_shared_widths


def check_candidates(candidates, embedding_dim):
    """Sorted distinct widths; refuses what does not lie between 0 and ``embedding_dim``.

    "auto" is 1, 2, 4, ... and ``embedding_dim``.
    """
    if isinstance(candidates, str):
        candidates = [
            *(2**k for k in range(embedding_dim.bit_length()) if 2**k < embedding_dim),
            embedding_dim,
        ]
    if not candidates or not all(
        isinstance(w, Integral) and 0 <= w <= embedding_dim for w in candidates
    ):
        raise ValueError(
            f"candidates must be whole numbers between 0 and embedding_dim={embedding_dim}, got "
            f"{candidates!r}."
        )
    return sorted({int(w) for w in candidates})


def check_widths(architecture, context):
    """Refuse an architecture whose widths do not fit the fields.

    Raises
    ------
    ValueError
    """
    widths, d = architecture.get("widths"), context.embedding_dim
    whole = isinstance(widths, list) and all(
        isinstance(w, int) and not isinstance(w, bool) for w in widths
    )
    if not whole or len(widths) != context.n_fields or not all(0 <= w <= d for w in widths):
        raise ValueError(
            f"widths must hold {context.n_fields} whole numbers between 0 and embedding_dim={d}, "
            f"got {widths!r:.200}."
        )
    check_shared_widths(widths, context)
