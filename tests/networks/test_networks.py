"""Every network against a plain numpy reference, and what all networks promise."""

import pickle

import numpy as np
import pytest
import torch
from network_references import batch, context, np_linear, np_mlp, np_norm, prepared
from small_networks import told

from sklearn_autorec.base import known_networks, networks_with_slot, resolve_network
from sklearn_autorec.networks import (
    DCN,
    DIEN,
    DIN,
    FM,
    IPNN,
    LR,
    NFM,
    AutoInt,
    DCNv2,
    DeepFM,
    DefaultNetwork,
    FwFM,
    MLPNetwork,
    WideDeep,
)
from sklearn_autorec.nn import BiInteraction, FieldEmbedding, PairProducts

NAMES = sorted(known_networks())
H = (6, 5)


def made(name):
    """A network by its name, told the target of the list of `context`, which has no other."""
    options = {"hidden_units": H} if name in ("din", "dien") else {}
    return told(name, {"f5": "f0"}, **options)


def np_pairs(e):
    n = e.shape[1]
    return np.stack([(e[:, i] * e[:, j]).sum(-1) for i in range(n) for j in range(i + 1, n)], 1)


def np_pair_vectors(e):
    n = e.shape[1]
    return sum(e[:, i] * e[:, j] for i in range(n) for j in range(i + 1, n))


def np_pool(pool, features):
    return features.sum(1, keepdims=True) if pool.mix is None else np_linear(pool.mix, features)


def np_attention(layer, e):
    heads = layer.n_heads
    q, k, v = np.split(e @ layer.project.weight.detach().numpy().T, 3, axis=-1)
    width = q.shape[-1] // heads
    out = np.zeros(q.shape)
    for h in range(heads):
        s = slice(h * width, (h + 1) * width)
        for b in range(len(e)):
            for i in range(e.shape[1]):
                scores = np.array([q[b, i, s] @ k[b, j, s] for j in range(e.shape[1])])
                a = np.exp(scores - scores.max())
                out[b, i, s] = (a / a.sum()) @ v[b, :, s]
    if layer.residual is not None:
        out = out + np_linear(layer.residual, e)
    return np.maximum(out, 0)


def np_cross_vector(cross, x0):
    x = x0
    for w, b in zip(cross.weight.detach().numpy(), cross.bias.detach().numpy(), strict=True):
        x = x0 * (x @ w)[:, None] + b + x
    return x


def np_cross_matrix(cross, x0):
    x = x0
    for layer in cross.layers:
        h = x
        for part in layer if isinstance(layer, torch.nn.Sequential) else [layer]:
            h = np_linear(part, h)
        x = x0 * h + x
    return x


def reference(module, e, first):
    """Logits by the formulas of the papers; ``first`` is the first-order term."""
    flat = None if e is None else e.reshape(len(e), -1)
    kind = type(module).__name__
    if kind == "LRModule":
        return first
    if kind in ("FMModule", "DeepFMModule"):
        # One output: the sum of inner products; more: mixed coordinates of the pair vector.
        pairs = np_pool(module.pool, np_pair_vectors(e))
        return first + pairs + (np_mlp(module.head, flat) if kind == "DeepFMModule" else 0)
    if kind == "FwFMModule":
        weighted = np_pairs(e) * module.interaction.weight.detach().numpy()
        if module.by_vector:
            first = (
                flat @ module.linear.weight.detach().numpy() + module.linear.bias.detach().numpy()
            )
        return first + np_pool(module.pool, weighted)
    if kind in ("MLPModule", "DINModule", "DIENModule"):
        return np_mlp(module.head, flat)
    if kind == "WideDeepModule":
        return first + np_mlp(module.head, flat)
    if kind == "NFMModule":
        return first + np_mlp(module.head, np_norm(module.norm, np_pair_vectors(e)))
    if kind == "IPNNModule":
        return np_mlp(module.head, np.hstack([flat, np_pairs(e)]))
    if kind == "CrossModule":
        vector = type(module.cross).__name__ == "VectorCross"
        crossed = (np_cross_vector if vector else np_cross_matrix)(module.cross, flat)
        deep = np_mlp(module.deep, crossed if module.stacked else flat)
        return np_linear(module.out, deep if module.stacked else np.hstack([crossed, deep]))
    if kind == "AutoIntModule":
        h = e
        for layer in module.attention:
            h = np_attention(layer, h)
        logits = first + np_linear(module.out, h.reshape(len(e), -1))
        return logits if module.head is None else logits + np_mlp(module.head, flat)
    raise AssertionError(kind)


VARIANTS = [
    LR(),
    FM(),
    FwFM(),
    FwFM(linear="FiLV"),
    MLPNetwork(H),
    MLPNetwork((), 0.0),
    NFM(H),
    NFM(H, batch_norm=False),
    IPNN(H),
    DeepFM(H),
    DefaultNetwork(H),
    DeepFM(H, batch_norm=False),
    WideDeep(H),
    DIN(H, attention={"f5": "f0"}),
    DIEN(H, attention={"f5": "f0"}),
    DCN(2, H),
    DCN(1, ()),
    DCNv2(2, hidden_units=H),
    DCNv2(2, rank=2, hidden_units=H),
    DCNv2(2, structure="stacked", hidden_units=H),
    AutoInt(2, 2, 4, hidden_units=()),
    AutoInt(1, 1, 3, residual=False, hidden_units=H),
]


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("network", VARIANTS, ids=repr)
def test_agrees_with_numpy(network, n_outputs):
    c = context(n_outputs)
    module = prepared(network, c)
    x = batch(c)
    with torch.no_grad():
        # Of "din" and "dien" the lists are one vector already; test_din.py and test_dien.py have
        # these.
        e = module.embed(x).numpy() if hasattr(module, "embed") else None
        first = (
            module.linear(x).numpy()
            if hasattr(module, "linear") and not getattr(module, "by_vector", False)
            else None
        )
        out = module(*x[:3]).numpy()
    assert out.shape == (7, n_outputs)
    np.testing.assert_allclose(out, reference(module, e, first), atol=2e-5, rtol=1e-4)


