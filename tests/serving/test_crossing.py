"""Saving and loading crosses."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_crossing import AutoCross, FieldCrosser
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._container import pack, unpack
from sklearn_autorec.serving._save import _loads


@pytest.fixture(scope="module")
def clicks():
    X, y = mixed_clicks(3000, cardinality=6, pairs=[(0, 1)], missing_rate=0.05)
    return X.assign(f2=X["f2"].str[1:].astype(float)), y


def again(model, tmp_path):
    save(model, tmp_path / "model")
    return load(tmp_path / "model")


def equal(a, b):
    if isinstance(a, pd.DataFrame):
        pd.testing.assert_frame_equal(a, b)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a.shape == b.shape and a.dtype == b.dtype and (a != b).nnz == 0


@pytest.mark.parametrize(
    "crosser",
    [
        FieldCrosser([("f0", "f1"), ("f1", "x0", "f2")], n_bins={"x0": 4}),
        FieldCrosser([("f0", "f1")], append=False, min_count=1),
        FieldCrosser([("f0", "x0")], output="onehot", scales={"f0": 0.5, "f0 x x0": 2.0}),
        FieldCrosser([("f0", "f1", "f3")], max_ids=7, output="onehot"),
        FieldCrosser(
            [(0, -3)],
            encoder=FieldEncoder(categorical_features=["f0", "f1", "f3"], min_frequency=5),
        ),
        FieldCrosser([]),
        FieldCrosser([], output="onehot", append=False),
    ],
    ids=["ids", "alone", "onehot", "hashed", "encoder", "none", "nothing"],
)
def test_crossers(clicks, tmp_path, crosser):
    X = clicks[0]
    loaded = again(crosser.fit(X), tmp_path)
    new = X[:50].assign(f0="never seen", x0=np.nan)
    for rows in (X, X[:1], new):
        equal(loaded.transform(rows), crosser.transform(rows))
    assert loaded.get_feature_names_out().tolist() == crosser.get_feature_names_out().tolist()
    assert loaded.crosses_ == crosser.crosses_ and loaded.n_ids_ == crosser.n_ids_
    assert vars(loaded).keys() == vars(crosser).keys()
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(X.rename(columns={"f0": "g"}))
    equal(loaded.fit(X).transform(X), crosser.transform(X))


@pytest.mark.parametrize("columns", ["numbered", "array", "list", "many values"])
def test_tables_of_other_kinds(tmp_path, columns):
    X = np.random.default_rng(0).integers(5, size=(300, 5))
    if columns == "many values":  # more combinations than 64 bits tell apart without hashing
        X = np.random.default_rng(0).permuted(np.tile(np.arange(9000)[:, None], 5), axis=0)
    table = {"numbered": pd.DataFrame(X), "list": X.tolist()}.get(columns, X)
    crosser = FieldCrosser([(0, 1, 2, 3, 4)], min_count=1).fit(table)
    equal(again(crosser, tmp_path).transform(table), crosser.transform(table))


@pytest.mark.parametrize("output", ["ids", "onehot"])
def test_searches(clicks, tmp_path, output):
    X, y = clicks
    cross = AutoCross(output=output, random_state=0).fit(X, y)
    assert cross.crosses_ == [("f0", "f1")]
    loaded = again(cross, tmp_path)
    equal(loaded.transform(X), cross.transform(X))
    assert vars(loaded).keys() == vars(cross).keys()
    for name in (
        "crosses_",
        "base_score_",
        "scales_",
        "n_bins_",
        "search_history_",
        "n_features_in_",
        "field_names_",
    ):
        assert getattr(loaded, name) == getattr(cross, name)
    equal(loaded.scores_, cross.scores_)
    equal(
        FieldCrosser.from_estimator(loaded).fit_transform(X),
        FieldCrosser.from_estimator(cross).fit_transform(X),
    )
    assert loaded.fit(X, y).crosses_ == cross.crosses_


@pytest.mark.parametrize(
    "steps",
    [
        (AutoCross(output="onehot", random_state=0), LogisticRegression(solver="newton-cg")),
        (
            AutoCross(random_state=0).set_output(transform="pandas"),
            CTRClassifier(network="fm", max_epochs=1, random_state=0, device="cpu"),
        ),
    ],
    ids=["linear", "network"],
)
def test_pipelines(clicks, tmp_path, steps):
    X, y = clicks
    pipe = make_pipeline(*steps).fit(X, y)
    loaded = again(pipe, tmp_path)
    for rows in (X, X[:1]):
        np.testing.assert_array_equal(loaded.predict_proba(rows), pipe.predict_proba(rows))
    assert (tmp_path / "model").stat().st_size < 150_000


def test_what_is_not_fitted_or_foreign_is_not_saved(tmp_path):
    X = pd.DataFrame({"a": list("xyxy"), "b": list("ppqq")})
    with pytest.raises(ValueError, match="not fitted"):
        save(FieldCrosser([("a", "b")]), tmp_path / "model")
    crosser = FieldCrosser([("a", "b")]).fit(X)
    numbers = pd.DataFrame({"a": [1.5, 2.5, 3.5], "b": [1.5, 2.5, 3.5]})
    changed = FieldCrosser([("a", "b")]).fit(numbers)
    changed.encoder_ = FieldEncoder(numeric="standard").fit(numbers)
    with pytest.raises(ValueError, match='numeric="rank" or "quantile"'):
        save(changed, tmp_path / "model")
    crosser._more = 1
    with pytest.raises(TypeError, match="_more"):
        save(crosser, tmp_path / "model")


@pytest.fixture(scope="module")
def data(clicks, tmp_path_factory):
    X, y = clicks
    path = tmp_path_factory.mktemp("crosses") / "model"
    save(AutoCross(output="onehot", n_bins=4, random_state=0).fit(X, y), path)
    return path.read_bytes()


def value_at(node, path):
    for name in path:
        if isinstance(node, list):
            node = node[name]
        elif node.get("kind") == "dict":
            (node,) = (v for k, v in node["items"] if k == name)
        elif node.get("kind") == "tuple":
            node = node["items"][name]
        else:
            node = node["state"][name] if name in (node["state"] or ()) else node["params"][name]
    return node


def put(*path, value):
    """A change of one value of the header."""

    def change(model, arrays):
        *above, last = path
        node = value_at(model, above)
        if isinstance(node, list):
            node[last] = value
        elif node.get("kind") == "dict":
            (pair,) = (pair for pair in node["items"] if pair[0] == last)
            pair[1] = value
        else:
            (node["state"] if last in (node["state"] or ()) else node["params"])[last] = value

    return change


def array(*path, change):
    """A change of one array."""

    def apply(model, arrays):
        k = value_at(model, path)["index"]
        arrays[k] = change(arrays[k])

    return apply


def pair(*items):
    return {"kind": "tuple", "items": list(items)}


def first(value):
    def change(a):
        a = a.copy()
        a[0] = value
        return a

    return change


CROSSER, KEYS = ("crosser",), ("crosser", "combinations", 0, "categories")


@pytest.mark.parametrize(
    "change, message",
    [
        (put("crosser", value=None), "crosser must be a fitted FieldCrosser"),
        (put("scales", value=5), "scales"),
        (put("scales", "f0", value=-1.0), "scales of 'f0'"),
        (put("n_bins", "x0", value="a"), "n_bins of 'x0'"),
        (put("search_history", value=[5]), "search_history"),
        (put("base_score", value="a"), "base_score"),
        (put("base_score", value={"kind": "float", "value": "nan"}), "base_score"),
        (array("scores", change=lambda a: np.append(a, 1.0)), "scores must be 1 floats"),
        (array("scores", change=first(np.inf)), "scores must be finite"),
        (put(*CROSSER, "n_features", value=5), "names"),
        (put(*CROSSER, "n_features", value=0), "n_features"),
        (put(*CROSSER, "names", value=None), "has_feature_names"),
        (put(*CROSSER, "names", 0, value=3), "has_feature_names"),
        (put(*CROSSER, "names", 0, value="f1"), "different column names"),
        (put(*CROSSER, "names", 0, value="g"), "The columns of the encoder"),
        (put(*CROSSER, "positions", value=[0, 1, 2, 3, 4]), "The columns of the encoder"),
        (put(*CROSSER, "positions", value=[0, 1, 2, 3, 5, 4]), "rising ints below 6"),
        (put(*CROSSER, "positions", value=[0, 1, 2, 3, 4, 6]), "rising ints below 6"),
        (put(*CROSSER, "positions", value=[]), "rising ints below 6"),
        (put(*CROSSER, "crosses", value=[pair(1, 0)]), "crosses must be"),
        (put(*CROSSER, "crosses", value=[pair(0, 5)]), "crosses must be"),
        (put(*CROSSER, "crosses", value=[pair(0)]), "crosses must be"),
        (put(*CROSSER, "crosses", value=[pair(0, 1), pair(0, 1)]), "crosses must be"),
        (put(*CROSSER, "crosses", value=[]), "combinations"),
        (put(*CROSSER, "crosses", value=[pair("f0", "f1")]), "crosses must be"),
        (put(*CROSSER, "combinations", value=[0]), "number of ids"),
        (put(*CROSSER, "combinations", value=[2**31]), "number of ids"),
        (put(*CROSSER, "combinations", value=[True]), "number of ids"),
        (put(*CROSSER, "combinations", value=["a"]), "Cross 0"),
        (put(*CROSSER, "combinations", 0, "kind", value="O"), "of kind 'O'"),
        (put(*CROSSER, "combinations", 0, "n_hash_buckets", value=4), "Cross 0: values"),
        (array(*KEYS, change=lambda a: a.astype(np.int64) + 10**6), "Cross 0: values must be in"),
        (array(*KEYS, change=lambda a: a[:-1]), "counts"),
        (array(*KEYS, change=lambda a: np.zeros_like(a)), "different from each other"),
        (put(*CROSSER, "edges", value={"kind": "dict", "items": []}), "edges"),
        (array(*CROSSER, "edges", 4, change=lambda a: a[::-1].copy()), "rising scores"),
        (array(*CROSSER, "edges", 4, change=first(-9.0)), "rising scores"),
        (array(*CROSSER, "edges", 4, change=first(np.nan)), "rising scores"),
        (array(*CROSSER, "edges", 4, change=lambda a: a.astype(np.float32)), "rising scores"),
        (put(*CROSSER, "encoder", value=5), "encoder must be a fitted FieldEncoder"),
        (put(*CROSSER, "scales", "f0", value=-1.0), "scales must be finite"),
        (put(*CROSSER, "scales", value={"kind": "dict", "items": [["g", 1.0]]}), "scales has 'g'"),
        (put(*CROSSER, "output", value="dense"), "output"),
    ],
)
def test_contradictions_behind_a_right_checksum(data, change, message):
    model, arrays = unpack(data)
    arrays = [a.copy() for a in arrays]
    change(model, arrays)
    with pytest.raises(ModelFileError, match=message):
        _loads(b"".join(bytes(part) for part in pack(model, arrays)))
