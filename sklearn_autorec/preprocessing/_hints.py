"""What in a table looks like a mistake: said once, at fit, by name of the column and with what to
write.
"""

import warnings

import numpy as np
import pandas as pd

from ..exceptions import SuspiciousColumnWarning
from ._columns import CATEGORICAL, NUMERIC, SEQUENCE
from ._kinds import BOTH, MANY_VALUES, unit_of_times
from ._spelling import whole_and_exact

FEWEST_ROWS = 50  # with fewer, chance looks like a pattern
FEWEST_IDS = 10  # distinct values that ids have at least, and stars or ratings seldom
TAKEN = {NUMERIC: "numbers", CATEGORICAL: "ids", BOTH: "numbers and as ids"}
DAYS = (19500101, 20991231)  # written as year, month and day
FEWEST_SINGLE_ROWS = 100  # from so many, whole numbers that hardly come twice are no chance
SINGLE = 0.98  # values per row, from which a column has about one row for each id
SINGLE_AMOUNTS = 0.9  # the same where they do not begin near 0, as numbered things do
FIRST_LABEL = 0.05  # share of the highest number, above which the lowest is not near 0


def hint_at_columns(columns, parsed, schema, categorical_features):
    """Warn of columns that were probably meant otherwise.

    Parameters
    ----------
    columns, parsed : list
        Raw and parsed columns.
    schema : Schema
    categorical_features : as of `FieldEncoder`
        What the user has said of columns is not questioned: of those in a dict, of all if it is a
        list or None.
    """
    numbers = dict(zip(schema.numeric_sources, schema.numeric, strict=True))
    for i, column in enumerate(columns):
        kind, label = schema.column_kinds[i], schema.labels[i]
        chosen = not isinstance(categorical_features, str)
        if isinstance(categorical_features, dict):
            name = i if schema.names is None else schema.names[i]
            chosen = name in categorical_features or i in categorical_features
        if schema.times and i in schema.times:
            continue
        hint = None
        if i in numbers and not chosen:
            hint = _ids_with_gaps(column, parsed[numbers[i]][0], label, TAKEN[kind])
            hint = hint or _times_as_integers(column, parsed[numbers[i]][0], label, TAKEN[kind])
            if hint is None and kind == BOTH and len(parsed[i][1]) <= MANY_VALUES:
                hint = _single_rows(*parsed[i][:2], label, TAKEN[kind])
        elif kind == CATEGORICAL:
            hint = _lost_digits(parsed[i][1], label)
            if hint is None and not chosen:
                hint = _times_as_integers(column, parsed[i][1], label, TAKEN[kind])
                hint = hint or _single_rows(*parsed[i][:2], label, TAKEN[kind])
        elif kind == SEQUENCE:
            hint = _lists_of_floats(parsed[i][1], label)
        if hint is not None:
            warnings.warn(hint, SuspiciousColumnWarning, stacklevel=5)


def _ids_with_gaps(column, values, label, taken):
    if not pd.api.types.is_float_dtype(column.dtype) or len(values) < FEWEST_ROWS:
        return None
    missing = np.isnan(values)
    if not missing.any():
        return None
    present = values[~missing]
    exact, _ = whole_and_exact(present)
    if not exact.all() or (present < 0).any() or len(np.unique(present)) < FEWEST_IDS:
        return None
    return (
        f"Column {label!r} holds whole numbers as floats, with missing values among them: pandas "
        f"makes floats of integers that "
        f"have a gap. It is taken as {taken}. If its values are ids, convert it with "
        f".astype('Int64') or say so with "
        f"categorical_features={{{label!r}: 'id'}}; if they are numbers, with {{{label!r}: "
        f"'number'}}."
    )


def _lost_digits(keys, label):
    if keys.dtype.kind != "f":
        return None
    exact, lost = whole_and_exact(keys)
    if not lost.any() or not (exact | lost).all():
        return None
    return (
        f"Column {label!r} holds ids as floats, such as {keys[lost][0].item()!r}, whose type does "
        f"not tell them from their "
        "neighbours, so that different ids have become one. Read it as integers (dtype 'Int64' "
        "can have missing ones) or text."
    )


def _times_as_integers(column, values, label, taken):
    """``values`` are all, or the distinct ones."""
    if column.dtype.kind not in "iu" or len(column) < FEWEST_ROWS or values.dtype.kind not in "if":
        return None
    values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if len(np.unique(values)) < FEWEST_IDS:
        return None
    unit = unit_of_times(values.min(), values.max())
    if unit is not None:
        return (
            f"Column {label!r} holds integers that look like times since 1970 in {unit!r}, "
            f"and is taken as {taken}. "
            f"Convert it with pandas.to_datetime(..., unit={unit!r}), or say what it is with "
            f"categorical_features={{{label!r}: 'id'}} or 'number'."
        )
    if _are_days(values):
        return (
            f"Column {label!r} holds integers that look like days written as year, month and day, "
            f"such as {int(values[0])}, and is taken as {taken}. Convert it with "
            f"pandas.to_datetime(..., format='%Y%m%d'), or say what it is with "
            f"categorical_features={{{label!r}: 'id'}} or 'number'."
        )
    return None


def _are_days(values):
    low, high = DAYS
    if values.min() < low or values.max() > high:
        return False
    whole = values.astype(np.int64)
    month, day = whole // 100 % 100, whole % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _single_rows(codes, keys, label, taken):
    n_rows, n_values = int((codes >= 0).sum()), len(keys)
    if n_rows < FEWEST_SINGLE_ROWS or n_values < SINGLE_AMOUNTS * n_rows:
        return None
    if keys.dtype.kind != "i":
        return None
    if n_values < SINGLE * n_rows and not keys.min() > FIRST_LABEL * keys.max() > 0:
        return None
    return (
        f"Column {label!r} has {n_values} whole numbers in {n_rows} rows and is taken as {taken}, "
        f"but an id of one row says nothing of others. If its values are amounts, say so with "
        f"categorical_features={{{label!r}: 'number'}}; if they are ids, with {{{label!r}: 'id'}}."
    )


def _lists_of_floats(keys, label):
    if keys.dtype.kind != "f":
        return None
    exact, lost = whole_and_exact(keys)
    if (exact | lost).all():
        return _lost_digits(keys, label)
    return (
        f"Column {label!r} holds lists of floats, and each number is taken as an id of its own. "
        f"If they are vectors, all of one length, say so with vector_features=[{label!r}]."
    )