def test_every_registered_network_has_a_reference():
    elsewhere = {"afm", "deep_crossing", "ffm", "fignn", "opnn", "pin", "xdeepfm"}
    # ... which is test_pair_networks.py; and test_newer_networks.py:
    elsewhere |= {"dcnv3", "fibinet", "finalmlp", "gdcn", "masknet"}
    assert {type(made(n)) for n in {*NAMES} - elsewhere} == {type(v) for v in VARIANTS}


@pytest.mark.parametrize("name", NAMES)
class TestAllNetworks:
    def test_initial_weights_come_from_the_generator_alone(self, name):
        before = torch.random.get_rng_state()
        a, b, other = (made(name).build(context(seed=s), {}).state_dict() for s in (0, 0, 1))
        assert torch.equal(torch.random.get_rng_state(), before)
        assert all(torch.equal(a[k], b[k]) for k in a)
        assert name == "lr" or any(not torch.equal(a[k], other[k]) for k in a)

    def test_gradients_reach_every_parameter(self, name):
        c = context(2)
        module = made(name).build(c, {}).train()
        loss = module(*batch(c, 64)[:3]).square().sum()
        for part in module.modules():
            loss = loss + (part.penalty() if hasattr(part, "penalty") else 0)
        loss.backward()
        # Those that stay as they are ahead of batch norms, which take them away, are biases.
        held = [n for n, p in module.named_parameters() if not p.requires_grad]
        assert all(name.split(".")[-1] in ("bias", "b") for name in held), held
        moved = [p for p in module.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moved)

    def test_one_field_one_row_and_no_row(self, name):
        c = context(n_ids=(5,), n_numeric=0, sequences=())
        module = resolve_network(name).build(c, {}).eval()
        for n in (0, 1):
            assert module(*batch(c, n)[:3]).shape == (n, 1)

    def test_pickles_to_the_same_predictions(self, name):
        c = context()
        module = prepared(made(name), c)
        again = pickle.loads(pickle.dumps(module))
        assert torch.equal(module(*batch(c)[:3]), again(*batch(c)[:3]))

    def test_dropout_and_batch_statistics_only_in_training(self, name):
        c = context()
        module = prepared(made(name), c)
        assert torch.equal(module(*batch(c)[:3]), module(*batch(c)[:3]))

    def test_parts_stand_in_their_slots(self, name):
        network, c = made(name), context()
        x = batch(c)
        if "embedding" not in network.slots:
            return

        class Gate(torch.nn.Module):
            def forward(self, e, inputs):
                assert e.shape[:2] == (len(inputs.ids), c.n_fields)
                return self.factors

        embedding, gate = FieldEmbedding(c), Gate()
        module = network.build(c, {"embedding": embedding, "gate": gate}).eval()
        assert module.embedding is embedding
        open_gates = network.build(c, {"embedding": embedding}).eval()
        open_gates.load_state_dict(module.state_dict())
        gate.factors = torch.ones(1, c.n_fields)
        assert (
            torch.equal(module(*x[:3]), open_gates(*x[:3])) and module(*x[:3]).std(0).max() > 1e-6
        )
        gate.factors = torch.zeros(1, c.n_fields)  # no way around a closed gate
        torch.testing.assert_close(
            module(*x[:3]), module(*x[:3])[:1].expand(len(x.ids), -1), atol=0, rtol=0
        )
        if "interaction" in network.slots:
            part = PairProducts(c)
            assert network.build(c, {"interaction": part}).interaction is part
            network.build(c, {"interaction": part}).eval()(*x[:3])


def test_fwfm_with_unit_weights_is_fm():
    c = context()
    fwfm, fm = prepared(FwFM(), c), FM().build(context(), {}).eval()
    with torch.no_grad():
        fwfm.interaction.weight.fill_(1.0)
    fm.embedding.load_state_dict(fwfm.embedding.state_dict())
    fm.linear.load_state_dict(fwfm.linear.state_dict())
    torch.testing.assert_close(fwfm(*batch(c)[:3]), fm(*batch(c)[:3]), atol=1e-5, rtol=1e-5)


def test_sum_of_pair_products_is_the_bi_interaction():
    c = context()
    e = torch.randn(5, c.n_fields, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        PairProducts(c)(e).sum(1), BiInteraction(c)(e).sum(1), atol=1e-5, rtol=1e-5
    )


def test_slots_are_listed_for_the_error_message():
    assert networks_with_slot("interaction") == [
        *("afm", "auto", "deepfm", "fibinet", "fm", "fwfm", "ipnn", "opnn", "pin", "xdeepfm")
    ]


def test_unknown_networks_are_refused():
    with pytest.raises(
        ValueError, match="network='deepmf' is not known; choose one of .*'auto'.*'deepfm'"
    ):
        resolve_network("deepmf")
    with pytest.raises(TypeError, match="network must be a str or a Network object such as DeepFM"):
        resolve_network(3)
