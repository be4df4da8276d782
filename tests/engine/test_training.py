import numpy as np
import pytest
import torch

from sklearn_autorec.engine import (
    EncodedTensors,
    FieldNet,
    TrainingBatches,
    TrainingPlan,
    forward_in_chunks,
    train,
)
from sklearn_autorec.exceptions import ConvergenceWarning, NonFiniteLossError
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext


def context(**changes):
    options = {
        "field_names": ("a", "b"),
        "n_ids": (7, 9),
        "embedding_dim": 4,
        "generator": torch.Generator().manual_seed(0),
    }
    return BuildContext(**{**options, **changes})


def data(n=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack(
        [
            torch.randint(2, 7, (n,), generator=generator),
            torch.randint(2, 9, (n,), generator=generator),
        ],
        1,
    )
    y = ((ids[:, 0] + ids[:, 1]) % 2).float()
    return EncodedTensors(ids.int(), torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.int32), y)


def net(network=None, **options):
    module = (network or FM()).build(context(), {})
    return FieldNet(module, BinaryLogLoss(), lr=0.05, **options)


@pytest.mark.parametrize("n, batch_size", [(10, 3), (10, 4), (9, 4), (5, 100), (2, 1), (64, 32)])
def test_batches_show_every_row_once_an_epoch(n, batch_size):
    table = data(n)
    table.y = torch.arange(n).float()
    batches = TrainingBatches(table, batch_size)
    epochs = [[b.y for b in batches] for _ in range(2)]
    for epoch in epochs:
        assert sorted(torch.cat(epoch).tolist()) == list(range(n))
        assert len(epoch) == len(batches)
        if batch_size > 1:
            assert min(map(len, epoch)) > 1  # batch statistics need two rows
    if n > 5:
        assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))


def test_id_dropout_replaces_the_declared_share_but_not_missing_values():
    table = data(4000)
    table.ids[:, 1] = 0
    before = table.ids.clone()
    unknown = [
        (b.ids[:, 0] == 1).float().mean().item()
        for b in TrainingBatches(table, 500, id_dropout=0.3, seed=1)
    ]
    # Positions are drawn with replacement, so that a share p leaves exp(-p) untouched.
    assert np.mean(unknown) == pytest.approx(1 - np.exp(-0.3), abs=0.03)
    assert all(
        (b.ids[:, 1] == 0).all() for b in TrainingBatches(table, 500, id_dropout=0.3, seed=1)
    )
    assert torch.equal(table.ids, before)


def test_training_learns_and_restores_the_best_epoch():
    n = net()
    result = train(
        n,
        data(),
        TrainingPlan(epochs=30, batch_size=32, lr=0.05, patience=3, seed=0),
        valid=data(200, seed=5),
    )
    losses = [r["valid_loss"] for r in result.history]
    assert result.best_epoch == int(np.argmin(losses)) + 1
    with torch.inference_mode():
        final = n.get_loss(
            forward_in_chunks(n.module_, data(200, seed=5)),
            data(200, seed=5).y,
            X=data(200, seed=5),
        )
    assert final.item() == pytest.approx(min(losses), abs=1e-6)
    assert min(losses) < 0.3 < losses[0]


def test_patience_counts_epochs_without_improvement():
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9])
    plan = TrainingPlan(
        epochs=10, batch_size=64, patience=2, monitor=lambda y, logits, weight: next(scores)
    )
    result = train(net(), data(), plan, valid=data(50, seed=5))
    assert len(result.history) == 4 and result.best_epoch == 2


def test_plateau_and_cosine_change_the_rate():
    plan = TrainingPlan(
        epochs=4, batch_size=64, lr=0.1, lr_schedule="plateau", patience=9, monitor=lambda *a: 0.0
    )
    rates = [r["lr"] for r in train(net(), data(), plan, valid=data(50, seed=5)).history]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.001])
    n = net()
    train(n, data(), TrainingPlan(epochs=3, batch_size=64, lr=0.05, lr_schedule="cosine"))
    assert n.optimizer_.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-9)


def test_averaging_keeps_the_average_of_the_weights():
    seen = []
    n = net()
    plan = TrainingPlan(epochs=1, batch_size=100, lr=0.05, averaging=0.5)
    start = n.module.embedding.weight.detach().clone()
    step = n.train_step

    def spy(batch):
        out = step(batch)
        seen.append(n.module_.embedding.weight.detach().clone())
        return out

    n.train_step = spy
    train(n, data(), plan)
    average = start
    for k, weight in enumerate(seen, start=1):
        average = average + (1 - min(0.5, k / (k + 10))) * (weight - average)
    torch.testing.assert_close(n.module_.embedding.weight.detach(), average)


class Exploding(BinaryLogLoss):
    """A loss that turns NaN at a given call."""

    def __init__(self, at):
        super().__init__()
        self.at, self.calls = at, 0

    def forward(self, logits, y):
        self.calls += 1
        return super().forward(logits, y) * (np.nan if self.calls == self.at else 1.0)


def test_a_loss_that_is_not_finite_stops_with_the_best_epoch():
    n = FieldNet(FM().build(context(), {}), Exploding(at=25), lr=0.05)
    with pytest.warns(
        ConvergenceWarning, match=r"step 25 of epoch 3.*smaller lr \(now 0.05\).*epoch 2 are kept"
    ):
        result = train(n, data(300), TrainingPlan(epochs=9, batch_size=30, lr=0.05))
    assert result.best_epoch == 2
    assert all(torch.isfinite(p).all() for p in n.module_.parameters())


