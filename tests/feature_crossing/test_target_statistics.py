"""TargetStatistics: statistics against pandas, out of sample for training rows, for tables and targets of all kinds."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline

from sklearn_autorec.feature_crossing import AutoCross, FieldCrosser, TargetStatistics
from sklearn_autorec.preprocessing import FieldEncoder


def visits(n=600, seed=0):
    """Rows of ids, a number and a time, a target of pairs, and weights."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "user": rng.choice(["ann", "bob", "cat", "dan"], n),
            "day": pd.Series(rng.choice(["mon", "tue", None], n), dtype=object),
            "age": np.where(rng.random(n) < 0.1, np.nan, rng.normal(40, 10, n)),
            "shop": rng.integers(6, size=n),
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(60, size=n), unit="h"),
        },
        index=np.arange(n) * 3,
    )
    odd = X["user"].isin(["ann", "cat"]).to_numpy() ^ (X["shop"] % 2 == 1).to_numpy()
    y = (rng.random(n) < np.where(odd, 0.8, 0.2)).astype(int)
    return X, y


def by_group(X, y, columns, smoothing=10.0, weight=None):
    """Smoothed means and log counts of each row's group, missing being a value."""
    weight = np.ones(len(y)) if weight is None else weight
    keys = X[columns].astype(object).where(X[columns].notna(), "<missing>")
    frame = keys.reset_index(drop=True).assign(w=weight, wy=weight * y)
    n, total = (frame.groupby(columns)[c].transform("sum").to_numpy() for c in ("w", "wy"))
    return (total + smoothing * np.average(y, weights=weight)) / (n + smoothing), np.log1p(n)


# formulas --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_new_rows_get_the_statistics_of_groups(weighted):
    X, y = visits()
    weight = np.random.default_rng(1).integers(4, size=len(y)).astype(float) if weighted else None
    encoder = TargetStatistics(["shop", "day"], [("day", "user")], smoothing=4).fit(X, y, weight)
    out = encoder.transform(X)
    pd.testing.assert_frame_equal(out[X.columns], X)
    assert encoder.columns_ == ["shop", "day"] and encoder.crosses_ == [("user", "day")]
    assert out.columns.tolist() == [*X.columns, *encoder.features_] == encoder.get_feature_names_out().tolist()
    for columns, name in ((["shop"], "shop"), (["day"], "day"), (["user", "day"], "user, day")):
        means, counts = by_group(X, y, columns, 4, weight)
        assert_allclose(out[f"mean(y | {name})"], means, rtol=1e-6)
        assert_allclose(out[f"log_count({name})"], counts, rtol=1e-6)
    assert encoder.n_ids_ == [6, 3, 12] and encoder.target_mean_ == pytest.approx(np.average(y, weights=weight))


def test_training_rows_get_those_of_the_other_folds():
    X, y = visits()
    cv = KFold(4, shuffle=True, random_state=0)
    encoder = TargetStatistics(["user"], [("user", "shop")], cv=cv, append=False, counts=False)
    out = encoder.fit_transform(X, y)
    assert out.columns.tolist() == ["mean(y | user)", "mean(y | user, shop)"] and (out.index == X.index).all()
    for train, test in cv.split(X, y):
        for name, columns in zip(out.columns, (["user"], ["user", "shop"]), strict=True):
            sums = X.iloc[train].assign(y=y[train]).groupby(columns)["y"].agg(["sum", "size"])
            found = sums.reindex(
                pd.MultiIndex.from_frame(X.iloc[test][columns]) if len(columns) > 1 else X.iloc[test]["user"]
            )
            means = (found["sum"].fillna(0) + 10 * y.mean()) / (found["size"].fillna(0) + 10)
            assert_allclose(out[name].iloc[test], means, rtol=1e-6)
    assert_array_equal(encoder.transform(X), encoder.fit(X, y).transform(X))


