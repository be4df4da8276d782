"""AutoLoss in estimators."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from autoloss_cases import OPTIONS, clicks, context, fit

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.engine import FieldNet
from sklearn_autorec.losses import AutoLoss
from sklearn_autorec.losses._autoloss import FoundLoss, MixedLoss
from sklearn_autorec.losses._candidates import candidate_losses
from sklearn_autorec.nn import BinaryLogLoss, MulticlassLogLoss
from sklearn_autorec.serving import load, save


# In estimators
def test_only_the_training_knows_it(tmp_path):
    X, y = clicks(0, 400)
    model = fit(X, y, search_epochs=2, early_stopping=True)
    part = model._loss_part_
    assert isinstance(part, FoundLoss) and part.n_steps > 0
    assert "slot_loss" in model.history_[0]
    record = model.search_history_[-1]
    names = ["cross_entropy", "focal", "hinge", "smoothed"]
    shares = [record[f"share_{name}"] for name in names]
    assert math.isclose(sum(shares), 1, rel_tol=1e-5)
    np.testing.assert_allclose(shares, model.architecture_["loss"]["shares"])
    assert not any(isinstance(m, MixedLoss) for m in model.net_.module_.modules())
    assert type(model.net_.criterion_) is BinaryLogLoss
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert not hasattr(again, "_loss_part_")
    steps = int(part.n_steps)
    model.partial_fit(X, y)
    assert model._loss_part_.n_steps > steps == part.n_steps


def test_architecture_steps_are_unrolled_and_by_the_estimators_own_loss(monkeypatch):
    schedules = []
    real = FieldNet._arch_step

    def spy(self, schedule, *args):
        schedules.append((schedule.level, schedule.objective))
        real(self, schedule, *args)

    monkeypatch.setattr(FieldNet, "_arch_step", spy)
    X, y = clicks(0, 400)
    fit(X, y, search_epochs=2, search={"arch_every": 3, "warmup": 0.5, "search_fraction": 0.5})
    # 200 rows for the weights, 4 batches an epoch, the first half a warm-up.
    assert schedules == [("unrolled", "reference")]


@pytest.mark.parametrize("members", [1, 2])
def test_classes_and_ratings_have_candidates_of_their_own(members):
    X, y = clicks(0, 300)
    options = {"search_epochs": 2, "max_epochs": 1, "members": members}
    three = fit(X, np.arange(len(X)) % 3, **options)
    assert three.predict_proba(X).shape == (300, 3)
    ratings = fit(X, y + np.arange(len(X)) / 300, estimator=RatingRegressor, **options)
    assert ratings.architecture_["loss"]["candidates"] == ["squared", "absolute", "huber"]
    assert np.isfinite(ratings.predict(X)).all()
    one = fit(X[:65], y[:65], **options)  # a batch of one row at the end
    assert np.isfinite(one.predict_proba(X[:1])).all()


@pytest.mark.parametrize("retrain", ["scratch", "rewind", "keep"])
def test_no_start_replaces_the_controller_that_was_found(retrain):
    X, y = clicks(0, 400)
    model = fit(X, y, search_epochs=3, search={"retrain": retrain})
    found = model.architecture_["loss"]["controller"]
    for name, values in found.items():
        np.testing.assert_array_equal(getattr(model._loss_part_, name), np.float32(values))
    assert np.abs(found["out_weight"]).max() > 0
    fixed = FixedArchitecture(model.architecture_["loss"])
    again = CTRClassifier(search=fixed, random_state=0, **OPTIONS).fit(X, y)
    if retrain == "scratch":
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    "search, message",
    [
        ({"candidates": ("focal",)}, r"candidates=\('focal',\) must be two or more different"),
        ({"candidates": ("focal", "focal")}, "must be two or more different names"),
        ({"candidates": ("focal", "absolute")}, r"names of \['cross_entropy', 'focal', 'hinge'"),
        ({"candidates": "focal"}, "'candidates' parameter of AutoLoss"),
        ({"temperature": (1.0, 0.0)}, "temperature must be two positive numbers"),
        ({"hidden_units": 0}, "'hidden_units' parameter of AutoLoss"),
    ],
)
def test_bad_parameters_are_named(search, message):
    X, y = clicks(0, 100)
    with pytest.raises(ValueError, match=message):
        CTRClassifier(search=AutoLoss(**search), **OPTIONS).fit(X, y)
    with pytest.raises(ValueError, match=r"no candidate losses are known beside the loss Identity"):
        candidate_losses("auto", torch.nn.Identity())


def test_bad_architectures_are_refused():
    c, method = context(), AutoLoss(hidden_units=2)
    good = method.derive(method.build(c), c)
    method.check(good, c)
    controller = good["controller"]
    for wrong, message in (
        ({**good, "candidates": None}, "candidates must be a list of names"),
        ({**good, "candidates": ["focal", 1]}, "candidates must be a list of names"),
        ({**good, "candidates": ["focal", "huber"]}, "different names of"),
        ({**good, "candidates": ["focal", "hinge"]}, "out_weight of the controller .*shape"),
        ({**good, "controller": None}, "controller must be a dict of"),
        ({**good, "controller": {**controller, "more": []}}, "controller must be a dict of"),
        ({**good, "controller": {**controller, "hidden_bias": [0.0]}}, "floats of shape"),
        ({**good, "controller": {**controller, "out_bias": [0.0, 0, 0.0, 0.0]}}, "out_bias of"),
        ({**good, "controller": {**controller, "hidden_bias": [0.0, math.nan]}}, "finite floats"),
    ):
        with pytest.raises(ValueError, match=message):
            method.check(wrong, c)
    with pytest.raises(ValueError, match="hidden_weight of the controller"):
        method.check(good, dataclasses.replace(c, n_outputs=3, reference_loss=MulticlassLogLoss()))
