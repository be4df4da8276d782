"""The numeric and the sequence slot beside every other part that reads numbers and lists."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.embedding import (
    NIS,
    PEP,
    SSEDS,
    AutoDim,
    AutoSrh,
    EqualSize,
    MagnitudePruning,
    RandomSizes,
)
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import (
    BuildContext,
    FieldEmbedding,
    FieldNetwork,
    Inputs,
    InputSelection,
    MaskedEmbedding,
    Members,
    MixedEmbedding,
    NumberVectors,
    pack_table,
)
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

OPTIONS = {
    "embedding_dim": 4,
    "lr": 0.02,
    "max_epochs": 1,
    "search_epochs": 1,
    "batch_size": 64,
    "random_state": 0,
    "device": "cpu",
    "early_stopping": False,
}
EMBEDDINGS = [
    EqualSize(2),
    RandomSizes((1, 2, 4)),
    AutoDim((1, 2, 4)),
    AutoDim((1, 2, 4), level="one_level"),
    PEP(),
    MagnitudePruning(),
    NIS(),
    SSEDS(),
    AutoSrh(),
]


class Plain(nn.Module):
    """One vector for all numbers, times the value; or the mean of a list plus its target."""

    def __init__(self, slot, dim):
        super().__init__()
        self.slot, self.weight = slot, nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, first, present=None, targets=None):
        if self.slot == "numeric":
            return first[:, : first.shape[1] // 2].unsqueeze(2) * self.weight
        assert not first[~present].any()
        return (first.sum(2) / present.sum(2, keepdim=True).clamp(min=1) + targets) * self.weight


class PlainPart(SearchMethod):
    """Puts `Plain` there; what the context was stands in the architecture."""

    def __init__(self, slot="numeric", retrain="scratch"):
        self.slot = slot
        self.retrain = retrain

    def build(self, context):
        return Plain(self.slot, context.embedding_dim)

    def derive(self, module, context):
        return {"n_numeric": context.n_numeric, "names": list(context.field_names)}

    def realise(self, architecture, context):
        assert context.n_numeric <= architecture["n_numeric"]
        return Plain(self.slot, context.embedding_dim)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = {
        "a": [f"a{i}" for i in rng.integers(0, 6, 300)],
        "x": rng.normal(size=300),
        "tags": [[f"t{i}" for i in rng.integers(0, 5, n)] for n in rng.integers(0, 4, 300)],
        "b": [f"b{i}" for i in rng.integers(0, 4, 300)],
        "z": rng.normal(size=300),
    }
    import pandas as pd

    return pd.DataFrame(X), (X["x"] + rng.normal(size=300) > 0).astype(int)


def networks_of(module):
    return list(module.networks) if isinstance(module, Members) else [module]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("slot", ["numeric", "sequence"])
@pytest.mark.parametrize("method", EMBEDDINGS, ids=str)
def test_a_part_stacks_with_every_method_of_the_embedding_slot(method, slot, members, table):
    """In both orders, with members, and from the architecture alone."""
    X, y = table
    for search in ([method, PlainPart(slot)], [PlainPart(slot), method]):
        model = CTRClassifier(network="fm", search=search, members=members, **OPTIONS).fit(X, y)
        for network in networks_of(model.net_.module_):
            assert isinstance(getattr(network, slot), Plain)
            names = [name for name, _ in network.embedding.named_parameters()]
            assert any("numeric_weight" in name for name in names) == (slot == "sequence")
        found = json.loads(json.dumps(model.architecture_))
        assert found["numeric" if slot == "numeric" else "sequence"]["n_numeric"] == 2
        p = model.predict_proba(X)
        again = CTRClassifier.from_architecture(found, members=members, **OPTIONS).fit(X, y)
        assert again.architecture_ == found and np.isfinite(again.predict_proba(X)).all()
        moved = X.assign(x=X["x"] + 1, tags=[["t1"]] * len(X))
        assert (model.predict_proba(moved) != p).any()
        sizes = model.embedding_sizes_
        pruned = "mask" in found["embedding"]
        assert list(sizes) == ["a", "b", *(["x", "z"] if not pruned else []), "tags"]
        if "widths" in found["embedding"]:
            assert len(found["embedding"]["widths"]) == (3 if slot == "numeric" else 5)
            if slot == "numeric":
                assert sizes["x"] == sizes["z"] == 4


def test_parts_of_both_slots_search_jointly(table):
    X, y = table
    search = [AutoDim((1, 4), level="one_level"), PlainPart("numeric"), PlainPart("sequence")]
    model = CTRClassifier(network="fm", search=search, joint=True, **OPTIONS).fit(X, y)
    assert set(model.architecture_) >= {"embedding", "numeric", "sequence"}
    assert len(model.architecture_["embedding"]["widths"]) == 3
    assert model.architecture_["numeric"]["names"] == ["a", "b", "x", "z", "tags"]
    assert {r["slot"] for r in model.search_history_} == {"embedding+numeric+sequence"}


@pytest.mark.parametrize("fields", [[2, 3], [0, 1, 4], [0, 2, 4], [3], [4]])
def test_parts_of_a_table_that_a_gate_has_narrowed(fields, table):
    """Numbers alone, no numbers, no list, ..."""
    X, y = table
    gate = {"method": "AutoField", "params": {}, "fields": fields, "scores": [0.0] * 5}
    known = {
        "network": {"network": "FM", "params": {}},
        "embedding_dim": 4,
        "gate": gate,
        "numeric": {"method": "PlainPart", "params": {"slot": "numeric"}, "n_numeric": 2},
        "sequence": {"method": "PlainPart", "params": {"slot": "sequence"}, "n_numeric": 2},
    }
    model = CTRClassifier.from_architecture(known, **OPTIONS).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    searched = CTRClassifier(network="fm", search=[AutoField(), PlainPart()], **OPTIONS).fit(X, y)
    assert searched.architecture_["numeric"]["names"] == searched.selected_fields_


def test_an_embedding_search_with_nothing_left_is_refused(table):
    X, y = table
    with pytest.raises(ValueError, match="embedding slot has nothing to search, since all fields"):
        CTRClassifier(network="fm", search=[PEP(), PlainPart()], **OPTIONS).fit(X[["x", "z"]], y)
    model = CTRClassifier(network="fm", search=PlainPart(), **OPTIONS).fit(X[["x", "z"]], y)
    assert model.net_.module_.embedding is None


def contexts(**changes):
    return BuildContext(
        ("a", "b", "x", "tags", "more"),
        (5, 4),
        n_numeric=1,
        sequences=((6, 3), (7, 2)),
        embedding_dim=4,
        generator=torch.Generator().manual_seed(0),
        embedding_init=1.0,
        **changes,
    )


def batch(n=6):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, (5, 4), (n, 2))
    sequences = rng.integers(0, (6, 6, 6, 7, 7), (n, 5))
    sequences[0] = 0
    return Inputs(
        torch.tensor(ids, dtype=torch.int32),
        torch.rand(n, 2, generator=torch.Generator().manual_seed(1)),
        torch.tensor(sequences, dtype=torch.int32),
    )


class Sum(FieldNetwork):
    def logits(self, e, inputs):
        return e.sum((1, 2)).unsqueeze(1)


class Mean(nn.Module):
    def forward(self, vectors, present, targets):
        self.targets = targets
        return vectors.sum(2) / present.sum(2, keepdim=True).clamp(min=1)


def parts_of_every_kind(context):
    mask = np.random.default_rng(0).random((sum(context.table_sizes), 4)) < 0.5
    plain = FieldEmbedding(context)
    weights = {n: p.detach().numpy() for n, p in plain.named_parameters() if n != "weight"}
    table = plain.weight.detach().numpy() * mask
    yield plain
    yield MaskedEmbedding(context, mask)
    yield MixedEmbedding(context, [2, 4, 1, 2, 0])
    yield MixedEmbedding(context, [0, 0, 4, 2, 2])
    yield EMBEDDINGS[2].build(context)
    yield PEP().build(context)
    for form in ("dense", "columns", "prefixes", "sparse", "bits"):
        yield pack_table(table, context, weights["numeric_weight"], [form])


@pytest.mark.parametrize("shared", [(), (0, None), (None, 1), (1, 1)])
def test_the_mean_in_the_sequence_slot_changes_nothing(shared):
    context = contexts(shared=shared)
    if shared:  # tables shared with the first two fields are of their sizes
        sizes = [(6, 7)[k] if f is None else context.n_ids[f] for k, f in enumerate(shared)]
        context = contexts(shared=shared)
        object.__setattr__(context, "sequences", ((sizes[0], 3), (sizes[1], 2)))
    inputs = batch()
    limits = torch.tensor([context.sequences[k][0] - 1 for k in (0, 0, 0, 1, 1)])
    inputs = inputs._replace(sequences=inputs.sequences.minimum(limits).int())
    for part in (
        parts_of_every_kind(context)
        if shared in ((), (None, None))
        else [
            FieldEmbedding(context),
            MaskedEmbedding(context, np.ones((sum(context.table_sizes), 4), bool)),
        ]
    ):
        part.eval()
        plain = Sum(context, {"embedding": part}).eval()
        mean = Mean()
        apart = Sum(context, {"embedding": part, "sequence": mean}).eval()
        rows = Inputs(*inputs[:3])
        np.testing.assert_allclose(
            apart.embed(rows).detach(), plain.embed(rows).detach(), rtol=1e-5, atol=1e-6
        )
        own = [None, None] if not shared else list(shared)
        for k, f in enumerate(own):
            expected = plain.embed(rows)[:, f] if f is not None else torch.zeros(6, 4)
            assert torch.equal(mean.targets[:, k], expected)


def test_numbers_apart_are_the_numbers_that_were_within():
    context, inputs = contexts(), batch()
    whole = FieldEmbedding(context)
    own = NumberVectors(context)
    own.numeric_weight = whole.numeric_weight
    tables = FieldEmbedding(context.without_numbers())
    tables.weight = whole.weight
    for sequence in (None, Mean()):
        parts = {"embedding": tables, "numeric": own, "sequence": sequence}
        assert torch.equal(
            Sum(context, {k: p for k, p in parts.items() if p is not None}).embed(inputs),
            whole(inputs),
        )
    assert own.embedding_parameters() == [own.numeric_weight]
    with pytest.raises(TypeError, match="FieldEmbedding in the embedding slot gives vectors of 5"):
        Sum(context, {"embedding": whole, "numeric": own}).embed(inputs)


def test_a_part_without_single_items_cannot_stand_beside_a_sequence_part():
    class Opaque(nn.Module):
        def forward(self, inputs):
            return inputs.ids

    with pytest.raises(TypeError, match="Opaque in the embedding slot cannot stand beside Mean"):
        Sum(contexts(), {"embedding": Opaque(), "sequence": Mean()})
    context = contexts()
    part = AutoDim(normalize=True).build(context)
    with pytest.raises(ValueError, match="normalize=False"):
        Sum(context, {"embedding": part, "sequence": Mean()}).embed(batch())


def test_a_list_reads_the_rows_of_the_field_whose_vocabulary_it_shares():
    context = contexts(shared=(0, None))
    object.__setattr__(context, "sequences", ((5, 3), (7, 2)))
    assert context.table_sizes == [5, 4, 7] and context.list_tables == [0, 2]
    table = FieldEmbedding(context)
    assert table.weight.shape == (16, 4)
    rows = batch()
    rows = Inputs(
        torch.tensor([[3, 1]]), rows.numeric[:1], torch.tensor([[3, 0, 0, 6, 0]], dtype=torch.int32)
    )
    e = table(rows)[0]
    assert torch.equal(e[0], table.weight[3]) and torch.equal(e[3], e[0])
    assert torch.equal(e[4], table.weight[9 + 6])


@pytest.mark.parametrize("fields, shared", [([0, 3], (0,)), ([1, 3], ()), ([0, 1, 3], (0,))])
@pytest.mark.parametrize("by_value", [True, False])
def test_what_is_left_of_a_shared_vocabulary(fields, shared, by_value):
    context = contexts(shared=(0, None), counts=(np.arange(5), np.arange(4)))
    object.__setattr__(context, "sequences", ((5, 3), (7, 2)))
    kept = np.array([0, 0, 0, 1, 1, 0, 0, 1, 1], bool)  # values 3 and 4 of the first field
    selection = InputSelection(context, fields, kept if by_value else None)
    left = selection.narrow(context)
    n_first = 4 if by_value else 5
    assert left.shared == shared
    assert left.sequences == ((n_first if shared == (0,) else 5, 3),)
    rows = Inputs(
        torch.tensor([[4, 1], [2, 0]], dtype=torch.int32),
        torch.zeros(2, 2),
        torch.tensor([[4, 2, 0, 6, 0], [1, 3, 0, 0, 0]], dtype=torch.int32),
    )
    items = selection(rows).sequences.tolist()
    if by_value and shared == (0,):
        assert items == [[3, 1, 0], [1, 2, 0]]
        assert selection(rows).ids[:, 0].tolist() == [3, 1]
    else:
        assert items == [[4, 2, 0], [1, 3, 0]]
    table = FieldEmbedding(context)
    narrow = FieldEmbedding(left)
    taken = selection.table_rows(context)
    assert len(taken) == narrow.n_rows == left.n_rows  # each row once
    narrow.weight = nn.Parameter(table.weight[torch.from_numpy(taken)])
    whole, small = table(rows), narrow(selection(rows))
    at = fields.index(3)
    exact = [0, 1] if not (by_value and shared == (0,)) else []
    for row in exact:
        torch.testing.assert_close(small[row, at], whole[row, 3])
    if not exact:  # the item that is no longer known reads as the unknown one
        torch.testing.assert_close(small[0, at], (table.weight[4] + table.weight[1]) / 2)


def test_widths_of_fields_that_share_a_table_are_one():
    context = contexts(shared=(0, None))
    object.__setattr__(context, "sequences", ((5, 3), (7, 2)))
    with pytest.raises(ValueError, match="the same for 'a' and 'tags', which share a table"):
        MixedEmbedding(context, [2, 2, 2, 4, 2])
    with pytest.raises(ValueError, match="the same for 'a' and 'tags', which share a table"):
        EqualSize().check({"widths": [2, 2, 2, 4, 2]}, context)
    part = MixedEmbedding(context, [2, 4, 2, 2, 0])
    assert sum(p.shape[0] for name, p in part.named_parameters() if name.endswith("0.weight")) == 5
    module = AutoDim((1, 4)).build(context)
    module.alpha.data[:, 1] = torch.tensor([1.0, -1.0, 0.0, -1.0, 1.0])
    widths = AutoDim((1, 4)).derive(module, context)["widths"]
    assert widths == [4, 1, 1, 4, 4]
    assert torch.equal(module.mixture()[3], module.mixture()[0])

    class Problem:
        pass

    Problem.context = context
    for seed in range(5):
        context.generator.manual_seed(seed)
        widths = RandomSizes((1, 2, 3, 4)).search(Problem)["widths"]
        assert widths[3] == widths[0]
    assert FM().slots[1:4] == ("embedding", "numeric", "sequence")


def test_numbers_that_are_gone_have_no_part():
    context = contexts().of_fields([0, 1, 3])
    module = Sum(context, {"numeric": NumberVectors(context), "sequence": Mean()})
    rows = batch()
    rows = Inputs(rows.ids, rows.numeric[:, :0], rows.sequences[:, :3])
    assert module.embed(rows).shape == (6, 3, 4)


@pytest.mark.parametrize(
    "method", [NIS(), SSEDS(), AutoSrh(), SSEDS(score="gradient"), AutoDim((1, 4))], ids=str
)
@pytest.mark.parametrize("parts", [[], ["numeric"], ["sequence"]], ids=str)
def test_searches_of_tables_that_two_fields_share(method, parts, table, tmp_path):
    X, y = table
    X = X.assign(tags=[[v.replace("t", "a") for v in items] for items in X["tags"]])
    encoder = FieldEncoder(shared_vocabularies={"tags": "a"})
    search = [method, *map(PlainPart, parts)]
    model = CTRClassifier(network="fm", search=search, encoder=encoder, **OPTIONS).fit(X, y)
    sizes = model.embedding_sizes_
    np.testing.assert_array_equal(sizes["a"], sizes["tags"])
    assert np.isfinite(model.predict_proba(X)).all()
    if not parts:
        save(model, tmp_path / "model")
        np.testing.assert_array_equal(
            load(tmp_path / "model").predict_proba(X), model.predict_proba(X)
        )
