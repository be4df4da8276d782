"""The scikit-learn estimators that hold no others and may stand in a saved model: their fitted
attributes, each with its check.
"""

import numpy as np
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeCV
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    LabelEncoder,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from ..utils._sklearn import SigmoidCalibration, TemperatureScaling
from ._step_checks import (
    _categories,
    _classes,
    _distinct,
    _drop_idx,
    _dtype,
    _edges_of_bins,
    _finite,
    _finite_array,
    _float_arrays,
    _int_array,
    _is_bool,
    _is_int,
    _missing_indices,
    _none_or_per_feature,
    _number,
    _per_column_ints,
    _per_feature,
    _rising,
    _seen,
)

_ENCODER = {"categories_": _categories, "_infrequent_enabled": _is_bool}
_INFREQUENT = {
    "_infrequent_indices": _per_column_ints,
    "_default_to_infrequent_mappings": _per_column_ints,
}

# Of regressions: one row of coefficients a target, or the only one.
_LINEAR = {
    "coef_": lambda v, n: (
        isinstance(v, np.ndarray) and v.ndim in (1, 2) and v.shape[-1] == n and _finite(v)
    ),
    "intercept_": lambda v, n: _number(v, n) or _finite_array(v),
}

# Class: attributes it must have once fitted, and those it may have.
SINGLE: dict[type, tuple[dict, dict]] = {
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
    Ridge: (
        {
            **_LINEAR,
            "n_iter_": lambda v, n: v is None or _int_array(v, 2**31),
            "solver_": lambda v, n: isinstance(v, str),
        },
        {},
    ),
    RidgeCV: (
        {**_LINEAR, "alpha_": _number, "best_score_": _number},
        {"cv_results_": lambda v, n: isinstance(v, np.ndarray) and v.dtype.kind == "f"},
    ),
    LinearRegression: (
        _LINEAR,
        {
            "rank_": lambda v, n: _is_int(v),
            "singular_": lambda v, n: isinstance(v, np.ndarray) and v.dtype.kind == "f",
        },
    ),
    MaxAbsScaler: (
        {"scale_": _per_feature, "max_abs_": _per_feature, "n_samples_seen_": _seen},
        {},
    ),
    RobustScaler: ({"center_": _none_or_per_feature, "scale_": _none_or_per_feature}, {}),
    QuantileTransformer: (
        {
            "n_quantiles_": lambda v, n: _is_int(v, low=1),
            "references_": lambda v, n: _rising(v),
            "quantiles_": lambda v, n: (
                isinstance(v, np.ndarray)
                and v.ndim == 2
                and v.shape[1] == n
                and v.dtype.kind == "f"
                and not (np.diff(v, axis=0) < 0).any()
            ),
        },
        {},
    ),
    PowerTransformer: (
        {"lambdas_": _per_feature},
        {"_scaler": lambda v, n: type(v) is StandardScaler and v.n_features_in_ == n},
    ),
    Normalizer: ({}, {}),
    Binarizer: ({}, {}),
    KBinsDiscretizer: (
        {
            "bin_edges_": _edges_of_bins,
            "n_bins_": lambda v, n: _int_array(v, 2**31) and v.shape == (n,),
        },
        {"_encoder": lambda v, n: type(v) is OneHotEncoder and v.n_features_in_ == n},
    ),
    TargetEncoder: (
        {
            **_ENCODER,
            "target_type_": lambda v, n: v in ("continuous", "binary", "multiclass"),
            "classes_": lambda v, n: v is None or _classes(v),
            "target_mean_": lambda v, n: _number(v, n) or _finite_array(v),
            "encodings_": _float_arrays,
        },
        _INFREQUENT,
    ),
    LabelEncoder: ({"classes_": lambda v, n: _classes(v)}, {}),
    IsotonicRegression: (
        {
            "X_min_": _number,
            "X_max_": _number,
            "X_thresholds_": lambda v, n: _rising(v) and len(v) > 0,
            "y_thresholds_": lambda v, n: _finite_array(v) and v.ndim == 1,
            "increasing_": lambda v, n: isinstance(v, bool | np.bool_),
        },
        {},
    ),
    SigmoidCalibration: ({"a_": _number, "b_": _number}, {}),
    TemperatureScaling: ({"beta_": _number}, {}),
}

# What stands in others only: of labels, outputs and what is missing.
PARTS_ONLY = (
    LabelEncoder,
    IsotonicRegression,
    SigmoidCalibration,
    TemperatureScaling,
    MissingIndicator,
)

# Of what scikit-learn keeps no number of columns.
WITHOUT_WIDTH = (LabelEncoder, IsotonicRegression, SigmoidCalibration, TemperatureScaling)
