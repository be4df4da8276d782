"""What the fitted attributes of one scikit-learn estimator have to do with each other."""

import numpy as np
from sklearn import preprocessing
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeCV

from ._nodes import refuse
from ._step_checks import _int_array
from ._step_table import _INFREQUENT


def _check_logistic(step, cls):
    rows = 1 if len(step.classes_) == 2 else len(step.classes_)
    if step.coef_.shape[0] != rows or step.intercept_.shape != (rows,):
        refuse(
            f"{cls}: coef_, intercept_",
            f"of {rows} rows",
            (step.coef_.shape, step.intercept_.shape),
        )


def _check_linear(step, cls):
    rows, shape = step.coef_.shape[:-1], np.shape(step.intercept_)
    if shape not in ((), rows):
        refuse(f"{cls}: intercept_", f"of shape {rows}", shape)


def _check_centred(step, cls):
    """Scalers that subtract and divide, as far as their parameters say so."""
    if isinstance(step, preprocessing.StandardScaler):
        names, wanted = ("mean_", "scale_"), (step.with_mean, step.with_std)
    else:
        names, wanted = ("center_", "scale_"), (step.with_centering, step.with_scaling)
    for name, there in zip(names, wanted, strict=True):
        if there and getattr(step, name) is None:
            refuse(f"{cls}: {name}", "an array", None)


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
    if isinstance(step, preprocessing.TargetEncoder):
        _check_targets(step, cls, sizes)
        return
    if isinstance(step, preprocessing.OrdinalEncoder):
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


def _check_targets(step, cls, sizes):
    """The means of a `TargetEncoder`: one a category, of several classes one for each of them."""
    n_classes = 1
    if step.target_type_ == "multiclass":
        n_classes = 0 if step.classes_ is None else len(step.classes_)
    if np.shape(step.target_mean_) not in ((), (n_classes,)):
        refuse(f"{cls}: target_mean_", f"of {n_classes} numbers", step.target_mean_)
    if step.target_type_ == "multiclass" and np.shape(step.target_mean_) != (n_classes,):
        refuse(f"{cls}: target_mean_", f"of {n_classes} numbers", step.target_mean_)
    if step._infrequent_enabled:
        refuse(f"{cls}: _infrequent_enabled", "False", True)
    wanted = [size for size in sizes for _ in range(n_classes)]
    if [len(values) for values in step.encodings_] != wanted:
        refuse(f"{cls}: encodings_", f"of {wanted} numbers", step.encodings_)


def _check_imputer(step, cls):
    if step.add_indicator != (step.indicator_ is not None):
        refuse(f"{cls}: indicator_", "there if add_indicator is set", step.indicator_)


def _check_quantiles(step, cls):
    shape = (len(step.references_), step.n_features_in_)
    if step.quantiles_.shape != shape or step.n_quantiles_ != shape[0]:
        refuse(f"{cls}: quantiles_", f"of shape {shape}", step.quantiles_.shape)


def _check_power(step, cls):
    if step.standardize != hasattr(step, "_scaler"):
        refuse(f"{cls}: _scaler", "there if standardize is set", getattr(step, "_scaler", None))


def _check_bins(step, cls):
    if [len(edges) - 1 for edges in step.bin_edges_] != step.n_bins_.tolist():
        refuse(f"{cls}: n_bins_", "one less than the edges of each column", step.n_bins_)
    encoder = getattr(step, "_encoder", None)
    if (step.encode == "ordinal") != (encoder is None):
        refuse(f"{cls}: _encoder", 'there unless encode="ordinal"', encoder)
    if encoder is not None and [len(c) for c in encoder.categories_] != step.n_bins_.tolist():
        refuse(f"{cls}: _encoder", "one of the bins of each column", encoder.categories_)


def _check_isotonic(step, cls):
    if len(step.X_thresholds_) != len(step.y_thresholds_):
        refuse(f"{cls}: y_thresholds_", f"{len(step.X_thresholds_)} numbers", step.y_thresholds_)
    if (step.X_min_, step.X_max_) != (step.X_thresholds_[0], step.X_thresholds_[-1]):
        refuse(f"{cls}: X_min_, X_max_", "the first and last threshold", step.X_min_)


# By class: checks of a step whose attributes are set, and its class name for messages.
WHOLES = {
    LogisticRegression: _check_logistic,
    Ridge: _check_linear,
    RidgeCV: _check_linear,
    LinearRegression: _check_linear,
    preprocessing.StandardScaler: _check_centred,
    preprocessing.RobustScaler: _check_centred,
    preprocessing.OrdinalEncoder: _check_encoder,
    preprocessing.OneHotEncoder: _check_encoder,
    preprocessing.TargetEncoder: _check_encoder,
    SimpleImputer: _check_imputer,
    preprocessing.QuantileTransformer: _check_quantiles,
    preprocessing.PowerTransformer: _check_power,
    preprocessing.KBinsDiscretizer: _check_bins,
    IsotonicRegression: _check_isotonic,
}
