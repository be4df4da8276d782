import numpy as np
import pytest
import torch
from autodim_cases import context

from sklearn_autorec.embedding import AutoDim
from sklearn_autorec.engine import EncodedTensors, SearchProblem, TrainingPlan
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, FieldEmbedding, Inputs, MixedEmbedding


def inputs(n=9, seed=1):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.stack([torch.randint(0, m, (n,), generator=generator) for m in (5, 7)], 1)
    items = torch.randint(0, 4, (n, 3), generator=generator)
    items[0] = 0  # an empty list
    return Inputs(ids.int(), torch.randn(n, 2, generator=generator), items.int())


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def mixture_module(c, seed=3, **options):
    """A searchable embedding in the middle of a search."""
    module = AutoDim(**options).build(c)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module.alpha.normal_(generator=generator)
        module.projection.normal_(generator=generator)
        if module.normalize:
            module.scale.normal_(generator=generator)
    return module


def reference_mixture(module, e, candidates, p, statistics=None):
    """sum_n p_fn x_n W_n, x_n being the first d_n columns; batch-normalised where there are
    statistics.
    """
    W = module.projection.detach().numpy()
    out = np.zeros_like(e)
    for f in range(e.shape[1]):
        for n, width in enumerate(candidates):
            x = e[:, f, :width] @ W[n, :width]
            if module.normalize:
                mean, covariance = statistics[f]
                centre = mean[:width] @ W[n, :width]
                variance = np.diag(W[n, :width].T @ covariance[:width, :width] @ W[n, :width])
                x = (x - centre) / np.sqrt(variance + 1e-6) * module.scale[f].item()
            out[:, f] += p[f, n] * x
    return out


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("phase", ["warm-up", "search", "eval"])
def test_mixture_agrees_with_numpy(normalize, nested, phase):
    c, x, candidates = context(), inputs(), [1, 3, 4]
    module = mixture_module(
        c,
        candidates=candidates,
        normalize=normalize,
        temperature=(2.0, 0.5),
        warmup=0.4,
        nested_warmup=nested,
    )
    e = module.table(x).detach().numpy().astype(np.float64)
    alpha = module.alpha.detach().numpy().astype(np.float64)
    assert alpha.shape == (4, 3)
    module.choice.set_progress(0.2 if phase == "warm-up" else 0.7)
    noise = module.choice.noise.numpy()
    temperature = 2.0 + (0.5 - 2.0) * 0.5
    if phase == "warm-up":
        p = softmax(noise / 0.5) if nested else np.full((4, 3), 1 / 3)
        np.testing.assert_allclose(
            module.eval().mixture().detach().numpy(), np.full((4, 3), 1 / 3), atol=1e-6
        )
        module.train()
    else:
        assert module.choice.temperature == pytest.approx(temperature)
        logits = np.log(softmax(alpha)) + (noise if phase == "search" else 0)
        p = softmax(logits / temperature)
    batch = [(e[:, f].mean(0), np.cov(e[:, f].T, bias=True)) for f in range(4)]
    if phase == "eval":
        if normalize:
            module(x)  # one step of the running statistics, from zero
            batch = [(0.1 * mean, 0.1 * covariance) for mean, covariance in batch]
        module.eval()
    expected = reference_mixture(module, e, candidates, p, batch)
    np.testing.assert_allclose(
        module(x).detach().numpy(), expected, atol=2e-4 if normalize else 1e-5, rtol=1e-4
    )
    np.testing.assert_allclose(module.mixture().detach().numpy(), p, atol=1e-6)


def test_penalty_is_the_mean_share_of_the_dimension():
    module = mixture_module(context(), candidates=(1, 3, 4), size_penalty=0.7)
    shares = softmax(module.alpha.detach().numpy()) @ [0.25, 0.75, 1.0]
    assert module.penalty().item() == pytest.approx(0.7 * shares.mean(), rel=1e-5)


