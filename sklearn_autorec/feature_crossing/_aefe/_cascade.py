"""Filter, embedded and wrapper stage: from many features of pairs of columns to the few that help a
model.
"""

import math
import time

import numpy as np
from scipy.stats import t as student
from sklearn.base import clone
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor
from sklearn.metrics import check_scoring
from sklearn.utils.parallel import Parallel, delayed

from ...utils._progress import NoProgress
from ._pair_features import Statistic, random_folds

ALPHA = 0.01  # chance that a cascade without any useful candidate takes one, min_gain="auto"
N_NULL = 10  # useless columns tried to see what chance gains
N_FOLDS = 5  # of target means
ROWS_OF_TREES = 20_000
SAME = 1 - 1e-9  # correlation from which a feature is a copy


class Split:
    """Training and test rows of one fold, and the features on both.

    Parameters
    ----------
    data : Data
    train, test : int ndarray
    folds : int ndarray of shape (n_train,)
        Of the cross-fitted target means of the training rows.
    """

    def __init__(self, data, train, test, folds):
        self.data, self.train, self.test, self.folds = data, train, test, folds
        self.ids_train = {i: column[train] for i, column in data.ids.items()}
        self.ids_test = {i: column[test] for i, column in data.ids.items()}
        self.made = {}

    def columns(self, feature):
        """(n_train, k) and (n_test, k) of a feature, or of the table itself for None; kept."""
        if feature not in self.made:
            self.made[feature] = self._base() if feature is None else self._make(feature)
        return self.made[feature]

    def _make(self, feature):
        statistic = Statistic(feature, self.data.options)
        targets = self.data.targets[self.train]
        train = statistic.fit_transform(self.ids_train, self.data.sizes, targets, self.folds)
        return train.astype(np.float32), statistic.transform(self.ids_test).astype(np.float32)

    def _base(self):
        parts = [self._make(feature) for feature in self.data.single]
        train, test = (
            np.hstack([self.data.numbers[rows], *part])
            for rows, part in (
                (self.train, [p[0] for p in parts]),
                (self.test, [p[1] for p in parts]),
            )
        )
        return train, test

    def matrices(self, features):
        """The table and some features side by side, on training and test rows."""
        parts = [self.columns(feature) for feature in (None, *features)]
        return np.hstack([p[0] for p in parts]), np.hstack([p[1] for p in parts])


class Data:
    """Encoded rows.

    Parameters
    ----------
    ids, sizes : dict of int to ndarray, dict of int to int
        Ids of each column by position, and their numbers.
    single : list of Feature
        Target means that stand for categorical columns.
    numbers : float32 ndarray of shape (n_rows, n_numbers)
        Numeric columns, scaled, without missing cells.
    y : ndarray of shape (n_rows,)
        As the estimator takes it.
    targets : float64 ndarray of shape (n_rows, C)
        What target means are taken of.
    options : AEFE
    """

    def __init__(self, ids, sizes, single, numbers, y, targets, options):
        self.ids, self.sizes, self.single, self.numbers = ids, sizes, single, numbers
        self.y, self.targets, self.options = y, targets, options


