"""How the methods of this folder take a budget of bytes: a float is a share of the whole tables, an
int a number of bytes (`nn.budget_bytes`).
"""

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
