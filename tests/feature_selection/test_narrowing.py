"""Networks on some of the fields: exact weights taken over, names, files, order of searches."""

import pickle

import pytest
import torch
from narrowing_cases import FIELDS, KEEP, context, data, moved
from small_networks import told

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import known_networks, resolve_network
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.engine._building import build_network, carry
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import (
    DCN,
    FM,
    GDCN,
    AutoInt,
    DCNv2,
    DCNv3,
    DeepFM,
    FiBiNET,
    FinalMLP,
    FwFM,
    MaskNet,
    MLPNetwork,
)
from sklearn_autorec.nn import (
    BuildContext,
    FieldLinear,
    FieldNetwork,
    Inputs,
    InputSelection,
    linear,
    pair_index,
)

WITH_GATES = sorted(name for name, cls in known_networks().items() if "gate" in cls.slots)


class OnOff(torch.nn.Module):
    def forward(self, e, inputs):
        return torch.tensor([[1.0 if f in FIELDS else 0.0 for f in range(e.shape[1])]])


def batch(n=40):
    g = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randint(0, k, (n,), generator=g) for k in (5, 4, 6)], 1).int()
    return ids, torch.randn(n, 4, generator=g), torch.randint(0, 5, (n, 3), generator=g).int()


def gated_and_narrow(network, **options):
    """Outputs of the network with four open and two closed gates, and of the network on the four
    fields.
    """
    whole = moved(network.build(context(**options), {"gate": OnOff()}))
    module = build_network(network, [KEEP], {"gate": KEEP.architecture}, context(**options))
    carried = carry(whole.state_dict(), module.selection, context(**options), module)
    assert carried.keys() == module.state_dict().keys()
    module.load_state_dict(carried)
    ids, numeric, sequences = batch()
    x = ids, numeric.double(), sequences  # rounding is no excuse
    with torch.no_grad():
        return whole.double().eval()(*x), module.double().eval()(*x), module


# To these a closed field is a vector of zeros that others still see; to all others it is nothing.
SEE_CLOSED_FIELDS = {
    **{name: resolve_network(name) for name in ("afm", "deep_crossing", "fignn", "pin")},
    "autoint": AutoInt(),
    # ... for which layer norm has a shift, or counts them.
    "masknet": MaskNet(),
    "masknet-serial": MaskNet("serial", hidden_units=(8, 8)),
    "dcnv3": DCNv3(),
}


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("name", [n for n in WITH_GATES if n not in SEE_CLOSED_FIELDS])
def test_a_network_without_closed_fields_is_the_same_function(name, n_outputs):
    before, after, module = gated_and_narrow(
        told(name, {"f": "a"}),
        n_outputs=n_outputs,
        output_bias=(),
    )
    torch.testing.assert_close(after, before, atol=1e-12, rtol=1e-10)
    assert before.std() > 0.01
    assert module.embedding.n_rows == 5 + 6 + 5 and module.embedding.numeric_weight.shape[1] == 1


