"""MARLFS: states, advice and groups, and what it finds."""

from types import SimpleNamespace

import numpy as np
import pytest
from marlfs_cases import codes_of, planted, search

from sklearn_autorec.feature_selection import MARLFS, RandomSubset
from sklearn_autorec.feature_selection._subsets._agents import (
    STATES,
    describe,
    group_fields,
)
from sklearn_autorec.feature_selection._subsets._association import (
    Association,
)
from sklearn_autorec.feature_selection._subsets._many_agents import Search, advise

# States, advice and groups
# ------------------------------------------------------------------------------


def test_states():
    codes, target = codes_of()
    association = Association(codes, target)
    values = codes / codes.max(0)
    mask, all_fields = np.array([True, False, True, True, False]), np.ones(5, bool)
    seven = np.stack(
        [
            values.mean(0),
            values.std(0),
            values.min(0),
            *np.quantile(values, [0.25, 0.5, 0.75], axis=0),
            values.max(0),
        ]
    )
    np.testing.assert_allclose(describe(values, 0), seven)
    spread = np.where(seven.std(1) > 0, seven.std(1), 1)
    columns = ((seven.T - seven.mean(1)) / spread)[mask]
    twice = [
        columns.mean(0),
        columns.std(0),
        columns.min(0),
        *np.quantile(columns, [0.25, 0.5, 0.75], axis=0),
        columns.max(0),
    ]
    state = STATES["statistics"](association, np.random.RandomState(0))
    np.testing.assert_allclose(state(mask), [*np.ravel(twice), 0.6], atol=1e-9)

    graph = STATES["graph"](association, np.random.RandomState(0))
    nodes = np.c_[seven.T, association.relevance]
    nodes = (nodes - nodes.mean(0)) / np.where(nodes.std(0) > 0, nodes.std(0), 1)
    edges = association.similarity()[np.ix_(mask, mask)]
    passed = np.array(
        [
            sum(w * node for w, node in zip(row, nodes[mask], strict=True)) / row.sum()
            for row in edges
        ]
    )
    np.testing.assert_allclose(graph(mask), [*passed.mean(0), *passed.std(0), 0.6], atol=1e-9)

    auto = STATES["autoencoder"](association, np.random.RandomState(0))
    assert auto.loss < 0.6  # of a variance of 1
    np.testing.assert_allclose(auto(mask), [*auto.fields[mask].mean(0), 0.6])
    assert np.linalg.norm(auto.fields[0] - auto.fields[1]) < np.linalg.norm(
        auto.fields[0] - auto.fields[2]
    )
    for found in (state, graph, auto):
        assert len(found(all_fields)) == found.size and np.isfinite(found(np.arange(5) == 2)).all()


def test_advice():
    mask = np.array([True, True, True, True, False, True])
    previous = np.array([True, True, False, False, True, False])
    importance = np.array([0.1, 0.5, 0.4, 0.2, 0.9, 0.3])
    # Two fields stay, three are new: k = 1 + 3; the four most important of the subset are 1, 2, 5,
    # 3.
    assert advise(mask, previous, importance).tolist() == mask.tolist()
    importance[[0, 1]] = [0.6, 0.05]  # now 0, 2, 5, 3 : still all of the new ones
    assert advise(mask, previous, importance).tolist() == mask.tolist()
    previous = np.array([True, False, False, False, True, False])
    # One stays, four are new: k = 4, and 3 is the fifth.
    importance[:] = [0.9, 0.5, 0.4, 0.2, 0.9, 0.3]
    assert advise(mask, previous, importance).tolist() == [True, True, True, False, False, True]
    assert advise(mask, np.zeros(6, bool), importance).tolist() == mask.tolist()


def test_groups():
    codes, target = codes_of(d=6)
    codes[:, 4] = (codes[:, 3] + 1) % 4
    association = Association(codes, target)
    groups = group_fields(association, 3)
    assert groups[0] == groups[1] and groups[3] == groups[4] != groups[0] and len(set(groups)) == 3
    assert group_fields(association, 9).tolist() == list(range(6)) and set(
        group_fields(association, 1)
    ) == {0}


