"""Every slot that a network names is real: what a method puts there is called, trained, kept and
served.
"""

import json
import pickle

import numpy as np
import pytest
import torch
from slots_cases import (
    MADE,
    NETWORKS,
    OPTIONS,
    Head,
    Trivial,
    fit,
)

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SLOTS, Network
from sklearn_autorec.engine import EncodedTensors, _search_phase
from sklearn_autorec.estimators import _stages
from sklearn_autorec.networks import DCN, FM, LR, AutoInt, DeepFM
from sklearn_autorec.nn import (
    FieldNetwork,
    Inputs,
    head_part,
)

ADVERTISED = [(name, slot) for name, network in NETWORKS.items() for slot in network.slots]


@pytest.fixture(autouse=True)
def forget():
    MADE.clear()


@pytest.mark.parametrize("name, slot", ADVERTISED)
def test_what_stands_in_an_advertised_slot_is_called_trained_and_served(name, slot, clicks):
    X, _ = clicks
    model = fit(NETWORKS[name], Trivial(slot), clicks)
    searched, concrete = MADE[0], MADE[-1]
    for part in (searched, concrete):
        assert part is not None and part.calls > 4 and all(part.trained()), (
            part.calls,
            part.trained(),
        )
    assert searched is not concrete and model.architecture_[slot]["calls"] > 4
    served = any(m is concrete for m in model.net_.module_.modules())
    assert served == (slot != "loss")  # a loss predicts nothing

    p = model.predict_proba(X)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), p)
    found = json.loads(json.dumps(model.architecture_))
    assert found == model.architecture_
    made = len(MADE)
    known = CTRClassifier.from_architecture(found, **OPTIONS).fit(*clicks)
    assert known.architecture_ == found and known.search_history_ == []
    assert len(MADE) > made and MADE[-1].calls > 4 and all(MADE[-1].trained())
    np.testing.assert_array_equal(known.predict_proba(X), p)  # from scratch, as the method has it
    before = MADE[-1].calls
    again.partial_fit(*clicks)
    assert (again.predict_proba(X) != p).any()
    assert MADE[-1].calls == before  # a copy went on


def test_every_slot_is_advertised_by_some_network():
    assert {slot for _, slot in ADVERTISED} == set(SLOTS)


@pytest.mark.parametrize("name", [name for name, slot in ADVERTISED if slot == "body"])
def test_a_body_stands_for_everything_behind_the_embeddings(name, clicks):
    X, _ = clicks
    model = fit(NETWORKS[name], Trivial("body"), clicks)
    module = model.net_.module_
    assert type(module) is FieldNetwork
    assert {n.split(".")[0] for n, _ in module.named_parameters()} == {"embedding", "body"}
    data = EncodedTensors.from_table(model.encoder_.encode(X), "cpu")
    with torch.inference_mode():
        e = module.embedding(Inputs(data.ids, data.numeric, data.sequences)).flatten(1)
        body = module.body
        logits = (e @ body.layer.weight.T + body.layer.bias) * body.scale
    p = 1 / (1 + np.exp(-logits[:, 0].double().numpy()))
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], p, rtol=1e-5)


def test_nothing_can_be_searched_beside_a_body_that_it_stands_for(clicks):
    for other in ("interaction", "head"):
        with pytest.raises(ValueError, match=f"there is no '{other}' slot to search beside it"):
            fit("deepfm", [Trivial(other), Trivial("body")], clicks)
    with pytest.raises(ValueError, match="no 'head' and no 'interaction' slot"):
        fit("deepfm", [Trivial("interaction"), Trivial("head"), Trivial("body")], clicks)
    model = fit("deepfm", [Trivial("gate"), Trivial("body")], clicks)
    assert set(model.architecture_) >= {"gate", "body"}


@pytest.mark.parametrize("name", [name for name, slot in ADVERTISED if slot == "head"])
@pytest.mark.parametrize("interaction", [False, True])
def test_a_head_is_told_the_widths_of_its_network(name, interaction, clicks):
    X, y = clicks
    network = NETWORKS[name]
    if interaction and "interaction" not in network.slots:
        return
    three = (X, np.arange(len(X)) % 3)
    fit(
        network,
        [Trivial("interaction"), Trivial("head")] if interaction else Trivial("head"),
        three,
    )
    d, n_fields = 3, 5
    pairs = 2 if interaction else n_fields * (n_fields - 1) // 2
    products = {"ipnn": pairs, "pin": pairs, "opnn": pairs if interaction else d * d}
    products |= {"gdcn": 5}
    of_its_own = {"nfm": d, "finalmlp": 5 + 5, "masknet": 3 * 64}
    of_its_own["fibinet"] = pairs if interaction else 2 * d * pairs
    n_in = of_its_own.get(name, d * n_fields + products.get(name, 0))
    heads = [part for part in MADE if isinstance(part, Head)]
    assert {part.widths for part in heads} == {(n_in, 3)} and len(heads) == 2


