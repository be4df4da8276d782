"""Rows to the inputs of an exported graph, by its vocabulary file alone: the reference for other
languages.

Nothing here uses the encoder, pandas or torch. Which spellings are one value, and which times are
meant, is decided by the functions that the encoder uses."""

import json
import math
from bisect import bisect_right
from typing import Any

import numpy as np

from ..preprocessing._spelling import (
    WORDS,
    as_float,
    as_integer,
    digits_of,
    number_of_text,
    plain_number,
    spellings_of,
)
from ..preprocessing._times import TIMES, TimeKind, calendar_value, read_time
from ..utils._typing import Array
from ._onnx_cells import COLUMNS, is_missing, raw_inputs, time_text, vector_cell

FORMAT = "sklearn-autorec vocabulary"
# The first had no columns that share the ids of another, the second no vectors and fields of times.
FORMAT_VERSION = 3
_IDS = ("type", "n_ids", "buckets", "ids", "words", "only_words")  # keys about ids
_HASH_KEY = b"0123456789123456"
_MASK = 2**64 - 1


def onnx_inputs(vocabulary: Any, rows: list[dict[str, Any]]) -> dict[str, Array]:
    """Rows to the inputs of the graph that `to_onnx` wrote.

    Parameters
    ----------
    vocabulary : dict, str, path-like or onnxruntime.InferenceSession
        The vocabulary file, or its content. Of a graph of raw columns (``inputs="raw"``) the
        session, or the content of its metadata, ``json.loads(session.get_modelmeta()
        .custom_metadata_map["sklearn_autorec.columns"])``.
    rows : list of dict
        Column name to value: a number, a string, None; a list of these in sequence columns.

    Returns
    -------
    dict of str to ndarray
        What ``onnxruntime.InferenceSession.run`` takes as its second argument: what
        `FieldEncoder.encode` makes of the same rows, or arrays of shape (rows, 1), of lists (rows,
        items), by column.

    Raises
    ------
    ValueError
        If a row lacks a column, or a numeric column holds text or infinity.

    Notes
    -----
    The file has the keys ``classes`` (the columns of the output), ``inputs``, ``output`` and
    ``columns``, a list in the order of the inputs' columns: categorical, numeric, sequence, then
    vector columns; a column of the table may be there several times, as ids and as numbers. In
    every column None, nan and "" are missing.

    What follows is of the vocabulary file; what a graph of raw columns takes, `to_onnx` says.

    *Numbers.* A number is an integer if it is whole and below 2^53 or was written without point and
    exponent, of any size; a larger float equals no integer. Other floats are known by their fewest
    digits (those that float32 can hold, by their fewest digits there).

    *Categorical.* The id is 0 where missing, else that of ``ids``, else 1. Values are looked up as
    text, by ``type``: of "integers" as decimal digits (2.0 and "2" are 2), of "floats" as the
    shortest text that gives the same double ("2.0"), of "strings" as they are; there a whole number
    n is looked up as "n", then as "n.0", and another number as in "floats". true and false are 1
    and 0; where that is not found, ``words`` has the ids of "true" and "false" in any case, and of
    1 and 0 if ``only_words`` is set. With ``buckets`` in place of ``ids`` the id is 2 + h(text) mod
    buckets, where h is SipHash-2-4 of the UTF-8 text with the key "0123456789123456", followed by
    the finalizer of splitmix64; text is as in "strings", of true and false "1" and "0".

    *Numeric.* Column j of m gives the scaled value in place j and, in place m + j, 1 where it is
    missing (the value is 0 then). By ``method``: "rank" and "quantile" interpolate linearly in
    (grid, score), constant outside, 0 if the grid has fewer than two points; "standard" is (x -
    mean) / scale; "log_square" is the same of ``sign(x) log(1 + |x|)^2``; null leaves x as it is.

    *Times.* Columns with ``time`` held times or durations; they take ISO 8601 text (durations: "1
    days 02:30:00") and, for times, numbers since 1970 in seconds, milliseconds, microseconds or
    nanoseconds, which their size tells apart (1985 to 2286). Numeric columns count seconds,
    categorical ones look up "2026-03-01T12:30:00.000000", in UTC if there is a zone. With ``field``
    "hour", "weekday" (0 is Monday) or "month" that number is looked up, on the clock of the zone,
    and with "age" the seconds before ``newest`` are scaled.

    *Sequences.* Items that are missing are dropped; the last ``max_length`` of the others have ids
    as above, padded with 0 on the right. Text is split by ``separator`` first, if there is one.
    With ``shares`` their ids are those of the column of that number in ``columns``, from 0.

    *Vectors.* Behind the numbers and their indicators stand those of each vector, (x - mean) /
    scale, 0 where x is missing or scale is null, and then 1 where the whole vector is missing.

    Examples
    --------
    >>> column = {"name": "user", "kind": "categorical", "type": "strings", "ids": {"ann": 2}}
    >>> inputs = [{"name": "ids", "dtype": "int32", "width": 1}]
    >>> vocabulary = {
    ...     "format": "sklearn-autorec vocabulary",
    ...     "version": 1,
    ...     "inputs": inputs,
    ...     "columns": [column],
    ... }
    >>> onnx_inputs(vocabulary, [{"user": "ann"}, {"user": "bob"}, {"user": None}])[
    ...     "ids"
    ... ].ravel().tolist()
    [2, 1, 0]
    """
    if hasattr(vocabulary, "get_modelmeta"):
        told = vocabulary.get_modelmeta().custom_metadata_map.get("sklearn_autorec.columns")
        if told is None:
            raise ValueError(
                "The graph of the session does not describe its columns: it takes encoded rows, of "
                "which the vocabulary file tells."
            )
        vocabulary = json.loads(told)
    elif not isinstance(vocabulary, dict):
        with open(vocabulary, encoding="utf-8") as file:
            vocabulary = json.load(file)
    if vocabulary.get("format") == COLUMNS:
        return raw_inputs(vocabulary, rows)
    known = range(1, FORMAT_VERSION + 1)
    if vocabulary.get("format") != FORMAT or vocabulary.get("version") not in known:
        raise ValueError(
            f"The vocabulary has format {vocabulary.get('format')!r}, version "
            f"{vocabulary.get('version')!r}; this "
            f"function reads {FORMAT!r}, versions 1 to {FORMAT_VERSION}."
        )
    columns = [_with_own_ids(column, vocabulary["columns"]) for column in vocabulary["columns"]]
    parts: dict[str, list[Any]] = {"ids": [], "numeric": [], "sequences": []}
    for row in rows:
        ids, values, missing, sequences, vectors = [], [], [], [], []
        for column in columns:
            if column["name"] not in row:
                raise ValueError(
                    f"A row lacks the column {column['name']!r}; it has {sorted(map(str, row))}."
                )
            value = row[column["name"]]
            if column["kind"] == "categorical":
                ids.append(_id(value, column))
            elif column["kind"] == "numeric":
                values.append(_scaled(value, column))
                missing.append(float(is_missing(value)))
            elif column["kind"] == "vector":
                vectors += _vector(value, column)
            else:
                sequences += _sequence(value, column)
        parts["ids"].append(ids)
        parts["numeric"].append(values + missing + vectors)
        parts["sequences"].append(sequences)
    return {
        part["name"]: np.array(parts[part["name"]], dtype=part["dtype"]).reshape(
            len(rows), part["width"]
        )
        for part in vocabulary["inputs"]
    }


