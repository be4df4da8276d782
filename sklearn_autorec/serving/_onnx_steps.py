"""Steps before a model as nodes of an ONNX graph: a table of columns in, a table of columns out."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from ..feature_crossing import GLIDER, AutoCross, FieldCrosser
from ..feature_crossing._combinations import RADIX_LIMIT, n_combinations
from ..feature_crossing._reading import binned_columns, column_sizes
from ..feature_selection import FieldSelector
from ..feature_selection._subsets import SUBSET_SELECTORS
from ..preprocessing._vocabulary import FIRST, UNKNOWN
from ._onnx_graph import ML
from ._onnx_raw import Column, encoded_parts


def step_columns(step, columns, graph):
    """The columns that a fitted step makes of others.

    Parameters
    ----------
    step : transformer, "passthrough" or None
    columns : list of Column
    graph : GraphBuilder

    Raises
    ------
    TypeError
        For a step of which no graph can be made; names it.
    """
    if step is None or isinstance(step, str):
        return [] if step == "drop" else list(columns)
    for cls in type(step).__mro__:
        if cls in _STEPS:
            return _STEPS[cls](step, columns, graph)
    known = ", ".join(sorted(cls.__name__ for cls in _STEPS))
    raise TypeError(
        f"The step {step!r:.200} cannot be exported to a graph of raw columns; steps may be "
        f"{known} and 'passthrough'. Take such steps before the graph, and export the others."
    )


def _unchanged(step, columns, graph):
    if step.func is not None:
        raise TypeError(f"{step!r:.200} holds code, which a graph cannot run.")
    return list(columns)


def _selected(step, columns, graph):
    return [column for column, kept in zip(columns, step.get_support(), strict=True) if kept]


def _field_selected(step, columns, graph):
    if not hasattr(step, "value_support_"):
        return _selected(step, columns, graph)
    # Kept values by their ids, all others as the unknown one.
    encoder = getattr(step.encoder_, "estimator", step.encoder_)
    kept = set(np.flatnonzero(step.support_).tolist())
    ids = encoded_parts(encoder, columns, graph, kept)["ids"]
    found = list(columns)
    for f, i in enumerate(encoder.categorical_.tolist()):
        own = step.value_support_.get(str(encoder.field_names_[f]))
        if own is not None:
            table = np.where(own, np.arange(len(own)), UNKNOWN)
            value = graph.node("Gather", graph.constant(table, np.int64), ids[f])
            found[i] = Column(columns[i].name, value, "int64")
    return _selected(step, found, graph)


def _each(columns, graph, name, function):
    """Columns of numbers, each by a function of its cells and its place."""
    return [
        Column(f"{name} of {column.name}", function(column.read(graph, "double"), k), "double")
        for k, column in enumerate(columns)
    ]


def _shifted(step, columns, graph):
    """(x - a) / b, or x c + d with a range: what the scalers of scikit-learn compute."""

    def scaled(cells, k):
        if isinstance(step, MinMaxScaler):
            cells = graph.node("Mul", cells, graph.constant(step.scale_[k], np.float64))
            cells = graph.node("Add", cells, graph.constant(step.min_[k], np.float64))
            if step.clip:
                low, high = (graph.constant(v, np.float64) for v in step.feature_range)
                kept = graph.node("Min", graph.node("Max", cells, low), high)
                # Runtimes differ in what the larger one of NaN and a number is.
                cells = graph.node("Where", graph.node("IsNaN", cells), cells, kept)
            return cells
        centre = getattr(step, "mean_", getattr(step, "center_", None))
        if isinstance(step, StandardScaler) and not step.with_mean:
            centre = None
        for kind, values in (("Sub", centre), ("Div", step.scale_)):
            if values is not None:
                cells = graph.node(kind, cells, graph.constant(values[k], np.float64))
        return cells

    return _each(columns, graph, type(step).__name__, scaled)


def _imputed(step, columns, graph):
    statistics = step.statistics_
    if step.add_indicator or statistics.dtype.kind not in "fiu" or np.isnan(statistics).any():
        raise TypeError(
            f"{step!r:.200} cannot be exported: of SimpleImputer only one of numbers without an "
            f"indicator, none of whose columns was empty, since the encoder takes missing text."
        )
    if not (isinstance(step.missing_values, float) and np.isnan(step.missing_values)):
        raise TypeError(f"{step!r:.200} cannot be exported: missing_values must be NaN.")

    def filled(cells, k):
        value = graph.constant(statistics[k], np.float64)
        return graph.node("Where", graph.node("IsNaN", cells), value, cells)

    return _each(columns, graph, "SimpleImputer", filled)


def _ordinal(step, columns, graph):
    """Codes as numbers, NaN where missing or, if the parameters say so, unknown."""
    if step.handle_unknown != "use_encoded_value":
        raise TypeError(
            f"{step!r:.200} refuses unknown values, which a graph cannot do; use "
            f'handle_unknown="use_encoded_value".'
        )
    if step._infrequent_enabled:
        raise TypeError(f"{step!r:.200} groups rare values, which is not exported.")
    found = []
    for categories, column in zip(step.categories_, columns, strict=True):
        known = [(k, v) for k, v in enumerate(categories.tolist()) if v is not None and v == v]
        text = all(isinstance(v, str) for _, v in known)
        if not text and categories.dtype.kind not in "iu":
            raise TypeError(
                f"{step!r:.200} has categories of column {column.name!r} that are "
                f"neither text nor integers."
            )
        kind = "string" if text else "int64"
        cells = column.read(graph, kind)
        named = {"string": "keys_strings", "int64": "keys_int64s"}[kind]
        codes = graph.node(
            "LabelEncoder",
            cells,
            domain=ML,
            values_int64s=[k for k, _ in known],
            default_int64=-1,
            **{named: [v for _, v in known]},
        )
        if len(known) < len(categories) or (text and "" in dict(known).values()):
            raise TypeError(
                f"{step!r:.200} has missing values among its categories of column "
                f"{column.name!r}, which is not exported."
            )
        unknown = graph.constant(step.unknown_value, np.float64)
        here = graph.node("Less", codes, graph.constant(0, np.int64))
        value = graph.node("Where", here, unknown, graph.cast(codes, np.float64))
        found.append(Column(f"OrdinalEncoder of {column.name}", value, "double"))
    return found


def _crossed(step, columns, graph):
    """A table with ids of combinations behind it."""
    if step.output != "ids":
        raise TypeError(
            f"{step!r:.200} with output={step.output!r} cannot be exported, only 'ids'."
        )
    read = [columns[i] for i in step._positions]
    encoder = step.encoder_
    parts = encoded_parts(encoder, read, graph)
    ids = {step._positions[i]: v for i, v in zip(encoder.categorical_, parts["ids"], strict=True)}
    m = len(encoder.numeric_)
    for j, i in binned_columns(encoder):
        # Bins from 2 on, as of float32 scores; 0 is missing.
        score = graph.cast(graph.cast(parts["numeric"][j], np.float32), np.float64)
        edges = step._edges[step._positions[i]]
        above = graph.constant(edges[None], np.float64)
        reached = graph.cast(graph.node("GreaterOrEqual", score, above), np.int64)
        bins = graph.node("ReduceSum", reached, graph.constant([1], np.int64), keepdims=1)
        bins = graph.node("Add", bins, graph.constant(FIRST, np.int64))
        missing = graph.cast(parts["numeric"][m + j], bool)
        zero = graph.constant(0, np.int64)
        ids[step._positions[i]] = graph.node("Where", missing, zero, bins)
    sizes = column_sizes(encoder, step._positions, step._edges)
    names = step.get_feature_names_out()[-len(step._crosses) :] if step._crosses else []
    made = []
    for cross, combinations, name in zip(step._crosses, step._combinations, names, strict=True):
        own = [int(sizes[i]) for i in cross]
        if combinations.n_buckets or n_combinations(own) > RADIX_LIMIT:
            raise TypeError(f"The combinations of {name!r} are hashed, which a graph cannot do.")
        key = ids[cross[0]]
        for i, size in zip(cross[1:], own[1:], strict=True):
            key = graph.node("Mul", key, graph.constant(size, np.int64))
            key = graph.node("Add", key, ids[i])
        known = combinations.vocabulary.categories.tolist()
        table = {0: 0, **{int(v): FIRST + k for k, v in enumerate(known)}}
        made.append(Column(str(name), graph.look_up(key, "int64", table), "int64"))
    return [*(columns if step.append else []), *made]


def _column_transformer(step, columns, graph):
    found = []
    for name, inner, _ in step.transformers_:
        own = [columns[i] for i in step._transformer_to_input_indices[name]]
        found += step_columns(inner, own, graph)
    return found


def _in_turn(step, columns, graph):
    for _, inner in step.steps:
        columns = step_columns(inner, columns, graph)
    return columns


_SELECTORS = (VarianceThreshold, *SUBSET_SELECTORS)
_STEPS = {
    **dict.fromkeys(_SELECTORS, _selected),
    **dict.fromkeys((StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler), _shifted),
    FieldSelector: _field_selected,
    FunctionTransformer: _unchanged,
    SimpleImputer: _imputed,
    OrdinalEncoder: _ordinal,
    FieldCrosser: _crossed,
    AutoCross: lambda step, columns, graph: _crossed(step.crosser_, columns, graph),
    GLIDER: lambda step, columns, graph: _crossed(step.crosser_, columns, graph),
    ColumnTransformer: _column_transformer,
    Pipeline: _in_turn,
    FrozenEstimator: lambda step, columns, graph: step_columns(step.estimator, columns, graph),
}


def first_names(model):
    """Names (or None) and number of the columns of the table that a model was fitted on."""
    if isinstance(model, Pipeline):
        steps = [step for _, step in model.steps if isinstance(step, BaseEstimator)]
        model = steps[0]
        if isinstance(model, Pipeline | CalibratedClassifierCV):
            return first_names(model)
    if isinstance(model, FrozenEstimator):
        return first_names(model.estimator)
    if isinstance(model, CalibratedClassifierCV):
        return first_names(model.calibrated_classifiers_[0].estimator)
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        encoder = getattr(model, "encoder_", None)
        encoder = getattr(encoder, "estimator", encoder)
        schema = getattr(encoder, "_schema", None)
        names = getattr(model, "_names", None) or (None if schema is None else schema.names)
    return (None if names is None else list(names)), model.n_features_in_
