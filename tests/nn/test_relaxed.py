"""Relaxed choices against numpy, closed forms, Monte Carlo and finite differences."""

import math

import numpy as np
import pytest
import torch
from draws import generator
from scipy.special import expit, softmax
from torch import nn

from sklearn_autorec.nn import _relaxed as relaxed

LOGITS = np.array([[0.5, -1.0, 2.0, 0.0], [3.0, 3.0, -2.0, 1.0]])


def shares_agree(counts, probabilities, n):
    """Within four standard errors of a binomial share (and a count of one, for rare events)."""
    error = np.sqrt(np.maximum(probabilities * (1 - probabilities), 1 / n) / n)
    assert (np.abs(counts / n - probabilities) < 4 * error).all(), (counts / n, probabilities)


# Annealing
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize("first, last", [(1.0, 0.1), (0.5, 4.0), (2.0, 2.0)])
def test_annealing_goes_from_the_first_value_to_the_last(first, last, warmup):
    for schedule in ("linear", "exponential"):
        path = [
            relaxed.annealed(first, last, t, warmup=warmup, schedule=schedule)
            for t in (0.0, warmup, (1 + warmup) / 2, 1.0)
        ]
        middle = (first + last) / 2 if schedule == "linear" else math.sqrt(first * last)
        assert path == pytest.approx([first, first, middle, last], rel=1e-12)


def test_annealing_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="schedule='cosine' must be 'linear' or 'exponential'"):
        relaxed.annealed(1, 0.1, 0.5, schedule="cosine")
    for t in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"t=.* must be the share of the steps done"):
            relaxed.annealed(1, 0.1, t)
    for wrong in ((1.0,), (1.0, 0.0), (math.nan, 1.0), (1.0, math.inf), (1, 2, 3)):
        with pytest.raises(ValueError, match="temperature must be two positive numbers"):
            relaxed.check_temperatures(wrong)
    assert relaxed.check_temperatures([1, 0.5]) == (1, 0.5)


# Gumbel-softmax
# --------------------------------------------------------------------------------------------


def test_noise_is_drawn_from_the_given_generator_alone():
    for draw, mean, variance in (
        (relaxed.gumbel_noise, np.euler_gamma, np.pi**2 / 6),
        (relaxed.logistic_noise, 0.0, np.pi**2 / 3),
    ):
        state = torch.random.get_rng_state()
        values = draw((100_000,), generator(1))
        assert torch.equal(values, draw((100_000,), generator(1)))
        assert not torch.equal(values, draw((100_000,), generator(2)))
        assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.isfinite(values).all()
        assert float(values.mean()) == pytest.approx(mean, abs=0.02)
        assert float(values.var()) == pytest.approx(variance, abs=0.05)


def test_noise_is_finite_at_both_ends_of_the_uniform_draw(monkeypatch):
    for end in (0.0, 1 - 2**-24):
        monkeypatch.setattr(torch, "rand", lambda shape, generator, end=end: torch.full(shape, end))
        assert torch.isfinite(relaxed.gumbel_noise((3,), None)).all()
        assert torch.isfinite(relaxed.logistic_noise((3,), None)).all()


@pytest.mark.parametrize("temperature", [2.0, 0.3])
def test_weights_agree_with_numpy(temperature):
    noise = relaxed.gumbel_noise(LOGITS.shape, generator()).double()
    weights = relaxed.gumbel_softmax(torch.from_numpy(LOGITS), temperature, noise).numpy()
    log_p = np.log(softmax(LOGITS, axis=1))
    np.testing.assert_allclose(
        weights, softmax((log_p + noise.numpy()) / temperature, axis=1), rtol=1e-12
    )
    quiet = relaxed.gumbel_softmax(torch.from_numpy(LOGITS), temperature).numpy()
    np.testing.assert_allclose(quiet, softmax(log_p / temperature, axis=1), rtol=1e-12)


@pytest.mark.parametrize("temperature", [5.0, 0.1])
def test_the_largest_weight_is_drawn_as_often_as_the_softmax_says(temperature):
    n, logits = 40_000, torch.from_numpy(LOGITS)
    hard = relaxed.gumbel_softmax(
        logits, temperature, relaxed.gumbel_noise((n, 2, 4), generator(3)), hard=True
    )
    assert set(hard.unique().tolist()) == {0.0, 1.0} and (hard.sum(-1) == 1).all()
    shares_agree(hard.sum(0).numpy(), softmax(LOGITS, axis=1), n)


