"""GLIDER: what a model binds together becomes a cross."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from glider_cases import FAST, TREES, Formula, clicks, numbers, of_formula
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec import CTRClassifier
from sklearn_autorec.feature_crossing import GLIDER
from sklearn_autorec.feature_crossing._glider._explaining import answers_of

SEEDS = range(5)

# Second derivatives need it.
SLOWER = FAST | {"n_instances": 24, "n_perturbations": 400, "max_epochs": 100}


def two_pairs(X):
    return X.sum(1) + 2 * X[:, 1] * X[:, 2] - 2 * X[:, 4] * X[:, 5]


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_pairs_of_a_fitted_model_come_first(seed):
    X, y, _ = clicks(seed)
    glider = GLIDER(TREES, **FAST).fit(X, y)
    assert set(glider.crosses_[:2]) == {("f1", "f2"), ("f3", "f4")}
    assert glider.scores_[1] > 1.5 * glider.scores_[2]
    # The control: a model of shuffled labels has other interactions, and weaker ones.
    shuffled = GLIDER(TREES, **FAST).fit(X, np.random.default_rng(seed).permutation(y))
    assert set(shuffled.crosses_[:2]) != {("f1", "f2"), ("f3", "f4")}
    assert shuffled.scores_[0] < glider.scores_[1]


@pytest.mark.parametrize("background", ["row", "typical", "missing"])
@pytest.mark.parametrize("detector", ["nid", "gradient_nid"])
def test_detectors_and_backgrounds(background, detector):
    X, y, _ = clicks(1)
    glider = GLIDER(TREES, detector=detector, background=background, **SLOWER).fit(X, y)
    assert set(glider.crosses_[:2]) == {("f1", "f2"), ("f3", "f4")}


def test_a_network_of_the_package_as_the_source():
    X, y, _ = clicks(2)
    model = CTRClassifier(network="fm", lr=0.01, max_epochs=8, random_state=0, device="cpu")
    glider = GLIDER(model, background="missing", max_crosses=2, **FAST).fit(X, y)
    assert set(glider.crosses_) == {("f1", "f2"), ("f3", "f4")}
    assert isinstance(glider.estimator_, CTRClassifier) and not hasattr(model, "net_")


@pytest.mark.parametrize("detector", ["nid", "gradient_nid"])
def test_a_formula_is_read(detector):
    glider = of_formula(two_pairs, numbers(), detector=detector, **SLOWER)
    assert set(glider.crosses_[:2]) == {("x1", "x2"), ("x4", "x5")}
    assert glider.scores_[1] > 4 * glider.scores_[2]
    assert (
        glider.interactions_
        == glider.crosses_
        == list(glider.interaction_scores_)[: len(glider.crosses_)]
    )
    assert_allclose(
        glider.scores_, list(glider.interaction_scores_.values())[: len(glider.crosses_)]
    )
    assert (
        glider.interaction_counts_["x1", "x2"] >= 18
        and max(glider.interaction_counts_.values()) <= 24
    )
    assert list(glider.interaction_scores_.values()) == sorted(
        glider.interaction_scores_.values(), reverse=True
    )


def test_a_sum_has_no_crosses():
    X = numbers()
    glider = of_formula(lambda Z: Z @ np.arange(7.0), X)
    assert (
        glider.crosses_ == [] and glider.interaction_scores_ == {} and glider.scores_.shape == (0,)
    )
    assert_array_equal(glider.transform(X), X)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    assert GLIDER(LogisticRegression(), **FAST).fit(X, y).crosses_ == []


def test_strengths_of_a_product_are_known():
    # Against a background b the answer is linear in masks but for (a1 - b1)(a2 - b2) z1 z2.
    X = np.random.default_rng(0).choice([-1.0, 1.0], size=(400, 4))
    glider = of_formula(lambda Z: Z[:, 0] + 3 * Z[:, 1] * Z[:, 2], X, n_instances=64)
    assert glider.crosses_[0] == ("x1", "x2")
    # (a - b) is 0 in half of the rows, 2 in the others: 3 |a1 - b1| |a2 - b2| is 12 in a quarter of
    # them.
    assert 0.6 * 3 < glider.scores_[0] < 1.4 * 3


def test_triples_are_found_where_asked_for():
    def triple(Z):
        return Z.sum(1) + 3 * Z[:, 0] * Z[:, 1] * Z[:, 2]

    X = np.random.default_rng(0).choice([-1.0, 1.0], size=(300, 6)) + 2
    glider = of_formula(triple, X, max_order=3, n_perturbations=600)
    assert glider.crosses_[0] == ("x0", "x1", "x2")
    # Nothing that contains or is contained in a stronger set.
    for a, b in itertools.combinations(glider.crosses_, 2):
        assert not set(a) <= set(b) and not set(b) <= set(a)
    assert {len(c) for c in of_formula(triple, X, max_order=2).crosses_} == {2}


def test_several_classes_and_numbers():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {f"c{i}": pd.Categorical(rng.integers(3, size=4000).astype(str)) for i in range(5)}
    )
    codes = np.stack([X[c].cat.codes for c in X], 1).astype(int)
    latent = codes[:, 0] + 2 * ((codes[:, 1] + codes[:, 2]) % 3)
    classes = np.array(["low", "mid", "high"])[np.digitize(latent + rng.normal(size=4000), [2, 4])]
    assert GLIDER(TREES, **FAST).fit(X, classes).crosses_[0] == ("c1", "c2")
    trees = HistGradientBoostingRegressor(max_iter=60, random_state=0)
    assert GLIDER(trees, **FAST).fit(X, latent + rng.normal(size=4000)).crosses_[0] == ("c1", "c2")


class Fixed(ClassifierMixin, BaseEstimator):
    """Probabilities that stand in the table."""

    def predict_proba(self, X):
        return np.asarray(X)


def test_answers_are_log_odds_of_the_likeliest_class():
    p = np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.0, 1.0, 0.0]])
    found = answers_of(Fixed(), p, np.array([0, 0, 1]))
    assert_allclose(found, [0, np.log(0.1 / 0.9), np.log((1 - 1e-5) / 1e-5)])
    assert_allclose(
        answers_of(Fixed(), p[:2, :2], np.array([0, 0])), np.log([0.2 / 0.8, 0.6 / 0.4])
    )
    with pytest.raises(ValueError, match="two classes or more"):
        answers_of(Fixed(), p[:, :1], np.zeros(3, int))


# prefit
# ------------------------------------------------------------------------------------------------


def test_a_fitted_estimator_is_asked_as_it_is():
    X, y, _ = clicks(0)
    trees = clone(TREES).fit(X[:3000], y[:3000])
    bits = pickle.dumps(trees)
    glider = GLIDER(trees, prefit=True, **FAST).fit(X[3000:])
    assert glider.estimator_ is trees and pickle.dumps(trees) == bits
    assert set(glider.crosses_[:2]) == {("f1", "f2"), ("f3", "f4")}
    with pytest.raises(NotFittedError):
        GLIDER(TREES, prefit=True, **FAST).fit(X)
    frozen = GLIDER(FrozenEstimator(trees), **FAST).fit(X[3000:], y[3000:])
    assert set(frozen.crosses_[:2]) == set(glider.crosses_[:2])
    assert clone(frozen).fit(X[3000:], y[3000:]).crosses_ == frozen.crosses_


def test_explained_rows_are_not_those_of_the_fit():
    class Memory(Formula):
        def fit(self, X, y):
            self.seen_ = {row.tobytes() for row in X}
            Memory.trained = len(X)
            return self

        def predict(self, X):
            # An instance with nothing replaced.
            assert not any(row.tobytes() in self.seen_ for row in X[[0]])
            return X[:, 0] * X[:, 1]

    X = numbers(50)
    GLIDER(
        Memory(), n_instances=1, n_perturbations=50, validation_fraction=0.3, random_state=0
    ).fit(X, X[:, 0])
    assert Memory.trained == 35


def test_rare_classes_are_in_the_fit():
    X = np.random.default_rng(0).integers(3, size=(100, 4))
    y = np.array(["a"] * 60 + ["b"] * 39 + ["c"])
    for seed in range(6):
        glider = GLIDER(
            DecisionTreeClassifier(max_depth=3),
            n_instances=2,
            n_perturbations=20,
            random_state=seed,
        ).fit(X, y)
        assert glider.estimator_.classes_.tolist() == ["a", "b", "c"]
