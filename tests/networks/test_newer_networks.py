"""FinalMLP, GDCN, MaskNet, FiBiNET and DCNv3 against plain numpy references."""

import dataclasses

import numpy as np
import pytest
import torch
from network_references import batch, context, np_linear, np_mlp, prepared

from sklearn_autorec.networks import GDCN, DCNv2, DCNv3, FiBiNET, FinalMLP, MaskNet
from sklearn_autorec.nn import BinaryLogLoss, PlainDropout, ReLUDropout

H = (6, 5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def array(t):
    return t.detach().numpy()


def np_layer_norm(norm, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return x * array(norm.weight) + array(norm.bias)


def np_chain(net, x):
    """Linear layers and ReLU, one behind the other."""
    for layer in net:
        x = np_linear(layer, x) if isinstance(layer, torch.nn.Linear) else relu(x)
    return x


def np_gdcn(module, e):
    x0 = x = e.reshape(len(e), -1)
    for layer, gate in zip(module.cross.layers, module.cross.gates, strict=True):
        x = x0 * np_linear(layer, x) * sigmoid(np_linear(gate, x)) + x
    if module.deep is None:
        return np_mlp(module.head, x)
    return np_linear(module.head, np.hstack([x, np_mlp(module.deep, x0)]))


def np_finalmlp(module, e):
    x, outs = e.reshape(len(e), -1), []
    for gate, stream in zip(module.stream_gates, module.streams, strict=True):
        if gate.fields:
            zeros = np.zeros_like(e[:, 0])
            told = np.hstack([zeros if f is None else e[:, f] for f in gate.fields])
            g = np_chain(gate.net, told)
        else:
            g = array(gate.bias)
        outs.append(np_mlp(stream, x * 2 * sigmoid(g)))
    first, second = outs
    head = module.head
    logits = np_linear(head.linear, np.hstack(outs))
    n, n_out = first.shape[1] // head.n_heads, second.shape[1] // head.n_heads
    for t in range(head.n_heads):
        maps = array(head.bilinear.weight[t]).reshape(logits.shape[1], n_out, n)
        for c in range(logits.shape[1]):
            for b in range(len(e)):
                o1, o2 = first[b, t * n : (t + 1) * n], second[b, t * n_out : (t + 1) * n_out]
                logits[b, c] += o1 @ maps[c].T @ o2
    return logits


def np_masknet(module, e):
    v = e.reshape(len(e), -1)
    normalised = np.stack(
        [
            (e[:, f] - e[:, f].mean(1, keepdims=True))
            / np.sqrt(e[:, f].var(1, keepdims=True) + 1e-5)
            * array(module.norm.weight[f])
            + array(module.norm.bias[f])
            for f in range(e.shape[1])
        ],
        1,
    )

    def block(b, x):
        mask = np_linear(b.mask, relu(np_linear(b.squeeze, v)))
        return relu(np_layer_norm(b.norm, np_linear(b.layer, mask * x)))

    x = normalised.reshape(v.shape)
    if not module.serial:
        return np_mlp(module.head, np.hstack([block(b, x) for b in module.blocks]))
    for b in module.blocks:
        x = block(b, x)
    return np_linear(module.head, x)


def np_bilinear(pairs, e, matrices):
    n, vectors, number = e.shape[1], [], 0
    for i in range(n):
        for j in range(i + 1, n):
            weight = array(pairs.weight)
            own = weight if matrices == "all" else weight[i if matrices == "each" else number]
            vectors.append((e[:, i] @ own.T) * e[:, j])
            number += 1
    return np.hstack(vectors)


def np_fibinet(module, e, first, network):
    interaction = module.interaction
    z = e.mean(2)
    a = np_linear(interaction.excitation.excite, relu(np_linear(interaction.excitation.squeeze, z)))
    a = sigmoid(a) if network.excitation == "sigmoid" else relu(a)
    raw = np_bilinear(interaction.pairs, e, network.matrices)
    squeezed = np_bilinear(interaction.squeezed_pairs, e * a[:, :, None], network.matrices)
    return first + np_mlp(module.head, np.hstack([raw, squeezed]))


def np_dcnv3_net(cross, e):
    d = e.shape[2]
    half = d // 2
    x0 = x = np.hstack(
        [e[..., : d - half].reshape(len(e), -1), e[..., d - half :].reshape(len(e), -1)]
    )
    for i, (layer, norm) in enumerate(zip(cross.layers, cross.norms, strict=True)):
        c = np_linear(layer, x)
        masked = (c * relu(np_layer_norm(norm, c))).reshape(len(e), e.shape[1], d - half)
        h = np.hstack([c, masked[:, :, :half].reshape(len(e), -1)]) + array(cross.bias[i])
        x = (x if cross.exponential else x0) * h + x
    return np_linear(cross.out, x)


def np_dcnv3(module, e):
    return (np_dcnv3_net(module.linear_cross, e) + np_dcnv3_net(module.exponential_cross, e)) / 2


FORMULAS = {
    GDCN: lambda m, e, first, network: np_gdcn(m, e),
    FinalMLP: lambda m, e, first, network: np_finalmlp(m, e),
    MaskNet: lambda m, e, first, network: np_masknet(m, e),
    FiBiNET: np_fibinet,
    DCNv3: lambda m, e, first, network: np_dcnv3(m, e),
}
VARIANTS = [
    GDCN(2, hidden_units=H),
    GDCN(1, "stacked", hidden_units=H),
    GDCN(1, hidden_units=()),
    FinalMLP(H),
    FinalMLP((6, 4), (8,), n_heads=2, batch_norm=False),
    FinalMLP((4,), (6, 2), contexts=(("f0", "f4"), ()), gate_units=(5,), n_heads=2),
    FinalMLP((4,), contexts=(("f5",), ("f1", "f2")), gate_units=()),
    MaskNet(block_units=5, hidden_units=H),
    MaskNet(n_blocks=1, block_units=4, mask_units=2, hidden_units=()),
    MaskNet("serial", hidden_units=H),
    MaskNet("serial", hidden_units=(4,), mask_units=7),
    FiBiNET(hidden_units=H),
    FiBiNET("each", excitation="relu", squeeze_units=3, hidden_units=H),
    FiBiNET("all", squeeze_units=1, hidden_units=()),
    DCNv3(),
    DCNv3(1, 2),
]


@pytest.mark.parametrize("d", [3, 4])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("network", VARIANTS, ids=repr)
def test_agrees_with_numpy(network, n_outputs, d):
    c = context(n_outputs, d=d)
    module = prepared(network, c).double()
    x = batch(c)._replace(numeric=batch(c).numeric.double())
    with torch.no_grad():
        first = module.linear(x).numpy() if hasattr(module, "linear") else None
        expected = FORMULAS[type(network)](module, module.embed(x).numpy(), first, network)
        out = module(*x[:3]).numpy()
    assert out.shape == (7, n_outputs) and out.std() > 0.01
    np.testing.assert_allclose(out, expected, atol=1e-10, rtol=1e-9)


def weights(module, **values):
    for name, value in values.items():
        p = module.get_parameter(name.replace("__", "."))
        p.data.copy_(torch.as_tensor(value, dtype=p.dtype).reshape(p.shape))
    return module


def two_fields(d=1):
    return context(n_ids=(3, 3), n_numeric=0, sequences=(), d=d)


def test_a_gate_of_a_half_halves_the_products():
    cross = GDCN(1).build(two_fields(), {}).cross
    weights(cross, layers__0__weight=np.eye(2), gates__0__weight=np.zeros((2, 2)))
    x = torch.tensor([[1.0, 2.0]])
    assert cross(x).tolist() == [[1.5, 4.0]]
    # Of wide open gates the layer of DCN-V2 is left.
    weights(cross, gates__0__weight=100 * np.ones((2, 2)))
    assert cross(x).tolist() == [[2.0, 6.0]]
    assert DCNv2(1).build(two_fields(), {}).cross(x).shape == (1, 2)


@pytest.mark.parametrize("n_heads", [1, 2])
def test_the_bilinear_form_of_the_card(n_heads):
    c = two_fields()
    head = FinalMLP((2,), n_heads=n_heads).build(c, {}).head
    weights(head, linear__weight=np.zeros(4), linear__bias=[0.0])
    weights(head, bilinear__weight=np.eye(2) if n_heads == 1 else np.ones(2))
    assert head(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).item() == 11


def test_gates_of_finalmlp_start_open_and_their_products_small():
    module = FinalMLP((512,), (256,), n_heads=2).build(two_fields(8), {})
    e = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(module.stream_gates[0](e), torch.ones(16))
    assert module.head.bilinear.weight.std().item() == pytest.approx(0.0055, rel=0.03)


def test_contexts_must_name_columns_and_heads_divide_units():
    c = context()
    for contexts in ((), (("f0",),), ("f0", "f1"), (("f9",), ())):
        with pytest.raises(ValueError, match="contexts must be two tuples of columns out of"):
            FinalMLP(contexts=contexts).build(c, {})
    assert FinalMLP(contexts=(("f9", "f1"), ())).context_fields(c, narrowed=True) == [[None, 1], []]
    with pytest.raises(
        ValueError, match="the last of second_units must be a multiple of n_heads=2"
    ):
        FinalMLP((4,), (3,), n_heads=2).build(c, {})
    with pytest.raises(ValueError, match="the last of hidden_units must be a multiple of"):
        FinalMLP(()).build(c, {})
    with pytest.raises(ValueError, match="gate_units must hold ints of at least 1, got"):
        FinalMLP(gate_units=(0,)).build(c, {})


def test_a_mask_of_ones_leaves_a_layer_of_a_perceptron():
    module = MaskNet("serial", hidden_units=(2,)).build(two_fields(), {}).eval()
    block = weights(module.blocks[0], mask__weight=np.zeros((2, 128)), layer__weight=np.eye(2))
    out = block(torch.tensor([[5.0, 7.0]]), torch.tensor([[3.0, 1.0]]))
    np.testing.assert_allclose(out.detach(), [[1.0, 0.0]], atol=1e-4)
    with pytest.raises(ValueError, match="hidden_units must hold the outputs of one block"):
        MaskNet("serial", hidden_units=()).build(two_fields(), {})


@pytest.mark.parametrize("matrices", ["all", "each", "interaction"])
def test_bilinear_pairs_of_unit_matrices_are_those_of_fm(matrices):
    c = context(n_ids=(3, 3, 3), n_numeric=0, sequences=(), d=2)
    pairs = FiBiNET(matrices).build(c, {}).interaction.pairs
    pairs.weight.data.copy_(torch.eye(2).expand(pairs.weight.shape))
    assert pairs(torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])).sum().item() == 67
    assert pairs(torch.zeros(1, 3, 2)).shape == (1, pairs.out_dim) == (1, 6)