@pytest.mark.parametrize("kind", ["datetime", "number", "position"])
def test_training_rows_get_those_of_earlier_rows(kind):
    X, y = visits(200)
    if kind != "datetime":
        X["when"] = X["when"].astype("int64")
    encoder = TargetStatistics(["user"], [("user", "shop")], order=4 if kind == "position" else "when", append=False)
    out = encoder.fit_transform(X, y)
    for row in range(0, 200, 9):
        earlier = (X["when"] < X["when"].iloc[row]).to_numpy()
        for columns, name in ((["user"], "user"), (["user", "shop"], "user, shop")):
            seen = earlier & (X[columns] == X[columns].iloc[row]).all(axis=1).to_numpy()
            assert_allclose(out[f"mean(y | {name})"].iloc[row], (y[seen].sum() + 10 * y.mean()) / (seen.sum() + 10))
            assert_allclose(out[f"log_count({name})"].iloc[row], np.log1p(seen.sum()), rtol=1e-6)
    shuffled = np.random.default_rng(0).permutation(200)
    again = clone(encoder).fit_transform(X.iloc[shuffled], y[shuffled])
    assert_allclose(again, out.iloc[shuffled], rtol=1e-6)


def test_the_column_of_the_order_has_no_statistics_unless_asked_for():
    X, y = visits()
    X["when"] = X["when"].astype("int64")
    assert "when" in TargetStatistics().fit(X, y).columns_
    assert TargetStatistics(order="when").fit(X, y).columns_ == ["user", "day", "shop"]
    assert TargetStatistics(["when"], order="when").fit(X, y).columns_ == ["when"]
    assert TargetStatistics(order="when", encoder=FieldEncoder()).fit(X, y).columns_ == ["user", "day", "shop"]


def test_missing_is_a_value_and_unseen_has_the_mean_of_all():
    X = pd.DataFrame({"a": ["x", None, "x", None, "z"]})
    y = [1, 1, 1, 0, 0]
    encoder = TargetStatistics(smoothing=1, append=False).fit(X, y)
    out = encoder.transform(pd.DataFrame({"a": [None, "new", "x"]}))
    assert_allclose(out, [[1.6 / 3, np.log(3)], [0.6, 0], [2.6 / 3, np.log(3)]], rtol=1e-6)
    assert encoder.target_mean_ == 0.6


def test_numbers_are_cut_into_bins_where_they_are_named():
    X, y = visits()
    assert TargetStatistics().fit(X, y).columns_ == ["user", "day", "shop"]
    encoder = TargetStatistics(["age"], [("age", "user")], n_bins={"age": 5}).fit(X, y)
    assert encoder.n_ids_ == [6, 24]  # and missing
    counts = np.expm1(encoder.transform(X)["log_count(age)"])
    assert np.allclose(counts[X["age"].notna()], (X["age"].notna().sum()) / 5, atol=1.01)


# targets ---------------------------------------------------------------------------------------------


def test_several_classes_have_a_column_each():
    X, y = visits()
    y = np.array(["low", "mid", "top"])[(y + (X["shop"] > 3)).to_numpy()]
    encoder = TargetStatistics(["user"], counts=False, append=False)
    out = encoder.fit(X, y).transform(X)
    assert out.columns.tolist() == ["mean(y=low | user)", "mean(y=mid | user)", "mean(y=top | user)"]
    assert encoder.classes_.tolist() == ["low", "mid", "top"] and encoder.target_type_ == "multiclass"
    for column, label in zip(out, encoder.classes_, strict=True):
        assert_allclose(out[column], by_group(X, y == label, ["user"])[0], rtol=1e-6)
    assert_allclose(out.sum(axis=1), 1, rtol=1e-6)
    assert_allclose(encoder.target_mean_, [np.mean(y == c) for c in encoder.classes_])
    assert_allclose(encoder.fit_transform(X, y).sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1e-30, 0.0), (1e200, 0.0), (1.0, 1e9)])
