"""Model files: packed tables, weights and pipelines that do not fit are refused."""

import resource

import numpy as np
import pytest
import torch
from save_cases import OPTIONS, state
from save_refusals_cases import dicts, edit, forged
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    StandardScaler,
)

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import AutoDim
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.nn import FORMS
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._save import _loads


@pytest.fixture(scope="module")
def pruned_files(pruned, tmp_path_factory):
    path = tmp_path_factory.mktemp("pruned") / "model"
    files = {}
    for form, model in pruned.items():
        save(model, path)
        files[form] = path.read_bytes()
    return files


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
