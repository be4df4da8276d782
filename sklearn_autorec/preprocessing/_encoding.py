"""From columns to an `EncodedTable`, given the vocabulary or scaler of each.

``fields`` is the list of them, by column; ``schema`` tells which is which.
"""

import warnings
from itertools import chain

import numpy as np
import pandas as pd

from ..exceptions import DataTypeDriftWarning, UnknownCategoryWarning
from ._columns import CATEGORICAL, NUMERIC, VECTOR, is_missing
from ._spelling import plain_number
from ._table import EncodedTable
from ._time_columns import factorize_times, numbers_of_times, time_values
from ._time_fields import AGE, calendar_values
from ._times import TIME, calendar_value, microseconds_of
from ._values import check_range, factorize, factorize_sequences, numeric_values
from ._vectors import vector_values
from ._vocabulary import MISSING, PLAIN_TYPES, UNKNOWN

FEW_ROWS = 16  # up to so many rows, a table is read cell by cell
LOOKUP_ROWS = 5_000  # up to so many rows, dictionary look-ups beat whole-column operations
REPORT_ROWS = 100  # shares of unknown values are reported from so many rows
_NUMBER_TYPES = {float, int, bool, type(None)}
_EXACT_TYPES = PLAIN_TYPES - {float}


def parse_column(i, column, schema, max_length):
    """What a column holds, before any vocabulary: numbers, or codes and distinct values (and
    places).
    """
    label, kind = schema.labels[i], schema.kinds[i]
    if i in schema.time_fields:  # of microseconds, see `Schema.parts`
        if schema.time_fields[i] == AGE:
            return numbers_of_times(column), False
        return calendar_values(column, schema.times[schema.sources[i]].zone, schema.time_fields[i])
    if kind == VECTOR:
        return vector_values(column, label, schema.vectors[i])
    time = schema.time(i, column)
    if time is not None:
        microseconds = time_values(column, time, label)
        if kind == NUMERIC:
            return numbers_of_times(microseconds), False
        return factorize_times(microseconds, time)
    if kind == NUMERIC:
        return numeric_values(column, label)
    if kind == CATEGORICAL:
        return factorize(column, label)
    return factorize_sequences(column, label, schema.separators.get(i), max_length)


def encode_column(i, column, schema, max_length, field):
    """As `parse_column`, or at once the ids (n_rows,) where a short cut leads there."""
    if schema.kinds[i] == CATEGORICAL and i not in schema.time_fields:
        ids = None
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
            ids = field.ids_of_integers(np.asarray(column))
        elif len(column) <= LOOKUP_ROWS and (
            column.dtype.kind == "O" or isinstance(column.dtype, pd.StringDtype)
        ):
            ids = field.ids_of_few(np.asarray(column, dtype=object).tolist())
        if ids is not None:
            return ids
    return parse_column(i, column, schema, max_length)


def assemble(n, parsed, schema, max_length, fields, text_numbers):
    """The table of n rows of parsed columns; ``text_numbers`` are the numeric columns that were
    text in fit.
    """
    ids = np.empty((n, len(schema.categorical)), np.int32)
    for j, i in enumerate(schema.categorical):
        ids[:, j] = (
            parsed[i] if isinstance(parsed[i], np.ndarray) else _ids(i, *parsed[i], schema, fields)
        )
    m = len(schema.numeric)
    numeric = np.empty((n, 2 * m), np.float32)
    for j, i in enumerate(schema.numeric):
        values, was_text = parsed[i]
        if was_text and i not in text_numbers:
            _warn_drift(schema.labels[i], "numbers", "strings", "they are parsed", stacklevel=4)
        numeric[:, j], numeric[:, m + j] = fields[i].transform(values)
    sequences = np.zeros((n, len(schema.sequence) * max_length), np.int32)
    for j, i in enumerate(schema.sequence):
        codes, keys, seen, rows, positions = parsed[i]
        sequences[rows, j * max_length + positions] = _ids(i, codes, keys, seen, schema, fields)
    vectors = np.empty((n, sum(len(fields[i]) + 1 for i in schema.vector)), np.float32)
    start = 0
    for i in schema.vector:
        stop = start + len(fields[i]) + 1
        vectors[:, start:stop] = fields[i].transform(parsed[i])
        start = stop
    return EncodedTable(ids, numeric, sequences, vectors)


