"""Graphs that take the columns of a table as they are."""

import json

import numpy as np
import pandas as pd
import pytest
from onnx_cases import (
    ENCODER,
    OPTIONS,
    answers,
    column_kinds,
    encoded,
    new_rows,
    onnx,
    records,
    runtime,
    session_of,
)
from sklearn.base import clone

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import onnx_inputs
from sklearn_autorec.serving._onnx_raw import (
    METADATA,
)


@pytest.mark.parametrize("numeric", ["rank", "quantile", "log_square", "standard", None])
def test_nodes_do_what_the_encoder_does(numeric):
    X, _ = column_kinds()
    if numeric is None:
        X = X.assign(price=X["price"].clip(upper=3), rank=X["rank"] / 1000)
    encoder = clone(ENCODER).set_params(numeric=numeric).fit(X)
    for rows in (X, new_rows(X), X[:1]):
        found, types = encoded(encoder, rows)
        assert {len(found), *map(len, found.values())} <= {3, len(rows)}
    assert list(types) == [c for c in types if c in X.columns] and set(types) == set(X.columns)
    assert types["word"] == types["digits"] == types["genres"] == "tensor(string)"
    assert types["id"] == types["flag"] == types["seen"] == "tensor(int64)"
    assert types["half"] == types["price"] == "tensor(double)"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model of columns of every kind, its rows, and its file."""
    X, y = column_kinds()
    network = DeepFM(hidden_units=(8,))
    model = CTRClassifier(network=network, encoder=clone(ENCODER), **OPTIONS).fit(X, y)
    folder = tmp_path_factory.mktemp("served")
    return model, X, folder / "model.onnx", session_of(model, folder)


def test_one_file_takes_columns_of_every_kind(served):
    model, X, _, session = served
    for rows in (X, new_rows(X), X[:1]):
        expected = model.predict_proba(rows)
        assert len(rows) == 1 or expected[:, 1].std() > 0.01
        np.testing.assert_allclose(answers(session, rows), expected, rtol=0, atol=1e-5)


def test_cells_as_other_languages_give_them(served):
    """Without our function: arrays of the stated types, by name."""
    model, X, _, session = served
    told = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    missing = told["missing"]
    assert missing == {"string": "", "int64": -(2**63), "double": "NaN"}
    none = {"string": "", "int64": missing["int64"], "double": np.nan}
    feeds = {
        c["name"]: np.array([[none[c["type"]]]] * 3, object if c["type"] == "string" else None)
        for c in told["columns"]
    }
    feeds |= {
        "word": np.array([["日本語"], [""], ["unheard of"]], dtype=object),
        "id": np.array([[2**60 + 1], [missing["int64"]], [17]]),
        "flag": np.array([[1], [missing["int64"]], [0]]),
        "price": np.array([[2.5], [np.nan], [0.25]]),
        "tags": np.array([["x", "", "z"], ["", "", ""], ["", "ü", "x"]], dtype=object),
    }
    rows = pd.DataFrame({name: [None] * 3 for name in X.columns}).assign(
        word=["日本語", None, "unheard of"],
        id=pd.array([2**60 + 1, None, 17], dtype="Int64"),
        flag=pd.array([True, None, False], dtype="boolean"),
        price=[2.5, None, 0.25],
        tags=[["x", "z"], [], ["ü", "x"]],
    )
    np.testing.assert_allclose(
        session.run(["probabilities"], feeds)[0], model.predict_proba(rows), rtol=0, atol=1e-5
    )


def test_a_permuted_vocabulary_answers_otherwise(served):
    """The control: the numbers in the graph's tables matter."""
    model, X, path, _ = served
    proto, changed = onnx.load(path), 0
    for node in proto.graph.node:
        for attribute in node.attribute if node.op_type == "LabelEncoder" else ():
            if attribute.name == "values_int64s":
                known = [k for k, at in enumerate(attribute.ints) if at > 1]
                for k, at in zip(known, [attribute.ints[k] for k in known][::-1], strict=True):
                    attribute.ints[k] = at
                changed += 1
    assert changed == 9  # that of halves looks up doubles
    session = runtime.InferenceSession(proto.SerializeToString())
    assert np.abs(answers(session, X) - model.predict_proba(X)).max() > 1e-2


