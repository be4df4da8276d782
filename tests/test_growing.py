"""Vocabularies that grow in ``partial_fit``: ids, tables and moments of values that are new."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import ESAPN, PEP, AutoEmb, MagnitudePruning
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction._bpfis import PersonalGates
from sklearn_autorec.nn import FieldLayout
from sklearn_autorec.nn._growing import grow_tables
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

OPTIONS = {
    "network": "fm",
    "embedding_dim": 3,
    "lr": 0.02,
    "batch_size": 32,
    "device": "cpu",
    "random_state": 0,
    "new_categories": "grow",
}


def chunk(items, seed=0):
    rng = np.random.default_rng(seed)
    items = np.asarray(items)
    X = pd.DataFrame({"item": items, "shop": rng.choice(["a", "b"], len(items))})
    X["price"] = rng.normal(size=len(items))
    return X, rng.integers(0, 2, len(items))


def model(network="fm", **encoder):
    encoder = FieldEncoder(
        **{"max_categories": 50, "categorical_features": ["item", "shop"], **encoder}
    )
    return CTRClassifier(encoder=encoder, **{**OPTIONS, "network": network})


def values(fitted, column="item"):
    return fitted.get_embeddings(column).index[2:].tolist()


def stream(fitted, *chunks):
    for k, items in enumerate(chunks):
        fitted.partial_fit(*chunk(items, k), classes=[0, 1])
    return fitted


@pytest.mark.parametrize("text", [False, True])
def test_ids_are_added_behind_and_never_change(text):
    name = str if text else int
    first, more = [name(v) for v in [5, 5, 7] * 20], [name(v) for v in [7, 9, 9, 2] * 20]
    fitted = stream(model(), first)
    assert values(fitted) == [name(5), name(7)]
    stream(fitted, more)
    assert values(fitted) == [name(v) for v in (5, 7, 9, 2)]
    # Cells of the id of each: missing, unknown, then the values.
    assert fitted.encoder_.counts_[0].tolist() == [0, 0, 40, 40, 40, 20]
    encoded = fitted.encoder_.encode(chunk([name(v) for v in (2, 9, 5, 8)])[0])
    assert encoded.ids[:, 0].tolist() == [5, 4, 2, 1]
    without = stream(model().set_params(new_categories="unknown"), first, more)
    assert values(without) == [name(5), name(7)]


def test_a_value_is_admitted_when_it_has_come_often_enough():
    fitted = stream(model(min_frequency=30), [1] * 60 + [2] * 29)
    assert values(fitted) == [1]  # 2 waits for one more cell
    stream(fitted, [2, 3, 3] + [1] * 40)
    assert values(fitted) == [1, 2]
    stream(fitted, [3] * 27 + [1] * 40)
    assert values(fitted) == [1, 2]
    stream(fitted, [3] + [1] * 40)
    assert values(fitted) == [1, 2, 3]
    shares = stream(model(min_frequency=0.2), [1] * 90 + [2] * 10, [2] * 50 + [1] * 50)
    assert values(shares) == [1, 2]
    # Weights count as they do in fit.
    heavy = stream(model(min_frequency=30), [1] * 60)
    X, y = chunk([1] * 40 + [4] * 8)
    heavy.partial_fit(X, y, sample_weight=np.where(X["item"] == 4, 4.0, 1.0))
    assert values(heavy) == [1, 4]


def test_memory_is_bounded():
    fitted = stream(model(max_categories=4, min_frequency=2), [1, 1, 2, 2] * 10)
    for k in range(5):
        stream(fitted, [*range(100 * k + 10, 100 * k + 60)])  # each comes once
        assert len(fitted.encoder_._rare[0][0]) <= 4
    assert values(fitted) == [1, 2]
    # Of equally rare ones the last chunk is remembered: two of it can still become frequent.
    stream(fitted, [413, 410] * 8)
    assert set(values(fitted)) == {1, 2, 410, 413}
    stream(fitted, [77] * 40)
    assert set(values(fitted)) == {1, 2, 410, 413}
    assert fitted.net_.module_.embedding.weight.shape[0] == 6 + 4
    assert not len(fitted.encoder_._rare[0][0])  # a full column has nothing to remember


def test_new_rows_start_from_the_mean_with_moments_of_zero(monkeypatch):
    from sklearn_autorec.estimators import _streaming

    first = ["1", "2", "3", None] * 20
    fitted = stream(model(), first, first)
    before = {name: t.clone() for name, t in fitted.net_.module_.state_dict().items()}
    moments = copy.deepcopy(fitted._stream.training_state())
    seen = {}

    def look(net, data, plan):
        seen["weights"] = {n: t.clone() for n, t in net.module_.state_dict().items()}
        seen["moments"] = copy.deepcopy(net.training_state())
        return train(net, data, plan)

    train = _streaming.train
    monkeypatch.setattr(_streaming, "train", look)
    stream(fitted, ["8", "9", "8", "1"] * 10)
    old = np.array([0, 1, 2, 3, 4, -1, -1, 5, 6, 7, 8])  # rows of the item, then of the shop
    for name in ("embedding.weight", "linear.weight"):
        now, mean = seen["weights"][name], before[name][2:5].mean(0)
        assert now.shape[0] == 11
        torch.testing.assert_close(now[5:7], torch.stack([mean, mean]))
        assert torch.equal(now[old >= 0], before[name])
        assert not torch.equal(fitted.net_.module_.state_dict()[name][5], mean)  # it was trained
    grown = [s for group in seen["moments"] for s in group["state"].values()]
    small = [s for group in moments for s in group["state"].values()]
    found = 0
    for own, earlier in zip(grown, small, strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            if own[name].shape != earlier[name].shape:
                found += 1
                assert not own[name][5:7].any() and earlier[name][0].any()
                assert torch.equal(own[name][old >= 0], earlier[name])
    assert found == 4


@pytest.mark.parametrize("network", ["fm", "dcn", "ffm"])
@pytest.mark.parametrize("options", [{}, {"members": 2}, {"storage": "int8"}])
def test_it_goes_on_to_the_bit_after_a_pickle(network, options, tmp_path):
    start = model(network).set_params(**options)
    start = stream(start, [1, 2, 3] * 20, [3, 4, 4, 5] * 20)
    again = pickle.loads(pickle.dumps(start))
    p = start.predict_proba(chunk([1, 6, 7])[0])
    for fitted in (start, again):
        stream(fitted, [6, 6, 1, 2] * 20, [7, 6, 1] * 20)
    X, _ = chunk([1, 2, 3, 4, 5, 6, 7, 99])
    np.testing.assert_array_equal(start.predict_proba(X), again.predict_proba(X))
    assert (start.predict_proba(X)[[0, 5, 6]] != p).all()
    assert values(again) == values(start) == [1, 2, 3, 4, 5, 6, 7]
    save(start, tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), start.predict_proba(X))
    assert values(stream(loaded, [8] * 40)) == [*values(start), 8]


def test_tables_with_row_wise_gradients_grow_and_a_failure_changes_nothing(monkeypatch):
    from sklearn_autorec.estimators import _streaming

    fitted = model(max_categories=5000).set_params(batch_size=8)
    stream(fitted, [*range(2000)])
    assert fitted.net_.module_.embedding.sparse
    twin = pickle.loads(pickle.dumps(fitted))
    X, y = chunk([*range(1500, 2600)])
    train = _streaming.train

    def fails(net, data, plan):
        train(net, data, plan)
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(_streaming, "train", fails)
        with pytest.raises(MemoryError):
            fitted.partial_fit(X, y)
    assert len(values(fitted)) == 2000
    for one in (fitted, twin):
        one.partial_fit(X, y)
    assert len(values(fitted)) == 2600
    np.testing.assert_array_equal(fitted.predict_proba(X), twin.predict_proba(X))


def test_columns_that_share_and_lists_grow_together():
    X, y = chunk([1, 2, 3] * 20)
    X["seen"] = [[v, v + 1] for v in X["item"]]
    fitted = CTRClassifier(
        encoder=FieldEncoder(max_categories=50, categorical_features=["item", "shop"]),
        shared_vocabularies={"seen": "item"},
        **OPTIONS,
    ).partial_fit(X, y, classes=[0, 1])
    assert sorted(values(fitted)) == [1, 2, 3, 4]
    new = X.assign(seen=[[v, 9] for v in X["item"]])
    fitted.partial_fit(new, y)
    assert values(fitted)[4:] == values(fitted, "seen")[4:] == [9]
    np.testing.assert_array_equal(fitted.get_embeddings("seen"), fitted.get_embeddings("item"))
    assert fitted.encoder_.counts_[0].tolist()[-1] == 0
    assert fitted.encoder_.sequence_counts_[0].tolist()[-1] == 60


def test_columns_that_were_empty_and_odd_values():
    X, y = chunk([1, 2] * 20)
    X["late"] = None
    fitted = model(categorical_features=["item", "shop", "late"]).partial_fit(X, y, classes=[0, 1])
    fitted.partial_fit(X.assign(late=["u", "v"] * 20), y)
    assert values(fitted, "late") == ["u", "v"]
    with pytest.warns(Warning, match="holds strings|held numbers"):
        fitted.partial_fit(X.assign(item=["1", "odd"] * 20), y)
    assert values(fitted) == [1, 2]  # text in a column of integers is no value of it


def test_what_cannot_grow_is_refused():
    X, y = chunk([1, 2, 3] * 20)
    for change, told in (
        ({"encoder": None}, "max_categories=None"),
        ({"encoder": FrozenEstimator(FieldEncoder(max_categories=9).fit(X))}, "is not frozen"),
        ({"search": AutoEmb()}, "AutoEmb"),
        ({"new_categories": "more"}, "new_categories"),
    ):
        fitted = model().set_params(**change)
        with pytest.raises(ValueError, match=told):
            fitted.partial_fit(X, y, classes=[0, 1])
        assert not hasattr(fitted, "encoder_")
    for search in (PEP(), MagnitudePruning()):
        fitted = model().set_params(search=search, max_epochs=1, search_epochs=1).fit(X, y)
        p = fitted.predict_proba(X)
        fitted.partial_fit(X, y)  # nothing new comes
        more, y_more = chunk([8] * 30)
        with pytest.raises(ValueError, match="holds something for each value and cannot grow"):
            fitted.partial_fit(more, y_more)
        assert (fitted.predict_proba(X) != p).any() and len(values(fitted)) == 3
    with pytest.raises(ValueError, match="ESAPN"):
        model().set_params(search=ESAPN()).partial_fit(X, y, classes=[0, 1])
    # What is looked up by the id of a user cannot grow either.
    gates, small = PersonalGates(np.zeros((4, 2), np.uint8), 0), FieldLayout(("user",), (4,))
    with pytest.raises(ValueError, match="PersonalGates"):
        grow_tables(gates, small, FieldLayout(("user",), (5,)))
    live = model().set_params(search=AutoEmb(), new_categories="unknown")
    live.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="goes on with the stream"):
        live.set_params(new_categories="grow").partial_fit(X, y)


def test_a_fit_goes_on_with_growth_and_dropped_columns():
    X, y = chunk([1, 2, 3] * 40)
    y = (X["item"] > 1).astype(int)
    fitted = (
        model(min_frequency=2)
        .set_params(search=AutoField(), max_epochs=2)
        .fit(pd.concat([X, X[:1].assign(item=4)]), [*y, 1])
    )
    fitted.partial_fit(X[:40].assign(item=[4] + [9] * 39), y[:40])
    assert {4, 9} <= {*fitted.encoder_.categories_[0].tolist()}  # 4 was counted once in fit
    assert np.isfinite(fitted.predict_proba(X)).all()
    ratings = RatingRegressor(
        encoder=FieldEncoder(max_categories=9, categorical_features=["item", "shop"]), **OPTIONS
    )
    ratings.partial_fit(X, y * 1.0).partial_fit(X.assign(item=8), y * 1.0)
    assert values(ratings)[-1] == 8


def drifting(k, matters, seed=1):
    """Items come and go: chunk k has those from 20 k to 20 k + 60; each has an effect of its own,
    if they matter.
    """
    rng = np.random.default_rng((k, seed))
    item = 20 * k + rng.integers(0, 60, 1500)
    effect = np.random.default_rng(5).normal(size=2000) * 2.0
    logit = effect[item] * matters
    X = pd.DataFrame({"item": item, "noise": rng.integers(0, 3, len(item))})
    return X, (rng.random(len(item)) < 1 / (1 + np.exp(-logit))).astype(int)


def prequential(new_categories, matters):
    """Mean log loss of each chunk before it is trained on."""
    encoder = FieldEncoder(max_categories=1000, categorical_features=["item", "noise"])
    fitted = CTRClassifier(encoder=encoder, **{**OPTIONS, "lr": 0.05, "network": "lr"})
    fitted.set_params(new_categories=new_categories)
    losses = []
    for k in range(9):
        X, y = drifting(k, matters)
        if k > 4:  # no item of the first chunk is left by then
            losses.append(log_loss(y, fitted.predict_proba(X)[:, 1]))
        for _ in range(2):
            fitted.partial_fit(X, y, classes=[0, 1])
    return np.mean(losses)


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.UnknownCategoryWarning")
def test_a_stream_with_new_items_is_predicted_better():
    """Planted: items have effects, and those of the first chunk vanish. Without growth nothing is
    known of later ones; where items tell nothing, growth is of no use.
    """
    assert prequential("grow", True) < prequential("unknown", True) - 0.1
    assert prequential("grow", False) > prequential("unknown", False) - 0.02


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.UnknownCategoryWarning")
def test_the_default_grows_nothing_and_keeps_its_bits():
    X, y = drifting(0, True)
    more, y_more = drifting(3, True)
    plain = {k: v for k, v in OPTIONS.items() if k != "new_categories"}
    fits = [
        CTRClassifier(encoder=FieldEncoder(max_categories=cap), **plain, **options)
        for cap, options in ((1000, {}), (1000, {"new_categories": "unknown"}))
    ]
    for fitted in fits:
        fitted.partial_fit(X, y, classes=[0, 1]).partial_fit(more, y_more)
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))
    assert "_rare" not in vars(fits[0].encoder_)
