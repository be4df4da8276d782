"""Every slot that a network names is real: what a method puts there is called, trained, kept and
served.
"""

import json
import math
import pickle

import numpy as np
import pytest
import torch
from small_networks import small_networks
from torch import nn

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import SLOTS, Network, SearchMethod, known_networks
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import ArchSchedule, EncodedTensors, FieldNet, _search_phase
from sklearn_autorec.estimators import _stages
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import DCN, DIN, FM, LR, AutoInt, DeepFM, FwFM
from sklearn_autorec.nn import (
    BinaryLogLoss,
    FieldEmbedding,
    FieldNetwork,
    Inputs,
    MemberLosses,
    head_part,
    linear,
)

NETWORKS = {
    **small_networks(),
    "din": DIN(hidden_units=(5,), attention={"tags": "f0"}),
    "autoint-alone": AutoInt(hidden_units=()),
    "fwfm-vectors": FwFM("FiLV"),
}
ADVERTISED = [(name, slot) for name, network in NETWORKS.items() for slot in network.slots]
OPTIONS = {
    "embedding_dim": 3,
    "lr": 0.02,
    "max_epochs": 1,
    "search_epochs": 1,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
    "early_stopping": False,
    "wide": None,
    "target_statistics": False,
}


class Part(nn.Module):
    """A part that counts its calls and has one weight of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.calls, self.starts = 0, []

    def scaled(self, out):
        self.calls += 1
        if not self.starts:
            self.starts.append([p.detach().clone() for p in self.parameters()])
        return out * self.scale

    def trained(self):
        return [
            not torch.equal(p, start)
            for p, start in zip(self.parameters(), self.starts[0], strict=True)
        ]


class Gate(Part):
    def forward(self, e, inputs):
        return self.scaled(e.new_ones(1, e.shape[1]))


class Embedding(Part):
    def __init__(self, context):
        super().__init__()
        self.table = FieldEmbedding(context)

    def forward(self, inputs):
        return self.scaled(self.table(inputs))

    def unpooled(self, inputs):
        vectors, lists = self.table.unpooled(inputs)
        return [self.scaled(e) for e in vectors], lists


class Numeric(Part):
    """Numbers in three columns: value, indicator, one."""

    def forward(self, numeric):
        value, missing = numeric.unflatten(1, (2, -1)).unbind(1)
        return self.scaled(torch.stack([value, missing, torch.ones_like(value)], 2))


class Sequence(Part):
    """The sum of the items, and the target."""

    def forward(self, vectors, present, targets):
        self.seen = vectors, present, targets
        return self.scaled((vectors * present.unsqueeze(-1)).sum(2) + targets)


class Interaction(Part):
    out_dim = 2

    def forward(self, e, inputs):
        return self.scaled((e[:, 0] * e[:, 1])[:, :2])


class Body(Part):
    def __init__(self, context):
        super().__init__()
        n_in = context.axis("F", context.embedding_dim)
        self.layer = linear(n_in, context.n_outputs, context.generator)

    def forward(self, e, inputs):
        return self.scaled(self.layer(e.flatten(1)))


class Head(Part):
    """Knows its widths only when the network says them."""

    def set_widths(self, n_in, n_out, generator):
        self.widths = (n_in, n_out)
        self.layer = linear(n_in, n_out, generator)

    def forward(self, x):
        return self.scaled(self.layer(x))


class Loss(Part):
    """The reference loss, stronger where the labels are one; the weight of its own is drawn
    to two.
    """

    def __init__(self, context, positive):
        super().__init__()
        self.reference, self.positive = context.reference_loss, positive

    def forward(self, logits, y):
        rows = self.reference(logits, y) * torch.where(y > 0, self.positive, 1.0)
        return rows + self.scaled(rows.new_ones(len(rows))).sub(2).square()


MADE: list = []  # modules of `Trivial`, in order


class Trivial(SearchMethod):
    """Puts a trivial part into any slot, searched and found alike."""

    def __init__(self, slot="head", positive=1.0, retrain="scratch"):
        self.slot = slot
        self.positive = positive
        self.retrain = retrain

    def make(self, context):
        arguments = {
            "embedding": (context,),
            "body": (context,),
            "loss": (context, self.positive),
        }.get(self.slot, ())
        classes = {
            "gate": Gate,
            "embedding": Embedding,
            "numeric": Numeric,
            "sequence": Sequence,
            "interaction": Interaction,
            "body": Body,
            "head": Head,
            "loss": Loss,
        }
        MADE.append(classes[self.slot](*arguments))
        return MADE[-1]

    def build(self, context):
        return self.make(context)

    def derive(self, module, context):
        return {"calls": module.calls, "scale": module.scale.item()}

    def realise(self, architecture, context):
        assert architecture["calls"] > 0
        return self.make(context)


@pytest.fixture(scope="module")
def clicks():
    X, y, _ = make_ctr(200, n_fields=3, cardinality=5, pairs=[(0, 1)], n_numeric=1, random_state=0)
    items = np.random.default_rng(0).integers(0, 4, 300).tolist()
    X["tags"] = [items[i : i + n] for i, n in enumerate(np.arange(len(X)) % 4)]
    return X, y


@pytest.fixture(autouse=True)
def forget():
    MADE.clear()


def fit(network, search, clicks, **options):
    return CTRClassifier(network=network, search=search, **{**OPTIONS, **options}).fit(*clicks)


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
    n_in = {"nfm": d, "ipnn": d * n_fields + pairs}.get(name, d * n_fields)
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


@pytest.mark.parametrize("name", sorted(known_networks()))
def test_the_loss_of_a_method_changes_what_is_learned(name, clicks):
    """Ones that weigh nine times as much: the mean of the predictions rises; with the plain loss it
    is the base rate.
    """
    X, y = clicks
    options = {"max_epochs": 6}
    means = {
        positive: fit(NETWORKS[name], Trivial("loss", positive), clicks, **options)
        .predict_proba(X)[:, 1]
        .mean()
        for positive in (1.0, 9.0)
    }
    plain = fit(NETWORKS[name], None, clicks, **options)
    assert means[9.0] > means[1.0] + 0.1
    # A loss that is the reference, but for a number that no weight of the network moves, learns
    # what the control learns.
    assert means[1.0] == pytest.approx(plain.predict_proba(X)[:, 1].mean(), abs=1e-6)


def test_ratings_have_a_loss_slot_too(clicks):
    X, _ = clicks
    y = np.linspace(-1.0, 4.0, len(X))
    options = {**OPTIONS, "max_epochs": 6}
    high, plain = (
        RatingRegressor(network=FM(), search=search, **options).fit(X, y).predict(X).mean()
        for search in (Trivial("loss", 9.0), None)
    )
    assert high > plain + 0.3


def test_the_reference_loss_judges(clicks):
    """Histories and early stopping are of the estimator's own loss, whatever trains."""
    X, y = clicks
    model = fit(FM(), Trivial("loss", 9.0), clicks, max_epochs=3, early_stopping=True)
    plain = fit(FM(), None, clicks, max_epochs=3, early_stopping=True)
    first = model.history_[0]
    # Before anything is learned both losses are that of the base rate, to which the other adds its
    # own.
    assert first["train_loss"] == pytest.approx(plain.history_[0]["train_loss"], abs=0.3)
    assert first["slot_loss"] > first["train_loss"] + 1
    assert set(first) - set(plain.history_[0]) == {"slot_loss"}
    assert model.search_history_[0]["slot_loss"] > model.search_history_[0]["train_loss"] + 1
    judged = CTRClassifier(
        network=FM(),
        search=Trivial("loss", 9.0),
        **{**OPTIONS, "max_epochs": 2, "early_stopping": True},
    )
    judged.fit(X, y, X_val=X, y_val=y)
    p = judged.predict_proba(X)[:, 1]
    log_loss = -np.log(np.where(y == 1, p, 1 - p)).mean()
    assert judged.history_[judged.n_iter_ - 1]["valid_loss"] == pytest.approx(log_loss, rel=1e-4)
    assert type(judged.net_.criterion_) is BinaryLogLoss


