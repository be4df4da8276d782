"""Parts beside the network: what they are for, when they are there, and that all carriers hold
them.
"""

import dataclasses
import json
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from onnx_graphs import exported
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor, serving
from sklearn_autorec._ensemble._companions import NETWORK, STATISTICS, WIDE
from sklearn_autorec._ensemble._order import order_matters
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.estimators import _base
from sklearn_autorec.exceptions import UnknownCategoryWarning
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.preprocessing import FieldEncoder

FAST = {"max_epochs": 2, "device": "cpu", "random_state": 0}


def table(n=3000, seed=0):
    """Users with a taste of their own (few rows each), a pair of columns, a step in a number, a
    list.
    """
    rng = np.random.default_rng(seed)
    user, a, b = rng.integers(0, n // 3, n), rng.integers(0, 6, n), rng.integers(0, 6, n)
    price = rng.normal(size=n).round(3)
    taste, pair = rng.normal(size=n // 3), rng.normal(size=(6, 6))
    z = 1.2 * taste[user] + 1.2 * pair[a, b] + 1.5 * (price > 0.5) - 0.5
    X = pd.DataFrame(
        {"user": user.astype(str), "a": a.astype(str), "b": b.astype(str), "price": price}
    )
    X.loc[::11, "price"] = np.nan
    X["tags"] = [["x", "y", "z"][: k % 4] for k in a]
    return X, (rng.random(n) < expit(z)).astype(int), z


@pytest.fixture(scope="module")
def fitted():
    X, y, z = table()
    model = CTRClassifier(**FAST).fit(X[:2500], y[:2500])
    ratings = RatingRegressor(**FAST).fit(X[:2500], 3 + z[:2500])
    return X, y, z, model, ratings


def same(model, other, X):
    np.testing.assert_array_equal(model.predict(X), other.predict(X))
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))


def test_the_mean_is_what_its_parts_say(fitted):
    X, y, z, model, ratings = fitted
    for m in (model, ratings):
        weights = m.part_weights_
        assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) >= 0
        assert set(weights) == {NETWORK, *m._mixture_.models} and len(weights) > 1
    rows = model.encoder_.encode(X[2500:])
    alone = {name: part.logits(rows) for name, part in model._mixture_.models.items()}
    import torch

    from sklearn_autorec.engine import EncodedTensors

    with torch.inference_mode():
        alone[NETWORK] = model.net_.module_(**EncodedTensors.from_table(rows, "cpu").inputs)[
            :, 0
        ].numpy()
    mean = sum(model.part_weights_[name] * logits for name, logits in alone.items())
    np.testing.assert_allclose(model.decision_function(X[2500:]), mean, atol=1e-5)


def test_parts_are_worth_it_and_nothing_comes_of_noise():
    X, y, z = table(6000, seed=1)
    train, test = slice(0, 4800), slice(4800, None)
    default = CTRClassifier(max_epochs=8, device="cpu", random_state=0).fit(X[train], y[train])
    bare = CTRClassifier(
        max_epochs=8, wide=None, target_statistics=False, device="cpu", random_state=0
    )
    bare.fit(X[train], y[train])
    ours, network = (log_loss(y[test], m.predict_proba(X[test])[:, 1]) for m in (default, bare))
    assert bare.part_weights_ == {NETWORK: 1.0} and ours < network - 0.005
    shuffled = np.random.default_rng(0).permutation(y[train])
    nothing = CTRClassifier(**FAST).fit(X[train], shuffled).predict_proba(X[test])[:, 1]
    assert 0.42 < roc_auc_score(y[test], nothing) < 0.58
    base = log_loss(y[test], np.full(len(y[test]), shuffled.mean()))
    assert log_loss(y[test], nothing) < base + 0.01


def test_all_carriers_hold_the_parts(fitted, tmp_path):
    X, y, z, model, ratings = fitted
    for m in (model, ratings):
        same(m, pickle.loads(pickle.dumps(m)), X[2500:])
        serving.save(m, tmp_path / "model.rec")
        loaded = serving.load(tmp_path / "model.rec")
        same(m, loaded, X[2500:])
        assert loaded.part_weights_ == m.part_weights_
        one = np.concatenate([np.ravel(m.predict(X[i : i + 1])) for i in range(2500, 2520)])
        np.testing.assert_array_equal(one, m.predict(X[2500:2520]))


