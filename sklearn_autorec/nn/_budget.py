"""How many bytes a search may leave of the embedding tables."""

from numbers import Integral, Real

import numpy as np

from ._numeric import numeric_rows
from ._storage import ELEMENT_BYTES, SCALE, storage_of

ELEMENT = 4  # bytes of a float32


def kinds_of_fields(context):
    """How the table of each field will be stored, list of F of "float32", "float16" and "int8"; a
    list that reads the table of another field has that field's.
    """
    names = list(context.field_names)
    for f, owner in context.sharers:
        names[f] = context.field_names[owner]
    return [storage_of(context.storage, name) for name in names]


def kinds_of_tables(context):
    """The same of each field with a table of its own, list of str."""
    kinds = kinds_of_fields(context)
    return [kinds[f] for f in context.table_fields]


def element_bytes(context):
    """Bytes of a number in the table of each field as it will be stored, int64 ndarray (F,), see
    ``kinds_of_fields``. Scales of int8 come on top.
    """
    return np.array([ELEMENT_BYTES[kind] for kind in kinds_of_fields(context)], np.int64)


def stored_bytes(n_numbers, n_vectors, kinds):
    """Bytes of numbers as they will be stored, scales included.

    Parameters
    ----------
    n_numbers : int ndarray (..., F)
    n_vectors : int ndarray (..., F)
        Vectors to which they belong, each of which has a scale (two bytes) in int8. Where codes and
        scales take no fewer bytes, int8 becomes float16.
    kinds : list of str, length F

    Returns
    -------
    int64 ndarray (..., F)
    """
    elements = np.array([ELEMENT_BYTES[kind] for kind in kinds], np.int64)
    scaled = np.array([kind == "int8" for kind in kinds], bool)
    n_numbers, n_vectors = np.asarray(n_numbers, np.int64), np.asarray(n_vectors, np.int64)
    of_codes = np.minimum(n_numbers + SCALE * n_vectors, ELEMENT_BYTES["float16"] * n_numbers)
    return np.where(scaled, of_codes, elements * n_numbers)


def vector_bytes(context, widths=None):
    """Bytes of a vector of each field as it will be stored, its scale included.

    Parameters
    ----------
    context : BuildContext
    widths : int ndarray (..., F) or None, default=None
        Numbers of a vector; None is ``embedding_dim``.

    Returns
    -------
    int64 ndarray (..., F)
    """
    kinds = kinds_of_fields(context)
    if widths is None:
        widths = np.full(len(kinds), context.embedding_dim)
    return stored_bytes(widths, np.ones_like(widths), kinds)


def field_rows(context):
    """Vectors that each field has in the whole tables, int64 ndarray (F,): ids of categorical and
    list fields, and the vectors of numbers. A list that reads the table of another field has none.
    """
    of_number = 0
    if context.n_numeric:
        of_number = numeric_rows(context.numeric_embedding, context.n_numeric_bins)
    rows = np.zeros(context.n_fields, np.int64)
    first = context.n_categorical
    rows[first : first + context.n_numeric] = of_number
    rows[context.table_fields] = context.table_sizes
    return rows


def table_bytes(context, numeric=True):
    """Bytes of the whole embedding tables of one member, all columns and values, as they will be
    stored, scales of int8 included.

    Parameters
    ----------
    context : BuildContext
    numeric : bool
        Whether the vectors of numeric fields count; not for methods that leave these whole.
    """
    rows = field_rows(context)
    if not numeric:
        first = context.n_categorical
        rows[first : first + context.n_numeric] = 0
    return int((vector_bytes(context) * rows).sum())


def limit_of(budget, context, numeric=False):
    """A budget of a search as bytes of its tables as they will be stored; see `budget_bytes`.

    Parameters
    ----------
    budget : int or float
    context : BuildContext
    numeric : bool
        As of `table_bytes`.
    """
    smallest = int(element_bytes(context).min())
    return budget_bytes(budget, table_bytes(context, numeric), element=smallest)


def budget_bytes(budget, whole, name="budget", element=ELEMENT):
    """A budget as bytes.

    Parameters
    ----------
    budget : int or float
        A float in (0, 1] is a share of ``whole``, an int so many bytes: 1.0 keeps everything, 1 is
        a single byte. More bytes than there are keep everything, too.
    whole : int
        Bytes of the whole tables, see `table_bytes`.
    name : str
        Of the parameter, for messages.
    element : int
        Bytes of the smallest number, below which nothing could be kept.

    Returns
    -------
    int
        Between 0 and ``whole``.

    Raises
    ------
    ValueError
        For a share outside of (0, 1], or bytes too few for a single number.
    TypeError
        If it is no number.
    """
    if isinstance(budget, bool | np.bool_) or not isinstance(budget, Real):
        raise TypeError(
            f"{name} must be a share of the bytes of the whole tables, a float in (0, 1], or a "
            f"number of bytes, an int, got {budget!r}."
        )
    if isinstance(budget, Integral):
        if budget < element:
            raise ValueError(
                f"{name}={budget!r} is a number of bytes, fewer than the {element} of a single "
                f"number; a share is a float, 1.0 keeps everything."
            )
        return min(int(budget), whole)
    if not 0 < budget <= 1:
        raise ValueError(
            f"{name}={budget!r} must be a share in (0, 1], or a number of bytes as an int."
        )
    # The margin is for shares such as 0.3, whose products rounding puts below a whole number.
    return int(budget * whole + 1e-6)
