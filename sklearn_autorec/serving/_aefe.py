"""The state of a fitted `AEFE`: what is written, and what is checked when it is read."""

import numpy as np

from ..feature_crossing._aefe._pair_features import Feature, Statistic
from ..feature_crossing._reading import binned_columns, column_sizes, resolve_bins
from ..preprocessing._names import labels_of
from ..utils._state import snapshot
from ._collisions import all_different
from ._crossing import check_edges, check_read_columns, columns_state, combinations_of
from ._encoder import field_state, number, take
from ._nodes import refuse

_KINDS = ("count", "nunique", "share", "mean")
_TOLD = ("scores", "base_score", "pairs", "pair_scores", "stage_counts", "search_history")
_AEFE = (
    "names",
    "n_features",
    "has_feature_names",
    "positions",
    "edges",
    "encoder",
    "statistics",
    "features",
    "crosses",
    "n_bins",
    *_TOLD,
)


def aefe_state(aefe):
    """Values from which `restore_aefe` makes the fitted attributes."""
    a = snapshot(aefe)
    return {
        **columns_state(a),
        "statistics": [
            (
                s.feature.kind,
                tuple(int(i) for i in s.feature.columns),
                s.combinations.n_buckets or field_state(s.combinations.vocabulary),
                s.values,
            )
            for s in a._statistics
        ],
        "features": a.features_,
        "crosses": a.crosses_,
        "n_bins": a.n_bins_,
        **{name: getattr(a, f"{name}_") for name in _TOLD},
    }


def restore_aefe(aefe, state):
    """Set the fitted attributes of a new `AEFE` from what a file says."""
    found = dict(zip(_AEFE, take(state, _AEFE, "AEFE"), strict=True))
    names, n, positions, encoder = (
        found[name] for name in ("names", "n_features", "positions", "encoder")
    )
    check_read_columns(names, n, found["has_feature_names"], positions, encoder)
    edges = found["edges"]
    check_edges(edges, [positions[i] for _, i in binned_columns(encoder)])
    sizes = column_sizes(encoder, positions, edges)
    if not isinstance(found["statistics"], list):
        refuse("statistics", "a list", found["statistics"])
    statistics = [_statistic(s, sizes, aefe, k) for k, s in enumerate(found["statistics"])]
    _check_told(found)
    labels = labels_of(names, n)
    n_columns = sum(
        s.values.shape[1] * (s.feature.kind != "mean" or "target" in aefe.paradigms)
        + (s.feature.kind == "mean" and "concat" in aefe.paradigms)
        for s in statistics
    )
    features = found["features"]
    if (
        not isinstance(features, list)
        or len(features) != n_columns
        or not all(isinstance(name, str) for name in features)
        or not all_different(features, "features")
    ):
        refuse("features", f"{n_columns} different names", features)
    aefe.n_features_in_, aefe._names, aefe.field_names_ = n, names, labels
    if found["has_feature_names"]:
        aefe.feature_names_in_ = np.array(names, dtype=object)
    aefe._bins = resolve_bins(aefe.n_bins, names, labels)
    aefe._positions, aefe._edges, aefe.encoder_ = positions, edges, encoder
    aefe._statistics = statistics
    aefe.features_, aefe.crosses_, aefe.n_bins_ = features, found["crosses"], found["n_bins"]
    for name in _TOLD:
        setattr(aefe, f"{name}_", found[name])


def _statistic(saved, sizes, aefe, k):
    """A fitted `Statistic` from kind, columns, vocabulary of combinations and values."""
    where = f"Feature {k}"
    if not isinstance(saved, tuple) or len(saved) != 4:
        refuse(where, "kind, columns, combinations and values", saved)
    kind, columns, combinations, values = saved
    if (
        kind not in _KINDS
        or not isinstance(columns, tuple)
        or len(columns) not in ((1, 2) if kind == "mean" else (2,))
        or not all(type(i) is int and i in sizes for i in columns)
    ):
        refuse(where, f"one of {_KINDS} of columns among {sorted(sizes)}", (kind, columns))
    statistic = Statistic(Feature(kind, columns), aefe)
    read = columns[:1] if kind == "nunique" else columns
    statistic.combinations = combinations_of([sizes[i] for i in read], combinations, where)
    n_ids = statistic.combinations.n_ids
    if (
        not isinstance(values, np.ndarray)
        or values.dtype != np.float64
        or values.ndim != 2
        or values.shape[0] != n_ids
        or (kind != "mean" and values.shape[1] != 1)
        or not np.isfinite(values).all()
    ):
        refuse(f"{where}: values", f"finite floats of {n_ids} rows", values)
    statistic.values = values
    return statistic


def _check_told(found):
    """What only tells of the search."""
    scores = found["scores"]
    if not isinstance(scores, np.ndarray) or scores.dtype != np.float64 or scores.ndim != 1:
        refuse("scores", "floats", scores)
    number(found["base_score"], "base_score", -1e300, 1e300)
    for name in ("pairs", "crosses"):
        if not isinstance(found[name], list) or not all(
            isinstance(pair, tuple) and all(isinstance(label, str) for label in pair)
            for pair in found[name]
        ):
            refuse(name, "tuples of names", found[name])
    for name in ("pair_scores", "stage_counts", "n_bins"):
        if not isinstance(found[name], dict):
            refuse(name, "a dict", found[name])
        for key, value in found[name].items():
            number(value, f"{name} of {key!r:.60}")
    history = found["search_history"]
    if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
        refuse("search_history", "a list of dicts", history)
