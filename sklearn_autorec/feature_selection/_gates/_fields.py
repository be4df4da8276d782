"""What the searches that drop fields share."""

import hashlib
import math
from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from torch import nn

from ...nn import InputSelection
from ...utils._sklearn import Interval, StrOptions

N_KEPT = [
    StrOptions({"auto"}),
    Interval(Integral, 1, None, closed="left"),
    Interval(Real, 0, 1, closed="neither"),
]


class ScoredFields:
    """Mixin of search methods whose architecture has "scores", one a field; it stands before
    `SearchMethod`.
    """

    def field_scores(self, architecture, context):
        return architecture["scores"]


class FieldSearch(ScoredFields):
    """Mixin of search methods whose architecture has "fields", those kept, and "scores", one a
    field.

    Their modules have a buffer ``usable`` (F,), which ``search`` fills before training; gates of
    other fields stay zero."""

    slot = "gate"
    distributes = True
    narrows = True
    supports_members = True

    def search(self, problem):
        """A gradient search without the fields that could only mislead it (``usable_fields``)."""
        module = self.build(problem.context)
        module.usable.copy_(torch.from_numpy(usable_fields(problem.data, problem.context)))
        problem.train(module)
        return self.derive(module, problem.context)

    def selection(self, architecture, context):
        fields = architecture["fields"]
        return None if len(fields) == context.n_fields else InputSelection(context, fields)

    def realise(self, architecture, context):
        return None

    def check(self, architecture, context):
        check_fields(architecture, context)


class FixedGates(nn.Module):
    """Constant factors of the fields; -> (1, F)."""

    def __init__(self, factors):
        super().__init__()
        self.register_buffer(
            "factors", torch.tensor([factors], dtype=torch.float32), persistent=False
        )

    def forward(self, e, inputs):
        return self.factors


def usable_fields(data, context):
    """Which fields have more than one value and are no relabelled copy of an earlier one, bool
    (F,).

    A gate cannot tell copies apart, and that of a constant is moved by noise alone.

    Parameters
    ----------
    data : EncodedTensors
    context : BuildContext
    """
    ids, numeric, sequences = (t.cpu().numpy() for t in (data.ids, data.numeric, data.sequences))
    seen, usable = set(), []

    def add(kind, array, varies):
        key = kind, hashlib.blake2b(np.ascontiguousarray(array).tobytes()).digest()
        usable.append(bool(varies) and key not in seen)
        seen.add(key)

    for column in ids.T:
        codes, values = pd.factorize(column)  # numbered as they appear, so that names do not count
        add("categorical", codes, len(values) > 1)
    for f in range(context.n_categorical, context.n_fields):
        _, numbers, items = context.columns([f])
        own = numeric[:, numbers] if numbers else sequences[:, items]
        add("numeric" if numbers else "sequence", own, (own != own[:1]).any())
    return np.array(usable)


def with_unusable_last(scores, usable):
    """Scores in which fields that took no part come after all others, float64 (F,)."""
    return np.where(usable, scores, scores.min() - 1)


def choose(scores, kept, n_kept, context):
    """Numbers of the fields to keep, rising.

    Parameters
    ----------
    scores : ndarray (F,)
        Larger is kept first.
    kept : ndarray of bool (F,)
        What the search itself keeps; the best field if that is none.
    n_kept : "auto", int or float
        What the search keeps, or so many, or such a share.

    Raises
    ------
    ValueError
        If there are fewer fields.
    """
    if isinstance(n_kept, str):
        fields = np.flatnonzero(kept) if kept.any() else [scores.argmax()]
    else:
        n = n_kept if isinstance(n_kept, Integral) else max(round(n_kept * len(scores)), 1)
        if n > len(scores):
            raise ValueError(
                f"n_kept={n_kept} is more than the {len(scores)} fields: {context.field_names}."
            )
        fields = np.sort(np.argsort(-scores, kind="stable")[:n])
    return [int(f) for f in fields]


def check_fields(architecture, context):
    """Refuse an architecture whose fields are not rising numbers of fields, or whose scores are not
    one number a field.
    """
    fields, n = architecture.get("fields"), context.n_fields
    good = (
        isinstance(fields, list) and fields and all(type(f) is int and 0 <= f < n for f in fields)
    )
    if not good or fields != sorted(set(fields)):
        raise ValueError(
            f"fields must be rising ints below {n}, at least one, got {fields!r:.200}."
        )
    check_numbers("scores", architecture, n)


def check_numbers(name, architecture, n):
    """Refuse an entry that is not a list of n finite floats."""
    numbers = architecture.get(name)
    if not isinstance(numbers, list) or len(numbers) != n:
        raise ValueError(f"{name} must be a list of {n} floats, got {numbers!r:.200}.")
    if not all(isinstance(v, float) and math.isfinite(v) for v in numbers):
        raise ValueError(f"{name} must be finite floats, got {numbers!r:.200}.")
