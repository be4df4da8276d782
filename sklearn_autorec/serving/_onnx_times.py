"""The clock and the calendar as nodes of an ONNX graph: whole numbers alone, so they are exact.

Times are microseconds since 1970, as those of the encoder: int64 (batch, 1), and
``MISSING_INTEGER`` where missing.
"""

import numpy as np

from ..preprocessing._time_fields import DAY
from ..preprocessing._times import HOUR, WEEKDAY
from ._onnx_graph import MISSING_INTEGER

_HOUR = 3600 * 10**6
_ERA = 146_097  # days of 400 years, after which the calendar begins again
_ERA_BEGINS = 719_468  # days from 0000-03-01 to 1970-01-01
_FOUR_YEARS, _CENTURY, _YEAR = 1_461, 36_524, 365  # days; the century without its last leap day
# Months counted from March, so that the leap day is the last of a year: the first day of each.
_FIRST_DAYS = (0, 31, 61, 92, 122, 153, 184, 214, 245, 275, 306, 337)
_MONTH_OF_DAY = (np.searchsorted(_FIRST_DAYS, np.arange(366), side="right") + 1) % 12 + 1


def seconds_of(times, graph):
    """Seconds since 1970, double (batch, 1), NaN where missing."""
    missing = graph.node("Equal", times, graph.constant(MISSING_INTEGER, np.int64))
    million = graph.constant(1e6, np.float64)
    seconds = graph.node("Div", graph.cast(times, np.float64), million)
    return graph.node("Where", missing, graph.constant(np.nan, np.float64), seconds)


def calendar_of(times, offset, name, graph):
    """Hours, weekdays or months of times, int64 (batch, 1), ``MISSING_INTEGER`` where missing.

    Parameters
    ----------
    times : str
        Name of the value.
    offset : int
        Microseconds by which the clock is ahead of UTC.
    name : {"hour", "weekday", "month"}
    graph : GraphBuilder
    """
    number = _Arithmetic(graph)
    none = graph.constant(MISSING_INTEGER, np.int64)
    missing = graph.node("Equal", times, none)
    local = graph.node("Where", missing, graph.constant(0, np.int64), times)
    local = number.plus(local, offset)
    if name == HOUR:
        found = number.rest(number.floor(local, _HOUR), 24)
    elif name == WEEKDAY:
        found = number.rest(number.plus(number.floor(local, DAY), 3), 7)  # 1970: a Thursday
    else:
        found = _month(number.floor(local, DAY), number, graph)
    return graph.node("Where", missing, none, found)


def _month(days, number, graph):
    """Months, 1 to 12, of days since 1970."""
    day = number.rest(number.plus(days, _ERA_BEGINS), _ERA)  # of the era, from 0
    # Years would be day // 365, had no year a leap day: those that have passed are taken out.
    leap = graph.node("Sub", number.over(day, _CENTURY), number.over(day, _FOUR_YEARS - 1))
    leap = graph.node("Sub", leap, number.over(day, _ERA - 1))
    year = number.over(graph.node("Add", day, leap), _YEAR)
    passed = graph.node("Sub", number.over(year, 4), number.over(year, 100))
    passed = graph.node("Add", passed, graph.node("Mul", year, graph.constant(_YEAR, np.int64)))
    return graph.node(
        "Gather", graph.constant(_MONTH_OF_DAY, np.int64), graph.node("Sub", day, passed)
    )


class _Arithmetic:
    """Whole numbers with constants: int64 values by name."""

    def __init__(self, graph):
        self.graph = graph

    def _with(self, kind, x, n):
        return self.graph.node(kind, x, self.graph.constant(n, np.int64))

    def plus(self, x, n):
        return self._with("Add", x, n)

    def over(self, x, n):
        """x // n of x from 0 on, where all runtimes agree about it."""
        return self._with("Div", x, n)

    def rest(self, x, n):
        """x modulo n, from 0 to n - 1 of negative x as well."""
        return self._with("Mod", x, n)

    def floor(self, x, n):
        """x // n, rounded down of negative x as well."""
        return self._with("Div", self.graph.node("Sub", x, self.rest(x, n)), n)
