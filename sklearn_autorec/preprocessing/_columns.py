"""Reading columns out of any table: names, kinds, and plain values."""

import datetime
from itertools import chain

import narwhals.stable.v1 as nw
import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_array

CATEGORICAL, NUMERIC, SEQUENCE = "categorical", "numeric", "sequence"


def read_columns(X, estimator):
    """A table as a list of column names (None without names) and a list of columns.

    A column is a pandas Series or an ndarray (n_rows,); nothing is copied that need not be.

    Raises
    ------
    ValueError, TypeError
        With scikit-learn's stock messages, for what is not a table of at least one row and one column.
    """
    if isinstance(X, pd.DataFrame):
        _check_shape(X.shape, estimator)
        names = list(X.columns)
        _check_unique(names)
        return names, [X[name] for name in names]
    if not sparse.issparse(X) and not isinstance(X, np.ndarray | list | tuple):
        frame = nw.from_native(X, eager_only=True, pass_through=True)
        if isinstance(frame, nw.DataFrame):
            _check_shape(frame.shape, estimator)
            _check_unique(frame.columns)
            return list(frame.columns), [_plain_series(frame[name]) for name in frame.columns]
    if isinstance(X, list | tuple):
        X = _object_array(X)
    X = check_array(X, dtype=None, ensure_all_finite=False, estimator=estimator)
    return None, [X[:, i] for i in range(X.shape[1])]


def _plain_series(series):
    """A polars or arrow column as a pandas Series or ndarray, lists as Python lists, null as missing."""
    native = series.to_native()
    if series.dtype in (nw.List, nw.Array):
        values = np.empty(len(series), object)
        values[:] = series.to_list()
        return values
    if series.dtype.is_integer() and series.null_count():
        return pd.Series(pd.array(series.to_list(), dtype="Int64"))
    if hasattr(native, "to_pandas") and hasattr(native, "chunks"):  # a pyarrow ChunkedArray
        return native.to_pandas()
    if series.dtype.is_numeric() or series.dtype.is_temporal():
        return series.to_numpy()
    if series.dtype == nw.Boolean and not series.null_count():
        return series.to_numpy()
    return pd.Series(series.to_list(), dtype=object)


def _object_array(rows):
    """Nested lists as a 2-D array whose cells keep their types (numpy would turn [1, "a"] into strings)."""
    array = np.asarray(rows, dtype=object)
    if array.ndim == 2 and array.size and not any(isinstance(v, str) or v is None for v in array.flat):
        try:
            return np.asarray(rows)
        except ValueError:
            return array
    if array.ndim != 2:
        return np.asarray(rows) if array.ndim != 1 or not any(isinstance(r, list | tuple) for r in rows) else array
    return array


def _check_shape(shape, estimator):
    name = type(estimator).__name__
    for count, what in ((shape[0], "sample"), (shape[1], "feature")):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={tuple(shape)}) while a minimum of 1 is required by {name}."
            )


def _check_unique(names):
    if len(set(names)) < len(names):
        seen, twice = set(), []
        for name in names:
            if name in seen and name not in twice:
                twice.append(name)
            seen.add(name)
        raise ValueError(f"Column names must be unique, got more than one of {twice}.")