def test_numbers_keep_their_digits_on_any_scale(scale, shift):
    X, y = visits()
    numbers = (y + X["shop"].to_numpy() / 7) * scale + shift
    encoder = TargetStatistics(["user"], target_type="continuous", append=False)
    means, _ = by_group(X, (numbers - shift) / scale, ["user"])
    out = encoder.fit(X, numbers).transform(X)["mean(y | user)"]
    assert_allclose((out - shift) / scale, means, rtol=1e-6)
    assert encoder.classes_ is None and encoder.target_mean_ == pytest.approx(numbers.mean())


def test_ratings_are_classes_unless_said_otherwise():
    X, y = visits()
    ratings = y * 3 + (X["shop"].to_numpy() > 2) + 1
    assert TargetStatistics().fit(X, ratings).target_type_ == "multiclass"
    assert TargetStatistics(target_type="continuous").fit(X, ratings).target_type_ == "continuous"
    assert TargetStatistics().fit(X, ratings + 0.5).target_type_ == "continuous"
    assert TargetStatistics(target_type="multiclass", counts=False).fit(X, y).features_[:2] == [
        "mean(y=0 | user)",
        "mean(y=1 | user)",
    ]


# weights ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [None, "when"])
def test_rows_without_weight_are_as_good_as_absent(order):
    X, y = visits()
    weight = np.random.default_rng(0).integers(3, size=len(y)).astype(float)
    there = weight > 0
    X.loc[X.index[~there], "user"] = "nobody"
    label = np.where(there, y, 7)  # a class that no row that counts has
    options = {"crosses": [("user", "age"), ("user", "shop")], "order": order, "append": False, "random_state": 0}
    whole = TargetStatistics(**options)
    of_all = whole.fit_transform(X, label, weight)
    part = TargetStatistics(**options)
    of_kept = part.fit_transform(X[there], y[there], weight[there])
    assert_array_equal(of_all[there], of_kept)
    assert_array_equal(whole.transform(X), part.transform(X))
    repeated = np.repeat(np.arange(len(y)), weight.astype(int))
    rows = TargetStatistics(**options).fit(X.iloc[repeated], y[repeated])
    assert_allclose(whole.transform(X), rows.transform(X), rtol=1e-6)


# crosses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["classes", "numbers", "several"])
def test_auto_finds_the_planted_pair_and_nothing_in_noise(target):
    X, y = visits(3000)
    if target == "numbers":
        y = y + np.random.default_rng(0).normal(size=len(y)) / 2
    if target == "several":
        y = y + 2 * (np.random.default_rng(0).random(len(y)) < 0.2)
    encoder = TargetStatistics(crosses="auto", order="when", random_state=0).fit(X, y)
    assert encoder.crosses_ == [("user", "shop")]
    assert TargetStatistics(crosses="auto", max_crosses=0).fit(X, y).crosses_ == []
    noise = np.random.default_rng(1).permutation(y)
    assert TargetStatistics(crosses="auto", order="when", random_state=0).fit(X, noise).crosses_ == []
    assert FieldCrosser.from_estimator(encoder).fit(X).crosses_ == [("user", "shop")]


def test_a_search_finds_the_crosses_in_a_clone():
    X, y = visits(3000)
    search = AutoCross(random_state=0, n_bins=(4,))
    weight = np.where(np.arange(3000) % 10, 1.0, 0.0)
    encoder = TargetStatistics(crosses=search, order="when").fit(X, y, weight)
    assert encoder.crosses_ == [("user", "shop")] and not hasattr(search, "crosses_")
    found = clone(search).fit(X.drop(columns="when"), y)
    assert TargetStatistics(crosses=found.crosses_).fit(X, y).crosses_ == found.crosses_
    # Of a table without names, whose columns before the time have other positions in the search.
    array = np.column_stack([X["when"].astype("int64"), *(pd.factorize(X[c])[0] for c in ("user", "shop"))])
    assert TargetStatistics(crosses=search, order=0).fit(array, y).crosses_ == [("x1", "x2")]


