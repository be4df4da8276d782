"""The state of a fitted `FieldEncoder`: what is written, and what is checked when it is read."""

import math

import numpy as np
import pandas as pd

from ..preprocessing._columns import CATEGORICAL, MOMENT, NUMERIC, SEQUENCE, VECTOR
from ..preprocessing._kinds import BOTH
from ..preprocessing._numeric import GRIDS, NumericScaler, NumericSummary
from ..preprocessing._schema import Schema
from ..preprocessing._sharing import check_owners, check_shared, owners_of
from ..preprocessing._times import DURATION, TIME, TimeKind
from ..preprocessing._value_counter import ValueCounter
from ..preprocessing._vectors import VectorScaler, VectorSummary
from ..preprocessing._vocabulary import FIRST, Vocabulary
from ..utils._state import snapshot
from ._collisions import all_different, check_numbers
from ._encoder_kinds import (
    VECTOR_COUNTS,
    check_parts,
    derived_fields,
    described,
    vector_lengths,
    vector_scaler,
    vector_summary,
)
from ._nodes import refuse

MAX_ROW_ITEMS = 2**20  # items of all sequence columns of a row, padding included
METHODS = ("rank", "quantile", "log_square", "standard", None)
_SEEN = {"numbers", "strings", "booleans", "times"}
_LARGEST = float(np.finfo(np.float32).max)
_COUNTER = (
    "kind",
    "seen",
    "keys",
    "counts",
    "n_missing",
    "n_cells",
    "hashed",
    "hash_threshold",
    "n_hash_buckets",
)
_OPTIONAL = ("times", "shared", "vectors", "derived", "described")  # older files lack some
_SUMMARY = ("method", "values", "counts", "n", "mean", "variance", "exact")


def encoder_state(encoder):
    """Values from which `restore_encoder` makes the fitted attributes."""
    encoder = snapshot(encoder)
    schema = encoder._schema
    state = {
        "names": schema.names,
        "kinds": schema.column_kinds,
        "separators": schema.separators,
        "text_numbers": encoder._text_numbers,
        "has_feature_names": hasattr(encoder, "feature_names_in_"),
        "fields": [
            {"counts": _narrow(field.counts)} if i in schema.shared else field_state(field)
            for i, field in enumerate(encoder._fields)
        ],
        "counters": None,
        "times": {i: (time.kind, time.zone, time.unit) for i, time in schema.times.items()}
        if schema.times
        else {},
    }
    if schema.shared:  # as files had it before there were such
        state["shared"] = schema.shared
    if schema.vectors:
        state["vectors"] = schema.vectors
    if schema.derived:
        state["derived"] = schema.derived
    missing = getattr(encoder, "_missing_cells", None)
    if schema.reasons is not None and missing is not None:
        state["described"] = (schema.reasons, missing.n_rows, missing.by_part)
    if hasattr(encoder, "_counters"):
        state["counters"] = [{n: getattr(c, n) for n in _counted(c)} for c in encoder._counters]
    return state


def _counted(counter):
    """Names of the attributes of a counter that are written."""
    if isinstance(counter, VectorSummary):
        return VECTOR_COUNTS
    if not isinstance(counter, NumericSummary):
        return _COUNTER
    return _SUMMARY if counter.sums is None else (*_SUMMARY, "sums")


def field_state(field):
    """Values that describe a vocabulary or a scaler."""
    if isinstance(field, VectorScaler):
        return {"mean": field.mean, "scale": field.scale, "constant": field.constant}
    if isinstance(field, NumericScaler):
        return {
            name: getattr(field, name)
            for name in ("method", "grid", "score", "mean", "scale", "newest")
            if getattr(field, name, None) is not None or (name == "method")
        }
    return {
        "categories": _narrow(field.categories),
        "counts": _narrow(field.counts),
        "kind": field.kind,
        "seen": field.seen,
        "n_hash_buckets": field.n_hash_buckets,
    }


def _narrow(array):
    """Non-negative integers in the narrowest dtype; others as they are."""
    if array.dtype == np.int64 and len(array) and array.min() >= 0:
        return array.astype(np.min_scalar_type(int(array.max())))
    return array


