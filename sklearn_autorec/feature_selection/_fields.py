"""What the searches that drop fields share."""

import math
from numbers import Integral, Real

import numpy as np

from ..nn import InputSelection
from ..utils._sklearn import Interval, StrOptions

N_FIELDS = [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="neither")]


class FieldSearch:
    """Mixin of search methods whose architecture is {"fields": kept fields, "scores": one a field}."""

    slot = "gate"
    narrows = True

    def selection(self, architecture, context):
        fields = architecture["fields"]
        return None if len(fields) == context.n_fields else InputSelection(context, fields)

    def realise(self, architecture, context):
        return None

    def check(self, architecture, context):
        check_fields(architecture, context)


def choose(scores, kept, n_fields, context):
    """Numbers of the fields to keep, rising.

    Parameters
    ----------
    scores : ndarray (F,)
        Larger is kept first.
    kept : ndarray of bool (F,)
        What the search itself keeps; the best field if that is none.
    n_fields : "auto", int or float
        What the search keeps, or so many, or such a share.

    Raises
    ------
    ValueError
        If there are fewer fields.
    """
    if isinstance(n_fields, str):
        fields = np.flatnonzero(kept) if kept.any() else [scores.argmax()]
    else:
        n = n_fields if isinstance(n_fields, Integral) else max(round(n_fields * len(scores)), 1)
        if n > len(scores):
            raise ValueError(f"n_fields={n_fields} is more than the {len(scores)} fields: {context.field_names}.")
        fields = np.sort(np.argsort(-scores, kind="stable")[:n])
    return [int(f) for f in fields]


def check_fields(architecture, context):
    """Refuse an architecture whose fields are not rising numbers of fields, or whose scores are not one number a field."""
    fields, n = architecture.get("fields"), context.n_fields
    good = isinstance(fields, list) and fields and all(type(f) is int and 0 <= f < n for f in fields)
    if not good or fields != sorted(set(fields)):
        raise ValueError(f"fields must be rising ints below {n}, at least one, got {fields!r:.200}.")
    check_numbers("scores", architecture, n)


def check_numbers(name, architecture, n):
    """Refuse an entry that is not a list of n finite floats."""
    numbers = architecture.get(name)
    if not isinstance(numbers, list) or len(numbers) != n:
        raise ValueError(f"{name} must be a list of {n} floats, got {numbers!r:.200}.")
    if not all(isinstance(v, float) and math.isfinite(v) for v in numbers):
        raise ValueError(f"{name} must be finite floats, got {numbers!r:.200}.")
