"""Successive halving and Hyperband against Algorithm 1, on estimators whose score is a
known curve.
"""

from fractions import Fraction
from math import ceil, floor

import known_curves
import numpy as np
import pytest
from hyperband_cases import CURVES, ONE_SPLIT, X, Y, curve, hyperband
from known_curves import Curve, StepCurve, columns
from scipy.stats import uniform
from sklearn.datasets import make_classification
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import HalvingRandomSearchCV

from sklearn_autorec.model_selection import (
    SuccessiveHalvingSearchCV,
)
from sklearn_autorec.model_selection._halving import largest_power


def algorithm_1(R, eta, draw):
    """Li et al. 2018, Algorithm 1, in fractions: (bracket, rung, resource, candidates) of every
    rung.
    """
    s_max = 0
    while Fraction(eta) ** (s_max + 1) <= R:
        s_max += 1
    B = (s_max + 1) * R
    for s in range(s_max, -1, -1):
        n = ceil(Fraction(B, R) * Fraction(eta**s, s + 1))
        r = Fraction(R, eta**s)
        T = draw(s, n)
        for i in range(s + 1):
            n_i, r_i = floor(Fraction(n, eta**i)), floor(r * eta**i)
            assert len(T) == n_i
            yield s, i, r_i, T
            T = sorted(T, key=lambda params: -curve(params, r_i))[: floor(Fraction(n_i, eta))]


@pytest.mark.parametrize(
    "R, eta, warm",
    [
        (R, eta, False)
        for R, eta in (
            (1, 3),
            (9, 3),
            (27, 3),
            (81, 3),
            (100, 3),
            (16, 2),
            (50, 4),
            (25, 5),
            (100, 10),
        )
    ]
    + [(27, 3, True), (50, 4, True), (25, 5, True)],
)
def test_the_survivors_of_every_rung_are_those_of_algorithm_1(R, eta, warm):
    found = hyperband(max_resources=R, eta=eta, warm=warm).fit(X, Y).cv_results_

    def rows(s, i):
        return np.flatnonzero((found["bracket"] == s) & (found["iter"] == i))

    def draw(s, n):
        return [
            {k: v for k, v in found["params"][row].items() if k != "epochs"} for row in rows(s, 0)
        ]

    n_rows = 0
    for s, i, r, expected in algorithm_1(R, eta, draw):
        here = rows(s, i)
        n_rows += len(here)
        key = [tuple(sorted({**params, "epochs": r}.items())) for params in expected]
        assert sorted(tuple(sorted(found["params"][row].items())) for row in here) == sorted(key)
        assert set(found["n_resources"][here]) == {r}
        np.testing.assert_allclose(
            found["mean_test_score"][here],
            [curve(found["params"][row], r) for row in here],
            rtol=1e-12,
        )
    assert n_rows == len(found["params"])


# R: starts of the brackets, configurations, units cold, units warm, bound; card 4.3 of the
# project's notes, eta = 3.
BUDGET = {
    9: ([9, 5, 3], 17, 78, 69, 81),
    27: ([27, 12, 6, 4], 49, 423, 357, 432),
    81: ([81, 34, 15, 8, 5], 143, 1902, 1581, 2025),
    243: ([243, 98, 41, 18, 9, 6], 415, 8457, 6831, 8748),
}


@pytest.mark.parametrize("R", BUDGET)
def test_metadata_tells_the_budget_before_anything_runs(R):
    starts, configurations, cold, warm, bound = BUDGET[R]
    search = hyperband(max_resources=R)
    told = search.metadata()
    assert [b["n_candidates"][0] for b in told["brackets"]] == starts
    assert (told["n_candidates"], told["n_resources"], told["n_resources_spent"]) == (
        configurations,
        cold,
        cold,
    )
    told = search.set_params(warm=True).metadata()
    assert (told["n_resources"], told["n_resources_spent"]) == (cold, warm) and cold <= bound
    assert not hasattr(search, "cv_results_")


