"""Model files: what is refused."""

import hashlib
import resource
import struct
import time

import numpy as np
import pytest
from save_cases import state
from save_refusals_cases import dicts, edit, forged

from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.networks import FM
from sklearn_autorec.serving import load
from sklearn_autorec.serving._container import VERSION
from sklearn_autorec.serving._save import _loads


class OwnNetwork(FM):
    pass


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
        match=rf"version {VERSION[0] + 1}\.{VERSION[1]}, this sklearn-autorec reads "
        rf"{VERSION[0]}\.x; install a newer",
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
