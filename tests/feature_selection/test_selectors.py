"""What every selector that scores subsets owes its user, whichever search it makes."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from selectors_cases import OF_A_SIZE, SELECTORS, every, fitted, make, table
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.feature_selection._subsets._baselines import RandomSearch
from sklearn_autorec.feature_selection._subsets._subset_selector import ranking

# What comes out
# -----------------------------------------------------------------------------------------


@every
def test_what_a_fit_leaves(name):
    X, y = table()
    before, global_state = (
        X.copy(),
        (np.random.mtrand._rand.get_state()[1].copy(), torch.random.get_rng_state()),
    )
    selector = make(name).fit(X, y)
    assert (np.random.mtrand._rand.get_state()[1] == global_state[0]).all()
    assert torch.equal(torch.random.get_rng_state(), global_state[1])
    np.testing.assert_array_equal(X, before)

    assert (
        selector.support_.dtype == bool
        and selector.support_.shape == selector.scores_.shape == (6,)
    )
    assert (selector.ranking_ == 1).tolist() == selector.support_.tolist()
    assert sorted(selector.ranking_[~selector.support_]) == list(
        range(2, 2 + (~selector.support_).sum())
    )
    assert selector.n_evaluations_ == len(selector.search_history_) <= 12
    assert selector.no_fields_score_ == pytest.approx(
        (y == np.bincount(y).argmax()).mean(), abs=0.02
    )
    scores = [r["score"] for r in selector.search_history_]
    if name != "FSTD, filter":
        assert selector.best_score_ == max(scores)
        assert tuple(np.flatnonzero(selector.support_)) in [
            r["subset"] for r in selector.search_history_
        ]
    # All others score all columns together first, so that they cannot end below them.
    if name != "forward":
        assert selector.search_history_[0]["subset"] == tuple(range(6))
    np.testing.assert_array_equal(selector.transform(X), X[:, selector.support_])
    assert selector.get_feature_names_out().tolist() == [
        f"x{f}" for f in np.flatnonzero(selector.support_)
    ]

    assert fitted(clone(selector).fit(X, y)) == fitted(selector)
    again = pickle.loads(pickle.dumps(selector))
    assert fitted(again) == fitted(selector)
    assert not any(isinstance(v, torch.Tensor | torch.nn.Module) for v in vars(again).values())
    if name not in ("permutation", "forward"):
        other = clone(selector).set_params(random_state=1).fit(X, y)
        assert [r["subset"] for r in other.search_history_] != [
            r["subset"] for r in selector.search_history_
        ]


@pytest.mark.parametrize("size", [3, None])
def test_random_subsets_have_as_many_fields_as_asked_for(size):
    asked = []

    def scorer(subsets):
        asked.extend(bits.bit_count() for bits in subsets)

    scorer.distinct, scorer.everything = np.array([True] * 5 + [False]), 31
    RandomSearch(scorer, size, 200, np.random.RandomState(0)).run()
    assert asked[0] == 5 and len(asked) == 201
    counts = np.bincount(asked[1:], minlength=6)
    if size:
        assert counts.tolist() == [0, 0, 0, 200, 0, 0]
    else:  # each size is as likely
        assert counts[0] == 0 and (counts[1:] > 20).all()


def test_ranking():
    found = ranking(np.array([True, False, False, True, False]), np.array([0, 0.1, 0.3, 0, 0.1]))
    assert found.tolist() == [1, 3, 2, 1, 4]


@pytest.mark.parametrize("name", OF_A_SIZE)
@pytest.mark.parametrize("size, n", [(1, 1), (3, 3), (6, 6), (0.5, 3), (0.01, 1)])
def test_a_number_of_columns(name, size, n):
    X, y = table()
    assert make(name, n_features_to_select=size, max_evaluations=8).fit(X, y).support_.sum() == n


@every
def test_documented(name):
    cls = SELECTORS[name][0]
    text = inspect.getdoc(cls)
    assert all(
        f" {p} : " in text or f", {p} : " in text or f"\n{p}" in text
        for p in inspect.signature(cls).parameters
    )
    assert set(inspect.signature(cls).parameters) <= cls._parameter_constraints.keys()


class Interrupted(ClassifierMixin, BaseEstimator):
    """A tree that presses Ctrl-C in its k-th fit; ``count`` is shared by all clones."""

    count = [0]

    def __init__(self, at):
        self.at = at

    def fit(self, X, y):
        self.count[0] += 1
        if self.count[0] == self.at:
            raise KeyboardInterrupt
        self.tree_ = DecisionTreeClassifier(min_samples_leaf=5, random_state=0).fit(X, y)
        self.classes_ = self.tree_.classes_
        return self

    def predict(self, X):
        return self.tree_.predict(X)


# Budgets
# ------------------------------------------------------------------------------------------------


@every
def test_an_interrupt_leaves_the_best_so_far(name):
    X, y = table()
    Interrupted.count[0] = 0
    # Two folds each, and the fits before the first subset: rows by loss, or permutations.
    before = {"DualAgent": 9, "permutation": 2}.get(name, 0)
    with pytest.warns(
        UserWarning,
        match="the search was interrupted after 3 evaluations; the best subset so far is kept",
    ):
        selector = make(name, Interrupted(before + 8)).fit(X, y)
    assert selector.n_evaluations_ == 3
    if name != "FSTD, filter":
        assert selector.best_score_ == max(r["score"] for r in selector.search_history_)
    assert 1 <= selector.transform(X).shape[1] <= 6


def test_an_interrupt_before_the_first_score_is_passed_on():
    X, y = table()
    Interrupted.count[0] = 0
    selector = make("FSTD", Interrupted(2))
    with pytest.raises(KeyboardInterrupt):
        selector.fit(X, y)
    assert not hasattr(selector, "support_")


@every
def test_time_and_evaluations(name):
    X, y = table()
    with pytest.warns(UserWarning, match="max_time=1e-06 seconds were used up after 1 evaluations"):
        selector = make(name, max_time=1e-6).fit(X, y)
    assert selector.n_evaluations_ == 1 and selector.transform(X).shape[1] >= 1
    assert make(name, max_evaluations=1).fit(X, y).n_evaluations_ == 1
    assert make(name, max_evaluations=7).fit(X, y).n_evaluations_ <= 7


def test_jobs_do_not_change_results():
    X, y = table(120)
    walks = {"FSTD": {"n_walks": 3}, "MARLFS": {"n_walks": 3}, "MARLFS, scan": {"n_walks": 2}}
    for name in (
        "FSTD",
        "MARLFS",
        "MARLFS, scan",
        "DualAgent",
        "RandomSubset",
        "permutation",
        "forward",
    ):
        one, two = (
            make(name, max_evaluations=8, n_jobs=n, **walks.get(name, {})).fit(X, y) for n in (1, 2)
        )
        assert fitted(one) == fitted(two), name
