import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import ArchSchedule, FieldNet
from sklearn_autorec.engine._arch_steps import unrolled_gradient
from sklearn_autorec.losses import AutoLoss, _candidates
from sklearn_autorec.losses._autoloss import ControlledLoss, FoundLoss, MixedLoss
from sklearn_autorec.losses._candidates import CANDIDATES, USUAL, candidate_losses
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, MulticlassLogLoss, SquaredError
from sklearn_autorec.serving import load, save

OPTIONS = {
    "network": "lr",
    "lr": 0.02,
    "max_epochs": 2,
    "search_epochs": 8,
    "batch_size": 64,
    "early_stopping": False,
    "device": "cpu",
}
cross_entropy = _candidates._binary_cross_entropy


def inverted(logits, y):
    return cross_entropy(logits, 1 - y)


def always_one(logits, y):
    return cross_entropy(logits, torch.ones_like(y))


def always_zero(logits, y):
    return cross_entropy(logits, torch.zeros_like(y))


def large(logits, y):
    return 1000 * cross_entropy(logits, y)


@pytest.fixture
def planted(monkeypatch):
    """Further candidates whose use is known."""
    for loss in (inverted, large):
        monkeypatch.setitem(CANDIDATES[BinaryLogLoss], loss.__name__, loss)
    monkeypatch.setitem(CANDIDATES[BinaryLogLoss], "same", cross_entropy)


def clicks(seed, n=2000):
    options = {"n_fields": 4, "cardinality": 6, "informative_fields": 4, "pairs": 0}
    return make_ctr(n, main_effect=1.0, base_rate=0.5, random_state=seed, **options)[:2]


def fit(X, y, candidates="auto", seed=0, estimator=CTRClassifier, search=None, **options):
    method = AutoLoss(candidates, **{"arch_lr": 0.05, **(search or {})})
    return estimator(search=method, random_state=seed, **{**OPTIONS, **options}).fit(X, y)


def weights_by_row(model, logits, y):
    return model._loss_part_.weights(torch.tensor(logits).view(-1, 1), torch.tensor(y)).numpy()


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_of_inverted_labels_is_left_alone(seed, planted):
    X, y = clicks(seed)
    model = fit(X, y, ("inverted", "cross_entropy"), seed)
    assert model.architecture_["loss"]["shares"][0] < 0.05
    assert roc_auc_score(y, model.predict_proba(X)[:, 1]) > 0.8


def test_of_labels_of_noise_inverted_ones_are_as_good(planted):
    shares = []
    for seed in range(5):
        X, y = clicks(seed)
        y = np.random.default_rng(seed).permutation(y)
        model = fit(X, y, ("inverted", "cross_entropy"), seed, max_epochs=1)
        shares.append(model.architecture_["loss"]["shares"][0])
    assert max(shares) > 0.5, shares


