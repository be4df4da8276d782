"""Times and durations of every spelling as whole microseconds, one cell like many.

A column that held times in ``fit`` goes on reading as times, whatever it is given: other units,
other zones, dates, ISO text and epoch numbers are converted, what is not certain is refused by
name.

Nothing here uses pandas but arrays of its cells, so that the reference for ONNX inputs can use it.
"""

import datetime
import re
import zoneinfo
from dataclasses import dataclass
from numbers import Real

import numpy as np

from ._spelling import number_of_text

TIME, DURATION = "time", "duration"
HOUR, WEEKDAY, MONTH = "hour", "weekday", "month"
TIMES = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)  # Timestamps are dates
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
NOT_A_TIME = np.iinfo(np.int64).min  # what numpy keeps for NaT

# Epoch numbers between these (1985 to 2286, in seconds) are told apart by their size: in no other
# unit are they times of those centuries. Days such as 20240301 and 20240301120000 are none of them.
EPOCH_RANGE = (5e8, 1e10)
UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}

_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d\d):?(\d\d)$", re.ASCII)
_DURATION = re.compile(
    r"\s*(?:(?P<days>[+-]?\d+) days?(?:,? "
    r"*|$))?(?:(?P<sign>[+-]?)(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d)(?:\.(?P<f>\d{1,9}))?)?\s*",
    re.ASCII,
)


@dataclass(frozen=True)
class TimeKind:
    """What the times of a column are.

    Parameters
    ----------
    kind : {"time", "duration"}
    zone : str or None
        Name of the zone that they came in; None of durations and of times without one. Times of
        any zone are one time line, those without a zone another.
    unit : str or None
        Unit of the column in ``fit`` ("ns", "us", "ms", "s"), for the reader's information; None of
        objects.
    """

    kind: str
    zone: str | None = None
    unit: str | None = None

    def __str__(self):
        if self.kind == DURATION:
            return "durations"
        return "times without a zone" if self.zone is None else f"times of zone {self.zone}"

    def agrees(self, other):
        """Whether both lie on one line."""
        return self.kind == other.kind and (self.zone is None) == (other.zone is None)


def time_of_dtype(dtype):
    """The `TimeKind` of a numpy dtype, or of pandas' dtype of times with a zone; None for
    others.
    """
    if isinstance(dtype, np.dtype):
        if dtype.kind not in "mM":
            return None
        unit = np.datetime_data(dtype)[0]
        return TimeKind(TIME if dtype.kind == "M" else DURATION, None, unit)
    zone = getattr(dtype, "tz", None)
    return None if zone is None else TimeKind(TIME, str(zone), dtype.unit)


def kind_of_cell(value):
    """The `TimeKind` of one cell that is a time; None for other cells."""
    if isinstance(value, datetime.timedelta | np.timedelta64):
        return TimeKind(DURATION)
    if isinstance(value, datetime.datetime):
        return TimeKind(TIME, None if value.tzinfo is None else str(value.tzinfo))
    return TimeKind(TIME) if isinstance(value, datetime.date | np.datetime64) else None


def microseconds_of(value):
    """A time or duration as an int: since 1970, in UTC if it has a zone."""
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64))
    if isinstance(value, np.timedelta64):
        return int(value.astype("timedelta64[us]").astype(np.int64))
    if isinstance(value, datetime.timedelta):
        return value // _MICROSECOND
    if not isinstance(value, datetime.datetime):
        return (datetime.datetime(value.year, value.month, value.day) - _EPOCH) // _MICROSECOND
    if hasattr(value, "asm8"):  # a pandas Timestamp
        return int(value.asm8.astype("datetime64[us]").astype(np.int64))
    if value.tzinfo is not None:
        value = value.astimezone(datetime.UTC).replace(tzinfo=None)
    return (value - _EPOCH) // _MICROSECOND


def text_of_time(microseconds):
    """The text under which a categorical column knows a time."""
    return str(np.datetime64(microseconds, "us"))


def calendar_value(microseconds, zone, name):
    """Hour (0 to 23), weekday (0 to 6, from Monday) or month (1 to 12) of one time on the clock of
    a zone, an int.
    """
    moment = _EPOCH + datetime.timedelta(microseconds=int(microseconds))
    if zone is not None:
        moment = moment.replace(tzinfo=datetime.UTC).astimezone(zone_named(zone))
    return {HOUR: moment.hour, WEEKDAY: moment.weekday(), MONTH: moment.month}[name]


