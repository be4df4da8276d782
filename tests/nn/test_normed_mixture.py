"""Mixtures of vectors of several sizes in one step, and the tangent in it."""

import pytest
import torch
from torch import nn

from sklearn_autorec.nn._fast_tanh import tanh
from sklearn_autorec.nn._normed_mixture import normed_mixture

N_FIELDS, N_ROWS, SIZES, D = 3, 17, (1, 2, 4), 4


def tensors(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = (
        (N_FIELDS, N_ROWS, sum(SIZES)),
        (N_FIELDS, len(SIZES), N_ROWS),
        (N_FIELDS, sum(SIZES), len(SIZES), D),
    )
    return [
        torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]


def statistics(dtype=torch.float64):
    shape = N_FIELDS, len(SIZES), D
    return torch.full(shape, 0.3, dtype=dtype), torch.full(shape, 2.0, dtype=dtype)


def by_batch_norm(e, w, projection, mean, variance):
    """The same by torch's layers, field by field."""
    out = []
    for f in range(N_FIELDS):
        total, start = 0.0, 0
        for k, size in enumerate(SIZES):
            own = slice(start, start + size)
            start += size
            x = nn.functional.batch_norm(
                e[f, :, own] @ projection[f, own, k],
                mean[f, k],
                variance[f, k],
                training=True,
                momentum=0.2,
                eps=1e-6,
            )
            total = total + w[f, k].unsqueeze(1) * torch.tanh(x)
        out.append(total.T)
    return torch.stack(out)


def test_the_mixture_and_its_gradients_are_those_of_batch_norm():
    inputs, (mean, variance), others = tensors(), statistics(), statistics()
    got = normed_mixture(*inputs, SIZES, mean, variance, 0.2, 1e-6)
    expected = by_batch_norm(*inputs, *others)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close((mean, variance), others)
    grad = torch.randn(got.shape, generator=torch.Generator().manual_seed(1), dtype=got.dtype)
    torch.testing.assert_close(
        torch.autograd.grad(got, inputs, grad), torch.autograd.grad(expected, inputs, grad)
    )


def test_only_gradients_that_are_wanted_are_worked_out():
    e, w, projection = tensors()
    both = torch.autograd.grad(
        normed_mixture(e, w, projection, SIZES, *statistics(), 0.1, 1e-6).sum(), [e, w]
    )
    for wanted in (0, 1):
        one = [t.detach().requires_grad_(k == wanted) for k, t in enumerate((e, w, projection))]
        normed_mixture(*one, SIZES, *statistics(), 0.1, 1e-6).sum().backward()
        torch.testing.assert_close(one[wanted].grad, both[wanted], rtol=0, atol=0)
        assert one[1 - wanted].grad is None and one[2].grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tangent_is_that_of_torch(dtype):
    x = torch.linspace(-12, 12, 4001, dtype=dtype).requires_grad_()
    for got, expected in ((tanh(x), torch.tanh(x)), (tanh(x[::3]), torch.tanh(x[::3]))):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(
            torch.autograd.grad(got.sum(), x), torch.autograd.grad(expected.sum(), x)
        )
    small = x[:9].detach().double().requires_grad_()
    assert torch.autograd.gradgradcheck(tanh, small)
