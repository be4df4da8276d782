"""What the methods that prune single elements share."""

from collections.abc import Mapping
from numbers import Real

import numpy as np

from ..base._constraints import BUDGET
from ..nn import (
    MaskedEmbedding,
    budget_bytes,
    mask_from_text,
    mask_to_text,
    packed_bytes,
    table_bytes,
)
from ..nn._budget import element_bytes
from ..utils._sklearn import Interval
from ._budgets import one_given, warn_if_nothing_is_kept


class MaskSearch:
    """Mixin of search methods whose architecture has "mask", the elements of the tables that are
    kept; it stands before `SearchMethod`.

    The packed table tells the mask, which is as large as the table has rows.
    """

    packed_entries: Mapping | None = {"mask": lambda part: mask_to_text(part.mask())}
    stores_numbers = True

    def check(self, architecture, context):
        check_mask(architecture, context)

    def realise(self, architecture, context):
        return MaskedEmbedding(context, mask_from_text(architecture["mask"]))


class PrunedShare(MaskSearch):
    """Mixin of searches that keep the elements of highest score, by a share of the elements or by a
    budget of bytes; in place of `MaskSearch`.

    Parameters
    ----------
    target_sparsity : float in [0, 1] or None, default=None
        Share of the embedding elements to prune, in place of a budget. Rows of values that no
        training row holds are always pruned. None is 0.8 where there is no budget either.
    budget : float or int or None, default=None
        Bytes of the packed tables, what says where the numbers belong included, that are never
        exceeded: a float in (0, 1] is a share of the whole tables, an int a number of bytes. As
        many elements are kept as fit. The vectors of numeric fields are left whole and are counted.
    """

    _parameter_constraints = {
        "target_sparsity": [Interval(Real, 0, 1, closed="both"), None],
        "budget": [*BUDGET, None],
    }

    def check_budget(self, context):
        """Refuse a budget that cannot be met, before anything is trained.

        Raises
        ------
        ValueError
            If ``target_sparsity`` is given as well, or the bytes are too few for one element.
        """
        one_given(self, "target_sparsity", "budget")
        if self.budget is not None:
            bytes_for_masked(self.budget, context)

    def mask_of(self, scores, context):
        """The kept elements, bool ndarray (V, d), by scores of that shape; -inf is never kept."""
        if self.budget is not None:
            n_bytes = bytes_for_masked(self.budget, context)
            mask = strongest_within(scores, n_bytes, context)
            warn_if_nothing_is_kept(self, mask)
            return mask
        return strongest(scores, 0.8 if self.target_sparsity is None else self.target_sparsity)


def bytes_for_masked(budget, context, numeric=True):
    """Bytes that a budget leaves for the table of a `MaskedEmbedding`.

    Parameters
    ----------
    budget : float or int
    context : BuildContext
    numeric : bool, default=True
        Whether the vectors of numeric fields, which stay whole, count; otherwise they are no part
        of what a share refers to either.

    Raises
    ------
    ValueError
        If they are fewer than those of a table of which a single element is kept.
    """
    whole, n_rows = table_bytes(context, numeric), context.n_rows
    numbers = whole - table_bytes(context, numeric=False)
    limit = budget_bytes(budget, whole, element=int(element_bytes(context).min()))
    single = np.zeros((n_rows, context.embedding_dim), bool)
    if n_rows:
        elements = element_bytes(context)[context.table_fields]
        first = np.cumsum([0, *context.table_sizes])[elements.argmin()]
        single[first, 0] = True
    least = packed_bytes(single, context)
    if limit < numbers + least:
        raise ValueError(
            f"budget={budget!r} leaves {limit} bytes of {whole}, fewer than {numbers} of the "
            f"numeric columns, which are kept whole, and {least} of a packed table of a single "
            f"element; raise it (a float is a share of the whole tables, an int is bytes)."
        )
    return limit - numbers


def strongest_within(scores, n_bytes, context):
    """Mask of as many elements of highest score as `pack_table` can store in ``n_bytes``; -inf is
    never kept.
    """
    order = np.argsort(-scores, axis=None, kind="stable")[: int(np.isfinite(scores).sum())]

    def mask_of(n):
        mask = np.zeros(scores.size, bool)
        mask[order[:n]] = True
        return mask.reshape(scores.shape)

    # More elements never take fewer bytes, so that halving finds where they are too many. Each
    # takes its own bytes at least.
    fits, too_many = 0, min(len(order), n_bytes // int(element_bytes(context).min())) + 1
    while too_many - fits > 1:
        n = (fits + too_many) // 2
        if packed_bytes(mask_of(n), context) <= n_bytes:
            fits = n
        else:
            too_many = n
    return mask_of(fits)


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
