"""What a column of times is taken for: its age, and the hour, weekday and month as ids."""

import numpy as np
import pandas as pd

from ._times import HOUR, MONTH, NOT_A_TIME, WEEKDAY, zone_named
from ._values import NUMBERS

AGE = "age"
TIME_FIELDS = (AGE, HOUR, WEEKDAY, MONTH)
DAY = 86_400 * 10**6  # microseconds
WEEKDAY_SPAN = 14 * DAY  # of the training times, from which weekdays come twice
MONTH_SPAN = 365 * DAY  # below it a month says nothing that the age does not


def checked_time_fields(given):
    """``time_features`` of a `FieldEncoder`: "auto", a tuple of names, or None for none.

    Raises
    ------
    ValueError
        If it names another field.
    """
    if given is None or isinstance(given, str):
        return given
    names = list(given)
    for name in names:
        if not isinstance(name, str) or name not in TIME_FIELDS:
            raise ValueError(f"time_features must be of {list(TIME_FIELDS)}, got {name!r}.")
    return tuple(names) or None


def choose_time_fields(microseconds, zone, asked="auto"):
    """The fields that are derived of a column of times.

    Parameters
    ----------
    microseconds : int64 ndarray (n_rows,)
        Of the training rows; ``NOT_A_TIME`` where missing.
    zone : str or None
    asked : "auto" or list of str
        "auto": the age; the hour, if there are several; the weekday, if there are several within
        two weeks or more; the month, if there are several within a year or more.

    Returns
    -------
    tuple of str
    """
    if asked != "auto":
        return tuple(name for name in TIME_FIELDS if name in asked)
    present = np.unique(microseconds[microseconds != NOT_A_TIME])
    if len(present) < 2:
        return (AGE,)
    span = present[-1] - present[0]
    needed = {HOUR: 0, WEEKDAY: WEEKDAY_SPAN, MONTH: MONTH_SPAN}
    return AGE, *(
        name
        for name, least in needed.items()
        if span >= least and len(np.unique(_calendar(_local(present, zone), name))) > 1
    )


def calendar_values(microseconds, zone, name):
    """Hours, weekdays or months of times as `factorize` has other values: codes (n_rows,), -1 where
    missing, the distinct int64 keys and what they are.

    Hours are 0 to 23, weekdays 0 (Monday) to 6, months 1 to 12, on the clock of the zone.
    """
    present = microseconds != NOT_A_TIME
    found = _calendar(_local(microseconds[present], zone), name)
    own, keys = pd.factorize(found)
    codes = np.full(len(microseconds), -1, np.int64)
    codes[present] = own
    return codes, np.asarray(keys, np.int64), NUMBERS if len(keys) else frozenset()


def _local(microseconds, zone):
    """Microseconds on the clock of the zone, int64."""
    if zone is None or not len(microseconds):
        return microseconds
    index = pd.DatetimeIndex(microseconds.astype("datetime64[us]"), tz="UTC")
    local = index.tz_convert(zone_named(zone)).tz_localize(None)
    return local.to_numpy().astype("datetime64[us]").astype(np.int64)


def _calendar(local, name):
    if name == HOUR:
        return local // (3600 * 10**6) % 24
    if name == WEEKDAY:
        return (local // DAY + 3) % 7  # 1970 began on a Thursday
    months = local.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return months % 12 + 1
