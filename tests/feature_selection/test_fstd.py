from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import FSTD
from sklearn_autorec.feature_selection._subsets._fstd import Walks
from sklearn_autorec.feature_selection._subsets._subset_scorer import StopSearch

MAINS, PAIR = [0, 1], {2, 3}


class Scores:
    """Stands for the scorer: subsets have random scores."""

    no_fields = 0.5

    def __init__(self, n_fields, budget, seed=0):
        self.n_fields, self.budget = n_fields, budget
        self.distinct = np.ones(n_fields, bool)
        self.everything = 2**n_fields - 1
        self.table = np.random.default_rng(seed).random(2**n_fields)
        self.asked: list[list[int]] = []

    def __call__(self, subsets):
        self.asked.append(list(subsets))
        if len(self.asked) > self.budget:
            raise StopSearch
        return self.table[subsets]


def walks(n_fields=5, budget=40, size=None, **options):
    options = {
        "epsilon": 0.0,
        "ucb": 0.5,
        "alpha": 0.3,
        "gamma": 0.7,
        "aor": "difference",
    } | options
    parameters = SimpleNamespace(**{"n_walks": 1, "n_episodes": 1000} | options)
    found = Walks(parameters, Scores(n_fields, budget), size, np.random.RandomState(0))
    found.trace = []
    learn = found.learn

    def traced(*step):
        found.trace.append(step)
        learn(*step)

    found.learn = traced
    with pytest.raises(StopSearch):
        found.run()
    return found


@pytest.mark.parametrize("aor", ["difference", "level"])
@pytest.mark.parametrize("n_walks", [1, 3])
def test_values_and_average_rewards_are_those_of_the_formulas(aor, n_walks):
    found = walks(aor=aor, n_walks=n_walks, epsilon=0.3)
    values, rewards = {}, {f: [] for f in range(5)}
    for state, field, reached, before, after in found.trace:
        assert reached == state | 1 << field and reached != state
        reward = after - before
        values[state] = (1 - 0.3) * values.get(state, 0) + 0.3 * (
            reward + 0.7 * values.get(reached, 0)
        )
        rewards[field].append(reward if aor == "difference" else after)
    assert found.values == pytest.approx(values)
    np.testing.assert_allclose(found.aor, [np.mean(rewards[f]) for f in range(5)])
    assert found.visits.tolist() == [len(rewards[f]) for f in range(5)]
    assert found.scale == max(abs(after - before) for *_, before, after in found.trace)


@pytest.mark.parametrize("ucb", [0.5, 2.0])
def test_the_field_of_the_largest_upper_confidence_bound_is_taken(ucb):
    found = walks(budget=80, ucb=ucb)
    assert {f for _, f, *_ in found.trace[:5]} == set(range(5))  # fields never taken come first
    aor, visits, values, scale = np.zeros(5), np.zeros(5), {}, 0.0
    for step, (state, field, reached, before, after) in enumerate(found.trace):
        if step >= 5:
            absent = [f for f in range(5) if not state >> f & 1]
            total = sum(visits[f] for f in absent)
            bounds = {
                f: aor[f]
                + 0.7 * values.get(state | 1 << f, 0)
                + ucb * scale * np.sqrt(2 * np.log(total) / visits[f])
                for f in absent
            }
            assert bounds[field] == pytest.approx(max(bounds.values()))
        reward = after - before
        scale = max(scale, abs(reward))
        values[state] = values.get(state, 0) + 0.3 * (
            reward + 0.7 * values.get(reached, 0) - values.get(state, 0)
        )
        visits[field] += 1
        aor[field] += (reward - aor[field]) / visits[field]


def test_random_steps_are_random():
    first = np.array(
        [
            asked[0].bit_length() - 1
            for asked in walks(8, 400, epsilon=1.0).scorer.asked
            if asked[0].bit_count() == 1
        ]
    )
    assert (np.bincount(first, minlength=8) > 0.04 * len(first)).all()
    greedy, random = (
        walks(8, 400, size=2, ucb=0.0, gamma=0.0, epsilon=e).visits for e in (0.0, 1.0)
    )
    assert greedy.max() > 20 * np.median(greedy) and random.max() < 2 * np.median(random)


def test_episodes():
    asked = [a[0] for a in walks(9, 60).scorer.asked[1:]]  # the first is that of all fields
    starts = [i for i, state in enumerate(asked) if state.bit_count() == 1]
    assert len(starts) > 3
    table = Scores(9, 0).table
    for start, end in zip(starts, starts[1:], strict=False):
        scores = [0.5, *table[asked[start:end]]]
        behind = len(scores) - 1 - int(np.argmax(scores))
        # The root of 9 steps without a better score, or all fields.
        assert behind == 3 or end - start == 9
    sized = [a[0].bit_count() for a in walks(9, 60, size=4).scorer.asked[1:]]
    assert sized[:8] == [1, 2, 3, 4, 1, 2, 3, 4]


def planted(seed, n=1500):
    X, y, truth = make_ctr(
        n,
        n_fields=8,
        cardinality=2,
        zipf=0,
        informative_fields=MAINS,
        pairs=[tuple(PAIR)],
        rank=1,
        main_effect=1.2,
        pair_effect=1.0,
        ids="int",
        random_state=seed,
    )
    assert truth.informative_fields == (0, 1) and truth.pairs == ((2, 3),)
    return X.to_numpy(), y


def fstd(seed, estimator=None, **options):
    tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=0)
    options = {"cv": 2, "max_evaluations": 90, "random_state": seed} | options
    return FSTD(estimator or tree, **options)


def test_main_fields_come_first_and_the_wrapper_finds_the_pair(auc):
    """On five seeds; not with levels instead of gains, not with shuffled labels, not with an
    estimator that sees no pairs.
    """
    levels, linear, noise = [], [], []
    for seed in range(5):
        X, y = planted(seed)
        found = fstd(seed, scoring=auc).fit(X, y)
        assert set(np.argsort(-found.scores_)[:2]) == set(MAINS)
        assert PAIR <= set(found.get_support(indices=True))
        assert found.n_evaluations_ < 2**8 / 2
        assert found.best_score_ > found.search_history_[0]["score"]  # that of all columns
        level = fstd(seed, scoring=auc, aor="level", max_evaluations=80).fit(X, y)
        levels.append(set(np.argsort(-level.scores_)[:2]) == set(MAINS))
        straight = fstd(seed, LogisticRegression(), scoring=auc, max_evaluations=30).fit(X, y)
        linear.append(PAIR <= set(straight.get_support(indices=True)))
        shuffled = fstd(seed, scoring=auc, max_evaluations=30).fit(
            X, np.random.default_rng(seed).permutation(y)
        )
        noise.append(shuffled.scores_.max() / found.scores_[MAINS].min())
    assert sum(levels) <= 2 and sum(linear) <= 2
    assert max(noise) < 0.5
    assert (
        fstd(4, scoring=auc, final="filter", n_features_to_select=2)
        .fit(X, y)
        .get_support(indices=True)
        .tolist()
        == MAINS
    )
