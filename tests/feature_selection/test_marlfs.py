from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import mutual_info_score
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import MARLFS, RandomSubset
from sklearn_autorec.feature_selection._subsets._agents import (
    STATES,
    Agents,
    QNetworks,
    Scaled,
    Standardised,
    describe,
    group_fields,
)
from sklearn_autorec.feature_selection._subsets._association import (
    Association,
    entropy,
    equal_parts,
    field_codes,
    target_codes,
)
from sklearn_autorec.feature_selection._subsets._many_agents import ManyAgents, Search, advise
from sklearn_autorec.feature_selection._subsets._scan import Scan

# Columns and what they say about each other
# -------------------------------------------------------------


def codes_of(n=400, d=5, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, d))
    codes[:, 1] = np.where(rng.random(n) < 0.7, codes[:, 0], codes[:, 1])
    return codes, (codes[:, 0] + rng.integers(0, 2, n)) // 2


def test_association_is_mutual_information():
    codes, target = codes_of()
    found = Association(codes * 3, target)  # codes with gaps
    for f in range(5):
        bias = 3 * (len(np.unique(target)) - 1) / (2 * 400)
        expected = max(mutual_info_score(codes[:, f], target) - bias, 0)
        assert found.relevance[f] == pytest.approx(expected, abs=1e-12)
        assert found.entropies[f] == pytest.approx(mutual_info_score(codes[:, f], codes[:, f]))
        for g in range(5):
            pair = max(mutual_info_score(codes[:, f], codes[:, g]) - 9 / 800, 0) if f != g else 0
            assert found.redundancy[f, g] == pytest.approx(pair, abs=1e-12)
    mask = np.array([True, True, False, True, False])
    relevance, redundancy = found.of_subset(mask)
    assert relevance == pytest.approx(found.relevance[[0, 1, 3]].mean())
    assert redundancy == pytest.approx(
        2 * (found.redundancy[0, 1] + found.redundancy[0, 3] + found.redundancy[1, 3]) / 9
    )
    share = 2 * found.redundancy[0, 1] / (found.entropies[0] + found.entropies[1])
    assert (
        found.similarity()[0, 1] == found.similarity()[1, 0] == pytest.approx(share)
        and found.similarity()[2, 2] == 1
    )
    assert entropy(np.array([0, 1, 2, 3])) == pytest.approx(np.log(4)) and entropy(np.zeros(3)) == 0


def test_codes_of_any_columns():
    n = 1000
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "text": rng.choice(["a", "b", None], n),
            "many": rng.integers(0, 500, n),
            "list": [[int(k), 1] if k else [] for k in rng.integers(0, 3, n)],
        }
    )
    X.loc[::10, "number"] = np.nan
    codes, rows = field_codes(X, np.random.RandomState(0))
    assert rows.tolist() == list(range(n)) and codes.shape == (n, 4)
    assert (codes[:, 0] == 0).tolist() == X["number"].isna().tolist()
    assert np.bincount(codes[:, 0])[1:].tolist() == [90] * 10
    assert (codes[:, 1] == 0).tolist() == X["text"].isna().tolist() and len(
        np.unique(codes[:, 1])
    ) == 3
    assert len(np.unique(codes[:, 2])) <= 52
    assert ((codes[:, 3] == 0) == (X["list"].str.len() == 0)).all()
    large = pd.DataFrame({"a": np.arange(30_000) % 7})
    codes, rows = field_codes(large, np.random.RandomState(0))
    assert len(codes) == 20_000 and (np.diff(rows) > 0).all()
    assert np.bincount(equal_parts(np.arange(1000.0))).tolist() == [100] * 10
    assert (
        np.unique(equal_parts(np.repeat([0.0, 5.0], 50))).size == 2
        and not equal_parts(np.ones(9)).any()
    )
    assert target_codes(np.array(["x", "y", "x"]), True).tolist() == [0, 1, 0]
    assert target_codes(np.linspace(0, 1, 20), False).max() == 9


# Agents
# --------------------------------------------------------------------------------------------------