def test_a_low_temperature_gives_a_choice_and_a_high_one_an_even_mixture():
    noise = relaxed.gumbel_noise((4,), generator(5))
    logits = torch.tensor([0.1, 0.4, -0.2, 0.3])
    cold, hot = (
        relaxed.gumbel_softmax(logits, 1e-3, noise),
        relaxed.gumbel_softmax(logits, 1e4, noise),
    )
    assert torch.equal(cold.round(), relaxed.one_hot_of_largest(logits + noise))
    torch.testing.assert_close(hot, torch.full((4,), 0.25), atol=1e-3, rtol=0)


def test_gradient_of_the_weights_agrees_with_finite_differences():
    noise = relaxed.gumbel_noise(LOGITS.shape, generator()).double()
    logits = torch.from_numpy(LOGITS.copy()).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: relaxed.gumbel_softmax(x, 0.7, noise), (logits,))


def test_straight_through_has_the_values_of_one_and_the_gradient_of_the_other():
    noise, factors = (
        relaxed.gumbel_noise(LOGITS.shape, generator()),
        torch.randn(2, 4, generator=generator()),
    )
    gradients = []
    for hard in (True, False):
        logits = torch.tensor(LOGITS, dtype=torch.float32, requires_grad=True)
        weights = relaxed.gumbel_softmax(logits, 0.5, noise, hard=hard)
        (weights * factors).sum().backward()
        gradients.append(logits.grad)
    assert torch.equal(*gradients) and gradients[0].abs().min() > 0
    soft = torch.tensor([0.1, 0.7, 1 / 3], requires_grad=True)
    values = torch.tensor([0.0, 1.0, 1 / 7])
    through = relaxed.straight_through(values, soft)
    assert torch.equal(through, values)  # to the bit
    through.sum().backward()
    assert soft.grad.tolist() == [1.0, 1.0, 1.0]


def test_of_equal_weights_one_is_chosen():
    weights = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.4, 0.4]])
    assert relaxed.one_hot_of_largest(weights).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
def test_module_draws_once_a_step_and_in_training_only(schedule):
    parent = generator(7)
    module = relaxed.GumbelSoftmax((2, 4), parent, (1.0, 0.25), warmup=0.2, schedule=schedule)
    other = relaxed.GumbelSoftmax((2, 4), generator(7), (1.0, 0.25))
    logits = torch.from_numpy(LOGITS)
    assert module.warming and not other.warming and not module.state_dict()
    module.set_progress(0.1)
    assert module.warming and module.temperature == 1.0
    module.set_progress(0.6)
    assert not module.warming
    assert module.temperature == pytest.approx(0.625 if schedule == "linear" else 0.5)
    for t in (0.5, 0.6):
        other.set_progress(t)
    assert torch.equal(module.noise, other.noise) and module.noise.std() > 0
    expected = relaxed.gumbel_softmax(logits, module.temperature, module.noise)
    assert torch.equal(module(logits), expected) and torch.equal(module(logits), expected)
    module.eval()
    assert torch.equal(module(logits), relaxed.gumbel_softmax(logits, module.temperature))
    module.hard = True
    assert module(logits).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


# Hard concrete gates
# --------------------------------------------------------------------------------------------


SHAPES = [(2 / 3, (-0.1, 1.1)), (0.4, (-0.3, 1.2))]
LOG_ALPHA = np.array([-3.0, -0.7, 0.0, 0.5, 2.5])


