"""Searches for fields and crosses of tables in Parquet files: what they find in memory."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
from parquet_cases import write_parts
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import ParquetDataset, make_ctr
from sklearn_autorec.feature_crossing import AEFE, GLIDER
from sklearn_autorec.feature_crossing._aefe._pair_features import Feature, Statistic
from sklearn_autorec.feature_selection import (
    FSTD,
    MARLFS,
    AdaFS,
    DualAgent,
    FieldSelector,
    OptFS,
    RandomSubset,
    SensitivitySelector,
)
from sklearn_autorec.linear_model import CrossedLinearClassifier
from sklearn_autorec.preprocessing import FieldEncoder

TREE = DecisionTreeClassifier(max_depth=3, random_state=0)
TREES = HistGradientBoostingClassifier(max_iter=20, random_state=0)
MODEL = CTRClassifier(lr=0.01, max_epochs=2, embedding_dim=4, device="cpu", random_state=0)
FEW = {"max_evaluations": 8, "random_state": 0}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Rows with numbers for ids, a column that says nothing, clicks, and a folder with all."""
    options = {"n_fields": 4, "cardinality": 6, "pairs": [(0, 1)], "informative_fields": [2]}
    X, y, _ = make_ctr(1200, **options, main_effect=2, ids="int", random_state=0)
    folder = tmp_path_factory.mktemp("fields")
    write_parts(folder, X.assign(same=1, click=y, w=np.arange(1200) % 3), 500, 100)
    return X.assign(same=1), y, folder


def data_of(folder, **options):
    columns = ["f0", "f1", "f2", "f3", "same", "click"]
    return ParquetDataset(folder, columns=columns, **options)


SELECTORS = [
    FSTD(TREE, **FEW),
    MARLFS(TREE, **FEW),
    DualAgent(TREE, **FEW),
    RandomSubset(TREE, **FEW),
    SensitivitySelector(TREE, method="permutation", random_state=0),
]


@pytest.mark.parametrize("selector", SELECTORS, ids=lambda s: type(s).__name__)
def test_subsets_are_those_of_the_same_rows_in_memory(selector, parts):
    X, y, folder = parts
    ours = clone(selector).fit(data_of(folder), "click")  # the sample is all rows
    theirs = clone(selector).fit(X, y)
    assert np.array_equal(ours.support_, theirs.support_)
    np.testing.assert_array_equal(ours.scores_, theirs.scores_)
    assert ours.feature_names_in_.tolist() == X.columns.tolist()
    pd.testing.assert_frame_equal(ours.transform(X), theirs.transform(X))
    few = data_of(folder, sample_rows=300)
    sample = few.sample(300).to_pandas()
    of_few = clone(selector).fit(few, "click")
    of_sample = clone(selector).fit(sample.drop(columns="click"), sample["click"].to_numpy())
    np.testing.assert_array_equal(of_few.scores_, of_sample.scores_)
    assert 200 < len(sample) < 400 and of_few.best_score_ != ours.best_score_  # the control


def test_a_draw_reads_no_target(parts):
    X, _, folder = parts
    drawn = RandomSubset(n_features_to_select=2, random_state=0).fit(data_of(folder), "click")
    expected = RandomSubset(n_features_to_select=2, random_state=0).fit(X)
    assert np.array_equal(drawn.support_, expected.support_)
    assert RandomSubset(random_state=0).fit(data_of(folder)).n_features_in_ == 6


def test_lazy_tables_are_sampled_too(parts):
    X, y, folder = parts
    lazy = pl.scan_parquet(folder / "*.parquet").select(*X.columns, "click")
    ours, theirs = FSTD(TREE, **FEW).fit(lazy, "click"), FSTD(TREE, **FEW).fit(X, y)
    np.testing.assert_array_equal(ours.scores_, theirs.scores_)
    ours = FieldSelector(estimator=MODEL).fit(lazy, "click")
    np.testing.assert_array_equal(ours.scores_, FieldSelector(estimator=MODEL).fit(X, y).scores_)


