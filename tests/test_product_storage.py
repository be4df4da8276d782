"""Fitted estimators whose tables are stored as codes of centroids."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from onnx_graphs import exported
from sklearn.metrics import log_loss, roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor, embedding
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import ANT, MDE, PEP, RULE, EqualSize, MagnitudePruning
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.nn import QuantizedTable, in_float32
from sklearn_autorec.nn._product import product_bytes
from sklearn_autorec.serving import _model, load, save

OPTIONS = {"network": "fm", "embedding_dim": 8, "max_epochs": 1, "lr": 0.02, "random_state": 0}
WITHOUT_BUDGET = ("AMTL", "AutoDim", "AutoDis", "AutoEmb", "ESAPN", "EqualSize", "RandomSizes")


@pytest.fixture(scope="module")
def clicks():
    """Two columns of enough values, a list, a column of few and a number."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({name: rng.integers(0, 200, 600).astype(str) for name in ("user", "item")})
    X["tags"] = [list(rng.integers(0, 150, n).astype(str)) for n in rng.integers(1, 4, 600)]
    X["shop"] = rng.integers(0, 9, 600).astype(str)
    X["price"] = rng.normal(size=600)
    return X, rng.integers(0, 2, 600)


def fitted(table, **options):
    return CTRClassifier(**{**OPTIONS, "storage": "pq", **options}).fit(*table)


@pytest.fixture(scope="module")
def small(clicks):
    return fitted(clicks)


def in_codes(model):
    """The tables of a model that are stored in codes."""
    tables = [m for m in model.net_.module_.modules() if isinstance(m, QuantizedTable)]
    return [table for table in tables if "pq" in table.codes.kinds]


def outputs(model, X):
    return model.predict_proba(X)[:, 1]


def with_dense_tables(model):
    """The same model, its tables as they read in plain float32."""
    twin = copy.deepcopy(model)
    in_float32(twin.net_.module_)
    return twin


def test_bytes_are_those_of_codes_and_centroids(clicks, small):
    sizes = dict(zip(small.encoder_.field_names_, small.encoder_.n_ids_, strict=False))
    sizes["tags"] = small.encoder_.sequence_n_ids_[0]
    plain = fitted(clicks, storage=None)
    of_numbers = plain.nbytes_["embedding"] - 4 * 8 * sum(sizes.values())
    codes = sum(product_bytes(sizes[name], 8) for name in ("user", "item", "tags"))
    assert small.nbytes_["embedding"] == codes + 2 * 8 * sizes["shop"] + of_numbers // 2
    assert small.nbytes_["network"] == plain.nbytes_["network"]
    assert small.nbytes_["index"] == plain.nbytes_["index"]


def test_files_and_pickles_hold_the_codes(clicks, small, tmp_path):
    X, _ = clicks
    found = outputs(small, X)
    np.testing.assert_array_equal(outputs(pickle.loads(pickle.dumps(small)), X), found)
    save(small, tmp_path / "small")
    again = load(tmp_path / "small")
    assert in_codes(again) and again.nbytes_ == small.nbytes_
    np.testing.assert_array_equal(outputs(again, X), found)
    plain = fitted(clicks, storage=None)
    save(plain, tmp_path / "plain")
    sizes = [(tmp_path / name).stat().st_size for name in ("plain", "small")]
    assert sizes[0] - sizes[1] > plain.nbytes_["total"] - small.nbytes_["total"] - 1300


@pytest.mark.parametrize("name", [None, *WITHOUT_BUDGET])
def test_methods_of_vectors_compose(name, clicks, tmp_path):
    X, _ = clicks
    search = None if name is None else getattr(embedding, name)()
    model = fitted(clicks, search=search)
    assert in_codes(model)
    np.testing.assert_allclose(outputs(model, X), outputs(with_dense_tables(model), X), atol=1e-6)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(outputs(load(tmp_path / "model"), X), outputs(model, X))