@pytest.mark.parametrize("temperature, stretch", SHAPES)
def test_gates_agree_with_numpy(temperature, stretch):
    options = {"temperature": temperature, "stretch": stretch}
    u = np.array([0.01, 0.9, 0.3, 0.6, 0.999])
    noise = np.log(u) - np.log(1 - u)
    low, high = stretch
    for given, s in ((noise, expit((noise + LOG_ALPHA) / temperature)), (None, expit(LOG_ALPHA))):
        gates = relaxed.hard_concrete(
            torch.from_numpy(LOG_ALPHA),
            None if given is None else torch.from_numpy(given),
            **options,
        )
        expected = np.minimum(1, np.maximum(0, s * (high - low) + low))
        np.testing.assert_allclose(gates.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("temperature, stretch", SHAPES)
def test_probabilities_of_the_ends_agree_with_closed_form_and_monte_carlo(temperature, stretch):
    options, n = {"temperature": temperature, "stretch": stretch}, 100_000
    log_alpha = torch.from_numpy(LOG_ALPHA)
    gates = relaxed.hard_concrete(
        log_alpha, relaxed.logistic_noise((n, 5), generator(2)).double(), **options
    )
    low, high = stretch
    # Of the distribution function of the binary concrete, Q(s) = sigma(beta logit(s) - log alpha).
    at = {end: (end - low) / (high - low) for end in (0, 1)}
    below = {end: expit(temperature * np.log(s / (1 - s)) - LOG_ALPHA) for end, s in at.items()}
    opened = relaxed.probability_of_open(log_alpha, **options).numpy()
    ones = relaxed.probability_of_one(log_alpha, **options).numpy()
    np.testing.assert_allclose(opened, 1 - below[0], rtol=1e-10)
    np.testing.assert_allclose(ones, 1 - below[1], rtol=1e-10)
    shares_agree((gates > 0).sum(0).numpy(), opened, n)
    shares_agree((gates == 1).sum(0).numpy(), ones, n)
    assert ((gates > 0) & (gates < 1)).any(0).all()
    # The expected L0 norm of all gates together.
    assert float((gates > 0).sum(1).double().mean()) == pytest.approx(opened.sum(), abs=0.02)


def test_gradients_of_gates_and_penalty_agree_with_finite_differences():
    noise = torch.tensor([1.0, 0.2, -0.3, 0.4, -2.0], dtype=torch.float64)
    log_alpha = torch.from_numpy(LOG_ALPHA.copy()).requires_grad_()
    gates = relaxed.hard_concrete(log_alpha, noise)
    assert ((gates > 0) & (gates < 1)).sum() >= 4  # the ends have no gradient
    for function in (
        lambda x: relaxed.hard_concrete(x, noise),
        relaxed.hard_concrete,
        relaxed.probability_of_open,
    ):
        assert torch.autograd.gradcheck(function, (log_alpha,))
    closed = torch.tensor([-9.0], requires_grad=True)
    relaxed.hard_concrete(closed, torch.zeros(1)).sum().backward()
    assert closed.grad.tolist() == [0.0]


def test_gate_module_samples_in_training_and_is_fixed_otherwise():
    module = relaxed.HardConcreteGates((3, 2), generator(), open_probability=0.8, temperature=0.5)
    assert module.expected_open().item() == pytest.approx(0.8 * 6, rel=1e-6)
    twin = relaxed.HardConcreteGates((3, 2), generator(), open_probability=0.8, temperature=0.5)
    draws = []
    for step in range(4000):
        module.set_progress(step / 3999)
        draws.append(module().detach())
    twin.set_progress(0.0)
    assert torch.equal(twin(), draws[0]) and torch.equal(twin(), twin())
    draws = torch.stack(draws)
    shares_agree((draws > 0).sum(0).numpy(), np.full((3, 2), 0.8), 4000)
    expected = relaxed.hard_concrete(module.log_alpha)
    assert torch.equal(module.eval()(), expected) and (module().std() == 0)
    assert list(module.state_dict()) == ["log_alpha"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"open_probability": 1.0}, r"open_probability=1.0 .* must be in \(0, 1\)"),
        ({"temperature": 0.0}, r"temperature=0.0 .* must be in \(0, 1\]"),
        ({"stretch": (0.0, 1.1)}, r"stretch=\(0.0, 1.1\) .* must be below 0 and above 1"),
        ({"stretch": (-0.1, 1.0)}, r"stretch=.* must be below 0 and above 1"),
    ],
)
def test_gate_module_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        relaxed.HardConcreteGates((2,), generator(), **changes)