def _ids(i, codes, keys, seen, schema, fields):
    ids, drift, lost = fields[i].ids(codes, keys, seen)
    if lost is not None:
        warnings.warn(
            f"Column {schema.labels[i]!r} holds floats such as {lost!r}, whose type does not tell "
            f"it from its neighbours; "
            "they are encoded as unknown. Give such ids as integers (dtype 'Int64' can have "
            "missing ones) or as text.",
            DataTypeDriftWarning,
            stacklevel=5,
        )
    if drift is not None:
        _warn_drift(schema.labels[i], *drift)
    return ids


def _warn_drift(label, was, now, done, stacklevel=5):
    warnings.warn(
        f"Column {label!r} held {was} in fit and holds {now} now; the values are converted "
        f"({done}).",
        DataTypeDriftWarning,
        stacklevel=stacklevel,
    )


def report_unknown(table, schema, fields, threshold):
    """Warn about categorical columns of which more than a share is unknown."""
    if threshold is None or len(table) < REPORT_ROWS:
        return
    reports = []
    for i, n_unknown in zip(schema.categorical, table.n_unknown, strict=True):
        counts = fields[i].counts
        # What was rare in training is expected to be so again.
        if n_unknown / len(table) - counts[UNKNOWN] / counts.sum() > threshold:
            reports.append(f"{n_unknown / len(table):.0%} of column {schema.labels[i]!r}")
    if reports:
        warnings.warn(
            f"{', '.join(reports)} are values that fit has not seen (or seen too rarely); they "
            f"are encoded as unknown.",
            UnknownCategoryWarning,
            stacklevel=3,
        )


def encode_few(X, cells, schema, max_length, fields):
    """A few rows by look-ups of Python values; None if something needs the general path.

    Parameters
    ----------
    X : table
        Of which only DataFrames are read here.
    cells : list of list or None
        Cells by column, of objects that nobody has converted, in place of X.
    schema, max_length, fields
        Of the encoder.
    """
    if schema.separators:
        return None
    if cells is not None:
        if len(cells[0]) > FEW_ROWS:
            return None
        return _encode_values(_python_cells(cells), None, schema, max_length, fields)
    if not isinstance(X, pd.DataFrame) or not 0 < len(X) <= FEW_ROWS:
        return None
    if X.columns.tolist() != schema.names:
        return None
    return _encode_values(_cells(X), X, schema, max_length, fields)


def _python_cells(cells):
    """Cells with Python's own types for numpy's of the same values; floats of fewer bits stay."""
    if set(map(type, chain.from_iterable(cells))) <= _PYTHON_TYPES:
        return cells
    return [[cell.item() if type(cell) in _EXACT_SCALARS else cell for cell in c] for c in cells]


def _encode_values(values, X, schema, max_length, fields):
    """Python values by column as `encode_few` gives them; X is the DataFrame that they are of, None
    where they are objects.
    """
    n, m = len(values[0]), len(schema.numeric)
    if schema.time_fields:
        values = _with_time_fields(values, schema)
        if values is None:
            return None
    dtypes = None  # read once, and only where a column of ids holds floats
    # Whether cells are of types that are looked up as they are; strings are found or not in any
    # case.
    plain = None
    ids = np.empty((n, len(schema.categorical)), np.int32)
    for j, i in enumerate(schema.categorical):
        if plain is None and fields[i].kind != "O":
            ids_only = (
                values
                if len(schema.categorical) == len(values)
                else map(values.__getitem__, schema.categorical)
            )
            plain = set(map(type, chain.from_iterable(ids_only))) <= _EXACT_TYPES
        if X is not None and plain is False and any(type(v) is float and v == v for v in values[i]):
            dtypes = X.dtypes.tolist() if dtypes is None else dtypes
            # Cells do not show how exact the column was, which tells the floats that are integers.
            if dtypes[i] != np.float64 and dtypes[i] != np.dtype(object):
                return None
        found = fields[i].ids_of_few(values[i], plain is True)
        if found is None:
            return None
        ids[:, j] = found
    numeric = np.empty((n, 2 * m), np.float32)
    if m:
        x = _numbers_of_few([values[i] for i in schema.numeric_sources], schema)
        if x is None:
            return None
        for row, i in zip(x, schema.numeric, strict=True):
            check_range(row, schema.labels[i])
            row[:] = fields[i].scale_values(row)
        missing = np.isnan(x)
        x[missing] = 0
        numeric[:, :m], numeric[:, m:] = x.T, missing.T
    sequences = np.zeros((n, len(schema.sequence) * max_length), np.int32)
    for j, i in enumerate(schema.sequence):
        for row, cell in zip(
            sequences[:, j * max_length : (j + 1) * max_length], values[i], strict=True
        ):
            if isinstance(cell, list | tuple | np.ndarray):
                items = fields[i].ids_of_few(list(cell)) if len(cell) else ()
                if items is None:
                    return None
                items = [item for item in items if item != MISSING][-max_length:]
                row[: len(items)] = items
            elif not is_missing(cell):
                return None
    if not schema.vector:
        return EncodedTable(ids, numeric, sequences)
    vectors = [
        fields[i].transform(vector_values(values[i], schema.labels[i], len(fields[i])))
        for i in schema.vector
    ]
    return EncodedTable(ids, numeric, sequences, np.hstack(vectors).astype(np.float32))