@pytest.mark.parametrize("noise", [False, True])
def test_each_row_has_the_loss_that_is_right_for_its_label(noise):
    """Every row has a logit of its own, so that its loss decides for it alone."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.nn.Parameter(torch.zeros(60, 1))
    y = torch.randint(0, 2, (60,), generator=generator).float()
    judged = y[torch.randperm(60, generator=generator)] if noise else y
    losses = {"one": always_one, "zero": always_zero}
    controller = ControlledLoss(losses, context(), 8, (1.0, 1.0), ArchSchedule("unrolled"), 0.05)
    optimizer = controller.arch_optimizer(100)
    for _ in range(100):
        controller.set_progress(0.0)
        gradients = unrolled_gradient(
            lambda labels: cross_entropy(logits, labels).mean(),
            controller,
            y,
            judged,
            controller.arch_parameters(),
            [logits],
            0.1,
            lambda labels: controller(logits, labels).mean(),
        )
        for p, gradient in zip(controller.arch_parameters(), gradients, strict=True):
            p.grad = gradient
        optimizer.step()
        controller.after_step()
    chances = controller.out(
        torch.tanh(controller.hidden(torch.tensor([[1.0, 0.5], [0.0, 0.5]])))
    ).softmax(1)
    right = min(chances[0, 0].item(), chances[1, 1].item())
    assert right < 0.8 if noise else right > 0.95, chances


def test_two_losses_that_are_the_same_stay_alike(planted):
    X, y = clicks(0)
    model = fit(X, y, ("cross_entropy", "same"))
    np.testing.assert_allclose(weights_by_row(model, [-1.0, 1.0], [0.0, 1.0]), 0.5, atol=0.05)


def test_the_scale_of_a_loss_does_not_matter(planted):
    X, y = clicks(0, 1000)
    plain, scaled = (
        fit(X, y, (name, "focal"), search_epochs=3) for name in ("cross_entropy", "large")
    )
    np.testing.assert_allclose(
        scaled.architecture_["loss"]["shares"], plain.architecture_["loss"]["shares"], atol=1e-2
    )
    np.testing.assert_allclose(scaled.predict_proba(X), plain.predict_proba(X), atol=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_ratings_with_wild_values_are_trained_by_robust_losses(seed):
    options = {"n_fields": 3, "cardinality": 6, "informative_fields": 2, "pairs": 1}
    X, y, truth = make_ctr(2000, task="rating", random_state=seed, **options)
    rng = np.random.default_rng(seed)
    wild = np.where(rng.random(len(y)) < 0.1, y + rng.choice([-12, 12], len(y)), y)
    errors, settings = {}, {**OPTIONS, "network": "fm", "max_epochs": 5}
    for name, target in (("wild", wild), ("tame", y)):
        models = (
            RatingRegressor(search=AutoLoss(arch_lr=0.05), random_state=seed, **settings),
            RatingRegressor(random_state=seed, **settings),
        )
        errors[name] = [
            np.sqrt(np.mean((model.fit(X, target).predict(X) - truth.probabilities) ** 2))
            for model in models
        ]
    assert errors["wild"][0] < 0.96 * errors["wild"][1], errors
    assert errors["tame"][0] > 0.96 * errors["tame"][1], errors  # no gain without them


# Formulas


def reference(name, z, y):
    """Losses of one row: z a number and y 0 or 1, or a vector and a class."""
    if np.ndim(z) == 0:
        p = expit(z) if y else expit(-z)
        return {
            "cross_entropy": -np.log(p),
            "focal": -((1 - p) ** 2) * np.log(p),
            "hinge": max(0.0, 1 - (1 if y else -1) * z),
            "smoothed": -0.95 * np.log(p) - 0.05 * np.log(1 - p),
            "squared": (1 - p) ** 2,
        }[name]
    logs = log_softmax(z)
    p, others = np.exp(logs[y]), np.delete(z, y)
    marks = np.eye(len(z))[y]
    return {
        "cross_entropy": -logs[y],
        "focal": -((1 - p) ** 2) * logs[y],
        "hinge": max(0.0, 1 + others.max() - z[y]),
        "smoothed": -0.9 * logs[y] - 0.1 * logs.mean(),
        "squared": ((softmax(z) - marks) ** 2).sum(),
    }[name]


@pytest.mark.parametrize("kind", [BinaryLogLoss, MulticlassLogLoss])
def test_candidates_of_classes_agree_with_numpy(kind):
    rng = np.random.default_rng(0)
    n_outputs = 1 if kind is BinaryLogLoss else 3
    z = rng.normal(0, 2, (20, n_outputs))
    y = rng.integers(0, 2 if n_outputs == 1 else 3, 20)
    labels = torch.from_numpy(y).double() if n_outputs == 1 else torch.from_numpy(y)
    for name, loss in CANDIDATES[kind].items():
        rows = [
            reference(name, a[0] if n_outputs == 1 else a, b) for a, b in zip(z, y, strict=True)
        ]
        np.testing.assert_allclose(loss(torch.from_numpy(z), labels), rows, rtol=1e-6)


def test_candidates_of_ratings_agree_with_numpy():
    e = np.linspace(-4, 4, 17)
    logits, y = torch.from_numpy(e + 1).unsqueeze(1), torch.ones(17, dtype=torch.float64)
    expected = {
        "squared": e**2,
        "absolute": np.abs(e),
        "huber": np.where(np.abs(e) < 1, e**2 / 2, np.abs(e) - 0.5),
        "log_cosh": np.log(np.cosh(e)),
    }
    for name, loss in CANDIDATES[SquaredError].items():
        np.testing.assert_allclose(loss(logits, y), expected[name], atol=1e-9)
    assert all({*USUAL[kind]} <= CANDIDATES[kind].keys() for kind in CANDIDATES)


def context(kind=BinaryLogLoss, **changes):
    options = {
        "field_names": ("a",),
        "n_ids": (5,),
        "n_outputs": 3 if kind is MulticlassLogLoss else 1,
        "generator": torch.Generator().manual_seed(0),
        "reference_loss": kind(),
    }
    return BuildContext(**{**options, **changes})


def rows(kind=BinaryLogLoss, n=40, seed=1):
    generator = torch.Generator().manual_seed(seed)
    c = 3 if kind is MulticlassLogLoss else 1
    logits = torch.randn(n, c, generator=generator)
    y = torch.randint(0, 3 if c == 3 else 2, (n,), generator=generator)
    return logits, y if c == 3 else y.float()


def uneven(module):
    """The controller with weights that tell rows apart."""
    with torch.no_grad():
        module.out.weight.normal_(generator=torch.Generator().manual_seed(3))
        module.out.bias.normal_(generator=torch.Generator().manual_seed(4))
    return module


@pytest.mark.parametrize("kind", [BinaryLogLoss, MulticlassLogLoss, SquaredError])
def test_the_found_mixture_agrees_with_numpy(kind):
    c, method = context(kind), AutoLoss(hidden_units=5)
    searched = uneven(method.build(c))
    architecture = json.loads(json.dumps(method.derive(searched, c)))
    method.check(architecture, c)
    found = method.realise(architecture, c)
    logits, y = rows(kind)
    z, labels = logits.double().numpy(), y.numpy()
    inputs = {
        BinaryLogLoss: np.column_stack([labels, expit(z)]),
        MulticlassLogLoss: np.column_stack([np.eye(3)[labels.astype(int)], softmax(z, 1)]),
        SquaredError: np.column_stack([labels, z]),
    }[kind]
    layers = {name: np.array(v) for name, v in architecture["controller"].items()}
    hidden = np.tanh(inputs @ layers["hidden_weight"].T + layers["hidden_bias"])
    p = softmax(hidden @ layers["out_weight"].T + layers["out_bias"], 1)
    np.testing.assert_allclose(found.weights(logits, y), p, rtol=1e-4, atol=1e-6)
    assert p.std(0).max() > 0.02

    def slope(loss):
        x = logits.double().requires_grad_()
        target = y if kind is MulticlassLogLoss else y.double()
        return torch.autograd.grad(loss(x, target).sum(), x)[0].norm(dim=1).mean().item()

    slopes = np.array([slope(loss) for loss in found.losses.values()])
    values = torch.stack([loss(logits, y) for loss in found.losses.values()], 1).numpy()
    expected = (p * values * slope(kind()) / slopes).sum(1)
    found.set_progress(0.0)
    np.testing.assert_allclose(found(logits, y), expected, rtol=1e-4)
    found.after_step()
    np.testing.assert_allclose(found.slopes, [*slopes, slope(kind())], rtol=1e-4)
    found.set_progress(0.5)
    other = rows(kind, seed=2)
    before = found.slopes.clone()
    values = torch.stack([loss(*other) for loss in found.losses.values()], 1)
    expected = (found.weights(*other) * values * before[-1] / before[:-1]).sum(1)
    torch.testing.assert_close(found(*other), expected)  # by the slopes of the steps before
    found.after_step()
    torch.testing.assert_close(found.slopes, before.lerp(found.slopes_of(*other), 0.05))
    assert found.n_steps == 2 and all(not p.requires_grad for p in found.parameters())


def test_gumbel_noise_is_that_of_a_step_and_makes_nearly_a_choice():
    c = context()
    module = uneven(AutoLoss(("focal", "hinge", "squared"), temperature=(1.0, 0.1)).build(c))
    logits, y = rows(n=20_000)
    logits[:], y[:] = 0.3, 1.0
    module.set_progress(1.0)
    assert module.temperature == pytest.approx(0.1)
    drawn = module.weights(logits, y)
    assert torch.equal(drawn, module.weights(logits, y))  # the probes of a gradient meet the same
    module.set_progress(1.0)
    assert not torch.equal(drawn, module.weights(logits, y))  # another step
    module.set_progress(0.0)
    assert module.temperature == 1.0
    assert drawn.max(1).values.mean() > 0.9
    inputs = torch.tensor([[1.0, torch.tensor(0.3).sigmoid()]])
    p = torch.softmax(module.out(torch.tanh(module.hidden(inputs))), 1)[0]
    chosen = torch.bincount(drawn.argmax(1), minlength=3) / len(drawn)
    np.testing.assert_allclose(chosen, p.detach(), atol=0.015)  # the Gumbel-max trick


def test_probes_leave_no_trace_and_meet_the_same_slopes():
    c = context()
    module = AutoLoss().build(c)
    first, second = rows(), rows(seed=5)
    module.set_progress(0.0)
    module(*first)
    module(*second)  # a probe
    expected = module.slopes_of(*first)
    module.after_step()
    torch.testing.assert_close(module.slopes, expected)
    module.after_step()  # nothing was seen since
    assert module.n_steps == 1
    logits = second[0].clone().requires_grad_()
    module(logits, second[1]).sum().backward()
    assert logits.grad.abs().sum() > 0
    assert module.out.weight.grad is not None  # the controller learns by the weights of the rows
    # and not by the prediction, which it sees detached
    weights = module.weights(second[0].requires_grad_().detach(), second[1])
    assert weights.shape == (40, 4) and weights.sum(1).allclose(torch.ones(40))


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
