"""Tables in float16 and int8 in model files and in ONNX."""

import copy

import numpy as np
import pytest
from onnx_graphs import exported
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import ANT, SSEDS, MagnitudePruning
from sklearn_autorec.serving import _model, save

OPTIONS = {"network": "fm", "embedding_dim": 8, "max_epochs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def clicks():
    return mixed_clicks(300)


@pytest.fixture(scope="module")
def plain(clicks):
    return CTRClassifier(**OPTIONS, storage="int8").fit(*clicks)


@pytest.fixture(scope="module")
def packed(clicks):
    X, y = clicks
    storage = dict.fromkeys(X.columns[:3], "int8")
    return CTRClassifier(**OPTIONS, search=MagnitudePruning(0.4), storage=storage).fit(X, y)


def forged(model, change, path, monkeypatch):
    """Save the model with other words on how its tables are stored."""
    describe = _model.described_storage

    def changed(module):
        stored = copy.deepcopy(describe(module))
        change(stored)
        return stored

    monkeypatch.setattr(_model, "described_storage", changed)
    save(model, path)


TABLE, VALUES = "embedding.weight", "embedding.values"


def _rename(stored):
    stored["linear.bias"] = stored.pop(TABLE)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.update({TABLE: 3}), "a dict of"),
        (lambda s: s[TABLE].pop("codes"), "a dict of"),
        (lambda s: s[TABLE].update(shape=[2, 2]), "shape"),
        (lambda s: s[TABLE].update(shape=s[TABLE]["shape"][::-1]), "codes"),
        (lambda s: s[TABLE].update(shape=[]), "shape"),
        (lambda s: s[TABLE]["codes"][0].__setitem__(0, "int4"), "a list of pairs"),
        (lambda s: s[TABLE]["codes"][0].__setitem__(1, -1), "a list of pairs"),
        (lambda s: s[TABLE]["codes"][0].__setitem__(1, 7), "kinds of"),
        (lambda s: s[TABLE]["scales"][0].__setitem__(1, 7), "of .* vectors"),
        (lambda s: s[TABLE].update(scales=[]), "kinds where rows are int8"),
        (lambda s: s[TABLE]["codes"][0].__setitem__(0, "float16"), "kinds where rows are int8"),
        (_rename, "shape"),
        (lambda s: s.pop(TABLE), "do not belong"),
    ],
)
def test_other_words_than_the_arrays_have_are_refused(
    change, message, plain, tmp_path, monkeypatch
):
    # A file is read again before it is kept.
    with pytest.raises(ValueError, match=message):
        forged(plain, change, tmp_path / "model", monkeypatch)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[VALUES]["scales"][0].__setitem__(1, 1),
        lambda s: s[VALUES].update(shape=[1, *s[VALUES]["shape"]]),
        lambda s: s.pop(VALUES),
    ],
)
def test_packed_tables_are_looked_at_as_well(change, packed, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="not saved: .*values"):
        forged(packed, change, tmp_path / "model", monkeypatch)


def test_files_without_stored_tables_say_nothing_of_them(clicks):
    """So that older versions read them."""
    model = CTRClassifier(**OPTIONS).fit(*clicks)
    assert "stored" not in _model.model_state(model)["module"]


@pytest.mark.parametrize(
    "search, storage",
    [
        (None, "int8"),
        (None, "float16"),
        (None, {"f0": "int8", "f1": "float16", "x0": "int8"}),
        (MagnitudePruning(0.6), "int8"),
        (MagnitudePruning(0.6), {"f0": "int8", "f1": "float16"}),
        (SSEDS(0.6), "int8"),
        (ANT(), "int8"),
    ],
    ids=["int8", "float16", "by column", "packed", "packed by column", "by field", "anchors"],
)
def test_graphs_hold_the_stored_tables(search, storage, clicks, tmp_path):
    X, y = clicks
    model = CTRClassifier(**OPTIONS, search=search, storage=storage, lr=0.02).fit(X, y)
    found = exported(model, tmp_path)(X[:50])
    np.testing.assert_allclose(found, model.predict_proba(X[:50]), atol=1e-5)
    import onnx

    graph = onnx.load(tmp_path / "model.onnx")
    kinds = {t.data_type for t in graph.graph.initializer if len(t.raw_data) > 200}
    wanted = {"int8": {onnx.TensorProto.INT8}, "float16": {onnx.TensorProto.FLOAT16}}
    assert isinstance(storage, dict) or kinds & wanted[storage]
