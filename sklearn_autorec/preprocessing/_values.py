"""Plain values of a column: float64 numbers, or codes into distinct integers, floats or strings.

Two words are used throughout. The *kind* of distinct values is how they are stored, ``"i"``
(int64), ``"f"`` (floats) or ``"O"`` (strings); a column of mixed values needs the widest. *Seen* is
what they were in the table: a subset of ``{"numbers", "strings", "booleans", "times"}``."""

import datetime
from itertools import chain

import numpy as np
import pandas as pd

from ._columns import CONTAINERS, as_arrow, from_arrow, is_arrow_list, is_missing, shown
from ._spelling import (
    EXACT,
    as_float,
    as_integer,
    digits_of,
    fewest_digits,
    plain_number,
    whole_and_exact,
)
from ._times import TIMES, microseconds_of, text_of_time

NUMBERS, STRINGS = frozenset({"numbers"}), frozenset({"strings"})
BOOLEANS, TIMED = frozenset({"booleans"}), frozenset({"times"})


def numeric_values(column, name):
    """A numeric column as float64 (n_rows,), NaN where missing, and whether it was text.

    Raises
    ------
    ValueError, TypeError
        For infinity, numbers beyond float32 and values that are not numbers; names the column.
    """
    if isinstance(column, pd.Series) and not isinstance(column.dtype, np.dtype):
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            _refuse_times(name)
        if pd.api.types.is_numeric_dtype(column.dtype) and not isinstance(
            column.dtype, pd.CategoricalDtype
        ):
            column = column.to_numpy(np.float64, na_value=np.nan)
        else:
            column = column.to_numpy(object)
    values, text = np.asarray(column), False
    if values.dtype.kind in "OUST":
        values, text = _object_numbers(values.astype(object), name)
    if values.dtype.kind in "mM":
        _refuse_times(name)
    if values.dtype.kind == "c":
        raise ValueError("Complex data not supported")
    values = values.astype(np.float64, copy=False)
    check_range(values, name)
    return values, text


def check_range(values, name):
    """Refuse infinity and what becomes infinity in float32."""
    if (np.abs(values) > np.finfo(np.float32).max).any():
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float32') in column "
            f"{name!r}."
        )


def _refuse_times(name):
    raise ValueError(
        f"Column {name!r} is a column of numbers, but holds times: in which unit those numbers "
        f"count is not known. Give "
        "numbers as in fit, or fit on times."
    )


