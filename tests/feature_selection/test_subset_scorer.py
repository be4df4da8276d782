"""The scorer of subsets against scikit-learn and numpy."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge
from sklearn.metrics import check_scoring
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.feature_selection._subsets._subset_scorer import (
    StopSearch,
    SubsetScorer,
    bitmask,
    bits_of,
    equal_columns,
    mean_difference,
    unpack,
)

FOLDS = StratifiedKFold(3)


def table(n=150, d=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 4, (n, d)).astype(float)
    return X, (X[:, 0] + X[:, 1] + rng.integers(0, 2, n) > 3).astype(int)


def scorer_of(X, y, estimator=None, scoring="roc_auc", **options):
    estimator = estimator or DecisionTreeClassifier(random_state=0)
    splits = list(FOLDS.split(X, y))
    return SubsetScorer(
        estimator,
        check_scoring(estimator, scoring=scoring),
        X,
        y,
        splits,
        equal_columns(list(X.T)),
        **options,
    )


@pytest.mark.parametrize("n", [1, 7, 8, 9, 70])
def test_bitmasks(n):
    mask = np.random.default_rng(n).random(n) < 0.5
    assert bitmask(mask) == sum(2**f for f in range(n) if mask[f]) == bits_of(np.flatnonzero(mask))
    np.testing.assert_array_equal(unpack(bitmask(mask), n), mask)
    # What lies above is not read.
    np.testing.assert_array_equal(unpack(bitmask(mask) | 5 << n, n), mask)


def test_equal_columns():
    nan = np.nan
    columns = {
        "a": [1.0, 2.0, nan, 2.0],
        "b": [1.0, 2.0, nan, 3.0],
        "same as a": [1.0, 2.0, nan, 2.0],
        "a elsewhere missing": [1.0, nan, 2.0, 2.0],
        "relabelled": [5.0, 7.0, nan, 7.0],
        "one value": [3.0, 3.0, 3.0, 3.0],
        "all missing": [nan] * 4,
        "one value or missing": [3.0, nan, 3.0, 3.0],
        "text": ["1", "2", None, "2"],
        "text again": ["1", "2", None, "2"],
        "lists": [[1], [1], [2], []],
        "lists again": [[1], [1], [2], []],
        "no text": [None] * 4,
        "integers": [1, 2, 3, 2],
    }
    X = pd.DataFrame(columns)
    expected = [0, 1, 0, 3, 4, -1, -1, 7, 8, 8, 10, 11, -1, 13]
    assert equal_columns([column for _, column in X.items()]).tolist() == expected
    assert equal_columns(list(np.array([[1, 2, 1, 0], [2, 2, 2, 0]]).T)).tolist() == [0, -1, 0, -1]


def test_scores_are_those_of_cross_validation():
    X, y = table()
    scorer = scorer_of(X, y)
    subsets = [(0,), (1, 3), (0, 1, 2, 3, 4)]
    found = scorer([bits_of(s) for s in subsets])
    expected = [
        cross_val_score(
            DecisionTreeClassifier(random_state=0), X[:, list(s)], y, scoring="roc_auc", cv=FOLDS
        ).mean()
        for s in subsets
    ]
    np.testing.assert_allclose(found, expected)
    assert scorer.no_fields == 0.5
    assert [r["subset"] for r in scorer.history] == subsets
    assert [r["evaluation"] for r in scorer.history] == [1, 2, 3]
    loss = scorer_of(X, y, scoring="neg_log_loss").no_fields
    np.testing.assert_allclose(
        loss, cross_val_score(DummyClassifier(), X, y, scoring="neg_log_loss", cv=FOLDS).mean()
    )
    assert scorer_of(X, X[:, 0], Ridge(), "neg_mean_squared_error").no_fields < 0


def test_no_subset_is_fitted_twice_and_the_budget_is_exact():
    X, y = table()
    X = np.c_[X, X[:, 1], np.ones(len(X))]  # 5 repeats 1, and 6 is constant
    scorer = scorer_of(X, y, max_evaluations=3)
    a = scorer([bits_of([1]), bits_of([1]), bits_of([5]), bits_of([1, 5, 6]), bits_of([0, 5])])
    assert len(scorer.history) == 2 and len(set(a[:4])) == 1
    assert [r["subset"] for r in scorer.history] == [(1,), (0, 1)]
    assert scorer([0]) == scorer([bits_of([6])]) == scorer.no_fields
    assert scorer.known(bits_of([5, 6])) == a[0] and np.isnan(scorer.known(bits_of([2])))
    with pytest.raises(StopSearch) as stop:
        scorer([bits_of([2]), bits_of([3])])
    assert stop.value.reason is None  # nothing to warn of
    assert len(scorer.history) == 3 and not np.isnan(scorer.known(bits_of([2])))
    # What is known can still be had.
    np.testing.assert_array_equal(scorer([bits_of([0, 1, 6])]), a[4:])
    assert scorer.distinct.tolist() == [True] * 5 + [False] * 2


def test_time_is_up_after_the_first():
    X, y = table()
    scorer = scorer_of(X, y, max_time=1e-9)
    time.sleep(0.001)
    with pytest.raises(StopSearch, match="max_time=1e-09 seconds"):
        scorer([1, 2, 4])
    assert len(scorer.history) == 1


def test_best_prefers_the_smaller_and_then_the_earlier():
    X, y = table()
    scorer = scorer_of(X, y)
    subsets = [0b111, 0b11, 0b101, 0b1, 0b11111]
    scorer(subsets)
    for record, score in zip(scorer.history, (0.8, 0.8, 0.8, np.nan, 0.7), strict=True):
        record["score"] = score
    assert scorer.best() == 0b11
    assert scorer.best(3) == 0b111 and scorer.best(1) is None and scorer.best(4) is None


def test_top_fills_up_and_leaves_what_no_fit_sees_for_the_end():
    X, y = table(d=3)
    X = np.c_[X, X[:, 0], np.zeros(len(X))]  # 3 repeats 0
    scorer = scorer_of(X, y)
    scores = np.array([0.5, 0.1, 0.2, 0.6, 0.9])
    assert scorer.top(scores, 1) == bits_of([0])  # by the score of its repetition
    assert scorer.top(scores, 2) == bits_of([0, 2])
    assert scorer.top(scores, 2, chosen=bits_of([1])) == bits_of([1, 0])
    assert scorer.top(scores, 4) == bits_of([0, 2, 1, 4])
    assert scorer.top(scores, 5) == 31


def test_mean_difference():
    rng = np.random.default_rng(0)
    held = rng.random((20, 6)) < 0.5
    held[:, 4], held[:, 5] = True, False
    scores = rng.random(20)
    scores[3] = np.nan
    history = [
        {"subset": tuple(np.flatnonzero(row)), "score": score}
        for row, score in zip(held, scores, strict=True)
    ]
    expected = [np.nanmean(scores[held[:, f]]) - np.nanmean(scores[~held[:, f]]) for f in range(4)]
    np.testing.assert_allclose(mean_difference(history, 6), [*expected, 0, 0])
    assert mean_difference([], 2).tolist() == [0, 0]


class Picky(ClassifierMixin, BaseEstimator):
    """Cannot be fitted on some numbers of columns; scores NaN on others."""

    def __init__(self, refuses=(), undefined=()):
        self.refuses, self.undefined = refuses, undefined

    def fit(self, X, y):
        if X.shape[1] in self.refuses:
            raise RuntimeError(f"{X.shape[1]} columns are no good")
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def picky_score(model, X, y):
    return np.nan if X.shape[1] in getattr(model, "undefined", ()) else float(X.shape[1])


def test_subsets_that_cannot_be_fitted_count_as_no_columns():
    X, y = table()
    scorer = scorer_of(X, y, Picky((2,), (3,)), picky_score)
    assert scorer.no_fields == 1.0
    assert scorer([0b11111, 0b11, 0b111, 0b1111]).tolist() == [5, 1, 1, 4]
    assert [r["score"] for r in scorer.history][::3] == [5, 4]
    assert np.isnan([r["score"] for r in scorer.history][1:3]).all()
    assert scorer.failures == ["RuntimeError: 2 columns are no good"] + ["the score is NaN"]
    assert scorer.best() == 0b11111 and scorer.best(2) is None


def test_what_is_wrong_with_the_first_subset_is_raised():
    X, y = table()
    with pytest.raises(RuntimeError, match="5 columns are no good"):
        scorer_of(X, y, Picky((5,)), picky_score)([0b11111])
    with pytest.raises(
        ValueError, match="not a number: scoring must be defined on the test rows of every fold"
    ):
        scorer_of(X, y, Picky((), (5,)), picky_score)([0b11111])