def test_matrices_of_pairs_have_the_deviation_of_their_own_size():
    c = context(n_ids=(3,) * 9, n_numeric=0, sequences=(), d=16)
    weight = FiBiNET().build(c, {}).interaction.pairs.weight
    assert weight.shape == (36, 16, 16) and weight.std().item() == pytest.approx(0.25, rel=0.05)


def test_the_linear_cross_of_the_card():
    c = two_fields(2)
    module = DCNv3(1, 1).build(c, {}).eval()
    cross = module.linear_cross
    weights(cross, layers__0__weight=np.eye(4)[:2], out__weight=np.ones(4))
    seen = []
    cross.out.register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    cross(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_allclose(seen[0].detach(), [[2.0, 6.0, 3.0, 12.0]], rtol=1e-4)
    # Halves: the first numbers of all fields, then the second ones.
    module.linear_cross.register_forward_pre_hook(lambda m, inputs: seen.append(inputs[0]))
    module.logits(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), None)
    assert seen[1].tolist() == [[1.0, 3.0, 2.0, 4.0]]


class Rows:
    def __init__(self, y, weight=None):
        self.y, self.weight = y, weight


@pytest.mark.parametrize("weighted", [False, True])
def test_the_networks_of_dcnv3_are_supervised(weighted):
    c = context(d=4)
    c = dataclasses.replace(c, reference_loss=BinaryLogLoss())
    module = DCNv3(dropout=0.0).build(c, {}).train()
    y = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    weight = torch.arange(1.0, 8.0) if weighted else None
    logits = module(*batch(c)[:3])
    alone = [t.detach() for t in module.alone]
    module.observe(Rows(y, weight), None)
    extra = module.penalty()
    rows = np.stack([array(BinaryLogLoss()(z, y)) for z in alone])
    mean, *own = (rows * (1 if weight is None else weight.numpy())).mean(1)
    assert extra.item() == pytest.approx(sum(max(0, o - mean) * o for o in own), rel=1e-4)
    assert torch.equal(alone[0], logits.detach()) and extra.item() > 0
    assert module.penalty() == 0  # once
    module(*batch(c)[:3])
    assert module.penalty() == 0  # a pass without labels
    module.observe(Rows(y[:3]), None)  # the rows of other members
    assert module.penalty() == 0
    extra.backward()
    worse = 1 if own[1] > own[0] else 0
    name = ("linear_cross", "exponential_cross")[worse]
    assert module.get_parameter(f"{name}.out.weight").grad.abs().sum() > 0
    module.eval()(*batch(c)[:3])
    assert module.alone is None


