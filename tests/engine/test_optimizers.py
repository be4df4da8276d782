import copy

import numpy as np
import pytest
import torch

from sklearn_autorec.engine import GRDA, RowAdam
from sklearn_autorec.engine._optimizers import AT_ONCE, LeanAdam, flush_denormals, row_sums


def run(optimizer, p, grads):
    path = []
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return path


def test_grda_without_threshold_is_gradient_descent():
    grads = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    p = torch.nn.Parameter(torch.ones(5))
    path = run(GRDA([p], lr=0.3, threshold=0.0, mu=0.8, n_steps=20), p, grads)
    torch.testing.assert_close(torch.stack(path), 1 - 0.3 * grads.cumsum(0))


def test_grda_agrees_with_the_original_formula():
    rng = np.random.default_rng(0)
    lr, mu, n_steps, final = 0.7, 0.6, 30, 1.5
    c = final / (lr ** (0.5 + mu) * n_steps**mu)
    grads = rng.normal(size=(n_steps, 8))
    start = rng.normal(size=8)
    v, expected = start.copy(), []
    for t, g in enumerate(grads, start=1):
        v = v - lr * g
        tau = c * lr ** (0.5 + mu) * t**mu
        expected.append(np.sign(v) * np.maximum(np.abs(v) - tau, 0))
    p = torch.nn.Parameter(torch.from_numpy(start.copy()))
    path = run(
        GRDA([p], lr=lr, threshold=final, mu=mu, n_steps=n_steps), p, torch.from_numpy(grads)
    )
    np.testing.assert_allclose(torch.stack(path).numpy(), expected, atol=1e-12)
    assert (torch.stack(path) == 0).any()


def test_grda_survives_saving():
    grads = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    p = torch.nn.Parameter(torch.ones(4))
    whole = run(GRDA([p], 0.5, 1.0, 0.8, 10), p, grads)
    q = torch.nn.Parameter(torch.ones(4))
    first = GRDA([q], 0.5, 1.0, 0.8, 10)
    run(first, q, grads[:5])
    second = GRDA([q], 0.5, 1.0, 0.8, 10)
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(run(second, q, grads[5:])[-1], whole[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lean_steps_have_the_bits_of_torch(dtype):
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(n, 3, generator=generator, dtype=dtype) for n in (50, 4, 7)]
    made = []
    for maker in (LeanAdam, lambda groups, lr: torch.optim.Adam(groups, lr=lr, fused=True)):
        params = [torch.nn.Parameter(t.clone()) for t in start]
        groups = [{"params": params[:1], "weight_decay": 0.3}, {"params": params[1:]}]
        made.append((params, maker(groups, 0.01)))
    for step in range(8):
        grads = [torch.randn(t.shape, generator=generator, dtype=dtype) for t in start]
        for params, optimizer in made:
            for p, g in zip(params, grads, strict=True):
                p.grad = g.clone()
            if step in (0, 5):  # the last begins later, and once has no gradient
                params[-1].grad = None
            if step == 6:
                optimizer.load_state_dict(optimizer.state_dict())
                optimizer.param_groups[1]["lr"] = 0.1
            optimizer.step()
        for p, q in zip(made[0][0], made[1][0], strict=True):
            assert torch.equal(p, q)
    assert made[0][1].state_dict().keys() == made[1][1].state_dict().keys()


def test_the_lean_steps_take_a_closure():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = LeanAdam([p], lr=0.1)

    def loss():
        optimizer.zero_grad()
        value = (p**2).sum()
        value.backward()
        return value

    assert [optimizer.step(loss).item() for _ in range(2)] == [3.0, pytest.approx(2.43)]


def sparse_rows(rows, values, n):
    return torch.sparse_coo_tensor(
        torch.tensor([rows]), values, (n, values.shape[1]), check_invariants=True
    )


def test_row_adam_equals_adam_when_every_row_is_touched():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 3, generator=generator)
    grads = torch.randn(15, 6, 3, generator=generator)
    p, q = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    run(torch.optim.Adam([p], lr=0.05, weight_decay=0.1), p, grads)
    run(RowAdam([q], lr=0.05, weight_decay=0.1), q, [sparse_rows([*range(6)], g, 6) for g in grads])
    torch.testing.assert_close(q.detach(), p.detach(), atol=1e-6, rtol=1e-5)


def test_row_adam_leaves_other_rows_alone_and_adds_repeated_ones():
    p, q = torch.nn.Parameter(torch.ones(5, 2)), torch.nn.Parameter(torch.ones(5, 2))
    a, b = RowAdam([p], lr=0.1, weight_decay=0.5), RowAdam([q], lr=0.1, weight_decay=0.5)
    run(a, p, [sparse_rows([1, 3, 1], torch.full((3, 2), 0.5), 5)])
    run(b, q, [sparse_rows([1, 3], torch.tensor([[1.0, 1.0], [0.5, 0.5]]), 5)])
    torch.testing.assert_close(p, q)
    assert (p[[0, 2, 4]] == 1).all() and (p[[1, 3]] < 1).all()


