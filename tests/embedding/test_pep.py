import numpy as np
import pytest
import torch
from pep_cases import GRANULARITIES, context, random_inputs, sigmoid

from sklearn_autorec.embedding import PEP, MagnitudePruning
from sklearn_autorec.embedding._masks import strongest
from sklearn_autorec.embedding._pep import WARMUP, soft_threshold
from sklearn_autorec.engine import EncodedTensors, FieldNet, RowAdam
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext


def reference_table(c, weight, threshold, granularity):
    """sign(v) max(|v| - sigmoid(s), 0) of the whole table, threshold by threshold."""
    sizes = [*c.n_ids, *(n for n, _ in c.sequences)]
    out = np.zeros_like(weight)
    row = 0
    for field, size in enumerate(sizes):
        for _ in range(size):
            for k in range(weight.shape[1]):
                i = {"value": row, "field": field}.get(granularity.split("_")[0], 0)
                s = threshold[i, k if granularity.endswith("dim") else 0]
                out[row, k] = np.sign(weight[row, k]) * max(abs(weight[row, k]) - sigmoid(s), 0)
            row += 1
    return out


def reference_vectors(c, table, numeric_weight, x):
    sizes = [*c.n_ids, *(n for n, _ in c.sequences)]
    starts = np.cumsum([0, *sizes])
    out = []
    for b in range(len(x.ids)):
        rows = [table[starts[f] + int(i)] for f, i in enumerate(x.ids[b])]
        for j in range(c.n_numeric):
            value, missing = float(x.numeric[b, j]), float(x.numeric[b, c.n_numeric + j])
            rows.append(
                value * numeric_weight[0, j] + missing * numeric_weight[1, j] + numeric_weight[2, j]
            )
        at = 0
        for k, (_, length) in enumerate(c.sequences):
            items = [int(i) for i in x.sequences[b, at : at + length] if i > 0]
            at += length
            vectors = [table[starts[len(c.n_ids) + k] + i] for i in items]
            rows.append(np.mean(vectors, 0) if vectors else np.zeros(table.shape[1]))
        out.append(rows)
    return np.array(out)


@pytest.mark.parametrize("shape", [(7, 3), (7, 1), (1, 3), (1, 1)])
def test_gradients_of_thresholds_are_those_of_the_formula(shape):
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    s = torch.randn(*shape, generator=generator, dtype=torch.float64)
    v[0], s[-1] = 0.0, 1.0
    v.requires_grad_(), s.requires_grad_()
    expected = torch.sign(v) * torch.relu(v.abs() - torch.sigmoid(s))
    got, factor = soft_threshold(v, s), torch.randn(7, 3, generator=generator)
    assert torch.equal(got, expected) and (got == 0).any() and (got != 0).any()
    torch.testing.assert_close(
        torch.autograd.grad((got * factor).sum(), [v, s]),
        torch.autograd.grad((expected * factor).sum(), [v, s]),
    )


def searched_module(c, granularity="value_dim", seed=2, **options):
    module = PEP(granularity=granularity, **options).build(c)
    with torch.no_grad():
        module.threshold.normal_(generator=torch.Generator().manual_seed(seed))
    return module


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(
    "c",
    [
        context(),
        context((5, 7), (), 0),
        # As many tables as values, and as dimensions: the shape of the thresholds does not say
        # whose they are.
        context((1, 1, 1), (), 0, 3),
        context((2, 2), (), 0, 4),
        context((2, 2), (), 0, 2),
        context((), ((3, 2), (4, 1)), 2, 2),
    ],
    ids=["mixed", "categorical", "values=fields=dims", "values=dims", "fields=dims", "lists"],
)
def test_thresholds_agree_with_numpy(granularity, c):
    module = searched_module(c, granularity)
    weight, threshold = module.weight.detach().numpy(), module.threshold.detach().numpy()
    table = reference_table(c, weight, threshold, granularity)
    assert 0 < (table == 0).mean() < 1
    n_rows, n_tables = len(weight), len(c.n_ids) + len(c.sequences)
    rows = {"value": n_rows, "field": n_tables}.get(granularity.split("_")[0], 1)
    assert threshold.shape == (rows, c.embedding_dim if granularity.endswith("dim") else 1)
    every = torch.arange(n_rows)
    np.testing.assert_allclose(module.thresholded(every).detach().numpy(), table, atol=1e-6)
    x = random_inputs(c)
    numeric = module.numeric_weight.detach().numpy() if c.n_numeric else None
    expected = reference_vectors(c, table, numeric, x)
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(module.eval()(x).detach().numpy(), expected, atol=1e-6)
    module.kept.zero_()  # as if all rows had been trained
    assert np.array_equal(module.margins() > 0, table != 0)


def test_penalty_is_the_norm_of_the_distinct_vectors_per_row_of_the_batch():
    c = context()
    module = searched_module(c, pressure=0.3)
    x = random_inputs(c, n=20)
    table = reference_table(
        c, module.weight.detach().numpy(), module.threshold.detach().numpy(), "value_dim"
    )
    offsets = np.cumsum([0, *c.n_ids])
    rows = {int(i) + int(offsets[f]) for row in x.ids for f, i in enumerate(row)}
    rows |= {int(i) + int(offsets[-1]) for row in x.sequences for i in row}
    module.set_progress(1.0)
    module(x)
    assert len(rows) < 20  # repeated values count once
    assert module.penalty().item() == pytest.approx(
        0.3 / 20 * np.abs(table[sorted(rows)]).sum(), rel=1e-5
    )
    module.set_progress(WARMUP - 1e-6)
    assert module.penalty().item() == 0
    module.set_progress(WARMUP)
    assert module.penalty().item() > 0


