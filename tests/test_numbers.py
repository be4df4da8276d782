"""Numbers in the estimators: planted shapes, columns that are ids and numbers, every way of
serving.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from onnx_graphs import exported
from sklearn.metrics import log_loss
from small_networks import told_small

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import known_networks
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

EMBEDDINGS = ["piecewise", "periodic", "linear"]
OPTIONS = {"embedding_dim": 4, "max_epochs": 2, "lr": 0.01, "random_state": 0, "device": "cpu"}


def shapes(n=6000, seed=0):
    """Clicks by a step of one number and a plateau of another: a line tells little of either."""
    rng = np.random.default_rng(seed)
    x = rng.random((n, 2))
    logit = 3.0 * ((x[:, 0] > 0.3) & (x[:, 0] < 0.5)) + 3.0 * (np.abs(x[:, 1] - 0.5) < 0.25) - 3.0
    y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)
    best = log_loss(y, 1 / (1 + np.exp(-logit)))
    return pd.DataFrame({"a": np.exp(3 * x[:, 0]), "b": x[:, 1]}), y, best


def mixed(n=400, seed=0):
    """An id, a number that is an id as well, a decimal with missing cells and a sequence."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "city": rng.choice(["a", "b", "c"], n),
            "age": rng.integers(18, 60, n),
            "price": np.where(rng.random(n) < 0.2, np.nan, np.exp(rng.normal(size=n))),
            "past": [[f"i{v}" for v in rng.integers(0, 5, k)] for k in rng.integers(0, 4, n)],
        }
    )
    y = (rng.random(n) < np.where(X["age"] > 40, 0.8, 0.2)).astype(int)
    return X, y


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_a_step_and_a_plateau_are_recovered_by_curves_alone(name):
    """A sum of one function a number (the network "lr"): only its form decides. Linear must
    fail.
    """
    X, y, _ = shapes()
    X_test, y_test, best = shapes(seed=1)
    model = CTRClassifier(
        network="lr",
        numeric_embedding=name,
        lr=0.05,
        max_epochs=30,
        random_state=0,
    ).fit(X, y)
    excess = log_loss(y_test, model.predict_proba(X_test)) - best
    base = log_loss(y_test, np.full(len(y_test), y.mean())) - best
    assert base > 0.1
    if name == "linear":
        assert excess > 0.8 * base
    else:
        assert excess < 0.3 * base


CASES = [(network, "piecewise") for network in sorted(known_networks())]


@pytest.mark.parametrize(
    "network, name", [*CASES, *((n, e) for n in ("deepfm", "fm") for e in EMBEDDINGS[1:])]
)
def test_every_network_takes_numbers_and_columns_of_both_kinds(network, name, tmp_path):
    X, y = mixed()
    members = 2 if name == "periodic" and network in ("deepfm", "fm") else 1
    network = told_small(network, {"past": "city"}, units=32)
    model = CTRClassifier(
        network=network, numeric_embedding=name, members=members, batch_size=64, **OPTIONS
    ).fit(X, y)
    assert model.encoder_.field_names_ == ["city", "age", "age (number)", "price", "past"]
    p = model.predict_proba(X)
    assert np.isfinite(p).all() and p.std() > 1e-4
    np.testing.assert_array_equal(model.predict_proba(X[5:6]), p[5:6])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), p)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)


@pytest.mark.parametrize(
    "name, bins", [("piecewise", "target"), ("periodic", "quantile"), ("linear", "quantile")]
)
def test_model_files_and_graphs_give_the_same(name, bins, tmp_path):
    X, y = mixed()
    encoder = FieldEncoder(numeric_bins=bins, n_bins=10)
    members = 2 if bins == "target" else 1
    model = CTRClassifier(
        network=DeepFM((8,)), encoder=encoder, numeric_embedding=name, members=members, **OPTIONS
    ).fit(X, y)
    run = exported(model, tmp_path)
    for rows in (X, X[:1]):
        np.testing.assert_allclose(run(rows), model.predict_proba(rows), rtol=0, atol=1e-5)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))


def test_numbers_alone_are_enough():
    X, y, _ = shapes(500)
    for name in EMBEDDINGS:
        model = RatingRegressor(numeric_embedding=name, **OPTIONS).fit(X, y)
        assert np.isfinite(model.predict(X)).all()


def test_constant_and_missing_numbers_do_no_harm():
    X, y = mixed()
    X = X.assign(constant=1.5, nothing=np.nan, two=np.resize([0.5, 1.5, np.nan], len(X)))
    model = CTRClassifier(**OPTIONS).fit(X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    far = X.assign(constant=1e20, nothing=-7.5, two=1e9)
    assert np.isfinite(model.predict_proba(far)).all()
    with pytest.raises(ValueError, match="infinity.*'price'"):
        model.predict_proba(X.assign(price=np.inf))


def test_a_column_of_both_kinds_beats_each_alone():
    """Few values with a smooth trend and one of them far off: the trend carries rare values, the id
    the odd one.
    """

    def draw(n, seed):
        rng = np.random.default_rng(seed)
        age = rng.integers(0, 60, n)
        logit = 0.1 * (age - 30.0) + np.where(age == 25, 4.0, 0.0)
        return pd.DataFrame({"age": age}), (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int)

    (X, y), (X_test, y_test) = draw(1500, 0), draw(6000, 1)
    losses = {}
    for kind in ("id", "number", "both"):
        encoder = FieldEncoder(categorical_features={"age": kind}, n_bins=4)
        options = {"lr": 0.05, "max_epochs": 30, "early_stopping": True, "random_state": 0}
        model = CTRClassifier(network="lr", encoder=encoder, **options).fit(X, y)
        losses[kind] = log_loss(y_test, model.predict_proba(X_test))
    assert losses["both"] < min(losses["id"], losses["number"]) - 0.002, losses


def test_unknown_embeddings_are_refused():
    X, y = mixed()
    with pytest.raises(ValueError, match="numeric_embedding"):
        CTRClassifier(numeric_embedding="spline").fit(X, y)
