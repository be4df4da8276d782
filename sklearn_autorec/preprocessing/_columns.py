"""Reading a table of any container as a list of columns, and telling their kinds."""

import numpy as np
import pandas as pd
from sklearn.utils import check_array

from ..utils._frames import is_arrow_frame
from ._dicts import is_dicts

try:
    import pyarrow as pa
except ImportError:  # polars columns are then read by value
    pa = None

CATEGORICAL, NUMERIC, SEQUENCE = "categorical", "numeric", "sequence"
VECTOR, MOMENT = "vector", "time"
CONTAINERS = (list, tuple, set, frozenset, np.ndarray)  # what a cell of a sequence column may be

# What `pandas.api.types.infer_dtype` calls objects that are numbers or times.
_NUMERIC_OBJECTS = {
    "floating",
    "mixed-integer-float",
    "decimal",
    "datetime",
    "datetime64",
    "date",
    "timedelta",
    "timedelta64",
}


def read_columns(X, estimator):
    """A table as a list of column names (None without names) and a list of columns.

    A column is a pandas Series or an ndarray (n_rows,); arrow strings and lists stay in arrow
    memory.

    Raises
    ------
    ValueError, TypeError
        With scikit-learn's stock messages, for what is not a table of at least one row and one
        column.
    """
    if isinstance(X, pd.DataFrame):
        names = X.columns.tolist()
        _check_table(X.shape, names, estimator)
        return names, [_plain(column) for _, column in X.items()]
    if hasattr(X, "get_fragments") and hasattr(X, "to_table"):
        raise TypeError(
            f"X is a {type(X).__name__}, whose rows are not there yet; call X.to_table() first."
        )
    if hasattr(X, "slices") and hasattr(X, "blocks"):
        raise TypeError(
            f"X is a {type(X).__name__}, whose rows come in blocks; give its rows in memory, "
            f"X.read(), or parts of it, X.slices(i)."
        )
    if is_arrow_frame(X):
        return _read_arrow(X, estimator)
    if is_dicts(X):
        raise TypeError(
            f"X holds rows as dicts, which {type(estimator).__name__} takes once it is fitted; "
            f"give fit a table, such as pandas.DataFrame(X)."
        )
    if (
        isinstance(X, list | tuple)
        and len(X)
        and all(isinstance(row, list | tuple | np.ndarray) for row in X)
    ):
        if len({len(row) for row in X}) == 1:
            # Cells keep their types, while an array of [[1, "a"]] would hold strings only.
            columns = [np.fromiter(cells, object, len(X)) for cells in zip(*X, strict=True)]
            _check_table((len(X), len(columns)), [], estimator)
            return None, columns
    X = check_array(X, dtype=None, ensure_all_finite=False, estimator=estimator)
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{X}\n")
    return None, [X[:, i] for i in range(X.shape[1])]


def _check_table(shape, names, estimator):
    name = type(estimator).__name__
    for count, what in ((shape[0], "sample"), (shape[1], "feature")):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={tuple(shape)}) while a minimum of 1 is "
                f"required by {name}."
            )
    if len(set(names)) < len(names):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        raise ValueError(f"Column names must be unique, got more than one of {twice}.")


def _plain(series):
    """A pandas column without most arrow types."""
    if isinstance(series.dtype, pd.ArrowDtype):
        return from_arrow(as_arrow(series))
    return series


def _read_arrow(X, estimator):
    if pa is not None:
        if hasattr(X, "schema") and hasattr(X, "with_columns"):  # polars has types that arrow lacks
            _refuse_polars_types(X)
        X = pa.table(X)
        names = X.column_names
        _check_table(X.shape, names, estimator)
        return names, [from_arrow(column) for column in X.columns]
    names = list(X.columns)
    _check_table(X.shape, names, estimator)
    return names, [np.fromiter(X[name].to_list(), object, X.shape[0]) for name in names]


def _refuse_polars_types(X):
    for name, dtype in X.schema.items():
        if str(dtype) in ("Int128", "UInt128", "Object", "Float16"):
            raise TypeError(
                f"Column {name!r} has polars' type {dtype}, which cannot be read; cast it to "
                f"Int64, UInt64, Float32 or String."
            )


def as_arrow(series):
    """A pandas column of an `ArrowDtype` as a pyarrow ChunkedArray."""
    return pa.chunked_array(series.array.__arrow_array__())


def from_arrow(column):
    """A pyarrow (Chunked)Array as a pandas Series: strings, lists and numbers as they lie in
    memory.
    """
    t = pa.types
    dtype = column.type
    if t.is_string_view(dtype):
        column = column.cast(pa.large_string())
    elif t.is_date(dtype):
        column = column.cast(pa.timestamp("s" if t.is_date32(dtype) else "ms"))
    dtype = column.type
    kept = (
        t.is_string(dtype) or t.is_large_string(dtype) or t.is_boolean(dtype) or t.is_integer(dtype)
    )
    if kept or t.is_floating(dtype) or t.is_decimal(dtype) or _is_list(dtype):
        return pd.Series(pd.arrays.ArrowExtensionArray(column))
    return column.to_pandas()


def _is_list(arrow_type):
    t = pa.types
    return t.is_list(arrow_type) or t.is_large_list(arrow_type) or t.is_fixed_size_list(arrow_type)


def is_arrow_list(dtype):
    """Whether a column's dtype is that of arrow lists."""
    return isinstance(dtype, pd.ArrowDtype) and _is_list(dtype.pyarrow_dtype)


def column_kind(column):
    """The kind of a column by its dtype; object columns by their values.

    Objects are a sequence if the first that is not missing is a container, numeric if all are
    times, or all are numbers and one at least is a float or Decimal, and categorical otherwise
    (also if all are missing)."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "fmM":
        return NUMERIC
    if isinstance(dtype, np.dtype) and dtype.kind == "c":
        raise ValueError("Complex data not supported")
    if pd.api.types.is_float_dtype(dtype) or pd.api.types.is_datetime64_any_dtype(dtype):
        return NUMERIC
    if is_arrow_list(dtype):
        return SEQUENCE
    if isinstance(dtype, pd.ArrowDtype) and pa.types.is_decimal(dtype.pyarrow_dtype):
        return NUMERIC
    if dtype.kind != "O" or not isinstance(dtype, np.dtype):
        return CATEGORICAL
    values = np.asarray(column, dtype=object)
    present = next((v for v in values if not is_missing(v)), None)
    if isinstance(present, CONTAINERS):
        return SEQUENCE
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    if inferred == "complex":
        raise ValueError("Complex data not supported")
    return NUMERIC if inferred in _NUMERIC_OBJECTS else CATEGORICAL


def is_missing(value):
    """Whether one cell is nan, None, NA or NaT."""
    return value is None or (not isinstance(value, (*CONTAINERS, dict)) and bool(pd.isna(value)))


def shown(value):
    """A cell for a message: short, and without failing where it is nested too deep to be
    written.
    """
    try:
        text = repr(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deep"
    return text if len(text) <= 200 else f"{text[:200]}..."
