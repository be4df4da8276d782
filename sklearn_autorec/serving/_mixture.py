"""The companions of a network in a model file: plain values, and everything that is checked when they are read."""

import numpy as np

from .._ensemble._boosted import StatisticsBoosting
from .._ensemble._codes import FieldCodes
from .._ensemble._companions import NETWORK, STATISTICS, WIDE, Mixture
from .._ensemble._trees import TreeSum
from ..linear_model._core import CrossedLinear
from ..linear_model._terms import CategoricalTerm, CrossTerm, NumericTerm, SequenceTerm, Terms
from ._encoder import number, take
from ._nodes import refuse
from ._statistics import restored_statistics, statistics_state

_WIDE = ("edges", "crosses", "gains", "weights", "bias", "rows", "penalties")
_BOOSTED = ("crosses", "edges", "statistics", "trees")
_TREES = TreeSum.NAMES


def mixture_state(mixture):
    """Values from which `restored_mixture` makes a `Mixture` again; None of None."""
    if mixture is None:
        return None
    write = {WIDE: crossed_linear_state, STATISTICS: _boosted_state}
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
    read = {WIDE: restored_crossed_linear, STATISTICS: _restored_boosted}
    return Mixture(dict(weights), {name: read[name](models[name], encoder, logistic) for name in models})


def _array(values, dtype, shape, where):
    """A finite array of a type and shape (None: any length), refused otherwise."""
    good = isinstance(values, np.ndarray) and values.dtype == np.dtype(dtype) and values.ndim == len(shape)
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
        good = isinstance(cross, tuple) and len(cross) > 1 and all(type(i) is int and 0 <= i < n_fields for i in cross)
        if not good or len(set(cross)) < len(cross):
            refuse(where, f"tuples of different fields below {n_fields}", cross)
    return crosses


# the crossed linear model ------------------------------------------------------------------------------


def crossed_linear_state(model):
    """Values of a fitted `CrossedLinear`."""
    n_single = len(model.terms.terms) - len(model.crosses)
    numbers = [term for term in model.terms.terms[:n_single] if isinstance(term, NumericTerm)]
    crosses = [
        (
            tuple(int(i) for i in term.fields),
            [part.edges if isinstance(part, NumericTerm) else None for part in term.parts],
            term.keys,
        )
        for term in model.terms.terms[n_single:]
    ]
    return {
        "edges": [np.asarray(term.edges, dtype=np.float64) for term in numbers],
        "crosses": crosses,
        "gains": [float(gain) for gain in model.gains],
        "weights": model.weights,
        "bias": model.bias,
        "rows": model.rows,
        "penalties": model.penalties,
    }


def restored_crossed_linear(state, encoder, logistic):
    """The `CrossedLinear` of such values, for rows of an encoder."""
    edges, crosses, gains, weights, bias, rows, penalties = take(state, _WIDE, "The linear model")
    model = CrossedLinear()
    model.logistic = logistic
    model.sizes = [int(n) for n in encoder.n_ids_]
    model.sequence_sizes = [int(n) for n in encoder.sequence_n_ids_]
    model.n_categorical, model.n_numeric = len(model.sizes), len(encoder.numeric_)
    model.max_length = encoder.max_length if model.sequence_sizes else 0
    edges = _edges(edges, model.n_numeric, "edges of the linear model", np.float64)
    model.granularities = [[e] for e in edges]
    terms = [CategoricalTerm(j, size) for j, size in enumerate(model.sizes)]
    terms += [NumericTerm(j, model.n_numeric, e) for j, e in enumerate(edges)]
    terms += [SequenceTerm(j, model.max_length, size) for j, size in enumerate(model.sequence_sizes)]
    if not isinstance(crosses, list) or not all(isinstance(c, tuple) and len(c) == 3 for c in crosses):
        refuse("crosses of the linear model", "a list of (fields, edges, keys)", crosses)
    n_fields = model.n_categorical + model.n_numeric
    model.crosses = _crosses([c[0] for c in crosses], n_fields, "crosses of the linear model")
    for fields, part_edges, keys in crosses:
        terms.append(_cross_term(model, fields, part_edges, keys))
    model.terms = Terms(terms)
    n_weights = model.terms.n_weights
    model.weights = _array(weights, np.float64, (None, n_weights), "weights of the linear model")
    model.n_outputs = len(model.weights)
    if not model.n_outputs:
        refuse("weights of the linear model", "those of one output at least", weights)
    model.bias = _array(bias, np.float64, (model.n_outputs,), "bias of the linear model")
    model.penalties = _penalties(penalties, (model.n_outputs, len(terms)))
    if not isinstance(rows, np.ndarray) or rows.dtype not in (np.uint32, np.float64) or rows.shape != (n_weights,):
        refuse("rows of the linear model", f"{n_weights} numbers", rows)
    model.rows = rows
    if not isinstance(gains, list) or len(gains) != len(crosses) or not all(type(g) is float for g in gains):
        refuse("gains of the linear model", f"{len(crosses)} floats", gains)
    model.gains = gains
    return model


def _penalties(values, shape):
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.shape != shape:
        refuse("penalties of the linear model", f"float64 of shape {shape}", values)
    return values


def _cross_term(model, fields, part_edges, keys):
    where = f"cross {fields} of the linear model"
    if not isinstance(part_edges, list) or len(part_edges) != len(fields):
        refuse(where, "edges of each field, None of ids", part_edges)
    parts = []
    for field, own in zip(fields, part_edges, strict=True):
        if field < model.n_categorical:
            if own is not None:
                refuse(where, "no edges of ids", own)
            parts.append(CategoricalTerm(field, model.sizes[field]))
        else:
            (own,) = _edges([own], 1, where, np.float64)
            parts.append(NumericTerm(field - model.n_categorical, model.n_numeric, own))
    return CrossTerm(tuple(parts), fields, _rising(_array(keys, np.int64, (None,), where), where))


# boosted trees over statistics ------------------------------------------------------------------------


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
    start, roots, feature, threshold, missing_left, left, right, value, n = take(state, _TREES, "A sum of trees")
    number(start, "start of the trees", -1e6, 1e6)
    if n != n_features:
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
            if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != (n_nodes,):
                refuse("threshold of the trees", f"{n_nodes} of float64", values)
            if np.isnan(values).any():
                refuse("threshold of the trees", "numbers", values)
        else:
            _array(values, dtype, (n_nodes,), f"{name} of the trees")
    _array(missing_left, bool, (n_nodes,), "missing_left of the trees")
    if len(roots) and (roots[0] != 0 or roots[-1] >= n_nodes):
        refuse("roots", f"from 0 to below {n_nodes}", roots)
    if not len(roots) and n_nodes:
        refuse("roots", "those of the nodes", roots)
    if n_nodes:
        own = np.arange(n_nodes)
        leaf = left == own
        stops = np.repeat(np.append(roots[1:], n_nodes), np.diff(np.append(roots, n_nodes)))
        inner = (left > own) & (right > own) & (left < stops) & (right < stops)
        if not (inner | (leaf & (right == own))).all():
            refuse("nodes of the trees", "leaves, or nodes before their children within a tree", left)
        if feature.min() < 0 or feature.max() >= n_features:
            refuse("feature of the trees", f"below {n_features}", feature)
    return TreeSum(start, roots, feature, threshold, missing_left, left, right, value, n)
