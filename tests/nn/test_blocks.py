import copy

import numpy as np
import pytest
import torch
from draws import generator

from sklearn_autorec.nn import (
    MLP,
    BuildContext,
    FieldEmbedding,
    FieldLinear,
    Inputs,
    ReLUDropout,
    SumPool,
    linear,
    pair_index,
)


def context(**changes):
    options = {
        "field_names": ("a", "b", "n", "m", "s", "t"),
        "n_ids": (4, 3),
        "n_numeric": 2,
        "sequences": ((5, 3), (6, 2)),
        "embedding_dim": 2,
        "embedding_init": 1.0,
        "generator": generator(),
    }
    return BuildContext(**{**options, **changes})


INPUTS = Inputs(
    torch.tensor([[0, 2], [3, 1]], dtype=torch.int32),
    torch.tensor([[0.5, 0.0, 0.0, 1.0], [-1.0, 2.0, 0.0, 0.0]]),
    torch.tensor([[2, 4, 0, 0, 0], [1, 0, 0, 5, 5]], dtype=torch.int32),
)


def test_embedding_agrees_with_a_plain_reference():
    module = FieldEmbedding(context())
    table = module.weight.detach().numpy()
    value, missing, constant = module.numeric_weight.detach().numpy()
    a, b, s, t = table[:4], table[4:7], table[7:12], table[12:18]
    expected = [
        [
            a[0],
            b[2],
            0.5 * value[0] + constant[0],
            missing[1] + constant[1],
            (s[2] + s[4]) / 2,
            np.zeros(2),
        ],
        [a[3], b[1], -value[0] + constant[0], 2 * value[1] + constant[1], s[1], t[5]],
    ]
    np.testing.assert_allclose(module(INPUTS).detach().numpy(), np.array(expected), atol=1e-6)


@pytest.mark.parametrize("kind", ["categorical", "numeric", "sequence"])
def test_embedding_of_one_kind_of_field(kind):
    none = torch.zeros(2, 0)
    options = {"n_ids": (), "n_numeric": 0, "sequences": ()}
    if kind == "categorical":
        c, x = context(**{**options, "n_ids": (4, 3)}), Inputs(INPUTS.ids, none, none.int())
    elif kind == "numeric":
        c, x = (
            context(**{**options, "n_numeric": 2}),
            Inputs(none.int(), INPUTS.numeric, none.int()),
        )
    else:
        c, x = (
            context(**{**options, "sequences": ((5, 3), (6, 2))}),
            Inputs(none.int(), none, INPUTS.sequences),
        )
    assert FieldEmbedding(c)(x).shape == (2, 2, 2) and c.n_fields == 2


def test_linear_term_sums_fields_and_starts_at_the_bias():
    c = context(n_outputs=3, output_bias=(0.1, -0.2, 0.3))
    module = FieldLinear(c)
    torch.testing.assert_close(module(INPUTS), torch.tensor([[0.1, -0.2, 0.3]]).expand(2, 3))
    with torch.no_grad():
        module.weight[0] = torch.tensor([1.0, 2.0, 3.0])  # value 0 of the first field
    torch.testing.assert_close(module(INPUTS)[0], torch.tensor([1.1, 1.8, 3.3]))


def test_relu_dropout_drops_the_declared_share_and_keeps_the_mean():
    x = torch.ones(1000, 400, requires_grad=True)
    layer = ReLUDropout(0.3, generator())
    y = layer(x)
    p = 77 / 256  # 8-bit thresholds
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert y.max().item() == pytest.approx(1 / (1 - p)) and y.mean().item() == pytest.approx(
        1, abs=0.01
    )
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())  # the gradient is the mask
    assert not torch.equal(layer(x) == 0, y == 0)  # a new mask every call


def test_relu_dropout_is_relu_without_dropout():
    x = torch.randn(50, 7, generator=generator())
    for layer in (ReLUDropout(0.0, generator()), ReLUDropout(0.5, generator()).eval()):
        assert torch.equal(layer(x), torch.relu(x))
    negative = torch.full((3, 4), -1.0, requires_grad=True)
    ReLUDropout(0.5, generator())(negative).sum().backward()
    assert (negative.grad == 0).all()


def test_relu_dropout_is_seeded_and_units_are_independent():
    x = torch.ones(2000, 16)
    a, b, c = (
        ReLUDropout(0.5, generator(1)),
        ReLUDropout(0.5, generator(1)),
        ReLUDropout(0.5, generator(2)),
    )
    first = a(x)
    assert torch.equal(first, b(x)) and not torch.equal(first, c(x))
    assert torch.equal(copy.deepcopy(a)(x), first)  # a copy starts its stream afresh
    correlation = np.corrcoef((first > 0).numpy().T)
    assert np.abs(correlation - np.eye(16)).max() < 0.12


def test_mlp_agrees_with_numpy():
    module = MLP(3, (5, 4), generator(), batch_norm=False, n_outputs=2)
    x = torch.randn(6, 3, generator=generator(1))
    h = x.numpy()
    layers = [m for m in module.layers if isinstance(m, torch.nn.Linear)]
    for i, layer in enumerate(layers):
        h = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        h = np.maximum(h, 0) if i < 2 else h
    np.testing.assert_allclose(module(x).detach().numpy(), h, atol=1e-5)
    assert (
        module.out_dim == 2
        and MLP(3, (5,), generator()).out_dim == 5
        and MLP(3, (), generator()).out_dim == 3
    )


def test_linear_layers_use_only_their_generator():
    before = torch.random.get_rng_state()
    a, b = linear(4, 3, generator(5)), linear(4, 3, generator(5))
    assert torch.equal(a.weight, b.weight) and (a.bias == 0).all()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert linear(200, 200, generator()).weight.std().item() == pytest.approx(
        (2 / 400) ** 0.5, rel=0.05
    )


def test_sum_pool_sums_or_mixes():
    x = torch.randn(4, 5, generator=generator())
    torch.testing.assert_close(SumPool(5, context())(x), x.sum(1, keepdim=True))
    mixed = SumPool(5, context(n_outputs=3))
    torch.testing.assert_close(mixed(x), x @ mixed.mix.weight.T)


class TenOfAll(torch.nn.Module):
    """Features that are their embeddings' first numbers, and a total that is none of theirs."""

    def forward(self, e, inputs):
        return e[:, :, 0]

    def total(self, e, inputs):
        return e.new_full((len(e), 1), 10.0)


def test_a_part_may_say_its_sum_but_not_what_a_mix_makes():
    part, e = TenOfAll(), torch.randn(4, 5, 2, generator=torch.Generator().manual_seed(0))
    assert (SumPool(5, context()).of(part, e, None) == 10).all()
    mixed = SumPool(5, context(n_outputs=3))
    torch.testing.assert_close(mixed.of(part, e, None), mixed(e[:, :, 0]))


def test_pair_index_is_lexicographic():
    assert pair_index(4).T.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert pair_index(4, 3).T.tolist() == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert pair_index(1).shape == (2, 0)