def test_the_bins_of_a_search_are_taken_over():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.random(4000), "b": rng.choice(["u", "v"], 4000)})
    y = ((X["a"] > 0.5) ^ (X["b"] == "u")).to_numpy() ^ (rng.random(4000) < 0.1)
    encoder = TargetStatistics(crosses=AutoCross(n_bins=(4,), random_state=0), n_bins=3).fit(X, y.astype(int))
    assert encoder.crosses_ == [("a", "b")] and encoder.n_ids_ == [2, 8]


# leakage ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [None, "t"])
def test_noise_columns_stay_noise(order):
    own, leak = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = pd.DataFrame(
            {f"c{i}": rng.integers(2500, size=6000).astype(str) for i in range(4)} | {"t": rng.random(6000)}
        )
        y = rng.integers(2, size=6000)
        encoder = TargetStatistics(
            crosses=[("c0", "c1"), ("c2", "c3")], order=order, smoothing=1, append=False, random_state=seed
        )
        half = np.arange(6000) % 2 == 0
        for found, aucs in ((encoder.fit_transform(X, y), own), (encoder.transform(X), leak)):
            trees = HistGradientBoostingClassifier(max_iter=40, early_stopping=False).fit(found[half], y[half])
            aucs.append(roc_auc_score(y[~half], trees.predict_proba(found[~half])[:, 1]))
    assert abs(np.mean(own) - 0.5) < 0.02
    assert min(leak) > 0.9  # the control: statistics that hold the row itself


def test_a_pipeline_gains_from_the_pair_on_new_rows():
    X, y = visits(3000)
    X = X.drop(columns="when")

    def score(**options):
        model = make_pipeline(TargetStatistics(append=False, random_state=0, **options), LogisticRegression())
        return cross_val_score(model, X, y, scoring="roc_auc", cv=3).mean()

    assert score(crosses="auto") > 0.75 and score() < 0.6


def test_regression_in_a_pipeline():
    X, y = visits(2000)
    model = make_pipeline(TargetStatistics(crosses=[("user", "shop")], append=False), LinearRegression())
    assert model.fit(X[:1500], y[:1500] + 0.5).score(X[1500:], y[1500:] + 0.5) > 0.25
    model.fit(X, y + 0.5, targetstatistics__sample_weight=np.arange(2000) % 3)


# containers, state -----------------------------------------------------------------------------------


def test_containers_agree():
    pl, pa = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    X, y = visits()
    X = X.drop(columns="when").reset_index(drop=True)
    options = {"crosses": [("user", "age")], "random_state": 0}
    expected = TargetStatistics(**options).fit_transform(X, y)
    new = expected[expected.columns[4:]].to_numpy()
    tables = [pl.from_pandas(X), pa.Table.from_pandas(X)]
    for table in tables:
        out = TargetStatistics(**options).fit_transform(table, y)
        assert type(out) is type(table)
        out = out.to_pandas()
        assert out.columns.tolist() == expected.columns.tolist()
        assert_array_equal(out[expected.columns[4:]], new)
    rows = X.astype(object).to_numpy().tolist()
    options["crosses"] = [(0, 2)]
    out = TargetStatistics(**options).fit_transform(rows, y)
    assert out.dtype == object
    assert_array_equal(out[:, 4:].astype(float), new)
    out = TargetStatistics(append=False, **options).fit_transform(X.astype(object).to_numpy(), y)
    assert out.dtype == np.float64
    assert_array_equal(out, new)


@pytest.mark.parametrize("append", [True, False])
def test_set_output(append):
    X, y = visits()
    X = X.drop(columns="when")
    encoder = TargetStatistics(append=append).set_output(transform="pandas")
    names = [*(X.columns if append else []), *encoder.fit(X, y).features_]
    assert encoder.fit_transform(X, y).columns.tolist() == names
    array = X[["shop"]].to_numpy()
    out = encoder.fit(array, y).transform(array)
    assert out.columns.tolist() == [*(["x0"] if append else []), "mean(y | x0)", "log_count(x0)"]
    assert encoder.get_feature_names_out(["shop"])[-1] == "log_count(shop)"