def _with_own_ids(column, columns):
    """A column with the ids of the one that it shares them with."""
    if "shares" not in column:
        return column
    owner = columns[column["shares"]]
    return {**{name: owner[name] for name in _IDS if name in owner}, **column}


def _id(value, column):
    if is_missing(value):
        return 0
    if "field" in column:
        time = TimeKind(**column["time"])
        microseconds, _ = read_time(value, time, column["name"])
        value = calendar_value(microseconds, time.zone, column["field"])
    elif column.get("time"):
        value = time_text(value, column)
    if "buckets" in column:
        number = plain_number(value)
        if isinstance(number, float) and number.is_integer() and column["type"] != "floats":
            return 1
        text = value if number is None else digits_of(number)
        return 2 + _hash(str(int(WORDS[text])) if text in WORDS else text) % column["buckets"]
    ids = column["ids"]
    found = next((ids[text] for text in _spellings(value, column["type"]) if text in ids), 1)
    if found == 1 and "words" in column:
        truth = WORDS.get(value) if isinstance(value, str) else None
        if isinstance(value, bool) or (
            column["only_words"] and _spellings(value, "strings")[0] in ("0", "1")
        ):
            truth = bool(int(value))
        found = column["words"].get({True: "true", False: "false"}.get(truth), 1)
    return found


