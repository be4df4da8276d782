"""The REINFORCE controller: gradients by enumeration, a planted optimum, resumption."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from draws import configurations, generator, run
from torch import nn

from sklearn_autorec.engine import CategoricalController

SMALL = {"op": ["sum", "max", None], "depth": [1, 2], "units": [[8], [16, 8], [4], []]}  # 24


def controller(seed=0, choices=SMALL, **options):
    """With logits that are not even."""
    made = CategoricalController(choices, generator(seed), **options)
    with torch.no_grad():
        for logits in made.logits:
            logits.normal_(generator=generator(seed + 10))
    return made


def rewards_of(actions):
    """A reward for each of the 24 configurations of `SMALL`."""
    table = torch.randn(3, 2, 4, generator=generator(5))
    return table[actions[:, 0], actions[:, 1], actions[:, 2]]


ACTIONS = torch.tensor(list(itertools.product(range(3), range(2), range(4))))


def gradients(loss, parameters):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])


@pytest.mark.parametrize("baseline", [0.0, 3.7])
@pytest.mark.parametrize("bonus", [0.0, 0.3])
def test_expected_gradient_agrees_with_enumeration(baseline, bonus):
    made = controller(entropy_bonus=bonus)
    p = [torch.softmax(logits, 0) for logits in made.logits]
    probability = p[0][ACTIONS[:, 0]] * p[1][ACTIONS[:, 1]] * p[2][ACTIONS[:, 2]]
    rewards = rewards_of(ACTIONS)
    entropy = -(probability * probability.log()).sum()
    torch.testing.assert_close(made.entropy(), entropy)
    objective = (probability * rewards).sum() + bonus * entropy
    exact = gradients(-objective, made.logits)
    each = [
        gradients(made.loss(ACTIONS[k : k + 1], rewards[k : k + 1] - baseline), made.logits)
        for k in range(24)
    ]
    expected = (torch.stack(each) * probability.detach().unsqueeze(1)).sum(0)
    torch.testing.assert_close(expected, exact, atol=1e-5, rtol=1e-4)
    batch = gradients(made.loss(ACTIONS, rewards - baseline), made.logits)
    torch.testing.assert_close(batch, torch.stack(each).mean(0), atol=1e-5, rtol=1e-4)


def test_sampled_gradient_agrees_with_enumeration_and_a_baseline_makes_it_less_noisy():
    made = controller(batch_size=20_000, entropy_bonus=0.0)
    p = [torch.softmax(logits, 0) for logits in made.logits]
    probability = p[0][ACTIONS[:, 0]] * p[1][ACTIONS[:, 1]] * p[2][ACTIONS[:, 2]]
    exact = gradients(-(probability * rewards_of(ACTIONS)).sum(), made.logits)
    candidates = made.ask()
    keys = [json.dumps(c) for c in candidates]
    shares = np.array([keys.count(json.dumps(c)) for c in configurations(SMALL)]) / 20_000
    np.testing.assert_allclose(shares, probability.detach().numpy(), atol=0.015)
    actions = made.state_dict()["asked"]
    assert [made.configuration(a) for a in actions[:50]] == candidates[:50]
    sampled = gradients(made.loss(actions, rewards_of(actions)), made.logits)
    torch.testing.assert_close(sampled, exact, atol=0.03, rtol=0)
    errors = []
    for baseline in (0.0, 10.0):  # rewards around ten, with and without what they are around
        small = [
            gradients(made.loss(rows, rewards_of(rows) + 10 - baseline), made.logits)
            for rows in actions.split(20)
        ]
        errors.append(float((torch.stack(small) - exact).square().sum(1).mean()))
    assert errors[1] < errors[0] / 10


@pytest.mark.parametrize("standardize", [False, True])
def test_update_agrees_with_a_plain_one(standardize):
    """Baseline, scale and Adam, three steps; the last with a failed candidate."""
    options = {"lr": 0.2, "baseline_decay": 0.7, "entropy_bonus": 0.1, "batch_size": 4}
    made = controller(standardize=standardize, **options)
    logits = [nn.Parameter(x.detach().clone()) for x in made.logits]
    adam = torch.optim.Adam(logits, lr=0.2)
    baseline = square = None
    for scores in ([1.0, 2.0, 4.0, 0.5], [3.0, 3.0, 1.0, 2.0], [2.0, math.nan, 5.0, math.inf]):
        made.ask()
        actions = made.state_dict()["asked"]
        rewards = np.array([s if math.isfinite(s) else 0.5 for s in scores])
        baseline = rewards.mean() if baseline is None else baseline
        advantage = rewards - baseline
        if standardize:
            now = (advantage**2).mean()
            square = now if square is None else 0.7 * square + 0.3 * now
            advantage = advantage / math.sqrt(square)
        baseline = 0.7 * baseline + 0.3 * rewards.mean()
        loss = torch.zeros(())
        for row, a in zip(actions, torch.tensor(advantage).float(), strict=True):
            loss = (
                loss
                - a * sum(torch.log_softmax(x, 0)[k] for x, k in zip(logits, row, strict=True)) / 4
            )
        for x in logits:
            loss = loss + 0.1 * (torch.softmax(x, 0) * torch.log_softmax(x, 0)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        made.tell(scores)
        assert made.baseline == pytest.approx(baseline)
        for own, x in zip(made.logits, logits, strict=True):
            torch.testing.assert_close(own.detach(), x.detach(), atol=1e-5, rtol=1e-4)
    assert made.best == (made.configuration(actions[2]), 5.0)


PLANTED = {f"c{k}": list(range(4)) for k in range(5)}  # 1,024 configurations


def planted(c):
    """The best is (1, 2, 3, 0, 1), of which two count only together; rewards differ by little."""
    hits = [c[f"c{k}"] == v for k, v in enumerate((1, 2, 3, 0, 1))]
    return -0.45 + 1e-3 * (sum(hits[:3]) + hits[3] + 2 * hits[3] * hits[4])


def test_controller_finds_the_best_of_a_planted_reward():
    best = dict(zip(PLANTED, (1, 2, 3, 0, 1), strict=True))
    for seed in range(5):
        made = CategoricalController(PLANTED, generator(seed), n_steps=60)
        rewards = [score for _, score in run(made, planted)]
        assert len(rewards) == 480 and made.most_likely() == best, (seed, made.most_likely())
        assert made.best == (best, planted(best))
        gain = np.mean(rewards[-80:]) - np.mean(rewards[:80])
        # Steps of no length learn nothing.
        still = CategoricalController(PLANTED, generator(seed), n_steps=60, lr=1e-9)
        rewards = [score for _, score in run(still, planted)]
        assert gain > 1e-3 > 5 * abs(np.mean(rewards[-80:]) - np.mean(rewards[:80]))


def test_entropy_bonus_keeps_a_controller_from_settling():
    entropies = []
    for bonus in (0.0, 5.0):
        made = CategoricalController(PLANTED, generator(), n_steps=60, entropy_bonus=bonus)
        run(made, planted)
        entropies.append(made.entropy().item())
    assert entropies[0] < 1.0 < 6.0 < entropies[1] < math.log(1024) + 1e-4


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_controller_resumes_with_the_same_bits(steps, pending, tmp_path):
    def score(c):
        return math.nan if c["c0"] == 3 else planted(c)

    whole = CategoricalController(PLANTED, generator(), n_steps=12)
    history = run(whole, score)
    first = CategoricalController(PLANTED, generator(), n_steps=12)
    own = []
    for _ in range(steps):
        candidates = first.ask()
        own += [(c, score(c)) for c in candidates]
        first.tell([s for _, s in own[-8:]])
    if pending:
        first.ask()
    torch.save(first.state_dict(), tmp_path / "state.pt")
    run(first, score)
    second = CategoricalController(PLANTED, generator(3), n_steps=12)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    own += run(second, score)
    np.testing.assert_equal(own, history)
    for resumed, uninterrupted in zip(second.logits, whole.logits, strict=True):
        assert torch.equal(resumed, uninterrupted)
    assert second.best == whole.best and second.baseline == whole.baseline


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"n_steps": 0}, "n_steps=0 must be at least 1"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"lr": 0.0}, "lr=0.0 must be positive"),
        ({"baseline_decay": 1.0}, r"baseline_decay=1.0 must be in \[0, 1\)"),
        ({"entropy_bonus": -1.0}, "entropy_bonus=-1.0 must be 0 or positive"),
    ],
)
def test_controller_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        CategoricalController(SMALL, generator(), **changes)
    made, other = controller(), controller(choices=PLANTED)
    with pytest.raises(ValueError, match="the state is of a search over"):
        other.load_state_dict(made.state_dict())
    made.ask()
    with pytest.raises(ValueError, match="tell was given 1 scores, ask has given 8 candidates"):
        made.tell([1.0])
