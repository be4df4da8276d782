"""Columns of dense vectors: what is taken for one, how it is read, what networks learn of it."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from small_networks import small_context, small_networks

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import PEP, AutoDis, AutoEmb
from sklearn_autorec.engine._building import build_network
from sklearn_autorec.exceptions import SuspiciousColumnWarning
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoFIS, InteractionGain
from sklearn_autorec.linear_model import CrossedLinearClassifier
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.nn._vectors import VectorEmbedding
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, onnx_inputs, save, to_onnx
from sklearn_autorec.serving._onnx import vocabulary_of

N, LENGTH = 1200, 6


def planted(n=N, seed=0, shuffled=False):
    """Clicks that depend on one direction of a vector; shuffled, on none."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, LENGTH)) * 5 + 3
    direction = np.array([3, -1, 2, 0, 0, 1]) / 15**0.5
    y = (rng.random(n) < 1 / (1 + np.exp(-0.7 * (vectors - 3) @ direction))).astype(int)
    if shuffled:
        vectors = vectors[rng.permutation(n)]
    X = pd.DataFrame({"user": rng.integers(0, 9, n).astype(str), "text": list(vectors)})
    return X, y


def small(network="fm", **options):
    options = {"max_epochs": 2, "random_state": 0, "device": "cpu", **options}
    return CTRClassifier(network=network, **options)


# the encoder
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["arrays", "lists", "tuples", "polars", "arrow", "fixed"])
def test_columns_of_equal_vectors_are_standardised_place_by_place(container):
    values = np.random.default_rng(0).normal(size=(50, 3)) * [1, 10, 0] + [0, 5, 7]
    lists = values.tolist()
    lists[4] = None
    X = {
        "arrays": lambda: pd.DataFrame({"v": [None if v is None else np.array(v) for v in lists]}),
        "lists": lambda: pd.DataFrame({"v": lists}),
        "tuples": lambda: pd.DataFrame({"v": [None if v is None else tuple(v) for v in lists]}),
        "polars": lambda: pl.DataFrame({"v": lists}),
        "arrow": lambda: pa.table({"v": pa.array(lists, pa.list_(pa.float64()))}),
        "fixed": lambda: pa.table({"v": pa.array(lists, pa.list_(pa.float64(), 3))}),
    }[container]()
    encoder = FieldEncoder()
    table = encoder.fit_encode(X)
    assert encoder.kinds_ == {"v": "vector"} and encoder.vector_lengths_ == [3]
    known = np.delete(values, 4, 0)
    expected = (values - known.mean(0)) / np.where(known.std(0) > 0, known.std(0), 1)
    expected[4] = 0
    np.testing.assert_allclose(table.vectors[:, :3], expected, atol=1e-5)
    assert table.vectors[:, 3].tolist() == [float(k == 4) for k in range(50)]
    assert np.array_equal(encoder.encode(X).vectors, table.vectors)
    names = encoder.get_feature_names_out().tolist()
    assert names == ["v_0", "v_1", "v_2", "v_missing"]
    assert encoder.transform(X).shape == (50, 4)