class Learned(nn.Module):
    """Log loss with a searched weight of the ones."""

    def __init__(self, context, schedule):
        super().__init__()
        self.reference, self.arch_schedule = context.reference_loss, schedule
        self.strength = nn.Parameter(torch.zeros(()))

    def arch_parameters(self):
        return [self.strength]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam([self.strength], lr=0.1)

    def summary(self):
        return {"strength": self.strength.item()}

    def forward(self, logits, y):
        return self.reference(logits, y) * torch.where(y > 0, self.strength.exp(), 1.0)


class LossSearch(SearchMethod):
    slot = "loss"

    def __init__(self, level="unrolled", objective="reference"):
        self.level = level
        self.objective = objective

    def build(self, context):
        return Learned(context, ArchSchedule(self.level, fraction=0.5, objective=self.objective))

    def derive(self, module, context):
        return {"strength": module.strength.item()}

    def realise(self, architecture, context):
        part = Learned(context, ArchSchedule())
        part.strength = nn.Parameter(torch.tensor(architecture["strength"]))
        return part


def test_architecture_steps_of_a_loss_go_by_the_reference(clicks):
    """Where held-out rows are ones far more often than those that train, a loss that weighs ones
    more judges better.

    By its own loss on the same rows the weight would only fall: to nothing, at which the loss is
    least."""
    found = {}
    for objective in ("reference", "trained"):
        model = fit(LR(), LossSearch("unrolled", objective), clicks, search_epochs=10, lr=0.1)
        found[objective] = model.architecture_["loss"]["strength"]
        assert [r["strength"] for r in model.search_history_][-1] == pytest.approx(found[objective])
    assert found["trained"] < -1 and abs(found["reference"]) < 0.7 * abs(found["trained"])
    assert found["reference"] != 0
    by_rows = fit(LR(), LossSearch("first_order", "trained"), clicks, search_epochs=10)
    assert by_rows.architecture_["loss"]["strength"] < -0.5


