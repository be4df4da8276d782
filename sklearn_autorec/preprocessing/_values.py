"""Plain values of a column: float64 numbers, or codes into distinct integers, floats or strings.

Two words are used throughout. The *kind* of distinct values is how they are stored, ``"i"`` (int64), ``"f"``
(float64) or ``"O"`` (strings); a column of mixed values needs the widest. *Seen* is what they were in the table:
a subset of ``{"numbers", "strings"}``.
"""

import datetime
import warnings
from itertools import chain

import numpy as np
import pandas as pd

from ._columns import CONTAINERS, as_arrow, from_arrow, is_arrow_list, is_missing

NUMBERS, STRINGS = frozenset({"numbers"}), frozenset({"strings"})
_TIMES = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)


def numeric_values(column, name):
    """A numeric column as float64 (n_rows,), NaN where missing, and whether it was text; times in seconds.

    Raises
    ------
    ValueError, TypeError
        For infinity, numbers beyond float32 and values that are not numbers; names the column.
    """
    if isinstance(column, pd.Series) and not isinstance(column.dtype, np.dtype):
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            column = column.dt.tz_convert(None) if getattr(column.dt, "tz", None) is not None else column
            column = column.to_numpy()
        elif pd.api.types.is_numeric_dtype(column.dtype) and not isinstance(column.dtype, pd.CategoricalDtype):
            column = column.to_numpy(np.float64, na_value=np.nan)
        else:
            column = column.to_numpy(object)
    values, text = np.asarray(column), False
    if values.dtype.kind in "OUST":
        values, text = _object_numbers(values.astype(object), name)
    if values.dtype.kind in "mM":
        missing = np.isnat(values)
        unit = "datetime64[us]" if values.dtype.kind == "M" else "timedelta64[us]"
        values = np.where(missing, np.nan, values.astype(unit).astype(np.int64) / 1e6)
    if values.dtype.kind == "c":
        raise ValueError("Complex data not supported")
    values = values.astype(np.float64, copy=False)
    check_range(values, name)
    return values, text


def check_range(values, name):
    """Refuse infinity and what becomes infinity in float32."""
    if (np.abs(values) > np.finfo(np.float32).max).any():
        raise ValueError(f"Input X contains infinity or a value too large for dtype('float32') in column {name!r}.")


def _object_numbers(values, name):
    present = ~(pd.isna(values) | (values == ""))
    first = next(iter(values[present]), None)
    if isinstance(first, _TIMES):
        convert = pd.to_timedelta if isinstance(first, datetime.timedelta | np.timedelta64) else pd.to_datetime
        try:
            times = convert(pd.Series(np.where(present, values, None), dtype=object))
        except (TypeError, ValueError) as error:
            raise ValueError(f"Column {name!r} mixes times with other values: {error}") from error
        if getattr(times.dt, "tz", None) is not None:
            times = times.dt.tz_convert(None)
        return times.to_numpy(), False
    numbers = np.full(len(values), np.nan)
    try:
        numbers[present] = values[present].astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(first, dict):
            raise TypeError(f"argument must be a string or a number; column {name!r} holds {first!r}") from error
        raise ValueError(
            f"Column {name!r} is numeric, but holds values that are not numbers ({error}); if they are ids, name it in "
            "categorical_features."
        ) from error
    return numbers, isinstance(first, str)


def factorize(column, name):
    """Distinct values of a column and where they are.

    Returns
    -------
    codes : int64 ndarray (n_rows,)
        Positions in ``keys``, -1 where missing (also the empty string).
    keys : ndarray (n_distinct,)
        int64, float64 or object (strings only), in order of appearance.
    seen : frozenset
        ``"numbers"``, ``"strings"``, both or none.
    """
    try:
        codes, uniques = pd.factorize(column)
        return canonical(codes, uniques)
    except (TypeError, NotImplementedError) as error:
        odd = next((v for v in np.asarray(column, dtype=object) if isinstance(v, (*CONTAINERS, dict))), None)
        if isinstance(odd, CONTAINERS):
            raise ValueError(
                f"Column {name!r} is categorical, but holds {odd!r}; name it in sequence_features if each row has a "
                "list of ids."
            ) from error
        raise TypeError(
            f"argument must be a string or a number; column {name!r} holds other objects: {error}"
        ) from error