def _with_time_fields(values, schema):
    """Cells by column as cells by part, with what is derived of times; None if one needs the
    general path.
    """
    cells = [*values, *[None] * (len(schema.kinds) - len(values))]
    for part, name in schema.time_fields.items():
        source = schema.sources[part]
        if name == AGE:
            cells[part] = values[source]
            continue
        time, own = schema.times[source], []
        for value in values[source]:
            if isinstance(value, pd.Timestamp) and (value.tzinfo is None) == (time.zone is None):
                own.append(calendar_value(microseconds_of(value), time.zone, name))
            elif is_missing(value):
                own.append(None)
            else:
                return None
        cells[part] = own
    return cells


_PYTHON_TYPES = {*_NUMBER_TYPES, str, list}
_EXACT_SCALARS = {
    np.float64,
    np.int64,
    np.int32,
    np.int16,
    np.int8,
    np.uint64,
    np.uint32,
    np.uint16,
    np.uint8,
    np.bool_,
}


def _cells(X):
    """Cells of a few rows as Python values, a list for each column."""
    if len(X) == 1:
        row = [X.iat[0, j] for j in range(X.shape[1])]
        if not any(isinstance(cell, np.floating) and type(cell) is not np.float64 for cell in row):
            return [[cell.item() if type(cell) in _EXACT_SCALARS else cell] for cell in row]
    # One conversion of the whole table: access column by column would take most of the time.
    return X.to_numpy(dtype=object).T.tolist()


def _numbers_of_few(columns, schema):
    """Lists of Python values as float64 (n_columns, n_rows); None if one needs the general path."""
    if schema.times is None:
        return None
    if not schema.times and set(map(type, chain.from_iterable(columns))) <= _NUMBER_TYPES:
        return np.array(columns, dtype=np.float64)
    try:
        cells = [
            _numbers(column, schema.times.get(schema.sources[i]))
            for column, i in zip(columns, schema.numeric, strict=True)
        ]
        return np.array(cells, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def _numbers(column, time):
    """Cells of a column as numbers, times in seconds; a TypeError for what only the general path
    converts or refuses.
    """
    if time is None:
        return (
            column
            if set(map(type, column)) <= _NUMBER_TYPES
            else [_number(value) for value in column]
        )
    return [_seconds(value, time) for value in column]


def _number(value):
    if is_missing(value):
        return np.nan
    if isinstance(value, str | bytes) or plain_number(value) is None:
        raise TypeError
    return float(value)


def _seconds(value, time):
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        zone = getattr(value, "tzinfo", None)
        if isinstance(value, pd.Timestamp) == (time.kind == TIME) and (zone is None) == (
            time.zone is None
        ):
            return microseconds_of(value) / 1e6
    if not is_missing(value):
        raise TypeError
    return np.nan


def decode(ids, schema, fields):
    """Ids of the categorical columns as values, object ndarray of their shape."""
    out = np.empty(ids.shape, object)
    for j, i in enumerate(schema.categorical):
        if len(ids) and not (ids[:, j].min() >= MISSING and ids[:, j].max() < fields[i].n_ids):
            raise ValueError(
                f"ids of column {schema.labels[i]!r} must be in [0, {fields[i].n_ids})."
            )
        out[:, j] = fields[i].values(ids[:, j].astype(np.int64))
    return out
