"""What the methods that prune single elements share."""

from collections.abc import Mapping

import numpy as np

from ..nn import MaskedEmbedding, mask_from_text, mask_to_text


class MaskSearch:
    """Mixin of search methods whose architecture has "mask", the elements of the tables that are
    kept; it stands before `SearchMethod`.

    The packed table tells the mask, which is as large as the table has rows.
    """

    packed_entries: Mapping | None = {"mask": lambda part: mask_to_text(part.mask())}

    def check(self, architecture, context):
        check_mask(architecture, context)

    def realise(self, architecture, context):
        return MaskedEmbedding(context, mask_from_text(architecture["mask"]))


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
