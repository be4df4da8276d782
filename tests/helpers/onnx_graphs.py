"""Exported graphs as others run them."""

import json
from functools import cache

import pytest

from sklearn_autorec.serving import onnx_inputs, to_onnx


@cache
def translations_made_once():
    """Let torch read its table of ONNX operators once a process rather than in every export, of
    whose time it is a fifth. Exports only look things up in it.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:  # another release keeps it elsewhere
        return
    ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))


def exported(model, folder):
    """Export a model; a function that says what onnxruntime makes of rows, a table or a list of
    dicts, that only the vocabulary file has mapped. Skips where one of the two is not installed.
    """
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    translations_made_once()
    path = folder / "model.onnx"
    to_onnx(model, path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    vocabulary = json.loads((folder / "model.onnx.vocab.json").read_text())
    (output,) = session.get_outputs()
    assert output.name == vocabulary["output"] and output.type == "tensor(float)"
    assert [i.name for i in session.get_inputs()] == [i["name"] for i in vocabulary["inputs"]]

    def run(X):
        records = X if isinstance(X, list) else X.to_dict("records")
        return session.run(None, onnx_inputs(vocabulary, records))[0]

    return run
