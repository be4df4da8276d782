"""Columns of times: which are, and their cells as microseconds."""

import warnings

import numpy as np
import pandas as pd

from ..exceptions import DataTypeDriftWarning
from ._columns import is_missing
from ._times import (
    EPOCH_RANGE,
    NOT_A_TIME,
    TIME,
    UNITS,
    kind_of_cell,
    read_time,
    refuse_other,
    time_of_dtype,
)
from ._values import TIMED, text_of


def time_of_column(column, name, numeric):
    """The `TimeKind` of a column, None if it is none.

    Parameters
    ----------
    column : Series or ndarray
    name : str
    numeric : bool
        Whether cells that are no times are refused beside some that are; a column of ids may hold
        both.

    Raises
    ------
    ValueError
        If times with a zone stand beside such without, or beside durations or (in numeric columns)
        other values.
    """
    dtype = _plain_dtype(column)
    found = time_of_dtype(dtype)
    if found is not None or dtype != np.dtype(object):
        return found
    values = np.asarray(column, dtype=object)
    first = next((v for v in values if not _is_empty(v)), None)
    if first is None or kind_of_cell(first) is None:
        return None  # ids among which there may be times, or numbers, among which these are refused
    cells = [v for v in values if not _is_empty(v)]
    kinds = list(dict.fromkeys(kind_of_cell(v) for v in cells))
    times = [kind for kind in kinds if kind is not None]
    if None in kinds and not numeric:
        return None
    if None in kinds:
        other = next(v for v in cells if kind_of_cell(v) is None)
        raise ValueError(f"Column {name!r} mixes times with other values, such as {other!r:.100}.")
    for kind in times:
        if not kind.agrees(times[0]):
            raise ValueError(f"Column {name!r} mixes {times[0]} with {kind}.")
    return times[0]


def _is_empty(value):
    return is_missing(value) or (isinstance(value, str) and value == "")


def _plain_dtype(column):
    return (
        column.dtype.categories.dtype
        if isinstance(column.dtype, pd.CategoricalDtype)
        else column.dtype
    )


def time_values(column, known, name):
    """Cells of a column that is known to hold times, int64 (n_rows,) of microseconds;
    ``NOT_A_TIME`` where missing.

    Parameters
    ----------
    column : Series or ndarray
        Times or durations, dates, ISO text, epoch numbers or objects of these.
    known : TimeKind
        Of the column in ``fit``.
    name : str

    Raises
    ------
    ValueError
        For values of which it is not certain which time they are.

    Warns
    -----
    DataTypeDriftWarning
        If text or numbers are taken as times.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.dtype.categories.dtype)
    kind = time_of_dtype(column.dtype)
    if kind is not None:
        refuse_other(kind, known, name)
        if kind.zone is not None:
            column = column.dt.tz_convert(None)
        values = column.to_numpy() if isinstance(column, pd.Series) else column
        unit = "datetime64[us]" if kind.kind == TIME else "timedelta64[us]"
        return values.astype(unit).astype(np.int64)
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        found, how = _epoch_numbers(np.asarray(column), known, name)
    else:
        found, how = np.full(len(column), NOT_A_TIME), None
        for k, value in enumerate(np.asarray(column, dtype=object)):
            if not _is_empty(value):
                found[k], read = read_time(value, known, name)
                how = how or read
    if how is not None:
        now = "strings" if how == "text" else "numbers"
        done = (
            "they are read as ISO 8601" if how == "text" else f"they are taken as {how} since 1970"
        )
        if known.kind != TIME:
            done = "they are parsed"
        warnings.warn(
            f"Column {name!r} held {known} in fit and holds {now} now; the values are converted "
            f"({done}).",
            DataTypeDriftWarning,
            stacklevel=5,
        )
    return found


def _epoch_numbers(values, known, name):
    """As `read_time`, a whole array at once."""
    present = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
    found, how, left = np.full(len(values), NOT_A_TIME), None, present.copy()
    low, high = EPOCH_RANGE
    for unit, factor in UNITS.items() if known.kind == TIME else ():
        fits = left & (values >= low * factor) & (values < high * factor)
        if fits.any():
            numbers = values[fits]
            if values.dtype.kind == "f":
                found[fits] = np.floor(numbers.astype(np.float64) * (10**6 / factor)).astype(
                    np.int64
                )
            else:
                numbers = numbers.astype(np.int64)
                found[fits] = (
                    numbers * (10**6 // factor) if factor <= 10**6 else numbers // (factor // 10**6)
                )
            how = how or unit
            left &= ~fits
    if left.any():
        read_time(values[left][0].item(), known, name)  # says why not
    return found, how


def numbers_of_times(microseconds):
    """Seconds as float64, NaN where missing."""
    return np.where(microseconds == NOT_A_TIME, np.nan, microseconds / 1e6)


def factorize_times(microseconds, known):
    """Times as `factorize` has other values."""
    codes, distinct = pd.factorize(microseconds)
    keys = distinct.astype("datetime64[us]" if known.kind == TIME else "timedelta64[us]")
    missing = np.flatnonzero(distinct == NOT_A_TIME)
    if len(missing):
        codes = np.where(codes == missing[0], -1, codes - (codes > missing[0]))
        keys = np.delete(keys, missing)
    texts = (
        keys.astype(str).astype(object)
        if known.kind == TIME
        else np.array([text_of(v) for v in keys], dtype=object)
    )
    return codes, texts, TIMED