def restore_encoder(encoder, state):
    """Set the fitted attributes of a new `FieldEncoder` from what a file says."""
    names = (
        "names",
        "kinds",
        "separators",
        "text_numbers",
        "has_feature_names",
        "fields",
        "counters",
    )
    # Files of version 0.1 do not say which columns held times.
    given = [name for name in _OPTIONAL if isinstance(state, dict) and name in state]
    take(state, (*names, *given), "The encoder")
    kinds, names = state["kinds"], state["names"]
    if (
        not isinstance(kinds, list)
        or not kinds
        or not all(k in (CATEGORICAL, NUMERIC, BOTH, SEQUENCE, VECTOR, MOMENT) for k in kinds)
    ):
        refuse("kinds", "a list of kinds of columns", kinds)
    n = len(kinds)
    labels = [f"x{i}" for i in range(n)]
    if names is not None:
        if not isinstance(names, list) or len(names) != n or not all_different(names, "names"):
            refuse("names", f"None or {n} different column names", names)
        labels = [str(name) for name in names]
    separators, text_numbers = state["separators"], state["text_numbers"]
    if not isinstance(separators, dict) or not all(
        type(i) is int and 0 <= i < n and kinds[i] == SEQUENCE and isinstance(s, str) and s
        for i, s in separators.items()
    ):
        refuse("separators", "separators by the position of sequence columns", separators)
    if not isinstance(text_numbers, set) or not all(
        type(i) is int and 0 <= i < n for i in text_numbers
    ):
        refuse("text_numbers", f"a set of positions below {n}", text_numbers)
    times = _times(state["times"], kinds) if "times" in state else None
    schema = Schema(
        names,
        labels,
        kinds,
        separators,
        times,
        vectors=vector_lengths(state.get("vectors", {}), kinds),
        derived=derived_fields(state.get("derived", {}), kinds, times or {}),
    )
    if "shared" in state:
        schema.shared = _shared(state["shared"], schema)
    if len(schema.sequence) * encoder.max_length > MAX_ROW_ITEMS:
        refuse(
            "max_length",
            f"at most {MAX_ROW_ITEMS} for all sequence columns together",
            encoder.max_length,
        )
    encoder.n_features_in_ = n
    if state["has_feature_names"]:
        if names is None or not all(isinstance(name, str) for name in names):
            refuse("names", "strings, since has_feature_names is set", names)
        encoder.feature_names_in_ = np.array(names, dtype=object)
    encoder._schema, encoder._text_numbers = schema, text_numbers
    encoder._missing_cells = None
    if "described" in state:
        schema.reasons, encoder._missing_cells = described(state["described"], schema)
    encoder._set_positions()
    encoder._derived = _by_part(state["fields"], schema, _scaler, vocabulary_of, vector_scaler)
    if state["counters"] is not None:
        encoder._counters = _by_part(state["counters"], schema, _summary, _counter, vector_summary)


def _shared(shared, schema):
    """Columns whose vocabularies others share, by position of the latter."""
    n = len(schema.column_kinds)
    if (
        not isinstance(shared, dict)
        or not shared
        or not all(type(i) is int and 0 <= i < n for i in (*shared, *shared.values()))
    ):
        refuse("shared", f"positions below {n} by position", shared)
    try:
        check_shared(shared, schema.column_kinds, schema.times, schema.column_labels)
        check_owners(shared, "shared")
        if owners_of(shared, schema.column_kinds) != shared:
            raise ValueError("a column of ids has its vocabulary of a list")
    except ValueError as error:
        refuse("shared", str(error), shared)
    return shared


def _times(times, kinds):
    """The times of a schema, by position."""
    texts = (str, type(None))
    if not isinstance(times, dict) or not all(
        type(i) is int
        and 0 <= i < len(kinds)
        and kinds[i] != SEQUENCE
        and isinstance(time, tuple)
        and len(time) == 3
        and time[0] in (TIME, DURATION)
        and isinstance(time[1], texts)
        and isinstance(time[2], texts)
        and (time[0] == TIME or time[1] is None)
        for i, time in times.items()
    ):
        refuse("times", "(kind, zone, unit) of columns that are no sequences, by position", times)
    return {i: TimeKind(*time) for i, time in times.items()}


