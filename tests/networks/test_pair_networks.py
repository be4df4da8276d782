"""Networks whose pairs have vectors, weights or networks of their own, and what is near to them:
formulas in plain numpy, and the weights that are left when fields are dropped.
"""

import dataclasses

import numpy as np
import pytest
import torch

from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.engine._building import build_network, carry
from sklearn_autorec.networks import AFM, FFM, OPNN, PIN, DeepCrossing, FiGNN, XDeepFM
from sklearn_autorec.nn import BuildContext, Inputs, SeparateLinear

H = (6, 5)
D = 3


def context(n_outputs=1, **options):
    options = {"numeric_embedding": "linear", **options}
    return BuildContext(
        tuple("abcdef"),
        (5, 4, 6),
        2,
        ((5, 3),),
        embedding_dim=D,
        n_outputs=n_outputs,
        generator=torch.Generator().manual_seed(0),
        output_bias=(0.3,) * n_outputs,
        embedding_init=0.7,
        **options,
    )


def batch(n=7):
    g = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randint(0, k, (n,), generator=g) for k in (5, 4, 6)], 1).int()
    items = torch.randint(0, 5, (n, 3), generator=g).int()
    return Inputs(ids, torch.randn(n, 4, generator=g), items)


def moved(module):
    """The module in eval mode with weights and statistics that all differ."""
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.5 * torch.randn(p.shape, generator=g))
        for name, b in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                b.add_(torch.rand(b.shape, generator=g))
    return module.eval()


# formulas
# ------------------------------------------------------------------------------------


def array(t):
    return t.detach().double().numpy()


def dense(layer, x):
    out = x @ array(layer.weight).T
    return out if layer.bias is None else out + array(layer.bias)


def perceptron(mlp, x):
    for layer in mlp.layers:
        if hasattr(layer, "running_var"):
            x = (x - array(layer.running_mean)) / np.sqrt(array(layer.running_var) + layer.eps)
            x = x * array(layer.weight) + array(layer.bias)
        else:
            x = dense(layer, x) if hasattr(layer, "weight") else np.maximum(x, 0)
    return x


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pairs_of(e):
    """i, j and the embeddings of every pair of one row."""
    return [(i, j, e[i], e[j]) for i in range(len(e)) for j in range(i + 1, len(e))]


def ffm(module, e):
    v = e.reshape(6, 6, D)
    products = np.array([v[i, j] @ v[j, i] for i in range(6) for j in range(i + 1, 6)])
    mix = module.pool.mix
    return products.sum() if mix is None else dense(mix, products)


def afm(module, e):
    part = module.interaction
    products = np.array([a * b for *_, a, b in pairs_of(e)])
    weights = softmax(dense(part.score, np.maximum(dense(part.hidden, products), 0))[:, 0])
    return dense(module.out, weights @ products)


def opnn(module, e):
    if hasattr(module.interaction, "kernel"):
        kernels = array(module.interaction.kernel.weight)
        outer = [a @ k @ b for k, (*_, a, b) in zip(kernels, pairs_of(e), strict=True)]
    else:
        outer = sum(np.outer(a, b) for a in e for b in e).ravel()
    return perceptron(module.head, np.r_[e.ravel(), outer])


def pin(module, e):
    part, found = module.interaction, []
    for p, (*_, a, b) in enumerate(pairs_of(e)):
        hidden = np.r_[a, b, a * b] @ array(part.hidden.weight)[p] + array(part.hidden.bias)[p]
        hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
        hidden = np.maximum(hidden * array(part.norm.weight)[p] + array(part.norm.bias)[p], 0)
        found.append(hidden @ array(part.out.weight)[p] + array(part.out.bias)[p])
    return perceptron(module.head, np.r_[e.ravel(), np.concatenate(found)])


def xdeepfm(module, e):
    above, pooled = e, []
    for layer in module.interaction.layers:
        weight = array(layer.weight).reshape(-1, len(above), 6)  # (H, i, j)
        above = np.array(
            [
                sum(w[i, j] * above[i] * e[j] for i in range(len(above)) for j in range(6))
                for w in weight
            ]
        )
        pooled.append(above.sum(1))
    return dense(module.out, np.concatenate(pooled)) + perceptron(module.head, e.ravel()[None])[0]


def deep_crossing(module, e):
    x = e.ravel()
    for unit in module.units:
        x = np.maximum(x + perceptron(unit, x), 0)
    return dense(module.head, x)


def attention(layer, e):
    found = []
    width = layer.project.weight.shape[0] // (3 * layer.n_heads)
    q, k, v = np.split(dense(layer.project, e), 3, axis=1)
    for h in range(layer.n_heads):
        own = slice(h * width, (h + 1) * width)
        weights = np.array([softmax(row) for row in q[:, own] @ k[:, own].T])
        found.append(weights @ v[:, own])
    return np.maximum(np.hstack(found) + dense(layer.residual, e), 0)