def test_reward_and_exploration():
    codes, target = codes_of()
    association = Association(codes, target)
    mask = np.array([True, True, False, True, False])
    relevance, redundancy = association.of_subset(mask)
    p = SimpleNamespace(
        relevance_weight=2.0, redundancy_weight=0.5, exploration=0.5, epsilon=0.1, n_steps=100
    )
    search = SimpleNamespace(
        p=p, association=association, step=0, scorer=SimpleNamespace(max_evaluations=40, history=[])
    )
    assert Search.reward(search, mask, 0.7) == pytest.approx(0.7 + 2 * relevance - 0.5 * redundancy)
    assert Search.epsilon(search) == 1
    search.step = 25
    assert Search.epsilon(search) == pytest.approx(0.55)
    search.scorer.history = [None] * 30  # evaluations are further than steps
    assert Search.epsilon(search) == pytest.approx(0.1)
    p.exploration = 0.0
    assert Search.epsilon(search) == 0.1


# Planted truth
# --------------------------------------------------------------------------------------------


def test_main_fields_are_found_and_random_subsets_beaten(auc):
    """With as many evaluations, in the mean of five seeds, by many agents and, clearly, by one that
    scans.
    """
    best, right, wrong = [], [], []
    for seed in range(5):
        X, y = planted(seed)
        random = search(RandomSubset, seed, X, y, scoring=auc)
        agents, scan = (search(MARLFS, seed, X, y, scoring=auc, scan=s) for s in (False, True))
        best.append([found.best_score_ for found in (random, agents, scan)])
        assert all(found.n_evaluations_ <= 70 for found in (random, agents, scan))
        for found in (agents, scan):
            assert found.best_score_ > found.search_history_[0]["score"]  # that of all columns
        right.append([found.support_[:3].sum() for found in (random, agents, scan)])
        wrong.append([found.support_[3:].sum() for found in (random, agents, scan)])
    (random, agents, scan), right, wrong = np.mean(best, 0), np.mean(right, 0), np.mean(wrong, 0)
    assert agents > random + 0.003 and scan > random + 0.01
    assert min(right[1:]) >= 2.6 and np.min(right) >= 2
    assert wrong[2] <= 2 and wrong[1] < wrong[0]


def test_noise_is_no_better_than_random(auc):
    """On five seeds with shuffled labels: what is found is no better than chance, and the main
    fields are not preferred.
    """
    best, right, wrong = [], [], []
    for seed in range(5):
        X, y = planted(seed)
        y = np.random.default_rng(seed).permutation(y)
        found = [
            search(cls, seed, X, y, scoring=auc, max_evaluations=40)
            for cls in (MARLFS, RandomSubset)
        ]
        best.append([f.best_score_ for f in found])
        right.append(found[0].support_[:3].mean())
        wrong.append(found[0].support_[3:].mean())
    agents, random = np.mean(best, 0)
    assert abs(agents - random) < 0.02 and np.max(best) < 0.6
    assert abs(np.mean(right) - np.mean(wrong)) < 0.35


def test_options_walk_other_ways():
    X, y = planted(0, n=150)
    options = [
        {},
        {"state": "graph"},
        {"state": "autoencoder"},
        {"advisor": "kbest"},
        {"advisor": "tree"},
        {"n_groups": 4},
        {"scan": True},
        {"replay": "rank"},
        {"credit": "participants"},
        {"relevance_weight": 50.0},
        {"redundancy_weight": 50.0},
        {"n_walks": 2},
        {"n_updates": 1},
        {"gamma": 0.0},
    ]
    seen = set()
    for more in options:
        found = search(MARLFS, 0, X, y, max_evaluations=40, n_steps=45, batch_size=8, **more)
        seen.add(tuple(r["subset"] for r in found.search_history_))
    assert len(seen) == len(options)


def test_groups_are_taken_or_left_together():
    X, y = planted(0, n=400, d=4)
    X = np.repeat(X, 2, axis=1)
    X[::9, 1::2] = 0  # nearly the same columns twice
    found = search(MARLFS, 0, X, y, n_groups=4, max_evaluations=14)
    for record in found.search_history_:
        held = np.isin(np.arange(8), record["subset"])
        assert (held[::2] == held[1::2]).all()