@pytest.mark.parametrize("method", [None, OptFS(), AdaFS()], ids=str)
def test_gates_of_a_small_data_set_are_those_of_the_table(method, parts):
    X, y, folder = parts
    weight = np.arange(1200) % 3
    whole = ParquetDataset(folder)
    ours = FieldSelector(method, estimator=MODEL).fit(whole, "click", sample_weight="w")
    theirs = FieldSelector(method, estimator=MODEL).fit(X, y, sample_weight=weight)
    assert np.array_equal(ours.support_, theirs.support_) and not ours.support_.all()
    np.testing.assert_array_equal(ours.scores_, theirs.scores_)
    pd.testing.assert_frame_equal(ours.transform(X), theirs.transform(X))


def test_gates_of_a_larger_one_see_all_rows(tmp_path, monkeypatch):
    options = {"n_fields": 4, "cardinality": 6, "pairs": [], "informative_fields": [2]}
    X, y, _ = make_ctr(2000, **options, main_effect=2, ids="int", random_state=0)
    write_parts(tmp_path, X.assign(click=y), 1000, 200)
    seen, slices = [], ParquetDataset.slices

    def noted(self, number, columns=None):
        seen.append(number)
        return slices(self, number, columns)

    monkeypatch.setattr(ParquetDataset, "slices", noted)
    data = ParquetDataset(tmp_path, buffer_rows=300, sample_rows=100)
    model = clone(MODEL).set_params(max_epochs=6)
    found = FieldSelector(n_features_to_select=1, estimator=model).fit(data, "click")
    assert found.get_feature_names_out().tolist() == ["f2"]
    assert len(seen) == 10 * (1 + 1 + 6 + 1)  # the sample, a first pass, the search, the training
    assert found.transform(X).columns.tolist() == ["f2"]


@pytest.mark.parametrize("prefit", [False, True])
def test_glider_explains_the_sample_and_counts_all_rows(prefit, parts):
    X, y, folder = parts
    options = {"max_crosses": 2, "n_instances": 16, "n_perturbations": 100, "random_state": 0}
    estimator = clone(TREES).fit(X, y) if prefit else TREES
    options |= {"prefit": prefit}
    ours, theirs = (
        GLIDER(estimator, **options).fit(*given) for given in ((data_of(folder), "click"), (X, y))
    )
    assert ours.crosses_ == theirs.crosses_ and ours.crosses_
    np.testing.assert_array_equal(ours.scores_, theirs.scores_)
    pd.testing.assert_frame_equal(ours.transform(X), theirs.transform(X))
    few = GLIDER(estimator, **options).fit(data_of(folder, sample_rows=300), "click")
    counted = clone(few.crosser_).fit(X)
    assert few.crosser_.n_ids_ == counted.n_ids_
    pd.testing.assert_frame_equal(few.transform(X), counted.transform(X))


@pytest.mark.parametrize("kind", ["clicks", "classes", "stars"])
def test_aefe_searches_the_sample_and_counts_all_rows(kind, parts, tmp_path):
    X, y, _ = parts
    price, three = np.random.default_rng(0).normal(size=1200), np.arange(1200) % 3
    X = X[["f0", "f1", "f2"]].assign(price=price)
    target = {"clicks": y, "classes": y + three, "stars": 4.0 * y + 0.3 * three}[kind]
    write_parts(tmp_path, X.assign(target=target), 500, 100)
    options = {"n_pairs": 3, "max_epochs": 2, "max_features": 6, "random_state": 0, "min_gain": 0.0}
    options |= {"importance_quantile": 0.0, "min_count": 2, "n_bins": 4}
    ours = AEFE(**options).fit(ParquetDataset(tmp_path), "target")
    theirs = AEFE(**options).fit(X, target)
    assert ours.features_ == theirs.features_ and len(ours.features_) > 3
    np.testing.assert_array_equal(ours.scores_, theirs.scores_)
    pd.testing.assert_frame_equal(ours.transform(X), theirs.transform(X), rtol=1e-9)
    few = AEFE(**options).fit(ParquetDataset(tmp_path, sample_rows=400), "target")
    rows = ParquetDataset(tmp_path).sample(400).to_pandas()
    of_sample = AEFE(**options).fit(rows.drop(columns="target"), rows["target"])
    assert few.features_ == of_sample.features_
    own = few.transform(X), of_sample.transform(X)
    assert (own[0] != own[1]).any(axis=None)  # the control: all rows are counted