def canonical(codes, uniques):
    """Reduce distinct values to one of the three kinds, and join those that become equal."""
    if isinstance(uniques.dtype, np.dtype | pd.CategoricalDtype):
        uniques = np.asarray(uniques)
    elif pd.api.types.is_bool_dtype(uniques.dtype):
        uniques = np.asarray(uniques, dtype=np.int64)
    elif pd.api.types.is_integer_dtype(uniques.dtype):
        unsigned = pd.api.types.is_unsigned_integer_dtype(uniques.dtype)
        uniques = np.asarray(uniques, dtype=np.uint64 if unsigned else np.int64)
    elif pd.api.types.is_float_dtype(uniques.dtype):
        uniques = np.asarray(uniques, dtype=np.float64)
    elif getattr(uniques.dtype, "tz", None) is not None:
        uniques = uniques.tz_convert(None).to_numpy()
    else:
        uniques = np.asarray(uniques, dtype=object)
    kind = uniques.dtype.kind
    if kind == "u" and len(uniques) and int(uniques.max()) >= 2**63:
        return codes, uniques.astype(str).astype(object), NUMBERS
    if kind in "iub":
        return codes, uniques.astype(np.int64), NUMBERS
    if kind == "f":
        return codes, _whole(uniques), NUMBERS
    if kind == "c":
        raise ValueError("Complex data not supported")
    if kind == "M":
        return codes, uniques.astype("datetime64[us]").astype(str).astype(object), STRINGS
    if kind == "m":
        return codes, uniques.astype("timedelta64[us]").astype(np.int64), NUMBERS
    return _canonical_objects(codes, uniques.astype(object, copy=False))


def _whole(floats):
    """int64 if all values are whole numbers, else float64."""
    with np.errstate(invalid="ignore"):
        whole = bool((np.mod(floats, 1) == 0).all() and (np.abs(floats) < 2.0**62).all())
    return floats.astype(np.int64) if whole and len(floats) else floats.astype(np.float64)


def _canonical_objects(codes, uniques):
    inferred = pd.api.types.infer_dtype(uniques, skipna=False)
    if inferred == "string":
        seen, keys = STRINGS, uniques
    elif inferred == "empty":
        return codes, uniques, frozenset()
    elif inferred in ("integer", "boolean"):
        seen = NUMBERS
        try:
            keys = uniques.astype(np.int64)
        except OverflowError:
            keys = np.array([text_of(v) for v in uniques], dtype=object)
    elif inferred in ("floating", "mixed-integer-float", "decimal"):
        seen, keys = NUMBERS, _whole(uniques.astype(np.float64))
    elif inferred == "complex":
        raise ValueError("Complex data not supported")
    else:
        is_text = np.array([isinstance(v, str) for v in uniques])
        seen = (STRINGS if is_text.any() else frozenset()) | (NUMBERS if not is_text.all() else frozenset())
        keys = np.array([text_of(v) for v in uniques], dtype=object)
    if inferred == "string":
        if not (keys == "").any():
            return codes, keys, seen
    again, keys = pd.factorize(keys)
    if keys.dtype == object and (keys == "").any():
        empty = int(np.flatnonzero(keys == "")[0])
        again = np.where(again == empty, -1, again - (again > empty))
        keys = np.delete(keys, empty)
    return np.append(again, -1)[codes], keys, seen


