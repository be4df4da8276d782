"""Rows and gradients of architecture steps: each combination against a loop written by hand."""

import copy
import itertools

import pytest
import torch
from schedule_cases import ARCH_LR, LR, Gate, Tiny, batches, net_of

from sklearn_autorec.engine import ArchSchedule, FieldNet
from sklearn_autorec.engine._schedule import GRADIENTS, ROWS
from sklearn_autorec.nn import BinaryLogLoss


def loss_of(module, batch):
    per_row = BinaryLogLoss()(module(**batch.inputs), batch.y)
    return (per_row if batch.weight is None else per_row * batch.weight).mean()


def gradient_by_hand(module, kind, train_batch, batch):
    logits = module.gate.logits
    if kind == "direct":
        return torch.autograd.grad(loss_of(module, batch), logits)[0]
    if kind == "unrolled":
        # Exactly, by differentiating twice, on a copy: batch statistics must not move.
        twin = copy.deepcopy(module)
        names = [name for name, p in twin.named_parameters() if p is not twin.gate.logits]
        weights = twin.weights()
        step = torch.autograd.grad(loss_of(twin, train_batch), weights, create_graph=True)
        moved = {n: w - LR * g for n, w, g in zip(names, weights, step, strict=True)}
        out = torch.func.functional_call(twin, moved, (), batch.inputs)
        loss = BinaryLogLoss()(out, batch.y).mean()
        return torch.autograd.grad(loss, twin.gate.logits)[0]
    gate = module.gate
    gate.sample()
    twin = copy.deepcopy(module)
    with torch.no_grad():
        reward = -BinaryLogLoss()(twin(**batch.inputs), batch.y)
    # d log P(a) of independent Bernoulli choices is a - p.
    return -reward.mean() * (gate.action - torch.sigmoid(logits.detach()))


def loop_by_hand(module, rows, kind, train, held_out, every, first):
    """One architecture step per ``every`` weight steps, of plain gradient descent both."""
    held_out, previous, moves = iter(held_out), None, 0

    def move(batch, train_batch):
        g = gradient_by_hand(module, kind, train_batch, batch)
        with torch.no_grad():
            module.gate.logits -= ARCH_LR * g

    for step, batch in enumerate(train):
        since = step - (max(first, 1) if rows == "previous" else first)
        due = since >= 0 and since % every == every - 1
        moves += due
        if due and rows in ("previous", "next"):
            move(previous if rows == "previous" else batch, batch)
        gradients = torch.autograd.grad(loss_of(module, batch), module.weights())
        with torch.no_grad():
            for w, g in zip(module.weights(), gradients, strict=True):
                w -= LR * g
        if due and rows in ("held_out", "same"):
            move(next(held_out) if rows == "held_out" else batch, batch)
        previous = batch
    return moves


@pytest.mark.parametrize("rows, gradient", list(itertools.product(ROWS, GRADIENTS)))
@pytest.mark.parametrize("every, warmup, first", [(1, 0.0, 0), (2, 0.3, 3)])
def test_each_combination_follows_the_loop_written_by_hand(rows, gradient, every, warmup, first):
    n = 11
    schedule = ArchSchedule(every=every, warmup=warmup, rows=rows, gradient=gradient)
    train, held_out = batches(n, 3), batches(n, 4)
    module, by_hand = Tiny(schedule), Tiny(schedule)
    net = net_of(module, n)
    net.arch_batches = iter(held_out)
    for batch in train:
        net.train_step(batch)
    moves = loop_by_hand(by_hand, rows, gradient, train, held_out, every, first)
    assert moves == schedule.n_steps(n) > 3
    # A finite difference stands for the second derivative.
    close = {"rtol": 2e-3, "atol": 2e-4} if gradient == "unrolled" else {}
    for name, t in by_hand.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], t, msg=name, **close)
    assert (module.gate.logits - Gate(schedule).logits).abs().max() > 0.02


def test_combinations_differ():
    ends = set()
    for rows, gradient in itertools.product(ROWS, GRADIENTS):
        module = Tiny(ArchSchedule(rows=rows, gradient=gradient))
        net = net_of(module, 6)
        net.arch_batches = iter(batches(6, 4))
        for batch in batches(6, 3):
            net.train_step(batch)
        ends.add(tuple(module.gate.logits.detach().numpy().round(5)))
    module = Tiny(ArchSchedule())  # with the weights, in one backward pass
    net = net_of(module, 6)
    for batch in batches(6, 3):
        net.train_step(batch)
    ends.add(tuple(module.gate.logits.detach().numpy().round(5)))
    assert len(ends) == len(ROWS) * len(GRADIENTS) + 1


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_rows_of_the_step_before_are_those_of_the_batch_before(gradient, monkeypatch):
    """Across the end of an epoch as well, and before the weights move on the next batch."""
    judged, weights_then = [], []
    schedule = ArchSchedule(rows="previous", gradient=gradient)
    module = Tiny(schedule)
    net = net_of(module, 6)
    real = FieldNet.infer

    def spy(self, batch, **kwargs):
        judged.append(batch)
        weights_then.append(module.table.detach().clone())
        return real(self, batch, **kwargs)

    monkeypatch.setattr(FieldNet, "infer", spy)
    own = batches(3, 5)
    for batch in [*own, *own]:
        before = module.table.detach().clone()
        at, n_before = net.step_, len(judged)
        net.train_step(batch)
        seen = judged[n_before:]
        if at == 0:
            assert len(seen) == 1 and seen[0] is batch and net.previous_batch is batch
        else:
            previous = own[(at - 1) % 3]
            assert [b is previous for b in seen].count(True) == 1
            assert all(b is batch or b is previous for b in seen) and seen[-1] is batch
            if gradient != "unrolled":
                assert seen[0] is previous and torch.equal(weights_then[n_before], before)
    net.discard_training_state()
    assert net.previous_batch is None


def test_a_batch_is_kept_only_where_a_schedule_reads_it():
    net = net_of(Tiny(ArchSchedule("first_order")), 1)
    net.arch_batches = iter(batches(1, 4))
    net.train_step(batches(1, 3)[0])
    assert net.previous_batch is None
