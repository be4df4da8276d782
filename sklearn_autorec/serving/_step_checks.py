"""Checks of single fitted attributes of scikit-learn's steps."""

import numpy as np
from sklearn.base import BaseEstimator


def _is_int(value, low=0, high=2**62):
    return (
        isinstance(value, int | np.integer) and not isinstance(value, bool) and low <= value < high
    )


def _is_bool(value, _):
    return isinstance(value, bool)


def _per_feature(value, n):
    return isinstance(value, np.ndarray) and value.shape == (n,) and value.dtype.kind == "f"


def _none_or_per_feature(value, n):
    return value is None or _per_feature(value, n)


def _int_array(value, high):
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        and value.dtype.kind in "iu"
        and bool(((value >= 0) & (value < high)).all())
    )


def _seen(value, n):
    if isinstance(value, np.ndarray):
        return value.shape == (n,) and value.dtype.kind in "if" and bool((value >= 0).all())
    return isinstance(value, int | float | np.integer | np.floating) and value >= 0


def _categories(value, n):
    return isinstance(value, list) and len(value) == n and all(map(_distinct, value))


def _distinct(values):
    """Different values, rising where they are numbers (scikit-learn searches them by halving), at
    most one nan, at the end.
    """
    if not isinstance(values, np.ndarray) or values.ndim != 1 or not len(values):
        return False
    if values.dtype.kind in "iuf":
        known = values[:-1] if values[-1] != values[-1] else values
        return (
            bool((np.diff(known.astype(np.float64)) >= 0).all())
            and np.unique(known).size == known.size
        )
    return values.dtype.kind in "OUb" and len(set(values.tolist())) == len(values)


def _missing_indices(value, n):
    return isinstance(value, dict) and all(
        _is_int(k, high=n) and _is_int(v) for k, v in value.items()
    )


def _per_column_ints(value, n):
    return (
        isinstance(value, list)
        and len(value) == n
        and all(v is None or _int_array(v, 2**31) for v in value)
    )


def _drop_idx(value, n):
    if value is None:
        return True
    return (
        isinstance(value, np.ndarray)
        and value.shape == (n,)
        and all(v is None or _is_int(v) for v in value.tolist())
    )


def _dtype(value, _):
    return isinstance(value, np.dtype)


def _transformers(value, n):
    return isinstance(value, list) and all(
        isinstance(t, tuple)
        and len(t) == 3
        and isinstance(t[0], str)
        and (
            t[1] in ("drop", "passthrough")
            if isinstance(t[1], str)
            else isinstance(t[1], BaseEstimator)
        )
        for t in value
    )


def _input_indices(value, n):
    return isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, list) and all(_is_int(i, high=n) for i in v)
        for k, v in value.items()
    )


def _output_indices(value, _):
    return isinstance(value, dict) and all(
        isinstance(k, str) and isinstance(v, slice) and _is_int(v.start) and _is_int(v.stop)
        for k, v in value.items()
    )


def _output_names(value, _):
    return (
        isinstance(value, np.ndarray)
        and value.ndim == 1
        and all(isinstance(v, str) for v in value.tolist())
    )


def _finite(array):
    """Finite, and small enough to stay so when multiplied by such a number."""
    return array.dtype.kind == "f" and bool(
        (np.abs(array) <= np.finfo(array.dtype).max ** 0.5).all()
    )


def _finite_array(value):
    return isinstance(value, np.ndarray) and _finite(value)


def _number(value, _=None):
    """A finite float, of Python or numpy, or a whole number."""
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and bool(np.isfinite(value))
    )


def _rising(value):
    return _finite_array(value) and value.ndim == 1 and bool((np.diff(value) > 0).all())


def _classes(value):
    """Labels in order, each once."""
    if not isinstance(value, np.ndarray) or value.ndim != 1 or not len(value):
        return False
    values = np.unique(value)
    return value.dtype.kind in "iufbOU" and np.array_equal(values, value)


def _float_arrays(value, _):
    return isinstance(value, list) and all(_finite_array(v) and v.ndim == 1 for v in value)


def _edges_of_bins(value, n):
    """Of each column the edges of its bins, rising."""
    return (
        isinstance(value, list)
        and len(value) == n
        and all(
            isinstance(v, np.ndarray)
            and v.ndim == 1
            and len(v) > 1
            and v.dtype.kind == "f"
            and not np.isnan(v).any()
            and bool((v[1:] >= v[:-1]).all())
            for v in value
        )
    )


def _estimators(value, _):
    return isinstance(value, list) and len(value) > 0 and all(map(_is_estimator, value))


def _is_estimator(value, _=None):
    return isinstance(value, BaseEstimator)


def _is_tuple_of(value, length):
    return isinstance(value, tuple) and len(value) == length
