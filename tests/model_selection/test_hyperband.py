"""Successive halving and Hyperband against Algorithm 1, on estimators whose score is a
known curve.
"""

import pickle
from fractions import Fraction
from math import ceil, floor

import known_curves
import numpy as np
import pytest
from known_curves import Curve, Rows, StepCurve, columns
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import HalvingRandomSearchCV, KFold, LeaveOneOut
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_autorec.model_selection import (
    HyperbandSearchCV,
    RandomSampler,
    SuccessiveHalvingSearchCV,
)
from sklearn_autorec.model_selection._halving import largest_power

X = np.zeros((12, 2))
Y = np.tile([0, 1], 6)
ONE_SPLIT = [(np.arange(8), np.arange(8, 12))]
CURVES = {"a": uniform(0.2, 0.8), "b": loguniform(0.01, 2)}


def curve(params, r):
    return params["a"] * (1 - np.exp(-params["b"] * r))


def hyperband(estimator=None, space=None, **options):
    options = {"resource": "epochs", "cv": ONE_SPLIT, "random_state": 0, "refit": False, **options}
    return HyperbandSearchCV(estimator or Curve(), space or CURVES, **options)


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


def test_rows_as_the_resource_are_nested_stratified_and_tested_on_all_test_rows():
    known_curves.TRAINED.clear()
    y = np.repeat([0, 1], [30, 90])
    search = SuccessiveHalvingSearchCV(Rows(), {"a": uniform()}, cv=3, random_state=0, refit=False)
    search.fit(np.zeros((120, 1)), y)
    assert (search.max_resources_, search.min_resources_) == (80, 12)
    assert search.cv_results_["n_resources"].tolist() == [26] * 3 + [80]
    assert "n_samples" not in search.cv_results_["params"][0]
    for n_rows, share, _ in known_curves.TRAINED:
        assert abs(share * n_rows - n_rows / 4) <= 1
    # 40 test rows in every rung: the score holds their number.
    scores, a = (
        search.cv_results_["mean_test_score"],
        [p["a"] for p in search.cv_results_["params"]],
    )
    np.testing.assert_allclose(
        scores, np.array(a) * search.cv_results_["n_resources"] + 40e-6, rtol=1e-9
    )
    told = search.metadata(np.zeros((120, 1)), y)
    assert told["brackets"] == search.brackets_ and told["n_resources"] == 3 * 26 + 80


def test_the_rows_of_a_rung_are_among_those_of_the_next():
    seen = {}

    class Seen(Rows):
        def fit(self, X, y):
            seen.setdefault(len(y), []).append(set(X[:, 0]))
            return super().fit(X, y)

    data = np.arange(120.0)[:, None]
    hyperband(
        Seen(), {"a": uniform()}, resource="n_samples", cv=[(np.arange(90), np.arange(90, 120))]
    ).fit(data, np.tile([0, 1, 1], 40))
    sizes = sorted(seen)
    assert len(sizes) > 2 and sizes[-1] == 90
    for less, more in zip(sizes, sizes[1:], strict=False):
        for rows in seen[less]:
            assert rows == seen[less][0] and rows < seen[more][0]


def test_equal_scores_go_to_those_drawn_first():
    found = hyperband(
        space={"a": [0.5], "b": uniform()}, estimator=Flat(), max_resources=9, brackets=[2]
    ).fit(X, Y)
    for rung, n in enumerate((9, 3, 1)):
        here = found.cv_results_["iter"] == rung
        assert found.cv_results_["candidate"][here].tolist() == list(range(n))
    assert found.cv_results_["candidate"][found.best_index_] == 0


class Flat(Curve):
    def score(self, X, y):
        return 0.5


def test_a_small_space_begins_at_a_later_rung():
    space = {"a": [0.2, 0.4, 0.6, 0.8]}
    with pytest.warns(UserWarning, match="space has 4 candidates, the first bracket wants 27"):
        search = hyperband(space=space, max_resources=27).fit(X, Y)
    found = search.cv_results_
    first = found["bracket"] == 3
    assert found["n_resources"][first].tolist() == [3] * 4 + [9] * 3 + [27]
    assert search.best_params_["a"] == 0.8