def test_first_order_term_by_vectors_and_stacked_layers_as_well():
    for network in (
        FwFM(linear="FiLV"),
        DCN(2, ()),
        DCNv2(2, rank=3, structure="stacked", hidden_units=()),
        DeepFM((8,), n_cross_layers=1),
        MLPNetwork(()),
        GDCN(2, "stacked", hidden_units=()),
        FinalMLP((8,), contexts=(("a", "d"), ("c",))),
        FinalMLP((8,), contexts=(("b", "e"), ("f",))),  # of which two are dropped
        FiBiNET("each", hidden_units=()),
        FiBiNET("all", hidden_units=(8,)),
    ):
        before, after, _ = gated_and_narrow(network)
        torch.testing.assert_close(after, before, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("name", SEE_CLOSED_FIELDS)
def test_some_networks_see_that_a_closed_field_is_there(name):
    # Weights are all taken over, the function is another one.
    before, after, _ = gated_and_narrow(SEE_CLOSED_FIELDS[name])
    assert (after - before).abs().max() > 1e-3


def test_attention_keeps_exactly_what_belongs_to_kept_fields():
    network = AutoInt(n_layers=1, n_heads=2, width=3, hidden_units=(5,))
    whole = moved(network.build(context(), {}))
    module = build_network(network, [KEEP], {"gate": KEEP.architecture}, context())
    state, carried = (
        whole.state_dict(),
        carry(whole.state_dict(), module.selection, context(), module),
    )
    for name, width in (("out.weight", 6), ("head.layers.0.weight", 4)):
        by_field = state[name].unflatten(1, (6, width))
        torch.testing.assert_close(carried[name], by_field[:, FIELDS].flatten(1), rtol=0, atol=0)
    changed = {name for name, t in carried.items() if t.shape != state[name].shape}
    tables = {
        f"{table}.{name}"
        for table in ("embedding", "linear")
        for name in ("weight", "numeric_weight")
    }
    assert changed == {"out.weight", "head.layers.0.weight", *tables}
    assert all(torch.equal(carried[name], state[name]) for name in carried.keys() - changed)


def test_the_first_order_term_alone_loses_what_dropped_fields_add():
    whole = moved(resolve_network("lr").build(context(), {}))
    selection = InputSelection(context(), FIELDS)
    module = resolve_network("lr").build(selection.narrow(context()), {})
    module.load_state_dict(carry(whole.state_dict(), selection, context(), module))
    with torch.no_grad():
        inputs = Inputs(*batch())
        by_field = super(FieldLinear, whole.linear).forward(inputs)  # (B, F, 1)
        expected = by_field[:, FIELDS].sum(1) + whole.linear.bias
        torch.testing.assert_close(module.linear(selection(inputs)), expected, atol=1e-6, rtol=1e-5)


class OuterPairs(FieldNetwork):
    """One layer of xDeepFM's compressed interactions, without hidden units of a field: an axis of F
    * F.
    """

    def __init__(self, context, parts):
        super().__init__(context, parts)
        self.mix = linear(context.axis("F", "F"), 3, context.generator)
        self.out = linear(3 * context.embedding_dim, 1, context.generator)

    def logits(self, e, inputs):
        products = (e.unsqueeze(1) * e.unsqueeze(2)).flatten(1, 2)  # (B, F * F, d)
        return self.out(self.mix(products.transpose(1, 2)).flatten(1))


class PairVectors(FieldNetwork):
    """Element-wise products of all pairs side by side, as outer-product networks have them: an axis
    of P * d.
    """

    def __init__(self, context, parts):
        super().__init__(context, parts)
        self.register_buffer("pairs", pair_index(context.n_fields), persistent=False)
        self.out = linear(context.axis("P", context.embedding_dim), 2, context.generator)

    def logits(self, e, inputs):
        return self.out((e[:, self.pairs[0]] * e[:, self.pairs[1]]).flatten(1))[:, :1]


class TriplesBesideMaps(FieldNetwork):
    """Triples, then three numbers of each field with the field running last, then what belongs to
    none.
    """

    def __init__(self, context, parts):
        super().__init__(context, parts)
        self.register_buffer("triples", pair_index(context.n_fields, 3), persistent=False)
        self.maps = linear(context.embedding_dim, 3, context.generator)
        self.out = linear(context.axis("P3") + context.axis(3, "F") + 2, 1, context.generator)

    def logits(self, e, inputs):
        triples = e[:, self.triples].prod(1).sum(-1)
        maps = self.maps(e).transpose(1, 2).flatten(1)
        return self.out(torch.cat([triples, maps, e.sum(1)[:, :2]], 1))


class Around(FM):
    """A network whose module is made by a class."""

    def __init__(self, module=None):
        self.module = module

    def build(self, context, parts):
        return self.module(context, parts)


@pytest.mark.parametrize("module", [OuterPairs, PairVectors, TriplesBesideMaps])
def test_axes_of_products_of_fields_keep_their_own_elements(module, monkeypatch):
    network = Around(module)
    if module is TriplesBesideMaps:  # the bias of its maps acts without a field
        monkeypatch.setattr(
            module, "logits", lambda self, e, i, f=module.logits: f(_without_bias(self), e, i)
        )
    before, after, _ = gated_and_narrow(network)
    torch.testing.assert_close(after, before, atol=1e-12, rtol=1e-10)
    assert before.std() > 0.01


def _without_bias(module):
    torch.nn.init.zeros_(module.maps.bias)
    return module


class Undeclared(OuterPairs):
    def __init__(self, context, parts):
        super().__init__(context, parts)
        self.mix = linear(context.n_fields**2, 3, context.generator)


class Wrong(PairVectors):
    def __init__(self, context, parts):
        super().__init__(context, parts)
        self.out.field_axes = {"weight": {1: context.axis("F", context.embedding_dim)}}


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            Undeclared,
            r"Linear has the weight 'mix.weight' of shape \(3, 36\) on 6 fields and \(3, 16\) on "
            r"4 of them",
        ),
        (
            Wrong,
            r"Linear declares axis 1 of 'out.weight' as F\*4, which is 24 on the whole table, but "
            r"the axis has 60",
        ),
    ],
)
def test_weights_whose_layout_nobody_declares_are_refused(module, message):
    with pytest.raises(ValueError, match=message):
        gated_and_narrow(Around(module))