def fignn(module, e):
    graph = module.graph
    e = e if module.attention is None else attention(module.attention, e)
    scores = dense(graph.listener, e) + dense(graph.speaker, e).T
    scores = np.where(scores > 0, scores, 0.01 * scores)
    sent, received = array(graph.sent.weight), array(graph.received.weight)
    state = e
    for _ in range(graph.n_steps):
        messages = []
        for i in range(6):
            others = [j for j in range(6) if j != i]
            weights = softmax(scores[i, others])
            heard = sum(w * state[j] @ sent[j] for w, j in zip(weights, others, strict=True))
            messages.append(heard @ received[i])
        by_message = np.split(dense(graph.by_message, np.array(messages)), 3, axis=1)
        by_state = np.split(dense(graph.by_state, state), 3, axis=1)
        update, reset = (sigmoid(a + b) for a, b in zip(by_message[:2], by_state, strict=False))
        candidate = np.tanh(by_message[2] + reset * by_state[2])
        state = (1 - update) * candidate + update * state + e
    weights = sigmoid(dense(module.weight, state.ravel()))
    return weights @ dense(module.score, state) + array(module.bias)


FORMULAS = [
    (FFM(), ffm),
    (AFM(attention_units=4), afm),
    (OPNN(hidden_units=H), opnn),
    (OPNN("kernel", hidden_units=H), opnn),
    (PIN(4, 1, H), pin),
    (PIN(4, 2, H, batch_norm=False), pin),
    (XDeepFM((4,), H), xdeepfm),
    (XDeepFM((4, 2, 3), ()), xdeepfm),
    (DeepCrossing(H), deep_crossing),
    (DeepCrossing((4,), batch_norm=False), deep_crossing),
    (FiGNN(2, 2, 2), fignn),
    (FiGNN(1, 0), fignn),
]


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize(("network", "formula"), FORMULAS, ids=lambda v: repr(v).split(" at ")[0])
def test_agrees_with_numpy(network, formula, n_outputs):
    module = moved(network.build(context(n_outputs), {}))
    x = batch()
    with torch.no_grad():
        e, out = array(module.embed(x)), module(*x[:3]).numpy()
        first = array(module.linear(x)) if hasattr(module, "linear") else np.zeros(out.shape)
    expected = first + np.array([formula(module, row) for row in e]).reshape(out.shape)
    assert out.shape == (7, n_outputs) and expected.std() > 0.05
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("network", [network for network, _ in FORMULAS], ids=repr)
def test_a_row_has_the_same_bits_in_any_batch(network):
    for n_fields in (2, 5):
        c = BuildContext(
            tuple("abcde")[:n_fields], (9,) * n_fields, embedding_dim=D, embedding_init=0.7
        )
        module = network.build(c, {}).eval()
        ids = torch.randint(0, 9, (64, n_fields), generator=c.generator).int()
        nothing = torch.zeros(64, 0)
        with torch.inference_mode():
            whole = module(ids, nothing, nothing.int())
            for n in (8, 16, 40):
                assert torch.equal(module(ids[:n], nothing[:n], nothing[:n].int()), whole[:n])


def test_a_value_has_a_vector_for_every_field():
    module = moved(FFM().build(context(), {}))
    x, table = batch(), array(module.embedding.weight)
    e = array(module.embed(x)).reshape(7, 6, 6, D)
    assert table.shape == (5 + 4 + 6 + 5, 6 * D)
    numbers = array(module.embedding.numeric_weight)
    for row, (ids, values) in enumerate(zip(x.ids.tolist(), array(x.numeric), strict=True)):
        for i, first in enumerate((0, 5, 9)):
            np.testing.assert_allclose(e[row, i].ravel(), table[first + ids[i]], rtol=1e-6)
        by_value = values[1] * numbers[0, 1] + values[3] * numbers[1, 1] + numbers[2, 1]
        np.testing.assert_allclose(e[row, 4].ravel(), by_value, atol=1e-6)


def test_kernels_of_ones_on_the_diagonal_are_inner_products():
    part = moved(OPNN("kernel").build(context(), {})).interaction
    with torch.no_grad():
        part.kernel.weight.copy_(torch.eye(D))
        e = torch.randn(4, 6, D, generator=torch.Generator().manual_seed(3))
        expected = [[a @ b for *_, a, b in pairs_of(row)] for row in array(e)]
        np.testing.assert_allclose(part(e).numpy(), expected, atol=1e-5)


def test_a_single_field_sends_itself_no_message():
    c = BuildContext(("a",), (5,), embedding_dim=D, generator=torch.Generator().manual_seed(0))
    graph = FiGNN(n_heads=0).build(c, {}).graph
    assert graph.weights(torch.randn(3, 1, D, generator=c.generator)).tolist() == [[[0.0]]] * 3


