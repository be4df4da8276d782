"""The state of fitted `TargetStatistics` and its core: what is written, and what is checked when it
is read.
"""

import numpy as np

from ..feature_crossing._combinations import RADIX_LIMIT, n_combinations
from ..feature_crossing._reading import binned_columns, column_sizes
from ..feature_crossing._target_statistics._look_up import DENSE_FACTOR, DENSE_LEAST
from ..feature_crossing._target_statistics._statistics import METHODS, STATE, Statistics
from ..preprocessing._names import labels_of
from ..utils._state import snapshot
from ._collisions import all_different
from ._crossing import check_edges, check_read_columns, columns_state
from ._encoder import number, take
from ._nodes import refuse

# Of the tables in which combinations are looked up, beside those that the file pays for.
TABLE_BYTES = 2**28
_TRANSFORMER = (
    "names",
    "n_features",
    "has_feature_names",
    "positions",
    "keys",
    "edges",
    "encoder",
    "target_type",
    "classes",
    "centre",
    "scale",
    "statistics",
)


def statistics_state(statistics):
    """Values from which `restored_statistics` makes fitted `Statistics`."""
    return statistics.state()


def restored_statistics(state, sizes, where):
    """Fitted `Statistics` from what a file says.

    Parameters
    ----------
    state : dict
    sizes : list of int
        Codes of each column are below these.
    where : str
        Place for messages.
    """
    found = dict(zip(STATE, take(state, STATE, where), strict=True))
    keys = found["keys"]
    good = isinstance(keys, list) and all(_key(key, len(sizes)) for key in keys)
    if not good or not all_different(keys, f"{where}: keys"):
        refuse(
            f"{where}: keys", f"different tuples of different positions below {len(sizes)}", keys
        )
    if found["sizes"] != list(sizes) or not all(type(size) is int for size in found["sizes"]):
        refuse(f"{where}: sizes", str(list(sizes)), found["sizes"])
    number(found["smoothing"], f"{where}: smoothing", low=0.0)
    if found["method"] not in METHODS:
        refuse(f"{where}: method", f"one of {METHODS}", found["method"])
    if type(found["n_folds"]) is not int or not 1 <= found["n_folds"] < 2**31:
        refuse(f"{where}: n_folds", "a positive int", found["n_folds"])
    prior = found["prior"]
    if (
        not isinstance(prior, np.ndarray)
        or prior.ndim != 1
        or prior.dtype != np.float64
        or not len(prior)
    ):
        refuse(f"{where}: prior", "float64 of one dimension", prior)
    if not (np.abs(prior) <= np.finfo(np.float32).max).all():
        refuse(f"{where}: prior", "finite float32 numbers", prior)
    for name in ("combinations", "means", "counts"):
        if not isinstance(found[name], list) or len(found[name]) != len(keys):
            refuse(f"{where}: {name}", f"a list of {len(keys)}", found[name])
    n_bytes = paid = 0  # of look-up tables over all combinations of a key, which are made for speed
    for key, seen, means, counts in zip(
        keys, found["combinations"], found["means"], found["counts"], strict=True
    ):
        span = n_combinations(sizes[i] for i in key)
        _check_table(span, seen, means, counts, len(prior), f"{where}: key {str(key):.100}")
        n_bytes += 8 * span if span <= max(DENSE_FACTOR * len(seen), DENSE_LEAST) else 0
        paid += seen.nbytes
    if n_bytes > TABLE_BYTES + 64 * paid:
        refuse(f"{where}: tables", f"of at most {TABLE_BYTES + 64 * paid} bytes", n_bytes)
    return Statistics.restored(found)


def _key(key, n):
    ok = isinstance(key, tuple) and key and all(type(i) is int and 0 <= i < n for i in key)
    return bool(ok) and len(key) <= n and len(set(key)) == len(key)


