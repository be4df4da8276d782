"""The times of rows, by which they are old or new."""

import warnings

import numpy as np
import pandas as pd

from ..exceptions import DataTypeDriftWarning
from ..preprocessing._columns import CONTAINERS, is_missing, read_columns, shown
from ..preprocessing._names import find_column, labels_of
from ..preprocessing._time_columns import time_of_column, time_values
from ..preprocessing._times import NOT_A_TIME, TIME, TimeKind
from ..preprocessing._values import numeric_values

__all__ = ["check_time_column", "times_of"]


def check_time_column(estimator):
    """Refuse ``validation="time"`` without the name of a column, and the name without it."""
    if (estimator.validation == "time") != (estimator.time_column is not None):
        raise ValueError(
            f"validation='time' and time_column go together, got "
            f"validation={estimator.validation!r} and time_column={estimator.time_column!r}."
        )


def times_of(X, name, estimator):
    """How old rows are by a column: ranks of its distinct times, int64 (n_rows,); the larger the
    newer.

    Parameters
    ----------
    X : table
    name : str, int or tuple
        Name or position of a column of times, durations, numbers, or text in ISO 8601.
    estimator : estimator
        For messages about the table.

    Raises
    ------
    ValueError
        If there is no such column, or cells are missing or no times.
    """
    names, columns = read_columns(X, estimator)
    labels = labels_of(names, len(columns))
    at = find_column(name, names, labels)
    if at is None:
        raise ValueError(f"time_column={name!r} is no column of X, which has {labels[:20]}.")
    values, missing = _values(columns[at], name)
    if missing.any():
        raise ValueError(
            f"time_column={name!r} must have a time in each row, that of row {missing.argmax()} "
            f"is missing ({int(missing.sum())} of {len(missing)})."
        )
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _values(column, name):
    """Cells as numbers that rise with time, and which are missing."""
    where = f"time_column={name!r}"
    kind = time_of_column(column, name, numeric=True)
    if kind is None:
        first = next((v for v in np.asarray(column, dtype=object) if not _is_empty(v)), None)
        if isinstance(first, (bool, np.bool_, dict, *CONTAINERS)):
            raise ValueError(f"{where} must hold times or numbers, got {shown(first)}.")
        if not isinstance(first, str):
            if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iu":
                return np.asarray(column), np.zeros(len(column), bool)  # exact beyond 2^53
            values, _ = numeric_values(column, name)
            return values, np.isnan(values)
        kind = TimeKind(TIME, "UTC" if _has_zone(first) else None)
    try:
        with warnings.catch_warnings():  # text is as good as times here
            warnings.simplefilter("ignore", DataTypeDriftWarning)
            values = time_values(column, kind, name)
    except ValueError as error:
        raise ValueError(f"{where} must hold times, numbers or text in ISO 8601: {error}") from None
    return values, values == NOT_A_TIME


def _is_empty(value):
    return is_missing(value) or (isinstance(value, str) and value == "")


def _has_zone(text):
    try:
        return pd.Timestamp(text).tz is not None
    except ValueError:  # said where it is read
        return False