def test_batched_networks_are_many_networks():
    banks = QNetworks(3, 4, 6, torch.Generator().manual_seed(0))
    states = np.random.default_rng(0).normal(size=(5, 4))
    found = banks(torch.from_numpy(states.astype(np.float32))).detach().numpy()
    w1, b1, w2, b2 = (p.detach().numpy() for p in (banks.w1, banks.b1, banks.w2, banks.b2))
    for a in range(3):
        expected = np.maximum(states @ w1[a] + b1[a], 0) @ w2[a] + b2[a]
        np.testing.assert_allclose(found[a], expected, atol=1e-5)


def bank(n_agents=2, n_state=3, **options):
    options = {
        "n_hidden": 4,
        "lr": 0.01,
        "gamma": 0.5,
        "memory_size": 6,
        "batch_size": 4,
        "target_update": 3,
    } | options
    return Agents(
        n_agents,
        n_state,
        replay=options.pop("replay", "uniform"),
        rng=np.random.RandomState(0),
        **options,
    )


def test_an_update_steps_towards_reward_and_discounted_future():
    agents, rng = bank(), np.random.default_rng(0)
    for _ in range(9):  # the ring holds the last six
        agents.remember(
            rng.normal(size=3), rng.integers(0, 2, 2), rng.normal(size=2), rng.normal(size=3)
        )
    assert agents.n_seen == 9
    rows = np.array([0, 5, 5, 2])
    agents.draw = lambda: rows
    before = [p.detach().clone() for p in agents.online.parameters()]
    wanted = (
        torch.from_numpy(agents.rewards[rows].T)
        + 0.5 * agents.target(torch.from_numpy(agents.next_states[rows])).max(2)[0]
    )
    copy = QNetworks(2, 3, 4, torch.Generator())
    copy.load_state_dict(agents.online.state_dict())
    values = copy(torch.from_numpy(agents.states[rows]))
    chosen = torch.stack([values[a, range(4), agents.actions[rows, a]] for a in range(2)])
    gap = (chosen - wanted.detach()).abs()
    loss = torch.where(gap < 1, gap**2 / 2, gap - 0.5).mean(1)
    loss.sum().backward()
    agents.learn()
    for start, now, p in zip(before, agents.online.parameters(), copy.parameters(), strict=True):
        # Adam's first step is the learning rate against the sign of the gradient.
        np.testing.assert_allclose((now - start).detach(), -0.01 * torch.sign(p.grad), atol=2e-4)
    for _ in range(2):
        agents.learn()
    for online, target in zip(agents.online.parameters(), agents.target.parameters(), strict=True):
        assert torch.equal(online, target)  # after three updates


def test_nothing_is_learned_before_the_memory_holds_a_batch():
    agents = bank()
    before = agents.values(np.ones(3)).copy()
    for _ in range(3):
        agents.remember(np.ones(3), [1, 0], [1.0, 1.0], np.ones(3))
        agents.learn()
    np.testing.assert_array_equal(agents.values(np.ones(3)), before)


def test_agents_learn_which_action_pays():
    agents, rng = bank(gamma=0.0, memory_size=200, batch_size=32, lr=0.02), np.random.default_rng(0)
    for _ in range(200):
        actions = rng.integers(0, 2, 2)
        agents.remember(np.ones(3), actions, [actions[0] * 1.0, -actions[1] * 1.0], np.ones(3))
        agents.learn()
    (no, yes), (no2, yes2) = agents.values(np.ones(3))
    assert yes - no == pytest.approx(1, abs=0.2) and yes2 - no2 == pytest.approx(-1, abs=0.2)


def test_replay_by_rank():
    agents = bank(1, 1, replay="rank", memory_size=5, batch_size=5)
    rewards = [0.1, 0.9, 0.5, -1.0, 0.3]
    for r in rewards:
        agents.remember([0.0], [0], [r], [0.0])
    counts = np.bincount(np.concatenate([agents.draw() for _ in range(4000)]), minlength=5)
    weight = np.exp(1 / (1 + np.argsort(np.argsort([-r for r in rewards]))))
    np.testing.assert_allclose(counts / counts.sum(), weight / weight.sum(), atol=0.01)