@pytest.mark.parametrize(
    "cells",
    [
        [[0.5, 1.5], [2.5]],  # of two lengths
        [[1.0, 2.0], [3.0, 4.0]],  # whole floats may be ids
        [[1, 2], [3, 4]],
        [["a", "b"], ["c", "d"]],
        [[0.5], [1.5]],
        [None, None],
    ],
    ids=str,
)
def test_what_may_be_ids_is_no_vector_until_it_is_named(cells):
    X = pd.DataFrame({"v": pd.Series(cells, dtype=object)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspiciousColumnWarning)  # of lists of floats
        assert FieldEncoder().fit(X).kinds_["v"] != "vector"


def test_parameters_say_what_is_a_vector():
    X, _ = planted(60)
    assert FieldEncoder().fit(X).kinds_ == {"user": "id", "text": "vector"}
    with pytest.warns(UserWarning, match="vector_features"):
        as_lists = FieldEncoder(vector_features=None).fit(X)
    assert as_lists.kinds_["text"] == "sequence"
    with pytest.warns(UserWarning, match="vector_features"):
        assert FieldEncoder(sequence_features=["text"]).fit(X).kinds_["text"] == "sequence"
    whole = pd.DataFrame({"v": [[1, 2], [3, 4], None]})
    assert FieldEncoder(vector_features=["v"]).fit(whole).kinds_ == {"v": "vector"}
    assert FieldEncoder(sequence_features=None).fit(X).kinds_["text"] == "vector"
    with pytest.raises(ValueError, match="vector_features names column 'text'"):
        FieldEncoder(vector_features=["text"], sequence_features=["text"]).fit(X)
    with pytest.raises(ValueError, match="vector_features has 'other'"):
        FieldEncoder(vector_features=["other"]).fit(X)
    with pytest.raises(ValueError, match="Column 'user' is a column of vectors.*got '"):
        FieldEncoder(vector_features=["user"]).fit(X)
    with pytest.raises(ValueError, match="all its cells are missing"):
        FieldEncoder(vector_features=["v"]).fit(pd.DataFrame({"v": [None, None]}))


@pytest.mark.parametrize("n_rows", [3, 40])
def test_wrong_vectors_are_refused_by_name(n_rows):
    X, _ = planted(60)
    encoder = FieldEncoder().fit(X)

    def changed(cell):
        Z = X.head(n_rows).copy()
        Z.at[1, "text"] = cell
        return Z

    wrong = {
        "'text' is a column of vectors of length 6, but row 1 has one of length 4": np.zeros(4),
        "vectors of length 6, but row 1 has one of length 0": [],
        "infinity.*column 'text'": [np.inf, *[0.0] * 5],
        "too large.*column 'text'": [1e39, *[0.0] * 5],
        "'text'.*got 'abc'": "abc",
        r"'text'.*got \['1'": ["1"] * 6,
        r"'text'.*got \[\[0.0\]": [[0.0]] * 6,
    }
    for message, cell in wrong.items():
        with pytest.raises(ValueError, match=message):
            encoder.encode(changed(cell))
        with pytest.raises(ValueError, match=message):
            FieldEncoder(vector_features=["text"]).fit(changed(cell))
    with pytest.raises(ValueError, match="of length 6, but row 0 has one of length 2"):
        encoder.partial_fit(X.assign(text=[[0.5, 1.5]] * 60))
    few = encoder.encode(changed([None, np.nan, *X["text"][1][2:]])).vectors
    assert few[1, :2].tolist() == [0, 0] and few[1, -1] == 0  # the mean of their places
    assert encoder.encode(changed([np.nan] * 6)).vectors[1].tolist() == [0] * 6 + [1]
    assert encoder.encode(changed(None)).vectors[1].tolist() == [0] * 6 + [1]


def test_chunks_weights_and_single_rows_give_the_same_vectors():
    X, _ = planted(90)
    X.loc[5, "text"] = None
    X.at[7, "text"] = [np.nan, *X["text"][7][1:]]
    encoder = FieldEncoder().fit(X)
    chunks = FieldEncoder()
    for start in range(0, 90, 30):
        chunks.partial_fit(X[start : start + 30])
    whole = encoder.encode(X).vectors
    np.testing.assert_allclose(chunks.encode(X).vectors, whole, atol=1e-6)
    for k in (0, 5, 7):
        assert np.array_equal(encoder.encode(X[k : k + 1]).vectors[0], whole[k])
    weight = np.arange(90) % 3
    repeated = FieldEncoder().fit(X.loc[X.index.repeat(weight)])
    weighted = FieldEncoder().fit(X, sample_weight=weight)
    np.testing.assert_allclose(weighted.encode(X).vectors, repeated.encode(X).vectors, atol=1e-6)


# networks
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["lr", DeepFM(hidden_units=(16,))], ids=["lr", "deepfm"])
def test_a_direction_is_learnt_and_a_shuffled_one_is_not(network):
    def auc(shuffled):
        X, y = planted(shuffled=shuffled)
        options = {"lr": 0.03, "max_epochs": 8, "embedding_dim": 4, "batch_size": 64}
        model = small(network, **options).fit(X[:800], y[:800])
        return roc_auc_score(y[800:], model.predict_proba(X[800:])[:, 1])

    assert auc(shuffled=False) > 0.9
    assert auc(shuffled=True) < 0.6


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", sorted(small_networks()))
def test_each_network_reads_vectors(name, members):
    context = small_context(
        field_names=("a", "b", "n", "s", "v", "w"),
        vectors=(3, 2),
        embedding_init=0.5,
        members=members,
    )
    network = small_networks()[name]
    if hasattr(network, "attention"):
        network.set_params(attention={"s": "a"})
    module = build_network(network, [], {}, context).eval()
    rng = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.5, generator=rng)
    ids = torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)
    items = torch.tensor([[2, 3, 0], [1, 0, 0]], dtype=torch.int32)
    numeric = torch.randn(2, 2 + 4 + 3, generator=rng)
    logits = module(ids, numeric, items)
    for first in (2, 6):  # of each vector
        changed = numeric.clone()
        changed[:, first] += 1
        assert not torch.equal(module(ids, changed, items), logits)


def test_projections_are_linear_and_follow_their_formula():
    context = small_context(field_names=(*"abnsvw",), vectors=(3, 2), embedding_init=0.5)
    part = VectorEmbedding(context, 4, 0.5)
    x = torch.randn(5, 2 + 7)
    e = part(x)
    assert e.shape == (5, 2, 4)
    torch.testing.assert_close(e[:, 0], x[:, 2:6] @ part.weight[:4] + part.bias[0])
    torch.testing.assert_close(e[:, 1], x[:, 6:] @ part.weight[4:] + part.bias[1])
    pair = VectorEmbedding(small_context(vectors=(3, 2), members=2), 4, 0.5)
    both = pair(torch.cat([x, x]))
    for m in range(2):
        part.weight.data, part.bias.data = pair.weight.data[m], pair.bias.data[m]
        torch.testing.assert_close(both[5 * m : 5 * (m + 1)], part(x))


