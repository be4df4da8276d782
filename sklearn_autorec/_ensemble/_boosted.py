"""Boosted trees over numbers and target statistics of an encoded table."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from ..feature_crossing._keys import choose_keys
from ..feature_crossing._target_statistics._statistics import Statistics
from ._codes import FieldCodes
from ._trees import TreeSum

STOP_AFTER = 10  # trees without improvement on the held-out rows
MANY_ROWS = 100_000  # from which on trees are larger, folds smaller, and means trusted earlier
LEAVES, LEAVES_OF_MANY = 8, 31
FOLDS, FOLDS_OF_MANY = 5, 20
SMOOTHING, SMOOTHING_OF_MANY = 10.0, 2.0


class StatisticsBoosting:
    """Gradient-boosted trees over the numbers of a table and the target statistics of its fields
    and crosses.

    Training rows get statistics out of sample (see `Statistics`); the trees of one bag share a draw
    of folds.

    Parameters
    ----------
    logistic : bool
        Log loss of 0/1, or squared error of numbers.
    max_crosses, max_order : int
        See `choose_keys`.
    learning_rate, max_trees, min_samples_leaf, l2
        Of the trees.
    max_leaf_nodes, n_folds, smoothing : numbers or None
        Of the trees and of the statistics. None follows the rows: 8, 5 and 10, from 100,000 rows on
        31, 20 and 2. With smaller folds a training row is told more nearly what a later one will be
        told; where rows are few, a row's own target could be told from what is missing.
    n_bags : int
        Sums of trees that are averaged, each with a draw of folds of its own.

    Attributes
    ----------
    crosses : list of tuple of int
        Fields (categorical, then numeric) of the statistics beside those of single categorical
        fields.
    codes : FieldCodes
    statistics : Statistics
    trees : list of TreeSum
    """

    def __init__(
        self,
        logistic: bool,
        *,
        max_crosses: int = 20,
        max_order: int = 2,
        learning_rate: float = 0.2,
        max_trees: int = 1000,
        max_leaf_nodes: int | None = None,
        min_samples_leaf: int = 40,
        l2: float = 5.0,
        smoothing: float | None = None,
        n_folds: int | None = None,
        n_bags: int = 3,
    ) -> None:
        self.logistic = logistic
        self.max_crosses, self.max_order = max_crosses, max_order
        self.learning_rate, self.max_trees, self.max_leaf_nodes = (
            learning_rate,
            max_trees,
            max_leaf_nodes,
        )
        self.min_samples_leaf, self.l2, self.smoothing = min_samples_leaf, l2, smoothing
        self.n_folds, self.n_bags = n_folds, n_bags

    def fit(self, table, n_ids, y, weight=None, *, rng, valid=None, keys=None, n_trees=None):
        """Choose crosses, learn statistics, grow trees.

        Parameters
        ----------
        table : EncodedTable
        n_ids : list of int
            Of the categorical fields.
        y : float ndarray of shape (n_rows,)
        weight : ndarray of shape (n_rows,) or None
        rng : RandomState
        valid : (EncodedTable, y, weight), or None
            Rows whose loss says when to stop.
        keys : list of tuple of int or None
            Crosses that are known already.
        n_trees : int or None
            Trees of each bag; None: up to ``max_trees``, until ``valid`` is no longer predicted
            better.

        Returns
        -------
        self
        """
        y = np.asarray(y, dtype=np.float64)
        self.codes = FieldCodes.learned(table, n_ids)
        columns = self.codes.columns(table)
        if keys is None:
            keys = choose_keys(
                columns,
                self.codes.sizes,
                y,
                logistic=self.logistic,
                weight=weight,
                rng=rng,
                max_crosses=self.max_crosses,
                max_order=self.max_order,
                fill=True,
            )
        self.crosses = list(keys)
        keys = [*((i,) for i in range(len(n_ids))), *keys]
        many = len(y) >= MANY_ROWS
        n_folds = self.n_folds or (FOLDS_OF_MANY if many else FOLDS)
        smoothing = self.smoothing
        if smoothing is None:
            smoothing = SMOOTHING_OF_MANY if many else SMOOTHING
        self.statistics = Statistics(keys, smoothing=smoothing, method="folds", n_folds=n_folds)
        self.trees = []
        for _ in range(self.n_bags):
            found = self.statistics.fit_transform(columns, y, weight, self.codes.sizes, rng=rng)
            features = self._with_numbers(table, found)
            if not features.shape[1]:
                raise ValueError("There are neither numbers nor categories to grow trees on.")
            self.trees.append(
                self._grow(features, y, weight, n_trees or self.max_trees, valid, rng)
            )
        return self

    def _grow(self, features, y, weight, n_trees, valid, rng):
        # Scikit-learn bins no column without a value. As a constant one it is never split on, so
        # that nothing later depends on it.
        features = np.where(np.isnan(features).all(0), np.float32(0.0), features)
        make = HistGradientBoostingClassifier if self.logistic else HistGradientBoostingRegressor
        many = len(y) >= MANY_ROWS
        boosting = make(
            learning_rate=self.learning_rate,
            max_iter=n_trees,
            max_leaf_nodes=self.max_leaf_nodes or (LEAVES_OF_MANY if many else LEAVES),
            min_samples_leaf=self.min_samples_leaf,
            l2_regularization=self.l2,
            early_stopping=valid is not None,
            n_iter_no_change=STOP_AFTER,
            tol=0.0,
            random_state=int(rng.randint(2**31 - 1)),
        )
        held_out = {}
        if valid is not None:
            held_table, held_y, held_weight = valid
            held_out = {"X_val": self.features(held_table), "y_val": self._labels(held_y)}
            if held_weight is not None:
                held_out["sample_weight_val"] = held_weight
        trees = TreeSum.of(boosting.fit(features, self._labels(y), weight, **held_out))
        if valid is not None:
            losses = -boosting.validation_score_[1:]
            trees = trees.first(int(np.argmin(losses)) + 1)
        return trees

    def _labels(self, y):
        return np.asarray(y).astype(np.int64) if self.logistic else y

    def _with_numbers(self, table, found):
        m = table.numeric.shape[1] // 2
        numbers = np.where(table.numeric[:, m:] > 0, np.float32(np.nan), table.numeric[:, :m])
        return np.hstack([numbers, found])

    def features(self, table):
        """What the trees see, float32 (n_rows, n_features)."""
        return self._with_numbers(table, self.statistics.transform(self.codes.columns(table)))

    def logits(self, table):
        """Logits (or numbers) of the rows, float64 (n_rows,)."""
        if self.__dict__.get("_all") is None:
            self._all = TreeSum.joined(self.trees)  # one walk through all trees, where rows are few
        return self._all.predict(self.features(table)) / len(self.trees)

    def __getstate__(self):
        return {**self.__dict__, "_all": None}
