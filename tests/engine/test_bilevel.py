import numpy as np
import pytest
import torch
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import AutoDim
from sklearn_autorec.engine import (
    ArchSchedule,
    EncodedTensors,
    FieldNet,
    SearchProblem,
    TrainingPlan,
    _arch_turns,
)
from sklearn_autorec.engine._arch_steps import first_order_gradient, unrolled_gradient
from sklearn_autorec.estimators import _stages
from sklearn_autorec.estimators._rows import Rows
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, ReLUDropout

LR = 0.4


class Toy(nn.Module):
    """Smooth in weights and architecture: a gated table, batch norm, one hidden layer."""

    def __init__(self, sparse=False, dropout=False):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Embedding(9, 4, sparse=sparse, dtype=torch.float64)
        self.norm = nn.BatchNorm1d(4, dtype=torch.float64)
        self.drop = (
            nn.Sequential(nn.Dropout(0.5), ReLUDropout(0.5, generator))
            if dropout
            else nn.Identity()
        )
        self.hidden = nn.Parameter(torch.empty(4, 4, dtype=torch.float64))
        self.alpha = nn.Parameter(torch.empty(4, dtype=torch.float64))
        for p in (self.table.weight, self.hidden, self.alpha):
            nn.init.normal_(p, generator=generator)

    def loss(self, batch):
        ids, y = batch
        gated = self.table(ids) * torch.softmax(self.alpha, 0) * 4
        return ((self.drop(torch.tanh(self.norm(gated) @ self.hidden)).sum(1) - y) ** 2).mean()

    def weights(self):
        return [p for p in self.parameters() if p is not self.alpha]


def toy_batches():
    generator = torch.Generator().manual_seed(1)
    # Row 8 of the table is in no batch.
    return [
        (
            torch.randint(0, 8, (20,), generator=generator),
            torch.randn(20, generator=generator, dtype=torch.float64),
        )
        for _ in range(2)
    ]


def exact_gradient(toy, train_batch, batch):
    """d/d alpha of L(w - lr grad_w L_train(w, alpha), alpha), by differentiating twice."""

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.toy = toy

        def forward(self, batch):
            return self.toy.loss(batch)

    names = [name for name, p in toy.named_parameters() if p is not toy.alpha]
    weights = toy.weights()
    step = torch.autograd.grad(toy.loss(train_batch), weights, create_graph=True)
    moved = {f"toy.{name}": w - LR * g for name, w, g in zip(names, weights, step, strict=True)}
    loss = torch.func.functional_call(Loss(), moved, (batch,))
    return torch.autograd.grad(loss, toy.alpha)[0]


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("sparse", [False, True])
def test_unrolled_gradient_agrees_with_double_backward_and_not_with_first_order(sparse):
    train_batch, batch = toy_batches()
    exact = exact_gradient(Toy(), train_batch, batch)
    toy = Toy(sparse)
    (found,) = unrolled_gradient(toy.loss, toy, train_batch, batch, [toy.alpha], toy.weights(), LR)
    assert relative(found, exact) < 1e-2
    (first,) = first_order_gradient(toy.loss, batch, [toy.alpha])
    assert relative(first, exact) > 0.1
    # The gradient of the training rows alone, or without the finite difference, would not pass
    # either.
    shifted = Toy()
    step = torch.autograd.grad(shifted.loss(train_batch), shifted.weights())
    with torch.no_grad():
        for w, g in zip(shifted.weights(), step, strict=True):
            w -= LR * g
    assert relative(torch.autograd.grad(shifted.loss(batch), shifted.alpha)[0], exact) > 0.1


@pytest.mark.parametrize("sparse", [False, True])
def test_unrolled_gradient_leaves_no_trace(sparse):
    train_batch, batch = toy_batches()
    toy = Toy(sparse, dropout=True)
    toy.loss(train_batch)  # batch statistics that are not the initial ones
    before = {name: t.clone() for name, t in toy.state_dict().items()}
    first, second = (
        unrolled_gradient(toy.loss, toy, train_batch, batch, [toy.alpha], toy.weights(), LR)[0]
        for _ in range(2)
    )
    for name, t in toy.state_dict().items():
        assert torch.equal(t, before[name]), name
    assert torch.equal(first, second)  # no dropout between the probes
    assert all(m.training for m in toy.drop) and all(p.grad is None for p in toy.parameters())


def test_unrolled_gradient_with_a_loss_that_no_weight_moves_is_the_direct_one():
    train_batch, batch = toy_batches()
    toy = Toy()

    def objective(rows):
        return toy.loss(rows) if rows is train_batch else (toy.alpha**2).sum()

    (found,) = unrolled_gradient(objective, toy, train_batch, batch, [toy.alpha], toy.weights(), LR)
    torch.testing.assert_close(found, 2 * toy.alpha.detach())


