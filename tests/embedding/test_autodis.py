"""AutoDis against its formulas, on a planted step function, and in every form that serves."""

import numpy as np
import pandas as pd
import pytest
import torch
from onnx_graphs import exported
from sklearn.metrics import log_loss
from sklearn.preprocessing import KBinsDiscretizer

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim, AutoDis
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import MLPNetwork
from sklearn_autorec.nn import BuildContext, NumberVectors
from sklearn_autorec.serving import load, save

OPTIONS = {
    "embedding_dim": 8,
    "lr": 0.01,
    "batch_size": 128,
    "max_epochs": 12,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}
NETWORK = MLPNetwork((16,), dropout=0.0)


def context(members=1, n_numeric=2, **changes):
    return BuildContext(
        tuple(f"x{j}" for j in range(n_numeric)),
        (),
        n_numeric=n_numeric,
        embedding_dim=3,
        embedding_init=1.0,
        members=members,
        numeric_range=(0.0, 1.0),
        generator=torch.Generator().manual_seed(3),
        **changes,
    )


def build(members=1, n_numeric=2, **params):
    method = AutoDis(**{"n_bins": 5, **params})
    c = context(members, n_numeric)
    return method.realise({"n_numeric": n_numeric}, c)


def reference(weights, x, missing, skip, n_top):
    """Vectors (F, d) and weights (F, H) of one row of one member."""
    vectors, all_weights = [], []
    for j in range(len(x)):
        z = (x[j] - 0.5) * np.sqrt(12)
        h = z * weights["slope"][j]
        if "bias" in weights:
            h = h + weights["bias"][j]
        h = np.where(h > 0, h, 0.01 * h)
        mixed = h @ weights["mixing"][j] + skip * h
        mixed = mixed / np.exp(weights["log_temperature"][j])
        q = np.exp(mixed - mixed.max())
        q /= q.sum()
        if n_top is not None:
            q[np.argsort(-q)[n_top:]] = 0
            q /= q.sum()
        all_weights.append(q)
        vectors.append(weights["missing"][j] if missing[j] else q @ weights["meta"][j])
    return np.array(vectors), np.array(all_weights)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize(
    "params", [{}, {"bias": False}, {"n_top": 2}, {"n_top": 1}, {"skip": 0.0}, {"temperature": 2.0}]
)
def test_the_module_follows_the_formulas(params, members):
    module = build(members, **params).double()
    rng = np.random.default_rng(0)
    x, missing = rng.random((members * 4, 2)), rng.random((members * 4, 2)) < 0.3
    x[missing] = 0
    rows = torch.from_numpy(np.hstack([x, missing]))
    vectors = module(rows).detach().numpy()
    q = module.bin_weights(rows).detach().numpy()
    weights = {name: p.detach().numpy() for name, p in module.named_parameters()}
    assert ("bias" in weights) == params.get("bias", True)
    for row in range(len(x)):
        own = weights if members == 1 else {n: p[row // 4] for n, p in weights.items()}
        args = x[row], missing[row], params.get("skip", 0.5), params.get("n_top")
        expected, expected_q = reference(own, *args)
        np.testing.assert_allclose(vectors[row], expected, rtol=1e-6)
        np.testing.assert_allclose(q[row], expected_q, rtol=1e-6, atol=1e-12)


def test_the_parameters_are_those_of_the_formulas():
    module = build()
    n, h, d = 2, 5, 3
    # Vectors of bins, the second layer, slopes and biases; and missing numbers and temperatures.
    assert sum(p.numel() for p in module.parameters()) == n * (h * d + h * h + 2 * h + d + 1)
    bends = (-module.bias / module.slope).detach() / np.sqrt(3)  # in units of half the range
    assert bends.abs().max() <= 1 + 1e-5 and bends.std() > 0.3
    assert module.embedding_parameters() == [module.meta, module.missing]
    assert torch.allclose(module.log_temperature.exp(), torch.tensor(0.1))
    assert torch.equal(build().meta, module.meta)


def test_a_bias_is_what_makes_bins():
    """Without one the most likely bin of a number is that of every other number of its sign."""
    x = torch.linspace(0, 1, 201).unsqueeze(1)
    rows = torch.cat([x, torch.zeros_like(x)], 1)
    n_bins = {True: [], False: []}
    for bias in n_bins:
        for seed in range(5):
            c = context(n_numeric=1)
            c.generator.manual_seed(seed)
            best = AutoDis(bias=bias).realise({"n_numeric": 1}, c).bin_weights(rows).argmax(2)
            n_bins[bias].append(len(best.unique()))
            if not bias:  # one on each side of the middle
                assert len(best[:100].unique()) == len(best[101:].unique()) == 1
    assert min(n_bins[True]) >= 3 and max(n_bins[False]) <= 3


def steps(n, seed):
    """Five plateaus and a narrow band, a straight effect and noise, of units far apart; the clicks'
    log loss by the truth.
    """
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(0, 1, n), rng.normal(size=n)
    levels = np.array([1.5, -1.5, 1.0, -2.0, 2.0])
    logit = levels[np.searchsorted((0.14, 0.35, 0.56, 0.77), x)]
    logit = logit + np.where((x > 0.43) & (x < 0.47), 2.5, 0) + 0.5 * z
    p = 1 / (1 + np.exp(-logit))
    y = (rng.random(n) < p).astype(int)
    noise = rng.normal(size=n)
    return pd.DataFrame({"x": x, "z": 1000 * z, "noise": noise / 1000}), y, log_loss(y, p)


def judged(X, y, X_test, y_test, **options):
    model = CTRClassifier(network=NETWORK, **{**OPTIONS, **options}).fit(X, y)
    return log_loss(y_test, model.predict_proba(X_test)[:, 1])


def judged_in_bins(X, y, X_test, y_test):
    """Ten bins of equal width a column, as ids."""
    bins = KBinsDiscretizer(10, encode="ordinal", strategy="uniform").fit(X)
    tables = [
        pd.DataFrame(bins.transform(table).astype(int).astype(str), columns=X.columns)
        for table in (X, X_test)
    ]
    return judged(tables[0], y, tables[1], y_test)


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_planted_steps(seed):
    """A line through the same perceptron does not, nor do bins of equal width, whose edges are
    elsewhere, nor soft bins without a bias; what they are learned from must be there.
    """
    X, y, _ = steps(3000, seed)
    X_test, y_test, best = steps(4000, 100 + seed)
    found = judged(X, y, X_test, y_test, search=AutoDis())
    linear = judged(X, y, X_test, y_test, numeric_embedding="linear")
    ten = judged_in_bins(X, y, X_test, y_test)
    without = judged(X, y, X_test, y_test, search=AutoDis(bias=False))
    shuffled = X.assign(x=X["x"].sample(frac=1, random_state=seed).to_numpy())
    nothing = judged(shuffled, y, X_test, y_test, search=AutoDis())
    losses = best, found, ten, linear, without, nothing
    assert best < found < best + 0.065, losses
    assert found < ten - 0.03 and found < linear - 0.07, losses
    assert found < without and found < nothing - 0.15, losses


def test_it_finds_steps_of_another_make_of_data():
    """Of normal numbers, whose steps lie anywhere and where most rows are."""
    losses = []
    for seed in range(5):
        X, y, truth = make_ctr(
            7000, n_fields=1, pairs=0, n_numeric=2, main_effect=1.5, random_state=seed
        )
        X = X[["x0", "x1"]]
        rows = X[:3000], y[:3000], X[3000:], y[3000:]
        losses.append(
            [
                judged(*rows, search=AutoDis()),
                judged_in_bins(*rows),
                judged(*rows, numeric_embedding="linear"),
                log_loss(y[3000:], truth.probabilities[3000:]),
            ]
        )
    found, ten, linear, best = np.transpose(losses)
    assert (found > best).all() and (found < linear).all(), losses
    # Bins win where edges happen to be theirs, as of seed 3.
    assert sum(found < ten) >= 4 and np.mean(found) < np.mean(ten) - 0.02, losses


@pytest.fixture(scope="module")
def table():
    X, y, _ = steps(300, 0)
    X = X[["x", "z"]].copy()
    X["c"] = np.random.default_rng(1).integers(0, 5, len(X)).astype(str)
    X.loc[::7, "x"] = np.nan
    X["same"] = 3.0
    return X, y


@pytest.mark.parametrize("network, members", [("fm", 1), ("mlp", 2)])
def test_model_files_and_onnx_serve_the_same(network, members, table, tmp_path):
    X, y = table
    options = {**OPTIONS, "max_epochs": 1, "members": members}
    model = CTRClassifier(network=network, search=AutoDis(n_bins=4), **options).fit(X, y)
    p = model.predict_proba(X)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)
    np.testing.assert_allclose(exported(model, tmp_path)(X), p, rtol=1e-4, atol=1e-6)
    one = X.iloc[[0]]
    np.testing.assert_array_equal(model.predict_proba(one), p[:1])
    assert np.isfinite(model.partial_fit(one, y[:1]).predict_proba(X)).all()


def test_the_unit_of_a_column_does_not_matter(table):
    X, y = table
    model = CTRClassifier(network="mlp", search=AutoDis(), **{**OPTIONS, "max_epochs": 1})
    p = model.fit(X, y).predict_proba(X)
    scaled = X.assign(x=X["x"] * 1000)
    np.testing.assert_array_equal(model.fit(scaled, y).predict_proba(scaled), p)


def test_it_stacks(table, tmp_path):
    """Beside PEP a packed table is saved and comes back for the fields that are no numbers."""
    X, y = table
    search = [PEP(), AutoDis(n_bins=4), AutoFIS()]
    options = {**OPTIONS, "max_epochs": 1, "search_epochs": 1}
    model = CTRClassifier(network="fm", search=search, **options).fit(X, y)
    assert [r["slot"] for r in model.search_history_] == ["embedding", "interaction"]
    module = model.net_.module_
    assert module.embedding.n_numeric == 0 and module.numeric.n_numeric == 3
    assert model.nbytes_["embedding"] > 4 * module.numeric.meta.numel()
    save(model, tmp_path / "model")
    p = model.predict_proba(X)
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)
    again = CTRClassifier.from_architecture(model.architecture_, **options).fit(X, y)
    assert again.architecture_ == model.architecture_
    ratings = RatingRegressor(network="mlp", search=[AutoDis(), AutoDim()], **options).fit(X, y)
    assert np.isfinite(ratings.predict(X)).all()
    assert len(ratings.architecture_["embedding"]["widths"]) == 1