def test_they_are_refused_before_the_search(monkeypatch):
    X, y, _ = data()
    monkeypatch.setattr(
        AutoField, "search", lambda self, problem: pytest.fail("the search has begun")
    )
    model = CTRClassifier(network=Around(Undeclared), search=AutoField(), max_epochs=1)
    with pytest.raises(
        ValueError, match=r"Linear has the weight 'mix.weight' .* declares no axis in field_axes"
    ):
        model.fit(X, y)


SEARCHABLE = {  # parts of search methods, as they stand in an FM
    "AutoFIS": ("interaction", AutoFIS(orders=(2, 3))),
    "AutoDim": ("embedding", AutoDim((2, 4), normalize=True)),
    "PEP": ("embedding", PEP()),
    "AdaFS": ("gate", AdaFS(hidden_units=(3,))),
    "AutoField": ("gate", AutoField()),
    "LPFS": ("gate", LPFS()),
}


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", [*sorted(known_networks()), *SEARCHABLE])
def test_whatever_grows_with_the_fields_is_declared(name, members):
    """By the axis and its length, in every network and part of the package, packed members
    included.
    """

    def build(n, n_numeric):
        c = BuildContext(
            tuple(map(str, range(n + n_numeric))),
            tuple(range(3, 3 + n)),
            n_numeric,
            embedding_dim=4,
            n_outputs=3,
            numeric_embedding="periodic",
            members=members,
        )
        if name not in SEARCHABLE:
            return resolve_network(name).build(c, {})
        slot, method = SEARCHABLE[name]
        return FM().build(c, {slot: method.build(c)})

    if name in SEARCHABLE or not resolve_network(name).supports_members:
        members = 1  # as searches have, and each module of a network that does not pack them
    small, large = build(4, 2), build(5, 4)
    shapes = {k: t.shape for k, t in large.state_dict().items()}
    grown = {
        (k, dim)
        for k, t in small.state_dict().items()
        for dim, (a, b) in enumerate(zip(t.shape, shapes[k], strict=True))
        if a != b
    }
    declared = {
        (k, dim % t.ndim)
        for prefix, m in small.named_modules()
        for own, axes in getattr(m, "field_axes", {}).items()
        for k, t in small.state_dict().items()
        if k == f"{prefix}.{own}"
        for dim, axis in axes.items()
        if axis == t.shape[dim]
    }
    assert grown and grown == declared


def test_lengths_of_axes_are_ints_that_know_their_layout():
    axis = context().axis("F", 4) + context().axis("P") + 7
    assert axis == 24 + 15 + 7 and isinstance(axis, int) and axis.describe() == "F*4 + P + 7"
    again = pickle.loads(pickle.dumps(axis))
    assert again == axis and again.runs == axis.runs == (("F", 4), ("P",), (7,))
    assert (2 + context().axis("V")).runs == ((2,), ("V",)) and context().axis("V") == 5 + 4 + 6 + 5
    assert type(2 * axis) is int and context().axis("P3") == 20 and context().axis("N") == 2
    with pytest.raises(ValueError, match="a factor of an axis must be an int, 'F', 'P'.*got 'Q'"):
        context().axis("Q")