@pytest.mark.parametrize("bias", [True, False])
def test_separate_layers_have_glorots_deviation_for_every_member(bias):
    c = dataclasses.replace(context(), members=2)
    layer = SeparateLinear(c.axis("P"), 40, 60, c.generator, bias=bias, members=2)
    assert layer.weight.shape == (2, 15, 40, 60) and (layer.bias is None) != bias
    assert layer.weight.std().item() == pytest.approx((2 / 100) ** 0.5, rel=0.02)
    x = torch.randn(6, 15, 40, generator=c.generator)
    with torch.no_grad():
        if bias:
            layer.bias.normal_(generator=c.generator)
        found = array(layer(x))
    for row in range(6):
        for p in (0, 7, 14):
            member = row // 3  # member after member
            expected = array(x)[row, p] @ array(layer.weight)[member, p]
            expected = expected + array(layer.bias)[member, p] if bias else expected
            np.testing.assert_allclose(found[row, p], expected, atol=1e-4)


@pytest.mark.parametrize("n_in", [8, 20])
def test_separate_layers_of_one_number_keep_the_bits_of_a_row(n_in):
    g = torch.Generator().manual_seed(0)
    for n_layers in (1, 3, 10):
        layer = SeparateLinear(n_layers, n_in, 1, g)
        x = torch.randn(64, n_layers, n_in, generator=g)
        with torch.inference_mode():
            assert all(torch.equal(layer(x[:n]), layer(x)[:n]) for n in (8, 16, 40))


# fields that are dropped
# ------------------------------------------------------------------------------------

FIELDS = [0, 2, 3, 5]
KEEP = {"method": "AutoField", "params": {}, "fields": FIELDS, "scores": [0.0] * 6}
PAIRS = [p for p, (i, j, *_) in enumerate(pairs_of(np.zeros((6, 1)))) if {i, j} <= {*FIELDS}]
CARRIED = {  # weights that belong to fields or pairs: which of their elements are kept
    "interaction.hidden.weight": lambda t: t[PAIRS],
    "interaction.hidden.bias": lambda t: t[PAIRS],
    "interaction.norm.weight": lambda t: t[PAIRS],
    "interaction.norm.bias": lambda t: t[PAIRS],
    "interaction.out.bias": lambda t: t[PAIRS],
    "interaction.kernel.weight": lambda t: t[PAIRS],
    "graph.sent.weight": lambda t: t[FIELDS],
    "graph.received.weight": lambda t: t[FIELDS],
    "weight.weight": lambda t: t.unflatten(1, (6, -1))[FIELDS][:, FIELDS].flatten(1),
    "units.0.layers.0.weight": lambda t: t.unflatten(1, (6, D))[:, FIELDS].flatten(1),
    "units.0.layers.3.weight": lambda t: t.unflatten(0, (6, D))[FIELDS].flatten(0, 1),
    "units.0.layers.3.bias": lambda t: t.unflatten(0, (6, D))[FIELDS].flatten(0, 1),
    "embedding.numeric_weight": lambda t: (
        t[:, :1] if t.shape[2] == D else t[:, :1].unflatten(2, (6, D))[:, :, FIELDS].flatten(2)
    ),
}


@pytest.mark.parametrize(
    "network",
    [FFM(), OPNN("kernel", H), PIN(4, 1, H), DeepCrossing((4,), 0.1), FiGNN(1, 2, 2)],
    ids=repr,
)
def test_what_belongs_to_kept_fields_and_pairs_is_taken_over(network):
    whole = moved(network.build(context(), {}))
    fixed = FixedArchitecture(KEEP)
    module = build_network(network, [fixed], {"gate": KEEP}, context())
    state = whole.state_dict()
    carried = carry(state, module.selection, context(), module)
    module.load_state_dict(carried)
    known = [name for name in CARRIED if name in state]
    for name in known:
        torch.testing.assert_close(carried[name], CARRIED[name](state[name]), rtol=0, atol=0)
    assert known and torch.isfinite(module.eval()(*batch()[:3])).all()
    tables = ("embedding", "linear", "head", "interaction.out.weight")
    changed = {n for n, t in carried.items() if t.shape != state[n].shape}
    assert {n for n in changed if not n.startswith(tables)} <= {*known}


def test_gates_of_ffm_see_one_vector_a_field_and_scale_all_that_a_value_has():
    class Gate(torch.nn.Module):
        def forward(self, e, inputs):
            self.seen = e
            return torch.tensor([[1.0, 1.0, 0.5, 1.0, 1.0, 1.0]])

    gate, x = Gate(), batch()
    module = moved(FFM().build(context(), {"gate": gate}))
    e = module.embed(x)
    gated = module(*x[:3])
    torch.testing.assert_close(gate.seen, e.unflatten(2, (6, D)).mean(2))
    half = e * torch.tensor([1.0, 1.0, 0.5, 1.0, 1.0, 1.0]).unsqueeze(1)
    first = module.linear(x._replace(gates=gate(None, None)))
    torch.testing.assert_close(gated, first + module.pool(module.products(half)))
    assert module.gates(*x[:3])[:, 2].tolist() == [0.5] * 7
