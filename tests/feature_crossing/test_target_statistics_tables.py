"""TargetStatistics on odd tables, in pipelines, and what it refuses."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_autorec.feature_crossing import AutoCross, FieldCrosser, TargetStatistics
from sklearn_autorec.preprocessing import FieldEncoder


def test_crosses_by_search(table):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"f{i}": rng.integers(0, 8, 6000).astype(str) for i in range(12)})
    effect = rng.normal(size=(8, 8)) * 2
    y = (
        rng.random(6000) < 1 / (1 + np.exp(-effect[X["f3"].astype(int), X["f7"].astype(int)]))
    ).astype(int)
    auto = TargetStatistics(random_state=0).fit(X, y)
    assert auto.crosses_[0] == ("f3", "f7") and len(auto.columns_) == 12
    searched = TargetStatistics(crosses=AutoCross(random_state=0), random_state=0).fit(X, y)
    assert searched.crosses_ == [("f3", "f7")]
    assert FieldCrosser.from_estimator(searched).crosses == [("f3", "f7")]
    few = TargetStatistics(random_state=0).fit(X[["f0", "f1", "f2"]], y)
    assert few.crosses_ == [("f0", "f1"), ("f0", "f2"), ("f1", "f2")]


def test_regression_in_a_pipeline(table):
    X, _ = table
    y = np.where(X["user"] == "ann", 3.0, 0.0) + np.random.default_rng(0).normal(size=300)
    model = make_pipeline(
        TargetStatistics(order="time"), HistGradientBoostingRegressor(max_iter=30)
    )
    assert cross_val_score(model, X, y, cv=KFold(3, shuffle=True, random_state=0)).mean() > 0.4


def test_constant_and_missing_columns(table):
    _, y = table
    X = pd.DataFrame({"same": ["a"] * 300, "none": [None] * 300, "price": [np.nan] * 300})
    statistics = TargetStatistics(
        ["same", "none", "price"], append=False, method="folds", random_state=0
    )
    found = statistics.fit_transform(X, y)
    # All rows are one group; what a fold does not see is next to nothing.
    assert np.ptp(found.iloc[:, :3].to_numpy()) < 0.01
    np.testing.assert_allclose(statistics.transform(X[:2]).iloc[:, :3], y.mean(), rtol=1e-6)
    ordered = statistics.set_params(method="ordered").fit_transform(X, y)
    # From no row to all others.
    assert np.ptp(ordered["log_count(same)"]) == np.float32(np.log(300))
    assert ordered.notna().all(axis=None)


def test_pickle_and_clone(table):
    X, y = table
    statistics = TargetStatistics(order="time", random_state=0).fit(X, y)
    loaded = pickle.loads(pickle.dumps(statistics))
    pd.testing.assert_frame_equal(loaded.transform(X), statistics.transform(X))
    pd.testing.assert_frame_equal(clone(loaded).fit(X, y).transform(X), statistics.transform(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["usr"]}, "columns has 'usr'"),
        ({"columns": ["user", 0]}, "columns names a column twice"),
        ({"columns": ["time"], "order": "time"}, "columns has 'time', the column of order"),
        (
            {"crosses": [("user", "time")], "order": "time"},
            "crosses has 'time', the column of order",
        ),
        ({"crosses": [("user",)]}, "tuples of two or more"),
        ({"crosses": "all"}, "The 'crosses' parameter"),
        ({"cv": 1}, "The 'cv' parameter"),
        ({"cv": None}, "cv must be an int"),
        (
            {"method": "folds", "cv": ShuffleSplit(2, random_state=0)},
            "cv must hold out every row once",
        ),
        ({"order": "when"}, "order has 'when'"),
        ({"order": "user"}, "order='user' must be a column of numbers or times"),
        ({"order": "price"}, "order='price' must have no missing cells"),
        ({"order": "time", "method": "folds"}, "order='time' needs method"),
        ({"smoothing": -1.0}, "The 'smoothing' parameter"),
        ({"append": "all"}, "The 'append' parameter"),
        ({"encoder": FieldEncoder(numeric=None)}, "encoder must be a FieldEncoder"),
    ],
)
def test_what_is_refused(table, options, message):
    X, y = table
    with pytest.raises(ValueError, match=message):
        TargetStatistics(**options).fit_transform(X, y)


def test_refused_tables_and_targets(table):
    X, y = table
    with pytest.raises(ValueError, match="y must have 2 to 100 classes, got 1"):
        TargetStatistics().fit(X, np.ones(300))
    with pytest.raises(ValueError, match=r"got 150 class.*target_type=.continuous"):
        TargetStatistics().fit(X, np.arange(300) // 2)
    with pytest.raises(ValueError, match="y must have two classes"):
        TargetStatistics(target_type="binary").fit(X, np.arange(300) % 3)
    with pytest.raises(ValueError, match="'items', a sequence column"):
        TargetStatistics(["items"]).fit(X.assign(items=[["a"]] * 300), y)
    with pytest.raises(ValueError, match="already has a column 'mean"):
        TargetStatistics(append=True).fit(X.rename(columns={"price": "mean(y | user)"}), y)
    with pytest.raises(ValueError, match="no column but order"):
        TargetStatistics(order="time").fit(X[["time"]], y)
    with pytest.raises(ValueError, match="at least one positive value"):
        TargetStatistics().fit(X, y, np.zeros(300))
    statistics = TargetStatistics(random_state=0).fit(X, y)
    before = statistics.transform(X)
    with pytest.raises(ValueError, match="order has"):
        statistics.set_params(order="when").fit(X, y)
    pd.testing.assert_frame_equal(statistics.set_params(order=None).transform(X), before)
    with pytest.raises(ValueError, match="feature names"):
        statistics.transform(X.rename(columns={"user": "u"}))