def _check_table(span, seen, means, counts, n_targets, where):
    if (
        not isinstance(seen, np.ndarray)
        or seen.ndim != 1
        or seen.dtype.kind not in "iu"
        or not len(seen)
    ):
        refuse(f"{where}: combinations", "whole numbers, one at least", seen)
    low, high = (-(2**63), 2**63) if span > RADIX_LIMIT else (0, span)
    # Compared in their own type: differences of 64 bits may overflow.
    if not low <= int(seen[0]) or not int(seen[-1]) < high or not (seen[1:] > seen[:-1]).all():
        refuse(f"{where}: combinations", f"rising, from {low} to below {high}", seen)
    if not _floats(means, (len(seen), n_targets)) or not np.isfinite(means).all():
        refuse(f"{where}: means", f"finite float32 of shape {(len(seen), n_targets)}", means)
    if not _floats(counts, (len(seen),)) or not (np.isfinite(counts) & (counts > 0)).all():
        refuse(f"{where}: counts", f"{len(seen)} positive float32", counts)


def _floats(values, shape):
    return isinstance(values, np.ndarray) and values.dtype == np.float32 and values.shape == shape


def target_statistics_state(transformer):
    """Values from which `restore_target_statistics` makes the fitted attributes."""
    t = snapshot(transformer)
    return {
        **columns_state(t),
        "keys": t._keys,
        "target_type": t.target_type_,
        "classes": t.classes_,
        "centre": t._centre,
        "scale": t._scale,
        "statistics": statistics_state(t._statistics),
    }


def restore_target_statistics(transformer, state):
    """Set the fitted attributes of a new `TargetStatistics` from what a file says."""
    found = take(state, _TRANSFORMER, "TargetStatistics")
    (
        names,
        n,
        has_names,
        positions,
        keys,
        edges,
        encoder,
        target_type,
        classes,
        centre,
        scale,
        statistics,
    ) = found
    check_read_columns(names, n, has_names, positions, encoder)
    usable = set(positions) - {positions[i] for i in (*encoder.sequence_, *encoder.vector_)}
    if not isinstance(keys, list) or not all(_key(key, n) and set(key) <= usable for key in keys):
        refuse("keys", f"tuples of different positions among {sorted(usable)}", keys)
    used = sorted({i for key in keys for i in key})
    numeric = [i for i in used if i in {positions[j] for _, j in binned_columns(encoder)}]
    check_edges(edges, numeric)
    every = {positions[j]: edges.get(positions[j], np.zeros(0)) for _, j in binned_columns(encoder)}
    sizes = column_sizes(encoder, positions, every)
    core = restored_statistics(statistics, [sizes[i] for i in used], "The statistics")
    if [tuple(used[i] for i in key) for key in core.keys] != keys:
        refuse("The keys of the statistics", str(keys), core.keys)
    _check_target(target_type, classes, core.n_targets)
    largest = float(np.finfo(np.float64).max)
    transformer._centre = number(centre, "centre", -largest, largest)
    transformer._scale = number(
        scale, "scale", float(np.finfo(np.float64).tiny) * 2.0**-52, largest
    )
    if classes is not None and (centre, scale) != (0.0, 1.0):
        refuse("centre and scale", "0 and 1 for classes", (centre, scale))
    labels = labels_of(names, n)
    transformer.n_features_in_ = n
    if has_names:
        transformer.feature_names_in_ = np.array(names, dtype=object)
    transformer.target_type_, transformer.classes_ = target_type, classes
    transformer._publish(names, labels, positions, keys, edges, encoder, core)


def _check_target(target_type, classes, n_targets):
    wanted = {"binary": 1, "continuous": 1, "multiclass": None if classes is None else len(classes)}
    if target_type not in wanted or wanted[target_type] != n_targets:
        refuse("target_type", f"the type of {n_targets} target(s)", target_type)
    if target_type == "continuous":
        if classes is not None:
            refuse("classes", "None for numbers", classes)
        return
    n = 2 if target_type == "binary" else n_targets
    good = isinstance(classes, np.ndarray) and classes.shape == (n,)
    if not good or not all_different(classes.tolist(), "classes"):
        refuse("classes", f"{n} different values", classes)
