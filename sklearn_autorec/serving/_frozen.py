"""Which values have frozen embeddings, in model files."""

import numpy as np

from ..nn._given import GivenEmbedding, GivenVectors
from ._nodes import refuse

__all__ = ["check_frozen", "frozen_values"]


def frozen_values(module):
    """Ids with frozen embeddings by the name of their column: dict of str to int64 ndarray, empty
    where there are none.
    """
    for part in module.modules():
        if isinstance(part, GivenEmbedding):  # of several members all have the same
            return {
                own.field: own.ids if own.whole is None else own.whole
                for own in part.given
                if own.frozen
            }
    return {}


def check_frozen(frozen, context):
    """The `GivenVectors` that a file tells of.

    Parameters
    ----------
    frozen : object
        As `frozen_values` gave it.
    context : BuildContext
        Of the whole table.
    """
    lists = context.field_names[context.n_categorical + context.n_numeric : context.first_vector]
    sizes = dict(zip(context.field_names, context.n_ids, strict=False))
    sizes |= dict(zip(lists, (n for n, _ in context.sequences), strict=True))
    good = isinstance(frozen, dict) and all(name in sizes for name in frozen)
    for name, ids in frozen.items() if good else ():
        if (
            not isinstance(ids, np.ndarray)
            or ids.dtype != np.int64
            or ids.ndim != 1
            or not len(ids)
            or not (np.diff(ids) > 0).all()
            or not 0 <= ids[0] <= ids[-1] < sizes[name]
        ):
            good = False
    if not good:
        refuse("frozen", "rising ids by the name of a column with embeddings", frozen)
    return tuple(GivenVectors(name, ids, None, True) for name, ids in frozen.items())
