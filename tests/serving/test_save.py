"""Model files: what comes back, what is refused, what cannot run."""

import pickle

import numpy as np
import pandas as pd
import pytest
from save_cases import OPTIONS, SMALL
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from small_networks import told_small

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import known_networks
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim, EqualSize, MagnitudePruning, RandomSizes
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.networks import AutoInt, DeepFM
from sklearn_autorec.nn import FORMS
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save


def again(model, tmp_path):
    save(model, tmp_path / "model")
    return load(tmp_path / "model")


# what comes back
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", sorted(known_networks()))
def test_the_same_bits_come_back(clicks, tmp_path, network):
    X, y = clicks
    network = told_small(network, {"s0": "f1"})
    model = CTRClassifier(network=network, **OPTIONS).fit(X, y)
    loaded = again(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert repr(loaded.get_params()) == repr(model.get_params())
    assert loaded.history_ == model.history_
    assert loaded.nbytes_ == model.nbytes_ and loaded.n_iter_ == 1
    assert not loaded.net_.module_.training and loaded.feature_names_in_.tolist() == list(X.columns)


@pytest.mark.parametrize("network", [SMALL, AutoInt(hidden_units=(8,))])
def test_training_goes_on_as_after_a_pickle(clicks, tmp_path, network):
    X, y = clicks
    model = CTRClassifier(network=network, **OPTIONS).fit(X, y)
    loaded, unpickled = again(model, tmp_path), pickle.loads(pickle.dumps(model))
    for m in (loaded, unpickled):
        m.partial_fit(X, y).partial_fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), unpickled.predict_proba(X))
    assert (loaded.predict_proba(X) != model.predict_proba(X)).any()
    np.testing.assert_array_equal(clone(loaded).fit(X, y).predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(loaded)).predict_proba(X), loaded.predict_proba(X)
    )


@pytest.mark.parametrize(
    "search",
    [
        AutoFIS(threshold=0.3),
        AutoFIS(orders=(2, 3), threshold=0.3),
        [RandomInteractions()],
        AutoFIS(max_interactions=0),
    ],
)
def test_searched_networks(clicks, tmp_path, search):
    X, y = clicks
    model = CTRClassifier(network=SMALL, search=search, **OPTIONS).fit(X, y)
    loaded = again(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert (
        loaded.interactions_ == model.interactions_
        and loaded.interaction_scores_ == model.interaction_scores_
    )
    assert (
        loaded.architecture_ == model.architecture_
        and loaded.search_history_ == model.search_history_
    )


@pytest.mark.parametrize(
    "labels", [["no", "yes"], [-1, 1], [False, True], [0.0, 1.0], ["a", "b", "cc"], ["only"]]
)
@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_labels_of_any_kind(clicks, tmp_path, labels):
    X, _ = clicks
    y = np.array(labels)[X["f0"] % len(labels)]
    for labelled in (y, y.astype(object)) if isinstance(labels[0], str) else (y,):
        model = CTRClassifier(network="fm", **OPTIONS).fit(X, labelled)
        loaded = again(model, tmp_path)
        assert loaded.classes_.tolist() == labels and loaded.classes_.dtype == model.classes_.dtype
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_ratings_and_lazy_tables(clicks, tmp_path):
    X, _ = clicks
    X = X.assign(many=[f"value {i}" for i in range(len(X))])
    model = RatingRegressor(network="fm", batch_size=2, **OPTIONS).fit(X, X["f0"] + 1.5)
    assert model.net_.module_.embedding.sparse
    loaded = again(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.net_.module_.embedding.sparse


@pytest.mark.parametrize(
    "encoder",
    [
        FieldEncoder(hash_threshold=3, n_hash_buckets=5, numeric=None),
        FieldEncoder(
            categorical_features=["f0", "f1"],
            min_frequency=0.01,
            max_length=3,
            numeric="log_square",
        ),
        FieldEncoder(
            categorical_features=np.array([True] * 4 + [False] * 2),
            max_categories=2,
            numeric="standard",
        ),
    ],
)
def test_encoders(clicks, tmp_path, encoder):
    X, y = clicks
    X = (
        X.assign(**{c: X[c].fillna("v0").str[1:].astype(int) for c in ("f2", "f3")})
        if encoder.max_length == 3
        else X
    )
    encoder = clone(encoder).fit(X[:300])
    loaded = again(encoder, tmp_path)
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))
    for e in (encoder, loaded):
        e.partial_fit(X[300:])
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))
    model = CTRClassifier(network="fm", encoder=FrozenEstimator(encoder), **OPTIONS).fit(X, y)
    np.testing.assert_array_equal(again(model, tmp_path).predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("columns", ["numbered", "arrays", "lists of text"])
def test_tables_of_other_kinds(tmp_path, columns):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, (60, 3)).astype(object)
    X[:, 0] = [["1.0", "é", "\ud800" if columns == "arrays" else "", "x"][k] for k in X[:, 0]]
    if columns == "numbered":
        X = pd.DataFrame(X, columns=[3, 7, 11])
    encoder = FieldEncoder()
    if columns == "lists of text":
        X = pd.DataFrame({"g": ["|".join("abc"[: k % 4]) for k in range(60)], "h": 0.5})
        encoder = FieldEncoder(sequence_features={"g": "|"})
    encoder.fit(X)
    np.testing.assert_array_equal(again(encoder, tmp_path).transform(X), encoder.transform(X))