def test_ratings(tmp_path):
    X, y = column_kinds()
    X = X[["word", "price", "rank"]]
    model = RatingRegressor(network="fm", **OPTIONS).fit(X, y + X["rank"] / 500)
    found, expected = answers(session_of(model, tmp_path), X), model.predict(X)
    assert found.dtype == np.float32 and expected.std() > 0.01
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_what_stands_beside_the_network_is_inside(tmp_path):
    X, y = column_kinds(500)
    X = X[["word", "id", "price", "tags"]]
    options = {"wide": "autocross", "target_statistics": True}
    model = CTRClassifier(network="fm", **options, **OPTIONS)
    model = model.set_params(embedding_dim=2).fit(X, y)
    assert min(model.part_weights_[name] for name in ("wide", "target_statistics")) > 0.02
    session = session_of(model, tmp_path)
    for rows in (X, X[:3].assign(word=["never", None, "a"])):
        np.testing.assert_allclose(
            answers(session, rows), model.predict_proba(rows), rtol=0, atol=1e-5
        )


def test_times_and_durations():
    X, _ = column_kinds(200)
    rng = np.random.default_rng(1)
    days = pd.Timestamp("2026-01-01", tz="Europe/Berlin") + pd.to_timedelta(
        rng.integers(0, 5, 200), unit="D"
    )
    X = X[["word"]].assign(
        at=pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 10**6, 200), unit="s"),
        day=days,
        took=pd.to_timedelta(rng.integers(0, 999, 200), unit="s"),
    )
    X.loc[X.index[::6], ["at", "took"]] = pd.NaT
    encoder = FieldEncoder(categorical_features={"day": "id"}, time_features=None).fit(X)
    _, types = encoded(encoder, X)
    assert types["day"] == "tensor(string)" and types["took"] == "tensor(double)"
    assert types["at"] == "tensor(int64)"


def test_lists_that_share_a_vocabulary():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "item": rng.choice(["i1", "i2", "i3"], 300),
            "history": [rng.choice(["i1", "i2", "i4"], rng.integers(0, 4)) for _ in range(300)],
        }
    )
    encoder = FieldEncoder(shared_vocabularies={"history": "item"}).fit(X)
    found, _ = encoded(encoder, X)
    assert found["raw.sequences"].max() > 2


def test_rows_for_a_graph_are_checked(served):
    _, X, _, session = served
    row = records(X[:1])[0]
    assert session.run(None, onnx_inputs(session, [row]))[0].shape == (1, 2)
    for change, words in [
        ({"price": "dear"}, "'price' is numeric"),
        ({"tags": 5}, "'tags' is a sequence column"),
        ({"word": np.datetime64("2026-01-01")}, "is a time"),
    ]:
        with pytest.raises(ValueError, match=words):
            onnx_inputs(session, [row | change])
    with pytest.raises(ValueError, match="lacks the column 'id'"):
        onnx_inputs(session, [{name: row[name] for name in row if name != "id"}])
    told = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    with pytest.raises(ValueError, match="version 9"):
        onnx_inputs(told | {"version": 9}, [row])
    same = onnx_inputs(told, [row | {"id": text} for text in (3, "3", "3.0", 3.0, "x")])
    # "3.0" is a number written with a point, and whole.
    assert same["id"].ravel().tolist() == [3, 3, 3, 3, told["unknown"]["int64"]]
    float32 = onnx.TensorProto.FLOAT
    values = [onnx.helper.make_tensor_value_info(name, float32, [1]) for name in "ab"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["a"], ["b"])], "other", values[:1], values[1:]
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    other = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    with pytest.raises(ValueError, match="encoded rows"):
        onnx_inputs(runtime.InferenceSession(other.SerializeToString()), [row])