def test_vectors_pickle_clone_and_save(tmp_path):
    X, y = planted(120)
    X.loc[3, "text"] = None
    model = small("auto").fit(X, y)
    expected = model.predict_proba(X)
    save(model, tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.predict_proba(X), expected)
        assert np.array_equal(other.predict_proba(X[3:4]), model.predict_proba(X[3:4]))
        pd.testing.assert_frame_equal(other.encoder_.describe(), model.encoder_.describe())
    assert np.array_equal(clone(model).fit(X, y).predict_proba(X), expected)
    assert model.compression_ratio_ == 1
    ratings = RatingRegressor(network="fm", max_epochs=1, device="cpu").fit(X, y)
    assert np.isfinite(ratings.predict(X)).all()


def test_streams_go_on_with_vectors(tmp_path):
    X, y = planted(200)
    model = small()
    for start in range(0, 200, 50):
        model.partial_fit(X[start : start + 50], y[start : start + 50], classes=[0, 1])
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    for m in (model, again):
        m.partial_fit(X[:50], y[:50])
    assert np.isfinite(again.predict_proba(X)).all()
    encoder = FieldEncoder().partial_fit(X[:100])
    save(encoder, tmp_path / "encoder")
    restored = load(tmp_path / "encoder").partial_fit(X[100:])
    assert np.array_equal(
        restored.encode(X).vectors, encoder.partial_fit(X[100:]).encode(X).vectors
    )


@pytest.mark.parametrize(
    "search",
    [
        PEP(),
        AutoEmb(),
        AutoDis(),
        AutoFIS(orders=(2, 3)),
        InteractionGain(),
        AutoField(n_kept=2),
        [AutoField(n_kept=2), PEP()],
    ],
    ids=str,
)
def test_searches_stand_beside_vectors(search, tmp_path):
    X, y = planted(150)
    X["noise"] = np.random.default_rng(1).integers(0, 9, 150).astype(str)
    X["price"] = np.random.default_rng(2).random(150)
    model = small(DeepFM(hidden_units=(4,)), search=search, embedding_dim=4, lr=0.01).fit(X, y)
    found = model.predict_proba(X)
    assert np.isfinite(found).all()
    save(model, tmp_path / "model")
    assert np.array_equal(load(tmp_path / "model").predict_proba(X), found)
    if any(method.slots == ("embedding",) for method in np.atleast_1d(search)):
        assert set(model.embedding_sizes_) <= set(model.encoder_.field_names_)
    known = CTRClassifier.from_architecture(model.architecture_, device="cpu", max_epochs=1)
    known.fit(X, y)


def test_graphs_take_vectors_and_fields_of_times(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    X, y = planted(250)
    X.loc[3, "text"] = None
    X["time"] = pd.date_range("2024-01-30 21:12", periods=250, freq="37h", tz="Asia/Tokyo")
    network = DeepFM(hidden_units=(4,))
    model = small(network, target_statistics=True, embedding_dim=2, max_epochs=1).fit(X, y)
    to_onnx(model, tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx")
    rows = X.to_dict("records")
    inputs = onnx_inputs(tmp_path / "model.onnx.vocab.json", rows)
    (found,) = session.run(None, inputs)
    np.testing.assert_allclose(found, model.predict_proba(X), atol=2e-5)
    assert onnx_inputs(vocabulary_of(model), rows)["numeric"].shape == (250, 2 + LENGTH + 1)
    with pytest.raises(ValueError, match="'text' holds vectors of length 6, got one of 2"):
        onnx_inputs(vocabulary_of(model), [{**rows[0], "text": [0.5, 1.0]}])


def test_what_has_no_place_for_vectors_says_so(tmp_path):
    X, y = planted(150)
    X["item"] = np.random.default_rng(1).integers(0, 5, 150).astype(str)
    with pytest.warns(SuspiciousColumnWarning, match=r"linear model leaves out .*\['text'\]"):
        CrossedLinearClassifier().fit(X, y)
    with pytest.raises(ValueError, match="'text', a vector column, which cannot be crossed"):
        FieldCrosser([("user", "text")]).fit(X)
    crosser = FieldCrosser([("user", "item")]).fit(X)
    out = crosser.transform(X)
    assert out.columns.tolist() == ["user", "text", "item", "user x item"]
    with pytest.warns(SuspiciousColumnWarning, match="one-hot matrix leaves out"):
        onehot = FieldCrosser([("user", "item")], output="onehot").fit(X)
    assert len(onehot.get_feature_names_out()) == onehot.transform(X).shape[1]
    save(crosser, tmp_path / "crosser")
    pd.testing.assert_frame_equal(load(tmp_path / "crosser").transform(X), out)
