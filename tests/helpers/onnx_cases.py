"""What the tests of graphs of raw columns share: a table of every kind of column, and graphs."""

import os

import numpy as np
import pandas as pd
import pytest
from onnx_graphs import translations_made_once

from sklearn_autorec import CTRClassifier
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import onnx_inputs, to_onnx
from sklearn_autorec.serving._onnx_graph import ML, GraphBuilder
from sklearn_autorec.serving._onnx_network import encoder_of
from sklearn_autorec.serving._onnx_raw import (
    ML_VERSION,
    encoder_nodes,
    metadata_of,
    table_columns,
)
from sklearn_autorec.serving._onnx_steps import first_names, step_columns

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")

OPTIONS = {"embedding_dim": 4, "max_epochs": 2, "lr": 0.05, "random_state": 0, "device": "cpu"}
MODEL = CTRClassifier(network="fm", **OPTIONS)


def column_kinds(n=400, seed=0):
    """A table with columns of every kind, and clicks that depend on them."""
    rng = np.random.default_rng(seed)
    words = np.array(["a", "é", "日本語", "naïve café", "🙂", "NaN", "true"], dtype=object)
    w = rng.integers(0, len(words), n)
    X = pd.DataFrame(
        {
            "word": words[w],
            "digits": rng.choice(["007", "7", "7.0", "-1", "1e3"], n),
            "id": rng.choice([3, 5, -9, 2**60 + 1, 2**60 + 2], n),
            "flag": rng.random(n) < 0.4,
            "maybe": rng.choice(np.array([True, False, None], dtype=object), n),
            "half": rng.choice([0.5, 1.0, 0.1, -3.75], n),
            "price": np.exp(rng.normal(size=n)),
            "rank": rng.integers(0, 1000, n).astype(np.float32),
            "tags": [rng.choice(["x", "ü", "z"], rng.integers(0, 5)).tolist() for _ in range(n)],
            "seen": [rng.integers(0, 9, rng.integers(0, 4)).tolist() for _ in range(n)],
            "genres": ["|".join(rng.choice(["p", "q"], rng.integers(0, 3))) for _ in range(n)],
        }
    )
    y = ((w < 3) ^ X["flag"].to_numpy() ^ (X["price"].to_numpy() > 1)).astype(int)
    X.loc[X.index[::9], ["word", "price"]] = None
    X.loc[X.index[::11], "half"] = np.nan
    return X, y


ENCODER = FieldEncoder(
    categorical_features={"half": "id", "id": "id", "digits": "id", "price": "number"},
    sequence_features={"tags": ",", "seen": ",", "genres": "|"},
    max_length=3,
    time_features=None,
    min_frequency=5,
    unknown_warning=None,
)


def session_of(model, tmp_path):
    translations_made_once()
    path = tmp_path / "model.onnx"
    to_onnx(model, path, inputs="raw")
    assert sorted(os.listdir(tmp_path)) == ["model.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    return runtime.InferenceSession(path, providers=["CPUExecutionProvider"])


def records(X):
    return X.astype(object).where(X.notna(), None).to_dict("records")


def answers(session, X):
    return session.run(None, onnx_inputs(session, records(X)))[0]


def encoded(pipeline, X):
    """What the nodes before the network make of rows, and what the encoder makes of them; their
    inputs.
    """
    *steps, model = (
        [step for _, step in pipeline.steps] if hasattr(pipeline, "steps") else [pipeline]
    )
    encoder = encoder_of(model) if hasattr(model, "encoder_") else model
    graph = GraphBuilder("raw.")
    columns = table_columns(*first_names(pipeline))
    for step in steps:
        columns = step_columns(step, columns, graph)
    encoder_nodes(encoder, columns, graph, "raw.")
    outputs = {
        f"raw.{name}": onnx.helper.make_tensor_value_info(f"raw.{name}", kind, ["batch", width])
        for name, kind, width in [
            ("ids", onnx.TensorProto.INT32, len(encoder.categorical_)),
            (
                "numeric",
                onnx.TensorProto.FLOAT,
                2 * len(encoder.numeric_) + sum(n + 1 for n in encoder.vector_lengths_),
            ),
            ("sequences", onnx.TensorProto.INT32, len(encoder.sequence_) * encoder.max_length),
        ]
        if width
    }
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "cells",
            list(graph.inputs.values()),
            list(outputs.values()),
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(ML, ML_VERSION)],
        ir_version=10,
    )
    onnx.checker.check_model(proto, full_check=True)
    session = runtime.InferenceSession(proto.SerializeToString())
    feeds = onnx_inputs(metadata_of(graph), records(X))
    found = dict(zip(outputs, session.run(list(outputs), feeds), strict=True))
    for step in steps:
        X = X if isinstance(step, str) else step.transform(X)
    table = encoder.encode(X)
    for name, own in found.items():
        if name == "raw.numeric":
            expected = np.hstack([table.numeric, table.vectors])
            np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(own, getattr(table, name.removeprefix("raw.")))
    return found, {i.name: i.type for i in session.get_inputs()}


def new_rows(X):
    """Rows with values that are new, rare, missing, and spelt otherwise."""
    new = X.head(60).copy()
    new["word"] = [*["never", "", None, "TRUE", "a\u0301", " a"], *new["word"][6:]]
    new["digits"] = [*["7", "07", "1000", "", None, "7.0"], *new["digits"][6:]]
    new["id"] = [*[99, -9, 2**60, 5, 2**62, 0], *new["id"][6:]]
    new["price"] = [*[1e9, -1e9, 0.0, 1e-30, 1.0, np.nan], *new["price"][6:]]
    new["half"] = [*[0.5, 7.25, np.nan, 1.0, np.float64(np.float32(0.1)), 0.1], *new["half"][6:]]
    new["tags"] = [["new"], [], ["x"] * 9, ["z", "new", "x", "ü"], ["ü"], ["x"], *new["tags"][6:]]
    return new