def zone_named(name):
    """The zone of a name: of the time zone database, or an offset such as "UTC+02:00"; UTC for what
    is neither.
    """
    offset = _OFFSET.search(name)
    if offset is not None:
        minutes = int(offset[2]) * 60 + int(offset[3])
        return datetime.timezone(
            datetime.timedelta(minutes=-minutes if offset[1] == "-" else minutes)
        )
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.UTC


def fixed_offset(name):
    """Microseconds by which the clock of a zone is ahead of UTC, 0 of None; None if the zone has
    ever moved its clock.
    """
    offset = datetime.timedelta(0) if name is None else zone_named(name).utcoffset(None)
    return None if offset is None else offset // _MICROSECOND


def read_time(value, known, name):
    """One cell of a column of times as microseconds, and what it was: None (a time), "text" or a
    unit.

    Parameters
    ----------
    value : object
        Not missing.
    known : TimeKind
        Of the column in ``fit``.
    name : str
        Of the column, for messages.

    Raises
    ------
    ValueError
        If it is not certain which time it is.
    """
    kind = kind_of_cell(value)
    if kind is not None:
        refuse_other(kind, known, name)
        return microseconds_of(value), None
    if isinstance(value, str):
        return _read_text(value, known, name)
    if isinstance(value, bool | np.bool_) or not (
        isinstance(value, Real) or hasattr(value, "as_integer_ratio")
    ):
        raise ValueError(f"Column {name!r} held {known} in fit, got {value!r:.100}.")
    return _read_number(value, known, name)


def refuse_other(kind, known, name):
    """Refuse times of another line: durations for times, or a zone on one side only."""
    if not kind.agrees(known):
        advice = ""
        if kind.kind == known.kind:
            advice = (
                "; say which zone they are in, with .dt.tz_localize(...)"
                if kind.zone is None
                else "; convert them with .dt.tz_convert(...).dt.tz_localize(None)"
            )
        raise ValueError(f"Column {name!r} held {known} in fit and holds {kind} now{advice}.")


def _read_text(text, known, name):
    if known.kind == DURATION:
        found = _DURATION.fullmatch(text)
        if found is None or (found["days"] is None and found["h"] is None):
            raise ValueError(
                f"Column {name!r} held durations in fit, got the text {text!r:.100}; give "
                f"durations, or text such as "
                "'1 days 02:30:00'."
            )
        us = int(found["days"] or 0) * 86_400_000_000
        if found["h"] is not None:
            seconds = int(found["h"]) * 3600 + int(found["m"]) * 60 + int(found["s"])
            part = seconds * 10**6 + int((found["f"] or "0").ljust(6, "0")[:6])
            us += -part if found["sign"] == "-" else part
        return us, "text"
    number = number_of_text(text)
    if number is not None:
        return _read_number(number, known, name)
    try:
        # Text of ISO 8601 with its separators: other orders of day and month are guesses.
        value = datetime.datetime.fromisoformat(text.strip()) if text.count("-") >= 2 else None
    except ValueError:
        value = None
    if value is None:
        raise ValueError(
            f"Column {name!r} held {known} in fit, got the text {text!r:.100}, which is no time "
            f"in ISO 8601 such as "
            "'2026-03-01 12:30:00'; convert the column with pandas.to_datetime."
        )
    kind = kind_of_cell(value)
    refuse_other(kind, known, name)
    return microseconds_of(value), "text"


def _read_number(value, known, name):
    if known.kind == DURATION:
        raise ValueError(
            f"Column {name!r} held durations in fit, got the number {value!r:.100}, whose unit is "
            f"not known; convert the "
            "column with pandas.to_timedelta(..., unit=...)."
        )
    low, high = EPOCH_RANGE
    for unit, factor in UNITS.items():
        if low * factor <= value < high * factor:
            whole = isinstance(value, int | np.integer)
            return int(value) * 10**6 // factor if whole else int(
                np.floor(float(value) * (10**6 / factor))
            ), unit
    raise ValueError(
        f"Column {name!r} held {known} in fit, got the number {value!r:.100}, which is no time "
        f"since 1970 between 1985 and "
        "2286 in seconds, milliseconds, microseconds or nanoseconds; convert the column with "
        "pandas.to_datetime."
    )
