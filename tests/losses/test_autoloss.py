import json

import numpy as np
import pytest
import torch
from autoloss_cases import OPTIONS, clicks, context, cross_entropy, fit, reference
from scipy.special import expit, softmax
from sklearn.metrics import roc_auc_score

from sklearn_autorec import RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import ArchSchedule
from sklearn_autorec.engine._arch_steps import unrolled_gradient
from sklearn_autorec.losses import AutoLoss
from sklearn_autorec.losses._autoloss import ControlledLoss
from sklearn_autorec.losses._candidates import CANDIDATES, USUAL
from sklearn_autorec.nn import BinaryLogLoss, MulticlassLogLoss, SquaredError


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