def text_of(value):
    """The string under which a value of a column of strings is known; 1, 1.0 and "1" are one value."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    if isinstance(value, datetime.datetime):
        value = value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo is not None else value
        return str(np.datetime64(value.replace(nanosecond=0) if hasattr(value, "nanosecond") else value, "us"))
    if isinstance(value, (*CONTAINERS, dict)):
        raise TypeError(f"got {value!r}")
    if isinstance(value, complex | np.complexfloating):
        raise ValueError("Complex data not supported")
    return str(value)


def as_kind(keys, kind):
    """Distinct values in a wider kind: integers as floats, numbers as strings."""
    if kind == "O" and keys.dtype.kind == "i":
        return keys.astype(str).astype(object)
    if kind == "O" and keys.dtype.kind != "O":
        return np.array([text_of(v) for v in keys.tolist()], dtype=object)
    return keys.astype({"i": np.int64, "f": np.float64, "O": object}[kind], copy=False)


def factorize_sequences(column, name, separator, max_length):
    """Items of all rows, and where they go.

    Missing items are dropped; of the others the last ``max_length`` of a row are kept, since behaviour
    histories are in time order and what is recent tells most.

    Returns
    -------
    codes, keys, seen
        As of ``factorize``, over the kept items of all rows.
    rows, positions : int64 ndarray (n_items,)
        Row and place of each item.
    """
    lengths, items = _arrow_items(column) if is_arrow_list(column.dtype) else _object_items(column, name, separator)
    if not isinstance(items.dtype, np.dtype) and is_arrow_list(items.dtype):
        _refuse_nested(name, items.iloc[0])
    try:
        codes, keys, seen = factorize(items, name)
    except (TypeError, ValueError) as error:
        deep = next((v for v in items if isinstance(v, (*CONTAINERS, dict))), None)
        if deep is None:
            raise
        _refuse_nested(name, deep, error)
    n = len(lengths)
    rows = np.repeat(np.arange(n), lengths)
    present = codes >= 0
    codes, rows = codes[present], rows[present]
    counts = np.bincount(rows, minlength=n)
    from_end = np.cumsum(counts)[rows] - np.arange(len(rows))  # 1 for the last item of a row
    kept = from_end <= max_length
    codes, rows, from_end = codes[kept], rows[kept], from_end[kept]
    return codes, keys, seen, rows, np.minimum(counts, max_length)[rows] - from_end


def _refuse_nested(name, item, cause=None):
    raise ValueError(
        f"Column {name!r} is a sequence column: its items must be strings or numbers, got {item!r}."
    ) from cause


def _arrow_items(column):
    import pyarrow.compute as pc  # a column of arrow lists is here, so pyarrow is

    lists = as_arrow(column)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths, from_arrow(pc.list_flatten(lists))


def _object_items(column, name, separator):
    if separator is not None:
        text = pd.Series(np.asarray(column, dtype=object), dtype=object)
        column = text.map(lambda cell: cell.split(separator) if isinstance(cell, str) else cell).to_numpy()
    cells = np.asarray(column, dtype=object).tolist()
    if not set(map(type, cells)) <= {list, tuple}:
        cells = [cell if isinstance(cell, list) else _items(cell, name) for cell in cells]
    lengths = np.fromiter(map(len, cells), np.int64, len(cells))
    return lengths, np.fromiter(chain.from_iterable(cells), object, int(lengths.sum()))


def _items(cell, name):
    """The items of one cell that is not a list."""
    if isinstance(cell, set | frozenset):
        return sorted(cell, key=text_of)
    if isinstance(cell, tuple) or (isinstance(cell, np.ndarray) and cell.ndim):
        return cell
    if is_missing(cell) or cell == "":
        return ()
    raise ValueError(
        f"Column {name!r} is a sequence column: its cells must be lists (or missing), got {cell!r}. For text with a "
        f"separator give sequence_features={{{name!r}: '|'}}."
    )


def numbers_from_text(keys):
    """Strings as float64, NaN where they are not a number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return pd.to_numeric(pd.Series(keys, dtype=object), errors="coerce").to_numpy(np.float64, na_value=np.nan)
