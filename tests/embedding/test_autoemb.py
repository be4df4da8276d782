"""Formulas of AutoEmb; planted truth and streams are in ``test_streamed_sizes.py``."""

import numpy as np
import pytest
import torch

from sklearn_autorec.embedding import AutoEmb
from sklearn_autorec.engine import EncodedTensors, SearchProblem, TrainingPlan
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, Inputs

D, SIZES = 4, (1, 2, 4)


def context(**changes):
    """Two categorical fields, a number, a list of its own and one that reads the first field."""
    options = {
        "field_names": ("a", "b", "n", "s", "t"),
        "n_ids": (5, 7),
        "n_numeric": 1,
        "sequences": ((4, 3), (5, 2)),
        "shared": (None, 0),
        "embedding_dim": D,
        "generator": torch.Generator().manual_seed(0),
        "embedding_init": 1.0,
        "counts": (np.array([0, 3, 40, 9, 1]), np.array([0, 0, 20, 15, 10, 5, 3])),
    }
    return BuildContext(**{**options, **changes})


def inputs(n=11, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, m, (n,), generator=generator) for m in (5, 7)], 1)
    items = torch.cat(
        [torch.randint(0, m, (n, k), generator=generator) for m, k in ((4, 3), (5, 2))], 1
    )
    items[0] = 0  # empty lists
    return Inputs(ids.int(), torch.randn(n, 2, generator=generator), items.int())