def test_one_row_has_the_bits_of_many_and_pickles_agree():
    X, y = visits()
    encoder = TargetStatistics(crosses=[("user", "shop"), ("user", "age", "day")], order="when").fit(X, y)
    whole = encoder.transform(X)
    pd.testing.assert_frame_equal(pd.concat([encoder.transform(X[i : i + 1]) for i in range(30)]), whole[:30])
    again = pickle.loads(pickle.dumps(encoder))
    pd.testing.assert_frame_equal(again.transform(X), whole)


def test_the_same_seed_draws_the_same_folds():
    X, y = visits()
    one, two, other = (TargetStatistics(random_state=s).fit_transform(X, y) for s in (0, 0, 1))
    pd.testing.assert_frame_equal(one, two)
    assert not one.equals(other)
    fitted = TargetStatistics(crosses="auto", random_state=0)
    crosses = fitted.fit(X, y).crosses_
    fitted.fit_transform(X, y)
    assert fitted.crosses_ == crosses


def test_a_fit_that_fails_changes_nothing():
    X, y = visits()
    encoder = TargetStatistics(["user"]).fit(X, y)
    before = encoder.transform(X)
    with pytest.raises(ValueError, match="two classes or more"):
        encoder.fit(X, np.zeros(len(y)))
    pd.testing.assert_frame_equal(encoder.transform(X), before)


def test_a_table_without_ids_passes_through():
    X = pd.DataFrame({"a": np.arange(20.0) / 3})
    encoder = TargetStatistics()
    pd.testing.assert_frame_equal(encoder.fit_transform(X, np.arange(20) % 2), X)
    pd.testing.assert_frame_equal(encoder.transform(X), X)
    assert encoder.features_ == [] and TargetStatistics(append=False).fit_transform(X, np.arange(20) % 2).shape == (
        20,
        0,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["nobody"]}, "columns has 'nobody', which is neither"),
        ({"columns": ["user", 0]}, "columns has 'user' more than once"),
        ({"columns": ["tags"]}, "columns has 'tags', a sequence column"),
        ({"crosses": [("user", "tags")]}, "crosses has 'tags', a sequence column"),
        ({"crosses": [("user",)]}, "two or more columns"),
        ({"crosses": "all"}, "crosses"),
        ({"order": "nobody"}, "order has 'nobody'"),
        ({"order": "age"}, "order names the column 'age', which has .* missing value"),
        ({"order": "user"}, "order names the column 'user', which must hold numbers or times"),
        ({"smoothing": -1.0}, "smoothing"),
        ({"cv": 1}, "cv.*must be an int in the range"),
        ({"cv": ShuffleSplit(3, random_state=0)}, "each (row )?must be"),
        ({"n_bins": {"age": 0}}, "n_bins must be"),
        ({"target_type": "binary"}, "y must have two classes, got 3"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(options, message):
    X, y = visits(60)
    X["tags"] = [["a"], ["b", "c"]] * 30
    if "target_type" in options:
        y = np.arange(60) % 3
    with pytest.raises((ValueError, TypeError), match=message):
        TargetStatistics(**options).fit_transform(X, y)


def test_an_estimator_that_finds_no_crosses_is_refused():
    X, y = visits(60)
    with pytest.raises(ValueError, match=r"crosses must be an estimator that finds crosses_.*got LogisticRegression"):
        TargetStatistics(crosses=LogisticRegression()).fit(X[["shop"]], y)


def test_a_name_that_is_there_already_is_refused():
    X, y = visits(60)
    X["mean(y | user)"] = 1.0
    with pytest.raises(ValueError, match=r"already has a column 'mean\(y \| user\)'"):
        TargetStatistics(["user"]).fit(X, y)
    assert TargetStatistics(["user"], append=False).fit_transform(X, y).shape == (60, 2)


def test_one_row_cannot_learn_from_others():
    with pytest.raises(ValueError, match="n_samples = 1"):
        TargetStatistics().fit(pd.DataFrame({"a": ["x", "y"]}), [0, 1], [1.0, 0.0])
