"""The scikit-learn estimators that may stand in a saved pipeline: their fitted attributes, each
with its check.
"""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted

from ._nodes import refuse
from ._step_checks import (
    _categories,
    _distinct,
    _drop_idx,
    _dtype,
    _input_indices,
    _int_array,
    _is_bool,
    _is_int,
    _missing_indices,
    _none_or_per_feature,
    _output_indices,
    _output_names,
    _per_column_ints,
    _per_feature,
    _seen,
    _transformers,
)

MAX_JOBS = 64


_ENCODER = {"categories_": _categories, "_infrequent_enabled": _is_bool}
_INFREQUENT = {
    "_infrequent_indices": _per_column_ints,
    "_default_to_infrequent_mappings": _per_column_ints,
}

# Class: attributes it must have once fitted, and those it may have.
STEPS: dict[type, tuple[dict, dict]] = {
    StandardScaler: (
        {
            "mean_": _none_or_per_feature,
            "var_": _none_or_per_feature,
            "scale_": _none_or_per_feature,
            "n_samples_seen_": _seen,
        },
        {},
    ),
    MinMaxScaler: (
        dict.fromkeys(("scale_", "min_", "data_min_", "data_max_", "data_range_"), _per_feature)
        | {"n_samples_seen_": _seen},
        {},
    ),
    VarianceThreshold: ({"variances_": _per_feature}, {}),
    SimpleImputer: (
        {
            "statistics_": lambda v, n: (
                isinstance(v, np.ndarray) and v.shape == (n,) and v.dtype.kind in "iufbOU"
            ),
            "_fit_dtype": _dtype,
            "indicator_": lambda v, n: (
                v is None or (type(v) is MissingIndicator and v.n_features_in_ == n)
            ),
        },
        {"_fill_dtype": _dtype},
    ),
    MissingIndicator: (
        {
            "_precomputed": _is_bool,
            "_n_features": lambda v, n: _is_int(v) and v == n,
            "features_": _int_array,
        },
        {},
    ),
    OrdinalEncoder: ({**_ENCODER, "_missing_indices": _missing_indices}, _INFREQUENT),
    OneHotEncoder: (
        {
            **_ENCODER,
            "_drop_idx_after_grouping": _drop_idx,
            "drop_idx_": _drop_idx,
            "_n_features_outs": lambda v, n: (
                isinstance(v, list) and len(v) == n and all(map(_is_int, v))
            ),
        },
        _INFREQUENT,
    ),
    FunctionTransformer: ({}, {}),
    LogisticRegression: (
        {
            "classes_": lambda v, n: (
                isinstance(v, np.ndarray) and v.ndim == 1 and len(v) > 1 and _distinct(v)
            ),
            "coef_": lambda v, n: (
                isinstance(v, np.ndarray) and v.ndim == 2 and v.shape[1] == n and _finite(v)
            ),
            "intercept_": lambda v, n: isinstance(v, np.ndarray) and v.ndim == 1 and _finite(v),
            "n_iter_": lambda v, n: _int_array(v, 2**31),
        },
        {},
    ),
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
    Pipeline: ({}, {}),  # these two have no state but their parts
    FrozenEstimator: ({}, {}),
}


def _finite(array):
    """Finite, and small enough to stay so when multiplied by such a number."""
    return array.dtype.kind == "f" and bool(
        (np.abs(array) <= np.finfo(array.dtype).max ** 0.5).all()
    )


def step_state(step):
    """Fitted attributes of a scikit-learn estimator, None if it is not fitted."""
    required, optional = STEPS[type(step)]
    names = {"n_features_in_", "feature_names_in_", *required, *optional}
    found = {name: value for name, value in vars(step).items() if name in names}
    return found or None


def restore_step(step, state):
    """Set the fitted attributes of a new scikit-learn estimator from what a file says."""
    cls = type(step).__name__
    required, optional = STEPS[type(step)]
    if not isinstance(state, dict):
        refuse(f"The state of {cls}", "a dict", state)
    must = {"n_features_in_", *required}
    may = {*must, *optional, "feature_names_in_"}
    if not must <= set(state) <= may:
        refuse(
            f"The state of {cls}",
            f"a dict of {sorted(must)} (and {sorted(may - must)})",
            sorted(map(str, state)),
        )
    n = state["n_features_in_"]
    if not _is_int(n, low=1):
        refuse(f"{cls}: n_features_in_", "an int of at least 1", n)
    names = state.get("feature_names_in_")
    if names is not None and not (
        isinstance(names, np.ndarray)
        and names.shape == (n,)
        and all(isinstance(v, str) for v in names.tolist())
    ):
        refuse(f"{cls}: feature_names_in_", f"{n} strings", names)
    for name, check in {**required, **optional}.items():
        if name in state and not check(state[name], n):
            refuse(f"{cls}: {name}", f"what a fitted {cls} of {n} columns has", state[name])
    for name, value in state.items():
        setattr(step, name, value)
    _check_whole(step)


