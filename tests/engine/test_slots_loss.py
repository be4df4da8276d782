"""The loss slot: what trains, what judges, and training that goes on."""

import math

import numpy as np
import pytest
import torch
from slots_cases import MADE, NETWORKS, OPTIONS, Loss, Trivial, fit
from torch import nn

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import SearchMethod, known_networks
from sklearn_autorec.engine import ArchSchedule, FieldNet
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, LR, DeepFM
from sklearn_autorec.nn import (
    BinaryLogLoss,
    MemberLosses,
)


@pytest.fixture(autouse=True)
def forget():
    MADE.clear()


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
