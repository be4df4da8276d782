"""Model files: what comes back, what is refused, what cannot run."""

import ast
import hashlib
import json
import pickle
import resource
import struct
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
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
from small_tables import mixed_clicks

import sklearn_autorec.serving
from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture, known_networks
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim, EqualSize, MagnitudePruning, RandomSizes
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.networks import DIN, FM, AutoInt, DeepFM
from sklearn_autorec.nn import FORMS, mask_to_text
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._container import VERSION, pack, unpack
from sklearn_autorec.serving._save import _loads

OPTIONS = {"embedding_dim": 4, "max_epochs": 1, "random_state": 0, "device": "cpu"}
SMALL = DeepFM(hidden_units=(8,))


@pytest.fixture(scope="module")
def clicks(clicks_with_gaps):
    return clicks_with_gaps(500)


@pytest.fixture(scope="module")
def data(clicks, tmp_path_factory):
    """The bytes of a small model's file."""
    path = tmp_path_factory.mktemp("data") / "model"
    save(CTRClassifier(network=SMALL, search=AutoFIS(threshold=0.3), **OPTIONS).fit(*clicks), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def visits():
    """Rows with enough values that every form of packed table can pay."""
    return mixed_clicks(1000, n_fields=3, pairs=2, cardinality=100, n_numeric=2)


@pytest.fixture(scope="module")
def pruned(visits):
    """By form of its packed table: a fitted model, 12 columns wide."""
    X, y = visits
    encoder = FieldEncoder().fit(X)
    sizes, d = [*encoder.n_ids_, *encoder.sequence_n_ids_], 12
    rng = np.random.default_rng(0)
    field = np.repeat(np.arange(len(sizes)), sizes)
    number = np.concatenate([np.arange(n) for n in sizes])
    masks = {
        "dense": np.ones((sum(sizes), d), bool),
        "columns": np.array(
            [[True] * 5 + [False] * 7, [False] * 12, [False, True] * 6, [True] * 12]
        )[field],
        "prefixes": np.arange(d) < 12 - np.ceil(np.log2(number + 1))[:, None],
        "sparse": rng.random((sum(sizes), d)) < 0.05,
        "bits": rng.random((sum(sizes), d)) < 0.4,
    }
    assert len(sizes) == 4
    models = {}
    for form, mask in masks.items():
        search = FixedArchitecture({"method": "PEP", "params": {}, "mask": mask_to_text(mask)})
        models[form] = CTRClassifier(
            network="fm", search=search, **OPTIONS | {"embedding_dim": d}
        ).fit(X, y)
        assert models[form].net_.module_.embedding.form == form
        np.testing.assert_array_equal(models[form].net_.module_.embedding.mask(), mask)
    return models


@pytest.fixture(scope="module")
def pruned_files(pruned, tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "model"
    files = {}
    for form, model in pruned.items():
        save(model, path)
        files[form] = path.read_bytes()
    return files


def again(model, tmp_path):
    save(model, tmp_path / "model")
    return load(tmp_path / "model")


def forged(data, change):
    """The file with a changed header or changed arrays, and a checksum that fits."""
    model, arrays = unpack(data)
    arrays = [a.copy() for a in arrays]
    change(model, arrays)
    return b"".join(bytes(part) for part in pack(model, arrays))


def state(node, *path):
    """A value inside the header: names lead into parameters, state and dicts."""
    for name in path:
        if node.get("kind") == "dict":
            (node,) = (v for k, v in node["items"] if k == name)
        else:
            node = (node["state"] if name in (node["state"] or ()) else node["params"])[name]
    return node


# what comes back
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", sorted(known_networks()))
def test_the_same_bits_come_back(clicks, tmp_path, network):
    X, y = clicks
    network = DIN(attention={"s0": "f1"}) if network == "din" else network
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


# what cannot be saved
# --------------------------------------------------------------------------------------


class OwnNetwork(FM):
    pass


class OwnEncoder(FieldEncoder):
    pass


def test_objects_of_other_classes_are_named(clicks, tmp_path):
    X, y = clicks
    numbers = X[["f0"]]
    with pytest.raises(
        TypeError, match=r"'cluster'.*KMeans.*Allowed are.*CTRClassifier.*StandardScaler"
    ):
        save(
            Pipeline([("s", StandardScaler()), ("cluster", KMeans(2, random_state=0))]).fit(
                numbers
            ),
            tmp_path / "m",
        )
    with pytest.raises(TypeError, match=r"CTRClassifier.network is OwnNetwork\(\)"):
        save(CTRClassifier(network=OwnNetwork(), **OPTIONS).fit(X, y), tmp_path / "m")
    with pytest.raises(TypeError, match="OwnEncoder"):
        save(CTRClassifier(network="fm", encoder=OwnEncoder(), **OPTIONS).fit(X, y), tmp_path / "m")
    with pytest.raises(TypeError, match="FunctionTransformer with a function"):
        save(make_pipeline(FunctionTransformer(np.log1p)).fit(numbers), tmp_path / "m")
    with pytest.raises(TypeError, match="memory"):
        save(
            Pipeline([("s", StandardScaler())], memory=str(tmp_path / "cache")).fit(numbers),
            tmp_path / "m",
        )
    scaler = StandardScaler().fit(numbers)
    scaler.note = lambda: 1
    with pytest.raises(TypeError, match="note"):
        save(scaler, tmp_path / "m")
    with pytest.raises(TypeError, match="fitted estimator, got"):
        save({"a": 1}, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_models_not_fitted(tmp_path):
    for model in (
        CTRClassifier(),
        FieldEncoder(),
        make_pipeline(StandardScaler(), CTRClassifier()),
    ):
        with pytest.raises(NotFittedError):
            save(model, tmp_path / "m")


@pytest.mark.parametrize(
    "change",
    [{"network": "fm"}, {"embedding_dim": 5}, {"search": None}, {"search": PEP()}, {"lr": 0.5}],
)
def test_parameters_for_the_next_fit_do_not_matter(clicks, tmp_path, change):
    X, y = clicks
    model = CTRClassifier(network=SMALL, search=AutoFIS(threshold=0.3), **OPTIONS).fit(X, y)
    expected = model.predict_proba(X)
    loaded = again(model.set_params(**change), tmp_path)
    np.testing.assert_array_equal(loaded.predict_proba(X), expected)
    (name,) = change
    assert repr(loaded.get_params(deep=False)[name]) == repr(change[name])


def test_models_that_could_not_be_loaded_are_not_saved(clicks, tmp_path):
    X, y = clicks
    model = CTRClassifier(network=SMALL, **OPTIONS).fit(X, y)
    for broken in (
        pickle.loads(pickle.dumps(model)).set_params(lr=-1),
        pickle.loads(pickle.dumps(model)),
    ):
        if broken.lr is None:
            broken.net_.module_.linear = torch.nn.Linear(2, 3)
        with pytest.raises(ValueError, match="changed after fit"):
            save(broken, tmp_path / "m")
    assert not (tmp_path / "m").exists()


# what is refused
# -------------------------------------------------------------------------------------------


def test_damage_is_noticed(data, tmp_path):
    for broken, message in [
        (b"", "not a file written by"),
        (b"PK\x03\x04" + data[4:], "not a file written by"),
        (data[:60], "cut"),
        (data[:-1], "checksum"),
        (data + b"\0", "checksum"),
        (data[:-1] + bytes([data[-1] ^ 1]), "checksum"),
    ]:
        (tmp_path / "m").write_bytes(broken)
        with pytest.raises(ModelFileError, match=message):
            load(tmp_path / "m")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none")
    with pytest.raises(ModelFileError, match="regular file"):
        load("/dev/zero")


def test_other_versions(data):
    newer = data[:8] + struct.pack("<H", VERSION[0] + 1) + data[10:]
    with pytest.raises(
        ModelFileError,
        match=rf"version {VERSION[0] + 1}\.0, this sklearn-autorec reads {VERSION[0]}\.x; install "
        rf"a newer",
    ):
        _loads(newer)


@pytest.mark.parametrize(
    "text, message",
    [
        (b"[" * 10_000, "nested too deeply"),
        (b'{"arrays":[],"model":' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper"),
        (b'{"arrays":[],"model":' + b"9" * 5000 + b"}", "5000 digits"),
        (b'{"arrays":[],"model":NaN}', "number NaN"),
        (b'{"arrays":[],"arrays":[],"model":1}', "repeated name"),
        (b'{"arrays":[]}', "must hold"),
        (b"\xff\xfe", "not JSON"),
        (b'{"arrays":[["<f4",[1000000000000]]],"model":1}', "does not fit"),
        (
            b'{"arrays":[["<f4",[4611686018427387903,4611686018427387903]]],"model":1}',
            "does not fit",
        ),
        (b'{"arrays":[["|O",[1]]],"model":1}', "known dtype"),
        (b'{"arrays":[["<f4",[-1]]],"model":1}', "list of sizes"),
        (b'{"arrays":[],"model":1}', "no estimator"),
        (b'{"arrays":[],"model":{"kind":"function"}}', "kind"),
    ],
)
def test_malformed_headers(data, text, message):
    start = data[:12] + struct.pack("<Q", len(text))
    with pytest.raises(ModelFileError, match=message):
        _loads(start + hashlib.sha256(start + text).digest() + text)


def edit(*path, key=None, value=None):
    """A change of one value of the header."""

    def change(model, arrays):
        *above, last = path
        node = state(model, *above)
        if node.get("kind") == "dict":
            (pair,) = (pair for pair in node["items"] if pair[0] == last)
            pair[1] = value
        else:
            place = node["state"] if last in (node["state"] or ()) else node["params"]
            place[last] = value

    return change


def dicts(**items):
    return {"kind": "dict", "items": [list(pair) for pair in items.items()]}


NETWORK = ("architecture", "network")


@pytest.mark.parametrize(
    "change, message",
    [
        (edit(*NETWORK, "params", "hidden_units", value=[10**9]), "at most 1000000"),
        (edit(*NETWORK, "params", "hidden_units", value=[10**6] * 3), "more memory"),
        (edit(*NETWORK, "params", "hidden_units", value=[1] * 50_000), "more memory"),
        (edit(*NETWORK, "params", "hidden_units", value=[9]), "must be float32 of shape"),
        (edit(*NETWORK, "params", "hidden_units", value=0.5), "hidden_units"),
        (edit(*NETWORK, "params", value=dicts(sizes=3)), "cannot be made of"),
        (edit(*NETWORK, "network", value="nothing"),
            "class of sklearn_autorec"),
        (edit(*NETWORK, "network", value="OwnNetwork"), "class of sklearn_autorec"),
        (edit(*NETWORK, "network", value=[]), "class of sklearn_autorec"),
        (edit(*NETWORK, value=dicts(network="FM", params=dicts())), "on one side only"),
        (edit(*NETWORK, value="FM"), "class of sklearn_autorec"),
        (edit("architecture", "interaction", "method", value="FixedArchitecture"),
            "class of sklearn_autorec"),
        (edit("architecture", "interaction", "method", value="nothing"),
            "class of sklearn_autorec"),
        (edit("architecture", "interaction", "method", value="AutoDim"), "cannot be made of"),
        (edit("architecture", "interaction", value=dicts(method="AutoDim", params=dicts())),
            "one for this slot"),
        (edit("architecture", "interaction", "params", "threshold", value=-1), "threshold"),
        (edit("architecture", "interaction", value=5), "class of sklearn_autorec"),
        (edit("architecture", value=dicts(other=5)), "a dict by slot"),
        (edit("architecture", value=dicts()), "class of sklearn_autorec"),
        (edit("architecture", "embedding_dim", value=10**12), "embedding_dim must be at most"),
        (edit("architecture", "embedding_dim", value=2**17), "embedding_dim must be at most"),
        (edit("architecture", "embedding_dim", value=5), "must be float32 of shape"),
        (edit("architecture", "embedding_dim", value=0), "embedding_dim"),
        (edit("embedding_dim", value=0), "embedding_dim"),
        (edit("network", value=5), "network"),
        (edit("encoder", "max_length", value=10**9), "max_length"),
        (edit("architecture", "interaction", "interactions", value=[[0, 99]]), "below 6"),
        (edit("architecture", "interaction", "interactions", value=[[-1, 2]]), "rising fields"),
        (edit("architecture", "interaction", "interactions", value=[[0, 1.5]]),
            "two or three ints"),
        (edit("architecture", "interaction", "interactions", value=[]), "must be float32 of shape"),
        (edit("architecture", "interaction", "scores", value=[0.5]), "finite floats"),
        (edit("history", value=5), "list of dicts"),
        (edit("module", "packed", value=dicts(interaction="dense")), "packed"),
        (edit("module", "packed", value=dicts(embedding="dense")), "packed"),
        (edit("module", "packed", value=None), "packed"),
        (edit("module", value=None), "single class"),
        (edit("device", value={"kind": "device", "value": "../x"}), "device"),
        (edit("network", value={"kind": "object", "class": "os.system", "output": None,
            "params": {}, "state": None}), "os.system"),
        (edit("network", value={"kind": "object", "class": "sklearn_autorec.networks.FM",
            "output": None, "params": {"x": 1}, "state": None}), "parameters"),
    ],
)  # fmt: skip
def test_contradictions_behind_a_right_checksum(data, change, message):
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ModelFileError, match=message):
        _loads(forged(data, change))
    assert time.process_time() - began < 10
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**29


def test_an_unchanged_forgery_loads(data, clicks):
    X = clicks[0]
    same = forged(data, lambda model, arrays: None)
    assert same == data
    np.testing.assert_array_equal(_loads(same).predict_proba(X), _loads(data).predict_proba(X))


def test_arrays_that_do_not_fit(data):
    def weight(model, name):
        return state(model, "module", "weights", name)["index"]

    def nan(model, arrays):
        arrays[weight(model, "embedding.weight")][0, 0] = np.nan

    def shape(model, arrays):
        k = weight(model, "embedding.weight")
        arrays[k] = np.ascontiguousarray(arrays[k].T)

    def dtype(model, arrays):
        k = weight(model, "embedding.weight")
        arrays[k] = arrays[k].astype(np.float64)

    def extra(model, arrays):
        arrays.append(np.zeros(3))

    def missing(model, arrays):
        arrays.pop()

    def twice(model, arrays):
        weights = state(model, "module", "weights")["items"]
        weights[1][1]["index"] = weights[0][1]["index"]

    def unknown(model, arrays):
        state(model, "module", "weights")["items"][0][0] = "other"

    def field(model, name):
        return dict(state(model, "encoder", "fields")[0]["items"])[name]

    def counts(model, arrays):
        k = field(model, "counts")["index"]
        arrays[k] = arrays[k][:-1].copy()

    def vocabulary(model, arrays):
        categories, counts = field(model, "categories")["index"], field(model, "counts")["index"]
        for k in (categories, counts):
            arrays[k] = np.concatenate([arrays[k], np.array([77], arrays[k].dtype)])

    def repeated(model, arrays):
        arrays[field(model, "categories")["index"]][1] = arrays[
            field(model, "categories")["index"]
        ][0]

    def labels(model, arrays):
        k = state(model, "classes")["index"]
        arrays[k] = arrays[k][::-1].copy()

    def more_labels(model, arrays):
        arrays[state(model, "classes")["index"]] = np.arange(3)

    for change, message in [
        (nan, "NaN or infinite"),
        (shape, "must be float32 of shape"),
        (dtype, "must be float32 of shape"),
        (extra, "belong to nothing"),
        (missing, "one of the"),
        (twice, "used before"),
        (unknown, "on one side only"),
        (counts, "one for each value"),
        (vocabulary, "must be float32 of shape"),
        (repeated, "different from each other"),
        (labels, "different labels in order"),
        (more_labels, "must be float32 of shape|on one side only"),
    ]:
        with pytest.raises(ModelFileError, match=message):
            _loads(forged(data, change))


def array(name, change):
    """A change of one array of the embedding: a function of the array, or what replaces it."""

    def apply(model, arrays):
        index = state(model, "module", "weights", f"embedding.{name}")["index"]
        arrays[index] = np.ascontiguousarray(change(arrays[index]))

    return apply


def put(at, value):
    """An array with one other element."""

    def change(a):
        a[at] = value(a[at]) if callable(value) else value
        return a

    return change


def swap(a):
    a[[1, 2]] = a[[2, 1]]
    return a


def renamed(old, new):
    def apply(model, arrays):
        (pair,) = (
            p for p in state(model, "module", "weights")["items"] if p[0] == f"embedding.{old}"
        )
        pair[0] = f"embedding.{new}"

    return apply


BROKEN = {
    "every": [
        (array("values", lambda a: a[:-1]), "packed table's"),
        (array("values", lambda a: np.append(a, a[:1])), "packed table's"),
        (array("values", lambda a: a.astype(np.float64)), "needs the arrays"),
        (array("values", lambda a: a.reshape(1, -1)), "needs the arrays"),
        (array("values", lambda a: a.reshape(-1)[:0]), "packed table's"),
        (array("numeric_weight", lambda a: a[:, :1, :1]), "'numeric_weight'"),
        (array("numeric_weight", lambda a: a[:1]), "'numeric_weight'"),
        (array("numeric_weight", lambda a: a[0]), "needs the arrays"),
        (renamed("values", "weight"), "needs the arrays"),
        (edit("module", "packed", value=dicts()), "mask must be a dict"),
        (edit("module", "packed", value=dicts(embedding="packed")), "one of the forms"),
        (edit("module", "packed", value=dicts(interaction="dense")), "one of the forms"),
        (edit("architecture", "embedding_dim", value=13), "numeric_weight"),
        (edit("architecture", "embedding_dim", value=10**6), "embedding_dim must be at most"),
        (
            edit("architecture", "embedding", value=dicts(method="EqualSize", params=dicts())),
            "one of the forms",
        ),
    ],
    "columns": [
        (array("position", put((0, 4), 5)), "'position'"),
        (array("position", put((0, 4), -1)), "'position'"),
        (array("position", put((0, 0), -2)), "'position'"),
        (array("position", put((0, 0), 2**15 - 1)), "'position'"),
        (array("position", put((1, 0), 0)), "'position'"),
        (array("position", lambda a: a[:, ::-1]), "'position'"),
        (array("position", lambda a: a[::-1]), "'position'"),
        (array("position", lambda a: a.T), "'shapes'"),
        (array("position", lambda a: a[:-1]), "'shapes'"),
        (array("position", lambda a: a.ravel()), "needs the arrays"),
        (array("position", lambda a: a.astype(np.int32)), "needs the arrays"),
    ],
    "prefixes": [
        (array("bounds", put((0, 0), lambda n: n + 1)), "'bounds'"),
        (array("bounds", put((0, 0), 2**31 - 1)), "'bounds'"),
        (array("bounds", put((0, 11), -1)), "'bounds'"),
        (array("bounds", lambda a: a[:, ::-1]), "'bounds'"),
        (array("bounds", put((1, 3), lambda n: n - 1)), "'bounds'"),
        (array("bounds", lambda a: a.T), "'shapes'"),
        (array("bounds", lambda a: a.ravel()), "needs the arrays"),
        (array("bounds", lambda a: a.astype(np.int64)), "needs the arrays"),
    ],
    "rows": [
        (array("row_offsets", swap), "'row_offsets'"),
        (array("row_offsets", put(-1, lambda n: n + 1)), "'row_offsets'"),
        (array("row_offsets", put(3, 2**31 - 1)), "'row_offsets'"),
        (array("row_offsets", put(3, -(2**31))), "'row_offsets'"),
        (array("row_offsets", put(0, 1)), "'row_offsets'"),
        (array("row_offsets", lambda a: a[:-1]), "'row_offsets'"),
        (array("row_offsets", lambda a: a[:0]), "'row_offsets'"),
        (array("row_offsets", lambda a: np.append(a, a[-1:])), "'row_offsets'"),
        (array("row_offsets", lambda a: a.astype(np.int64)), "needs the arrays"),
        (array("row_offsets", lambda a: a.reshape(1, -1)), "needs the arrays"),
        (array("before", put(1, lambda n: n + 1)), "'before'"),
        (array("before", put(2, 2**31 - 1)), "'before'"),
        (array("before", put(0, -1)), "'before'"),
        (array("before", lambda a: a[:-1]), "'shapes'"),
        (array("before", lambda a: a.astype(np.uint8)), "needs the arrays"),
        (array("alive", put(8, lambda b: b ^ 1)), "'before'|'row_offsets'|'bits'"),
        (array("alive", put(-1, 128)), "'alive'"),
        (array("alive", lambda a: a[:-8]), "'shapes'"),
        (array("alive", lambda a: a[:, None]), "needs the arrays"),
    ],
    "sparse": [
        (array("column", put(0, 12)), "'column'"),
        (array("column", put(5, 255)), "'column'"),
        (array("column", lambda a: a[::-1]), "'column'"),
        (array("column", lambda a: a[:-1]), "'row_offsets'"),
        (array("column", lambda a: a.view(np.int8)), "needs the arrays"),
    ],
    "bits": [
        (array("bits", put((0, 1), lambda b: b | 128)), "'bits'"),
        (array("bits", put((3, 0), lambda b: b ^ 1)), "'row_offsets'|'bits'"),
        (array("bits", put(4, 0)), "'bits'"),
        (array("bits", lambda a: a[:-1]), "'bits'"),
        (array("bits", lambda a: a[:, :1]), "'bits'"),
        (array("bits", lambda a: np.hstack([a, 0 * a])), "'bits'"),
        (array("bits", lambda a: a.ravel()), "needs the arrays"),
        (renamed("bits", "column"), "needs the arrays"),
    ],
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_contradictions_in_packed_tables(pruned_files, form):
    data = pruned_files[form]
    swapped = [
        (edit("module", "packed", value=dicts(embedding=f)), "needs the arrays")
        for f in FORMS
        if f != form
    ]
    rows = BROKEN["rows"] if form in ("sparse", "bits") else []
    changes = [*BROKEN["every"], *swapped, *rows, *BROKEN.get(form, [])]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k, (change, message) in enumerate(changes):
        with pytest.raises(ModelFileError, match=message):
            _loads(forged(data, change))
            pytest.fail(f"change {k} of {form} with {message}")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 2**28


def test_a_packed_table_knows_its_mask_better_than_the_architecture(visits, pruned, pruned_files):
    X = visits[0]
    other = pruned["bits"].architecture_["embedding"]["mask"]
    text = dicts(shape=other["shape"], bits=other["bits"])
    loaded = _loads(
        forged(pruned_files["sparse"], edit("architecture", "embedding", "mask", value=text))
    )
    np.testing.assert_array_equal(loaded.predict_proba(X), pruned["sparse"].predict_proba(X))
    assert loaded.architecture_ == pruned["sparse"].architecture_


def test_embeddings_of_no_width_are_bounded_too(clicks, tmp_path):
    X, y = clicks
    model = CTRClassifier(network="fm", search=AutoDim(candidates=(0,)), **OPTIONS).fit(X, y)
    save(model, tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    with pytest.raises(ModelFileError, match="embedding_dim must be at most"):
        _loads(forged(data, edit("architecture", "embedding_dim", value=10**6)))
    for widths in ([5] * 6, [0] * 5, [-1] * 6, [0.0] * 6, [True] * 6, None, [10**9] * 6):
        with pytest.raises(ModelFileError, match="widths must hold 6 whole numbers"):
            _loads(forged(data, edit("architecture", "embedding", "widths", value=widths)))
    with pytest.raises(ModelFileError, match="on one side only"):
        _loads(forged(data, edit("architecture", "embedding", "widths", value=[0] * 5 + [1])))


def test_weights_that_are_not_finite(clicks, tmp_path):
    X, y = clicks
    model = CTRClassifier(network="fm", **OPTIONS).fit(X, y)
    with torch.no_grad():
        model.net_.module_.embedding.weight[0] = torch.inf
    save(model, tmp_path / "m")
    with pytest.raises(ModelFileError, match="allow_nonfinite=True"):
        load(tmp_path / "m")
    loaded = load(tmp_path / "m", allow_nonfinite=True)
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_pipelines_cannot_reach_outside(clicks, tmp_path):
    X = clicks[0][["f0"]]
    save(Pipeline([("s", StandardScaler())]).fit(X), tmp_path / "m")
    data = (tmp_path / "m").read_bytes()
    with pytest.raises(ModelFileError, match="memory"):
        _loads(forged(data, edit("memory", value=str(tmp_path / "cache"))))
    save(ColumnTransformer([("s", StandardScaler(), ["f0"])]).fit(X), tmp_path / "m")
    with pytest.raises(ModelFileError, match="n_jobs"):
        _loads(forged((tmp_path / "m").read_bytes(), edit("n_jobs", value=10**6)))
    assert not (tmp_path / "cache").exists()


# what cannot run
# -------------------------------------------------------------------------------------------


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_refused_unread(data, tmp_path):
    trace = tmp_path / "trace"
    hostile = pickle.dumps(Payload(trace))
    joblib.dump(Payload(trace), tmp_path / "joblib")
    torch.save({"a": Payload(trace)}, tmp_path / "torch")
    np.save(tmp_path / "numpy.npy", np.array([Payload(trace)], dtype=object), allow_pickle=True)
    files = [
        hostile,
        *((tmp_path / name).read_bytes() for name in ("joblib", "torch", "numpy.npy")),
    ]
    for content in [*files, data[:52] + hostile, data + hostile]:
        with pytest.raises(ModelFileError):
            _loads(content)
    assert not trace.exists()
    pickle.loads(hostile)
    assert trace.exists()  # the payload works


def test_loading_never_comes_near_pickle(data, clicks, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("pickle was used")

    for module, name in [
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (joblib, "load"),
        (torch, "load"),
    ]:
        monkeypatch.setattr(module, name, forbidden)
    monkeypatch.setattr(np, "load", forbidden)
    monkeypatch.setattr("builtins.eval", forbidden)
    assert _loads(data).predict(clicks[0]).shape == (500,)


def test_the_source_imports_no_unpickler():
    names = set()
    for path in Path(sklearn_autorec.serving.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call):
                called = (
                    node.func.attr
                    if isinstance(node.func, ast.Attribute)
                    else getattr(node.func, "id", "")
                )
                assert called not in {"exec", "__import__"} and ast.unparse(node.func) != "eval"
                assert not (called == "load" and ast.unparse(node.func) not in {"json.load"})
    assert "hashlib" in names and not names & {
        "pickle",
        "cloudpickle",
        "dill",
        "marshal",
        "shelve",
        "runpy",
    }


def test_headers_are_plain_json(data):
    length = struct.unpack_from("<Q", data, 12)[0]
    header = json.loads(data[52 : 52 + length])
    assert header["model"]["class"] == "sklearn_autorec.CTRClassifier"
    assert state(header["model"], "network")["class"] == "sklearn_autorec.networks.DeepFM"
