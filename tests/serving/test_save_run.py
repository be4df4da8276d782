"""Model files: nothing in them can run."""

import ast
import json
import pickle
import struct
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from save_cases import state

import sklearn_autorec.serving
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.serving._save import _loads


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
                assert not (
                    called == "load" and ast.unparse(node.func) not in {"json.load", "onnx.load"}
                )
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