def _object_numbers(values, name):
    present = ~pd.isna(values)
    present[present] = values[present] != ""  # NA is equal to nothing, and no truth
    first = next(iter(values[present]), None)
    if any(isinstance(value, TIMES) for value in values[present]):
        _refuse_times(name)
    numbers = np.full(len(values), np.nan)
    try:
        numbers[present] = values[present].astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(first, dict):
            raise TypeError(
                f"argument must be a string or a number; column {name!r} holds {shown(first)}"
            ) from error
        raise ValueError(
            f"Column {name!r} is numeric, but holds values that are not numbers ({error}); if "
            f"they are ids, name it in "
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
        What the values were; empty without any.
    """
    try:
        # An index of float16 does not exist: pandas would give the distinct values as float32.
        plain = np.asarray(column) if column.dtype == np.float16 else column
        codes, uniques = pd.factorize(plain)
        codes, keys, seen = canonical(codes, uniques)
        if column.dtype == object and not seen <= STRINGS:
            seen |= _hidden_booleans(column, uniques)
        return codes, keys, seen
    except (TypeError, NotImplementedError) as error:
        odd = next(
            (v for v in np.asarray(column, dtype=object) if isinstance(v, (*CONTAINERS, dict))),
            None,
        )
        if isinstance(odd, CONTAINERS):
            raise ValueError(
                f"Column {name!r} is categorical, but holds {shown(odd)}; name it in "
                f"sequence_features if each row has a "
                "list of ids."
            ) from error
        raise TypeError(
            f"argument must be a string or a number; column {name!r} holds other objects: {error}"
        ) from error


def _hidden_booleans(column, uniques):
    """Whether objects that are equal to 1 or 0 are booleans: distinct values keep the first that
    came.
    """
    cells = column.array if isinstance(column, pd.Series) else column
    if not any(isinstance(v, int | float | np.number) and (v == 0 or v == 1) for v in uniques):
        return frozenset()
    return BOOLEANS if any(isinstance(v, bool | np.bool_) for v in cells) else frozenset()


def canonical(codes, uniques):
    """Reduce distinct values to one of the three kinds, and join those that become equal."""
    if isinstance(uniques.dtype, pd.CategoricalDtype):
        # Categories of a nullable or arrow type keep what it says of them.
        uniques = uniques.categories.take(uniques.codes)
    if isinstance(uniques.dtype, np.dtype):
        uniques = np.asarray(uniques)
    elif pd.api.types.is_bool_dtype(uniques.dtype):
        uniques = np.asarray(uniques, dtype=bool)
    elif pd.api.types.is_integer_dtype(uniques.dtype):
        unsigned = pd.api.types.is_unsigned_integer_dtype(uniques.dtype)
        uniques = np.asarray(uniques, dtype=np.uint64 if unsigned else np.int64)
    elif pd.api.types.is_float_dtype(uniques.dtype):
        uniques = np.asarray(uniques, dtype=uniques.dtype.numpy_dtype)
    elif getattr(uniques.dtype, "tz", None) is not None:
        uniques = uniques.tz_convert(None).to_numpy()
    else:
        uniques = np.asarray(uniques, dtype=object)
    kind = uniques.dtype.kind
    if kind == "u" and len(uniques) and int(uniques.max()) >= 2**63:
        return codes, uniques.astype(str).astype(object), NUMBERS
    if kind == "b":
        return codes, uniques.astype(np.int64), BOOLEANS
    if kind in "iu":
        return codes, uniques.astype(np.int64), NUMBERS
    if kind == "f":
        return *_joined(codes, _narrowest(uniques)), NUMBERS
    if kind == "c":
        raise ValueError("Complex data not supported")
    if kind == "M":
        return *_joined(codes, uniques.astype("datetime64[us]").astype(str).astype(object)), TIMED
    if kind == "m":
        return *_joined(codes, np.array([text_of(v) for v in uniques], dtype=object)), TIMED
    return _canonical_objects(codes, uniques.astype(object, copy=False))


def _narrowest(floats):
    """int64 if all values are integers without doubt, else the floats as they are: their type tells
    which are.
    """
    exact, _ = whole_and_exact(floats)
    return floats.astype(np.int64) if exact.all() and len(floats) else floats


def _canonical_objects(codes, uniques):
    inferred = pd.api.types.infer_dtype(uniques, skipna=False)
    if inferred == "string":
        if not (uniques == "").any():
            return codes, uniques, STRINGS
        seen, keys = STRINGS, uniques
    elif inferred == "empty":
        return codes, uniques, frozenset()
    elif inferred == "complex":
        raise ValueError("Complex data not supported")
    elif inferred == "boolean":
        return codes, uniques.astype(np.int64), BOOLEANS
    else:
        seen = frozenset().union(*map(_seen_of, uniques))
        keys = _numbers(uniques) if seen <= NUMBERS | BOOLEANS else None
        if keys is None:
            keys = np.array([text_of(v) for v in uniques], dtype=object)
    codes, keys = _joined(codes, keys)
    if keys.dtype == object and (keys == "").any():
        empty = int(np.flatnonzero(keys == "")[0])
        codes = np.where(codes == empty, -1, codes - (codes > empty))
        keys = np.delete(keys, empty)
    return codes, keys, seen


def _joined(codes, keys):
    """Codes into the distinct ones of keys some of which have become equal."""
    again, distinct = pd.factorize(keys)
    return np.append(again, -1)[codes], distinct


def _seen_of(value):
    if isinstance(value, str | bytes):
        return STRINGS
    if isinstance(value, bool | np.bool_):
        return BOOLEANS
    return TIMED if isinstance(value, TIMES) else NUMBERS


def _numbers(values):
    """Objects as int64 or float64; None if a number fits neither, or is none."""
    plain = [plain_number(v) for v in values]
    whole = [as_integer(number) for number in plain]
    if None not in whole:
        return np.array(whole, dtype=np.int64)
    floats = [as_float(number) for number in plain]
    return None if None in floats else np.array(floats, dtype=np.float64)


def text_of(value):
    """The string under which a value of a column of strings is known; 1, 1.0 and "1" are
    one value.
    """
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    number = plain_number(value)
    if number is not None:
        return digits_of(number)
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return f"{microseconds_of(value)} microseconds"
    if isinstance(value, TIMES):
        return text_of_time(microseconds_of(value))
    if isinstance(value, (*CONTAINERS, dict)):
        raise TypeError(f"got {shown(value)}")
    if isinstance(value, complex | np.complexfloating):
        raise ValueError("Complex data not supported")
    return str(value)


def as_kind(keys, kind):
    """Distinct values in a wider kind: integers as floats, numbers as strings."""
    if kind == "O" and keys.dtype.kind == "i":
        return keys.astype(str).astype(object)
    if kind == "O" and keys.dtype.kind != "O":
        return np.array([text_of(v) for v in keys], dtype=object)
    if kind == "f":
        return fewest_digits(keys) if keys.dtype.kind == "f" else keys.astype(np.float64)
    return keys.astype({"i": np.int64, "O": object}[kind], copy=False)


def wider_kind(a, b):
    """The kind that holds two arrays of distinct values: strings for floats beside integers that no
    float holds.
    """
    kind = max(a.dtype.kind, b.dtype.kind, key="ifO".index)
    if kind == "f" and any(
        x.dtype.kind == "i" and len(x) and (x.max() > EXACT or x.min() < -EXACT) for x in (a, b)
    ):
        return "O"
    return kind


def factorize_sequences(column, name, separator, max_length):
    """Items of all rows, and where they go.

    Missing items are dropped; of the others the last ``max_length`` of a row are kept, since
    behaviour histories are in time order and what is recent tells most.

    Returns
    -------
    codes, keys, seen
        As of ``factorize``, over the kept items of all rows.
    rows, positions : int64 ndarray (n_items,)
        Row and place of each item.
    """
    lengths, items = (
        _arrow_items(column)
        if is_arrow_list(column.dtype)
        else _object_items(column, name, separator)
    )
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
        f"Column {name!r} is a sequence column: its items must be strings or numbers, got "
        f"{shown(item)}."
    ) from cause


def _arrow_items(column):
    import pyarrow.compute as pc  # a column of arrow lists is here, so pyarrow is

    lists = as_arrow(column)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    return lengths, from_arrow(pc.list_flatten(lists))


def _object_items(column, name, separator):
    if separator is not None:
        text = pd.Series(np.asarray(column, dtype=object), dtype=object)
        column = text.map(
            lambda cell: cell.split(separator) if isinstance(cell, str) else cell
        ).to_numpy()
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
        f"Column {name!r} is a sequence column: its cells must be lists (or missing), got "
        f"{shown(cell)}. For text with a "
        f"separator give sequence_features={{{name!r}: '|'}}."
    )