def test_a_head_keeps_its_weights_in_a_second_network_of_the_same_widths():
    class Context:
        n_outputs, generator = 2, torch.Generator().manual_seed(0)

    head = Head()
    assert head_part({"head": head}, 4, Context) is head
    weight = head.layer.weight
    assert head_part({"head": head}, 4, Context).layer.weight is weight
    assert head_part({"head": head}, 5, Context).layer.weight.shape == (2, 5)
    assert head_part({}, 4, Context) is None


@pytest.mark.parametrize("slot", SLOTS)
def test_members_have_parts_of_their_own(slot, clicks):
    X, y = clicks
    model = fit(DeepFM((5,)), Trivial(slot), clicks, members=2)
    parts = MADE[1:]
    assert len(parts) == 2 and all(part.calls > 4 and all(part.trained()) for part in parts)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert np.isfinite(again.partial_fit(X, y).predict_proba(X)).all()


@pytest.mark.parametrize(
    "network, slot",
    [(LR(), "embedding"), (FM(), "head"), (DCN(hidden_units=(5,)), "interaction"), (FM(), "wing")],
    ids=str,
)
def test_a_slot_that_a_network_does_not_have_is_refused(network, slot, clicks):
    with pytest.raises(ValueError) as caught:
        fit(network, Trivial(slot), clicks)
    told = str(caught.value)
    allowed = SLOTS if slot == "wing" else network.slots
    assert all(
        word in told
        for word in (repr(Trivial(slot)), repr(slot), repr(network), repr(tuple(allowed)))
    )
    assert not MADE


class Forgetful(Network):
    """Names the head slot and does not use its part."""

    slots = ("head", "loss")

    def build(self, context, parts):
        return LR().build(context, parts)


def test_a_network_that_leaves_out_a_part_is_told_so(clicks):
    with pytest.raises(
        TypeError,
        match=r"Forgetful\(\) names the slot 'head', but its module LRModule does not hold",
    ):
        fit(Forgetful(), Trivial("head"), clicks)
    with pytest.raises(TypeError, match="does not hold the part"):
        known = {
            "head": {"method": "Trivial", "params": {"slot": "head"}, "calls": 1},
            "network": {"network": "LR"},
        }
        CTRClassifier.from_architecture(known, **OPTIONS).set_params(network=Forgetful()).fit(
            *clicks
        )


@pytest.mark.parametrize("last", ["scratch", "rewind", "keep"])
@pytest.mark.parametrize("first", ["scratch", "rewind", "keep"])
def test_each_part_keeps_its_own_retrain_kind(first, last, clicks, monkeypatch):
    """Of two methods, each says where its part starts; the last one also where the rest of the
    network does.
    """
    searches, start = [], {}
    real_found, real_train = _search_phase.SearchProblem, _stages.train

    class Problem(real_found):
        def __init__(self, *args):
            super().__init__(*args)
            searches.append(self)

    def spy(net, *args, **kwargs):
        start.update({name: t.detach().clone() for name, t in net.module.state_dict().items()})
        return real_train(net, *args, **kwargs)

    monkeypatch.setattr(_search_phase, "SearchProblem", Problem)
    monkeypatch.setattr(_stages, "train", spy)
    fit(
        AutoInt(hidden_units=()),
        [Trivial("embedding", retrain=first), Trivial("head", retrain=last)],
        clicks,
    )
    rules = {
        "embedding.table.weight": (first, 0),
        "head.layer.weight": (last, 1),
        "out.weight": (last, 1),
    }
    for name, (rule, number) in rules.items():
        problem = searches[number]
        sources = {"rewind": problem.initial_state[name], "keep": problem.final_state[name]}
        assert not torch.equal(sources["rewind"], sources["keep"])
        for kind, source in sources.items():
            assert torch.equal(start[name], source) == (rule == kind), (name, rule, kind)
        if rule == "scratch":  # nor from the search of the other
            assert not torch.equal(start[name], searches[1].final_state[name])
