"""The crossed linear estimators in a model file."""

import numpy as np

from ..linear_model import CrossedLinearClassifier
from ..preprocessing import FieldEncoder
from ..utils._state import snapshot
from ._encoder import take
from ._mixture import crossed_linear_state, restored_crossed_linear
from ._nodes import refuse


def linear_state(estimator):
    """Values from which `restore_linear` makes the fitted attributes."""
    fitted = snapshot(estimator)
    state = {"encoder": fitted.encoder_, "model": crossed_linear_state(fitted.model_)}
    return state | ({"classes": fitted.classes_} if isinstance(fitted, CrossedLinearClassifier) else {})


def restore_linear(estimator, state):
    """Set the fitted attributes of a new estimator from what a file says."""
    where, classifier = type(estimator).__name__, isinstance(estimator, CrossedLinearClassifier)
    encoder, model, *classes = take(state, ("encoder", "model", *(("classes",) if classifier else ())), where)
    if type(encoder) is not FieldEncoder or not hasattr(encoder, "_derived"):
        refuse(f"{where}: encoder", "a fitted FieldEncoder", encoder)
    core = restored_crossed_linear(model, encoder, classifier)
    n_outputs = 1
    if classifier:
        (labels,) = classes
        good = isinstance(labels, np.ndarray) and labels.ndim == 1 and len(labels) > 1
        if not good or not np.array_equal(np.unique(labels), labels):
            refuse("classes", "different labels in order, two at least", labels)
        n_outputs = 1 if len(labels) == 2 else len(labels)
        estimator.classes_ = labels
    if core.n_outputs != n_outputs:
        refuse("weights of the linear model", f"those of {n_outputs} output(s)", core.n_outputs)
    estimator.n_features_in_ = encoder.n_features_in_
    if hasattr(encoder, "feature_names_in_"):
        estimator.feature_names_in_ = encoder.feature_names_in_
    estimator._publish(encoder, core)