def test_prefixes_are_where_candidates_start():
    c = context()
    module, x = AutoDim((1, 2, 4)).build(c), inputs()
    e = FieldEmbedding(context())(x)
    with torch.no_grad():
        module.alpha[:] = torch.tensor([-50.0, 50.0, -50.0])
    module.choice.set_progress(1.0)
    torch.testing.assert_close(module.eval()(x), e * torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_noise_is_gumbel_drawn_each_step_in_training_only():
    c = context()
    module = mixture_module(c)
    draws = []
    for _ in range(2000):
        module.choice.set_progress(0.9)
        draws.append(module.choice.noise.clone())
    draws = torch.stack(draws)
    assert draws.mean().item() == pytest.approx(np.euler_gamma, abs=0.03)
    assert draws.var().item() == pytest.approx(np.pi**2 / 6, abs=0.06)
    training = module.mixture()
    module.choice.set_progress(0.9)
    assert not torch.equal(training, module.mixture())
    module.eval()
    quiet = module.mixture()
    module.choice.set_progress(0.9)
    assert torch.equal(quiet, module.mixture())
    expected = softmax(np.log(softmax(module.alpha.detach().numpy())) / module.choice.temperature)
    np.testing.assert_allclose(quiet.detach().numpy(), expected, atol=1e-6)


def small_problem(c, epochs, n=96):
    generator = torch.Generator().manual_seed(0)
    x = inputs(n)
    y = (torch.rand(n, generator=generator) < 0.5).float()
    plan = TrainingPlan(epochs=epochs, batch_size=16, lr=0.01)
    return SearchProblem(
        FM(),
        c,
        ("embedding",),
        dict,
        BinaryLogLoss(),
        EncodedTensors(*x[:3], y),
        plan,
        torch.device("cpu"),
    )


@pytest.mark.parametrize("epochs", [1, 3, 40])
def test_temperature_falls_by_the_share_of_steps(epochs):
    c = context()
    problem, told = small_problem(c, epochs), []
    module = AutoDim(warmup=0.4, temperature=(1.0, 0.2)).build(c)
    real = module.choice.set_progress

    def spy(t):
        real(t)
        told.append((t, module.choice.temperature, module.choice.warming))

    module.choice.set_progress = spy
    problem.train(module)
    assert len(told) == epochs * 5  # 77 rows for the weights
    assert told[0] == (0.0, 1.0, True) and told[-1][0] == 1.0 and told[-1][2] is False
    for t, temperature, warming in told:
        assert warming == (t < 0.4)
        assert temperature == pytest.approx(1.0 - 0.8 * max(t - 0.4, 0) / 0.6)
    assert problem.history[-1]["temperature"] == pytest.approx(0.2)


def test_alpha_rests_during_the_warm_up():
    c = context()
    module = AutoDim(warmup=0.5, arch_every=1).build(c)
    before, seen = module.alpha.detach().clone(), []
    real = module.choice.set_progress

    def spy(t):
        seen.append((t, torch.equal(module.alpha, before)))
        real(t)

    module.choice.set_progress = spy
    small_problem(c, 4).train(module)
    # What is told before a step shows the steps before it.
    first = min(t for t, rests in seen if not rests)
    assert all(rests for t, rests in seen if t <= 0.5) and first < 0.7


@pytest.mark.parametrize("candidates", [(4, 1, 2), (0, 4)])
def test_the_widest_alpha_wins_and_ties_go_to_the_smallest(candidates):
    c = context()
    method = AutoDim(candidates)
    module = method.build(c)
    order = sorted(candidates)
    with torch.no_grad():
        module.alpha.zero_()
        module.alpha[1, -1] = 0.01
        module.alpha[2, 0] = module.alpha[2, -1] = 1.0
    module.choice.set_progress(1.0)
    # Whatever the noise, and whatever it makes of the sampled weights.
    module.choice.noise[:] = torch.linspace(-20, 20, len(order))
    assert (module.mixture().argmax(1) == len(order) - 1).all()
    found = method.derive(module, c)
    assert (
        found["widths"] == [order[0], order[-1], order[0], order[0]]
        and found["candidates"] == order
    )
    np.testing.assert_allclose(found["weights"], softmax(module.alpha.detach().numpy()), rtol=1e-5)


@pytest.mark.parametrize(
    "widths", [[1, 4, 2, 2], [0, 4, 0, 3], [4, 4, 4, 4], [2, 0, 3, 0], [0, 0, 0, 0]]
)
def test_mixed_embedding_agrees_with_numpy_and_stores_no_more(widths):
    c, x = context(), inputs()
    module = MixedEmbedding(c, widths)
    distinct = sorted({w for w in widths if w})
    expected = np.zeros((9, 4, 4))
    n_numbers = 0
    for w, table in zip(distinct, module.tables, strict=True):
        fields = [f for f in range(4) if widths[f] == w]
        ids = [f for f in fields if f < 2]
        part = Inputs(
            x.ids[:, ids],
            x.numeric[:, [0, 1] if 2 in fields else []],
            x.sequences[:, [0, 1, 2] if 3 in fields else []],
        )
        e = table(part).detach().numpy()
        P = np.eye(4) if w == 4 else getattr(module, f"projection_{w}").detach().numpy()
        expected[:, fields] = e @ P
        n_numbers += sum({0: 5, 1: 7, 2: 3, 3: 4}[f] for f in fields) * w + (w * 4 if w < 4 else 0)
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-5)
    state = module.state_dict()
    assert sum(t.numel() for t in state.values()) == n_numbers
    assert sum(t.numel() * t.element_size() for t in state.values()) == 4 * n_numbers
