import dataclasses
import functools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from searching import searching
from sklearn.base import clone
from small_networks import small_context
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import networks_with_slot
from sklearn_autorec.datasets import make_ctr, make_tastes
from sklearn_autorec.embedding import PEP, AutoDim, EqualSize, MagnitudePruning, RandomSizes
from sklearn_autorec.engine import EncodedTensors, SearchProblem, TrainingPlan
from sklearn_autorec.networks import DIN, FM
from sklearn_autorec.nn import BinaryLogLoss, FieldEmbedding, Inputs, MixedEmbedding

METHODS = {
    "autodim": AutoDim(),
    "pep": PEP(0.5),
    "equal": EqualSize(0.5),
    "random": RandomSizes(),
    "magnitude": MagnitudePruning(0.5),
}


def context(**changes):
    return small_context(**{"embedding_init": 1.0, **changes})


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


# Planted truth
# ------------------------------------------------------------------------------------------


def searched(search, X, y, seed):
    return searching(search, seed, network="fm", search_epochs=20, batch_size=512).fit(X, y)


@functools.cache
def widths(seed, level="first_order", shuffled=False, size_penalty=None, nested=False):
    """Widths of two fields of rank 6, two of rank 1, one of noise; and the numbers in the
    network.
    """
    X, y, _ = make_ctr(
        40_000,
        n_fields=5,
        cardinality=60,
        zipf=0,
        pairs=[(0, 1), (2, 3)],
        rank=[6, 6, 1, 1, 1],
        pair_effect=1.5,
        random_state=seed,
    )
    search = AutoDim(level=level, nested_warmup=nested)
    if size_penalty is not None:
        search.set_params(size_penalty=size_penalty)
    model = searched(search, X, np.random.default_rng(seed).permutation(y) if shuffled else y, seed)
    return [model.embedding_sizes_[f"f{f}"] for f in range(5)], model.n_parameters_


def finds_the_truth(found):
    return min(found[:2]) >= 4 and max(found[2:4]) <= 2 and found[4] == 1


@pytest.mark.parametrize("seed", range(5))
def test_planted_ranks_decide_widths(seed):
    found, _ = widths(seed, nested=True)
    assert finds_the_truth(found), found


def test_planted_ranks_decide_widths_after_an_even_warm_up():
    found = [widths(seed)[0] for seed in range(5)]
    assert sum(finds_the_truth(f) for f in found) >= 4, found


@functools.cache
def widths_of_tastes(seed, nested=False):
    """Widths on tables of another make, where two fields of rank 1 carry as much variance as two of
    rank 6.
    """
    X, y, _ = make_tastes(40_000, topics=(6, 1), random_state=seed)
    model = searched(AutoDim(nested_warmup=nested), X, y, seed)
    return [model.embedding_sizes_[name] for name in X]


@pytest.mark.parametrize("seed", range(3))
def test_widths_of_another_make_of_data(seed):
    found = widths_of_tastes(seed, nested=True)
    assert finds_the_truth(found), found
    # The even warm-up does not order the widths dependably here, but always finds the noise.
    assert widths_of_tastes(seed)[4] == 1 < min(widths_of_tastes(seed)[:4])


def test_shuffled_labels_decide_nothing():
    found = [widths(seed, shuffled=True)[0] for seed in range(2)]
    assert not any(min(f[:2]) > max(f[2:4]) for f in found)


def test_one_level_search_uses_at_least_as_many_parameters():
    # The ablation of the paper, on the task loss alone.
    seeds = range(3)
    bilevel = [widths(seed)[1] for seed in seeds]
    one_level = [widths(seed, level="one_level")[1] for seed in seeds]
    assert np.mean(one_level) >= np.mean(bilevel)
    assert one_level != bilevel