@pytest.mark.parametrize(
    "options", [{"members": 2}, {"network": "ffm"}, {"network": "deepfm"}, {"embedding_dim": 6}]
)
def test_networks_compose(options, clicks):
    X, _ = clicks
    model = fitted(clicks, **options)
    assert in_codes(model)
    np.testing.assert_allclose(outputs(model, X), outputs(with_dense_tables(model), X), atol=1e-6)


def test_columns_have_storages_of_their_own(clicks):
    model = fitted(clicks, storage={"user": "pq", "item": "int8"})
    (table,) = in_codes(model)
    assert sorted(table.codes.kinds) == ["float32", "int8", "pq"]


def test_ratings_are_stored_alike():
    X, y, _ = make_ctr(500, n_fields=2, cardinality=150, pairs=1, task="rating", random_state=0)
    model = RatingRegressor(**OPTIONS, storage="pq").fit(X, y)
    assert in_codes(model)
    np.testing.assert_allclose(model.predict(X), with_dense_tables(model).predict(X), atol=1e-5)


def test_what_was_found_with_a_budget_can_be_trained_again(clicks):
    """The architecture has its sizes already; nothing is left to count."""
    first = fitted(clicks, search=MDE(budget=0.5), storage=None)
    again = CTRClassifier.from_architecture(
        first.architecture_, max_epochs=1, random_state=0, storage="pq"
    ).fit(*clicks)
    assert in_codes(again) and again.embedding_sizes_ == first.embedding_sizes_


@pytest.mark.parametrize("seed", range(2))
def test_what_is_predicted_hardly_changes_and_codes_matter(seed):
    rng = np.random.default_rng(seed)
    X, taste = rng.integers(0, 150, (6000, 2)), rng.choice([-1, 1], (2, 150))
    y = rng.random(6000) < 1 / (1 + np.exp(-3 * taste[0][X[:, 0]] * taste[1][X[:, 1]]))
    X = pd.DataFrame(X.astype(str), columns=["user", "item"])
    rows, test = (X[:5000], y[:5000]), (X[5000:], y[5000:])
    longer = {"max_epochs": 3, "embedding_init": 0.1, "early_stopping": False}
    plain, model = fitted(rows, storage=None, **longer), fitted(rows, **longer)
    (table,) = in_codes(model)
    losses = [log_loss(test[1], outputs(own, test[0])) for own in (plain, model)]
    assert roc_auc_score(test[1], outputs(plain, test[0])) > 0.8
    assert losses[1] < losses[0] + 0.01, losses
    codes = table.codes.pq.codes.data
    shuffled = torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))
    codes.copy_(codes[shuffled].clone())
    assert log_loss(test[1], outputs(model, test[0])) > losses[1] + 0.1


# Going on
# ---------------------------------------------------------------------------------------------


def test_training_goes_on_from_the_tables_as_they_were_trained(clicks):
    X, y = clicks
    models = {s: CTRClassifier(**OPTIONS, storage=s) for s in (None, "pq")}
    for model in models.values():
        for _ in range(2):
            model.partial_fit(X, y, classes=[0, 1])
    again = pickle.loads(pickle.dumps(models["pq"]))
    for model in (*models.values(), again):
        model.partial_fit(X, y)
    assert in_codes(again)
    np.testing.assert_array_equal(outputs(models["pq"], X), outputs(again, X))
    trained = dict(models[None].net_.module_.named_parameters())
    for name, table in models["pq"]._trained_tables.items():
        np.testing.assert_array_equal(table.detach().numpy(), trained[name].detach().numpy())


def test_a_warm_start_goes_on(clicks):
    X, y = clicks
    options = {"warm_start": True, "early_stopping": False}
    small, plain = (fitted(clicks, storage=s, **options) for s in ("pq", None))
    for model in (small, plain):
        model.set_params(max_epochs=2).fit(X, y)
    assert small.n_iter_ == 2 and in_codes(small)
    for name, table in small._trained_tables.items():
        kept = dict(plain.net_.module_.named_parameters())[name]
        np.testing.assert_array_equal(table.detach().numpy(), kept.detach().numpy())


