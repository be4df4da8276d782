"""Checks of what `CTRProblem` is asked for, and centred effects."""

from itertools import combinations
from numbers import Integral, Real

import numpy as np


def _check_number(name, value, low, high, kind=Real):
    if (
        not isinstance(value, kind)
        or isinstance(value, bool)
        or value < low
        or (high is not None and value > high)
    ):
        allowed = f"in [{low}, {high}]" if high is not None else f"of at least {low}"
        what = "an int" if kind is Integral else "a number"
        raise ValueError(f"{name} must be {what} {allowed}, got {value!r}.")


def _per_field(name, value, n_fields):
    values = [value] * n_fields if isinstance(value, Integral) else list(value)
    if len(values) != n_fields or any(not isinstance(v, Integral) or v < 1 for v in values):
        raise ValueError(
            f"{name} must be an int of at least 1, or {n_fields} of them, got {value!r}."
        )
    return values


def _duplicates(given, n_fields, rng):
    if isinstance(given, dict):
        pairs = given
    else:
        _check_number("duplicated_fields", given, 0, n_fields // 2, Integral)
        olds = rng.choice(n_fields - given, given, replace=False)
        pairs = {n_fields - given + k: int(old) for k, old in enumerate(olds)}
    for new, old in pairs.items():
        if new == old or old in pairs or not (0 <= new < n_fields and 0 <= old < n_fields):
            raise ValueError(
                f"duplicated_fields must map new fields to other, original fields, got {new}: "
                f"{old}."
            )
    return pairs


def _tuples(name, given, order, fields, n_fields, rng):
    if isinstance(given, Integral):
        candidates = list(combinations(fields, order))
        if not 0 <= given <= len(candidates):
            raise ValueError(
                f"{name} must be at most the {len(candidates)} that {len(fields)} fields allow, "
                f"got {given}."
            )
        return tuple(
            sorted(candidates[i] for i in rng.choice(len(candidates), given, replace=False))
        )
    chosen = tuple(tuple(sorted(int(f) for f in t)) for t in given)
    for t in chosen:
        if len(set(t)) != order or not all(0 <= f < n_fields for f in t):
            raise ValueError(
                f"{name} must hold {order} different fields below {n_fields} each, got {t}."
            )
    return chosen


def _centred(factors, shares):
    return factors - shares @ factors


def _weighted_std(table, shares):
    return float(np.sqrt(shares @ (table - shares @ table) ** 2))
