import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata, spearmanr
from searching import ALONE
from size_cases import checked_on_other_columns

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_tastes
from sklearn_autorec.embedding import AMTL, _amtl
from sklearn_autorec.embedding._amtl import Frequencies, FrequencySizedEmbedding, Twins
from sklearn_autorec.estimators import _context
from sklearn_autorec.exceptions import UnknownCategoryWarning
from sklearn_autorec.nn import BuildContext, Inputs, SizedRows, sizes_from_text, sizes_to_text
from sklearn_autorec.serving import load, save

OPTIONS = {
    **ALONE,
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.03,
    "embedding_init": 0.05,
    "search_epochs": 16,
    "max_epochs": 1,
    "batch_size": 400,
    "id_dropout": 0.0,
}


def context(sparse=False, d=5):
    return BuildContext(
        ("a", "b", "number", "items", "more"),
        (7, 9),
        1,
        ((6, 3), (9, 2)),
        embedding_dim=d,
        generator=torch.Generator().manual_seed(1),
        embedding_init=0.5,
        sparse_gradients=sparse,
        shared=(None, 1),
    )


SIZES, COUNTS = (7, 9, 6), np.random.default_rng(0).integers(0, 6, 22) ** 3


def searchable(method=None, sparse=False, d=5):
    c = context(sparse, d)
    return FrequencySizedEmbedding(c, Frequencies.of(COUNTS, SIZES), method or AMTL())


def inputs(n=40):
    rng = np.random.default_rng(3)
    ids = np.column_stack([rng.integers(0, k, n) for k in (7, 9)])
    items = np.column_stack([rng.integers(0, 6, (n, 3)), rng.integers(0, 9, (n, 2))])
    numbers = rng.normal(size=(n, 2))
    return Inputs(
        *(torch.from_numpy(a.astype(t)) for a, t in ((ids, "i4"), (numbers, "f4"), (items, "i4")))
    )


# formulas
# --------------------------------------------------------------------------------------------------


def test_attributes_are_standardised_logarithms_and_ranks_of_counts():
    found = Frequencies.of(COUNTS, SIZES)
    log = np.log1p(COUNTS)
    rank = np.concatenate([rankdata(c) / len(c) for c in np.split(COUNTS, [7, 16])])
    rank -= np.repeat([0.5 / n for n in SIZES], SIZES)
    expected = np.stack([(a - a.mean()) / a.std() for a in (log, rank)], 1)
    np.testing.assert_allclose(found.attributes[found.group].numpy(), expected, atol=1e-6)
    field = np.repeat([0, 1, 2], SIZES)
    pairs = sorted({*zip(field.tolist(), COUNTS.tolist(), strict=True)})
    assert len(found.attributes) == len(pairs) < 22
    assert found.n_values.tolist() == [int(((field == f) & (COUNTS == n)).sum()) for f, n in pairs]
    # All alike: nothing to tell apart, and nothing that is not a number.
    assert not Frequencies.of(np.full(4, 3), (4,)).attributes.any()
    assert Frequencies.of(np.zeros(0, int), ()).attributes.shape == (0, 2)


def layers_of(network):
    """The two layers as a function of float64 arrays."""
    (w, b), (v, c) = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in network.layers
        if hasattr(layer, "weight")
    ]
    return lambda s: np.maximum(s @ w.T + b, 0) @ v.T + c