def batch(n=11, seed=1):
    x = inputs(n, seed)
    y = (torch.rand(n, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    return EncodedTensors(x.ids, x.numeric, x.sequences, y)


def searched(**options):
    """A module in the middle of a search."""
    module = AutoEmb(SIZES, **options).build(context())
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in (*module.arch_parameters(), module.scale):
            p.normal_(generator=generator)
    return module


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference_weights(module, counts, f):
    array = {name: getattr(module, name).detach().numpy()[f] for name in module.controllers}
    x = (np.log2(1.0 + counts) - 5)[:, None] / 5
    hidden = np.tanh(x @ array["entry"] + array["entry_shift"])
    w = softmax(hidden @ array["exit"] + array["exit_shift"])
    return 0.9 * w + 0.1 / len(SIZES)


def reference_candidates(module, e, f, mean=None, variance=None):
    """(B, N, d) of pieces (B, S); statistics of the batch where none are given."""
    P, out, start = module.projection.detach().numpy()[f], [], 0
    for n, size in enumerate(SIZES):
        x = e[:, start : start + size] @ P[start : start + size, n]
        m, v = (x.mean(0), x.var(0)) if mean is None else (mean[n], variance[n])
        out.append(np.tanh((x - m) / np.sqrt(v + 1e-6)))
        start += size
    return np.stack(out, 1)


@pytest.mark.parametrize("training", [True, False])
def test_the_mixture_agrees_with_numpy(training):
    module, x = searched(), inputs()
    counts = module.counted.counts.numpy()
    assert counts.tolist() == [0, 3, 40, 9, 1, 0, 0, 20, 15, 10, 5, 3, 0, 0, 0, 0]
    module.mean.normal_(generator=torch.Generator().manual_seed(7))
    module.variance.uniform_(0.5, 2, generator=torch.Generator().manual_seed(8))
    statistics = {
        f: (module.mean[f].view(3, D).numpy().copy(), module.variance[f].view(3, D).numpy().copy())
        for f in range(5)
    }
    module.train(training)
    got = module(x).detach().numpy()
    pieces, scale = module.pieces.detach().numpy(), module.scale.detach().numpy()

    def vectors(rows, f):
        known = (None, None) if training else statistics[f]
        z = reference_candidates(module, pieces[rows], f, *known)
        return np.einsum("bn,bnd->bd", reference_weights(module, counts[rows], f), z) * scale[f]

    ids = x.ids.numpy() + np.array([0, 5])
    for f in (0, 1):
        np.testing.assert_allclose(got[:, f], vectors(ids[:, f], f), rtol=1e-3, atol=2e-5)
    items = x.sequences.numpy()
    for column, f, own, start in ((3, 3, items[:, :3], 12), (4, 0, items[:, 3:], 0)):
        there = own > 0
        expected = np.zeros((*own.shape, D))
        expected[there] = vectors(own[there] + start, f)
        mean = expected.sum(1) / np.maximum(there.sum(1), 1)[:, None]
        np.testing.assert_allclose(got[:, column], mean, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(
        got[:, 2], module.embed_numbers(x.numeric).detach().numpy()[:, 0], atol=1e-6
    )


def test_the_scale_of_a_piece_has_no_say():
    module, x = searched(), inputs()
    before = module(x)
    with torch.no_grad():
        module.pieces[:, 1:3] *= 10
    torch.testing.assert_close(module(x)[:, :2], before[:, :2], rtol=1e-3, atol=1e-4)


def test_the_price_is_that_of_the_columns_of_all_values():
    module, x = searched(price=0.3), inputs()
    module(x)
    counts = module.counted.counts.numpy()
    expected = 0.0
    for f, start in ((0, 0), (1, 5)):
        rows = x.ids.numpy()[:, f] + start
        size = reference_weights(module, counts[rows], f) @ SIZES
        expected += (size / np.maximum(counts[rows], 1)).mean()
    items = x.sequences.numpy()
    for f, own, start in ((3, items[:, :3], 12), (0, items[:, 3:], 0)):
        rows = own[own > 0] + start
        size = reference_weights(module, counts[rows], f) @ SIZES
        expected += (size / np.maximum(counts[rows], 1)).sum() / len(own)
    assert module.penalty().item() == pytest.approx(0.3 * expected, rel=1e-4)


def test_one_row_trains_by_the_running_statistics_and_leaves_them():
    module = searched().train()
    module(inputs())
    mean = module.mean.clone()
    one = inputs(1, seed=4)
    out = module(one)
    assert torch.isfinite(out).all() and torch.equal(module.mean[1], mean[1])


def problem(n=96, epochs=1):
    data = batch(n)
    plan = TrainingPlan(epochs=epochs, batch_size=16, lr=0.01)
    return SearchProblem(
        FM(), context(), ("embedding",), dict, BinaryLogLoss(), data, plan, torch.device("cpu")
    )


@pytest.mark.parametrize("rows", ["previous", "next", "same"])
def test_a_step_of_the_controllers_moves_no_weight(rows):
    own, moved = problem(), []
    module = AutoEmb(SIZES, rows=rows, warmup=0.0).build(own.context)
    real = module.arch_optimizer

    def spied(n_steps):
        optimizer = real(n_steps)
        step = optimizer.step

        def watched():
            held = {k: p.clone() for k, p in module.named_parameters()}
            step()
            now = dict(module.named_parameters())
            moved.append({k for k, p in held.items() if not torch.equal(p, now[k])})

        optimizer.step = watched
        return optimizer

    module.arch_optimizer = spied
    own.train(module)
    assert len(moved) == (5 if rows == "previous" else 6)
    assert set().union(*moved) <= set(module.controllers) and moved[-1] >= {"exit", "exit_shift"}


def test_items_are_counted_once_in_a_fit_and_chunks_as_they_come():
    own = problem(epochs=3)
    module = AutoEmb(SIZES).build(own.context)
    own.train(module)
    items = own.data.sequences.numpy()
    of_items = np.bincount(items[:, :3][items[:, :3] > 0], minlength=4)
    shared = np.bincount(items[:, 3:][items[:, 3:] > 0], minlength=5)
    counts = module.counted.counts.numpy().copy()
    np.testing.assert_array_equal(counts[12:], of_items)
    np.testing.assert_array_equal(counts[:5], own.context.counts[0] + shared)
    module.counted.begin_chunk(own.data)
    ids = np.bincount(own.data.ids.numpy()[:, 0], minlength=5)
    np.testing.assert_array_equal(module.counted.counts.numpy()[:5], counts[:5] + ids + shared)


def test_weights_become_a_choice_by_the_end_of_a_hardened_search():
    module = searched(harden=True)
    told = module.told(torch.arange(5)).unsqueeze(0)
    shares = []
    for t in (0.0, 0.5, 0.75, 1.0):
        module.set_progress(t)
        shares.append((module.temperature, module.floor))
    np.testing.assert_allclose(shares, [(1, 0.1), (1, 0.1), (0.55, 0.05), (0.1, 0.0)], atol=1e-9)
    w = module.weights(told, slice(0, 1))
    logits = torch.log(module.weights(told, slice(0, 1), 1.0))
    torch.testing.assert_close(w, torch.softmax(logits / 0.1, -1), rtol=1e-3, atol=1e-5)
    soft = searched()
    soft.set_progress(1.0)
    assert soft.temperature == 1.0 and soft.floor == 0.1


def test_controllers_can_be_told_the_last_loss():
    module = searched(use_loss=True)
    b = batch(3)
    module.observe(b, torch.tensor([0.2, 0.4, 1.2]))
    rows = b.ids.long()[:, 0]
    told = module.told(torch.arange(16))
    usual = module.last_loss.losses.sum() / (module.last_loss.n_pushed > 0).sum()
    own = torch.tensor([0.2, 0.4, 1.2])[rows == rows[0]]
    if not (b.sequences[:, 3:] == rows[0]).any():
        assert told[rows[0], 1].item() == pytest.approx((own.mean() - usual).item(), abs=1e-5)
    never = module.last_loss.n_pushed == 0
    assert never.any() and (told[never, 1] == 0).all() and told.shape == (16, 2)


def test_architectures_tell_weights_by_count():
    module = searched()
    found = AutoEmb(SIZES).derive(module, context())
    counts = np.array(found["weights"]["counts"])
    for f, own in zip((0, 1, 3), found["weights"]["by_field"], strict=True):
        np.testing.assert_allclose(own, reference_weights(module, counts, f), atol=1e-5)
