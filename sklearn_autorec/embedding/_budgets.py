"""How the methods of this folder take a budget of bytes: a float is a share of the whole tables, an
int a number of bytes (`nn.budget_bytes`).
"""

import warnings

import numpy as np

from ..nn import budget_bytes, element_bytes, table_bytes


def bytes_for_tables(budget, least, context):
    """Bytes that a budget leaves beside the vectors of numeric fields, which stay whole and are
    counted.

    Parameters
    ----------
    budget : float or int
    least : int
        Bytes of the smallest tables that the method can store.
    context : BuildContext

    Raises
    ------
    ValueError
        If these do not fit.
    """
    whole = table_bytes(context)
    numbers = whole - table_bytes(context, numeric=False)
    limit = budget_bytes(budget, whole, element=int(element_bytes(context).min()))
    if limit < numbers + least:
        raise ValueError(
            f"budget={budget!r} leaves {limit} bytes of {whole}, fewer than {numbers} of the "
            f"numeric columns, which are kept whole, and {least} of the smallest tables."
        )
    return limit - numbers


def warn_if_nothing_is_kept(method, kept):
    """Warn by name if a search within a budget has left nothing of the tables.

    A budget that nothing fits is refused before the search; here something would have fitted.

    Parameters
    ----------
    method : SearchMethod
        With a parameter ``budget``.
    kept : array_like
        What is kept, 0 or False for nothing; without any entry there are no tables.
    """
    if np.size(kept) and not np.any(kept):
        name = type(method).__name__
        warnings.warn(
            f"{name}(budget={method.budget!r}) keeps no number of the embedding tables, so that "
            f"every value is read as zeros: the search has found nothing that is worth keeping "
            f"within the budget. Raise it, or give the search more epochs.",
            UserWarning,
            stacklevel=3,
        )


def one_given(method, first, second):
    """Refuse two parameters of which each says how much is left.

    Raises
    ------
    ValueError
        If neither is None.
    """
    one, other = getattr(method, first), getattr(method, second)
    if one is not None and other is not None:
        raise ValueError(
            f"{type(method).__name__} takes {first} or {second}, not both, got {first}={one!r} and "
            f"{second}={other!r}; set one of them to None."
        )
