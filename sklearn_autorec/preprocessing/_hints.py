"""What in a table looks like a mistake: said once, at fit, by name of the column and with what to write."""

import warnings

import numpy as np
import pandas as pd

from ..exceptions import SuspiciousColumnWarning
from ._columns import CATEGORICAL, NUMERIC, SEQUENCE
from ._spelling import whole_and_exact

FEWEST_ROWS = 50  # with fewer, chance looks like a pattern
FEWEST_IDS = 10  # distinct values that ids have at least, and stars or ratings seldom
TIMES_IN_SECONDS = (8e8, 2.2e9)  # 1995 to 2039


def hint_at_columns(columns, parsed, schema, chosen):
    """Warn of columns that were probably meant otherwise.

    Parameters
    ----------
    columns, parsed : list
        Raw and parsed columns.
    schema : Schema
    chosen : bool
        Whether the user has said which columns are categorical; kinds are not questioned then.
    """
    for i, (column, values) in enumerate(zip(columns, parsed, strict=True)):
        kind, label = schema.kinds[i], schema.labels[i]
        if schema.times and i in schema.times:
            continue
        hint = None
        if kind == NUMERIC and not chosen:
            hint = _ids_with_gaps(column, values[0], label)
        elif kind == CATEGORICAL:
            hint = _lost_digits(values[1], label) or (None if chosen else _times_as_integers(column, values, label))
        elif kind == SEQUENCE:
            hint = _lists_of_floats(values[1], label)
        if hint is not None:
            warnings.warn(hint, SuspiciousColumnWarning, stacklevel=5)


def _ids_with_gaps(column, values, label):
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
        f"Column {label!r} holds whole numbers as floats, with missing values among them: pandas makes floats of integers that "
        f"have a gap. It is scaled as a number. If its values are ids, convert it with .astype('Int64') or name it in "
        "categorical_features; if they are numbers, name the other columns there."
    )


def _lost_digits(keys, label):
    if keys.dtype.kind != "f":
        return None
    exact, lost = whole_and_exact(keys)
    if not lost.any() or not (exact | lost).all():
        return None
    return (
        f"Column {label!r} holds ids as floats, such as {keys[lost][0].item()!r}, whose type does not tell them from their "
        "neighbours, so that different ids have become one. Read it as integers (dtype 'Int64' can have missing ones) or text."
    )


def _times_as_integers(column, values, label):
    codes, keys, _ = values
    if keys.dtype.kind != "i" or len(codes) < FEWEST_ROWS or len(keys) < FEWEST_IDS:
        return None
    if column.dtype.kind not in "iu":
        return None
    low, high = TIMES_IN_SECONDS
    for unit, factor in {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}.items():
        if keys.min() >= low * factor and keys.max() < high * factor:
            return (
                f"Column {label!r} holds integers that look like times since 1970 in {unit!r}, and each is taken as an id. "
                f"Convert it with pandas.to_datetime(..., unit={unit!r}), or name it in categorical_features if it holds ids."
            )
    return None


def _lists_of_floats(keys, label):
    if keys.dtype.kind != "f":
        return None
    exact, lost = whole_and_exact(keys)
    if (exact | lost).all():
        return _lost_digits(keys, label)
    return (
        f"Column {label!r} holds lists of floats, and each number is taken as an id of its own. If they are vectors, give each "
        "of their places a column of its own."
    )
