"""The scikit-learn estimators that may stand in a saved model: their state, and its checks."""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from ._nodes import refuse
from ._step_checks import _is_int
from ._step_composed import (
    COMPOSED,
    COMPOSED_WHOLES,
    DERIVED,
    PARTS,
    TRANSLATED,
    check_parts,
    parts_of,
)
from ._step_table import SINGLE, WITHOUT_WIDTH
from ._step_wholes import WHOLES

MAX_JOBS = 64
TELLS_WIDTH = (CalibratedClassifierCV,)

STEPS = SINGLE | COMPOSED
_WHOLES = WHOLES | COMPOSED_WHOLES


def names_of_step(cls):
    """Names of all attributes that a fitted step of a class may have."""
    required, optional = STEPS[cls]
    derived = DERIVED.get(cls, ((), None))[0]
    return {"n_features_in_", "feature_names_in_", *required, *optional, *derived}


def _has_width(cls):
    """Whether the number of columns is an attribute of its own, not asked of the parts."""
    own = getattr(cls, "n_features_in_", None)
    return cls not in WITHOUT_WIDTH and not isinstance(own, property)


def step_state(step):
    """Fitted attributes of a scikit-learn estimator, None if it is not fitted."""
    derived = DERIVED.get(type(step), ((), None))[0]
    names = names_of_step(type(step)) - set(derived)
    found = {name: value for name, value in vars(step).items() if name in names}
    if not found.keys() - {"stack_method"}:
        return None
    for name, (to_plain, _) in TRANSLATED.get(type(step), {}).items():
        if name in found:
            found[name] = to_plain(found[name])
    return found


def restore_step(step, state):
    """Set the fitted attributes of a new scikit-learn estimator from what a file says."""
    cls = type(step).__name__
    required, optional = STEPS[type(step)]
    if not isinstance(state, dict):
        refuse(f"The state of {cls}", "a dict", state)
    width = ("n_features_in_",) if _has_width(type(step)) else ()
    # Of a calibrated classifier it depends on what the first one of its parts tells.
    must = {*required, *(() if type(step) in TELLS_WIDTH else width)}
    may = {*must, *width, *optional, "feature_names_in_"}
    if not must <= set(state) <= may:
        refuse(
            f"The state of {cls}",
            f"a dict of {sorted(must)} (and {sorted(may - must)})",
            sorted(map(str, state)),
        )
    n, names = state.get("n_features_in_"), state.get("feature_names_in_")
    if "n_features_in_" in state and not _is_int(n, low=1):
        refuse(f"{cls}: n_features_in_", "an int of at least 1", n)
    if names is not None and not (
        isinstance(names, np.ndarray)
        and names.shape == ((n or len(names)),)
        and all(isinstance(v, str) for v in names.tolist())
    ):
        refuse(f"{cls}: feature_names_in_", f"{n} strings", names)
    for name, check in {**required, **optional}.items():
        if name in state and not check(state[name], n):
            refuse(f"{cls}: {name}", f"what a fitted {cls} of {n} columns has", state[name])
    translated = TRANSLATED.get(type(step), {})
    for name, value in state.items():
        setattr(step, name, translated[name][1](value) if name in translated else value)
    for part in parts_of(step):
        check_fitted(part)
    if type(step) in _WHOLES:
        _WHOLES[type(step)](step, cls)
    if type(step) in DERIVED:
        DERIVED[type(step)][1](step)


def check_parameters(step):
    """Refuse parameters with which a file could reach beyond itself: functions, cache folders,
    processes.
    """
    if isinstance(step, Pipeline) and step.memory is not None:
        raise TypeError(
            "A Pipeline with memory cannot be saved (its cache is a folder of pickles); use "
            "memory=None."
        )
    if type(step) in PARTS:
        check_parts(step)
    if isinstance(step, FunctionTransformer) and (
        step.func is not None or step.inverse_func is not None
    ):
        raise TypeError(
            "A FunctionTransformer with a function cannot be saved, since files hold no code; use "
            "func=None."
        )
    if isinstance(step, FrozenEstimator) and not isinstance(step.estimator, BaseEstimator):
        refuse("A FrozenEstimator", "one of an estimator", step.estimator)
    n_jobs = getattr(step, "n_jobs", None)
    if n_jobs is not None and not (_is_int(n_jobs, low=-MAX_JOBS, high=MAX_JOBS + 1) and n_jobs):
        refuse(
            f"{type(step).__name__}: n_jobs", f"None or at most {MAX_JOBS} either side of 0", n_jobs
        )


def check_fitted(step):
    """Refuse an estimator of which a part is not fitted."""
    if not isinstance(step, Pipeline | FrozenEstimator | FeatureUnion):
        check_is_fitted(step)
    parts = parts_of(step)
    for part in parts:
        check_fitted(part)
    for part in parts[:-1] if isinstance(step, Pipeline) else parts:
        if isinstance(step, Pipeline | FeatureUnion) and not hasattr(part, "transform"):
            refuse(f"A step of a {type(step).__name__} before the last", "a transformer", part)
