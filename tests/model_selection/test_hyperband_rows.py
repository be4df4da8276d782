"""Rows as the resource, ties, small spaces, and what Hyperband refuses."""

import pickle

import known_curves
import numpy as np
import pytest
from hyperband_cases import X, Y, curve, hyperband
from known_curves import Curve, Rows, columns
from scipy.stats import randint, uniform
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, LeaveOneOut
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_autorec.model_selection import (
    RandomSampler,
    SuccessiveHalvingSearchCV,
)


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