def test_rungs_of_81_epochs():
    rungs = {
        b["bracket"]: list(zip(b["n_candidates"], b["n_resources"], strict=True))
        for b in hyperband(max_resources=81).metadata()["brackets"]
    }
    assert rungs == {
        4: [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        3: [(34, 3), (11, 9), (3, 27), (1, 81)],
        2: [(15, 9), (5, 27), (1, 81)],
        1: [(8, 27), (2, 81)],
        0: [(5, 81)],
    }


@pytest.mark.parametrize("warm, units", [(False, 1902), (True, 1581)])
@pytest.mark.parametrize("estimator", [Curve(), StepCurve()])
def test_what_was_told_is_what_is_trained(estimator, warm, units):
    known_curves.TRAINED.clear()
    search = hyperband(estimator, max_resources=81, warm=warm).fit(X, Y)
    told = search.metadata()
    assert sum(n for _, _, n in known_curves.TRAINED) == units
    assert (
        search.cv_results_["n_resources_spent"].sum()
        == search.total_resources_
        == told["n_resources_spent"]
        == units
    )
    assert search.cv_results_["n_resources"].sum() == told["n_resources"] == 1902
    assert len(search.cv_results_["params"]) * search.n_splits_ == told["n_fits"]
    assert search.cv_results_["candidate"].max() + 1 == told["n_candidates"] == 143
    assert search.brackets_ == told["brackets"]


def test_warm_differs_from_cold_in_what_is_spent_alone():
    cold, warm = (
        columns(hyperband(max_resources=27, warm=warm).fit(X, Y)) for warm in (False, True)
    )
    assert cold.pop("n_resources_spent") != warm.pop("n_resources_spent")
    assert cold == warm


@pytest.mark.parametrize(
    "base, power", [(3, 5), (10, 3), (2, 29), (5, 3), (6, 3), (7, 11), (3, 40)]
)
def test_powers_are_exact(base, power):
    """math.log(243, 3) is 4.999...; so lose three well-known libraries a bracket."""
    assert largest_power(base, base**power) == power
    assert largest_power(base, base**power - 1) == power - 1


def test_243_epochs_have_six_brackets_and_1000_by_ten_have_four():
    assert len(hyperband(max_resources=243).metadata()["brackets"]) == 6
    assert len(hyperband(max_resources=1000, eta=10).metadata()["brackets"]) == 4
    assert (
        min(b["n_resources"][0] for b in hyperband(max_resources=729).metadata()["brackets"]) == 1
    )


def test_bounds_and_brackets_can_be_chosen():
    told = hyperband(max_resources=81, min_resources=5).metadata()["brackets"]
    assert [b["n_resources"] for b in told] == [[9, 27, 81], [27, 81], [81]]
    assert [b["n_candidates"][0] for b in told] == [9, 5, 3]
    told = hyperband(max_resources=9, brackets=[1, 1, 0]).metadata()["brackets"]
    assert [b["n_candidates"] for b in told] == [[5, 1], [5, 1], [3]]


@pytest.mark.parametrize(
    "options, rungs",
    [
        ({}, [(27, 1), (9, 3), (3, 9), (1, 27)]),
        ({"n_candidates": 10}, [(10, 3), (3, 9), (1, 27)]),
        ({"n_candidates": 40}, [(40, 1), (13, 3), (4, 9), (1, 27)]),
        ({"n_candidates": 2}, [(2, 27)]),
        ({"min_resources": 3}, [(9, 3), (3, 9), (1, 27)]),
        ({"eta": 2, "max_resources": 10}, [(8, 1), (4, 2), (2, 5), (1, 10)]),
    ],
)
def test_rungs_of_successive_halving(options, rungs):
    options = {
        "max_resources": 27,
        "resource": "epochs",
        "cv": ONE_SPLIT,
        "refit": False,
        **options,
    }
    search = SuccessiveHalvingSearchCV(Curve(), CURVES, random_state=0, **options)
    (bracket,) = search.metadata()["brackets"]
    assert list(zip(bracket["n_candidates"], bracket["n_resources"], strict=True)) == rungs
    found = search.fit(X, Y).cv_results_
    assert [(int((found["iter"] == i).sum()), r) for i, (_, r) in enumerate(rungs)] == rungs


def test_of_crossing_curves_the_bracket_that_stops_nobody_finds_the_late_one():
    # A slow start: nothing before epoch 10, 0.86 at 27; the others have 0.5 to 0.6 after one.
    space = [{"a": uniform(0.5, 0.1), "b": [3.0]}, {"a": [0.9], "b": [0.2], "c": [10]}]
    won = []
    for seed in range(5):
        early = hyperband(space=space, max_resources=27, brackets=[3], random_state=seed).fit(X, Y)
        whole = hyperband(space=space, max_resources=27, random_state=seed).fit(X, Y)
        assert early.best_params_["a"] < 0.7
        assert whole.best_score_ >= early.best_score_ - 0.02
        if whole.best_params_["a"] == 0.9:
            won.append(seed)
            assert whole.cv_results_["bracket"][whole.best_index_] <= 1
    assert len(won) >= 4


def test_the_winner_has_all_of_the_resource_although_an_earlier_rung_scored_more():
    class Overfitting(Curve):
        def score(self, X, y):
            return self.a - 0.01 * self.r_

    search = hyperband(Overfitting(), max_resources=9, refit=True).fit(X, Y)
    found = search.cv_results_
    assert found["mean_test_score"].max() > search.best_score_
    whole = found["n_resources"] == 9
    assert search.best_score_ == found["mean_test_score"][whole].max() and whole[search.best_index_]
    assert search.best_estimator_.r_ == 9


def test_results_are_those_of_scikit_learn_where_the_rules_agree():
    """Nine candidates, all of the space, eta 3: ceil and floor keep the same."""
    data, y = make_classification(300, n_informative=4, flip_y=0.1, random_state=0)
    space = {"alpha": [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0]}
    model = SGDClassifier(
        loss="log_loss", tol=None, random_state=0, learning_rate="constant", eta0=0.01
    )
    options = {
        "resource": "max_iter",
        "max_resources": 9,
        "cv": 3,
        "random_state": 0,
        "scoring": "neg_log_loss",
    }
    theirs = HalvingRandomSearchCV(model, space, n_candidates=9, min_resources=1, **options).fit(
        data, y
    )
    ours = SuccessiveHalvingSearchCV(model, space, return_train_score=True, **options).fit(data, y)
    assert ours.best_params_ == theirs.best_params_ and ours.best_score_ == theirs.best_score_
    assert set(theirs.cv_results_) < set(ours.cv_results_)
    scores = [
        k
        for k in theirs.cv_results_
        if k.startswith(("split", "mean_t", "std_t")) and "time" not in k
    ]

    def rows(search):
        found = search.cv_results_
        return sorted(
            (int(i), int(r), *sorted(p.items()), *(found[k][row] for k in scores))
            for row, (i, r, p) in enumerate(
                zip(found["iter"], found["n_resources"], found["params"], strict=True)
            )
        )

    assert rows(ours) == rows(theirs)
    np.testing.assert_array_equal(ours.predict(data), theirs.predict(data))
    for column in set(theirs.cv_results_) - {"params"}:
        assert type(ours.cv_results_[column]) is type(theirs.cv_results_[column]), column
        assert ours.cv_results_[column].dtype == theirs.cv_results_[column].dtype, column