@pytest.mark.parametrize("kind", ["count", "nunique", "share", "mean"])
def test_statistics_of_blocks_are_those_of_all_rows(kind):
    rng = np.random.default_rng(0)
    sizes, n = {0: 6, 1: 9}, 900
    ids = {i: rng.integers(0, size, n) for i, size in sizes.items()}
    targets = rng.integers(0, 2, (n, 1)).astype(float)
    for max_ids in (100, 7):  # with the latter combinations are hashed
        options = SimpleNamespace(min_count=12, max_ids=max_ids, smoothing=2.0)
        whole = Statistic(Feature(kind, (0, 1)), options).fit(ids, sizes, targets)
        cut = Statistic(Feature(kind, (0, 1)), options)
        cut.combinations, totals = whole.combinations, None
        totals = cut.totals(sizes)
        for part in np.array_split(np.arange(n), 7):
            own = {i: column[part] for i, column in ids.items()}
            totals.add(cut.combinations.ids(cut.columns_of(own)), own, targets[part])
        cut.finish(totals)
        np.testing.assert_array_equal(cut.values, whole.values)
        assert len(np.unique(whole.values)) > (1 if kind == "nunique" else 4)


# Refusals
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made", [FSTD(TREE), FieldSelector(), GLIDER(TREES), AEFE()], ids=lambda m: type(m).__name__
)
def test_what_is_no_column_is_named(made, parts):
    data = data_of(parts[2])
    with pytest.raises(ValueError, match="y='clicks' is no column of the data set"):
        made.fit(data, "clicks")
    with pytest.raises(TypeError, match="y must be the name of a column .*, got None"):
        made.fit(data, None)
    with pytest.raises(TypeError, match="y='click' is the name of a column, as it is given with"):
        made.fit(parts[0], "click")
    assert not hasattr(made, "n_features_in_")


def test_weights_of_rows_that_are_not_there_are_refused(parts, enabled_routing):
    selector = FSTD(clone(TREE).set_fit_request(sample_weight=True), **FEW)
    with pytest.raises(TypeError, match=r"\['sample_weight'\] cannot be given with a data set"):
        selector.fit(data_of(parts[2]), "click", sample_weight="w")


@pytest.fixture
def enabled_routing():
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize(
    "made",
    [FieldEncoder(), CrossedLinearClassifier()],
    ids=lambda m: type(m).__name__,
)
def test_what_needs_its_rows_says_what_to_do_instead(made, parts):
    told = "X is a ParquetDataset, whose rows come in blocks; give its rows in memory, X.read"
    with pytest.raises(TypeError, match=told):
        made.fit(data_of(parts[2]), "click")


@pytest.mark.parametrize("made", [GLIDER(TREES), AEFE()], ids=lambda m: type(m).__name__)
def test_rows_that_are_not_in_memory_are_not_transformed(made, parts):
    with pytest.raises(TypeError, match="fit_transform needs rows in memory, got a ParquetDataset"):
        made.fit_transform(data_of(parts[2]), "click")
    assert not hasattr(made, "n_features_in_")


def test_a_class_that_the_sample_lacks_is_named_with_its_row_group(parts, tmp_path):
    X, y, _ = parts
    write_parts(tmp_path, X.assign(kind=np.where(np.arange(1200) == 777, 7, y)), 500, 100)
    told = r"part-1.parquet, row group 2: the target 'kind': 7 is a class .*; raise sample_rows"
    with pytest.raises(ValueError, match=told):
        AEFE(n_pairs=1, max_epochs=1).fit(ParquetDataset(tmp_path, sample_rows=300), "kind")