# Every network
# --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    X, y = mixed_clicks(300, n_fields=3, cardinality=5, zipf=0, pairs=1, missing_rate=0.05)
    X["constant"] = "same"
    return X, y


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("network", networks_with_slot("embedding"))
def test_every_network_takes_every_method(network, name, small):
    X, y = small
    model = CTRClassifier(
        network=DIN(attention={"s0": "f0"}) if network == "din" else network,
        search=METHODS[name],
        embedding_dim=4,
        max_epochs=1,
        batch_size=128,
        random_state=0,
    )
    model = clone(model).fit(X, y)
    again = clone(model).fit(X, y)
    new = X.iloc[:5].copy()
    new.iloc[0, :3] = "never seen"
    new.iloc[1] = np.nan
    p = model.predict_proba(new)
    assert p.shape == (5, 2) and np.isfinite(p).all()
    assert np.array_equal(p, again.predict_proba(new))
    assert np.array_equal(p, pickle.loads(pickle.dumps(model)).predict_proba(new))
    assert model.predict(X.iloc[:1]).shape == (1,)
    whole = FieldEmbedding(
        dataclasses.replace(
            context(),
            n_ids=tuple(model.encoder_.n_ids_),
            n_numeric=1,
            sequences=tuple((n, 3) for n in model.encoder_.sequence_n_ids_),
        )
    )
    assert model.nbytes_["embedding"] <= 4 * sum(p.numel() for p in whole.parameters())
    names = list(model.embedding_sizes_)
    if name in ("pep", "magnitude"):
        assert names == [c for c in model.encoder_.field_names_ if c != "x0"]
    else:
        assert names == list(model.encoder_.field_names_)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_tables_of_one_row_and_of_constant_columns(name, small):
    X, y = small
    for table, labels in (
        (pd.DataFrame({"a": ["x"] * 40, "b": ["y"] * 40}), np.arange(40) % 2),
        (pd.DataFrame({"a": ["x", "y"]}), np.array([0, 1])),
        (X[["x0"]], y),
    ):
        model = CTRClassifier(
            network="fm", search=METHODS[name], embedding_dim=4, max_epochs=1, random_state=0
        )
        model.fit(table, labels)
        assert np.isfinite(model.predict_proba(table.iloc[:1])).all()
        assert set(model.embedding_sizes_) == (
            {*table} if name not in ("pep", "magnitude") else {*table} - {"x0"}
        )
    single = CTRClassifier(
        network="fm", search=METHODS[name], embedding_dim=4, max_epochs=1, random_state=0
    )
    single.fit(X.iloc[:1], y[:1])
    assert single.predict(X.iloc[:1]).tolist() == [y[0]]


def test_fields_of_every_kind_get_a_width(small):
    X, y = small
    model = CTRClassifier(
        network="fm",
        search=AutoDim((1, 4), normalize=True),
        embedding_dim=4,
        max_epochs=3,
        random_state=0,
    ).fit(X, y)
    assert set(model.embedding_sizes_) == set(X.columns) and set(
        model.embedding_sizes_.values()
    ) <= {1, 4}
    assert model.architecture_["embedding"]["params"]["normalize"] is True
    assert {"temperature", "mean_width"} <= set(model.search_history_[-1])


def test_unrolled_search_runs(small):
    X, y = small
    model = CTRClassifier(
        network="deepfm",
        search=AutoDim(level="unrolled"),
        embedding_dim=4,
        max_epochs=3,
        random_state=0,
    ).fit(X, y)
    assert set(model.embedding_sizes_.values()) <= {1, 2, 4}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"candidates": (1, 9)}, "between 0 and embedding_dim=4, got"),
        ({"candidates": ()}, "between 0 and embedding_dim=4, got"),
        ({"candidates": (1.5,)}, "between 0 and embedding_dim=4, got"),
        ({"temperature": (1.0,)}, "temperature must be two positive numbers"),
        ({"temperature": (1.0, 0.0)}, "temperature must be two positive numbers"),
        ({"search_fraction": 1.0}, "'search_fraction' parameter of AutoDim"),
        ({"warmup": 1.0}, "'warmup' parameter of AutoDim"),
        ({"level": "second"}, "'level' parameter of AutoDim"),
    ],
)
def test_bad_parameters_are_named(options, message, small):
    with pytest.raises(ValueError, match=message):
        CTRClassifier(network="fm", search=AutoDim(**options), embedding_dim=4, max_epochs=1).fit(
            *small
        )