def test_a_loss_that_its_steps_could_not_move_is_refused(clicks):
    with pytest.raises(
        ValueError,
        match="Learned in the loss slot has level='first_order' and objective='reference'",
    ):
        fit(FM(), LossSearch("first_order"), clicks)
    for options in ({"level": "second"}, {"objective": "validation"}):
        with pytest.raises(ValueError, match="of an ArchSchedule must be one of"):
            ArchSchedule(**options)


def test_networks_without_each_part_of_the_rows_train_by_the_loss(clicks):
    X, y = clicks
    model = fit("auto", Trivial("loss", 9.0), clicks, early_stopping="auto", max_epochs=4)
    parts = MADE[1:]
    assert len(parts) > 2 and all(part.calls > 4 and all(part.trained()) for part in parts)
    assert model.predict_proba(X)[:, 1].mean() > y.mean() + 0.1


def test_searches_one_after_the_other_and_jointly_train_by_the_loss(clicks):
    for joint in (False, True):
        MADE.clear()
        model = fit(DeepFM((5,)), [Trivial("loss", 3.0), AutoFIS()], clicks, joint=joint)
        losses = [part for part in MADE if isinstance(part, Loss)]
        assert all(part.calls > 4 for part in losses) and len(losses) == (2 if joint else 3)
        assert {r["slot"] for r in model.search_history_} == (
            {"loss+interaction"} if joint else {"loss", "interaction"}
        )


@pytest.mark.parametrize("slot", SLOTS)
def test_members_have_parts_of_their_own(slot, clicks):
    X, y = clicks
    model = fit(DeepFM((5,)), Trivial(slot), clicks, members=2)
    parts = MADE[1:]
    assert len(parts) == 2 and all(part.calls > 4 and all(part.trained()) for part in parts)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert np.isfinite(again.partial_fit(X, y).predict_proba(X)).all()


def test_each_member_is_judged_by_its_own_loss():
    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.scale = scale

        def forward(self, logits, y):
            return self.scale * logits[:, 0] * y

    logits, y = torch.arange(1.0, 7.0).unsqueeze(1), torch.tensor([1.0, 0, 1, 1, 0, 1])
    assert MemberLosses([Scaled(1.0), Scaled(10.0)])(logits, y).tolist() == [1, 0, 3, 40, 0, 60]


@pytest.mark.parametrize("warm_start", [True, False])
def test_training_goes_on_by_the_loss_and_its_weights(warm_start, clicks):
    X, y = clicks
    model = fit(FM(), Trivial("loss", 9.0), clicks, warm_start=warm_start)
    part, before = MADE[-1], MADE[-1].scale.detach().clone()
    for _ in range(5):
        model.partial_fit(X, y)
    assert model.predict_proba(X)[:, 1].mean() > y.mean() + 0.15  # ones weigh more, as before
    assert torch.equal(part.scale, before)  # what was published is not trained again
    assert abs(model._loss_part_.scale.item() - 2) < abs(before.item() - 2) < 1
    if warm_start:
        epochs = model.set_params(max_epochs=8).fit(X, y).history_
        assert len(epochs) == 8 and all("slot_loss" in record for record in epochs)
    plain = model.set_params(search=None, warm_start=False, max_epochs=1).fit(X, y)
    assert not hasattr(plain, "_loss_part_")


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


def test_a_loss_keeps_its_weights_if_it_says_so(clicks, monkeypatch):
    starts = {}
    for retrain in ("scratch", "rewind", "keep"):
        MADE.clear()
        fit(FM(), Trivial("loss", retrain=retrain), clicks)
        starts[retrain] = MADE[-1].starts[0][0].item()
        assert math.isclose(
            starts[retrain], MADE[0].scale.item() if retrain == "keep" else 1.0, rel_tol=1e-6
        )
    assert starts["keep"] > 1.01


def test_hooks_and_unrolled_steps_know_the_loss(clicks):
    """The loss's own weights have no decay, and take part in what is validated, averaged and
    restored.
    """
    X, y = clicks
    model = fit(
        FM(),
        Trivial("loss", 1.0),
        clicks,
        averaging=0.9,
        max_epochs=3,
        early_stopping=True,
        weight_decay=0.1,
    )
    assert 1.0 < model._loss_part_.scale.item() < 2.0
    net = FieldNet(
        model.net_.module_, MADE[-1], reference=BinaryLogLoss(), weight_decay=0.1, lr=0.1
    ).initialize()
    groups = [g for g in net.optimizer_.param_groups if g.get("of_loss")]
    assert (
        len(groups) == 1
        and groups[0]["weight_decay"] == 0.0
        and groups[0]["params"] == [MADE[-1].scale]
    )
    net.retune(0.2, 0.3, 0.4)
    assert groups[0]["weight_decay"] == 0.0 and groups[0]["lr"] == 0.2
    assert any(p is MADE[-1].scale for p in net.weights_) and "1.scale" in net.trained.state_dict()