def check_parameters(step):
    """Refuse parameters with which a file could reach beyond itself: functions, cache folders,
    processes.
    """
    if isinstance(step, Pipeline):
        if step.memory is not None:
            raise TypeError(
                "A Pipeline with memory cannot be saved (its cache is a folder of pickles); use "
                "memory=None."
            )
        steps = step.steps
        if not isinstance(steps, list) or not all(
            isinstance(s, tuple) and len(s) == 2 and isinstance(s[0], str) for s in steps
        ):
            refuse("The steps of a Pipeline", "a list of (name, estimator)", steps)
        if not steps or len({name for name, _ in steps}) < len(steps):
            refuse("The steps of a Pipeline", "at least one, with different names", steps)
        for _, s in steps:
            if not (s is None or s == "passthrough" or isinstance(s, BaseEstimator)):
                refuse("A step of a Pipeline", "an estimator, None or 'passthrough'", s)
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
    if isinstance(step, Pipeline):
        inner = [s for _, s in step.steps if isinstance(s, BaseEstimator)]
        for s in inner:
            check_fitted(s)
        for s in inner[:-1]:
            if not hasattr(s, "transform"):
                refuse("A step of a Pipeline before the last", "a transformer", s)
    elif isinstance(step, FrozenEstimator):
        check_fitted(step.estimator)
    else:
        check_is_fitted(step)


def _check_whole(step):
    """What the attributes of one estimator have to do with each other."""
    cls = type(step).__name__
    if isinstance(step, LogisticRegression):
        rows = 1 if len(step.classes_) == 2 else len(step.classes_)
        if step.coef_.shape[0] != rows or step.intercept_.shape != (rows,):
            refuse(
                f"{cls}: coef_, intercept_",
                f"of {rows} rows",
                (step.coef_.shape, step.intercept_.shape),
            )
    if isinstance(step, StandardScaler):
        for wanted, name in ((step.with_mean, "mean_"), (step.with_std, "scale_")):
            if wanted and getattr(step, name) is None:
                refuse(f"{cls}: {name}", "an array", None)
    if isinstance(step, OrdinalEncoder | OneHotEncoder):
        _check_encoder(step, cls)
    if isinstance(step, SimpleImputer) and step.add_indicator != (step.indicator_ is not None):
        refuse(f"{cls}: indicator_", "there if add_indicator is set", step.indicator_)
    if isinstance(step, ColumnTransformer):
        _check_column_transformer(step, cls)


def _check_encoder(step, cls):
    sizes = [len(c) for c in step.categories_]
    for name in _INFREQUENT:
        found = getattr(step, name, None)
        if step._infrequent_enabled != (found is not None):
            refuse(f"{cls}: {name}", "there if rare categories are grouped", found)
        for size, indices in zip(sizes, found or [None] * len(sizes), strict=True):
            if indices is not None and not (
                _int_array(indices, size)
                and (len(indices) == size or name == "_infrequent_indices")
            ):
                refuse(f"{cls}: {name}", f"indices of {size} categories", indices)
    if isinstance(step, OrdinalEncoder):
        for column, index in step._missing_indices.items():
            last = step.categories_[column].tolist()[index] if index < sizes[column] else 0
            if not (last is None or last != last):
                refuse(
                    f"{cls}: _missing_indices",
                    "the places of missing categories",
                    step._missing_indices,
                )
        return
    for name in ("drop_idx_", "_drop_idx_after_grouping"):
        indices = getattr(step, name)
        for size, index in zip(
            sizes, [] if indices is None else indices.tolist(), strict=indices is not None
        ):
            if index is not None and index >= size:
                refuse(f"{cls}: {name}", f"below {size}", index)
    if step._n_features_outs != step._compute_n_features_outs():
        refuse(
            f"{cls}: _n_features_outs",
            "the numbers of columns of the categories",
            step._n_features_outs,
        )


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
            check_fitted(inner)
            n_inner = getattr(inner, "n_features_in_", None)
            if not hasattr(inner, "transform") or n_inner not in (
                None,
                len(step._transformer_to_input_indices[name]),
            ):
                refuse(f"{cls}: {name!r}", "a transformer of its columns", inner)
