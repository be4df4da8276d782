import numpy as np
import pandas as pd
import pytest
import torch
from marlfs_cases import codes_of, planted, search
from sklearn.metrics import mutual_info_score

from sklearn_autorec.feature_selection import MARLFS
from sklearn_autorec.feature_selection._subsets._agents import (
    Agents,
    QNetworks,
    Scaled,
    Standardised,
)
from sklearn_autorec.feature_selection._subsets._association import (
    Association,
    entropy,
    equal_parts,
    field_codes,
    target_codes,
)
from sklearn_autorec.feature_selection._subsets._many_agents import ManyAgents
from sklearn_autorec.feature_selection._subsets._scan import Scan

# Columns and what they say about each other
# -------------------------------------------------------------


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


# Transitions
# --------------------------------------------------------------------------------------------


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
