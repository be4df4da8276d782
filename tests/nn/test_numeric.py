"""Embeddings of numbers: their formulas, value by value."""

import math

import numpy as np
import pytest
import torch

from sklearn_autorec.nn import BuildContext
from sklearn_autorec.nn._numeric import NumericEmbedding

N, T, D = 3, 5, 4  # numbers, steps or frequencies, width
RANGES = {"ranks": (0.0, 1.0), "centred": (-(3**0.5), 3**0.5), "unbounded": (-3.0, 3.0)}


def context(kind, members=1, limits=(0.0, 1.0)):
    return BuildContext(
        tuple("abc"),
        (),
        N,
        embedding_dim=D,
        generator=torch.Generator().manual_seed(0),
        members=members,
        numeric_embedding=kind,
        n_numeric_bins=T,
        numeric_range=limits,
    )


def embedding(context):
    module = NumericEmbedding(context)
    module.init_numbers(context, D, 1.0)
    return module.double()


def numbers(n_rows, limits, seed=0):
    """Scaled values, some beyond the range and some on knots, and missing indicators."""
    rng = np.random.default_rng(seed)
    low, high = limits
    values = rng.uniform(low - 0.3, high + 0.3, (n_rows, N))
    values[: T + 1, 0] = np.linspace(low, high, T + 1)
    missing = rng.random((n_rows, N)) < 0.2
    values[missing] = 0.0
    return values, missing.astype(float)


def by_formula(kind, x, missing, weight, frequency, limits):
    """The vectors of the numbers of one member, (n_rows, N, D), cell by cell as the docstring has
    them.
    """
    low, high = limits
    out = np.zeros((len(x), N, D))
    if kind != "piecewise" and low + high != 0:
        x = (x - (low + high) / 2) * math.sqrt(12) / (high - low)
    for row in range(len(x)):
        for j in range(N):
            u, b = weight[-2, j], weight[-1, j]
            if kind == "piecewise":
                position = (x[row, j] - low) / (high - low) * T
                parts = [min(max(position - t, 0.0), 1.0) for t in range(T)]
                parts[0] += min(position, 0.0)  # going on beyond the ends
                parts[-1] += max(position - T, 0.0)
                f = sum(c * weight[t, j] for t, c in enumerate(parts)) + b
            elif kind == "periodic":
                angle = 2 * math.pi * x[row, j] * frequency[:, j]
                f = np.maximum(
                    np.cos(angle) @ weight[:T, j] + np.sin(angle) @ weight[T : 2 * T, j] + b, 0
                )
            else:
                f = x[row, j] * weight[0, j] + b
            out[row, j] = f + missing[row, j] * u
    return out


@pytest.mark.parametrize("limits", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("kind", ["piecewise", "periodic", "linear"])
def test_agrees_with_the_formula(kind, members, limits):
    module = embedding(context(kind, members, limits))
    rows = [numbers(17, limits, seed) for seed in range(members)]
    batch = torch.tensor(np.concatenate([np.hstack(r) for r in rows]))
    found = module.embed_numbers(batch).detach().numpy().reshape(members, 17, N, D)
    weights = module.numeric_weight.detach().numpy().reshape(members, -1, N, D)
    frequencies = [None] * members
    if kind == "periodic":
        frequencies = module.numeric_frequency.detach().numpy().reshape(members, T, N)
    for m in range(members):
        expected = by_formula(kind, *rows[m], weights[m], frequencies[m], limits)
        np.testing.assert_allclose(found[m], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["piecewise", "periodic", "linear"])
def test_gradients_are_those_of_the_formula(kind):
    module = embedding(context(kind))
    values, missing = numbers(9, (0.01, 0.99))
    batch = torch.tensor(np.hstack([values, missing]))

    def function(*parameters):
        names = dict(module.named_parameters())
        return torch.func.functional_call(
            module, dict(zip(names, parameters, strict=True)), (batch,)
        )

    module.forward = module.embed_numbers
    assert torch.autograd.gradcheck(function, tuple(module.parameters()))


def test_piecewise_is_continuous_and_has_a_value_of_its_own_at_every_knot():
    module = embedding(context("piecewise"))
    knots = np.linspace(0, 1, T + 1)

    def at(x):
        return module.embed_numbers(torch.tensor([[v] * N + [0.0] * N for v in x])).detach().numpy()

    np.testing.assert_allclose(at(knots - 1e-9), at(knots + 1e-9), atol=1e-7)
    assert np.abs(np.diff(at(knots), axis=0)).min() > 1e-4
    np.testing.assert_allclose(
        at((knots[1:] + knots[:-1]) / 2), (at(knots)[1:] + at(knots)[:-1]) / 2
    )


def test_a_row_has_the_same_bits_alone_and_in_a_batch():
    for kind in ("piecewise", "linear"):
        module = embedding(context(kind)).float()
        batch = torch.tensor(np.hstack(numbers(33, (0.0, 1.0)))).float()
        together = module.embed_numbers(batch)
        for row in range(33):
            assert torch.equal(module.embed_numbers(batch[row : row + 1]), together[row : row + 1])


def test_unknown_embeddings_are_refused():
    with pytest.raises(
        ValueError, match="numeric_embedding must be one of .*'piecewise'.*got 'spline'"
    ):
        NumericEmbedding(context("spline"))