def test_first_order_gradient_is_the_gradient_on_the_batch():
    _, batch = toy_batches()
    toy = Toy()
    unused = nn.Parameter(torch.ones(2))
    found = first_order_gradient(toy.loss, batch, [toy.alpha, unused])
    toy.loss(batch).backward()
    assert torch.equal(found[0], toy.alpha.grad) and toy.alpha.grad.abs().sum() > 0
    assert torch.equal(found[1], torch.zeros(2))


@pytest.mark.parametrize("level", ["one_level", "first_order", "unrolled"])
@pytest.mark.parametrize("warmup", [0.0, 0.3, 0.4, 0.55, 0.9])
@pytest.mark.parametrize("every", [1, 2, 7])
def test_schedule_waits_for_the_warm_up_and_keeps_its_rhythm(level, warmup, every):
    schedule = ArchSchedule(level, every, 0.2, warmup)
    rhythm = 1 if level == "one_level" else every
    for n in [1, 2, 3, 10, 11, 12, 29, 101, 1000]:
        due = [step for step in range(n) if schedule.due(step, n)]
        # What modules are told by set_progress: an architecture step during their warm-up would be
        # blind.
        assert all(step / max(n - 1, 1) >= warmup for step in due)
        assert set(np.diff(due)) <= {rhythm}
        assert (
            len(due) == n * (1 - warmup) // rhythm or abs(len(due) - n * (1 - warmup) / rhythm) <= 2
        )
        assert schedule.n_steps(n) == max(len(due), 1)
    assert schedule.bilevel == (level != "one_level")


def context(n_rows=300, **changes):
    options = {
        "field_names": ("row", "b"),
        "n_ids": (n_rows + 2, 9),
        "embedding_dim": 4,
        "generator": torch.Generator().manual_seed(0),
    }
    return BuildContext(**{**options, **changes})


