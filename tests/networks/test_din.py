"""DIN against its formulas, on planted interests, and with lists of every length."""

import pickle

import history_cases
import numpy as np
import pandas as pd
import pytest
import torch
from history_cases import ENCODER, SHORT, D, check_odd_rows, context, vectors_of_kept_fields
from onnx_graphs import exported
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import PEP, AutoDim, AutoDis
from sklearn_autorec.feature_selection import AutoField, OptFS
from sklearn_autorec.networks import DIN
from sklearn_autorec.networks._din import Dice, InterestPool
from sklearn_autorec.nn import BuildContext, Inputs
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

OPTIONS = {**history_cases.OPTIONS, "max_epochs": 10}
NETWORK = DIN((32,), dropout=0.0)


def interests(n, seed, n_items=60, n_topics=6):
    """Rows that are clicked, nine times of ten, if the item's topic is in the history, and else
    once in ten; topics are not told. Every history has two of them.
    """
    rng = np.random.default_rng(seed)
    topic = np.arange(n_items) % n_topics
    item, history = rng.integers(0, n_items, n), []
    for i in range(n):
        own = rng.permutation(n_topics)[:2]
        history.append(rng.choice(np.flatnonzero(np.isin(topic, own)), rng.integers(0, 9)).tolist())
        if history[i] and rng.random() < 0.5:
            item[i] = rng.choice(np.flatnonzero(topic == topic[rng.choice(history[i])]))
    hit = np.array(
        [topic[t] in topic[h] if h else False for t, h in zip(item, history, strict=True)]
    )
    y = (rng.random(n) < np.where(hit, 0.9, 0.1)).astype(int)
    other = rng.integers(0, 5, n).astype(str)
    return pd.DataFrame({"item": item, "history": history, "other": other}), y, hit


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_planted_interests(seed):
    """The mean of the lists tells less to the same network, and lists of other rows nothing."""
    X, y, _ = interests(3000, seed)
    X_test, y_test, hit = interests(3000, 100 + seed)
    shuffled = X.assign(history=X["history"].sample(frac=1, random_state=seed).tolist())
    auc = {}
    for name, network, table in (
        ("din", NETWORK, X),
        ("mean", DIN((32,), dropout=0.0, attention={}), X),
        ("shuffled", NETWORK, shuffled),
    ):
        model = CTRClassifier(network=network, encoder=ENCODER, **OPTIONS).fit(table, y)
        auc[name] = roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])
    best = roc_auc_score(y_test, hit)
    assert best - 0.02 < auc["din"] <= best + 0.01, (best, auc)
    assert auc["din"] > auc["mean"] + 0.02 and auc["shuffled"] < 0.6, (best, auc)


def dice(x, mean, var, slope):
    p = 1 / (1 + np.exp(-(x - mean) / np.sqrt(var + 1e-9)))
    return p * x + slope * (1 - p) * x


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("normalize", [None, "softmax"])
@pytest.mark.parametrize("units", [(), (5,), (5, 4)])
def test_the_pool_follows_the_formulas(units, normalize, training):
    pool = InterestPool(context(), [0, None], units, normalize).double().train(training)
    assert len(pool.biases) == len(units) + (normalize is None)
    for bias in pool.biases:
        bias.data.normal_(generator=torch.Generator().manual_seed(4))
    rng = np.random.default_rng(0)
    for layer in pool.dice:
        layer.slope.data.normal_(generator=torch.Generator().manual_seed(1))
        layer.running_mean.normal_(generator=torch.Generator().manual_seed(2))
        layer.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
    before = [
        (m.running_mean[0].numpy().copy(), m.running_var[0].numpy().copy()) for m in pool.dice
    ]
    vectors, targets = rng.normal(size=(6, 2, 4, D)), rng.normal(size=(6, 2, D))
    present = np.arange(4) < np.array([[4, 2], [0, 0], [1, 4], [3, 1], [2, 0], [0, 3]])[..., None]
    got = pool(*map(torch.from_numpy, (vectors, present, targets))).detach().numpy()
    h, t = vectors[:, 0], np.repeat(targets[:, :1], 4, 1)
    x = np.concatenate([t, h, t - h, t * h], 2)
    for i in range(len(units) + 1):
        x = x @ pool.weights[i][0].detach().numpy().T
        if i < len(pool.biases):
            x = x + pool.biases[i][0].detach().numpy()
        if i < len(units):
            mean, var = before[i]
            if training:
                own = x[present[:, 0]]
                after = 0.9 * mean + 0.1 * own.mean(0), 0.9 * var + 0.1 * own.var(0)
                mean, var = own.mean(0), own.var(0)
            else:
                after = mean, var
            np.testing.assert_allclose(pool.dice[i].running_mean[0].numpy(), after[0])
            np.testing.assert_allclose(pool.dice[i].running_var[0].numpy(), after[1])
            x = dice(x, mean, var, pool.dice[i].slope[0].detach().numpy())
    a = x[..., 0]
    if normalize:
        a = np.where(present[:, 0], np.exp(a), 0)
        a /= np.maximum(a.sum(1, keepdims=True), 1e-300)
    a = np.where(present[:, 0], a, 0)
    np.testing.assert_allclose(got[:, 0], (a[..., None] * h).sum(1), atol=1e-12)
    means = (vectors * present[..., None])[:, 1].sum(1) / np.maximum(present[:, 1].sum(1), 1)[
        :, None
    ]
    np.testing.assert_allclose(got[:, 1], means, atol=1e-12)
    assert not got[[1, 5], 0].any()  # empty