def test_graphs_hold_the_parts(fitted, tmp_path):
    X, y, z, model, _ = fitted
    run = exported(model, tmp_path)
    odd = X[2500:2600].copy()
    odd.loc[odd.index[0], "user"] = "never seen"
    odd.loc[odd.index[1], "a"] = None
    rows = odd.astype(object).where(odd.notna(), None).to_dict("records")
    for part in (rows, rows[:1], rows[:7]):
        np.testing.assert_allclose(run(part), model.predict_proba(odd[: len(part)]), atol=1e-5)
    # The vocabulary may be named or read.
    path = tmp_path / "model.onnx.vocab.json"
    named = serving.onnx_inputs(str(path), rows)
    read = serving.onnx_inputs(json.loads(path.read_text()), rows)
    assert named.keys() == read.keys()
    assert all(np.array_equal(named[name], read[name]) for name in read)


def test_who_names_a_network_gets_it_alone(fitted):
    X, y, *_ = fitted
    alone = CTRClassifier(network="fm", **FAST).fit(X[:600], y[:600])
    assert alone.part_weights_ == {NETWORK: 1.0}
    asked = CTRClassifier(
        network="fm", wide="autocross", target_statistics=True, early_stopping=True, **FAST
    )
    asked.fit(X[:600], y[:600])
    assert asked._mixture_ is not None and set(asked._mixture_.models) <= {WIDE, STATISTICS}
    dropping = CTRClassifier(search=AutoField(n_kept=2), **FAST).fit(X[:600], y[:600])
    assert dropping.part_weights_ == {NETWORK: 1.0}
    several = CTRClassifier(**FAST).fit(X[:600], y[:600] + (X["price"][:600] > 1))
    assert several.part_weights_ == {NETWORK: 1.0} and several.predict_proba(X[:9]).shape == (9, 3)


@pytest.mark.parametrize("part", [{"wide": "autocross"}, {"target_statistics": True}])
def test_what_cannot_be_is_refused_by_name(fitted, part):
    X, y, *_ = fitted
    (name,) = part
    with pytest.raises(ValueError, match=f"{name}=.*needs two classes or ratings, y has 3 classes"):
        CTRClassifier(**part, **FAST).fit(X[:300], np.arange(300) % 3)
    with pytest.raises(ValueError, match=f"{name}=.*search=AutoField.*drops columns"):
        CTRClassifier(search=AutoField(n_kept=2), **part, **FAST).fit(X[:300], y[:300])
    with pytest.raises(
        ValueError, match="'wide' parameter of CTRClassifier must be .*Got 'cross' instead"
    ):
        CTRClassifier(wide="cross", **FAST).fit(X[:300], y[:300])


def test_same_seed_same_bits_and_clones(fitted):
    X, y, z, model, ratings = fitted
    same(model, clone(model).fit(X[:2500], y[:2500]), X[2500:])
    same(ratings, clone(ratings).fit(X[:2500], 3 + z[:2500]), X[2500:])


def test_rows_of_weight_zero_leave_no_trace(fitted):
    X, y, *_ = fitted
    weight = np.ones(2600)
    weight[2500:] = 0
    odd = X[:2600].copy()
    odd.loc[odd.index[2500:], "user"] = "nobody"
    weighted = CTRClassifier(**FAST).fit(odd, y[:2600], sample_weight=weight)
    same(fitted[3], weighted, X[2600:])


def test_small_tables_are_held_out_in_turn_and_beat_the_base_rate():
    X, y, _ = table(1200, seed=3)
    model = CTRClassifier(device="cpu", random_state=0).fit(X[:500], y[:500])
    assert 1 <= model.n_iter_ <= 12 and len(model.history_) == model.n_iter_
    base = log_loss(y[500:], np.full(700, y[:500].mean()))
    assert log_loss(y[500:], model.predict_proba(X[500:])[:, 1]) < base


def test_rows_to_stop_by_are_never_trained_on(fitted):
    X, y, *_ = fitted
    odd = X[2500:].copy()
    odd.loc[odd.index[::3], "user"] = "only here"
    model = CTRClassifier(**FAST).fit(X[:2500], y[:2500], X_val=odd, y_val=y[2500:])
    assert not any("only here" in str(value) for value in model.encoder_.categories_[0])
    assert "valid_loss" in model.history_[0] and model._mixture_ is not None