def steps(clicks):
    X, y = clicks
    numbers = X[["f0", "x0"]].assign(z=np.arange(len(X)) % 3 * 1.5)
    words = X[["f1", "f2"]]
    many = {"handle_unknown": "ignore", "min_frequency": 60, "max_categories": 4}
    mixed = ColumnTransformer(
        [
            (
                "one",
                OneHotEncoder(
                    handle_unknown="infrequent_if_exist", min_frequency=60, sparse_output=False
                ),
                ["f1"],
            ),
            (
                "two",
                make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OrdinalEncoder()),
                ["f2"],
            ),
            ("three", FunctionTransformer(), ["f0"]),
            ("gone", "drop", ["f3"]),
            ("rest", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["x0"]),
        ],
        remainder="drop",
    )
    by_place = ColumnTransformer(
        [
            ("a", OneHotEncoder(drop="if_binary", sparse_output=False), slice(0, 1)),
            ("b", OrdinalEncoder(), [1]),
        ]
    )
    rating = RatingRegressor(network="fm", **OPTIONS)
    click = CTRClassifier(network="fm", **OPTIONS)
    return {
        "scaled": (
            make_pipeline(SimpleImputer(), MinMaxScaler(), VarianceThreshold(0.01), rating),
            numbers,
        ),
        "mixed": (Pipeline([("c", mixed), ("l", LogisticRegression())]), X),
        "pandas": (make_pipeline(mixed, "passthrough", click).set_output(transform="pandas"), X),
        "by place": (Pipeline([("c", by_place), ("m", click)]), words),
        "remainder": (
            make_pipeline(
                ColumnTransformer([("o", "drop", ["f0"])], remainder="passthrough"), click
            ),
            X,
        ),
        "ordinal": (
            make_pipeline(
                OrdinalEncoder(
                    handle_unknown="use_encoded_value",
                    unknown_value=-1,
                    encoded_missing_value=-2,
                    dtype=np.int32,
                ),
                click,
            ),
            words,
        ),
        "sparse": (
            make_pipeline(
                OneHotEncoder(**many), LogisticRegression(random_state=np.random.RandomState(3))
            ),
            words,
        ),
        "frozen": (make_pipeline(FrozenEstimator(StandardScaler().fit(numbers)), click), numbers),
        "function": (
            make_pipeline(
                FunctionTransformer(),
                SimpleImputer(missing_values=pd.NA, strategy="most_frequent"),
                click,
            ),
            words,
        ),
    }


@pytest.mark.parametrize(
    "name",
    [
        "scaled",
        "mixed",
        "pandas",
        "by place",
        "remainder",
        "ordinal",
        "sparse",
        "frozen",
        "function",
    ],
)
def test_pipelines(clicks, tmp_path, name):
    pipeline, X = steps(clicks)[name]
    y = clicks[1]
    pipeline = clone(pipeline).fit(X, y)
    loaded = again(pipeline, tmp_path)
    method = "predict_proba" if hasattr(pipeline, "predict_proba") else "predict"
    found = getattr(loaded, method)(X)
    np.testing.assert_array_equal(found, getattr(pipeline, method)(X))
    assert found.std() > 0
    clone(loaded).fit(X, y)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_packed_tables(visits, pruned, tmp_path, form):
    X, y = visits
    model = pruned[form]
    loaded = again(model, tmp_path)
    table = loaded.net_.module_.embedding
    assert type(table) is FORMS[form] and loaded.nbytes_ == model.nbytes_
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(table.mask(), model.net_.module_.embedding.mask())
    assert loaded.architecture_ == model.architecture_
    assert loaded.compression_ratio_ == model.compression_ratio_
    copy = pickle.loads(pickle.dumps(model))
    for m in (loaded, copy):
        m.partial_fit(X, y)
    np.testing.assert_array_equal(loaded.predict_proba(X), copy.predict_proba(X))
    assert (loaded.predict_proba(X) != model.predict_proba(X)).any()
    # Training goes on without what is pruned.
    np.testing.assert_array_equal(table.mask(), model.net_.module_.embedding.mask())