def test_flushing_zeroes_only_what_vanished():
    p = torch.nn.Parameter(torch.tensor([1.0, 1e-20, -1e-20, 1e-6]))
    free = torch.nn.Parameter(torch.tensor([1e-20]))
    optimizer = torch.optim.Adam([{"params": [p], "weight_decay": 0.1}, {"params": [free]}], lr=0.0)
    for x in (p, free):
        x.grad = torch.zeros_like(x)
    optimizer.step()
    optimizer.state[p]["exp_avg_sq"][1] = 1e-40
    flush_denormals(optimizer)
    assert p.tolist() == torch.tensor([1.0, 0.0, 0.0, 1e-6]).tolist()
    assert optimizer.state[p]["exp_avg_sq"][1] == 0
    assert free.item() != 0  # not decayed, so it cannot shrink for ever


def test_grda_keeps_its_last_threshold_after_the_planned_steps():
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = GRDA([w], lr=0.1, threshold=0.25, mu=0.7, n_steps=4)
    w.grad = torch.zeros(2)
    for step in range(1, 13):
        optimizer.step()
        threshold = 0.25 * min(step / 4, 1) ** 0.7
        torch.testing.assert_close(w.detach(), torch.tensor([1 - threshold, threshold - 2]))


@pytest.mark.parametrize("added_up", [True, False])
def test_rows_of_a_gradient_are_summed_once(added_up):
    rows = torch.tensor([[0, 2, 3] if added_up else [2, 0, 2]])
    values = torch.arange(6.0).view(3, 2)
    grad = torch.sparse_coo_tensor(rows, values, (4, 2), check_invariants=True)
    found, sums = row_sums(grad)
    assert found.tolist() == rows[0].unique().tolist()
    assert torch.equal(torch.zeros(4, 2).index_copy_(0, found, sums), grad.to_dense())


def test_a_row_that_comes_twice_in_a_row_is_added_up():
    """Numbers of rows that rise but for a repetition are not yet those of distinct rows."""
    values = torch.tensor([[1.0], [2.0], [4.0]])
    grad = torch.sparse_coo_tensor([[1, 1, 3]], values, (5, 1), check_invariants=True)
    rows, sums = row_sums(grad)
    assert rows.tolist() == [1, 3] and sums[:, 0].tolist() == [3.0, 4.0]


def test_many_rows_move_as_few_do():
    generator = torch.Generator().manual_seed(0)
    n = 2 * AT_ONCE + 5
    start = torch.randn(n, 2, generator=generator)
    p, q = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    grads = torch.randn(3, n, 2, generator=generator)
    run(torch.optim.Adam([p], lr=0.05, weight_decay=0.1), p, grads)
    run(RowAdam([q], lr=0.05, weight_decay=0.1), q, [sparse_rows([*range(n)], g, n) for g in grads])
    torch.testing.assert_close(p, q)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_rows_that_were_moved_to_infinity_are_told_once(wrong):
    n = AT_ONCE + 2
    p = torch.nn.Parameter(torch.zeros(n, 1))
    optimizer = RowAdam([p], lr=0.1)
    grad = torch.ones(n, 1)
    run(optimizer, p, [sparse_rows([*range(n)], grad, n)])
    assert torch.stack(optimizer.extremes()).isfinite().all()
    optimizer = copy.deepcopy(optimizer)
    p = optimizer.param_groups[0]["params"][0]
    grad[3] = wrong  # in the first of two parts
    run(optimizer, p, [sparse_rows([*range(n)], grad, n)] * 2)
    assert not torch.stack(optimizer.extremes()).isfinite().all()
    assert optimizer.extremes() == []


def test_gradients_may_lie_in_memory_as_they_like():
    """As those of a sum do, which are one number, or those of a transposed product."""
    generator = torch.Generator().manual_seed(0)
    start, n = torch.randn(6, 4, generator=generator), 6
    for g in (torch.tensor(0.5).expand(6, 4), torch.randn(4, 6, generator=generator).T):
        p, q = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
        assert not g.is_contiguous()
        grad = torch.sparse_coo_tensor(
            torch.arange(n).unsqueeze(0), g, (n, 4), is_coalesced=True, check_invariants=False
        )
        p.grad, q.grad = g.clone(memory_format=torch.contiguous_format), grad
        torch.optim.Adam([p], lr=0.05).step()
        RowAdam([q], lr=0.05).step()
        torch.testing.assert_close(q, p)