def test_an_l0_penalty_closes_gates_of_noise_and_leaves_those_that_matter():
    """Ten columns, three of which matter; without the penalty most of the others stay open."""
    x = torch.randn(400, 10, generator=generator(1))
    y = x[:, :3] @ torch.tensor([1.0, -1.5, 2.0])
    for penalty, allowed in ((0.05, {3}), (0.0, range(6, 11))):
        gates = relaxed.HardConcreteGates((10,), generator(2))
        weight = nn.Parameter(torch.zeros(10))
        optimizer = torch.optim.Adam([weight, *gates.parameters()], lr=0.05)
        for step in range(400):
            gates.set_progress(step / 399)
            loss = ((x * gates()) @ weight - y).square().mean() + penalty * gates.expected_open()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        served = gates.eval()()
        assert (served[:3] > 0.9).all() and int((served > 0).sum()) in allowed, served


# Mixtures of operations
# --------------------------------------------------------------------------------------------


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor), dtype=torch.float64))

    def forward(self, x, y):
        return self.factor * x + y


def mixture(**options):
    return relaxed.OperationMixture([Times(k) for k in (0, 2, -1)], generator(), **options).double()


def test_mixture_agrees_with_numpy_and_its_gradient_with_finite_differences():
    module = mixture()
    assert module.logits.detach().abs().max() < 0.01 and module.logits.std() > 0
    logits = torch.tensor([0.3, -0.5, 1.2], dtype=torch.float64, requires_grad=True)
    x, y = torch.randn(2, 5, generator=generator(), dtype=torch.float64)

    def mixed(values):
        return torch.func.functional_call(module, {"logits": values}, (x, y))

    p = softmax(logits.detach().numpy())
    expected = (p * [0, 2, -1]).sum() * x.numpy() + y.numpy()
    np.testing.assert_allclose(mixed(logits).detach().numpy(), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(mixed, (logits,))


def test_mixture_is_pruned_to_its_largest_weight():
    module = mixture()
    with torch.no_grad():
        module.logits.copy_(torch.tensor([0.3, 0.9, 0.9]))
    assert module.chosen() == 1 and module.pruned() is module.candidates[1]
    module = mixture(never_chosen=(1,))
    with torch.no_grad():
        module.logits.copy_(torch.tensor([0.3, 0.9, 0.5]))
    assert module.chosen() == 2 and module.weights().argmax() == 1
    with pytest.raises(ValueError, match=r"never_chosen=\(0, 1, 2\) leaves none of the 3"):
        mixture(never_chosen=(0, 1, 2))


def test_mixture_with_sampled_weights():
    relaxation = relaxed.GumbelSoftmax((3,), generator(4), (1.0, 0.1), hard=True)
    module, x = mixture(relaxation=relaxation), torch.ones(2, dtype=torch.float64)
    drawn = set()
    for step in range(50):
        relaxation.set_progress(step / 49)
        (factor,) = set(module(x, 0 * x).tolist())
        drawn.add(factor)
        assert factor == (0, 2, -1)[int(module.weights().argmax())]
    assert drawn == {0, 2, -1}


def test_bilevel_mixture_finds_the_planted_operation():
    """The true operation, zero and one of noise: the largest weight is the true one's; where the
    outcome does not depend on the input, zero's is not beaten.
    """

    class Square(nn.Module):
        def forward(self, x):
            return x**2 - 1

    class Zero(nn.Module):
        def forward(self, x):
            return 0 * x

    class Sine(nn.Module):
        def forward(self, x):
            return math.sqrt(2) * torch.sin(7 * x)

    def chosen(seed, shuffled):
        draws = generator(seed)
        x = torch.randn(600, generator=draws)
        y = x**2 - 1 + 0.5 * torch.randn(600, generator=draws)
        y = y[torch.randperm(600, generator=draws)] if shuffled else y
        module = relaxed.OperationMixture([Sine(), Square(), Zero()], draws)
        scale = nn.Parameter(torch.ones(()))
        weights_step = torch.optim.SGD([scale], lr=0.05)
        arch_step = torch.optim.Adam([module.logits], lr=0.05)
        for _ in range(150):
            for optimizer, rows in ((arch_step, slice(300, 600)), (weights_step, slice(300))):
                loss = (scale * module(x[rows]) - y[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return module.chosen()

    assert [chosen(seed, False) for seed in range(5)] == [1] * 5
    assert [chosen(seed, True) for seed in range(5)].count(1) <= 2
