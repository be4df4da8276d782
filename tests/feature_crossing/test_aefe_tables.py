"""AEFE: tables and conventions."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from aefe_cases import CHEAP, PLANTED, clicks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from sklearn_autorec.feature_crossing import AEFE, FieldCrosser

# tables
# ------------------------------------------------------------------------------------------------


def test_odd_columns_are_survived():
    X, y = clicks(4)
    X["constant"], X["none"], X["nan"] = "a", None, np.nan
    X["key"] = np.arange(len(X)).astype(str)
    X["f7"] = X["f7"].mask(np.arange(len(X)) % 3 > 0)
    X["f1"] = X["f1"].mask(X["f1"] == "v0")
    aefe = AEFE(random_state=0)
    new = aefe.fit_transform(X, y)
    assert PLANTED <= set(aefe.crosses_) and np.isfinite(new[aefe.features_].to_numpy()).all()
    assert not {"constant", "none", "nan"} & {name for pair in aefe.pair_scores_ for name in pair}
    other = X[:40].copy()
    other["f3"], other["f2"] = "never seen", None
    out = aefe.transform(other)
    assert np.isfinite(out[aefe.features_].to_numpy()).all()
    assert out["f3 x f4"].le(1).all()
    assert_allclose(out["mean(y | f3, f4)"], out["mean(y | f3, f4)"].iloc[0])
    one = pd.concat([aefe.transform(X.iloc[i : i + 1]) for i in range(20)])
    pd.testing.assert_frame_equal(one, aefe.transform(X[:20]))


def test_of_two_equal_columns_one_is_used():
    X, y = clicks(3)
    X["copy"] = "v" + X["f1"]
    aefe = AEFE(random_state=0).fit(X, y)
    assert set(aefe.crosses_) == PLANTED
    assert not any("copy" in pair for pair in aefe.pair_scores_)


def test_numbers_alone():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 4))
    X[rng.random(X.shape) < 0.05] = np.nan
    signs = np.sign(X[:, 0] * X[:, 1])
    y = (rng.random(6000) < np.where(signs > 0, 0.8, 0.2)).astype(int)
    aefe = AEFE(random_state=0)
    new = aefe.fit_transform(X, y)
    assert aefe.crosses_ == [("x0", "x1")] and new.shape == (6000, 4 + len(aefe.features_))
    assert_array_equal(new[:, :4], X)
    assert aefe.n_bins_ == dict.fromkeys(["x0", "x1", "x2", "x3"], 10)
    few = AEFE(n_bins={"x0": 2, "x1": 2}, random_state=0)
    with pytest.raises(ValueError, match="n_bins"):
        few.set_params(n_bins={"z": 2}).fit(X, y)
    few.set_params(n_bins={0: 2, 1: 2}, paradigms=("target",)).fit(X, y)
    full = ~np.isnan(X[:, :2]).any(1)
    assert len(np.unique(few.transform(X)[full, 4])) == 4


def test_nothing_to_pair():
    y = [0, 1] * 20
    one = AEFE().fit(pd.DataFrame({"a": list("ab") * 20}), y)
    assert one.features_ == [] and one.transform(pd.DataFrame({"a": ["c"]})).shape == (1, 1)
    lists = AEFE().fit(pd.DataFrame({"a": [["x", "y"], []] * 20, "b": [["x"]] * 40}), y)
    assert lists.features_ == []
    empty = pd.DataFrame({"a": [np.nan] * 40, "b": [None] * 40})
    assert AEFE().fit(empty, y).features_ == [] and AEFE().fit_transform(empty, y).shape == (40, 2)


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.integers(2, size=(100, 110)).astype(str)).add_prefix("c")
    y = (X["c7"] != X["c70"]).to_numpy()
    aefe = AEFE(random_state=0)
    new = aefe.fit_transform(X, y)
    assert (
        new.shape == (100, 110 + len(aefe.features_)) and len(aefe.pair_scores_) == 110 * 109 // 2
    )
    assert np.isfinite(new[aefe.features_].to_numpy()).all()


def test_few_rows():
    X = pd.DataFrame({"a": list("xxyy"), "b": list("xyxy")})
    out = AEFE(min_count=1).fit_transform(X, [0, 1, 1, 0])
    assert len(out) == 4 and out[["a", "b"]].equals(X)
    assert len(AEFE().fit_transform(X, [0.5, 1.5, 1.0, 0.0])) == 4


def test_a_column_of_a_new_name_is_refused():
    X, y = clicks(0, n=1200)
    X = X.rename(columns={"f7": "f1 x f2"})
    with pytest.raises(ValueError, match="already has a column 'f1 x f2'"):
        AEFE(random_state=0).fit(X, y)
    assert (
        AEFE(append=False, random_state=0).fit(X, y).transform(X).columns.tolist().count("f1 x f2")
        == 1
    )


@pytest.mark.parametrize("container", ["numpy", "list", "polars", "pyarrow"])
def test_other_tables(container):
    X, y = clicks(0, n=1200)
    expected = AEFE(**CHEAP, append=False).fit_transform(X, y)
    if container in ("polars", "pyarrow"):
        module = pytest.importorskip(container)
        table = (module.DataFrame if container == "polars" else module.table)(X.to_dict("list"))
    else:
        table = X.to_numpy(dtype="U") if container == "numpy" else X.to_numpy().tolist()
    aefe = AEFE(**CHEAP)
    out = aefe.fit_transform(table, y)
    alone = aefe.set_params(append=False).transform(table)
    if container in ("polars", "pyarrow"):
        assert type(out) is type(alone) is type(table)
        out = out.to_pandas()
    new = np.asarray(out)[:, 8:].astype(float)
    assert_allclose(new, expected.to_numpy(), rtol=1e-9)
    assert np.asarray(alone).shape == new.shape


# conventions
# -------------------------------------------------------------------------------------------


def test_one_and_two_processes_agree():
    X, y = clicks(0, n=1000)
    one, two = (AEFE(n_jobs=n, patience=1, **CHEAP).fit(X, y) for n in (1, 2))
    assert one.features_ == two.features_ and one.search_history_ == two.search_history_
    assert one.base_score_ == two.base_score_ and one.pair_scores_ == two.pair_scores_


def test_pickle_clone_text_labels_and_global_state():
    X, y = clicks(0, n=1200)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    before, states = X.copy(), (state, torch.get_rng_state())
    aefe = AEFE(**CHEAP).fit(X, np.where(y == 1, "yes", "no"))
    assert X.equals(before) and (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])
    assert clone(aefe).fit(X, y).features_ == aefe.features_
    data = pickle.dumps(aefe)
    assert len(data) < 40_000  # no rows
    pd.testing.assert_frame_equal(pickle.loads(data).transform(X), aefe.transform(X))
    assert clone(aefe).get_params() == aefe.get_params()


def test_set_output_names_and_from_estimator():
    X, y = clicks(0, n=1200)
    aefe = AEFE(**CHEAP)
    new = aefe.fit_transform(X, y)
    assert (
        aefe.get_feature_names_out().tolist()
        == new.columns.tolist()
        == [*X.columns, *aefe.features_]
    )
    codes = OrdinalEncoder().fit_transform(X)
    out = AEFE(**CHEAP, append=False).set_output(transform="pandas").fit_transform(codes, y)
    assert isinstance(out, pd.DataFrame) and "mean(y | x1, x2)" in out.columns
    crosser = FieldCrosser.from_estimator(aefe).fit(X)
    assert set(crosser.crosses_) == PLANTED
    assert_array_equal(crosser.transform(X)["f1 x f2"], aefe.transform(X)["f1 x f2"])
    # Training rows have target means of others; all else is as in transform.
    again = aefe.transform(X)
    for name in aefe.features_:
        assert (new[name].to_numpy() == again[name].to_numpy()).all() == ("mean" not in name)
    index = X.set_index(np.arange(1200) * 2)
    assert aefe.transform(index).index.equals(index.index)


@pytest.mark.parametrize(
    "params, y, message",
    [
        ({}, [1] * 40, r"got 1 class\(es\)"),
        ({}, [0] * 39 + [1], "two classes with two rows"),
        ({}, None, "requires y"),
        ({}, [0, 1] * 19, "inconsistent numbers of samples"),
        ({}, [np.nan] * 40, "NaN"),
        ({"paradigms": ("count", "median")}, [0, 1] * 20, "paradigms must be some of"),
        ({"paradigms": ()}, [0, 1] * 20, "paradigms must be some of"),
        ({"estimator": StandardScaler()}, [0, 1] * 20, "estimator"),
        ({"estimator": LogisticRegression()}, [0.5, 1.5] * 20, "continuous"),
        ({"cv": 1}, [0, 1] * 20, "cv"),
        ({"importance_quantile": 1.0}, [0, 1] * 20, "importance_quantile"),
        ({"n_bins": {"z": 3}}, [0, 1] * 20, "n_bins has 'z'"),
        ({"encoder": LogisticRegression()}, [0, 1] * 20, "encoder"),
    ],
)
def test_what_makes_no_sense_is_refused(params, y, message):
    with pytest.raises(ValueError, match=message):
        AEFE(**params).fit(np.arange(80).reshape(40, 2) % 5, y)
