"""Packed members: each is, number by number, the single network with its weights."""

import dataclasses

import numpy as np
import pytest
import torch

from sklearn_autorec.base import FixedArchitecture, Network, SearchMethod, known_networks
from sklearn_autorec.engine import EncodedTensors, FieldNet
from sklearn_autorec.engine._building import build_network
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import (
    DIEN,
    DIN,
    FM,
    GDCN,
    AutoInt,
    DCNv2,
    DeepFM,
    FiBiNET,
    FinalMLP,
    FwFM,
    MaskNet,
)
from sklearn_autorec.nn import (
    BinaryLogLoss,
    BuildContext,
    FieldNetwork,
    Members,
    MulticlassLogLoss,
    ReLUDropout,
    linear,
    mask_to_text,
)
from sklearn_autorec.nn._members import MemberLinear

M = 3
SIZES = {"hidden_units": (6, 5), "dropout": 0.0}
NETWORKS = {
    **{
        name: cls(**{k: v for k, v in SIZES.items() if k in cls().get_params()})
        for name, cls in known_networks().items()
    },
    "din": DIN(attention={"f5": "f0"}, **SIZES),
    "dien": DIEN(attention={"f5": "f0"}, **SIZES),
    "gdcn-stacked": GDCN(2, "stacked", **SIZES),
    "finalmlp-told": FinalMLP((6, 4), (6,), (("f0",), ("f5", "f1")), n_heads=2, dropout=0.0),
    "masknet-serial": MaskNet("serial", **SIZES),
    "fibinet-each": FiBiNET("each", **SIZES),
    "fibinet-all": FiBiNET("all", **SIZES),
    "fwfm-vectors": FwFM("FiLV"),
    "dcnv2-low-rank": DCNv2(rank=2, structure="stacked", **SIZES),
    "autoint-alone": AutoInt(hidden_units=(), residual=False),
    "deepfm-crossed": DeepFM(n_cross_layers=2, cross_rank=2, **SIZES),
}
EVERYTHING = [[0, 1], [0, 5], [1, 2, 3]]
PARTS = {
    "products": {
        "method": "AutoFIS",
        "params": {},
        "interactions": EVERYTHING,
        "candidates": [],
        "scores": [],
    },
    "widths": {"method": "AutoDim", "params": {}, "widths": [2, 4, 0, 4, 1, 2]},
    "fields": {"method": "AutoField", "params": {}, "fields": [0, 2, 3, 5], "scores": [1.0] * 6},
    "gates": {
        "method": "LPFS",
        "params": {"retrain": "keep"},
        "fields": [0, 2, 3, 5],
        "scores": [1.0] * 6,
        "gates": [0.5, 0.0, 2.0, 1.5, 0.0, 0.7],
    },
}


def context(n_outputs=1, members=1, sparse=False, seed=0):
    return BuildContext(
        tuple(f"f{i}" for i in range(6)),
        (5, 4, 6),
        2,
        ((5, 3),),
        embedding_dim=4,
        n_outputs=n_outputs,
        generator=torch.Generator().manual_seed(seed),
        output_bias=(0.3,) * n_outputs,
        embedding_init=0.7,
        sparse_gradients=sparse,
        members=members,
    )


def batch(n=9, n_outputs=1):
    g = torch.Generator().manual_seed(1)
    ids = torch.cat([torch.randint(0, k, (n, 1), generator=g) for k in (5, 4, 6)], 1).int()
    y = torch.randint(0, max(n_outputs, 2), (n,), generator=g)
    return EncodedTensors(
        ids,
        torch.randn(n, 4, generator=g).double(),
        torch.randint(0, 5, (n, 3), generator=g).int(),
        y if n_outputs > 1 else y.double(),
        torch.rand(n, generator=g).double() + 0.5,
    )


def net_of(module, n_outputs=1, **options):
    loss = BinaryLogLoss() if n_outputs == 1 else MulticlassLogLoss()
    return FieldNet(
        module, loss, lr=0.02, embedding_l2=0.3, weight_decay=0.2, **options
    ).initialize()