def test_units_of_rewards():
    rewards, standard, scaled = np.random.default_rng(0).normal(3, 2, 50), Standardised(), Scaled()
    for k, r in enumerate(rewards, 1):
        seen = rewards[:k]
        assert standard(r) == pytest.approx((r - seen.mean()) / seen.std() if k > 1 else 0)
        assert scaled(r) == pytest.approx(r / np.sqrt((seen**2).mean()))
    assert Standardised()(5.0) == 0 and Scaled()(0.0) == 0


# Transitions
# --------------------------------------------------------------------------------------------


def transitions(monkeypatch, cls, **options):
    """The search object, and what its agents were given to remember in a short search."""
    given, objects = [], []
    real_remember, real_run = Agents.remember, cls.run

    def remember(self, state, actions, rewards, next_state):
        given.append(tuple(np.array(part, float) for part in (state, actions, rewards, next_state)))
        real_remember(self, state, actions, rewards, next_state)

    def run(self):
        objects.append(self)
        return real_run(self)

    monkeypatch.setattr(Agents, "remember", remember)
    monkeypatch.setattr(cls, "run", run)
    X, y = planted(0, n=200, d=6)
    search(
        MARLFS, 0, X, y, max_evaluations=None, n_steps=30, memory_size=20, batch_size=8, **options
    )
    return objects[0], given


def scores_by_subset(found):
    return {tuple(r["subset"]): r["score"] for r in found.scorer.history}


@pytest.mark.parametrize("credit", ["all", "participants"])
def test_stored_transitions_are_state_action_reward_and_next_state(credit, monkeypatch):
    found, given = transitions(monkeypatch, ManyAgents, credit=credit)
    scores, standard, before = scores_by_subset(found), Standardised(), np.ones(6, bool)
    assert len(given) == 30 and len({tuple(actions) for _, actions, _, _ in given}) > 5
    for t, (state, actions, rewards, following) in enumerate(given):
        mask = actions > 0
        # The state in which the agents acted is that of the subset before, the next one that of the
        # subset they chose.
        np.testing.assert_allclose(state, found.state(before))
        np.testing.assert_allclose(following, found.state(mask))
        assert (mask == before).all() or not np.allclose(state, following)
        score = scores[tuple(np.flatnonzero(mask))]
        relevance, redundancy = found.association.of_subset(mask)
        heard = mask | before if credit == "participants" else np.ones(6)
        np.testing.assert_allclose(rewards, standard(score + relevance - redundancy) * heard)
        slot = t % 20
        if t >= 10:  # of the ring what is left at the end
            for kept, part in zip(
                (found.bank.states, found.bank.actions, found.bank.rewards, found.bank.next_states),
                (state, actions, rewards, following),
                strict=True,
            ):
                np.testing.assert_allclose(kept[slot], part, rtol=1e-6, atol=1e-6)
        before = mask


def test_stored_transitions_of_a_scan(monkeypatch):
    found, given = transitions(monkeypatch, Scan, scan=True)
    scores, scaled, n = scores_by_subset(found), Scaled(), len(found.order)
    mask = np.arange(6) == found.order[0]

    def reward(mask):
        relevance, redundancy = found.association.of_subset(mask)
        return scores[tuple(np.flatnonzero(mask))] + relevance - redundancy

    for t, (state, actions, rewards, following) in enumerate(given):
        place = (t + 1) % n
        np.testing.assert_allclose(state, found.look(mask, place))
        before, mask = mask, found.decided(mask, place, bool(actions[0]))
        assert mask[found.order[place]] == bool(actions[0])
        np.testing.assert_allclose(rewards, [scaled(reward(mask) - reward(before))], atol=1e-12)
        np.testing.assert_allclose(following, found.look(mask, (place + 1) % n))


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


def planted(seed, n=600, d=12):
    X, y, _ = make_ctr(
        n,
        n_fields=d,
        cardinality=4,
        zipf=0,
        informative_fields=[0, 1, 2],
        pairs=0,
        main_effect=1.3,
        ids="int",
        random_state=seed,
    )
    return X.to_numpy(), y


def search(cls, seed, X, y, **options):
    tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=0)
    return cls(tree, **{"cv": 2, "max_evaluations": 70, "random_state": seed} | options).fit(X, y)


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
