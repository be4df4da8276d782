"""Crossed linear models in files."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.linear_model import CrossedLinearClassifier, CrossedLinearRegressor
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._container import pack, unpack
from sklearn_autorec.serving._forest import check_forest
from sklearn_autorec.serving._save import _loads


@pytest.fixture(scope="module")
def rows():
    X, y, _ = make_ctr(
        1500, n_fields=4, cardinality=6, n_numeric=2, n_sequences=1, pairs=[(0, 1)], random_state=0
    )
    X.loc[::9, "x0"] = np.nan
    return X, y


def fitted(kind, rows):
    X, y = rows
    options = {"max_crosses": 2, "min_gain": 0.0, "random_state": 0, "n_folds": 1}
    if kind == "several":
        return CrossedLinearClassifier(**options).fit(
            X, np.array(["a", "b", "c"])[np.arange(len(y)) % 2 + y]
        )
    if kind == "numbers":
        return CrossedLinearRegressor(**options).fit(X, y * 1e6 + X["x1"].to_numpy())
    if kind == "array":
        data = np.random.RandomState(0).randint(0, 5, (600, 3))
        return CrossedLinearClassifier(**options).fit(data, (data[:, 0] == data[:, 1]).astype(int))
    if kind == "weighted":
        return CrossedLinearClassifier(**options).fit(X, y, sample_weight=np.arange(len(y)) % 3 / 2)
    if kind == "plain":
        return CrossedLinearRegressor(max_crosses=0, n_bins=4).fit(X[["x0"]], y)
    if kind == "wide":  # more combinations than a table holds, and than 62 bits
        wide = pd.DataFrame(
            np.random.RandomState(0).randint(0, 2000, (4000, 2)), columns=["u", "v"]
        )
        return CrossedLinearClassifier(**options, min_count=1).fit(
            wide, (wide["u"] + wide["v"]) % 2
        )
    return CrossedLinearClassifier(**options).fit(X, y)


def table_of(kind, rows):
    if kind == "array":
        return np.random.RandomState(1).randint(0, 6, (50, 3))
    if kind == "wide":
        return pd.DataFrame(np.random.RandomState(0).randint(0, 2000, (50, 2)), columns=["u", "v"])
    return rows[0][["x0"]] if kind == "plain" else rows[0]


@pytest.mark.parametrize(
    "kind", ["two", "several", "numbers", "array", "weighted", "plain", "wide"]
)
def test_loaded_models_are_the_same(rows, tmp_path, kind):
    model, X = fitted(kind, rows), table_of(kind, rows)
    save(model, tmp_path / "m")
    loaded = load(tmp_path / "m")
    for table in (X, X[:1], X[5:8]):
        np.testing.assert_array_equal(loaded.predict(table), model.predict(table))
        if hasattr(model, "classes_"):
            np.testing.assert_array_equal(loaded.predict_proba(table), model.predict_proba(table))
    pd.testing.assert_frame_equal(loaded.coefficients_, model.coefficients_)
    pd.testing.assert_frame_equal(loaded.explain(X[:20]), model.explain(X[:20]))
    assert loaded.crosses_ == model.crosses_ and loaded.scores_.tolist() == model.scores_.tolist()
    assert model.crosses_ or kind in ("plain", "wide")
    assert (
        vars(loaded).keys() == vars(model).keys()
        and vars(loaded.model_).keys() == vars(model.model_).keys()
    )
    save(loaded, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


def test_held_out_logits_of_a_loaded_model(rows, tmp_path):
    X, y = rows
    model = fitted("two", rows)
    save(model, tmp_path / "m")
    loaded = load(tmp_path / "m")
    parts = np.arange(len(y)) % 3
    expected = model.model_.held_out_logits(model.encoder_.encode(X), y, parts)
    np.testing.assert_array_equal(
        loaded.model_.held_out_logits(loaded.encoder_.encode(X), y, parts), expected
    )


def test_in_a_pipeline_and_unfitted(rows, tmp_path):
    X, y = rows
    pipeline = Pipeline([("m", CrossedLinearClassifier(max_crosses=1, random_state=0))]).fit(X, y)
    save(pipeline, tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict_proba(X), pipeline.predict_proba(X))


def forged(model, tmp_path, change):
    """The file of a model after a change of its header's state and arrays."""
    save(model, tmp_path / "forged")
    header, arrays = unpack((tmp_path / "forged").read_bytes())
    header, arrays = json.loads(json.dumps(header)), [np.array(a) for a in arrays]
    core = dict(header["state"]["model"]["items"])
    arrays = change(core, arrays) or arrays
    header["state"]["model"]["items"] = [[name, value] for name, value in core.items()]
    return b"".join(bytes(part) for part in pack(header, arrays))


def put(name, at, value):
    def change(core, arrays):
        node = core[name]
        arrays[node["index"]][at] = value

    return change


def cut(name):
    def change(core, arrays):
        arrays[core[name]["index"]] = arrays[core[name]["index"]][..., :-1].copy()

    return change


def exchange(name, value):
    return lambda core, arrays: core.update({name: value})


def keys(value):
    def change(core, arrays):
        arrays[core["keys"][0]["index"]][-1] = value

    return change


def edges(value):
    def change(core, arrays):
        arrays[core["granularities"][0][-1]["index"]][0] = value

    return change


def pair(*items):
    return [{"kind": "tuple", "items": list(items)}]