def single_of(packed, k, network, methods, architecture, c):
    """The network of one member, with the weights that member k has."""
    single = build_network(
        network, methods, architecture, dataclasses.replace(c, members=1)
    ).double()
    shapes = {name: t.shape for name, t in single.state_dict().items()}
    weights = packed.weights_of(k, shapes)
    assert weights.keys() == shapes.keys()  # nothing of a member is missing
    single.load_state_dict({name: t.clone() for name, t in weights.items()})
    return single


def check(network, c, architecture=None, n_outputs=1, packed=True):
    methods = [FixedArchitecture(a) for a in (architecture or {}).values()]
    architecture = architecture or {}
    # In double precision: Adam makes a full step of a gradient that is nothing but rounding.
    module = build_network(network, methods, architecture, c).double()
    assert (
        isinstance(module, Members)
        and (len(module.networks) == 1) == packed
        and module.members == M
    )
    g = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g))
    singles = [single_of(module, k, network, methods, architecture, c) for k in range(M)]
    # Each member learns from rows of its own.
    rows, shared = batch(9 * M, n_outputs), batch(9, n_outputs)
    together, alone = net_of(module, n_outputs), [net_of(s, n_outputs) for s in singles]
    for _ in range(2):  # the second step sees moments and statistics of the first
        loss = together.train_step(rows)["loss"]
        losses = [
            net.train_step(rows.select(slice(9 * k, 9 * k + 9)))["loss"]
            for k, net in enumerate(alone)
        ]
        torch.testing.assert_close(loss, sum(losses), rtol=1e-9, atol=1e-9)
    moved = False
    for k, single in enumerate(singles):
        state = single.state_dict()
        for name, own in module.weights_of(k, {name: t.shape for name, t in state.items()}).items():
            torch.testing.assert_close(
                own, state[name], rtol=1e-8, atol=1e-8, msg=f"{name} of member {k}"
            )
            moved |= name.endswith("running_mean") and bool((own != 0).any())
    module.eval()
    with torch.inference_mode():
        logits = module.member_logits(**shared.inputs)
        assert logits.shape == (M, len(shared), n_outputs)
        for own, single in zip(logits, singles, strict=True):
            torch.testing.assert_close(own, single.eval()(**shared.inputs), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(module(**shared.inputs), logits.mean(0))
        assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    return moved


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "rows"])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_member_computes_and_learns_what_it_would_alone(name, n_outputs, sparse):
    network = NETWORKS[name]
    c = context(n_outputs, M, sparse)
    packed = network.supports_members
    normalised = check(network, c, n_outputs=n_outputs, packed=packed)
    assert normalised == bool(
        getattr(network, "batch_norm", False) and (network.hidden_units or name == "nfm")
    )


@pytest.mark.parametrize("name", PARTS)
def test_so_it_does_with_the_parts_that_searches_found(name):
    part = PARTS[name]
    slot = FixedArchitecture(part).slot
    check(DeepFM(**SIZES), context(members=M), {slot: part})
    check(FM(), context(3, M, sparse=True), {slot: part}, n_outputs=3)


def test_members_start_from_weights_of_their_own():
    c = context(members=M)
    module = build_network(DeepFM(n_cross_layers=1, cross_rank=2, **SIZES), [], {}, c)
    shapes = build_network(
        DeepFM(n_cross_layers=1, cross_rank=2, **SIZES), [], {}, context()
    ).state_dict()
    first, second = (
        module.weights_of(k, {name: t.shape for name, t in shapes.items()}) for k in (0, 1)
    )
    drawn = [
        name
        for name, t in shapes.items()
        if t.is_floating_point() and t.numel() > 1 and bool(t.std() > 0)
    ]
    assert len(drawn) == 8 and all(
        not torch.allclose(first[name], second[name], atol=1e-2) for name in drawn
    )
    # Each as a single network's: tables and perceptrons have the deviation that their own sizes ask
    # for.
    for name in (name for name in drawn if shapes[name].numel() > 50):
        assert 0.4 < first[name].std() / shapes[name].std() < 2.5, name