def batch_of(x, seed=4):
    y = (torch.rand(len(x.ids), generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    return EncodedTensors(*x[:3], y)


def table_rows(c, x):
    offsets = np.cumsum([0, *c.n_ids, *(n for n, _ in c.sequences)])
    rows = {int(i) + int(offsets[f]) for row in x.ids for f, i in enumerate(row)}
    at = 0
    for k, (_, length) in enumerate(c.sequences):
        rows |= {
            int(i) + int(offsets[len(c.n_ids) + k])
            for row in x.sequences[:, at : at + length]
            for i in row
        }
        at += length
    return sorted(rows)


@pytest.mark.parametrize("granularity", ["value_dim", "value"])
@pytest.mark.parametrize("row_wise", [False, True])
@pytest.mark.parametrize(
    "c", [context((40, 30), (), 0), context((40,), ((30, 3),), 2)], ids=["categorical", "mixed"]
)
def test_a_step_touches_only_the_rows_of_its_batch(granularity, row_wise, c):
    c = BuildContext(
        **{
            **c.__dict__,
            "sparse_gradients": row_wise,
            "generator": torch.Generator().manual_seed(0),
        }
    )
    module = PEP(granularity=granularity, threshold_decay=0.1, pressure=1.0).build(c)
    net = FieldNet(
        FM().build(c, {"embedding": module}),
        BinaryLogLoss(),
        lr=0.05,
        embedding_l2=0.1,
        weight_decay=0.1,
    )
    net.n_steps = 3
    net.initialize()
    first, second = random_inputs(c, 30), random_inputs(c, 5, seed=9, most=12)
    net.module_.train()
    for _ in range(2):
        net.train_step(batch_of(first))
    ((_, thresholds, _),) = net.arch_turns_
    assert isinstance(thresholds, RowAdam)
    moments = [
        state[name]
        for optimizer, p in ((net.table_optimizer_, module.weight), (thresholds, module.threshold))
        for state in [optimizer.state[p]]
        for name in ("exp_avg", "exp_avg_sq")
    ]
    tensors = [module.weight.detach(), module.threshold.detach(), *moments, module.kept]
    before = [t.clone() for t in tensors]
    touched = table_rows(c, second)
    others = sorted(set(table_rows(c, first)) - set(touched))
    assert touched and others and all((moment[others] != 0).any() for moment in moments)
    net.train_step(batch_of(second))
    rest = [r for r in range(module.n_rows) if r not in touched]
    for old, new in zip(before, tensors, strict=True):
        assert torch.equal(old[rest], new[rest])
    for old, new in zip(before[:-1], tensors[:-1], strict=True):
        assert not torch.equal(old[touched], new[touched])
    if c.n_numeric:  # small and read by every row
        assert module.numeric_weight.grad is not None


def test_sparsity_counts_the_rows_seen():
    c = context((40, 30), (), 0)
    module = searched_module(c)
    net = FieldNet(FM().build(c, {"embedding": module}), BinaryLogLoss(), lr=0.05)
    net.n_steps = 20
    net.initialize()
    net.module_.train()
    rows = set()
    for seed in range(20):
        x = random_inputs(c, 4, seed=seed, most=25)
        rows |= set(table_rows(c, x))
        net.train_step(batch_of(x))
    rows = sorted(rows)
    left = (module.thresholded(torch.tensor(rows)) != 0).float().mean().item()
    assert module.summary()["sparsity"] == pytest.approx(1 - left)
    assert set(np.flatnonzero(np.isfinite(module.margins()).all(1))) == set(rows)


def test_rows_of_a_bilevel_partner_do_not_count_as_trained():
    """Another method's rows pass through the table as well, but its values are not trained
    on them.
    """
    from sklearn_autorec.engine import ArchSchedule, SearchProblem, TrainingPlan

    class Gate(torch.nn.Module):
        arch_schedule = ArchSchedule("first_order", every=1, fraction=0.5)

        def __init__(self):
            super().__init__()
            self.gate = torch.nn.Parameter(torch.ones(1, 2))

        def arch_parameters(self):
            return [self.gate]

        def forward(self, e, inputs):
            return self.gate

    n = 60
    c = context((n, 3), (), 0)
    ids = torch.stack([torch.arange(n), torch.arange(n) % 3], 1).int()
    data = EncodedTensors(
        ids, torch.zeros(n, 0), torch.zeros(n, 0).int(), (torch.arange(n) % 2).float()
    )
    plan = TrainingPlan(epochs=2, batch_size=10)
    problem = SearchProblem(
        FM(), c, ("embedding", "gate"), dict, BinaryLogLoss(), data, plan, torch.device("cpu")
    )
    for method in (PEP(), MagnitudePruning()):
        module = method.build(c)
        problem.train(module, Gate())
        trained = module.kept >= 0 if isinstance(method, PEP) else module.seen
        weights, _ = problem.split(0.5)
        assert set(torch.nonzero(trained[:n]).flatten().tolist()) == set(weights.tolist())


def test_strongest_is_exact_and_prefers_high_scores():
    scores = np.random.default_rng(0).normal(size=(9, 7))
    for sparsity in (0, 0.2, 0.5, 0.99, 1):
        mask = strongest(scores, sparsity)
        assert mask.sum() == round((1 - sparsity) * 63)
        if 0 < mask.sum() < 63:
            assert scores[mask].min() > scores[~mask].max()
    scores[:5] = -np.inf
    assert strongest(scores, 0).sum() == strongest(scores, 0.1).sum() == 28
    assert strongest(scores, 0.8)[:5].sum() == 0
