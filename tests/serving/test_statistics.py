"""Saving and loading target statistics."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from small_tables import mixed_clicks

from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_crossing import AutoCross, TargetStatistics
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._container import pack, unpack
from sklearn_autorec.serving._save import _loads


@pytest.fixture(scope="module")
def clicks():
    return mixed_clicks(2000, cardinality=6, pairs=[(0, 1)], missing_rate=0.05)


@pytest.mark.parametrize(
    "statistics",
    [
        TargetStatistics(random_state=0),
        TargetStatistics(["x0"], [("f0", "x0")], append=True, order="f3"),
        TargetStatistics(
            crosses=AutoCross(random_state=0), append=False, method="folds", random_state=0
        ),
        TargetStatistics(crosses=None, append=False, counts=False),
    ],
    ids=["default", "order", "autocross", "alone"],
)
@pytest.mark.parametrize("target", ["two", "three", "numbers"])
def test_transformers(clicks, tmp_path, statistics, target):
    X, y = clicks
    X = X.assign(f3=X["f3"].str[1:].astype(float).fillna(0))
    if target != "two":
        if isinstance(statistics.crosses, AutoCross) and target == "three":
            pytest.skip("AutoCross knows two classes and numbers")
        y = y + (np.arange(2000) % 2) if target == "three" else y + X["f3"] / 7
    save(statistics.fit(X, y), tmp_path / "model")
    loaded = load(tmp_path / "model")
    for rows in (X, X[:1], X[:50].assign(f0="never seen", x0=np.nan)):
        pd.testing.assert_frame_equal(loaded.transform(rows), statistics.transform(rows))
    assert loaded.get_feature_names_out().tolist() == statistics.get_feature_names_out().tolist()
    assert vars(loaded).keys() == vars(statistics).keys()
    assert loaded.crosses_ == statistics.crosses_ and loaded.columns_ == statistics.columns_
    pd.testing.assert_frame_equal(loaded.fit(X, y).transform(X), statistics.transform(X))


def test_pipelines_and_arrays(clicks, tmp_path):
    X, y = clicks
    model = make_pipeline(TargetStatistics(random_state=0), LogisticRegression(max_iter=1000)).fit(
        X, y
    )
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
    # Hashed combinations.
    wide = np.random.default_rng(0).permuted(np.tile(np.arange(9000)[:, None], 5), axis=0)
    statistics = TargetStatistics(crosses=[(0, 1, 2, 3, 4)], append=False).fit(
        wide, np.arange(9000) % 2
    )
    save(statistics, tmp_path / "model")
    np.testing.assert_array_equal(
        load(tmp_path / "model").transform(wide), statistics.transform(wide)
    )
    with pytest.raises(ValueError, match="not fitted"):
        save(TargetStatistics(), tmp_path / "model")


def core_of(model):
    """Nodes of the state of the core, of the transformer, and the arrays' places."""
    state = model["state"]
    items = dict(state["statistics"]["items"])
    return state, items


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("means nan", "means must be finite"),
        ("counts zero", "counts must be 2"),
        ("combinations falling", "combinations must be rising"),
        ("combinations beyond", "combinations must be rising"),
        ("prior", "prior must be finite"),
        ("sizes", "sizes must be"),
        ("method", "method must be one of"),
        ("keys", "keys"),
        ("classes", "classes must be"),
        ("target_type", "target_type must be"),
        ("missing", "must be a dict of"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, part, message):
    X = pd.DataFrame({"a": ["x", "y"] * 20, "b": np.arange(40.0)})
    statistics = TargetStatistics(crosses=None).fit(X, np.arange(40) % 2)
    save(statistics, tmp_path / "model")
    model, arrays = unpack((tmp_path / "model").read_bytes())
    arrays = [a.copy() for a in arrays]
    model_state, items = core_of(model)

    def array(node):
        return arrays[node["index"]]

    if part == "means nan":
        array(items["means"][0])[0] = np.nan
    elif part == "counts zero":
        array(items["counts"][0])[0] = 0
    elif part == "combinations falling":
        array(items["combinations"][0])[:] = array(items["combinations"][0])[::-1].copy()
    elif part == "combinations beyond":
        array(items["combinations"][0])[1] = 200
    elif part == "prior":
        array(items["prior"])[0] = np.inf
    elif part == "sizes":
        items["sizes"][0] = 10**9
    elif part == "method":
        next(item for item in model_state["statistics"]["items"] if item[0] == "method")[1] = "leak"
    elif part == "keys":
        model_state["keys"] = []
    elif part == "classes":
        model_state["classes"] = None
    elif part == "target_type":
        model_state["target_type"] = "multiclass"
    else:
        del model_state["positions"]
    with pytest.raises(ModelFileError, match=message):
        _loads(b"".join(pack(model, arrays)))