def test_a_sampler_hears_every_rung_and_is_asked_for_every_bracket():
    said = []

    class Teller(RandomSampler):
        def ask(self, n):
            said.append(n)
            return super().ask(n)

        def tell(self, params, score, resource):
            said.append((resource, round(score - curve(params, resource), 12)))

    search = hyperband(max_resources=9, sampler=Teller).fit(X, Y)
    n = iter(said)
    for asked, rungs in ((9, (9, 3, 1)), (5, (5, 1)), (3, (3,))):
        assert next(n) == asked
        for i, size in enumerate(rungs):
            assert [next(n) for _ in range(size)] == [(9 // 3 ** (len(rungs) - 1 - i), 0.0)] * size
    assert next(n, None) is None
    assert columns(search) == columns(hyperband(max_resources=9).fit(X, Y))


def test_one_random_state_gives_one_table():
    first, again, other = (
        columns(hyperband(max_resources=9, random_state=s).fit(X, Y)) for s in (3, 3, 4)
    )
    assert first == again != other
    state = np.random.RandomState(3)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert columns(hyperband(max_resources=9, random_state=state).fit(X, Y)) == first
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_pickle_and_clone():
    search = hyperband(max_resources=9, refit=True, warm=True).fit(X, Y)
    copy = pickle.loads(pickle.dumps(search))
    assert columns(copy) == columns(search) and copy.best_estimator_.r_ == 9
    np.testing.assert_array_equal(copy.predict(X), search.predict(X))
    assert not hasattr(clone(search), "cv_results_")


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"resource": "max_epochs", "max_resources": 9},
            "resource='max_epochs' is no parameter of Curve",
        ),
        (
            {"space": {"epochs": [1, 2]}, "max_resources": 9},
            "given to the candidates; it cannot be searched",
        ),
        (
            {"space": [{"a": [1]}, {"epochs": randint(1, 3)}], "max_resources": 9},
            "cannot be searched",
        ),
        ({}, 'max_resources="auto" needs resource="n_samples"'),
        ({"max_resources": 4, "min_resources": 9}, "min_resources=9 is more than max_resources=4"),
        ({"max_resources": 9, "brackets": [3]}, r"brackets=\[3\]: there are those from 0 to 2"),
        ({"max_resources": 9, "brackets": []}, r"brackets=\[\]: there are"),
        ({"resource": "n_samples", "max_resources": 9}, "the smallest training split has 8 rows"),
        ({"resource": "n_samples", "warm": True}, "use warm=False"),
        ({"max_resources": 9, "cv": []}, "gives no splits"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        hyperband(**options).fit(X, Y)


@pytest.mark.parametrize(
    "options",
    [
        {"eta": 1},
        {"eta": 2.5},
        {"max_resources": 0},
        {"sampler": "tpe?"},
        {"max_time": 0},
        {"checkpoint": 3},
    ],
)
def test_parameters_are_validated(options):
    name = next(iter(options))
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of HyperbandSearchCV"):
        hyperband(**{"max_resources": 9, **options}).fit(X, Y)


def test_an_estimator_that_cannot_go_on_is_refused():
    class Plain(Curve):
        def __init__(self, a=1.0, b=1.0, epochs=1):
            super().__init__(a=a, b=b, epochs=epochs)

    with pytest.raises(ValueError, match="Plain has not. Use warm=False"):
        hyperband(Plain(), max_resources=9, warm=True).fit(X, Y)


def test_metadata_needs_the_rows_where_they_decide():
    search = SuccessiveHalvingSearchCV(LogisticRegression(), {"C": uniform()})
    with pytest.raises(ValueError, match="metadata needs X"):
        search.metadata()
    assert search.metadata(X, Y)["n_splits"] == 5
    search = hyperband(max_resources=9, cv=LeaveOneOut())
    assert search.metadata(X, Y)["n_fits"] == 12 * 22
    assert hyperband(max_resources=9, cv=KFold(4)).metadata()["n_fits"] == 4 * 22
