"""Metrics of groups as scorers that take the groups from a column of the table, and sizes of
models."""

import inspect
from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd

from ..utils._frames import column_of, table_names
from ..utils._typing import ArrayLike, Column, Table
from ._ranking import grouped_hit_rate, grouped_ndcg_score, grouped_roc_auc_score

METRICS: dict[str, Callable] = {
    "roc_auc": grouped_roc_auc_score,
    "ndcg": grouped_ndcg_score,
    "hit_rate": grouped_hit_rate,
}


class GroupedScorer:
    """See `grouped_scorer`."""

    def __init__(self, metric: str, column: Any, options: dict[str, Any]) -> None:
        self.metric, self.column, self.options = metric, column, options

    def __call__(
        self, estimator: Any, X: Table, y: ArrayLike, sample_weight: Column = None
    ) -> float:
        """Score of a fitted estimator on a table.

        Parameters
        ----------
        estimator : fitted classifier or regressor
        X : DataFrame or array of shape (n_rows, n_columns)
        y : array-like of shape (n_rows,)
        sample_weight : array-like of shape (n_rows,), default=None

        Returns
        -------
        float
        """
        groups = self._groups(X)
        if hasattr(estimator, "predict_proba"):
            probabilities = estimator.predict_proba(X)
            if probabilities.shape[1] != 2:
                raise ValueError(
                    f"A grouped score needs two classes, the estimator has "
                    f"{probabilities.shape[1]}."
                )
            score = probabilities[:, 1]
            y = np.asarray(y) == estimator.classes_[1]
        else:
            score = estimator.predict(X)
        return METRICS[self.metric](
            y, score, groups=groups, sample_weight=sample_weight, **self.options
        )

    def _groups(self, X: Any) -> pd.Series:
        names = table_names(X)
        if names is not None:
            if self.column not in names:
                raise ValueError(
                    f"column={self.column!r} is no column of the table, which has {names[:20]}."
                )
            return pd.Series(list(column_of(X, self.column)))
        table = np.asarray(X)
        if not isinstance(self.column, Integral) or not 0 <= int(self.column) < table.shape[1]:
            raise ValueError(
                f"column={self.column!r} must be a position in 0 to {table.shape[1] - 1}: the "
                f"table is an array."
            )
        return pd.Series(list(table[:, self.column]))

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"grouped_scorer({self.metric!r}, {self.column!r}{options})"


def grouped_scorer(metric: str = "roc_auc", column: Any = "user", **options: Any) -> GroupedScorer:
    """A scorer for grid searches and others, which takes the groups from a column of the table.

    Parameters
    ----------
    metric : {"roc_auc", "ndcg", "hit_rate"}, default="roc_auc"
        `grouped_roc_auc_score`, `grouped_ndcg_score` or `grouped_hit_rate`.
    column : str or int, default="user"
        Name of the column, or its position where the table is an array.
    **options
        Further parameters of the metric, such as ``k=10``.

    Returns
    -------
    callable
        ``scorer(estimator, X, y)``: the probability of the second class ranks the rows, or what
        ``predict`` gives, where the estimator is a regressor. It pickles.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn_autorec.metrics import grouped_scorer
    >>> scorer = grouped_scorer("hit_rate", "user", k=1)
    >>> scorer
    grouped_scorer('hit_rate', 'user', k=1)
    >>> X, y = pd.DataFrame({"user": ["a", "a", "b", "b"]}), [0, 1, 1, 0]
    >>> scorer(DummyClassifier().fit(X, y), X, y)
    0.5
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {list(METRICS)}, got {metric!r}.")
    known = inspect.signature(METRICS[metric]).parameters
    allowed = [name for name in known if name in ("k", "average")]
    for name in options:
        if name not in allowed:
            raise ValueError(f"{name} is no option of metric={metric!r}, which has {allowed}.")
    return GroupedScorer(metric, column, options)


def nbytes_scorer(estimator: Any, X: Any, y: Any = None) -> int:
    """Bytes of a fitted model, as a metric beside others in a search; the rows have no say.

    Parameters
    ----------
    estimator : CTRClassifier, RatingRegressor or Pipeline that ends with one
        Fitted.
    X, y
        Not read.

    Returns
    -------
    int
        ``nbytes_["total"]``. More is not better: it is none to choose the best candidate by.

    Examples
    --------
    >>> from sklearn_autorec.metrics import nbytes_scorer
    >>> scoring = {"nbytes": nbytes_scorer, "auc": "roc_auc"}  # GridSearchCV(..., refit="auc")
    """
    while hasattr(estimator, "steps"):
        estimator = estimator.steps[-1][1]
    if not hasattr(estimator, "nbytes_"):
        raise TypeError(f"estimator={estimator!r:.200} has no nbytes_, the bytes of its network.")
    return estimator.nbytes_["total"]