def take(state, names, where):
    """The values of a state that must be a dict with just these names."""
    if not isinstance(state, dict) or set(state) != set(names):
        refuse(
            where,
            f"a dict of {list(names)}",
            sorted(map(str, state)) if isinstance(state, dict) else state,
        )
    return [state[name] for name in names]


def _by_part(states, schema, numeric, values, vectors):
    kinds, labels = schema.kinds, schema.labels
    if not isinstance(states, list) or len(states) != len(kinds):
        refuse("fields", f"a list of {len(kinds)}", states)
    shared = schema.shared if values is vocabulary_of else {}
    readers = {NUMERIC: numeric, VECTOR: vectors}
    fields = [
        None if i in shared else readers.get(kind, values)(state, f"Column {label!r}")
        for i, (state, kind, label) in enumerate(zip(states, kinds, labels, strict=True))
    ]
    check_parts(fields, schema)
    for i, owner in shared.items():
        where, whole = f"Column {labels[i]!r}", fields[owner]
        (counts,) = take(states[i], ("counts",), where)
        counts = _counts(counts, whole.n_ids, where)
        fields[i] = Vocabulary(
            whole.categories, counts, whole.kind, whole.seen, whole.n_hash_buckets
        )
    return fields


def vocabulary_of(state, where):
    """The `Vocabulary` that ``field_state`` described."""
    names = ("categories", "counts", "kind", "seen", "n_hash_buckets")
    categories, counts, kind, seen, n_buckets = take(state, names, where)
    if type(n_buckets) is not int or n_buckets < 0:
        refuse(f"{where}: n_hash_buckets", "an int of at least 0", n_buckets)
    categories = _values(categories, None if n_buckets else kind, where)
    _check_seen(seen, kind, where)
    if n_buckets and (kind is None or len(categories)):
        refuse(f"{where}: categories", "empty in a hashed column that has a kind", categories)
    n_ids = FIRST + (n_buckets or len(categories))
    counts = _counts(counts, n_ids, where)
    return Vocabulary(categories, counts, kind, seen, n_buckets)


def _values(values, kind, where):
    """Distinct values, none of them missing, as int64, float64 or objects."""
    if not isinstance(values, np.ndarray) or values.ndim != 1:
        refuse(f"{where}: values", "an array of one dimension", values)
    if kind is None:
        if len(values):
            refuse(f"{where}: values", "empty, since the column has no kind or is hashed", values)
        return np.zeros(0, object)
    if values.dtype.kind == "u" and kind == "i" and (not len(values) or int(values.max()) < 2**63):
        values = values.astype(np.int64)
    if values.dtype != {"i": np.int64, "f": np.float64, "O": object}[kind]:
        refuse(f"{where}: values", f"of kind {kind!r}", values.dtype)
    if kind == "O" and not all(isinstance(v, str) and v for v in values.tolist()):
        refuse(f"{where}: values", "strings, none of them empty", values)
    if kind != "O":
        check_numbers(values, where)
    if (kind == "f" and np.isnan(values).any()) or pd.unique(values).size < values.size:
        refuse(f"{where}: values", "different from each other and none of them missing", values)
    return values


def _check_seen(seen, kind, where):
    if kind not in ("i", "f", "O", None):
        refuse(f"{where}: kind", "'i', 'f', 'O' or None", kind)
    if not isinstance(seen, frozenset) or not seen <= _SEEN or bool(seen) != (kind is not None):
        refuse(f"{where}: seen", f"some of {sorted(_SEEN)}, and empty without a kind", seen)


def _counts(counts, n, where):
    if not isinstance(counts, np.ndarray) or counts.shape != (n,) or counts.dtype.kind not in "iuf":
        refuse(f"{where}: counts", f"{n} numbers, one for each value", counts)
    if n and not (counts.min() >= 0 and counts.sum(dtype=np.float64) < 2**62):
        refuse(f"{where}: counts", "at least 0 and below 2**62 in all", counts)
    return counts.astype(np.float64 if counts.dtype.kind == "f" else np.int64)