def _spellings(value, kind):
    """Texts under which a value may be known, by the type of the column."""
    if kind == "strings" and isinstance(value, str):
        return (value,)
    if isinstance(value, TIMES):
        raise ValueError(f"The value {value!r:.100} is a time, but its column holds none.")
    number = number_of_text(value) if isinstance(value, str) else plain_number(value)
    if kind == "strings":
        return spellings_of(number)
    number = None if number is None else (as_integer if kind == "integers" else as_float)(number)
    return () if number is None else (repr(number),)


def _scaled(value, column):
    if is_missing(value):
        return 0.0
    if column.get("time"):
        value = read_time(value, TimeKind(**column["time"]), column["name"])[0] / 1e6
    try:
        x = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Column {column['name']!r} is numeric, got {value!r}.") from error
    if not math.isfinite(np.float32(x)):
        raise ValueError(
            f"Column {column['name']!r} holds {value!r}; it must be finite in float32."
        )
    if "newest" in column:
        x = column["newest"] - x
    method = column["method"]
    if method in ("rank", "quantile"):
        return _interpolate(x, column["grid"], column["score"])
    if method == "log_square":
        x = math.copysign(math.log1p(abs(x)) ** 2, x)
    return x if method is None else (x - column["mean"]) / column["scale"]


def _interpolate(x, grid, score):
    if len(grid) < 2:
        return 0.0
    k = bisect_right(grid, x) - 1
    if k < 0 or k >= len(grid) - 1 or grid[k] == x:
        return score[min(max(k, 0), len(grid) - 1)]
    slope = (score[k + 1] - score[k]) / (grid[k + 1] - grid[k])
    return slope * (x - grid[k]) + score[k]


def _sequence(value, column):
    n = column["max_length"]
    if isinstance(value, str) and column["separator"] and value:
        value = value.split(column["separator"])
    if not isinstance(value, list | tuple):
        if not is_missing(value):
            raise ValueError(
                f"Column {column['name']!r} is a sequence column: its cells must be lists, got "
                f"{value!r}."
            )
        value = ()
    items = [_id(item, column) for item in value if not is_missing(item)][-n:]
    return items + [0] * (n - len(items))


def _vector(value, column):
    numbers = vector_cell(value, column["name"], len(column["mean"]))
    scaled = [
        0.0 if scale is None or math.isnan(number) else (number - mean) / scale
        for number, mean, scale in zip(numbers, column["mean"], column["scale"], strict=True)
    ]
    return [*scaled, float(all(map(math.isnan, numbers)))]


def _hash(text):
    """SipHash-2-4 of the UTF-8 text, then the finalizer of splitmix64; an int below 2**64."""
    data = text.encode("utf-8", "surrogatepass")
    k0, k1 = (int.from_bytes(_HASH_KEY[i : i + 8], "little") for i in (0, 8))
    v = [
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    ]
    tail = len(data) % 8
    words = [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data) - tail, 8)]
    words.append(int.from_bytes(data[len(data) - tail :], "little") | (len(data) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        _rounds(v, 2)
        v[0] ^= word
    v[2] ^= 0xFF
    _rounds(v, 4)
    h = v[0] ^ v[1] ^ v[2] ^ v[3]
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    h = (h ^ h >> 27) * 0x94D049BB133111EB & _MASK
    return h ^ h >> 31


def _rounds(v, n):
    def rotated(x, by):
        return (x << by | x >> (64 - by)) & _MASK

    for _ in range(n):
        v[0] = (v[0] + v[1]) & _MASK
        v[1] = rotated(v[1], 13) ^ v[0]
        v[0] = rotated(v[0], 32)
        v[2] = (v[2] + v[3]) & _MASK
        v[3] = rotated(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & _MASK
        v[3] = rotated(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & _MASK
        v[1] = rotated(v[1], 17) ^ v[2]
        v[2] = rotated(v[2], 32)