def test_members_of_dcnv3_are_supervised_each_by_itself():
    c = dataclasses.replace(context(d=4), members=2, reference_loss=BinaryLogLoss())
    module = DCNv3(dropout=0.0).build(c, {}).train()
    x = batch(c, 14)
    module(*x[:3])
    rows = [BinaryLogLoss()(z.detach(), (y := torch.arange(14) % 2 * 1.0)) for z in module.alone]
    module.observe(Rows(y), None)
    mean, *own = (r.view(2, 7).mean(1) for r in rows)
    expected = sum(((o - mean).clamp(min=0) * o).sum() for o in own)
    torch.testing.assert_close(module.penalty().detach(), expected)


def test_losses_of_half_six_tenths_and_four_tenths_make_56_hundredths():
    c = context(d=4)
    c = dataclasses.replace(c, reference_loss=lambda logits, y: logits.squeeze(1))
    module = DCNv3().build(c, {}).train()
    module.alone = tuple(torch.full((2, 1), v, requires_grad=True) for v in (0.5, 0.6, 0.4))
    worse = module.alone[1]
    module.observe(Rows(torch.zeros(2)), None)
    penalty = module.penalty()
    assert 0.5 + penalty.item() == pytest.approx(0.56)
    penalty.backward()  # the weight is a constant: a tenth, not two
    assert worse.grad.sum().item() == pytest.approx(0.1)


def test_plain_dropout_drops_and_keeps_signs():
    layer = PlainDropout(0.25, torch.Generator().manual_seed(0)).train()
    out = layer(-torch.ones(100, 100))
    assert out.unique().tolist() == pytest.approx([-256 / 192, 0.0])
    assert (out == 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(layer.eval()(out), out)
    same = ReLUDropout(0.25, torch.Generator().manual_seed(0)).train()
    assert torch.equal(same(torch.ones(100, 100)), -out)