def _amount(value, where):
    """A sum of weights, or a number of cells."""
    if type(value) not in (int, float) or not 0 <= value < 2**62:
        refuse(where, "a number of at least 0", value)
    return value


def number(value, where, low=-_LARGEST, high=_LARGEST):
    """A finite float (or int) in the range of float32, or narrower bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        refuse(where, f"a number between {low} and {high}", value)
    return float(value)


def _floats(values, where):
    """Finite float64, rising."""
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype != np.float64:
        refuse(where, "float64 of one dimension", values)
    if not ((np.abs(values) <= _LARGEST).all() and (np.diff(values) > 0).all()):
        refuse(where, "finite and rising", values)
    return values


def _scaler(state, where):
    method = state.get("method") if isinstance(state, dict) else None
    if method not in METHODS:
        refuse(f"{where}: method", f"one of {METHODS}", method)
    scaler = NumericScaler.__new__(NumericScaler)
    scaler.method = method
    if "newest" in state:
        state = dict(state)
        scaler.newest = number(state.pop("newest"), f"{where}: newest")
    if method in GRIDS:
        _, grid, score = take(state, ("method", "grid", "score"), where)
        scaler.grid, scaler.score = (
            _floats(grid, f"{where}: grid"),
            _floats(score, f"{where}: score"),
        )
        low, high = (0.0, 1.0) if method == "rank" else (-math.sqrt(3), math.sqrt(3))
        if len(grid) != len(score) or not ((score >= low - 1e-9) & (score <= high + 1e-9)).all():
            refuse(
                f"{where}: score", f"{len(grid)} numbers between {low:.5g} and {high:.5g}", score
            )
    else:
        _, mean, scale = take(state, ("method", "mean", "scale"), where)
        scaler.mean, scaler.scale = (
            number(mean, f"{where}: mean"),
            number(scale, f"{where}: scale", low=1e-300),
        )
    return scaler


def _counter(state, where):
    kind, seen, keys, counts, n_missing, n_cells, hashed, threshold, n_buckets = take(
        state, _COUNTER, where
    )
    counter = ValueCounter(threshold, n_buckets)
    _check_seen(seen, kind, where)
    if hashed not in (True, False) or (hashed and kind is None):
        refuse(f"{where}: hashed", "True or False", hashed)
    if threshold is not None and (type(threshold) is not int or threshold < 1):
        refuse(f"{where}: hash_threshold", "None or a positive int", threshold)
    if type(n_buckets) is not int or n_buckets < 1:
        refuse(f"{where}: n_hash_buckets", "a positive int", n_buckets)
    keys = _values(keys, None if hashed else kind, where)
    counter.kind, counter.seen, counter.keys, counter.hashed = kind, seen, keys, hashed
    counter.counts = _counts(counts, n_buckets if hashed else len(keys), where)
    for name, value in (("n_missing", n_missing), ("n_cells", n_cells)):
        setattr(counter, name, _amount(value, f"{where}: {name}"))
    return counter


def _summary(state, where):
    names = (*_SUMMARY, "sums") if isinstance(state, dict) and "sums" in state else _SUMMARY
    method, values, counts, n, mean, variance, exact, *sums = take(state, names, where)
    if method not in METHODS or exact not in (True, False):
        refuse(f"{where}: method, exact", f"one of {METHODS}, True or False", (method, exact))
    summary = NumericSummary(method)
    summary.values = _floats(values, f"{where}: values")
    summary.counts = _counts(counts, len(values), where)
    if sums:
        (summary.sums,) = sums
        if not isinstance(sums[0], np.ndarray) or sums[0].dtype != np.float64 or sums[0].ndim != 2:
            refuse(f"{where}: sums", "float64 of two dimensions", sums[0])
        if len(sums[0]) != len(values) or sums[0].shape[1] % 2 or not np.isfinite(sums[0]).all():
            refuse(f"{where}: sums", f"finite, {len(values)} rows of pairs", sums[0])
    summary.n, summary.exact = _amount(n, f"{where}: n"), exact
    summary.mean = number(mean, f"{where}: mean")
    summary.variance = number(variance, f"{where}: variance", 0.0, _LARGEST**2)
    return summary
