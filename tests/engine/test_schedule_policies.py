"""Architecture steps by rewards, and schedules that are refused."""

import copy
import itertools

import numpy as np
import pytest
import torch
from schedule_cases import LR, N_FIELDS, Gate, Tiny, batches, net_of
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import ArchSchedule, FieldNet
from sklearn_autorec.engine._arch_steps import policy_gradient
from sklearn_autorec.engine._schedule import ROWS
from sklearn_autorec.nn import BinaryLogLoss, FieldEmbedding


@pytest.mark.parametrize("rows", ROWS)
def test_nothing_but_the_policy_moves_in_a_policy_step(rows):
    module = Tiny(ArchSchedule(rows=rows, gradient="policy"), dropout=0.5)
    net = net_of(module, 3)
    net.arch_batches = iter(batches(3, 4))
    module.gate.sample()
    first, second = batches(2, 3)
    net.train_step(first)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    gradients = [p.grad.clone() for p in module.weights()]
    noise = copy.deepcopy(module.drop._stream).random()
    turn = net.arch_turns_[0]
    net.previous_batch = first
    net._arch_step(*turn, second)
    for name, t in module.state_dict().items():
        assert torch.equal(t, before[name]) == (name != "gate.logits"), name
    assert all(torch.equal(p.grad, g) for p, g in zip(module.weights(), gradients, strict=True))
    assert module.drop._stream.random() == noise and module.drop.training
    assert not module.gate.rewards[-1].requires_grad


def test_the_policy_gradient_is_that_of_the_expected_loss_over_all_actions(monkeypatch):
    """2 ** 3 actions, each with its probability; and they are drawn with it."""
    module, (batch,) = Tiny(ArchSchedule(gradient="policy")), batches(1, 7)
    gate = module.gate

    def losses(batch):
        return BinaryLogLoss()(module(**batch.inputs), batch.y)

    actions = [torch.tensor(a) for a in itertools.product((0.0, 1.0), repeat=N_FIELDS)]
    chances, expected, mean = {}, 0.0, 0.0
    for action in actions:
        gate.action = action
        with torch.no_grad():
            loss = losses(batch).mean()
        chance = gate.log_probability().exp()
        chances[tuple(action.tolist())] = chance.item()
        expected = expected + chance * loss
        monkeypatch.setattr(gate, "sample", lambda action=action: setattr(gate, "action", action))
        mean += chance.item() * policy_gradient(gate, module, losses, batch, [gate.logits])[0]
    (exact,) = torch.autograd.grad(expected, gate.logits)
    torch.testing.assert_close(mean, exact)
    assert exact.abs().min() > 1e-4 and sum(chances.values()) == pytest.approx(1)
    monkeypatch.undo()
    drawn, n = [], 2000
    for _ in range(n):
        policy_gradient(gate, module, losses, batch, [gate.logits])
        drawn.append(tuple(gate.action.tolist()))
    assert all(
        abs(drawn.count(a) / n - p) < 4 * (p * (1 - p) / n) ** 0.5 for a, p in chances.items()
    )


class PerRow(Gate):
    def policy_loss(self, reward):
        self.rewards.append(reward)
        return -reward * self.log_probability()


def test_losses_of_a_policy_by_row_are_averaged_by_the_weights_of_the_rows():
    (batch,) = batches(1, 8, weighted=True)
    doubled = batch.select(torch.arange(len(batch)).repeat_interleave(2))
    gradients = []
    for rows in (batch, doubled):
        module = Tiny(ArchSchedule(gradient="policy"))
        module.gate = PerRow(module.gate.arch_schedule)
        gate = module.gate
        (g,) = policy_gradient(
            gate,
            module,
            lambda r, module=module: BinaryLogLoss()(module(**r.inputs), r.y),
            rows,
            [gate.logits],
        )
        (reward,) = gate.rewards
        assert reward.shape == (len(rows),)
        p = torch.sigmoid(gate.logits.detach())
        torch.testing.assert_close(g, -(reward * rows.weight).mean() * (gate.action - p))
        gradients.append(g)
    torch.testing.assert_close(*gradients)


class Loud(nn.Module):
    def forward(self, logits, y):
        return 3 * BinaryLogLoss()(logits, y)


@pytest.mark.parametrize("objective, factor", [("reference", 1), ("trained", 3)])
def test_the_reward_goes_by_the_reference_loss_unless_told_otherwise(objective, factor):
    module, (batch,) = Tiny(ArchSchedule(rows="same", gradient="policy")), batches(1, 8)
    module.gate.arch_schedule = ArchSchedule(rows="same", gradient="policy", objective=objective)
    net = FieldNet(module, Loud(), reference=BinaryLogLoss(), lr=LR, n_steps=1).initialize()
    net.train_step(batch)
    with torch.no_grad():
        twin = copy.deepcopy(module)
        wanted = -factor * BinaryLogLoss()(twin(**batch.inputs), batch.y)
    torch.testing.assert_close(module.gate.rewards[0], wanted)


class Broken(Gate):
    def __init__(self, schedule, answer):
        super().__init__(schedule)
        self.answer = answer

    def policy_loss(self, reward):
        return self.answer(reward, self.log_probability())