def rows_with_numbers(n=300, y=None):
    """A table whose first field says which row it is: id - 2."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.stack(
        [torch.arange(n) + 2, torch.randint(2, 9, (n,), generator=generator)], 1
    ).int()
    y = (torch.rand(n, generator=generator) < 0.2).float() if y is None else y
    return EncodedTensors(ids, torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.int32), y)


def problem(data, seed=0, **plan):
    plan = TrainingPlan(**{"epochs": 4, "batch_size": 32, "lr": 0.01, "seed": seed, **plan})
    c = context(len(data))
    return SearchProblem(
        FM(), c, ("embedding",), dict, BinaryLogLoss(), data, plan, torch.device("cpu")
    )


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_split_is_disjoint_complete_stratified_and_seeded(fraction):
    data = rows_with_numbers()
    weights, arch = problem(data).split(fraction)
    assert sorted([*weights.tolist(), *arch.tolist()]) == list(range(300))
    assert len(arch) == round(300 * fraction)
    assert abs(data.y[arch].sum() - fraction * data.y.sum()) <= 1
    again, other = problem(data).split(fraction)[1], problem(data, seed=1).split(fraction)[1]
    assert torch.equal(arch, again) and set(arch.tolist()) != set(other.tolist())


def test_split_stratifies_classes_and_takes_ratings_and_single_rows_as_they_are():
    classes = torch.tensor([0] * 200 + [1] * 80 + [2] * 20)
    arch = problem(rows_with_numbers(y=classes)).split(0.25)[1]
    assert torch.bincount(classes[arch]).tolist() == [50, 20, 5]
    for y in (torch.linspace(1, 5, 300), torch.tensor([0] * 299 + [1])):
        weights, arch = problem(rows_with_numbers(y=y)).split(0.2)
        assert sorted([*weights.tolist(), *arch.tolist()]) == list(range(300))


@pytest.mark.parametrize("n, fraction", [(1, 0.2), (2, 0.999)])
def test_split_that_leaves_nothing_says_so(n, fraction):
    with pytest.raises(
        ValueError, match=rf"search_fraction={fraction} leaves no rows .*\({n} training rows\)"
    ):
        problem(rows_with_numbers(n)).split(fraction)


@pytest.mark.parametrize("level", ["first_order", "unrolled", "one_level"])
def test_weights_and_architecture_see_rows_of_their_own(level, monkeypatch):
    data, seen = rows_with_numbers(), {"weights": [], "train": [], "arch": []}
    real = {
        name: getattr(_arch_turns, name) for name in ("first_order_gradient", "unrolled_gradient")
    }
    real_step = FieldNet.train_step_single

    def numbers(batch):
        return (batch.ids[:, 0] - 2).tolist()

    def spy_step(self, batch, **kwargs):
        seen["weights"] += numbers(batch[0])
        return real_step(self, batch, **kwargs)

    def spy_first(objective, batch, *rest):
        seen["arch"] += numbers(batch)
        return real["first_order_gradient"](objective, batch, *rest)

    def spy_unrolled(objective, module, train_batch, batch, *rest):
        seen["train"] += numbers(train_batch)
        seen["arch"] += numbers(batch)
        return real["unrolled_gradient"](objective, module, train_batch, batch, *rest)

    monkeypatch.setattr(FieldNet, "train_step_single", spy_step)
    monkeypatch.setattr(_arch_turns, "first_order_gradient", spy_first)
    monkeypatch.setattr(_arch_turns, "unrolled_gradient", spy_unrolled)
    p = problem(data, epochs=6)
    module = AutoDim(level=level, search_fraction=0.3, arch_every=1).build(p.context)
    p.train(module)
    if level == "one_level":
        assert set(seen["weights"]) == set(range(300)) and not seen["arch"]
    else:
        for_weights, for_arch = (set(rows.tolist()) for rows in p.split(0.3))
        assert set(seen["weights"]) == for_weights and set(seen["arch"]) == for_arch
        assert (set(seen["train"]) <= for_weights) and bool(seen["train"]) == (level == "unrolled")
    assert module.alpha.detach().abs().min() > 0


@pytest.mark.parametrize("level", ["first_order", "unrolled"])
def test_weights_do_not_depend_on_the_labels_of_architecture_rows(level):
    def weights_after(flip, part=1):
        data = rows_with_numbers()
        p = problem(data, epochs=1)
        if flip:
            rows = p.split(0.3)[part]
            y = p.data.y.clone()
            y[rows] = 1 - y[rows]
        if flip:  # the split is the same, though it would be stratified by the new labels
            p.data = EncodedTensors(data.ids, data.numeric, data.sequences, y)
            p.split = lambda fraction, rows=None: problem(data, epochs=1).split(fraction)
        module = AutoDim(
            level=level, search_fraction=0.3, arch_every=1, warmup=0.0, size_penalty=0.0
        ).build(p.context)
        # Steps of size zero: with alpha at rest the labels of its rows have no way into the
        # weights.
        module.arch_lr = 0.0
        p.train(module)
        return {name: t.clone() for name, t in p.final_state.items()}

    plain, flipped = weights_after(False), weights_after(True)
    assert all(torch.equal(plain[name], flipped[name]) for name in plain)
    control = weights_after(True, part=0)
    assert not torch.equal(plain["embedding.table.weight"], control["embedding.table.weight"])


class Guarded(EncodedTensors):
    """Rows that must not be touched while ``locked``."""

    locked = False

    def __getattribute__(self, name):
        if Guarded.locked:
            raise AssertionError(f"held-out rows were read ({name}) during the search")
        return super().__getattribute__(name)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("level", ["first_order", "unrolled", "one_level"])
def test_no_search_touches_the_rows_of_early_stopping(level, given, monkeypatch):
    X, y, _ = make_ctr(400, n_fields=3, cardinality=5, pairs=1, random_state=0)
    real_tensors, real_search, calls, held = Rows.tensors, _stages.search_parts, [], []

    def guarded_tensors(rows, device):
        made = real_tensors(rows, device)
        if len(rows) < 150:
            held.append(len(rows))
            made = Guarded(made.ids, made.numeric, made.sequences, made.y, made.weight)
        return made

    def locked_search(*args):
        calls.append(args[5])
        Guarded.locked = True
        try:
            return real_search(*args)
        finally:
            Guarded.locked = False

    monkeypatch.setattr(Rows, "tensors", guarded_tensors)
    monkeypatch.setattr(_stages, "search_parts", locked_search)
    model = CTRClassifier(
        network="fm", search=AutoDim(level=level), early_stopping=True, max_epochs=2, random_state=0
    )
    held_out = (X[300:], y[300:]) if given else (None, None)
    model.fit(X[:300], y[:300], X_val=held_out[0], y_val=held_out[1])
    assert (
        len(calls) == 1
        and len(calls[0]) == (300 if given else 270)
        and held == [100 if given else 30]
    )
    assert all("valid_loss" in record for record in model.history_)
    monkeypatch.setattr(Guarded, "locked", True)
    table = Guarded.__new__(Guarded)
    for touch in (len, lambda t: t.y, lambda t: t.inputs, lambda t: t.select(slice(1))):
        with pytest.raises(AssertionError, match="held-out"):
            touch(table)


@pytest.mark.parametrize("rows", ["held_out", "same", "next"])
def test_a_pass_of_the_weights_leaves_out_what_has_steps_of_its_own(monkeypatch, rows):
    """Its gradients would be thrown away; what is held still stays so."""
    net = FieldNet.__new__(FieldNet)
    own, other, still = (nn.Parameter(torch.ones(2)) for _ in range(3))
    still.requires_grad_(False)
    net.weights_ = [other]
    net.arch_turns_ = [
        (ArchSchedule(rows=rows), torch.optim.SGD([own, still], lr=0.1), None),
        (ArchSchedule(), torch.optim.SGD([other], lr=0.1), None),
    ]
    with pytest.raises(KeyboardInterrupt), net._own_steps_apart():
        assert not own.requires_grad and other.requires_grad
        raise KeyboardInterrupt
    assert own.requires_grad and other.requires_grad and not still.requires_grad
