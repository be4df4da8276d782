"""Networks on some of the fields: exact weights taken over, names, files, order of searches."""

import json
import pickle

import numpy as np
import pytest
import torch

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import FixedArchitecture, SearchMethod, known_networks, resolve_network
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.engine._building import build_network, carry
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import (
    DCN,
    DIEN,
    DIN,
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
from sklearn_autorec.serving import load, save

FIELDS = [0, 2, 3, 5]
KEEP = FixedArchitecture(
    {"method": "AutoField", "params": {}, "fields": FIELDS, "scores": [0.0] * 6}
)
HISTORIES = {"din": DIN, "dien": DIEN}  # which must be told a target
# Attention sees a closed field as a vector of zeros, layer norm gives it a shift or counts it.
NOT_THE_SAME = {
    "autoint": AutoInt(),
    "masknet": MaskNet(),
    "masknet-serial": MaskNet("serial", hidden_units=(8, 8)),
    "dcnv3": DCNv3(),
}
WITH_GATES = sorted(name for name, cls in known_networks().items() if "gate" in cls.slots)


class OnOff(torch.nn.Module):
    def forward(self, e, inputs):
        return torch.tensor([[1.0 if f in FIELDS else 0.0 for f in range(e.shape[1])]])


def context(**options):
    options = {"output_bias": (0.3,), **options}
    return BuildContext(
        tuple("abcdef"),
        (5, 4, 6),
        2,
        ((5, 3),),
        embedding_dim=4,
        generator=torch.Generator().manual_seed(0),
        embedding_init=0.7,
        **options,
    )


def batch(n=40):
    g = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randint(0, k, (n,), generator=g) for k in (5, 4, 6)], 1).int()
    return ids, torch.randn(n, 4, generator=g), torch.randint(0, 5, (n, 3), generator=g).int()


