"""A method over several slots: one search, an entry of the architecture for each, one method in all
that is stored.
"""

import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec._registry import METHODS
from sklearn_autorec.base import FixedArchitecture, SearchMethod, fixed_methods, networks_with_slot
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding._masks import MaskSearch
from sklearn_autorec.engine import ArchSchedule
from sklearn_autorec.engine._slots import take_places
from sklearn_autorec.estimators import _stages
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.nn import InputSelection, MaskedEmbedding, linear, mask_from_text, mask_to_text
from sklearn_autorec.serving import load, save

OPTIONS = {
    "network": DeepFM((5,)),
    "embedding_dim": 3,
    "lr": 0.02,
    "max_epochs": 2,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
}


class Part(nn.Module):
    """Stands in a slot; its weight is that of the parts in the other slots too."""

    def __init__(self, slot, context, shared, positive=1.0):
        super().__init__()
        self.slot, self.shared, self.calls, self.positive = slot, shared, 0, positive
        self.reference = context.reference_loss
        self.out_dim = 2

    def set_widths(self, n_in, n_out, generator):
        self.layer = linear(n_in, n_out, generator)

    def forward(self, x, more=None):
        self.calls += 1
        if self.slot == "gate":
            return self.shared.weight * x.new_ones(1, x.shape[1])
        if self.slot == "interaction":
            return self.shared.weight * (x[:, 0] * x[:, 1])[:, :2]
        if self.slot == "loss":
            return self.reference(x, more) * torch.where(more > 0, self.positive, 1.0)
        return self.layer(x)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


MADE: list = []  # dicts of parts by slot, in order


class Several(SearchMethod):
    """Puts parts that share a weight into several slots."""

    slots = ()

    def __init__(self, slots=("gate", "interaction"), retrain="scratch", level="one_level"):
        self.slots = slots
        self.retrain = retrain
        self.level = level

    def make(self, context, slots):
        shared = Shared()
        MADE.append({slot: Part(slot, context, shared, 9.0) for slot in slots})
        return dict(MADE[-1])

    def build(self, context):
        parts = self.make(context, self.slots)
        if self.level != "one_level":
            part = parts[self.slots[-1]]
            part.arch_parameters = lambda: [part.shared.weight]
            part.arch_schedule = ArchSchedule(self.level, fraction=0.3)
        return parts

    def derive(self, parts, context):
        return {slot: {"calls": parts[slot].calls, "in": slot} for slot in parts}

    def check(self, architecture, context):
        for slot, entry in architecture.items():
            if entry.get("in") != slot:
                raise ValueError(f"the entry of {slot!r} is that of {entry.get('in')!r}")

    def realise(self, architecture, context):
        assert all(architecture[slot]["in"] == slot for slot in architecture)
        return self.make(context, architecture)


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(200, n_fields=3, cardinality=5, pairs=[(0, 1)], n_numeric=1, random_state=0)[:2]


@pytest.fixture(autouse=True)
def forget():
    MADE.clear()


def fit(search, clicks, **options):
    return CTRClassifier(search=search, **{**OPTIONS, **options}).fit(*clicks)


@pytest.mark.parametrize("slots", [("gate", "interaction"), ("head", "gate", "loss"), ("gate",)])
def test_every_part_is_searched_trained_kept_and_served(slots, clicks):
    X, y = clicks
    model = fit(Several(slots), clicks)
    assert MADE[0]["gate"].shared is MADE[0][slots[-1]].shared
    # The concrete loss is made apart from the network that it trains.
    concrete = MADE[1] | ({"loss": MADE[2]["loss"]} if "loss" in slots else {})
    for parts in (MADE[0], concrete):
        assert parts.keys() == {*slots} and all(part.calls > 4 for part in parts.values())
        assert parts["gate"].shared.weight.item() != 1.0
    assert {record["slot"] for record in model.search_history_} == {"+".join(slots)}
    found = model.architecture_
    assert all(found[slot]["in"] == slot and found[slot]["calls"] > 4 for slot in slots)
    assert all(found[slot]["params"]["slots"] == list(slots) for slot in slots)
    served = {m.slot for m in model.net_.module_.modules() if isinstance(m, Part)}
    assert served == {*slots} - {"loss"}

    p = model.predict_proba(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), p)
    assert (again.partial_fit(X, y).predict_proba(X) != p).any()
    assert json.loads(json.dumps(found)) == found
    known = CTRClassifier.from_architecture(json.loads(json.dumps(found)), **_without_network())
    assert [method.slots for method in known.search] == [list(slots)]
    known = clone(known).fit(X, y)
    assert known.architecture_ == found and known.search_history_ == []
    np.testing.assert_array_equal(known.predict_proba(X), p)


