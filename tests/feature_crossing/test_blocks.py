"""Crosses and statistics of tables in Parquet files: counted in blocks, the same as in memory."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from parquet_cases import write_parts

from sklearn_autorec.datasets import ParquetDataset, make_ctr
from sklearn_autorec.feature_crossing import AutoCross, FieldCrosser, TargetStatistics


def table(n=3000):
    options = {"n_fields": 4, "n_numeric": 1, "cardinality": 12, "missing_rate": 0.05}
    X, y, _ = make_ctr(n, pairs=[(0, 1)], random_state=0, **options)
    return X, y


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    X, y = table()
    folder = tmp_path_factory.mktemp("crosses")
    stars = np.random.default_rng(0).normal(1e6, 5.0, len(X))
    weight = np.arange(len(X)) % 3
    write_parts(folder, X.assign(click=y, stars=stars, w=weight, kind=y + weight), 1300, 400)
    columns = [*X.columns, "click"]
    return X, y, stars, weight, ParquetDataset(folder, columns=columns), folder


def pairs_of(X):
    return [tuple(X.columns[:2]), (X.columns[2], X.columns[4])]


@pytest.mark.parametrize("max_ids", [2**20, 50])
@pytest.mark.parametrize("output", ["ids", "onehot"])
def test_combinations_are_those_of_memory(parts, max_ids, output):
    X, y, _, _, data, _ = parts
    params = {"max_ids": max_ids, "output": output}
    crosser = FieldCrosser(pairs_of(X), **params).fit(data, "click")
    of_table = FieldCrosser(pairs_of(X), **params).fit(X)
    assert crosser.n_ids_ == of_table.n_ids_
    assert list(crosser.get_feature_names_out()) == list(of_table.get_feature_names_out())
    ours, theirs = crosser.transform(X), of_table.transform(X)
    if output == "onehot":
        assert (ours != theirs).nnz == 0
    else:
        pd.testing.assert_frame_equal(ours, theirs)


def test_all_rows_count_whatever_the_sample(parts):
    X, _, _, _, _, folder = parts
    few = ParquetDataset(folder, columns=list(X.columns), sample_rows=50)
    of_table = FieldCrosser(pairs_of(X), min_count=3).fit(X)
    assert FieldCrosser(pairs_of(X), min_count=3).fit(few).n_ids_ == of_table.n_ids_


def test_autocross_searches_the_sample_and_counts_all_rows(parts):
    X, y, _, _, data, folder = parts
    whole = AutoCross(random_state=0).fit(data, "click")  # the sample is all rows
    of_table = AutoCross(random_state=0).fit(X, y)
    assert whole.crosses_ == of_table.crosses_ and tuple(X.columns[:2]) in whole.crosses_
    assert np.array_equal(whole.scores_, of_table.scores_)
    pd.testing.assert_frame_equal(whole.transform(X), of_table.transform(X))
    few = ParquetDataset(folder, columns=data.columns, sample_rows=1500)
    of_few = AutoCross(random_state=0).fit(few, "click")
    sample = few.sample(1500).to_pandas()
    searched = AutoCross(random_state=0).fit(sample.drop(columns="click"), sample["click"])
    assert of_few.crosses_ == searched.crosses_ and np.array_equal(of_few.scores_, searched.scores_)
    again = FieldCrosser.from_estimator(of_few).fit(X)
    assert of_few.crosser_.n_ids_ == again.n_ids_


@pytest.mark.parametrize(
    "params",
    [
        {"crosses": "auto"},
        {"crosses": AutoCross(random_state=0), "append": True},
        {"columns": [0, 4], "crosses": [(0, 1)], "smoothing": 2.0},
    ],
    ids=str,
)
def test_statistics_are_those_of_memory_to_the_bit(parts, params):
    X, y, _, _, data, _ = parts
    ours = TargetStatistics(random_state=0, **params).fit(data, "click")
    theirs = TargetStatistics(random_state=0, **params).fit(X, y)
    assert ours.crosses_ == theirs.crosses_ and ours.columns_ == theirs.columns_
    assert ours.target_mean_ == theirs.target_mean_ and ours.target_type_ == "binary"
    pd.testing.assert_frame_equal(ours.transform(X), theirs.transform(X))


def test_statistics_with_weights_classes_and_numbers(parts):
    X, y, stars, weight, _, folder = parts
    data = ParquetDataset(folder, columns=list(X.columns))
    for name, target, given in (
        ("kind", y + weight, None),
        ("kind", y + weight, weight),
        ("stars", stars, None),
        ("stars", stars, weight),
    ):
        options = {} if given is None else {"sample_weight": "w"}
        ours = TargetStatistics(random_state=0).fit(data, name, **options)
        theirs = TargetStatistics(random_state=0).fit(X, target, sample_weight=given)
        assert ours.target_type_ == theirs.target_type_ and ours.crosses_ == theirs.crosses_
        np.testing.assert_allclose(ours.target_mean_, theirs.target_mean_, rtol=1e-12)
        np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-6, atol=1e-6)


def test_sums_are_put_together_a_few_times(parts, monkeypatch):
    monkeypatch.setattr(
        "sklearn_autorec.feature_crossing._target_statistics._block_sums.LEAST_WAITING", 3
    )
    X, y, _, _, data, _ = parts
    ours = TargetStatistics(crosses=[(0, 1)], random_state=0).fit(data, "click")
    theirs = TargetStatistics(crosses=[(0, 1)], random_state=0).fit(X, y)
    pd.testing.assert_frame_equal(ours.transform(X), theirs.transform(X))


def test_lazy_tables_are_read_in_blocks_too(parts):
    X, y, _, _, data, folder = parts
    lazy = pl.scan_parquet(folder / "*.parquet").select(*X.columns, "click")
    ours = TargetStatistics(random_state=0).fit(lazy, "click")
    pd.testing.assert_frame_equal(
        ours.transform(X), TargetStatistics(random_state=0).fit(X, y).transform(X)
    )


@pytest.mark.parametrize(
    "transformer",
    [FieldCrosser([(0, 1)]), AutoCross(), TargetStatistics()],
    ids=lambda t: type(t).__name__,
)
def test_rows_that_are_not_in_memory_are_not_transformed(parts, transformer):
    data = parts[-2]
    with pytest.raises(TypeError, match="fit_transform needs rows in memory, got a ParquetDataset"):
        transformer.fit_transform(data, "click")
    assert not hasattr(transformer, "n_features_in_")


def test_what_is_no_column_is_named(parts):
    X, y, _, _, data, folder = parts
    with pytest.raises(ValueError, match="y='clicks' is no column of the data set"):
        TargetStatistics().fit(data, "clicks")
    with pytest.raises(TypeError, match="y must be the name of a column .*, got None"):
        AutoCross().fit(data, None)
    with pytest.raises(TypeError, match="sample_weight must be the name of a column"):
        TargetStatistics().fit(data, "click", sample_weight=np.ones(3000))


def test_a_missing_target_and_one_of_another_kind_are_named(tmp_path):
    X, y = table(600)
    write_parts(tmp_path, X.assign(click=pd.array(y, "Int64")), 600, 200)
    frame = pd.read_parquet(tmp_path / "part-0.parquet")
    frame.loc[450, "click"] = pd.NA
    write_parts(tmp_path, frame, 600, 200)
    told = "part-0.parquet, row group 2: the target 'click' is missing in 1 of 200 rows"
    with pytest.raises(ValueError, match=told):
        TargetStatistics().fit(ParquetDataset(tmp_path), "click")
    write_parts(tmp_path, X.assign(click=1), 600, 200)
    with pytest.raises(ValueError, match=r"y must have .* classes, got 1 class\(es\)"):
        TargetStatistics().fit(ParquetDataset(tmp_path), "click")
