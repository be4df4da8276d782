"""Trainings that a search method asks for: where they start, on which rows, what they move."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_autorec.engine import ArchSchedule, EncodedTensors, SearchProblem, TrainingPlan
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, FieldEmbedding

N = 120


class Table(FieldEmbedding):
    """A table with a searched scale, which remembers the rows that it is trained on."""

    def __init__(self, context, schedule=None):
        super().__init__(context)
        self.scale = nn.Parameter(torch.ones(context.embedding_dim))
        self.arch_schedule = schedule or ArchSchedule()
        self.seen = []

    def arch_parameters(self):
        return [self.scale]

    def observe(self, batch, per_row_loss):
        self.seen += batch.numeric[:, 0].int().tolist()

    def forward(self, inputs):
        return super().forward(inputs) * self.scale


def problem(network=None, weighted=False, loss=None):
    generator = torch.Generator().manual_seed(0)
    context = BuildContext(
        field_names=("a", "b", "number"),
        n_ids=(7, 9),
        n_numeric=1,
        embedding_dim=3,
        generator=torch.Generator().manual_seed(1),
    )
    ids = torch.stack([torch.randint(2, n, (N,), generator=generator) for n in (7, 9)], 1)
    y = ((ids[:, 0] + ids[:, 1]) % 2).float()
    numbers = torch.stack([torch.arange(N).float(), torch.zeros(N)], 1)  # tells the row
    data = EncodedTensors(ids.int(), numbers, torch.zeros(N, 0, dtype=torch.int32), y)
    if weighted:
        data.weight = torch.linspace(0.5, 1.5, N)
    plan = TrainingPlan(epochs=2, batch_size=20, lr=0.02, seed=3)
    network = network or FM()
    loss = loss or BinaryLogLoss()
    return SearchProblem(network, context, ("embedding",), dict, loss, data, plan, "cpu")


def weights(result):
    return {name: t.clone() for name, t in result.net.module_.state_dict().items()}


def test_a_training_begins_where_another_has_ended():
    p = problem()
    module = Table(p.context)
    first = p.train(module)
    ended, initial = weights(first), {name: t.clone() for name, t in p.initial_state.items()}
    still = p.train(module, start=first, lr=1e-12)
    for name, t in weights(still).items():
        torch.testing.assert_close(t, ended[name], rtol=0, atol=1e-7)
    # By a dict, in a module that has moved meanwhile, and of which one weight is left out.
    state = {name: t for name, t in ended.items() if name != "linear.bias"}
    p.train(module)
    again = weights(p.train(module, start=state, lr=1e-12))
    for name, t in state.items():
        torch.testing.assert_close(again[name], t, rtol=0, atol=1e-7)
    assert all(torch.equal(state[name], ended[name]) for name in state)
    # The network around the searched part starts with new weights if nothing is said.
    fresh = weights(p.train(module, lr=1e-12))
    assert not torch.allclose(fresh["linear.weight"], ended["linear.weight"], atol=1e-4)
    assert len(p.history) == 10 and initial.keys() == p.initial_state.keys()


def test_the_initial_weights_are_those_of_the_first_training_that_is_gone_on_with():
    p = problem()
    module = Table(p.context)
    first = p.train(module)
    initial = {name: t.clone() for name, t in p.initial_state.items()}
    second = p.train(module, start=first)
    assert all(torch.equal(p.initial_state[name], t) for name, t in initial.items())
    assert all(torch.equal(p.final_state[name], t) for name, t in weights(second).items())
    ended = weights(second)
    p.train(module)
    assert torch.equal(p.initial_state["embedding.weight"], ended["embedding.weight"])


def test_starts_that_do_not_fit_are_refused():
    p = problem()
    result = p.train(Table(p.context))
    state = weights(result)
    wrong = {**state, "linear.weight": torch.zeros(4, 1)}
    with pytest.raises(ValueError, match=r"'linear.weight' of shape \(4, 1\), the network of"):
        p.train(Table(p.context), start=wrong)
    with pytest.raises(ValueError, match="none of the network's weights"):
        p.train(Table(p.context), start={"other": torch.zeros(1)})
    with pytest.raises(TypeError, match="start must be what train returned"):
        p.train(Table(p.context), start="warm")


@pytest.mark.parametrize("kind", [torch.tensor, np.array, list])
def test_only_chosen_rows_are_trained_on(kind):
    p = problem()
    module = Table(p.context)
    rows = list(range(5, 50, 3))
    p.train(module, rows=kind(rows))
    assert sorted(module.seen) == sorted(2 * rows)  # two epochs
    module.seen = []
    p.train(module, rows=kind([4, 4, 9]), epochs=1)
    assert sorted(module.seen) == [4, 4, 9]


def test_rows_of_their_own_are_taken_from_the_chosen_rows():
    p = problem()
    module = Table(p.context, ArchSchedule("first_order", fraction=0.25))
    rows = torch.arange(40, 80)
    for_weights, for_arch = (part.tolist() for part in p.split(0.25, rows))
    assert len(for_arch) == 10 and sorted(for_weights + for_arch) == rows.tolist()
    p.train(module, rows=rows, epochs=1)
    assert sorted(module.seen) == sorted(for_weights)
    with pytest.raises(ValueError, match="rows must be distinct where a part of them is held out"):
        p.train(module, rows=[1, 2, 2, 3, 4, 5])


@pytest.mark.parametrize(
    "rows, told",
    [
        ([], "at least one int64"),
        ([[1, 2]], r"got shape \(1, 2\)"),
        ([True, False], "torch.bool"),
        ([0.0, 1.0], "torch.float32"),
        ([0, N], f"between 0 and {N - 1}, got positions from 0 to {N}"),
        ([-1, 3], "from -1 to 3"),
    ],
)
def test_rows_that_are_no_positions_are_refused(rows, told):
    p = problem()
    for use in (lambda: p.train(Table(p.context), rows=rows), lambda: p.score(nn.Module(), rows)):
        with pytest.raises(ValueError, match=told):
            use()
    assert not p.history


@pytest.mark.parametrize("level", ["one_level", "first_order", "unrolled"])
@pytest.mark.parametrize("moving", ["embedding.weight", "embedding.scale", "linear.bias"])
def test_only_some_parameters_move(moving, level):
    p = problem()
    p.plan.embedding_l2 = 0.1
    module = Table(p.context, ArchSchedule(level))
    first = p.train(module)
    before = weights(first)
    before["linear.weight"][3] = 1e-16  # too small to matter, and yet not to be touched
    asked = []

    def only(name, parameter):
        asked.append((name, tuple(parameter.shape)))
        return name == moving

    after = weights(p.train(module, start=before, only=only, epochs=8))
    for name, t in after.items():
        assert torch.equal(t, before[name]) == (name != moving), name
    assert dict(asked) == {n: tuple(q.shape) for n, q in first.net.module_.named_parameters()}
    assert all(q.requires_grad for q in module.parameters())
    free = weights(p.train(module, start=before))
    assert not any(torch.equal(t, before[name]) for name, t in free.items())


def test_nothing_to_move_is_refused():
    p = problem()
    with pytest.raises(ValueError, match="lets none of the 6 parameters move"):
        p.train(Table(p.context), only=lambda name, parameter: name.startswith("embeddings"))
    assert not p.history


def test_a_score_is_the_mean_reference_loss_without_dropout():
    for weighted in (False, True):
        p = problem(DeepFM(hidden_units=(8,), dropout=0.5), weighted)
        result = p.train(Table(p.context))
        module = result.net.module_
        rows = torch.arange(0, N // 2, 7)  # light ones
        module.eval()
        with torch.no_grad():
            logits = module(**p.data.select(rows).inputs)[:, 0].double().numpy()
        module.train()
        y = p.data.y[rows].numpy()
        losses = np.logaddexp(0, np.where(y == 1, -logits, logits))
        w = p.data.weight[rows].numpy() if weighted else None
        expected = np.average(losses, weights=w)
        assert p.score(result, rows) == pytest.approx(expected, rel=1e-6)
        assert p.score(module, rows) == p.score(result, rows.numpy())
        assert p.score(result) == pytest.approx(p.score(module, torch.arange(N)), rel=1e-9)
        assert p.score(result) != pytest.approx(expected, rel=1e-3)
        assert module.training