def test_what_does_not_fit_is_refused(table):
    X, y = table
    with pytest.raises(ValueError, match=r"AutoDis\(\) embeds numbers, and the table"):
        CTRClassifier(network="fm", search=AutoDis(), **OPTIONS).fit(X[["c"]], y)
    for n in (None, "2", 1, True, 0, 2.0):
        with pytest.raises(ValueError, match="n_numeric must be the number of numeric fields, 2"):
            AutoDis().check({"n_numeric": n}, context())
    AutoDis().check({"n_numeric": 2}, context())
    for params in ({"n_bins": 1}, {"temperature": 0}, {"skip": -1}, {"bias": 2}, {"n_top": 0}):
        with pytest.raises(ValueError, match=next(iter(params))):
            CTRClassifier(network="fm", search=AutoDis(**params), **OPTIONS).fit(X, y)
    with pytest.raises(ValueError, match="which network=LR"):
        CTRClassifier(network="lr", search=AutoDis(), **OPTIONS).fit(X, y)


def test_numbers_that_are_all_missing_read_as_one_vector():
    module = build()
    rows = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.7, 1.0, 0.0]])
    e = module(rows)
    assert torch.equal(e[0, 0], e[1, 0]) and torch.equal(e[0], module.missing)
    assert not torch.equal(e[0, 1], e[1, 1])
    e.sum().backward()
    assert module.missing.grad is not None and module.meta.grad[1].abs().sum() > 0
    assert not module.meta.grad[0].any()  # no number of this field was there
    assert NumberVectors(context())(rows).shape == e.shape