@pytest.mark.parametrize(
    "answer, told",
    [
        (lambda reward, log_p: reward.mean(), "without a gradient"),
        (lambda reward, log_p: (reward * log_p)[:2], r"shape \(2,\), with a gradient"),
    ],
)
def test_a_policy_loss_of_another_kind_is_refused(answer, told):
    module = Tiny(ArchSchedule(gradient="policy", rows="same"))
    module.gate = Broken(module.gate.arch_schedule, answer)
    net = net_of(module, 1)
    with pytest.raises(ValueError, match=f"policy_loss of Broken must return .*{told}"):
        net.train_step(batches(1, 3)[0])


def test_a_policy_without_its_methods_is_refused():
    module = Tiny(ArchSchedule(gradient="policy"))
    module.gate = nn.Identity()
    module.gate.arch_parameters = lambda: []
    module.gate.arch_schedule = ArchSchedule(gradient="policy")
    with pytest.raises(TypeError, match=r"Identity .*missing: \['sample', 'policy_loss'\]"):
        FieldNet(module, BinaryLogLoss(), lr=LR).initialize()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"rows": "own"}, "rows='own'"),
        ({"gradient": "second"}, "gradient='second'"),
        ({"level": "policy"}, "level='policy'"),
        ({"level": "first_order", "rows": "same"}, "level='first_order' .*rows='same'"),
        ({"level": "one_level", "gradient": "policy"}, "level='one_level' .*gradient='policy'"),
        ({"every": 0}, "every=0"),
        ({"every": 1.5}, "every=1.5"),
        ({"fraction": 1.0}, "fraction=1.0"),
        ({"warmup": 1.0}, "warmup=1.0"),
        ({"warmup": -0.1}, "warmup=-0.1"),
    ],
)
def test_other_values_are_refused_by_name(options, told):
    with pytest.raises(ValueError, match=told):
        ArchSchedule(**options)


def test_short_names_stand_for_rows_and_gradient():
    assert ArchSchedule() == ArchSchedule("one_level") == ArchSchedule(level="one_level")
    assert ArchSchedule("first_order") == ArchSchedule(rows="held_out")
    assert ArchSchedule("unrolled") == ArchSchedule(gradient="unrolled")
    assert not ArchSchedule().own_step and not ArchSchedule().bilevel
    same = ArchSchedule(rows="same")
    assert same.own_step and not same.bilevel and same != ArchSchedule()
    assert (same.rows, same.gradient, same.level) == ("same", "direct", None)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 29])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.4])
def test_rows_of_the_batch_before_need_one(n, every, warmup):
    schedule = ArchSchedule(rows="previous", every=every, warmup=warmup)
    due = [step for step in range(n) if schedule.due(step, n)]
    assert 0 not in due and set(np.diff(due)) <= {every}
    assert all(step / max(n - 1, 1) >= warmup for step in due)
    assert schedule.n_steps(n) == max(len(due), 1)


class GatedEmbedding(nn.Module):
    def __init__(self, context, rows, seen):
        super().__init__()
        self.table = FieldEmbedding(context)
        self.gate = nn.Parameter(torch.zeros(context.n_fields))
        self.arch_schedule = ArchSchedule(every=2, rows=rows, gradient="policy", fraction=0.3)
        self.generator = torch.Generator().manual_seed(0)
        self.seen, self.mean = seen, 0.0
        self.sample()

    def arch_parameters(self):
        return [self.gate]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam([self.gate], lr=0.1)

    def set_progress(self, t):
        self.sample()  # the weights train on actions as well

    def sample(self):
        p = torch.sigmoid(self.gate.detach())
        self.action = (torch.rand(p.shape, generator=self.generator) < p).float()

    def policy_loss(self, reward):
        self.seen.append(reward.mean().item())
        advantage = reward.mean() - self.mean
        self.mean = 0.9 * self.mean + 0.1 * reward.mean()
        log_p = nn.functional.logsigmoid
        chance = self.action * log_p(self.gate) + (1 - self.action) * log_p(-self.gate)
        return -advantage * chance.sum()

    def forward(self, inputs):
        return self.table(inputs) * self.action.unsqueeze(-1)


class Drawn(SearchMethod):
    slot = "embedding"

    def __init__(self, rows="held_out"):
        self.rows = rows

    def build(self, context):
        self.seen_ = []
        return GatedEmbedding(context, self.rows, self.seen_)

    def derive(self, module, context):
        return {"odds": torch.sigmoid(module.gate.detach()).tolist()}

    def realise(self, architecture, context):
        return FieldEmbedding(context)


@pytest.mark.parametrize("rows", ROWS)
def test_a_policy_searches_in_an_estimator(rows):
    X, y, _ = make_ctr(600, n_fields=3, cardinality=5, pairs=1, random_state=0)
    method = Drawn(rows)
    model = CTRClassifier(
        network="fm", search=method, max_epochs=3, batch_size=64, random_state=0
    ).fit(X, y)
    odds = np.array(model.architecture_["embedding"]["odds"])
    assert len(odds) == 3 and (odds != 0.5).all() and len(method.seen_) > 5