def test_dice_has_the_values_of_the_card():
    layer = Dice(context().axis("L"), 1).eval()
    x = torch.tensor([[[1.0], [-1.0]]])
    here = torch.ones(1, 2, dtype=torch.bool)
    got = layer(x, here, 0).flatten().tolist()
    np.testing.assert_allclose(got, [0.731059, -0.268941], rtol=1e-5)
    layer.slope.data.fill_(1.0)
    np.testing.assert_allclose(layer(x, here, 0).detach(), x, rtol=1e-6)


def test_a_row_or_an_item_alone_leaves_the_statistics():
    layer = Dice(context().axis("L"), 2).train()
    rng = torch.Generator().manual_seed(0)
    for n, there in ((1, [[True, True]]), (2, [[True, False], [False, False]])):
        layer(torch.rand(n, 2, 2, generator=rng), torch.tensor(there), 0)
        assert not layer.running_mean.any() and torch.equal(layer.running_var, torch.ones(2, 2))
    layer(torch.rand(2, 2, 2, generator=rng), torch.tensor([[True, True], [True, True]]), 0)
    assert layer.running_mean[0].all() and not layer.running_mean[1].any()


def rows(*, ids=((3, 1), (0, 2)), items=((3, 0, 0, 6, 0), (0, 0, 0, 1, 2))):
    return {
        "ids": torch.tensor(ids, dtype=torch.int32),
        "numeric": torch.zeros(len(ids), 2),
        "sequences": torch.tensor(items, dtype=torch.int32),
    }


def test_target_and_list_read_one_table():
    module = DIN((4,)).build(context(), {}).eval()
    table = module.embedding.weight
    assert table.shape == (6 + 4 + 7, D)
    seen = []
    module.sequence.register_forward_hook(lambda m, inputs, out: seen.append((*inputs, out)))
    module(**rows())
    vectors, present, targets, pooled = seen[0]
    assert torch.equal(vectors[0, 0, 0], table[3]) and torch.equal(targets[:, 0], table[[3, 0]])
    assert not targets[:, 1].any()  # the other list has none
    assert present.tolist() == [
        [[True, False, False], [True, False, False]],
        [[False, False, False], [True, True, False]],
    ]
    assert torch.equal(vectors[0, 1, 0], table[10 + 6]) and not pooled[1, 0].any()
    torch.testing.assert_close(pooled[0, 0], table[3])  # one item, a softmax of one


def test_attention_names_pairs_of_columns():
    c = context()
    assert DIN().targets(c) == [0, None]
    assert DIN(attention={}).targets(c) == [None, None]
    assert DIN(attention={"tags": "b", "history": "item"}).targets(c) == [0, 1]
    assert DIN().targets(BuildContext(("item", "b"), (6, 4))) == []
    for attention in ({"item": "history"}, {"tags": "x"}, {"no": "item"}, {"tags": "no"}):
        with pytest.raises(ValueError, match="must name list columns, .'history', 'tags'"):
            DIN(attention=attention).targets(c)
        assert DIN(attention=attention).targets(c, narrowed=True) == [None, None]
    with pytest.raises(ValueError, match=r"no target for the lists \['history', 'tags'\]: share"):
        DIN().build(context(shared=()), {})
    with pytest.raises(ValueError, match="attention_units must hold ints"):
        DIN(attention_units=(0,)).build(c, {})
    assert DIN(attention={}).build(context(shared=()), {}).sequence is None