def test_a_model_file_goes_on_from_what_is_read(clicks, small, tmp_path):
    X, y = clicks
    save(small, tmp_path / "model")
    read = load(tmp_path / "model").partial_fit(X, y)
    assert in_codes(read) and not np.array_equal(outputs(read, X), outputs(small, X))


# Files and graphs
# ---------------------------------------------------------------------------------------------


TABLE = "embedding.weight"


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda e: e.pop("books"), "books"),
        (lambda e: e.update(books=3), "books"),
        (lambda e: e["books"][0].__setitem__(0, 65), "books"),
        (lambda e: e["books"][0].__setitem__(0, True), "books"),
        (lambda e: e["books"][0].__setitem__(1, 10**9), "books"),
        (lambda e: e["books"][0].__setitem__(0, 63), "centroids"),
        (lambda e: e["shape"].__setitem__(1, 12), "shape"),
        (lambda e: e.update(shape=[e["shape"][0] * 8]), "shape"),
    ],
)
def test_other_words_than_the_arrays_have_are_refused(
    change, message, small, tmp_path, monkeypatch
):
    describe = _model.described_storage

    def changed(module):
        told = copy.deepcopy(describe(module))
        change(told[TABLE])
        return told

    monkeypatch.setattr(_model, "described_storage", changed)
    with pytest.raises(ValueError, match=message):
        save(small, tmp_path / "model")


def test_codes_of_no_centroid_are_refused(small, tmp_path):
    forged = copy.deepcopy(small)
    (table,) = in_codes(forged)
    table.codes.pq.codes.data[5, 1] = 64
    with pytest.raises(ValueError, match="must be below 64"):
        save(forged, tmp_path / "model")


@pytest.mark.parametrize(
    "search, storage",
    [(None, {"user": "pq", "item": "int8"}), (EqualSize(6), "pq")],
    ids=["by column", "of a width"],
)
def test_graphs_hold_the_codes(search, storage, clicks, tmp_path):
    X, _ = clicks
    model = fitted(clicks, search=search, storage=storage)
    found = exported(model, tmp_path)(X[:50])
    np.testing.assert_allclose(found, model.predict_proba(X[:50]), atol=1e-6)
    import onnx

    graph = onnx.load(tmp_path / "model.onnx").graph
    shapes = {tuple(t.dims) for t in graph.initializer if t.data_type == onnx.TensorProto.UINT8}
    assert {tuple(table.codes.pq.codes.shape) for table in in_codes(model)} <= shapes


# Refusals
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["pq", {"user": "pq"}])
@pytest.mark.parametrize(
    "options, message",
    [
        ({"search": PEP()}, r"storage=.* cannot be combined with search=PEP\(\)"),
        ({"search": [AutoFIS(), MagnitudePruning(0.5)]}, "cannot be combined with search=Magni"),
        ({"search": ANT()}, "cannot be combined with search=ANT"),
        ({"search": RULE()}, "cannot be combined with search=RULE"),
        ({"search": MDE()}, r"storage=.* cannot be combined with budget=0.5 of MDE"),
        ({"search": EqualSize(budget=0.5)}, "cannot be combined with budget=0.5 of EqualSize"),
        ({"quantization_aware": True}, "quantization_aware=True cannot be combined with storage="),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(options, message, storage, clicks):
    with pytest.raises(ValueError, match=message):
        fitted(clicks, **{"storage": storage, **options})


def test_a_pruned_architecture_is_refused_as_well(clicks):
    first = fitted(clicks, search=MagnitudePruning(0.5), storage=None)
    with pytest.raises(ValueError, match="stored number by number"):
        CTRClassifier.from_architecture(first.architecture_, storage="pq").fit(*clicks)