def _without_network():
    return {name: value for name, value in OPTIONS.items() if name != "network"}


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_it_stands_in_lists_with_others(joint, first, clicks):
    methods = [Several(("gate", "head")), AutoFIS(threshold=0, max_interactions=2)]
    model = fit(methods[:: 1 if first else -1], clicks, joint=joint)
    names = ["gate+head", "interaction"][:: 1 if first else -1]
    slots = {record["slot"] for record in model.search_history_}
    assert slots == ({"+".join(names)} if joint else {*names})
    assert {"gate", "head", "interaction"} < model.architecture_.keys()
    assert len(model.interactions_) == 2 and len(MADE) == (3 if first and not joint else 2)
    assert all(part.calls > 4 for parts in MADE for part in parts.values())
    known = CTRClassifier.from_architecture(model.architecture_, **_without_network())
    assert [tuple(method.slots) for method in known.search] == [("gate", "head"), ("interaction",)]
    p = model.predict_proba(clicks[0])
    np.testing.assert_array_equal(known.fit(*clicks).predict_proba(clicks[0]), p)


def test_a_loss_among_its_slots_trains(clicks):
    plain, heavy = (
        fit(Several(slots), clicks, max_epochs=8).predict_proba(clicks[0])[:, 1].mean()
        for slots in (("gate", "head"), ("gate", "head", "loss"))
    )
    assert heavy > plain + 0.1  # ones weigh nine times as much


def test_members_have_parts_of_their_own(clicks):
    model = fit(Several(), clicks, members=2)
    weights = [parts["gate"].shared.weight.item() for parts in MADE[1:]]
    assert len(weights) == 2 and weights[0] != weights[1] and 1.0 not in weights
    assert np.isfinite(model.predict_proba(clicks[0])).all()


def test_architecture_steps_reach_a_part_that_is_not_the_first(clicks):
    fit(Several(level="first_order"), clicks)
    assert MADE[0]["gate"].shared.weight.item() != 1.0


@pytest.mark.parametrize("retrain", ["scratch", "rewind", "keep"])
def test_all_its_parts_start_by_its_rule(retrain, clicks, monkeypatch):
    starts = []
    real = _stages.train

    def spy(net, *args, **kwargs):
        parts = MADE[-1]
        starts.append(
            (parts["gate"].shared.weight.item(), parts["head"].layer.weight.detach().clone())
        )
        return real(net, *args, **kwargs)

    monkeypatch.setattr(_stages, "train", spy)
    fit([Several(("gate", "head"), retrain=retrain), Other(("interaction",))], clicks)
    searched = MADE[0]["gate"].shared.weight.item()
    ((weight, layer),) = starts
    assert weight == (searched if retrain == "keep" else 1.0) and searched != 1.0
    assert torch.equal(layer, MADE[0]["head"].layer.weight) == (retrain == "keep")


class Other(Several):
    """The same in other slots, without telling who made it last."""

    def make(self, context, slots):
        return {slot: Part(slot, context, Shared()) for slot in slots}


class Narrow(Several):
    """Drops the last field, by the entry of its gate."""

    narrows = True

    def derive(self, parts, context):
        own = super().derive(parts, context)
        return own | {"gate": {**own["gate"], "fields": list(range(context.n_fields - 1))}}

    def selection(self, architecture, context):
        return InputSelection(context, architecture["gate"]["fields"])


def test_it_may_drop_fields(clicks):
    model = fit([Narrow(retrain="keep"), Other(("head",))], clicks)
    assert model.net_.module_.embedding.n_numeric == 0
    assert model.selected_fields_ == ["f0", "f1", "f2"]
    known = CTRClassifier.from_architecture(model.architecture_, **_without_network())
    assert [method.narrows for method in known.search] == [True, False]
    assert known.fit(*clicks).selected_fields_ == ["f0", "f1", "f2"]


def test_those_that_drop_fields_come_first_in_a_known_architecture():
    gate = {"method": "AdaFS", "params": {}}
    pair = {"method": f"{Narrow.__module__}.Narrow", "params": {"slots": ["embedding", "head"]}}
    methods = fixed_methods({"gate": gate, "embedding": pair, "head": pair, "embedding_dim": 4})
    assert [tuple(method.slots) for method in methods] == [("embedding", "head"), ("gate",)]


@pytest.mark.parametrize(
    "search, message",
    [
        ([Several(), AutoFIS()], r"'interaction' is searched by \[Several\(.*AutoFIS\(\)\]"),
        ([AutoField(), Several(("head", "gate"))], "'gate' is searched by"),
        (Several(("gate", "gate")), "'gate' is searched by"),
        (Several(("gate", "roof")), "the 'roof' slot, which no network has"),
        (Several("gate"), "slots of Several.* must be a tuple .*got 'gate'"),
        (Several(()), "slots of Several.* must be a tuple"),
        ([AutoFIS(), Narrow(("gate", "head"))], "drops fields, so that it must come first"),
    ],
)
def test_conflicts_are_refused_by_name(search, message, clicks):
    with pytest.raises(ValueError, match=message):
        fit(search, clicks)


