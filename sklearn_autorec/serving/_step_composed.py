"""The scikit-learn estimators that hold others: what they are made of, with its checks."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import KBinsDiscretizer, LabelEncoder
from sklearn.utils import Bunch

from ..utils._sklearn import (
    CalibratedPart,
    SigmoidCalibration,
    TemperatureScaling,
    isotonic_function,
)
from ._nodes import refuse
from ._step_checks import (
    _classes,
    _estimators,
    _input_indices,
    _is_bool,
    _is_estimator,
    _is_tuple_of,
    _output_indices,
    _output_names,
    _transformers,
)

_CALIBRATORS = {
    "sigmoid": SigmoidCalibration,
    "isotonic": IsotonicRegression,
    "temperature": TemperatureScaling,
}


def _calibrated_parts(value, _):
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(
            _is_tuple_of(v, 4)
            and _is_estimator(v[0])
            and isinstance(v[1], list)
            and v[3] in _CALIBRATORS
            and all(type(c) is _CALIBRATORS[v[3]] for c in v[1])
            and _classes(v[2])
            for v in value
        )
    )


def _methods(value, _):
    """Of each estimator how a stack reads it; None of one that was dropped."""
    known = ("predict_proba", "decision_function", "predict", None)
    return isinstance(value, list) and all(v in known for v in value)


_STACKING = {
    "estimators_": _estimators,
    "final_estimator_": _is_estimator,
    "stack_method_": _methods,
}
_OUTS = {
    "_n_feature_outs": lambda v, n: (
        isinstance(v, list) and all(type(k) is int and 0 < k < 2**31 for k in v)
    )
}

# Class: attributes it must have once fitted, and those it may have.
COMPOSED: dict[type, tuple[dict, dict]] = {
    ColumnTransformer: (
        {
            "transformers_": _transformers,
            "_columns": lambda v, n: isinstance(v, list),
            "_transformer_to_input_indices": _input_indices,
            "_remainder": lambda v, n: isinstance(v, tuple) and len(v) == 3,
            "sparse_output_": _is_bool,
            "output_indices_": _output_indices,
        },
        {"_transformers_feature_names_out": _output_names},
    ),
    CalibratedClassifierCV: (
        {
            "calibrated_classifiers_": _calibrated_parts,
            "classes_": lambda v, n: _classes(v),
        },
        {},
    ),
    VotingClassifier: (
        {
            "estimators_": _estimators,
            "le_": lambda v, n: type(v) is LabelEncoder,
            "classes_": lambda v, n: _classes(v),
        },
        {},
    ),
    VotingRegressor: ({"estimators_": _estimators}, {}),
    StackingClassifier: (
        {
            **_STACKING,
            "_label_encoder": lambda v, n: type(v) is LabelEncoder,
            "classes_": lambda v, n: _classes(v),
        },
        _OUTS,
    ),
    # scikit-learn's constructor sets its ``stack_method``, which is no parameter.
    StackingRegressor: (_STACKING, {**_OUTS, "stack_method": lambda v, n: v == "predict"}),
    Pipeline: ({}, {}),  # these have no state but their parts
    FeatureUnion: ({}, {}),
    FrozenEstimator: ({}, {}),
}

# By class, of attributes that are no plain values: to such, and back.
TRANSLATED = {
    CalibratedClassifierCV: {
        "calibrated_classifiers_": (
            lambda parts: [(p.estimator, p.calibrators, p.classes, p.method) for p in parts],
            lambda parts: [CalibratedPart(e, c, classes=k, method=m) for e, c, k, m in parts],
        )
    },
    KBinsDiscretizer: {
        "bin_edges_": (
            list,
            lambda edges: np.fromiter(edges, object, len(edges)),
        )
    },
}


def _name_estimators(step):
    """``named_estimators_`` of estimators that vote or are stacked."""
    fitted, step.named_estimators_ = iter(step.estimators_), Bunch()
    for name, given in step.estimators:
        step.named_estimators_[name] = "drop" if given == "drop" else next(fitted)


# By class, attributes that are not in files, and what makes them of the others.
DERIVED = {
    IsotonicRegression: (("f_",), isotonic_function),
    **dict.fromkeys(
        (VotingClassifier, VotingRegressor, StackingClassifier, StackingRegressor),
        (("named_estimators_",), _name_estimators),
    ),
    # Set whenever a union makes a DataFrame.
    FeatureUnion: (("_transformers_feature_names_out",), lambda step: None),
}

# Parameters that are lists of named parts.
PARTS = {
    Pipeline: "steps",
    FeatureUnion: "transformer_list",
    **dict.fromkeys(
        (VotingClassifier, VotingRegressor, StackingClassifier, StackingRegressor), "estimators"
    ),
}
_NO_PART = {Pipeline: (None, "passthrough"), FeatureUnion: ("drop", "passthrough")}


def check_parts(step):
    """Refuse a list of named parts that is none."""
    cls, name = type(step).__name__, PARTS[type(step)]
    parts, instead = getattr(step, name), _NO_PART.get(type(step), ("drop",))
    if not isinstance(parts, list) or not all(
        isinstance(s, tuple) and len(s) == 2 and isinstance(s[0], str) for s in parts
    ):
        refuse(f"The {name} of a {cls}", "a list of (name, estimator)", parts)
    if not parts or len({name for name, _ in parts}) < len(parts):
        refuse(f"The {name} of a {cls}", "at least one, with different names", parts)
    for _, s in parts:
        if not (isinstance(s, BaseEstimator) or s is None or isinstance(s, str)) or (
            not isinstance(s, BaseEstimator) and s not in instead
        ):
            refuse(f"A part of a {cls}", f"an estimator or {' or '.join(map(repr, instead))}", s)


def parts_of(step):
    """The fitted estimators that a composed one asks."""
    if isinstance(step, FrozenEstimator):
        return [step.estimator]
    if isinstance(step, Pipeline | FeatureUnion):
        return [s for _, s in getattr(step, PARTS[type(step)]) if isinstance(s, BaseEstimator)]
    if isinstance(step, ColumnTransformer):
        return [s for _, s, _ in step.transformers_ if isinstance(s, BaseEstimator)]
    if isinstance(step, CalibratedClassifierCV):
        return [p.estimator for p in step.calibrated_classifiers_]
    if isinstance(step, StackingClassifier | StackingRegressor):
        return [*step.estimators_, step.final_estimator_]
    if isinstance(step, VotingClassifier | VotingRegressor):
        return list(step.estimators_)
    return []


def _check_column_transformer(step, cls):
    names = [name for name, _, _ in step.transformers_]
    if len(set(names)) < len(names) or not set(names) <= set(step._transformer_to_input_indices):
        refuse(f"{cls}: transformers_", "different names with input columns", names)
    if not set(names) <= set(step.output_indices_) or len(step._columns) != len(step.transformers):
        refuse(
            f"{cls}: output_indices_, _columns", f"there for {names}", sorted(step.output_indices_)
        )
    for name, inner, _ in step.transformers_:
        if isinstance(inner, BaseEstimator):
            n_inner = getattr(inner, "n_features_in_", None)
            if not hasattr(inner, "transform") or n_inner not in (
                None,
                len(step._transformer_to_input_indices[name]),
            ):
                refuse(f"{cls}: {name!r}", "a transformer of its columns", inner)


def _check_calibrated(step, cls):
    for part in step.calibrated_classifiers_:
        if not np.array_equal(part.classes, step.classes_) or part.method != step.method:
            refuse(f"{cls}: calibrated_classifiers_", "of its classes and method", part.classes)
        n = 1 if part.method == "temperature" or len(part.classes) == 2 else None
        own = getattr(part.estimator, "classes_", part.classes)
        if len(part.calibrators) != (n or len(own)):
            refuse(f"{cls}: calibrators", "one for each class", part.calibrators)


def _check_named(step, cls):
    """Estimators that vote or are stacked."""
    n = sum(given != "drop" for _, given in step.estimators)
    if len(step.estimators_) != n:
        refuse(f"{cls}: estimators_", f"{n} estimators", step.estimators_)
    if isinstance(step, VotingClassifier) and not np.array_equal(step.le_.classes_, step.classes_):
        refuse(f"{cls}: le_", "one of its classes", step.le_.classes_)
    if isinstance(step, StackingClassifier) and not np.array_equal(
        step._label_encoder.classes_, step.classes_
    ):
        refuse(f"{cls}: _label_encoder", "one of its classes", step._label_encoder.classes_)
    methods = getattr(step, "stack_method_", None)
    if methods is not None:
        for estimator, method in zip(step.estimators_, filter(None, methods), strict=True):
            if not hasattr(estimator, method):
                refuse(f"{cls}: stack_method_", f"one of {estimator!r:.100}", method)


COMPOSED_WHOLES = {
    ColumnTransformer: _check_column_transformer,
    CalibratedClassifierCV: _check_calibrated,
    **dict.fromkeys(
        (VotingClassifier, VotingRegressor, StackingClassifier, StackingRegressor), _check_named
    ),
}