def test_a_loss_that_is_never_finite_is_an_error():
    n = FieldNet(FM().build(context(), {}), Exploding(at=2), lr=0.05)
    with pytest.raises(NonFiniteLossError, match=r"epoch 1; a smaller lr \(now 0.05\)"):
        train(n, data(), TrainingPlan(epochs=3, batch_size=30, lr=0.05))


@pytest.mark.parametrize("at", [1, 7, 10, 11, 23])
def test_an_interruption_leaves_the_best_epoch(at):
    calls = []

    class Interrupted(BinaryLogLoss):
        def forward(self, logits, y):
            calls.append(1)
            if len(calls) == at:
                raise KeyboardInterrupt
            return super().forward(logits, y)

    n = FieldNet(FM().build(context(), {}), Interrupted(), lr=0.05)
    result = train(n, data(), TrainingPlan(epochs=5, batch_size=30, lr=0.05))
    assert result.interrupted and result.best_epoch == (at - 1) // 10 == len(result.history)


def test_a_row_has_the_same_bits_alone_and_in_a_batch():
    module = DeepFM(hidden_units=(64, 64)).build(context(), {}).eval()
    table = data(1000)
    whole = forward_in_chunks(module, table)
    for rows in (slice(0, 1), slice(5, 8), slice(100, 133)):
        assert torch.equal(forward_in_chunks(module, table.select(rows)), whole[rows])
    torch.testing.assert_close(forward_in_chunks(module, table, rows=77), whole, rtol=0, atol=0)


def test_hooks_are_called_by_the_engine():
    calls = []

    class Probe(torch.nn.Module):
        out_dim = 4

        def __init__(self):
            super().__init__()
            self.gate = torch.nn.Parameter(torch.ones(4))

        def forward(self, e, inputs):
            return e.sum(1) * self.gate

        def arch_parameters(self):
            return [self.gate]

        def arch_optimizer(self, n_steps):
            calls.append(("n_steps", n_steps))
            return torch.optim.SGD([self.gate], lr=0.1)

        def set_progress(self, t):
            calls.append(("progress", t))

        def penalty(self):
            return 0.0 * self.gate.sum()

        def after_step(self):
            calls.append(("after", None))

        def observe(self, inputs, per_row_loss):
            calls.append(("observe", per_row_loss.shape))

    probe = Probe()
    n = FieldNet(FM().build(context(), {"interaction": probe}), BinaryLogLoss(), lr=0.05)
    train(n, data(200), TrainingPlan(epochs=2, batch_size=100))
    assert calls[0] == ("n_steps", 4)
    np.testing.assert_allclose([v for k, v in calls if k == "progress"], [0, 1 / 3, 2 / 3, 1])
    assert sum(k == "after" for k, _ in calls) == 4
    assert ("observe", torch.Size([100])) in calls
    groups = {id(p) for g in n.optimizer_.param_groups for p in g["params"]}
    assert id(probe.gate) not in groups and (probe.gate != 1).any()
    assert len(groups) == sum(1 for _ in n.module_.parameters()) - 1


class SmallDevice(torch.nn.Module):
    """A network on a device whose memory holds so many rows of a batch."""

    def __init__(self, module, rows):
        super().__init__()
        self.module, self.rows, self.tried = module, rows, []

    def forward(self, ids, numeric, sequences):
        self.tried.append(len(ids))
        if len(ids) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.module(ids, numeric, sequences)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_halves_its_chunks_when_memory_runs_out(training):
    module, table = net().initialize().module_, data(300)
    expected = forward_in_chunks(module, table)
    small = SmallDevice(module, 80).train(training)
    assert torch.equal(forward_in_chunks(small, table), expected)
    assert (
        small.tried[:2] == [304, 160] and max(small.tried[3:]) <= 80 and small.training == training
    )
    with pytest.raises(torch.OutOfMemoryError):
        forward_in_chunks(SmallDevice(module, 4), table)


def test_training_out_of_memory_says_what_is_needed():
    fitted = net()
    fitted.initialize()
    fitted.module_ = SmallDevice(fitted.module_, 16)
    with pytest.raises(
        torch.OutOfMemoryError,
        match=r"GiB, the rest is that of a batch: lower batch_size \(now 32\)",
    ):
        train(fitted, data(), TrainingPlan(epochs=1, batch_size=32))


@pytest.mark.parametrize("n", [1, 7, 8, 13])
def test_tables_without_columns_are_predicted_on_every_torch(n, monkeypatch):
    module = net().initialize().module_
    whole = forward_in_chunks(module, data())
    real = torch.nn.functional.pad

    def pad(t, *args, **kwargs):  # as torch 2.6 to 2.8 do
        if not t.numel():
            raise RuntimeError(
                "The input size 0, plus negative padding resulted in an invalid size"
            )
        return real(t, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "pad", pad)
    first = data()
    table = EncodedTensors(first.ids[:n], first.numeric[:n], first.sequences[:n])
    assert torch.equal(forward_in_chunks(module, table), whole[:n])