def drifting(n=6000, seed=0):
    """A log whose items come and go."""
    rng = np.random.default_rng(seed)
    item = (np.arange(n) // 60 + rng.integers(0, 12, n)).astype(str)
    user = rng.integers(0, 50, n).astype(str)
    taste = dict(zip(np.unique(item), rng.normal(size=len(np.unique(item))) * 1.5, strict=True))
    y = (rng.random(n) < expit([taste[i] for i in item])).astype(int)
    return pd.DataFrame({"user": user, "item": item}), y


def test_the_order_of_a_log_is_seen_and_of_other_tables_is_not():
    X, y = drifting()
    encoder = FieldEncoder()
    rows = encoder.fit_encode(X)

    def told(order, target=y):
        rng = np.random.RandomState(0)
        return order_matters(
            rows.take(order), encoder.n_ids_, target[order].astype(float), True, rng
        )

    order = np.arange(len(y))
    assert told(order)
    shuffled = [told(np.random.default_rng(s).permutation(len(y))) for s in range(10)]
    assert sum(shuffled) <= 1
    assert not told(np.argsort(y, kind="stable")) and not told(
        np.argsort(X["user"].to_numpy(), kind="stable")
    )


def test_the_last_rows_judge_where_asked():
    X, y = drifting()
    seen = {}
    for validation in ("auto", "last", "random"):
        model = CTRClassifier(validation=validation, **FAST).fit(X, y)
        seen[validation] = model.predict_proba(X[-300:])
    np.testing.assert_array_equal(seen["auto"], seen["last"])
    assert not np.array_equal(seen["last"], seen["random"])


def test_unseen_missing_constant_and_empty():
    X, y, _ = table(400, seed=5)
    X["constant"], X["nothing"] = "c", None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = CTRClassifier(**FAST).fit(X, y)
    odd = X[:3].copy()
    odd["user"], odd["price"] = ["new", None, "0"], [np.nan, 1e30, -1e30]
    assert np.isfinite(model.predict_proba(odd)).all()
    tiny = CTRClassifier(**FAST).fit(X[:20], np.arange(20) % 2)
    assert tiny.part_weights_ == {NETWORK: 1.0}


def test_members_share_the_parts(fitted):
    X, y, *_ = fitted
    model = CTRClassifier(members=2, wide="autocross", target_statistics=False, **FAST).fit(
        X[:1500], y[:1500]
    )
    assert WIDE in model.part_weights_
    model._mixture_.weights.update({NETWORK: 0.5, WIDE: 0.5})
    p, spread = model.predict_proba(X[2500:], return_std=True)
    np.testing.assert_array_equal(p, model.predict_proba(X[2500:]))
    assert spread.shape == p.shape and (spread >= 0).all() and spread.max() > 0


def test_partial_fit_trains_the_network_alone(fitted):
    X, y, *_ = fitted
    model = CTRClassifier(**FAST).partial_fit(X[:300], y[:300], classes=[0, 1])
    assert model.part_weights_ == {NETWORK: 1.0}


@pytest.mark.parametrize(("network", "most"), [("lr", 0.01), ("fm", 0.09), ("auto", 0.01)])
def test_a_value_that_a_constant_column_never_had_changes_little(network, most):
    X, y, _ = table(1500, seed=2)
    X["flag"] = False
    model = CTRClassifier(network=network, max_epochs=4, lr=0.05, device="cpu", random_state=0).fit(
        X, y
    )
    with pytest.warns(UnknownCategoryWarning, match="flag"):
        moved = model.predict_proba(X.assign(flag=True)) - model.predict_proba(X)
    assert np.abs(moved).mean() < most


def test_a_network_of_weight_zero_is_not_asked(monkeypatch):
    X, y, _ = make_ctr(600, n_fields=3, cardinality=6, pairs=1, random_state=0)
    model = CTRClassifier(**FAST).fit(X, y)
    mixture = model._mixture_
    model._mixture_ = dataclasses.replace(mixture, weights={**mixture.weights, "network": 0.0})
    expected = model.predict_proba(X)
    monkeypatch.setattr(_base, "forward_in_chunks", lambda *args, **kwargs: 1 / 0)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    model._mixture_ = mixture
    with pytest.raises(ZeroDivisionError):
        model.predict_proba(X)
