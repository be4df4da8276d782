"""Files of models whose columns share vocabularies."""

import json

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec import CTRClassifier
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import onnx_inputs, to_onnx
from sklearn_autorec.serving._encoder import encoder_state, restore_encoder
from sklearn_autorec.serving._nodes import Writer
from sklearn_autorec.serving._onnx import vocabulary_of
from sklearn_autorec.serving._registry import Registry
from sklearn_autorec.serving._save import _rebuild

SHARED = {"seen": "item", "last": "item"}


@pytest.fixture(scope="module")
def shared():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"last": rng.integers(0, 9, 200), "price": rng.normal(size=200)})
    X["item"] = rng.integers(4, 15, 200)
    X["seen"] = [rng.integers(0, 20, k).tolist() for k in rng.integers(0, 4, 200)]
    model = CTRClassifier(network="fm", shared_vocabularies=SHARED, max_epochs=1, random_state=0)
    return model.fit(X, rng.integers(0, 2, 200)), X


def test_vocabulary_files_hold_ids_once(shared):
    model, X = shared
    vocabulary = json.loads(json.dumps(vocabulary_of(model)))
    by_name = {column["name"]: column for column in vocabulary["columns"]}
    assert vocabulary["version"] == 2
    assert [c["name"] for c in vocabulary["columns"] if "ids" in c] == ["item"]
    assert by_name["last"]["shares"] == by_name["seen"]["shares"] == 1
    X = X.copy()
    X.loc[0, "last"], X.at[1, "seen"] = 999, [999, 3]
    found, table = onnx_inputs(vocabulary, X.to_dict("records")), model.encoder_.encode(X)
    np.testing.assert_array_equal(found["ids"], table.ids)
    np.testing.assert_array_equal(found["sequences"], table.sequences)


def test_the_graph_reads_one_table(shared, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    model, X = shared
    to_onnx(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    vocabulary = json.loads((tmp_path / "model.onnx.vocab.json").read_text())
    found = session.run(None, onnx_inputs(vocabulary, X.to_dict("records")))[0]
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-5)


def test_files_with_the_old_name_of_the_parameter_are_read(shared):
    model, X = shared
    encoder = FieldEncoder(shared_vocabularies=SHARED).fit(X)
    writer = Writer(Registry())
    header = json.dumps(writer.node(encoder, "The model"))
    assert '"shared_vocabularies"' in header
    old = json.loads(header.replace('"shared_vocabularies"', '"share_vocabulary"'))
    again = _rebuild(old, writer.arrays, Registry(), False)
    assert again.shared_vocabularies == SHARED
    np.testing.assert_array_equal(again.transform(X), encoder.transform(X))


@pytest.mark.parametrize(
    "shared_columns",
    [{2: 0, 3: 2}, {0: 2, 2: 0}, {0: 3, 2: 3}, {1: 2, 3: 2}],
    ids=["chain", "cycle", "a list has ids", "a number"],
)
def test_states_that_cannot_be_are_refused(shared, shared_columns):
    encoder = FieldEncoder(shared_vocabularies=SHARED).fit(shared[1])
    state = encoder_state(encoder)
    assert state["shared"] == {0: 2, 3: 2}
    with pytest.raises(ModelFileError, match="shared"):
        restore_encoder(FieldEncoder(), {**state, "shared": shared_columns})