def softmax(o):
    e = np.exp(o - o.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def reference_logits(module):
    s = module.attributes.double().numpy()
    outputs = [layers_of(network)(s) for network in module.twins.networks]
    if len(outputs) == 1:
        return outputs[0]
    share = 1 / (1 + np.exp(-s[:, :1]))
    return share * outputs[0] + (1 - share) * outputs[1]


@pytest.mark.parametrize("twins", [True, False])
def test_twins_masks_and_penalty_agree_with_numpy(twins):
    module = searchable(AMTL(0.3, twins=twins, temperature=(1.0, 0.5)))
    assert len(module.twins.networks) == 1 + twins
    with torch.no_grad():
        for network in module.twins.networks:  # away from the first, longest length
            network.layers[-1].bias.zero_()
    logits = reference_logits(module)
    np.testing.assert_allclose(
        module.twins(module.attributes).detach().numpy(), logits, rtol=0, atol=1e-5
    )
    lengths = logits.argmax(1) + 1
    assert len({*lengths}) > 1
    np.testing.assert_array_equal(module.lengths(), lengths[module.group.numpy()])
    masks = np.arange(5) < lengths[:, None]
    np.testing.assert_array_equal(module.masks().detach().numpy(), masks)
    for t, temperature in ((0.0, 1.0), (0.5, 0.75), (1.0, 0.5)):
        module.set_progress(t)
        p = softmax(logits / temperature)
        values = module.n_values.numpy() / 22
        expected = 0.3 * (values * (p @ np.arange(1, 6))).sum() / 5
        assert module.penalty().item() == pytest.approx(expected, rel=1e-5)
        assert module.summary()["temperature"] == pytest.approx(temperature)
    # Backwards the mask is p L with L the lower triangle of ones.
    weight = np.random.default_rng(5).normal(size=masks.shape)
    module.twins.zero_grad()
    (module.masks() * torch.from_numpy(weight).float()).sum().backward()
    by_choice = weight.cumsum(1)
    by_logit = p * (by_choice - (p * by_choice).sum(1, keepdims=True)) / 0.5
    s = module.attributes.double().numpy()
    shares = [1 / (1 + np.exp(-s[:, 0])), 1 - 1 / (1 + np.exp(-s[:, 0]))] if twins else [1.0]
    for network, share in zip(module.twins.networks, shares, strict=True):
        found = network.layers[-1].bias.grad.numpy()
        np.testing.assert_allclose(found, (by_logit.T * share).sum(1), rtol=1e-4, atol=1e-5)


def test_all_begin_with_the_full_length_and_a_gradient():
    for d in (1, 2, 16):
        module = searchable(d=d)
        assert (module.lengths() == d).all()
    module.masks().square().sum().backward()
    assert min(float(n.layers[-1].bias.grad.abs().max()) for n in module.twins.networks) > 1e-3


@pytest.mark.parametrize("sparse", [False, True])
def test_what_is_searched_reads_as_what_serves(sparse):
    module, x = searchable(sparse=sparse), inputs()
    with torch.no_grad():
        for network in module.twins.networks:
            network.layers[-1].bias.zero_()
    sizes = module.lengths()
    assert len({*sizes.tolist()}) > 1
    architecture = {"sizes": sizes_to_text(sizes)}
    served = AMTL().realise(architecture, context(sparse))
    assert isinstance(served, SizedRows)
    state = {f"embedding.{name}": t for name, t in module.state_dict().items()} | {"bias": 1}
    state = AMTL().transfer(state, architecture, context())
    assert state.pop("bias") == 1
    served.load_state_dict({name.removeprefix("embedding."): t for name, t in state.items()})
    for mode in (True, False):
        torch.testing.assert_close(served.train(mode)(x), module.train(mode)(x), rtol=0, atol=1e-6)


# planted truth
# --------------------------------------------------------------------------------------------------


def planted(seed, n=8000, n_values=600, n_others=12, rank=8, effect=2.5):
    """Clicks by pairs of a value of many and one of few: the most frequent tenth of the many needs
    eight numbers, all others share a direction.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_values + 1) ** 1.1
    effects = rng.normal(size=(n_values, rank)) @ rng.normal(size=(rank, n_others)) / rank**0.5
    tail = slice(n_values // 10, None)
    effects[tail] = rng.normal(size=(n_values - n_values // 10, 1)) * rng.normal(size=n_others)
    many = rng.choice(n_values, n, p=share / share.sum())
    few = rng.integers(n_others, size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-effect * effects[many, few]))).astype(int)
    names = rng.permutation(n_values)  # say nothing about frequency
    X = pd.DataFrame({"many": [f"v{names[i]}" for i in many], "few": [f"w{i}" for i in few]})
    return X, y


def fit(rows, search=None, seed=0, **options):
    search = AMTL() if search is None else search
    return CTRClassifier(search=search, random_state=seed, **OPTIONS | options).fit(*rows)


def told(model, column="many"):
    """Rank correlation of count and length, and mean lengths of the first and the last tenth."""
    lengths = model.embedding_sizes_[column][2:]
    counts = model.encoder_.counts_[list(model.feature_names_in_).index(column)][2:]
    tenth = len(lengths) // 10
    correlation = spearmanr(counts, lengths).statistic if np.ptp(lengths) else 0.0
    return correlation, lengths[:tenth].mean(), lengths[-tenth:].mean()


@pytest.mark.parametrize("seed", range(5))
def test_frequent_values_are_long_and_rare_ones_short(seed, monkeypatch):
    rows = planted(seed)
    correlation, head, tail = told(fit(rows, seed=seed))
    assert correlation >= 0.6 and head - tail >= 3
    # A control: frequencies that are those of other values.
    mixed_up = np.random.default_rng(seed).permutation
    real = _amtl.value_counts
    monkeypatch.setattr(_amtl, "value_counts", lambda *args: mixed_up(real(*args)))
    correlation, head, tail = told(fit(rows, seed=seed))
    assert abs(correlation) < 0.25 and abs(head - tail) < 1.5


@pytest.mark.parametrize("seed", range(2))
def test_without_a_price_next_to_nothing_is_short(seed):
    rows = planted(seed)
    # The paper's form: nothing but the fit decides, and what it has learned by heart fits.
    _, head, tail = told(fit(rows, AMTL(0.0), seed))
    assert head >= 7 and tail >= 6
    # By rows of their own it shows what was learned by heart.
    _, _, apart = told(fit(rows, AMTL(0.0, "first_order"), seed))
    assert apart <= tail - 1


def test_unseen_values_are_short():
    X, y = planted(0)
    model = fit((X, y), AMTL(0.2))
    lengths = model.embedding_sizes_["many"]
    assert lengths[1] <= lengths[2:].min() + 1 and lengths.min() >= 1  # the unknown
    other = X.assign(many="new", few=[None] * len(X))
    with pytest.warns(UnknownCategoryWarning):
        assert np.isfinite(model.predict_proba(other)).all()


@pytest.mark.parametrize("seed", range(2))
def test_noise_of_equal_frequency_is_as_long(seed):
    """The limit of lengths by frequency: of another make of data, whose values are all equally
    frequent, noise gets the lengths of what matters.
    """
    X, y, _ = make_tastes(8000, topics=(4,), n_values=40, effect=2.5, random_state=seed)
    sizes = fit((X, y), AMTL(0.02), seed).embedding_sizes_
    means = {column: sizes[column][2:].mean() for column in X}
    assert abs(means["noise0"] - means["what0"]) < 1 and means["noise0"] > 1


# what serves
# --------------------------------------------------------------------------------------------------


def test_lengths_of_a_trained_table_and_what_is_stored(tmp_path):
    X, y = planted(1, n=3000, n_values=100)
    source = CTRClassifier(random_state=0, **OPTIONS | {"max_epochs": 8}).fit(X, y)
    weights = source.net_.module_.state_dict()
    still = fit((X, y), AMTL(0.0, start=source, retrain="none"), lr=1e-12, search_epochs=1)
    state = still.net_.module_.state_dict()
    np.testing.assert_allclose(
        state["embedding.table_8"], weights["embedding.weight"], rtol=0, atol=1e-6
    )
    torch.testing.assert_close(still.predict_proba(X), source.predict_proba(X), atol=1e-5, rtol=0)
    model = fit((X, y), AMTL(start=source, retrain="none"), search_epochs=8)
    assert np.mean(model.embedding_sizes_["many"]) < 7 and model.n_iter_ == 0
    cold = fit((X, y), search_epochs=1, max_epochs=1)
    warm = fit((X, y), AMTL(start=source), search_epochs=1, max_epochs=1)
    losses = [m.search_history_[0]["train_loss"] for m in (cold, warm)]
    assert losses[1] < losses[0] - 0.05
    again = pickle.loads(pickle.dumps(model))
    assert again.search.start is None and "start" not in str(again.architecture_)
    save(model, tmp_path / "model")
    p = model.predict_proba(X)
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)
    np.testing.assert_array_equal(again.predict_proba(X), p)
    other = CTRClassifier(random_state=0, **OPTIONS | {"embedding_dim": 4, "max_epochs": 1})
    with pytest.raises(ValueError, match="embedding_dim=4, this model 8"):
        fit((X, y), AMTL(start=other.fit(X, y)))


@pytest.mark.parametrize("started", [True, False])
def test_the_final_training_starts_where_the_search_began(started, monkeypatch):
    X, y = planted(1, n=1000, n_values=40)
    short = {"max_epochs": 1, "search_epochs": 2}
    source = CTRClassifier(random_state=0, **OPTIONS | short).fit(X, y) if started else None
    states, real = [], AMTL.transfer

    def noted(self, state, *args):
        states.append(state)
        return real(self, state, *args)

    monkeypatch.setattr(AMTL, "transfer", noted)
    model = fit((X, y), AMTL(0.0, start=source), **short)
    begun, ended = [state["embedding.weight"] for state in states]
    if started:
        assert torch.equal(begun, source.net_.module_.state_dict()["embedding.weight"])
    assert (begun - ended).abs().max() > 0.03 and model.n_iter_ == 1


def test_where_one_number_each_is_too_much_the_most_frequent_have_it():
    X, y = planted(2, n=3000, n_values=300)
    short = {"max_epochs": 1, "search_epochs": 2}
    for budget, least in ((0.1, 150), (0.02, 15)):
        model = fit((X, y), AMTL(budget=budget), **short)
        n_values = sum(len(own) for own in model.embedding_sizes_.values())
        assert model.nbytes_["embedding"] + model.nbytes_["index"] <= budget * 4 * 8 * n_values
        counts = np.concatenate(model.encoder_.counts_)
        sizes = np.concatenate([*model.embedding_sizes_.values()])
        assert {*sizes.tolist()} == {0, 1} and least <= sizes.sum() < n_values
        assert counts[sizes == 1].min() >= counts[sizes == 0].max()
        assert np.isfinite(model.predict_proba(X)).all()
    with pytest.raises(ValueError, match="budget=16 leaves 16 bytes .* of the smallest tables"):
        fit((X, y), AMTL(budget=16), **short)


def test_bytes_are_those_of_the_lengths():
    X, y = planted(2, n=3000, n_values=300)
    model = fit((X, y), AMTL(0.1), search_epochs=10)
    sizes = np.concatenate([*model.embedding_sizes_.values()])
    assert model.nbytes_["embedding"] == 4 * sizes.sum() < 4 * 8 * len(sizes)
    assert 0 < model.nbytes_["index"] <= 4 * len(sizes)
    architecture = model.architecture_["embedding"]
    np.testing.assert_array_equal(sizes_from_text(architecture["sizes"]), sizes)
    whole = CTRClassifier(random_state=0, **OPTIONS | {"max_epochs": 1}).fit(X, y)
    assert len(pickle.dumps(model)) < len(pickle.dumps(whole))


@pytest.mark.parametrize("retrain", ["none", "keep", "scratch", "rewind"])
@pytest.mark.parametrize("row_wise", [False, True])
def test_other_columns_missing_values_constants_and_single_rows(retrain, row_wise, monkeypatch):
    if row_wise:
        monkeypatch.setattr(_context, "LAZY_TABLE_FACTOR", 0)
    X, y = planted(3, n=400, n_values=30)
    checked_on_other_columns(X, y, AMTL(retrain=retrain), OPTIONS)


def test_numbers_alone_have_no_lengths():
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=60)})
    model = fit((X, (X["x"] > 0).astype(int)), search_epochs=2)
    assert model.embedding_sizes_ == {"x": 8} and np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"size_penalty": -1.0}, "'size_penalty' parameter of AMTL"),
        ({"level": "unrolled"}, "'level' parameter of AMTL"),
        ({"arch_lr": 0.0}, "'arch_lr' parameter of AMTL"),
        ({"warmup": 1.0}, "'warmup' parameter of AMTL"),
        ({"search_fraction": 1.0}, "'search_fraction' parameter of AMTL"),
        ({"hidden_units": 3}, "'hidden_units' parameter of AMTL"),
        ({"hidden_units": (0,)}, "hidden_units must hold whole numbers of at least 1"),
        ({"temperature": (1.0, 0.0)}, "temperature must be two positive numbers"),
        ({"twins": "yes"}, "'twins' parameter of AMTL"),
        ({"start": 3}, "'start' parameter of AMTL"),
        ({"start": CTRClassifier()}, "must be a fitted CTRClassifier"),
        ({"retrain": "never"}, "'retrain' parameter of AMTL"),
    ],
)
def test_bad_parameters_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        fit(planted(0, n=60, n_values=5), AMTL(**options))


def test_sizes_of_another_table_are_refused():
    rows = planted(0, n=60, n_values=5)
    model = fit(rows, search_epochs=1)
    n = sum(len(sizes) for sizes in model.embedding_sizes_.values())
    for sizes in (None, 3, sizes_to_text(np.ones(n + 1)), sizes_to_text(np.full(n, 9))):
        architecture = copy.deepcopy(model.architecture_)
        architecture["embedding"]["sizes"] = sizes
        with pytest.raises(ValueError, match="sizes must"):
            CTRClassifier.from_architecture(architecture, max_epochs=1).fit(*rows)
    assert Twins(3, (), True, torch.Generator())(torch.zeros(2, 2)).shape == (2, 3)
