"""The companions of a network in a model file: plain values, and everything that is checked when
they are read.
"""

import numpy as np

from .._ensemble._boosted import StatisticsBoosting
from .._ensemble._codes import FieldCodes
from .._ensemble._companions import NETWORK, STATISTICS, WIDE, Mixture
from .._ensemble._trees import TreeSum
from ._encoder import number, take
from ._forest import check_forest
from ._linear import crossed_linear_from_state, crossed_linear_to_state
from ._nodes import refuse
from ._statistics import restored_statistics, statistics_state

_BOOSTED = ("crosses", "edges", "statistics", "trees")
_TREES = TreeSum.NAMES
LARGEST = 1e100  # of a part's weight or leaf: sums of them, times the scale of ratings, are finite


def mixture_state(mixture):
    """Values from which `restored_mixture` makes a `Mixture` again; None of None."""
    if mixture is None:
        return None
    write = {WIDE: crossed_linear_to_state, STATISTICS: _boosted_state}
    models = {name: write[name](model) for name, model in mixture.models.items()}
    return {"weights": dict(mixture.weights), "models": models}


def restored_mixture(state, encoder, logistic):
    """The `Mixture` that a file describes, for rows of an encoder."""
    if state is None:
        return None
    weights, models = take(state, ("weights", "models"), "mixture")
    if not isinstance(models, dict) or not models or not set(models) <= {WIDE, STATISTICS}:
        refuse("mixture: models", f"a dict of {WIDE!r}, {STATISTICS!r} or both", models)
    if not isinstance(weights, dict) or set(weights) != {NETWORK, *models}:
        refuse("mixture: weights", f"one each of {sorted([NETWORK, *models])}", weights)
    for name, weight in weights.items():
        number(weight, f"mixture: weight of {name}", 0.0, 1.0)
    if abs(sum(weights.values()) - 1) > 1e-6:
        refuse("mixture: weights", "numbers of sum 1", weights)
    found = {}
    for name, model in models.items():
        if name == WIDE:
            found[name] = crossed_linear_from_state(model, encoder, 1)
            for values in (found[name].weights, found[name].bias):
                if (np.abs(values) > LARGEST).any():
                    refuse(
                        "mixture: weights of the crossed linear model", f"within {LARGEST}", values
                    )
        else:
            found[name] = _restored_boosted(model, encoder, logistic)
    return Mixture(dict(weights), found)


def _array(values, dtype, shape, where):
    """A finite array of a type and shape (None: any length), refused otherwise."""
    good = (
        isinstance(values, np.ndarray)
        and values.dtype == np.dtype(dtype)
        and values.ndim == len(shape)
    )
    if not good or any(n is not None and n != m for n, m in zip(shape, values.shape, strict=True)):
        refuse(where, f"{np.dtype(dtype)} of shape {shape}", values)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        refuse(where, "finite numbers", values)
    return values


def _rising(values, where):
    if not (values[1:] > values[:-1]).all():
        refuse(where, "rising", values)
    return values


def _edges(edges, n, where, dtype):
    """Inner edges of the bins of n numbers."""
    if not isinstance(edges, list) or len(edges) != n:
        refuse(where, f"a list of {n}", edges)
    return [_rising(_array(e, dtype, (None,), where), where) for e in edges]


def _crosses(crosses, n_fields, where):
    if not isinstance(crosses, list):
        refuse(where, "a list of tuples", crosses)
    for cross in crosses:
        good = (
            isinstance(cross, tuple)
            and len(cross) > 1
            and all(type(i) is int and 0 <= i < n_fields for i in cross)
        )
        if not good or len(set(cross)) < len(cross):
            refuse(where, f"tuples of different fields below {n_fields}", cross)
    return crosses


# boosted trees over statistics
# ------------------------------------------------------------------------


def _boosted_state(model):
    return {
        "crosses": [tuple(int(i) for i in cross) for cross in model.crosses],
        "edges": model.codes.edges,
        "statistics": statistics_state(model.statistics),
        "trees": [trees.state() for trees in model.trees],
    }


def _restored_boosted(state, encoder, logistic):
    crosses, edges, statistics, trees = take(state, _BOOSTED, "The boosted trees")
    n_ids, n_numeric = [int(n) for n in encoder.n_ids_], len(encoder.numeric_)
    model = StatisticsBoosting(logistic)
    edges = _edges(edges, n_numeric, "edges of the boosted trees", np.float32)
    model.codes = FieldCodes.of_edges(edges, n_ids)
    model.crosses = _crosses(crosses, len(n_ids) + n_numeric, "crosses of the boosted trees")
    model.statistics = restored_statistics(statistics, model.codes.sizes, "The statistics")
    keys = [*((i,) for i in range(len(n_ids))), *model.crosses]
    if model.statistics.keys != keys or model.statistics.n_targets != 1:
        refuse("The statistics", f"of one target, for {keys}", model.statistics.keys)
    if not isinstance(trees, list) or not trees:
        refuse("trees", "a list of one sum at least", trees)
    model.trees = [_trees(one, n_numeric + model.statistics.n_columns) for one in trees]
    return model


def _trees(state, n_features):
    """A sum of trees in which every way leads down to a leaf."""
    start, roots, feature, threshold, missing_left, left, right, value, n = take(
        state, _TREES, "A sum of trees"
    )
    number(start, "start of the trees", -1e6, 1e6)
    if type(n) is not int or n != n_features:
        refuse("features of the trees", n_features, n)
    roots = _rising(_array(roots, np.int32, (None,), "roots"), "roots")
    n_nodes = len(feature) if isinstance(feature, np.ndarray) else 0
    for name, values, dtype in (
        ("feature", feature, np.int16),
        ("threshold", threshold, np.float64),
        ("left", left, np.int32),
        ("right", right, np.int32),
        ("value", value, np.float64),
    ):
        if name == "threshold":  # an infinite one sends all numbers one way
            if (
                not isinstance(values, np.ndarray)
                or values.dtype != dtype
                or values.shape != (n_nodes,)
            ):
                refuse("threshold of the trees", f"{n_nodes} of float64", values)
            if np.isnan(values).any():
                refuse("threshold of the trees", "numbers", values)
        else:
            _array(values, dtype, (n_nodes,), f"{name} of the trees")
    _array(missing_left, bool, (n_nodes,), "missing_left of the trees")
    if (np.abs(value) > LARGEST).any():
        refuse("value of the trees", f"within {LARGEST}", value)
    check_forest(roots, left, right, "The trees")
    if n_nodes:
        if feature.min() < 0 or feature.max() >= n_features:
            refuse("feature of the trees", f"below {n_features}", feature)
    return TreeSum(start, roots, feature, threshold, missing_left, left, right, value, n)