def test_a_network_must_have_all_of_its_slots(clicks):
    with pytest.raises(ValueError, match=r"'head' slot, which network=FM\(\) does .*'deepfm'"):
        fit(Several(("gate", "head")), clicks, network=FM())
    both = networks_with_slot("interaction", "head")
    assert "deepfm" in both and "fm" not in both and "mlp" not in both


@pytest.mark.parametrize(
    "hook, error, message",
    [
        ("build", ValueError, r"slots \('gate', 'interaction'\), one in each; got dicts for"),
        ("derive", TypeError, "the search of Several.* must give a dict with the slots"),
        ("realise", TypeError, "realise of Several.* must give a dict with the slots"),
    ],
)
def test_a_slot_that_is_left_out_is_refused(hook, error, message, clicks, monkeypatch):
    whole = getattr(Several, hook)
    monkeypatch.setattr(Several, hook, lambda *args: {"gate": whole(*args)["gate"]})
    with pytest.raises(error, match=message):
        fit(Several(), clicks)


def test_modules_take_their_places():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Tanh()
    slots = ("gate", "interaction", "head")
    assert take_places(slots, [a, b, c]) == dict(zip(slots, (a, b, c), strict=True))
    assert take_places(slots, [a, {"gate": b}, c]) == {"gate": b, "interaction": a, "head": c}
    for wrong in (
        [a, b],
        [{"gate": a, "body": b}, c],
        [{"gate": a}, {"gate": b}, b, c],
        [{"body": a}, a, b, c],
    ):
        with pytest.raises(ValueError, match="one in each"):
            take_places(slots, wrong)


def test_architectures_that_do_not_belong_together_are_refused(clicks):
    found = fit(Several(), clicks).architecture_
    other = {**found["interaction"], "params": {**found["gate"]["params"], "retrain": "keep"}}
    for changed, message in (
        ({"interaction": None}, r"slots \('gate', 'interaction'\) together; .*got entries for"),
        ({"interaction": other}, "one method with the same parameters in all its slots"),
        ({"head": found["gate"]}, "The method of slot 'head' must be one for this slot"),
        ({"gate": {**found["gate"], "in": "head"}}, "the entry of 'gate' is that of 'head'"),
        ({"gate": {"method": "Nobody"}}, "'method' is one of"),
    ):
        wrong = {slot: entry for slot, entry in {**found, **changed}.items() if entry is not None}
        with pytest.raises(ValueError, match=message):
            CTRClassifier.from_architecture(wrong, **_without_network()).fit(*clicks)
    for wrong in ({}, {"gate": found["gate"]}):
        with pytest.raises(ValueError, match=r"'method' is one of|an entry for each"):
            FixedArchitecture(wrong).entries()


class Pruned(Several):
    """An embedding table without half of its numbers, and a gate."""

    packed_entries = {"embedding": MaskSearch.packed_entries}

    def check(self, architecture, context):
        super().check(architecture, context)
        if "embedding" in architecture and architecture["embedding"]["mask"] is None:
            raise ValueError("no mask")

    def realise(self, architecture, context):
        parts = {"gate": self.make(context, ["gate"])["gate"]}
        if "embedding" in architecture:
            mask = mask_from_text(architecture["embedding"]["mask"])
            parts["embedding"] = MaskedEmbedding(context, mask)
        return parts


@pytest.mark.parametrize("packed", [False, True])
def test_model_files(packed, clicks, tmp_path, monkeypatch):
    """Only the package's own methods come back from files, so these are taken for such."""
    X, y = clicks
    cls = Pruned if packed else Several
    name = f"{cls.__module__}.{cls.__name__}"
    real = METHODS.own
    monkeypatch.setattr(METHODS, "own", lambda: {**real(), name: cls})
    if packed:
        context = fit(None, clicks).net_.module_.embedding
        mask = np.random.default_rng(0).random((context.n_rows, 3)) < 0.5
        described = {"method": name, "params": {"slots": ["embedding", "gate"]}}
        entries = {
            "embedding": {**described, "in": "embedding", "mask": mask_to_text(mask)},
            "gate": {**described, "in": "gate"},
        }
        model = fit(FixedArchitecture(entries), clicks)
        np.testing.assert_array_equal(model.net_.module_.embedding.mask(), mask)
    else:
        model = fit(Several(("interaction", "gate")), clicks)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.architecture_ == model.architecture_
    assert isinstance(again.net_.module_.gate, Part)
    model._architecture["gate"]["in"] = "head"
    with pytest.raises(ValueError, match="the entry of 'gate' is that of 'head'"):
        save(model, tmp_path / "model")
        load(tmp_path / "model")
