"""Export to ONNX, and rows mapped by the vocabulary file alone."""

import builtins
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from onnx_graphs import exported
from sklearn.frozen import FrozenEstimator

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import AMTL, ANT, PEP, AutoDim, EqualSize, RandomSizes
from sklearn_autorec.exceptions import DataTypeDriftWarning
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import AutoInt, DCNv2, DeepFM
from sklearn_autorec.nn import FORMS, pack_table
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import onnx_inputs, to_onnx
from sklearn_autorec.serving._onnx import vocabulary_of
from sklearn_autorec.serving._onnx_inputs import _hash

OPTIONS = {"embedding_dim": 4, "max_epochs": 1, "random_state": 0, "device": "cpu"}
SMALL = DeepFM(hidden_units=(8,))


@pytest.fixture(scope="module")
def clicks(clicks_with_gaps):
    return clicks_with_gaps(1000, n_numeric=2)


@pytest.mark.parametrize(
    "network, search",
    [
        (SMALL, None),
        (SMALL, AutoFIS(max_interactions=0)),
        (SMALL, AutoFIS(orders=(2, 3), threshold=0.3)),
        (AutoInt(hidden_units=(8,)), None),
        (DCNv2(hidden_units=(8,)), None),
    ],
    ids=["deepfm", "nothing-kept", "triples", "autoint", "dcnv2"],
)
def test_probabilities_equal_predict_proba(clicks, tmp_path, network, search):
    X, y = clicks
    model = CTRClassifier(network=network, search=search, **OPTIONS).fit(X, y)
    kept = {len(t) for t in model.interactions_} if search is not None else None
    assert kept == {None: None, (2,): set(), (2, 3): {2, 3}}[getattr(search, "orders", None)]
    run = exported(model, tmp_path)
    p = model.predict_proba(X)
    assert p[:, 1].std() > 1e-3
    for n in (1, 2, 7, 8, 100, 1000):
        found = run(X[:n])
        assert found.shape == (n, 2) and found.dtype == np.float32
        np.testing.assert_allclose(found, p[:n], rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_packed_embeddings(clicks, tmp_path, form, monkeypatch):
    X, y = clicks
    monkeypatch.setattr(
        "sklearn_autorec.nn._masked.pack_table",
        lambda *args, **more: pack_table(*args, forms=[form], **more),
    )
    options = OPTIONS | {"embedding_dim": 9, "max_epochs": 3, "lr": 0.02}
    model = CTRClassifier(network=SMALL, search=PEP(target_sparsity=0.7), **options).fit(X, y)
    assert model.net_.module_.embedding.form == form
    run, p = exported(model, tmp_path), model.predict_proba(X)
    assert p[:, 1].std() > 1e-2
    for n in (1, 7, 1000):
        np.testing.assert_allclose(run(X[:n]), p[:n], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "search",
    [
        PEP(target_sparsity=1.0),
        RandomSizes(candidates=(0, 1, 3, 4)),
        AutoDim(candidates=(0,)),
        EqualSize(2),
        AMTL(size_penalty=0.5),
        ANT(6),
    ],
    ids=["all-pruned", "several-widths", "no-width", "one-width", "by-frequency", "anchors"],
)
def test_searched_embeddings(clicks, tmp_path, search):
    X, y = clicks
    model = CTRClassifier(
        network=SMALL, search=search, **OPTIONS | {"max_epochs": 3, "lr": 0.02}
    ).fit(X, y)
    if isinstance(search, RandomSizes):
        assert len(set(model.embedding_sizes_.values())) > 2
    run, p = exported(model, tmp_path), model.predict_proba(X)
    for n in (1, 7, 1000):
        np.testing.assert_allclose(run(X[:n]), p[:n], rtol=0, atol=1e-5)


def test_ratings_and_several_classes(clicks, tmp_path):
    X, _ = clicks
    rating = 3.0 + X["f0"].to_numpy() / 4
    model = RatingRegressor(network="fm", **OPTIONS | {"max_epochs": 3, "lr": 0.05}).fit(X, rating)
    found = exported(model, tmp_path)(X)
    assert found.shape == (1000,) and model.predict(X).std() > 0.1
    np.testing.assert_allclose(found, model.predict(X), rtol=0, atol=1e-5)
    model = CTRClassifier(network=SMALL, **OPTIONS).fit(X, X["f0"] % 3)
    np.testing.assert_allclose(
        exported(model, tmp_path)(X), model.predict_proba(X), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("columns", [["f1"], ["x0"], ["s0", "x0"]])
def test_graphs_have_only_the_inputs_of_their_table(clicks, tmp_path, columns):
    X, y = clicks
    model = CTRClassifier(network="fm", **OPTIONS).fit(X[columns], y)
    np.testing.assert_allclose(
        exported(model, tmp_path)(X[columns]), model.predict_proba(X[columns]), rtol=0, atol=1e-5
    )


def test_unseen_and_missing_values_reach_the_graph(clicks, tmp_path):
    X, y = clicks
    model = CTRClassifier(network=SMALL, **OPTIONS | {"max_epochs": 3, "lr": 0.02}).fit(X, y)
    odd = X[:40].copy()
    odd["f0"] = 999
    odd["f2"] = [None, "new"] * 20
    odd["s0"] = [["i1", "never", None], []] * 20
    run = exported(model, tmp_path)
    assert np.abs(run(odd) - run(X[:40])).max() > 1e-3
    np.testing.assert_allclose(run(odd), model.predict_proba(odd), rtol=0, atol=1e-5)


@pytest.mark.parametrize("numeric", ["quantile", "log_square", "standard", None])
@pytest.mark.parametrize("hash_threshold", [None, 3])
def test_the_reference_function_equals_the_encoder(numeric, hash_threshold):
    rng = np.random.default_rng(0)
    n = 300
    train = pd.DataFrame(
        {
            "word": rng.choice(["a", "bb", "é", "日本語", "nine ch. "], n),
            "number": rng.integers(0, 9, n),
            "real": rng.choice([0.5, 1.0, 2.25, -3.0], n),
            "price": np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(0, 2, n) - 1),
            "constant": 2.5,
            "tags": ["|".join(rng.choice(["x", "y", "z"], rng.integers(0, 5))) for _ in range(n)],
            "history": [rng.integers(0, 20, rng.integers(0, 9)).tolist() for _ in range(n)],
        }
    )
    encoder = FieldEncoder(
        categorical_features=["word", "number", "real"],
        sequence_features={"tags": "|", "history": ","},
        max_length=4,
        min_frequency=3,
        numeric=numeric,
        hash_threshold=hash_threshold,
        n_hash_buckets=50,
        unknown_warning=None,
    ).fit(train)
    model = CTRClassifier(network="fm", encoder=FrozenEstimator(encoder), **OPTIONS).fit(
        train, rng.integers(0, 2, n)
    )
    vocabulary = json.loads(json.dumps(vocabulary_of(model)))
    assert ("buckets" in vocabulary["columns"][0]) == (hash_threshold is not None)
    new = train.sample(100, random_state=0).reset_index(drop=True)
    new["price"] = new["price"] * 1.7 - 0.3
    new.loc[::9, "word"] = "never seen"
    new.loc[::8, ["word", "tags"]] = None
    new.loc[::7, "number"] = 12345
    new.loc[::5, "real"] = 77.125
    for X in (train, new):
        found, table = onnx_inputs(vocabulary, X.to_dict("records")), encoder.encode(X)
        np.testing.assert_array_equal(found["ids"], table.ids)
        np.testing.assert_array_equal(found["sequences"], table.sequences)
        np.testing.assert_allclose(found["numeric"], table.numeric, rtol=1e-6, atol=1e-7)
        assert [found[k].dtype for k in ("ids", "numeric", "sequences")] == [
            np.int32,
            np.float32,
            np.int32,
        ]


@pytest.mark.parametrize("hash_threshold", [None, 10])
def test_ids_that_a_list_shares_stand_once_in_the_vocabulary_file(hash_threshold):
    rng = np.random.default_rng(0)
    items = [f"i{k}" for k in range(30)]
    X = pd.DataFrame(
        {
            "other": rng.choice(["a", "b"], 200),
            "item": rng.choice(items, 200),
            "seen": [list(rng.choice(items, rng.integers(0, 4))) for _ in range(200)],
        }
    )
    encoder = FieldEncoder(
        categorical_features=["other", "item"],
        sequence_features=["seen"],
        shared_vocabularies={"seen": "item"},
        max_length=3,
        hash_threshold=hash_threshold,
        n_hash_buckets=20,
    ).fit(X)
    model = CTRClassifier(network="fm", encoder=FrozenEstimator(encoder), **OPTIONS)
    vocabulary = json.loads(json.dumps(vocabulary_of(model.fit(X, rng.integers(0, 2, 200)))))
    other, item, seen = vocabulary["columns"]
    assert vocabulary["version"] == 2 and seen["shares"] == 1 and "max_length" in seen
    assert not {"ids", "type", "n_ids", "buckets"} & seen.keys()
    assert "shares" not in {*other, *item} and ("buckets" in item) == (hash_threshold is not None)
    X.loc[0, "item"], X.at[1, "seen"] = "new", ["new", "i3"]
    found = onnx_inputs(vocabulary, X.to_dict("records"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = encoder.encode(X)
    np.testing.assert_array_equal(found["ids"], table.ids)
    np.testing.assert_array_equal(found["sequences"], table.sequences)
    # What was written before, with the ids twice, is still read.
    before = {name: item[name] for name in ("type", "n_ids", "buckets", "ids") if name in item}
    vocabulary["columns"][2] = {**seen, **before}
    del vocabulary["columns"][2]["shares"]
    again = onnx_inputs({**vocabulary, "version": 1}, X.to_dict("records"))
    np.testing.assert_array_equal(again["sequences"], table.sequences)


def test_values_of_other_types_than_in_training():
    train = pd.DataFrame(
        {
            "text": ["1", "2", "x", "2.5"],
            "whole": [1, 2, 3, 10**17 + 1],
            "real": [0.5, 1.0, 2.0, 3.0],
        }
    )
    encoder = FieldEncoder(
        categorical_features=["text", "whole", "real"], unknown_warning=None
    ).fit(train)
    model = CTRClassifier(network="fm", encoder=FrozenEstimator(encoder), **OPTIONS).fit(
        train, [0, 1, 0, 1]
    )
    for column, values in {
        "text": [[1, 2, 7], [2.0, 1.0], [2.5, 1.5], [True]],
        "whole": [["1", "x", "2.0", "1e0"], [1.0, 1.5], [True], [10**17 + 1, 10**17]],
        "real": [["0.5", "1", "x"], [1, 2, 9], [True]],
    }.items():
        for cells in values:
            X = pd.DataFrame({name: [None] * len(cells) for name in train}, dtype=object).assign(
                **{column: cells}
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataTypeDriftWarning)
                wanted = encoder.encode(X).ids
            found = onnx_inputs(
                vocabulary_of(model), [{**dict.fromkeys(train), column: cell} for cell in cells]
            )["ids"]
            assert wanted[:, ["text", "whole", "real"].index(column)].max() > 1
            np.testing.assert_array_equal(found, wanted)


def test_hash_is_that_of_pandas():
    words = ["", "a", "12345678", "123456789", "日本語", "x" * 257]
    assert [_hash(w) for w in words] == pd.util.hash_array(
        np.array(words, dtype=object), categorize=False
    ).tolist()


def test_refusals(clicks, tmp_path, monkeypatch):
    X, y = clicks
    model = CTRClassifier(network="fm", **OPTIONS).fit(X, y)
    vocabulary = vocabulary_of(model)
    row = X[:1].to_dict("records")[0]
    with pytest.raises(ValueError, match="lacks the column 'f1'"):
        onnx_inputs(vocabulary, [{k: v for k, v in row.items() if k != "f1"}])
    with pytest.raises(ValueError, match="'x0' is numeric, got 'high'"):
        onnx_inputs(vocabulary, [row | {"x0": "high"}])
    with pytest.raises(ValueError, match="must be finite"):
        onnx_inputs(vocabulary, [row | {"x0": float("inf")}])
    with pytest.raises(ValueError, match="must be lists, got 'i1'"):
        onnx_inputs(vocabulary, [row | {"s0": "i1"}])
    with pytest.raises(ValueError, match="version 4"):
        onnx_inputs(vocabulary | {"version": 4}, [row])
    real_import = builtins.__import__

    def without_onnx(name, *args, **kwargs):
        if name == "onnx":
            raise ImportError("no onnx", name="onnx")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(ImportError, match=r"pip install sklearn-autorec\[onnx\]"):
        to_onnx(model, tmp_path / "x.onnx")


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_what_has_no_network_cannot_be_exported(clicks, tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    X, y = clicks
    with pytest.raises(TypeError, match="CTRClassifier or a RatingRegressor, got FieldEncoder"):
        to_onnx(FieldEncoder().fit(X), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="single class"):
        to_onnx(CTRClassifier(**OPTIONS).fit(X, np.ones(len(X))), tmp_path / "x.onnx")
