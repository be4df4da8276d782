"""Columns that share a vocabulary have one table, in every network and search and in every file."""

import inspect
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec._registry import METHODS as REGISTRY
from sklearn_autorec.base import networks_with_slot
from sklearn_autorec.feature_selection import OptFS
from sklearn_autorec.nn import Inputs
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

OPTIONS = {"embedding_dim": 4, "max_epochs": 2, "lr": 0.02, "device": "cpu", "random_state": 0}
# The column named first is in the middle of those that share.
SHARED = {"history": "item", "last_item": "item", "first_item": "item"}
GROUP = ("first_item", "item", "last_item", "history")
SEARCHES = {
    cls.__name__: cls
    for cls in REGISTRY.own().values()
    if getattr(cls, "slot", None) == "embedding" and not getattr(cls, "fit_only", ())
}


def table(n=300, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "first_item": rng.integers(0, 12, n),
            "shop": rng.choice(["a", "b", "c"], n),
            "price": rng.normal(size=n),
            "item": rng.geometric(0.2, n),
            "last_item": rng.integers(3, 18, n),
            "history": [rng.integers(0, 25, k).tolist() for k in rng.integers(0, 5, n)],
        }
    )
    return X, (X["item"] % 3 == X["last_item"] % 3).astype(int).to_numpy()


def check_embeddings(model, X):
    """What `get_embeddings` gives is what stands in the batches of the network."""
    encoded, module = model.encoder_.encode(X), model.net_.module_
    inputs = Inputs(*map(torch.from_numpy, (encoded.ids, encoded.numeric, encoded.sequences)))
    fields = range(len(model.encoder_.field_names_))
    if getattr(module, "selection", None) is not None:
        inputs, fields = module.selection(inputs), module.selection.fields
    with torch.no_grad():
        e = module.embedding(inputs).numpy()
    names = [model.encoder_.field_names_[f] for f in fields]
    dropped = {*model.encoder_.field_names_} - {*names} - {"price"}
    for column in dropped:
        with pytest.raises(ValueError, match="has dropped"):
            model.get_embeddings(column)
    for column in {"first_item", "item", "last_item", "shop"} - dropped:
        known = model.get_embeddings(column)
        vectors = known.reindex(X[column].to_numpy())
        unknown = vectors.isna().all(axis=1).to_numpy()
        vectors[unknown] = known.loc["<unknown>"].to_numpy()
        np.testing.assert_allclose(e[:, names.index(column)], vectors.to_numpy(), atol=1e-6)
    if "history" in dropped:
        return
    single = [k for k, cell in enumerate(X["history"]) if len(cell) == 1]
    vectors = model.get_embeddings("history").loc[[X["history"][k][0] for k in single]]
    np.testing.assert_allclose(e[single, -1], vectors.to_numpy(), atol=1e-6)


@pytest.mark.parametrize("name", [None, *SEARCHES])
def test_all_forms_of_tables_share_and_tell_their_vectors(name, tmp_path):
    X, y = table(200)
    cheap = {"RULE": {"n_evaluations": 20, "population": 5, "n_rescored": 1}}
    search = None if name is None else SEARCHES[name](**cheap.get(name, {}))
    options = {**OPTIONS, "max_epochs": 1, "network": "fm"}
    model = CTRClassifier(search=search, shared_vocabularies=SHARED, **options)
    model.fit(X, y)
    frames = [model.get_embeddings(column) for column in GROUP]
    assert frames[0].index[:2].tolist() == ["<missing>", "<unknown>"] and len(frames[0]) > 20
    for frame in frames[1:]:
        np.testing.assert_array_equal(frame, frames[0])
        assert frame.index.tolist() == frames[0].index.tolist()
    check_embeddings(model, X)
    if name is not None:
        sizes = model.embedding_sizes_
        for column in GROUP[1:]:
            np.testing.assert_array_equal(sizes[column], sizes["first_item"])
    p = model.predict_proba(X)
    save(model, tmp_path / "model")
    for again in (pickle.loads(pickle.dumps(model)), load(tmp_path / "model")):
        np.testing.assert_array_equal(again.predict_proba(X), p)
        np.testing.assert_array_equal(again.get_embeddings("last_item"), frames[0])
        assert again.nbytes_ == model.nbytes_