@pytest.mark.parametrize("fields", [[0, 1, 3], [0, 1, 2, 3], [0, 4], [1, 3, 4], [0, 1]])
def test_weights_of_kept_fields_are_taken_over(fields):
    network = DIN((4,), attention={"history": "item", "tags": "b"})
    e, kept = vectors_of_kept_fields(network, fields, Inputs(*rows().values()))
    for at, f in enumerate(fields):
        targets = {3: 0, 4: 1}
        if f in targets and targets[f] not in fields:
            continue  # averaged, since its target is gone
        torch.testing.assert_close(kept[:, at], e[:, f])
    network_axis = network.build(context(), {}).sequence.dice[0].field_axes["slope"][-2]
    assert network_axis.describe() == "L"


@pytest.fixture(scope="module")
def table():
    X, y, _ = interests(300, 0)
    X["item"] = X["item"].astype("Int64")
    X.loc[::9, "item"] = pd.NA
    X["x"] = np.random.default_rng(0).normal(size=len(X))
    X.loc[::5, "x"] = np.nan
    X["same"] = "one"
    return X, y


@pytest.mark.parametrize("members", [1, 2])
def test_model_files_and_onnx_serve_the_same(members, table, tmp_path):
    X, y = table
    network = DIN((8,), attention={"history": "item"}, normalize=None if members > 1 else "softmax")
    model = CTRClassifier(network=network, encoder=ENCODER, members=members, **SHORT).fit(X, y)
    p = model.predict_proba(X)
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X), p)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), p)
    np.testing.assert_allclose(exported(model, tmp_path)(X), p, rtol=1e-4, atol=1e-6)


def test_rows_alone_empty_lists_and_what_was_never_seen(table):
    X, y = table
    model = CTRClassifier(network="din", encoder=ENCODER, **SHORT).fit(X, y)
    check_odd_rows(model, X)
    empty = X.assign(history=[[] for _ in range(len(X))])
    assert np.isfinite(model.predict_proba(empty)).all()
    for rows_ in (X[:1], empty[:5], empty):
        model.partial_fit(rows_, y[: len(rows_)])
        assert np.isfinite(model.predict_proba(X)).all()
    # Never a list: only what says so is one.
    listed = FieldEncoder(
        sequence_features=["history"], shared_vocabularies={"history": "item"}, max_length=3
    )
    for size in (1, 2, 33):  # the last batch has one row
        options = {**SHORT, "batch_size": 32}
        fresh = RatingRegressor(network="din", encoder=listed, **options)
        assert np.isfinite(fresh.fit(empty[:size], y[:size]).predict(X[:50])).all()
    order = X.assign(history=X["history"].map(lambda items: [None, *items[:3], None]))
    cut = X.assign(history=X["history"].map(lambda items: items[:3]))
    np.testing.assert_array_equal(model.predict_proba(order), model.predict_proba(cut))


@pytest.mark.parametrize(
    "search", [PEP(), AutoDim((2, 8)), [AutoField(), PEP()], OptFS(), [AutoDim((2, 8)), AutoDis(6)]]
)
def test_searches_go_through(search, table, tmp_path):
    X, y = table
    model = CTRClassifier(network=NETWORK, search=search, encoder=ENCODER, **SHORT).fit(X, y)
    p = model.predict_proba(X)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)
    options = {**SHORT, "encoder": ENCODER}
    again = CTRClassifier.from_architecture(model.architecture_, **options).fit(X, y)
    assert again.architecture_ == model.architecture_
    if "embedding" in model.architecture_:
        sizes = model.embedding_sizes_
        fields = (
            getattr(model, "selected_fields_", [*sizes])
            if "gate" in model.architecture_
            else [*sizes]
        )
        if {"item", "history"} <= set(fields):
            np.testing.assert_array_equal(sizes["item"], sizes["history"])


def test_ratings_and_classes(table):
    X, y = table
    ratings = RatingRegressor(network=NETWORK, encoder=ENCODER, **SHORT).fit(X, y * 2.0)
    assert np.isfinite(ratings.predict(X)).all()
    three = CTRClassifier(network=NETWORK, encoder=ENCODER, **SHORT).fit(X, np.arange(len(X)) % 3)
    assert three.predict_proba(X).shape == (300, 3)
    with pytest.raises(ValueError, match="share the vocabulary of a list with a column"):
        CTRClassifier(network="din", **SHORT).fit(X, y)
