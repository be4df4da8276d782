"""Estimators of the crossed linear model."""

import numpy as np
from scipy.special import expit
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import (
    StrOptions,
    check_y,
)
from ..utils._state import reads_once
from ..utils._typing import Array, Floats, Table
from ._base import CrossedLinearBase


@inherits_entries
class CrossedLinearClassifier(ClassifierMixin, CrossedLinearBase):
    """Logistic regression on raw tables that finds its own crosses of columns.

    One weight for each value of a column, bin of a number, item of a list and combination of a
    cross; the crosses are found by the search of `AutoCross`. Small, fast, and every weight has a
    name.

    Parameters
    ----------
    {max_crosses to encoder}
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with ``sample_weight``.
    {random_state, verbose}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    {crosses_}
    scores_ : ndarray of shape (n_crosses,)
        What each gained in the log loss of held-out rows when it came in (several classes: summed
        over them).
    {coefficients_, encoder_}
    n_features_in_, feature_names_in_
        Columns seen in ``fit``.

    Notes
    -----
    Missing is a value of its own. Values that training has not seen weigh nothing, which is what
    the model expects of a value of which it knows nothing; unseen combinations have the weight of
    rare ones. Several classes are each told from the rest, and their probabilities divided by their
    sum; they share the crosses that gain most.

    Examples
    --------
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(8000, n_fields=5, cardinality=8, pairs=[(0, 1)], random_state=0)
    >>> model = CrossedLinearClassifier(random_state=0).fit(X, y)
    >>> model.crosses_
    [('f0', 'f1')]
    >>> model.explain(X.head(2)).columns.tolist()
    ['intercept', 'f0', 'f1', 'f2', 'f3', 'f4', 'f0 x f1']
    """

    _parameter_constraints = {
        **CrossedLinearBase._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    @stores_parameters
    def __init__(
        self,
        max_crosses=10,
        *,
        max_order=4,
        n_bins=(5, 20, 100),
        min_count=2,
        l2="auto",
        min_gain="auto",
        n_folds="auto",
        class_weight=None,
        encoder=None,
        random_state=None,
        verbose=0,
    ):
        """Store the parameters."""

    def _checked_target(self, y):
        y = check_y(y, self)
        check_classification_targets(y)
        return y

    def _targets(self, y, weight):
        self.classes_, codes = np.unique(y, return_inverse=True)
        n = len(self.classes_)
        if n < 2:
            raise ValueError(
                f"y must have two classes or more, got 1 class, {self.classes_[0]!r}, in all rows."
            )
        if self.class_weight is not None:
            balance = compute_sample_weight(self.class_weight, y)
            if weight is not None and self.class_weight == "balanced":
                totals = np.bincount(codes, weight, n)
                balance = (weight.sum() / (n * totals))[codes]
            weight = balance if weight is None else weight * balance
        targets = (codes == 1) if n == 2 else codes[:, None] == np.arange(n)
        return targets.astype(np.float64), weight, True

    @reads_once
    def decision_function(self, X: Table) -> Floats:
        """Logits: of the second class, (n_rows,), or of each class against the rest, (n_rows,
        n_classes).
        """
        return self._logits(X)

    @reads_once
    def predict_proba(self, X: Table) -> Floats:
        """Probabilities of the classes, float64 ndarray of shape (n_rows, n_classes)."""
        p = expit(self._logits(X))
        if p.ndim == 1:
            return np.column_stack([1 - p, p])
        p = np.maximum(p, 1e-300)
        return p / p.sum(1, keepdims=True)

    @reads_once
    def predict(self, X: Table) -> Array:
        """The most likely class of each row, ndarray of shape (n_rows,)."""
        logits = self._logits(X)
        return self.classes_[(logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(1)]

    def _weight_names(self):
        return (
            ["weight"]
            if len(self.classes_) == 2
            else [f"weight of {name}" for name in self.classes_]
        )


@inherits_entries
class CrossedLinearRegressor(RegressorMixin, CrossedLinearBase):
    """Linear regression on raw tables that finds its own crosses of columns.

    `CrossedLinearClassifier` for numbers and ratings.

    Parameters
    ----------
    {max_crosses to verbose}

    Attributes
    ----------
    {crosses_}
    scores_ : ndarray of shape (n_crosses,)
        What each gained in the squared error of held-out rows when it came in, as a share of the
        target's variance.
    {coefficients_, encoder_}
    n_features_in_, feature_names_in_
        Columns seen in ``fit``.

    Notes
    -----
    The penalty is in units of the residuals' variance, so that ``l2`` means the same for targets of
    any scale.

    Examples
    --------
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"]] * 30
    >>> y = [5.0, 1.0, 1.0, 5.0] * 30
    >>> model = CrossedLinearRegressor(random_state=0).fit(X, y)
    >>> model.crosses_
    [('x0', 'x1')]
    >>> model.predict([["ann", "tea"]]).round(1)
    array([5.])
    """

    def _checked_target(self, y):
        return check_y(y, self, y_numeric=True).astype(np.float64)

    def _targets(self, y, weight):
        return y, weight, False

    @reads_once
    def predict(self, X: Table) -> Floats:
        """Predicted numbers, float64 ndarray of shape (n_rows,)."""
        return self._logits(X)