def test_bytes_count_once_and_alone_each_has_its_own():
    X, y = table()
    options = {"network": "fm", **OPTIONS}
    shared = CTRClassifier(shared_vocabularies=SHARED, **options).fit(X, y)
    n_ids = len(shared.get_embeddings("item")) + len(shared.get_embeddings("shop"))
    table_bytes = shared.net_.module_.embedding.weight.nbytes
    assert table_bytes == 4 * 4 * n_ids
    assert shared.encoder_.shared_fields_ == {0: 2, 3: 2, 5: 2}
    assert shared.compression_ratio_ == 1 and shared.nbytes_["embedding"] >= table_bytes
    alone = CTRClassifier(**options).fit(X, y)
    assert alone.encoder_.shared_fields_ == {}
    assert alone.net_.module_.embedding.weight.nbytes > 2 * table_bytes
    assert alone.get_embeddings("item").shape != alone.get_embeddings("last_item").shape
    with pytest.raises(ValueError, match="given with a frozen encoder"):
        frozen = FrozenEstimator(FieldEncoder().fit(X))
        CTRClassifier(encoder=frozen, shared_vocabularies=SHARED).fit(X, y)
    with pytest.raises(ValueError, match="give it in one of the two"):
        encoder = FieldEncoder(shared_vocabularies={"item": "first_item"})
        CTRClassifier(encoder=encoder, shared_vocabularies=SHARED).fit(X, y)
    encoder = FieldEncoder(shared_vocabularies=SHARED)
    by_encoder = CTRClassifier(encoder=encoder, **options).fit(X, y)
    np.testing.assert_array_equal(by_encoder.predict_proba(X), shared.predict_proba(X))


@pytest.mark.parametrize(
    "shared, owners",
    [
        ({"history": "liked"}, {"history": "liked"}),  # two lists
        ({"item": "history"}, {"history": "item"}),  # a column of ids has the vocabulary
        (
            {"item": "history", "first_item": "history"},
            {"item": "first_item", "history": "first_item"},
        ),
        ({"liked": "last_item", "history": "item"}, {"liked": "last_item", "history": "item"}),
    ],
)
def test_who_has_the_vocabulary(shared, owners):
    X, y = table(120)
    X["liked"] = X["history"].map(lambda cell: [*cell, 40])
    model = RatingRegressor(shared_vocabularies=shared, network="fwfm", **OPTIONS).fit(X, y)
    names = model.encoder_.field_names_
    found = {names[f]: names[owner] for f, owner in model.encoder_.shared_fields_.items()}
    assert found == owners
    for column, owner in owners.items():
        np.testing.assert_array_equal(model.get_embeddings(column), model.get_embeddings(owner))
    n_tables = len(model.net_.module_.embedding.field_sizes)
    assert n_tables == 6 - len(owners)
    assert model.get_embeddings("liked").index.isin([40]).any()


def test_values_that_a_search_drops_are_dropped_in_all():
    X, y = table(600)
    search = OptFS(0.3)
    model = CTRClassifier(network="fm", search=search, shared_vocabularies=SHARED, **OPTIONS)
    model.fit(X, y)
    kept = model.selected_values_
    columns = ["first_item", "item", "last_item"]
    assert 0 < len(kept["item"]) < len(model.encoder_.categories_[2])
    for column in columns:
        np.testing.assert_array_equal(kept[column], kept["item"])
    check_embeddings(model, X)
    again = CTRClassifier.from_architecture(
        model.architecture_, shared_vocabularies=SHARED, **OPTIONS
    )
    assert again.fit(X, y).selected_values_.keys() == kept.keys()