@pytest.mark.parametrize(
    "search",
    [
        PEP(target_sparsity=0.9),
        PEP(target_sparsity=1.0),
        MagnitudePruning(target_sparsity=0.3),
        AutoDim(candidates=(0, 1, 4)),
        EqualSize(2),
        RandomSizes(candidates=(0, 1, 3, 4)),
        [RandomSizes(candidates=(2, 4)), AutoFIS(threshold=0.3)],
    ],
    ids=repr,
)
@pytest.mark.parametrize("network", [SMALL, AutoInt(hidden_units=(8,))], ids=["deepfm", "autoint"])
def test_searched_embeddings(clicks, tmp_path, network, search):
    X, y = clicks
    if isinstance(search, list) and network is not SMALL:
        search = search[0]
    model = CTRClassifier(network=network, search=search, **OPTIONS).fit(X, y)
    loaded = again(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.architecture_ == model.architecture_ and loaded.nbytes_ == model.nbytes_
    assert loaded.embedding_sizes_.keys() == model.embedding_sizes_.keys()
    for name, size in model.embedding_sizes_.items():
        np.testing.assert_array_equal(loaded.embedding_sizes_[name], size)
    rebuilt = CTRClassifier.from_architecture(loaded.architecture_, **OPTIONS).fit(X, y)
    assert (
        rebuilt.nbytes_["total"] > 0
        and rebuilt.architecture_["embedding"] == model.architecture_["embedding"]
    )


def test_tables_of_numbers_alone(clicks, tmp_path):
    X, y = clicks
    for search in (MagnitudePruning(), AutoDim(candidates=(2,))):
        model = CTRClassifier(network="fm", search=search, **OPTIONS).fit(X[["x0"]], y)
        loaded = again(model, tmp_path)
        np.testing.assert_array_equal(
            loaded.predict_proba(X[["x0"]]), model.predict_proba(X[["x0"]])
        )
        assert loaded.architecture_ == model.architecture_


@pytest.mark.parametrize(
    "search", [PEP(target_sparsity=0.95), EqualSize(2), MagnitudePruning(target_sparsity=0.5)]
)
def test_files_of_small_embeddings_are_small(tmp_path, search):
    X, y, _ = make_ctr(15_000, n_fields=6, cardinality=3000, random_state=0)
    options = OPTIONS | {"embedding_dim": 16, "batch_size": 1024}
    model = CTRClassifier(network="fm", search=search, **options).fit(X, y)
    save(model, tmp_path / "model")
    size = (tmp_path / "model").stat().st_size
    vocabulary = sum(len("".join(c)) + 3 * len(c) + 4 for c in model.encoder_.categories_)
    assert max(size, len(pickle.dumps(model))) <= 1.05 * model.nbytes_["total"] + 2**16 + vocabulary
    rows = sum(model.encoder_.n_ids_)
    # Of the whole table and the first-order term.
    assert 4 * rows * 17 > 2**19 and size < 0.75 * 4 * rows * 17


def test_files_are_small(tmp_path):
    X, y, _ = make_ctr(15_000, n_fields=6, cardinality=3000, random_state=0)
    model = CTRClassifier(
        network=DeepFM(hidden_units=(512,)), max_epochs=1, random_state=0, device="cpu"
    ).fit(X, y)
    save(model, tmp_path / "model")
    vocabulary = sum(len("".join(c)) + 3 * len(c) + 4 for c in model.encoder_.categories_)
    assert model.nbytes_["total"] > 2**20
    assert (
        model.nbytes_["total"]
        < (tmp_path / "model").stat().st_size
        <= 1.05 * model.nbytes_["total"] + 2**16 + vocabulary
    )


def test_a_failed_save_leaves_the_old_file(clicks, tmp_path, monkeypatch):
    X, y = clicks
    path = tmp_path / "model"
    path.write_text("old")
    model = CTRClassifier(network="fm", **OPTIONS).fit(X, y)

    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr("sklearn_autorec.serving._container.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        save(model, path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
