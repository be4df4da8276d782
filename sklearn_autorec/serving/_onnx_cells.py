"""Rows to the inputs of a graph of raw columns, by what its metadata say: the reference for other
languages.

Nothing here uses the encoder, pandas or torch."""

import math

import numpy as np

from ..preprocessing._spelling import (
    WORDS,
    as_integer,
    digits_of,
    number_of_text,
    plain_number,
)
from ..preprocessing._times import TIMES, TimeKind, read_time, text_of_time

COLUMNS = "sklearn-autorec columns"
VERSIONS = (1, 2)  # the first had no vectors and times in seconds alone
_DTYPES = {"string": object, "int64": np.int64, "double": np.float64}


def is_missing(value):
    """Whether a cell is None, nan, NA or ""."""
    if value is None or (isinstance(value, str) and value == ""):
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas' NA is not even unequal to itself
        return True
    except ValueError:  # an array
        return False


def time_text(value, column):
    """A time as the text that ids of times are."""
    time = TimeKind(**column["time"])
    microseconds, _ = read_time(value, time, column["name"])
    return text_of_time(microseconds) if time.kind == "time" else f"{microseconds} microseconds"


def raw_inputs(described, rows):
    """Arrays (rows, 1), of lists (rows, items), of vectors (rows, length), by name of the column.

    Parameters
    ----------
    described : dict
        The metadata of the graph.
    rows : list of dict
    """
    if described.get("version") not in VERSIONS:
        raise ValueError(
            f"The columns are described in version {described.get('version')!r}; this function "
            f"reads {VERSIONS}."
        )
    missing = described["missing"] | {"double": np.nan}
    unknown = described["unknown"]["int64"]
    found = {}
    for column in described["columns"]:
        name, kind = column["name"], column["type"]
        length = column.get("length")
        cells = []
        for row in rows:
            if name not in row:
                raise ValueError(
                    f"A row lacks the column {name!r}; it has {sorted(map(str, row))}."
                )
            value = row[name]
            if length is not None:
                cells.append(vector_cell(value, name, length))
                continue
            items = _items(value, column) if column.get("items") else [value]
            cells.append(
                [missing[kind] if is_missing(v) else _cell(v, column, unknown) for v in items]
            )
        width = length or max(map(len, cells), default=1) or 1
        padded = [own + [missing[kind]] * (width - len(own)) for own in cells]
        array = np.empty((len(rows), width), _DTYPES[kind])
        if len(rows):
            array[:] = padded
        found[name] = array
    return found


def vector_cell(value, name, length):
    """A vector as a list of floats, NaN where it, or one of its numbers, is missing."""
    if is_missing(value):
        return [math.nan] * length
    if not isinstance(value, list | tuple | np.ndarray) or np.ndim(value) != 1:
        raise ValueError(f"Column {name!r} holds vectors, got {value!r:.100}.")
    if len(value) != length:
        raise ValueError(
            f"Column {name!r} holds vectors of length {length}, got one of {len(value)}."
        )
    found = [math.nan if is_missing(v) else float(v) for v in value]
    if any(abs(v) > np.finfo(np.float32).max for v in found):
        raise ValueError(f"Column {name!r} holds infinity; it must be finite in float32.")
    return found


def _items(value, column):
    if isinstance(value, str) and column["separator"] and value:
        value = value.split(column["separator"])
    if isinstance(value, list | tuple | np.ndarray):
        return [item for item in value if not is_missing(item)]
    if not is_missing(value):
        raise ValueError(
            f"Column {column['name']!r} is a sequence column: its cells must be lists, got "
            f"{value!r:.100}."
        )
    return []


def _cell(value, column, unknown):
    """A cell that is not missing as what its input takes."""
    kind, name = column["type"], column["name"]
    if column.get("time"):
        if kind == "string":
            return time_text(value, column)
        microseconds, _ = read_time(value, TimeKind(**column["time"]), name)
        return microseconds if kind == "int64" else microseconds / 1e6
    if isinstance(value, TIMES):
        raise ValueError(
            f"The value {value!r:.100} of {name!r} is a time, but its column holds none."
        )
    if kind == "string":
        number = None if isinstance(value, str) else plain_number(value)
        return value if number is None else digits_of(number)
    number = number_of_text(value) if isinstance(value, str) else plain_number(value)
    if kind == "double":
        if number is None or isinstance(number, str):
            raise ValueError(f"Column {name!r} is numeric, got {value!r:.100}.")
        return float(number)
    if number is None and isinstance(value, str) and value in WORDS:
        number = int(WORDS[value])
    number = None if isinstance(number, str) else as_integer(number)
    return unknown if number is None else number