def pairs_of_items(n, seed, alike):
    """Two columns of the same items, those that are frequent in one being rare in the other; an
    item has an effect, the same in both if they are alike.
    """
    rng = np.random.default_rng(seed)
    effect = np.random.default_rng(7).normal(size=300) * 2
    common, rare = rng.integers(0, 300, n), rng.integers(0, 300, n)
    rare[rng.random(n) < 0.95] = 0  # the second column mostly holds one value
    X = pd.DataFrame({"bought": common, "viewed": rare})
    in_rare = effect if alike else effect[::-1]
    logit = effect[common] + np.where(rare > 0, in_rare[rare], 0)
    return X, (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int), rare > 0


@pytest.mark.parametrize("alike", [True, False])
def test_what_one_column_teaches_serves_the_other(alike):
    """Planted: the second column has too few rows of an item to learn its effect. Where items have
    other effects there than in the first column, sharing has nothing to give.
    """
    (X, y, _), (X_new, y_new, told) = (pairs_of_items(6000, seed, alike) for seed in (0, 1))
    encoder = FieldEncoder(categorical_features=["bought", "viewed"])
    options = {**OPTIONS, "max_epochs": 15, "embedding_l2": 0.001, "network": "lr"}

    def loss(**changes):
        model = CTRClassifier(**{**options, "encoder": encoder, **changes}).fit(X, y)
        return log_loss(y_new[told], model.predict_proba(X_new)[told, 1])

    shared, alone = loss(shared_vocabularies={"viewed": "bought"}), loss()
    assert shared < alone - 0.06 if alike else shared > alone - 0.02


def test_the_wide_part_and_trees_take_tables_that_share():
    X, y = table(300)
    model = CTRClassifier(shared_vocabularies=SHARED, max_epochs=2, random_state=0).fit(X, y)
    assert {*model.part_weights_} == {"network", "wide", "target_statistics"}
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("network", ["dcn", "ffm", "din", "lr"])
def test_members_and_networks(network):
    X, y = table(200)
    model = CTRClassifier(network=network, members=2, shared_vocabularies=SHARED, **OPTIONS)
    model.fit(X, y)
    if network == "lr":
        with pytest.raises(ValueError, match="no embedding tables"):
            model.get_embeddings("item")
        return
    frame = model.get_embeddings("item")
    assert frame.columns.nlevels == 2 and frame.columns.names == ["member", "dimension"]
    assert not np.allclose(frame[0], frame[1])
    np.testing.assert_array_equal(frame, model.get_embeddings("history"))


def test_which_columns_have_embeddings():
    X, y = table(200)
    X["sale"] = X["item"] % 2 == 0
    model = CTRClassifier(network="fm", **OPTIONS).fit(X, y)
    labels = model.get_embeddings("sale").index.tolist()
    assert labels[:2] == ["<missing>", "<unknown>"]
    assert {type(value) for value in labels[2:]} == {bool} and {*labels[2:]} == {True, False}
    assert model.get_embeddings("shop").index.name == "shop"
    np.testing.assert_array_equal(model.get_embeddings(1), model.get_embeddings("shop"))
    for column, told in (("price", "a column of numbers"), ("nothing", "no column of fit")):
        with pytest.raises(ValueError, match=told):
            model.get_embeddings(column)
    odd = X.assign(shop=np.where(X["shop"] == "a", "<missing>", X["shop"]))
    labels = CTRClassifier(network="fm", **OPTIONS).fit(odd, y).get_embeddings("shop").index
    assert labels[0] == "<missing>'" and "<missing>" in labels[2:]


def test_the_searches_are_all_there():
    assert len(SEARCHES) > 12 and all(inspect.isclass(cls) for cls in SEARCHES.values())
    assert "fm" in networks_with_slot("embedding")