CHANGES = {
    "a weight that is infinite": (put("weights", (0, 3), np.inf), "weights must be between"),
    "a weight that overflows": (put("weights", (0, 3), 1e300), "weights must be between"),
    "a weight of an empty place": (put("weights", (0, 0), 1.0), "0 in an empty place"),
    "a weight too few": (cut("weights"), "weights must be float64 of shape"),
    "a bias of nan": (put("bias", 0, np.nan), "bias must be between"),
    "rows too few": (cut("rows"), "rows must be uint32 of shape"),
    "penalties below zero": (put("penalties", (0, 0), -1.0), "penalties must be between"),
    "a field that is not there": (
        exchange("crosses", pair(0, 99)),
        "crosses must be different tuples",
    ),
    "a field twice": (exchange("crosses", pair(1, 1)), "crosses must be different tuples"),
    "a cross of one": (exchange("crosses", pair(1)), "crosses must be different tuples"),
    "no gains": (exchange("gains", []), "gains must be a list of"),
    "bins of a number that is not there": (
        lambda core, arrays: core.update(cross_bins=[[7, 7] for _ in core["cross_bins"]]),
        "cross_bins of",
    ),
    "a key beyond the combinations": (keys(2**40), r"keys of .* must be in \[0"),
    "keys that fall": (keys(-1), "must be rising int64"),
    "edges that fall": (edges(1e9), "rising finite edges"),
    "edges of nan": (edges(np.nan), "rising finite edges"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_forged_states_are_refused(rows, tmp_path, name):
    change, message = CHANGES[name]
    model = fitted("two", rows)
    assert model.crosses_
    with pytest.raises(ModelFileError, match=message):
        _loads(forged(model, tmp_path, change))


def test_crosses_whose_tables_would_fill_memory_are_refused(tmp_path):
    """A million combinations each, of which none is known: four MB a cross for a few bytes of the
    file.
    """
    X = pd.DataFrame({name: np.arange(1000).astype(str) for name in "abcdefghijklmnopqrstuvwx"})
    model = CrossedLinearClassifier(max_crosses=0).fit(X, np.arange(1000) % 2)

    def change(core, arrays):
        pairs = [(i, j) for i in range(24) for j in range(i)]
        core["crosses"] = [{"kind": "tuple", "items": list(pair)} for pair in pairs]
        core["gains"], core["cross_bins"] = [0.0] * len(pairs), [[] for _ in pairs]
        first = len(arrays)
        core["keys"] = [{"kind": "array", "index": first + k} for k in range(len(pairs))]
        return [*arrays, *(np.zeros(0, np.int64) for _ in pairs)]

    with pytest.raises(ModelFileError, match="tables of the crosses"):
        _loads(forged(model, tmp_path, change))


def test_many_crosses_of_one_number_share_its_edges(tmp_path):
    """Else a file of 1 MB would copy 20,000 edges 300 times."""
    X = pd.DataFrame(
        {"x": np.arange(40_000) / 7, **{f"c{i}": np.arange(40_000) % 2 for i in range(24)}}
    )
    model = CrossedLinearClassifier(max_crosses=0, n_bins=2**20).fit(X, np.arange(40_000) % 2)
    assert len(model.model_.granularities[0][0]) > 20_000

    def change(core, arrays):
        fields = [(*pair, 24) for pair in [(i, j) for j in range(24) for i in range(j)]]
        core["crosses"] = [{"kind": "tuple", "items": list(cross)} for cross in fields]
        core["gains"], core["cross_bins"] = [0.0] * len(fields), [[0] for _ in fields]
        core["keys"] = [{"kind": "array", "index": len(arrays) + k} for k in range(len(fields))]
        return [*arrays, *(np.zeros(0, np.int64) for _ in fields)]

    data = forged(model, tmp_path, change)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):  # the tables, or the number of weights
            _loads(data)
        assert tracemalloc.get_traced_memory()[1] < 20 * len(data)
    finally:
        tracemalloc.stop()


# trees
# --------------------------------------------------------------------------------------------------


def test_trees_are_trees():
    left, right = np.array([1, 1, 3, 3, 4]), np.array([2, 1, 4, 3, 4])
    check_forest(np.array([0]), left, right, "trees")
    check_forest(np.array([0, 3, 4]), np.array([1, 1, 2, 3, 4]), np.array([2, 1, 2, 3, 4]), "trees")
    check_forest(np.zeros(0, int), left[:0], right[:0], "trees")
    chain = np.arange(1, 42)  # both children of each node are the next: 2**40 ways
    wrong = [
        ([0], [*chain, 41], [*chain, 41], "children of one node"),
        ([0], [1, 0, 2], [2, 1, 2], "nodes before their children"),  # a circle
        ([0], [1, 1, 5], [2, 1, 2], "nodes before their children"),  # out of range
        ([0], [1, 1, 2], [1, 1, 2], "children of one node"),  # one that nothing reaches
        ([0, 1], [1, 1], [1, 1], "nodes before their children"),  # into another tree
        ([1], [1, 1], [1, 1], "roots must be from 0"),
        ([0, 0], [0, 1], [0, 1], "rising"),
        ([], [0], [0], "roots"),
    ]
    for roots, left, right, message in wrong:
        with pytest.raises(ModelFileError, match=message):
            check_forest(np.array(roots, dtype=int), np.array(left), np.array(right), "trees")
