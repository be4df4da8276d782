"""What the methods that prune single elements share."""

import numpy as np

from ..nn import mask_from_text


def strongest(scores, sparsity):
    """Mask of the elements of highest score that leaves a share of ``sparsity`` zeros; -inf is
    never kept.
    """
    n = round((1 - sparsity) * scores.size)
    mask = np.zeros(scores.size, bool)
    mask[np.argsort(-scores, axis=None, kind="stable")[:n]] = True
    return mask.reshape(scores.shape) & np.isfinite(scores)


def check_mask(architecture, context):
    """Refuse an architecture whose mask does not fit the tables.

    Raises
    ------
    ValueError
    """
    text = architecture.get("mask")
    shape = text.get("shape") if isinstance(text, dict) else None
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not whole or not isinstance(text.get("bits"), str):
        raise ValueError(
            f"mask must be a dict of shape, two ints, and bits, base64 text, got {text!r:.200}."
        )
    shape = mask_from_text(text).shape
    if shape != (context.n_rows, context.embedding_dim):
        raise ValueError(
            f"the mask has shape {shape}, the embedding table has "
            f"{(context.n_rows, context.embedding_dim)}."
        )