def column_kind(column):
    """The kind of a column by its dtype; object columns by the types of their values."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "fmM":
        return NUMERIC
    if isinstance(dtype, np.dtype) and dtype.kind == "c":
        raise ValueError("Complex data not supported")
    if pd.api.types.is_float_dtype(dtype) or pd.api.types.is_datetime64_any_dtype(dtype):
        return NUMERIC
    if not (isinstance(dtype, np.dtype) and dtype.kind == "O"):
        return CATEGORICAL
    values = np.asarray(column, dtype=object)
    present = next((v for v in values if not _is_missing(v)), None)
    if isinstance(present, list | tuple | set | frozenset | np.ndarray):
        return SEQUENCE
    inferred = pd.api.types.infer_dtype(values, skipna=True)
    numeric = {
        "floating",
        "mixed-integer-float",
        "decimal",
        "datetime",
        "datetime64",
        "date",
        "timedelta",
        "timedelta64",
    }
    if inferred == "complex":
        raise ValueError("Complex data not supported")
    return NUMERIC if inferred in numeric else CATEGORICAL


def _is_missing(value):
    return value is None or (not isinstance(value, list | tuple | set | frozenset | np.ndarray) and pd.isna(value))


def numeric_values(column, name):
    """A numeric column as float64 (n_rows,), NaN where missing; times in seconds.

    Raises
    ------
    ValueError
        For infinity, numbers beyond float32 and values that are not numbers; names the column.
    """
    values = column if isinstance(column, np.ndarray) else column.array
    if not isinstance(values, np.ndarray) and not isinstance(values.dtype, np.dtype):
        values = pd.Series(values)
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
            values = values.dt.tz_convert(None).to_numpy() if values.dt.tz is not None else values.to_numpy()
        elif pd.api.types.is_numeric_dtype(values.dtype):
            values = values.to_numpy(np.float64, na_value=np.nan)
        else:
            values = values.to_numpy(object, na_value=None)
    values = np.asarray(values)
    if values.dtype == object:
        values = _object_numbers(values, name)
    if values.dtype.kind in "mM":
        missing = np.isnat(values)
        unit = "datetime64[us]" if values.dtype.kind == "M" else "timedelta64[us]"
        values = np.where(missing, np.nan, values.astype(unit).astype(np.int64) / 1e6)
    if values.dtype.kind == "c":
        raise ValueError("Complex data not supported")
    try:
        values = values.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Column {name!r} is numeric, but holds values that are not numbers: {error}") from error
    with np.errstate(invalid="ignore"):
        if (np.abs(values) > np.finfo(np.float32).max).any():
            raise ValueError(f"Input X contains infinity or a value too large for dtype('float32') in column {name!r}.")
    return values


def _object_numbers(values, name):
    present = ~pd.isna(values)
    first = next(iter(values[present]), None)
    if isinstance(first, datetime.date | datetime.timedelta | np.datetime64 | np.timedelta64):
        convert = pd.to_timedelta if isinstance(first, datetime.timedelta | np.timedelta64) else pd.to_datetime
        return np.asarray(convert(pd.Series(np.where(present, values, None), dtype=object)).to_numpy())
    numbers = np.full(len(values), np.nan)
    try:
        numbers[present & (values != "")] = values[present & (values != "")].astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(first, dict):
            raise TypeError(f"argument must be a string or a number, column {name!r} holds {first!r}") from error
        raise ValueError(f"Column {name!r} is numeric, but holds values that are not numbers: {error}") from error
    return numbers


def factorize(column, name):
    """Codes int64 (n_rows,), -1 where missing, and the distinct values in order of appearance.

    Distinct values are an int64, float64 or object (strings only) array; empty strings count as missing.
    """
    try:
        codes, uniques = pd.factorize(column)
    except TypeError as error:
        raise TypeError(
            f"argument must be a string or a number; column {name!r} holds other objects: {error}"
        ) from error
    return _canonical(codes, uniques)


def _canonical(codes, uniques):
    """Reduce the distinct values to one of three plain types and join those that become equal."""
    if isinstance(uniques, pd.CategoricalIndex | pd.Categorical):
        uniques = np.asarray(uniques.astype(object))
    if not isinstance(uniques.dtype, np.dtype):
        if pd.api.types.is_integer_dtype(uniques.dtype) or pd.api.types.is_bool_dtype(uniques.dtype):
            return codes, np.asarray(uniques, dtype=np.int64)
        uniques = np.asarray(uniques, dtype=np.float64 if pd.api.types.is_float_dtype(uniques.dtype) else object)
    uniques = np.asarray(uniques)
    if uniques.dtype.kind in "iub":
        return codes, uniques.astype(np.int64)
    if uniques.dtype.kind == "f":
        whole = bool(len(uniques)) and bool((np.mod(uniques, 1) == 0).all()) and bool((np.abs(uniques) < 2.0**62).all())
        return codes, uniques.astype(np.int64) if whole else uniques.astype(np.float64)
    if uniques.dtype.kind in "mM":
        uniques = uniques.astype(str).astype(object)
    inferred = pd.api.types.infer_dtype(uniques, skipna=False)
    if inferred in ("integer", "boolean"):
        try:
            return codes, uniques.astype(np.int64)
        except OverflowError:
            pass
    if inferred in ("floating", "mixed-integer-float", "decimal"):
        return _canonical(codes, uniques.astype(np.float64))
    keys = uniques if inferred == "string" else np.array([_text(v) for v in uniques], dtype=object)
    if inferred != "string" or (keys == "").any():
        again, keys = pd.factorize(keys)
        if (keys == "").any():
            empty = int(np.flatnonzero(keys == "")[0])
            again = np.where(again == empty, -1, again - (again > empty))
            keys = np.delete(keys, empty)
        codes = np.append(again, -1)[codes]
    return codes, keys


def _text(value):
    """The string under which a value of a column of mixed types is known; 1, 1.0 and "1" are one value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def flatten_sequences(column, name, separator, max_length):
    """Items of all rows, and where they go.

    Returns
    -------
    items : object ndarray (n_items,)
        Items of the kept ends of the rows, missing ones left out.
    rows, positions : int64 ndarray (n_items,)
        Row and place of each item.
    """
    if separator is not None:
        text = pd.Series(np.asarray(column, dtype=object), dtype=object)
        column = text.map(lambda cell: cell.split(separator), na_action="ignore").to_numpy()
    values = np.asarray(column, dtype=object)
    missing = np.fromiter(map(_is_missing, values), bool, len(values))
    bad = next((v for v in values[~missing] if not isinstance(v, list | tuple | set | frozenset | np.ndarray)), None)
    if bad is not None:
        raise ValueError(
            f"Column {name!r} is a sequence column: its cells must be lists (or missing), got {bad!r}. For text with a "
            f"separator give sequence_features={{{name!r}: '|'}}."
        )
    # The last items are kept: behaviour histories are in time order, and what is recent tells most.
    cells = [
        () if gone else (sorted(cell) if isinstance(cell, set | frozenset) else cell)
        for cell, gone in zip(values, missing, strict=True)
    ]
    cells = [cell[-max_length:] for cell in cells]
    lengths = np.fromiter(map(len, cells), np.int64, len(cells))
    items = np.empty(int(lengths.sum()), object)
    items[:] = list(chain.from_iterable(cells))
    deep = next((v for v in items if isinstance(v, list | tuple | set | dict | np.ndarray)), None)
    if deep is not None:
        raise ValueError(f"Column {name!r} is a sequence column: its items must be strings or numbers, got {deep!r}.")
    rows = np.repeat(np.arange(len(cells)), lengths)
    present = ~(pd.isna(items) | (items == ""))
    if not present.all():
        items, rows = items[present], rows[present]
    counts = np.bincount(rows, minlength=len(cells))
    positions = np.arange(len(items)) - np.repeat(np.cumsum(counts) - counts, counts)
    return items, rows, positions
