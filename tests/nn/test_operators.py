"""Functions of two embeddings against numpy."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_autorec.nn import OPERATORS, PairOperator


def made(name):
    generator = torch.Generator().manual_seed(0)
    operator = PairOperator(name, 2, 3, generator)
    with torch.no_grad():
        for p in operator.parameters():
            p.normal_(generator=generator)
    left, right = torch.randn(2, 5, 2, 3, generator=generator)
    return operator, left, right


def expected(name, x, y, w):
    """Of one pair of vectors, with the weights of its pair by name."""

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    if name == "kernel":
        return [x @ w["module.weight"] @ y]
    if name == "cross":
        return x * (y @ w["module.layer.weight"] + w["module.layer.bias"]) + x
    if name == "gated":
        both = np.concatenate([x, y])
        gate = sigmoid(both @ w["module.layer.weight"] + w["module.layer.bias"])
        return gate * x + (1 - gate) * y
    if name == "attention":
        scores = [
            np.tanh(z @ w["module.layer.weight"] + w["module.layer.bias"])
            @ w["module.score.weight"][:, 0]
            for z in (x, y)
        ]
        odds = np.exp(scores)
        return (odds[0] * x + odds[1] * y) / odds.sum()
    return {
        "inner": [x @ y],
        "hadamard": x * y,
        "outer": np.outer(x, y).ravel(),
        "max": np.maximum(x, y),
        "min": np.minimum(x, y),
        "plus": x + y,
        "difference": x - y,
        "distance": abs(x - y),
        "concat": np.concatenate([x, y]),
    }[name]


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_their_formulas(name):
    operator, left, right = made(name)
    out = operator(left, right)
    assert out.shape == (5, 2, operator.width)
    for pair in range(2):
        weights = {n: p[pair].detach().numpy() for n, p in operator.named_parameters()}
        for row in range(5):
            x, y = left[row, pair].numpy(), right[row, pair].numpy()
            wanted = np.asarray(expected(name, x, y, weights))
            np.testing.assert_allclose(
                out[row, pair].detach().numpy(), wanted, rtol=2e-4, atol=1e-5
            )
    again = pickle.loads(pickle.dumps(operator))
    torch.testing.assert_close(again(left, right), out, rtol=0, atol=0)


def test_a_kernel_begins_as_the_inner_product():
    left, right = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    kernel, inner = (PairOperator(name, 2, 3, torch.Generator()) for name in ("kernel", "inner"))
    torch.testing.assert_close(kernel(left, right), inner(left, right))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"one of \('inner', .*got 'power'"):
        PairOperator("power", 2, 3, torch.Generator())