class Cascade:
    """The three stages.

    Parameters
    ----------
    data : Data
    splits : list of (ndarray, ndarray)
        Training and test rows of each fold.
    estimator : estimator
    classification : bool
    rng : RandomState
    deadline : float
        `time.monotonic` after which nothing new is tried.
    progress : FitProgress or None

    Attributes
    ----------
    counts : dict of str to int
        Candidates left after each stage.
    base_score : float
    interrupted : bool
        Whether the user has stopped it, with a feature or more.
    history : list of dict
    """

    def __init__(
        self, data, splits, estimator, classification, rng, deadline=math.inf, progress=None
    ):
        self.data, self.estimator, self.classification = data, estimator, classification
        self.options, self.rng, self.deadline = data.options, rng, deadline
        self.progress = NoProgress() if progress is None else progress
        self.splits = [
            Split(data, train, test, random_folds(data.y[train], N_FOLDS, rng, classification))
            for train, test in splits
        ]
        scoring = self.options.scoring
        if scoring == "auto":
            probabilistic = classification and hasattr(estimator, "predict_proba")
            scoring = (
                log_likelihood
                if probabilistic
                else None
                if classification
                else "neg_mean_squared_error"
            )
        self.scorer = check_scoring(estimator, scoring)
        self.counts, self.history, self.base_score = {}, [], math.nan
        self.interrupted = False

    def in_time(self):
        return time.monotonic() < self.deadline and not self.progress.stopped

    def run(self, features):
        """The features that the wrapper took, in that order, and their gains."""
        self.counts["constructed"] = len(features)
        with self.progress.task("filter", len(features)):
            features = self.filtered(features)
        self.counts["filter"] = len(features)
        with self.progress.task("embedded", 0):
            features = self.embedded(features)
        self.counts["embedded"] = len(features)
        with self.progress.task("wrapper"):
            taken, gains = self.wrapped(features)
        self.counts["wrapper"] = len(taken)
        return taken, gains

    def filtered(self, features):
        """Features that vary and are no copies of others, on the training rows of the first
        fold.
        """
        kept, seen = [], []
        for feature in features:
            if not self.in_time():
                break
            columns = self.splits[0].columns(feature)[0].astype(np.float64)
            self.progress.step("feature")
            if not (columns.var(0) > self.options.variance_threshold).any():
                continue
            centred = columns - columns.mean(0)
            norm = np.linalg.norm(centred)
            if norm == 0:
                continue
            vector = (centred / norm).ravel()
            if not any(len(v) == len(vector) and abs(v @ vector) > SAME for v in seen):
                seen.append(vector)
                kept.append(feature)
        return kept

    def embedded(self, features):
        """Features that an estimator finds important when it sees all, most important first."""
        if not features or not self.in_time():
            return []
        split = self.splits[0]
        rows = self.rng.permutation(len(split.train))[:ROWS_OF_TREES]
        widths = [split.columns(feature)[0].shape[1] for feature in (None, *features)]
        model = clone(self.options.selector) if self.options.selector is not None else self._trees()
        model.fit(split.matrices(features)[0][rows], self.data.y[split.train[rows]])
        importance = importances(model, sum(widths))
        parts = np.split(importance, np.cumsum(widths)[:-1])[1:]
        importance = np.array([part.sum() for part in parts])
        least = np.quantile(importance, self.options.importance_quantile)
        order = np.argsort(-importance, kind="stable")
        return [features[k] for k in order if importance[k] >= least and importance[k] > 0]

    def _trees(self):
        trees = ExtraTreesClassifier if self.classification else ExtraTreesRegressor
        return trees(
            50,
            max_depth=10,
            min_samples_leaf=5,
            n_jobs=self.options.n_jobs,
            random_state=self.rng.randint(2**31 - 1),
        )

    def wrapped(self, features):
        """Go through the features, and take those with which the estimator scores better on the
        test rows of all folds.

        Returns
        -------
        list of Feature, list of float
        """
        if not self.in_time():
            return [], []
        self.base_score = self.score([])
        if not features:
            return [], []
        least = self._least_gain(features)
        taken, gains, failures, score = [], [], 0, self.base_score
        size = self.options.block_size
        for start in range(0, len(features), size):
            if failures >= self.options.patience or not self.in_time() or least is None:
                break
            block = features[start : start + size][: self.options.max_features - len(taken)]
            if not block:
                break
            try:
                new = self.score([*taken, *block])
            except KeyboardInterrupt:
                if not taken:
                    raise
                self.interrupted = True
                break
            gain = new - score
            good = gain > 0 and gain >= least
            self.history.append(
                {
                    "features": block,
                    "score": new,
                    "gain": gain,
                    "min_gain": least,
                    "taken": bool(good),
                }
            )
            failures = 0 if good else failures + 1
            if good:
                taken += block
                gains += [gain / len(block)] * len(block)
                score = new
        return taken, gains

    def _least_gain(self, features):
        """What a block must gain; None if time is up."""
        if self.options.min_gain != "auto":
            return self.options.min_gain
        gains = []
        for k in range(N_NULL):
            if not self.in_time():
                return None
            # A candidate whose rows are shuffled has its distribution and is of no use.
            feature = features[k % len(features)]
            gains.append(
                self.score([], shuffled=(feature, self.rng.randint(2**31 - 1))) - self.base_score
            )
        spread = np.std(gains, ddof=1) * math.sqrt(1 + 1 / N_NULL)
        quantile = student.isf(ALPHA / len(features), N_NULL - 1)
        return float(max(np.mean(gains), 0) + quantile * spread)

    def score(self, features, shuffled=None):
        """Mean score over the folds of the estimator with some features, and with one that is
        shuffled.
        """
        jobs = []
        for split in self.splits:
            train, test = split.matrices(features)
            if shuffled is not None:
                feature, seed = shuffled
                rng = np.random.default_rng(seed)
                extra = [rng.permutation(part) for part in split.columns(feature)]
                train, test = np.hstack([train, extra[0]]), np.hstack([test, extra[1]])
            jobs.append((train, self.data.y[split.train], test, self.data.y[split.test]))
        scores = Parallel(n_jobs=self.options.n_jobs)(
            delayed(fit_and_score)(clone(self.estimator), self.scorer, *job) for job in jobs
        )
        self.progress.step("evaluation")
        return float(np.mean(scores))


def fit_and_score(estimator, scorer, X_train, y_train, X_test, y_test):
    """The score of an estimator on test rows."""
    return float(scorer(estimator.fit(X_train, y_train), X_test, y_test))


def log_likelihood(estimator, X, y):
    """Minus the log loss; classes that the estimator never saw have the least probability of
    floats.
    """
    p = estimator.predict_proba(X)
    place = np.searchsorted(estimator.classes_, y)
    known = estimator.classes_[np.minimum(place, len(estimator.classes_) - 1)] == y
    right = np.where(known, p[np.arange(len(y)), np.minimum(place, p.shape[1] - 1)], 0)
    return float(np.log(np.clip(right, 1e-15, 1)).mean())


def importances(model, n_columns):
    """Importance of each column to a fitted model, (n_columns,)."""
    found = getattr(model, "feature_importances_", None)
    if found is None and hasattr(model, "coef_"):
        found = np.abs(model.coef_).reshape(-1, n_columns).mean(0)
    if found is None:
        raise ValueError(
            f"selector must have feature_importances_ or coef_ once fitted, got {model!r:.200}."
        )
    return np.asarray(found)
