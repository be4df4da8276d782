"""What `TargetStatistics` is given beside the table: targets, weights, folds, times and crosses."""

from numbers import Integral

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_consistent_length, has_fit_parameter

from ..preprocessing._values import numeric_values
from ..utils._sklearn import check_y, safe_indexing
from ._statistics import spread_folds


class Target:
    """Targets as the columns whose means are taken.

    Parameters
    ----------
    y : array-like of shape (n_rows,)
    options : TargetStatistics
    n_rows : int
        Of the table.
    weight : ndarray of shape (n_rows,) or None
        Rows without weight tell nothing of classes or scale.

    Attributes
    ----------
    kind : {"binary", "multiclass", "continuous"}
    classes : ndarray or None
    values : float64 ndarray of shape (n_rows, n_targets)
        Numbers are centred and scaled, so that float32 keeps their digits.
    mean : float64 ndarray of shape (n_targets,)
        Of ``y`` itself.
    centre, scale : float
        ``values * scale + centre`` is y.
    """

    def __init__(self, y, options, n_rows, weight):
        y = check_y(y, options)
        check_consistent_length(np.empty(n_rows), y)
        counted = y if weight is None else y[weight > 0]
        if len(counted) < 2:
            raise ValueError(
                f"TargetStatistics needs two rows or more, one of them to learn from, got n_samples = {len(counted)}."
            )
        self.kind = options.target_type if options.target_type != "auto" else type_of_target(counted, input_name="y")
        self.classes, self.centre, self.scale = None, 0.0, 1.0
        if self.kind == "continuous":
            numbers = check_y(y, options, y_numeric=True).astype(np.float64)
            counted = numbers if weight is None else numbers[weight > 0]
            self.centre = float(np.average(counted, weights=None if weight is None else weight[weight > 0]))
            self.scale = float(np.abs(counted - self.centre).max()) or 1.0
            self.values = ((numbers - self.centre) / self.scale)[:, None]
            self.mean = np.array([self.centre])
            return
        check_classification_targets(y)
        self.classes = np.unique(counted)
        if len(self.classes) < 2 or (self.kind == "binary" and len(self.classes) > 2):
            allowed = "two classes" if options.target_type == "binary" else "two classes or more"
            raise ValueError(f"y must have {allowed}, got {len(self.classes)} class(es): {self.classes[:5].tolist()}.")
        seen = self.classes[1:] if self.kind == "binary" else self.classes
        self.values = (y[:, None] == seen).astype(np.float64)
        self.mean = np.average(self.values, axis=0, weights=weight)


def folds_of(cv, X, y, target, weight, rng):
    """Fold of each row, int64 (n_rows,): random ones of even targets, or the test rows of a splitter.

    Rows without weight do not change the folds of the others.
    """
    n = len(target.values)
    if not isinstance(cv, Integral):
        folds = np.full(n, -1)
        for k, (_, test) in enumerate(check_cv(cv, y, classifier=target.classes is not None).split(X, y)):
            rows = np.arange(n)[test]
            if (folds[rows] >= 0).any():
                raise ValueError(f"cv={cv!r} has test rows of one split in another; each row must be in one.")
            folds[rows] = k
        if (folds < 0).any():
            raise ValueError(f"cv={cv!r} leaves out {(folds < 0).sum()} row(s); each must be a test row once.")
        if folds.max() < 1:
            raise ValueError(f"cv={cv!r} has one split; two are needed, for rows to learn from others.")
        return folds
    there = np.ones(n, bool) if weight is None else weight > 0
    folds = np.empty(n, np.int64)
    folds[there] = spread_folds(target.values[there] @ np.arange(1.0, target.values.shape[1] + 1), cv, rng)
    folds[~there] = rng.randint(cv, size=n - there.sum())
    return folds


def times_of(column, name):
    """The column that orders rows, float64 (n_rows,)."""
    try:
        times, _ = numeric_values(column, name)
    except (TypeError, ValueError) as error:
        raise ValueError(f"order names the column {name!r}, which must hold numbers or times: {error}") from error
    if np.isnan(times).any():
        raise ValueError(f"order names the column {name!r}, which has {np.isnan(times).sum()} missing value(s).")
    return times


def searched_crosses(search, X, labels, y, weight):
    """Crosses that a clone of an estimator finds, and the numbers of bins that go with them.

    Parameters
    ----------
    search : estimator with ``crosses_`` once it is fitted
    X : table
    labels : list of str
        Names of its columns.
    y : array-like of shape (n_rows,)
    weight : ndarray of shape (n_rows,) or None

    Returns
    -------
    list of tuple of int, dict of int to int
        By position in X.
    """
    y, options = np.asarray(y), {}
    if weight is not None and has_fit_parameter(search, "sample_weight"):
        options["sample_weight"] = weight
    elif weight is not None:
        rows = np.flatnonzero(weight)
        X, y = safe_indexing(X, rows), y[rows]
    fitted = clone(search).fit(X, y, **options)
    if not hasattr(fitted, "crosses_"):
        raise ValueError(f"crosses must be an estimator that finds crosses_, such as AutoCross(), got {search!r:.200}.")
    crosses = [tuple(labels.index(name) for name in cross) for cross in fitted.crosses_]
    return crosses, {labels.index(name): number for name, number in getattr(fitted, "n_bins_", {}).items()}
