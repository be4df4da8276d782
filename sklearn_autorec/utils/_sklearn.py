"""The only door to scikit-learn names that are private or newer than the oldest supported
release.
"""

import datetime
from contextlib import nullcontext
from inspect import signature
from numbers import Real

import numpy as np
from sklearn.calibration import (
    _CalibratedClassifier,
    _SigmoidCalibration,
    _TemperatureScaling,
)
from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
from sklearn.model_selection._search import BaseSearchCV
from sklearn.model_selection._validation import (
    _fit_and_score,
    _insert_error_scores,
    _score,
)
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._metadata_requests import _raise_for_params as raise_for_params
from sklearn.utils._metadata_requests import _routing_enabled as routing_enabled
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.metaestimators import _safe_split
from sklearn.utils.validation import _check_method_params, _check_y
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

from ._typing import Method

try:
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback import with_callbacks as _with_callbacks
except ImportError:  # scikit-learn < 1.9 has no callbacks: fit runs the same, unobserved

    class _NoCallbackContext:
        def subcontext(self, *args, **kwargs):
            return self

        def propagate_callback_context(self, estimator):
            return nullcontext()

        def call_on_fit_task_begin(self, **kwargs):
            return self

        def call_on_fit_task_end(self, **kwargs):
            return False

    # Stands in for the class that is not there.
    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Does nothing on a scikit-learn without callbacks."""

        def _init_callback_context(self, **kwargs):
            return _NoCallbackContext()

    def _with_callbacks(method):
        return method


CalibratedPart = _CalibratedClassifier
SigmoidCalibration, TemperatureScaling = _SigmoidCalibration, _TemperatureScaling

__all__ = [
    "CalibratedPart",
    "PREDICTOR_RECORD_DTYPE",
    "TreePredictor",
    "BaseSearchCV",
    "CallbackSupportMixin",
    "SigmoidCalibration",
    "TemperatureScaling",
    "HasMethods",
    "Interval",
    "Options",
    "StrOptions",
    "check_method_params",
    "of_raw_tables",
    "check_sample_weight",
    "check_y",
    "raise_for_params",
    "routing_enabled",
    "safe_indexing",
    "fit_and_score",
    "insert_error_scores",
    "isotonic_function",
    "plain_labels",
    "safe_split",
    "score",
    "safe_indexing",
    "validate_parameters",
    "with_callbacks",
]

check_method_params = _check_method_params
insert_error_scores = _insert_error_scores
safe_split = _safe_split
score = _score


def with_callbacks(fit: Method) -> Method:
    """Decorate a method that fits: scikit-learn's callbacks may watch it."""
    return _with_callbacks(fit)


def trees_of(boosting):
    """Node arrays of a fitted histogram gradient boosting of one output, and where its sum
    starts.
    """
    start = float(np.ravel(boosting._baseline_prediction)[0])
    return [trees[0].nodes for trees in boosting._predictors], start


def isotonic_function(regression):
    """Set ``f_`` of an isotonic regression, which is no value, from its thresholds."""
    regression._build_f(regression.X_thresholds_, regression.y_thresholds_)


def fit_and_score(*args, caller=None, callback_ctx=None, **kwargs):
    """scikit-learn's evaluation of a candidate on a split; before 1.9 it knew no callbacks."""
    if "callback_ctx" in signature(_fit_and_score).parameters:
        kwargs |= {"caller": caller, "callback_ctx": callback_ctx}
    return _fit_and_score(*args, **kwargs)


def check_y(y, estimator, y_numeric=False):
    """A target as a finite 1-D array, with scikit-learn's stock messages for everything else."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y "
            f"is None."
        )
    refuse_targets(y)
    y = plain_labels(_check_y(y, y_numeric=y_numeric, estimator=estimator))
    # Missing objects become NaN too late.
    if y_numeric and y.dtype.kind == "f" and not np.isfinite(y).all():
        raise ValueError("Input y contains NaN.")
    return y


def refuse_targets(y):
    """Refuse, naming the type, targets that would be read as something else: times, tables not yet
    read, 128 bits.
    """
    dtype = getattr(y, "dtype", None)
    if hasattr(y, "collect_schema"):
        raise TypeError(
            f"y is a {type(y).__name__}, whose rows are not there yet; give the values of "
            f"y.collect()."
        )
    if str(dtype) in ("Int128", "UInt128"):
        raise TypeError(
            f"y has polars' type {dtype}, which cannot be read; cast it to Int64 or Float64."
        )
    try:
        array = np.zeros(0, "M8[s]") if getattr(dtype, "tz", None) is not None else np.asarray(y)
    except (TypeError, ValueError):  # no array at all, which scikit-learn says better
        return
    times = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)
    if array.dtype.kind in "mM" or (
        array.dtype == object and any(isinstance(v, times) for v in array.ravel())
    ):
        raise ValueError(
            f"y holds times ({dtype if dtype is not None else array.dtype}), which are neither "
            f"labels nor ratings; give numbers, "
            "such as seconds."
        )


def of_raw_tables(tags):
    """scikit-learn's tags, saying that tables with ids, text and missing cells are welcome."""
    tags.input_tags.allow_nan = True
    tags.input_tags.categorical = True
    tags.input_tags.string = True
    return tags


def plain_labels(y):
    """Labels without the type object where they are numbers or booleans: arrays of 0 and 1 often
    come so.

    Raises
    ------
    ValueError
        If labels are missing, or text stands beside numbers.
    """
    if getattr(y, "dtype", None) != np.dtype(object):
        return y
    kinds = {
        bool if isinstance(v, bool | np.bool_) else Real if isinstance(v, Real) else type(v)
        for v in y.tolist()
    }
    if any(kind.__name__ in ("NoneType", "NAType", "NaTType") for kind in kinds):
        raise ValueError(
            f"y has missing labels, {sum(v is None or v != v for v in y.tolist()) or 'some'} of "
            f"{len(y)}."
        )
    if Real in kinds or bool in kinds:
        if not kinds <= {Real, bool}:
            names = sorted({type(v).__name__ for v in y.tolist()})
            raise ValueError(f"y mixes labels of the types {', '.join(names)}; give one type.")
        return np.array(y.tolist())
    return y


def validate_parameters(estimator):
    """Check an estimator's constructor parameters against its ``_parameter_constraints``.

    Raises ``sklearn.utils._param_validation.InvalidParameterError`` (a ``ValueError``) that names
    the parameter, what is allowed and the value got."""
    validate_parameter_constraints(
        estimator._parameter_constraints,
        estimator.get_params(deep=False),
        caller_name=type(estimator).__name__,
    )