def moved(whole):
    """The network with weights and statistics that differ from element to element."""
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, p in whole.named_parameters():
            # A bias of a cross layer acts without its field.
            if "cross" not in name or "weight" in name:
                p.add_(0.3 * torch.randn(p.shape, generator=g))
        for name, b in whole.named_buffers():
            if name.endswith("running_mean"):
                b.normal_(generator=g)
    return whole


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


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("name", [n for n in WITH_GATES if n not in NOT_THE_SAME])
def test_a_network_without_closed_fields_is_the_same_function(name, n_outputs):
    before, after, module = gated_and_narrow(
        HISTORIES[name](attention={"f": "a"}) if name in HISTORIES else resolve_network(name),
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


@pytest.mark.parametrize("name", NOT_THE_SAME)
def test_some_networks_see_that_a_closed_field_is_there(name):
    # Weights are all taken over, the function is another one.
    before, after, _ = gated_and_narrow(NOT_THE_SAME[name])
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
        members = (
            1  # searches have one, and so has each module of a network that does not pack them
        )
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


def data(**options):
    return make_ctr(
        3000,
        n_fields=5,
        informative_fields=[1],
        pairs=[(2, 4)],
        n_numeric=1,
        n_sequences=1,
        random_state=0,
        **options,
    )


def fitted(search, network="fm", **options):
    X, y, _ = data()
    options = {"embedding_dim": 4, "lr": 0.01, "max_epochs": 2, "random_state": 0, **options}
    return CTRClassifier(network=network, search=search, **options).fit(X, y), X


def keep(*fields, n=7):
    return FixedArchitecture(
        {"method": "AutoField", "params": {}, "fields": [*fields], "scores": [0.5] * n}
    )


def test_names_and_sizes_after_other_searches():
    model, X = fitted([keep(1, 2, 4, 5), AutoFIS(max_interactions=2), AutoDim((0, 2, 4))])
    assert model.selected_fields_ == ["f1", "f2", "f4", "x0"]
    assert model.support_.tolist() == [False, True, True, False, True, True, False]
    assert set(model.field_scores_) == set(X.columns)
    assert {f for t in model.interaction_scores_ for f in t} == {"f1", "f2", "f4", "x0"}
    assert ("f2", "f4") in model.interaction_scores_ and len(model.interactions_) == 2
    sizes = model.embedding_sizes_
    assert list(sizes) == [*X.columns] and sizes["f0"] == sizes["f3"] == sizes["s0"] == 0
    moved = X.assign(f0=X.f0[0], s0=[["i1"]] * len(X), f3=None)
    np.testing.assert_array_equal(model.predict_proba(moved), model.predict_proba(X))


def test_sizes_of_pruned_tables():
    model, X = fitted([keep(0, 4, 6), PEP(target_sparsity=0.5)], network=DeepFM((8,)))
    sizes, encoder = model.embedding_sizes_, model.encoder_
    assert list(sizes) == ["f0", "f1", "f2", "f3", "f4", "s0"]
    assert [len(v) for v in sizes.values()] == [*encoder.n_ids_, *encoder.sequence_n_ids_]
    kept = sum(int(v.sum()) for v in sizes.values())
    assert (
        kept == len(model.net_.module_.embedding.values)
        and not sizes["f1"].any()
        and sizes["f4"].any()
    )


@pytest.mark.parametrize(
    "search",
    [AutoField(n_fields=3), [keep(1, 2, 6), AutoFIS()], [keep(2, 4, 5), PEP(0.5)], keep(5)],
    ids=str,
)
def test_files_json_and_pickles(search, tmp_path):
    model, X = fitted(search)
    expected = model.predict_proba(X[:50])
    save(model, tmp_path / "m")
    for again in (load(tmp_path / "m"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict_proba(X[:50]), expected)
        assert again.selected_fields_ == model.selected_fields_ and again.nbytes_ == model.nbytes_
    architecture = json.loads(json.dumps(model.architecture_))
    retrained = CTRClassifier.from_architecture(architecture, max_epochs=1, random_state=0)
    retrained.fit(X, data()[1])
    assert retrained.selected_fields_ == model.selected_fields_
    assert retrained.n_parameters_ == model.n_parameters_


def test_files_with_wrong_fields_are_refused(tmp_path):
    for fields in ([0, 7], [3, 1], [1, 1], [], [True], "ab"):
        model, _ = fitted(keep(0, 1))
        model._architecture["gate"]["fields"] = fields
        # Saving reads the file back.
        with pytest.raises(ValueError, match="fields must be rising ints below 7"):
            save(model, tmp_path / "m")


def test_dropping_fields_comes_first():
    X, y, _ = data()
    with pytest.raises(ValueError, match=r"AutoField\(\) drops fields, so that it must come first"):
        CTRClassifier(network="fm", search=[AutoFIS(), AutoField()]).fit(X, y)
    with pytest.raises(
        ValueError, match=r"joint=True: AutoField\(\) drops fields and has to search first"
    ):
        CTRClassifier(network="fm", search=[AutoField(), AutoFIS()], joint=True).fit(X, y)


def test_a_network_that_does_not_select_is_refused():
    class Deaf(FM):
        def build(self, context, parts):
            return super().build(context, {k: v for k, v in parts.items() if k != "selection"})

    with pytest.raises(
        TypeError, match="cannot drop fields: its module must be a sklearn_autorec.nn.FieldNetwork"
    ):
        build_network(Deaf(), [KEEP], {"gate": KEEP.architecture}, context())


def test_without_a_gate_search_there_is_no_choice():
    model, _ = fitted(None)
    for name in ("support_", "selected_fields_", "field_scores_"):
        with pytest.raises(
            AttributeError, match="does not choose fields; use for instance search=AutoField"
        ):
            getattr(model, name)


def test_partial_fit_and_warm_start_go_on_with_the_kept_fields():
    model, X = fitted(keep(1, 4), warm_start=True)
    y, n = data()[1], model.n_parameters_
    model.partial_fit(X[:500], y[:500])
    assert model.set_params(max_epochs=4).fit(X, y).n_parameters_ == n
    assert model.selected_fields_ == ["f1", "f4"]


@pytest.mark.parametrize("retrain", ["scratch", "rewind", "keep"])
def test_final_training_starts_from_the_declared_weights(retrain, monkeypatch):
    from sklearn_autorec.engine import _search_phase
    from sklearn_autorec.estimators import _stages

    starts, problems = [], []
    real_train, real_problem, real_carry = (
        _stages.train,
        _search_phase.SearchProblem,
        _search_phase._carry_states,
    )

    def spy_train(net, *args, **kwargs):
        starts.append({k: v.clone() for k, v in net.module.state_dict().items()})
        return real_train(net, *args, **kwargs)

    def spy_carry(problem, *args):
        problems.append((dict(problem.initial_state), dict(problem.final_state)))
        real_carry(problem, *args)

    monkeypatch.setattr(_stages, "train", spy_train)
    monkeypatch.setattr(_search_phase, "_carry_states", spy_carry)
    model, _ = fitted(AutoField(n_fields=3, retrain=retrain), network=DeepFM((8,)))
    (initial, final), start = problems[0], starts[0]
    rows = model.net_.module_.selection.table_rows(
        BuildContext(
            (), tuple(model.encoder_.n_ids_), 1, ((model.encoder_.sequence_n_ids_[0], 20),)
        )
    )
    assert real_problem is _search_phase.SearchProblem and len(rows) < len(
        initial["embedding.weight"]
    )
    for name in ("embedding.weight", "linear.weight"):
        if name == "embedding.weight":
            assert torch.equal(start[name], initial[name][rows]) == (retrain == "rewind")
        assert torch.equal(start[name], final[name][rows]) == (retrain == "keep")


def test_every_method_says_whether_it_narrows():
    assert not SearchMethod.narrows and AutoField.narrows and not AutoFIS.narrows