@pytest.mark.parametrize("members", [1, 4])
def test_layers_of_members_have_glorots_deviation(members):
    weight = MemberLinear(300, 100, torch.Generator().manual_seed(0), members).weight
    for own in weight:
        assert own.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.03)  # five standard errors


def test_members_drop_units_of_their_own():
    layer = ReLUDropout(0.5, torch.Generator().manual_seed(0)).train()
    dropped = layer(torch.ones(2 * 50, 20)).view(2, 50, 20) == 0
    agreement = (dropped[0] == dropped[1]).float().mean()
    assert 0.4 < agreement < 0.6


def test_statistics_of_one_member_do_not_reach_another():
    c = context(members=2)
    module = Members([DeepFM(**SIZES).build(c, {})], 2).double().train()
    with torch.no_grad():
        module.networks[0].embedding.weight[::2] = 100.0  # the first member's
    before = module.member_logits(**batch().inputs)[1]
    with torch.no_grad():
        module.networks[0].embedding.weight[::2] = -3.0
    torch.testing.assert_close(module.member_logits(**batch().inputs)[1], before, rtol=0, atol=0)


def test_a_row_has_the_same_bits_in_any_batch():
    module = build_network(DeepFM(hidden_units=(16, 8)), [], {}, context(members=4)).eval()
    rows = dataclasses.replace(batch(64), numeric=batch(64).numeric.float())
    with torch.inference_mode():
        whole = module.member_logits(**rows.inputs)
        for n in (8, 16, 40):
            assert torch.equal(
                module.member_logits(**rows.select(slice(0, n)).inputs), whole[:, :n]
            )


# who declares that it can
# ------------------------------------------------------------------------------------


class OwnModule(FieldNetwork):
    def __init__(self, c, parts):
        super().__init__(c, parts)
        self.out = linear(c.n_fields * c.embedding_dim, c.n_outputs, c.generator)

    def logits(self, e, inputs):
        return self.out(e.flatten(1))


class OwnNetwork(Network):
    def build(self, c, parts):
        return OwnModule(c, parts)


class OwnDeepFM(DeepFM):
    """Inherits the declaration of a ``build`` that is not its own."""

    def build(self, c, parts):
        return OwnModule(c, parts)


class OtherDefaults(DeepFM):
    def __init__(
        self, hidden_units=(4,), dropout=0.0, batch_norm=True, n_cross_layers=0, cross_rank=2
    ):
        super().__init__(hidden_units, dropout, batch_norm, n_cross_layers, cross_rank)


class OwnFIS(AutoFIS):
    def realise(self, architecture, c):
        return super().realise(architecture, c)


@pytest.mark.parametrize(
    ("network", "packed"),
    [(OwnNetwork(), False), (OwnDeepFM(**SIZES), False), (OtherDefaults(), True)],
)
def test_networks_that_do_not_say_so_are_kept_apart(network, packed):
    check(network, context(members=M), packed=packed)
    check(network, context(3, M, sparse=True), n_outputs=3, packed=packed)


def test_parts_that_do_not_say_so_keep_the_members_apart():
    own = {**PARTS["products"], "method": "OwnFIS"}
    check(DeepFM(**SIZES), context(members=M), {"interaction": own}, packed=False)
    pruned = {"embedding": {"method": "PEP", "params": {}, "mask": None}}
    mask = np.random.default_rng(0).random((20, 4)) < 0.6
    pruned["embedding"]["mask"] = mask_to_text(mask)
    check(DeepFM(**SIZES), context(members=M), pruned, packed=False)


def test_all_parts_of_the_package_are_covered():
    assert not SearchMethod.supports_members and not Network.supports_members
    assert AutoFIS.supports_members and AutoField.supports_members
    apart = {name for name, cls in known_networks().items() if not cls.supports_members}
    assert apart == {"dien"}
