"""Vectors, fields of times and the description in the state of a `FieldEncoder`: what is checked
when it is read.
"""

import numpy as np

from ..preprocessing._columns import MOMENT, VECTOR
from ..preprocessing._describe import MissingCells
from ..preprocessing._time_fields import TIME_FIELDS
from ..preprocessing._times import TIME
from ..preprocessing._vectors import VectorScaler, VectorSummary
from ._nodes import refuse

VECTOR_COUNTS = ("n", "mean", "squares")
MAX_LENGTH = 2**20  # of a vector
_LARGEST = float(np.finfo(np.float32).max)


def vector_lengths(lengths, kinds):
    """Lengths of vectors by position: one for each column of vectors, and no other."""
    wanted = {i for i, kind in enumerate(kinds) if kind == VECTOR}
    if (
        not isinstance(lengths, dict)
        or set(lengths) != wanted
        or not all(type(n) is int and 1 <= n <= MAX_LENGTH for n in lengths.values())
    ):
        refuse("vectors", "the lengths of the columns of vectors by position", lengths)
    return lengths


def derived_fields(derived, kinds, times):
    """Fields derived of times by position: some for each column of that kind, and no other."""
    wanted = {i for i, kind in enumerate(kinds) if kind == MOMENT}
    if (
        not isinstance(derived, dict)
        or set(derived) != wanted
        or not all(
            isinstance(names, tuple)
            and names
            and names == tuple(name for name in TIME_FIELDS if name in names)
            for names in derived.values()
        )
        or not all(i in times and times[i].kind == TIME for i in derived)
    ):
        refuse("derived", f"some of {TIME_FIELDS} by the position of columns of times", derived)
    return derived


def described(state, schema):
    """Reasons of kinds, and counts of missing cells."""
    if not isinstance(state, tuple) or len(state) != 3:
        refuse("described", "reasons, rows and missing cells", state)
    reasons, n_rows, by_part = state
    n = len(schema.column_kinds)
    if not isinstance(reasons, list) or [type(r) for r in reasons] != [str] * n:
        refuse("described: reasons", f"{n} texts", reasons)
    if not isinstance(by_part, tuple) or len(by_part) != len(schema.kinds):
        refuse("described: missing cells", f"a tuple of {len(schema.kinds)}", by_part)
    if not all(type(x) is float and 0 <= x < 2**62 for x in (n_rows, *by_part)):
        refuse("described", "floats of at least 0", (n_rows, by_part))
    return reasons, MissingCells(n_rows, by_part)


def vector_scaler(state, where):
    """The `VectorScaler` of a state."""
    if not isinstance(state, dict) or set(state) != {"mean", "scale", "constant"}:
        refuse(where, "the mean, the scale and what is constant", state)
    mean, scale, constant = (state[name] for name in ("mean", "scale", "constant"))
    _numbers(mean, f"{where}: mean", -_LARGEST, len(np.atleast_1d(mean)))
    _numbers(scale, f"{where}: scale", 1e-300, len(mean))
    if not isinstance(constant, np.ndarray) or constant.dtype != bool:
        refuse(f"{where}: constant", "bool", constant)
    if constant.shape != mean.shape:
        refuse(f"{where}: constant", f"{len(mean)} bools", constant)
    return VectorScaler(mean, scale, constant)


def vector_summary(state, where):
    """The `VectorSummary` of a state."""
    if not isinstance(state, dict) or set(state) != set(VECTOR_COUNTS):
        refuse(where, f"a dict of {list(VECTOR_COUNTS)}", state)
    n, mean, squares = (state[name] for name in VECTOR_COUNTS)
    _numbers(n, f"{where}: n", 0.0, len(np.atleast_1d(n)), 2.0**62)
    _numbers(mean, f"{where}: mean", -_LARGEST, len(n))
    _numbers(squares, f"{where}: squares", 0.0, len(n), np.finfo(np.float64).max)
    summary = VectorSummary(len(n))
    summary.n, summary.mean, summary.squares = n, mean, squares
    return summary


def check_parts(fields, schema):
    """Refuse vectors of another length than the schema says, and a newest time of what is none."""
    for i, length in schema.vectors.items():
        if len(fields[i].mean) != length:
            refuse(f"Column {schema.labels[i]!r}", f"a vector of {length}", len(fields[i].mean))
    for i, field in enumerate(fields):
        if getattr(field, "newest", None) is not None and i not in schema.time_fields:
            refuse(
                f"Column {schema.labels[i]!r}: newest", "only of a column of times", field.newest
            )


def _numbers(values, where, low, n, high=_LARGEST):
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.shape != (n,):
        refuse(where, f"{n} numbers", values)
    if not ((values >= low) & (values <= high)).all():
        refuse(where, f"numbers between {low} and {high}", values)
