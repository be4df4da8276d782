"""The dull baseline of every selection of fields: subsets drawn at random."""

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.utils import check_random_state

from ...datasets._table_blocks import drawn_rows, is_dataset, takes_datasets
from ...utils._docs import inherits_entries
from ...utils._parameters import stores_parameters
from ...utils._sklearn import HasMethods, Interval, validate_parameters
from ...utils._state import all_or_nothing
from ...utils._typing import Column, Table
from ._subset_scorer import bits_of, mean_difference
from ._subset_selector import SubsetSelector, ranking


class RandomSearch:
    """Random subsets until the budget is used up or no new ones turn up."""

    def __init__(self, scorer, size, n_subsets, rng):
        self.scorer, self.size, self.n_subsets, self.rng = scorer, size, n_subsets, rng

    def run(self):
        fields = np.flatnonzero(self.scorer.distinct)
        self.scorer([self.scorer.everything])
        for _ in range(self.n_subsets):
            # A random size first: at half of the fields each, small subsets would never be seen.
            size = (
                self.rng.randint(1, len(fields) + 1)
                if self.size is None
                else min(self.size, len(fields))
            )
            self.scorer([bits_of(self.rng.choice(fields, size, replace=False))])

    def results(self):
        return {"scores_": mean_difference(self.scorer.history, self.scorer.n_fields)}


@inherits_entries
class RandomSubset(SubsetSelector):
    """Random subsets of columns: what a search must beat with as many evaluations.

    Parameters
    ----------
    estimator : estimator or None, default=None
        Scores the subsets, of which the best is kept. None: one subset is drawn and nothing is
        fitted, a baseline for selections that fit no subsets either.
    n_features_to_select : "auto", int or float, default="auto"
        Columns of a subset; a float is a share of all. "auto" draws the size as well.
    {scoring, cv}
    max_evaluations : int, default=200
        Subsets to fit at most, that of all columns included; twice as many are drawn at most.
    {max_time, random_state}
    n_jobs : int or None, default=None
        Processes for the folds of a subset.

    Attributes
    ----------
    {support_}
    scores_ : ndarray of shape (``n_features_in_``,)
        Mean score of the subsets with a column less that of those without; zeros without an
        estimator.
    {ranking_}
    best_score_, no_fields_score_ : float
        Score of the kept subset and of a constant prediction; NaN without an estimator.
    {search_history_ to feature_names_in_}

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_autorec.feature_selection import RandomSubset
    >>> X = np.zeros((10, 6))
    >>> RandomSubset(n_features_to_select=2, random_state=0).fit_transform(X, np.zeros(10)).shape
    (10, 2)
    """

    _parameter_constraints = {
        **SubsetSelector._parameter_constraints,
        "estimator": [HasMethods(["fit"]), None],
        "max_evaluations": [Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        estimator=None,
        *,
        n_features_to_select="auto",
        scoring=None,
        cv=3,
        max_evaluations=200,
        max_time=None,
        random_state=None,
        n_jobs=None,
    ):
        """Store the parameters."""

    @all_or_nothing
    @takes_datasets
    def fit(self, X: Table, y: Column = None, **params: Any) -> Self:
        """Search, or draw; see `FSTD.fit`. Without an estimator y is not read."""
        if self.estimator is not None:
            return super().fit(X, y, **params)  # type: ignore[arg-type]
        validate_parameters(self)
        if is_dataset(X):  # of which the names of the columns are read
            X, _ = drawn_rows(X, y, needs_target=False)
        n = len(self._check_table(X, y)[2])
        rng, size = check_random_state(self.random_state), self._size(n)
        size = rng.randint(1, n + 1) if size is None else size
        self.support_ = np.isin(np.arange(n), rng.choice(n, size, replace=False))
        self.scores_ = np.zeros(n)
        self.ranking_ = ranking(self.support_, self.scores_)
        self.best_score_ = self.no_fields_score_ = np.nan
        self.search_history_, self.n_evaluations_ = [], 0
        return self

    def _begin(self, X, y, scorer, size, rng):
        return RandomSearch(scorer, size, 2 * self.max_evaluations, rng)
