"""What other parameters of a fit, and tables of other libraries, are where rows come in blocks."""

import importlib.util

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest
from parquet_cases import clicks, reading_threads, write_parts
from sklearn.metrics import get_scorer

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import ParquetDataset
from sklearn_autorec.engine import FieldNet, _time_limit
from sklearn_autorec.exceptions import ConvergenceWarning
from sklearn_autorec.feature_crossing import FieldCrosser, TargetStatistics
from sklearn_autorec.interaction import AutoFIS

QUICK = {"network": "fm", "max_epochs": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Rows with a day, clicks, and a folder with both."""
    X, y = clicks(2000)
    X = X.assign(day=np.random.default_rng(0).permutation(2000) // 20)
    folder = tmp_path_factory.mktemp("clicks")
    write_parts(folder, X.assign(click=y), 800, 250)
    return X, y, folder


def same(model, other, X):
    np.testing.assert_array_equal(model.predict_proba(X), other.predict_proba(X))


# max_time, losses and scores of the user's, callbacks
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch):
    """The training steps so far, each of which takes a second."""
    taken, step = [], FieldNet.train_step

    def train_step(net, batch, **params):
        taken.append(len(batch))
        return step(net, batch, **params)

    monkeypatch.setattr(FieldNet, "train_step", train_step)
    monkeypatch.setattr(_time_limit.time, "monotonic", lambda: 100.0 + len(taken))
    return taken


def test_time_ends_a_training_amid_its_blocks(parts, steps):
    data = ParquetDataset(parts[2], buffer_rows=500)
    model = CTRClassifier(**QUICK, batch_size=64, early_stopping=False, max_time=5)
    with pytest.warns(ConvergenceWarning, match="max_time=5 seconds are over .*: train"):
        model.fit(data, "click")
    assert steps == [64] * 5 and model.stopped_ == "max_time" and model.n_iter_ == 1
    assert model.dataset_["n_training_rows"] == 2000 and reading_threads() == []


def test_time_ends_a_search_amid_its_blocks(parts, steps):
    data = ParquetDataset(parts[2], buffer_rows=500)
    params = QUICK | {"batch_size": 64, "early_stopping": False, "max_time": 12}
    model = CTRClassifier(**params, search=AutoFIS(max_interactions=1))
    with pytest.warns(ConvergenceWarning, match="search-AutoFIS, train"):
        model.fit(data, "click")
    assert len(steps) == 12 and len(model.search_history_) == 1 and reading_threads() == []


def test_time_that_is_enough_changes_nothing(parts):
    X, _, folder = parts
    data = ParquetDataset(folder, buffer_rows=500)
    unlimited, limited = (
        CTRClassifier(**QUICK, max_time=t).fit(data, "click") for t in (None, 1e4)
    )
    same(unlimited, limited, X)
    assert limited.stopped_ == "finished"


def hinge(predicted, target):
    return (1 - (2 * target - 1) * predicted).clamp(min=0)


def far_off(predicted, target):
    return (target - predicted).abs()


@pytest.mark.parametrize(
    "make, loss", [(CTRClassifier, hinge), (RatingRegressor, far_off)], ids=["clicks", "ratings"]
)
def test_a_loss_of_the_users_trains_on_blocks_too(make, loss, parts):
    """All rows are in one buffer, which trains as a table does."""
    X, y, folder = parts
    params = QUICK | {"early_stopping": False}
    model = make(**params, loss=loss).fit(ParquetDataset(folder, buffer_rows=1999), "click")
    of_table = make(**params, loss=loss).fit(X, y)
    assert model.dataset_["n_training_rows"] == 2000
    np.testing.assert_allclose(model.predict(X), of_table.predict(X), rtol=1e-4)
    plain = make(**params).fit(X, y)
    assert abs(plain.history_[-1]["train_loss"] - model.history_[-1]["train_loss"]) > 1e-3


def test_a_scorer_judges_the_rows_that_blocks_hold_out(parts):
    data = ParquetDataset(parts[2], buffer_rows=500)
    params = QUICK | {"early_stopping": True, "validation_fraction": 0.2}
    model = CTRClassifier(**params, monitor=get_scorer("roc_auc")).fit(data, "click")
    expected = CTRClassifier(**params, monitor="auc").fit(data, "click")
    assert [r["valid_score"] for r in model.history_] == pytest.approx(
        [r["valid_score"] for r in expected.history_]
    )


class Ticks:
    """Counts the tasks that have ended."""

    def __init__(self):
        self.ended = []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)

    def teardown(self, estimator, context):
        pass


def test_callbacks_hear_of_epochs_over_blocks(parts):
    ticks = Ticks()
    model = CTRClassifier(**QUICK)
    if not hasattr(model, "set_callbacks"):
        pytest.skip("this scikit-learn has no callbacks")
    model.set_callbacks(ticks).fit(ParquetDataset(parts[2], buffer_rows=500), "click")
    assert ticks.ended.count("epoch") == model.n_iter_ == 2


# The newest rows, negatives that were left out
# --------------------------------------------------------------------------------------------------


def test_the_newest_rows_judge_where_a_data_set_fits_into_memory(parts):
    X, y, folder = parts
    params = QUICK | {"early_stopping": True, "validation": "time", "time_column": "day"}
    model = CTRClassifier(**params).fit(ParquetDataset(folder), "click")
    same(model, CTRClassifier(**params).fit(X, y), X)
    drawn = CTRClassifier(**QUICK, early_stopping=True).fit(X, y)
    assert (model.predict_proba(X) != drawn.predict_proba(X)).any()


def test_of_larger_ones_the_newest_rows_are_refused_by_name(parts):
    data = ParquetDataset(parts[2], buffer_rows=500)
    model = CTRClassifier(**QUICK, validation="time", time_column="day")
    with pytest.raises(ValueError, match=r"validation='time' .*'day'.* more than buffer_rows"):
        model.fit(data, "click")
    with pytest.raises(ValueError, match="validation='time' and time_column go together"):
        CTRClassifier(**QUICK, time_column="day").fit(data, "click")


@pytest.mark.parametrize("members", [1, 2])
def test_negatives_that_were_left_out_are_made_up_for_once(members, parts):
    X, y, folder = parts
    data = ParquetDataset(folder, buffer_rows=1999)
    params = QUICK | {"early_stopping": False, "members": members}
    model = CTRClassifier(**params, negative_sampling_rate=0.1).fit(data, "click")
    assert model.negative_sampling_rate_ == 0.1
    same(model, CTRClassifier(**params, negative_sampling_rate=0.1).fit(X, y), X)
    plain = CTRClassifier(**params).fit(data, "click")
    expected = plain.decision_function(X) + np.log(0.1)
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-6)
    # The rows of a data set are corrected as those of a table, not once more when put together.
    np.testing.assert_array_equal(model.decision_function(data), model.decision_function(X))
    if members > 1:
        for of_data, of_table in zip(
            model.predict_proba(data, return_std=True),
            model.predict_proba(X, return_std=True),
            strict=True,
        ):
            np.testing.assert_array_equal(of_data, of_table)


def test_further_blocks_are_sampled_as_the_first(parts, tmp_path):
    X, y, folder = parts
    data = ParquetDataset(folder, buffer_rows=500)
    model = CTRClassifier(**QUICK, negative_sampling_rate=0.1, warm_start=True).fit(data, "click")
    with pytest.raises(ValueError, match="negative_sampling_rate=0.5 is not that of the rows"):
        model.set_params(negative_sampling_rate=0.5, max_epochs=3).fit(data, "click")
    write_parts(tmp_path, X.assign(click=np.arange(2000) % 3), 1000, 250)
    with pytest.raises(ValueError, match="negative_sampling_rate=0.5 needs two classes, y has 3"):
        CTRClassifier(**QUICK, negative_sampling_rate=0.5).fit(
            ParquetDataset(tmp_path, buffer_rows=500), "click"
        )


# Lazy tables
# --------------------------------------------------------------------------------------------------

LAZY = {
    "polars": lambda folder: pl.scan_parquet(folder / "*.parquet"),
    "narwhals": lambda folder: nw.from_native(pl.scan_parquet(folder / "*.parquet")),
}


@pytest.fixture
def written(monkeypatch):
    """Calls of what writes lazy tables into files."""
    from sklearn_autorec.datasets import _sources

    calls, real = [], _sources._write_polars
    monkeypatch.setattr(_sources, "_write_polars", lambda *args: calls.append(1) or real(*args))
    return calls


@pytest.mark.parametrize("kind", LAZY)
def test_a_lazy_table_is_a_data_set_by_the_name_of_its_target(kind, parts, written):
    X, y, folder = parts
    expected = CTRClassifier(**QUICK).fit(X, y)
    lazy = LAZY[kind](folder)
    collected = CTRClassifier(**QUICK).fit(lazy.select(*X.columns), y)
    assert not written
    streamed = CTRClassifier(**QUICK).fit(lazy, "click")
    assert written
    same(expected, collected, X)
    same(expected, streamed, X)
    # Rows that judge go by the same rule, each table by its own target.
    judges = lazy.select(*X.columns), y
    given = CTRClassifier(**QUICK).fit(lazy, "click", X_val=judges[0], y_val=judges[1])
    named = CTRClassifier(**QUICK).fit(X, y, X_val=lazy, y_val="click")
    same(given, named, X)


def test_transformers_have_the_same_rule(parts, written):
    X, y, folder = parts
    table, lazy = X.drop(columns="day"), pl.scan_parquet(folder / "*.parquet").drop("day")
    for transformer in (TargetStatistics(random_state=0), FieldCrosser([(0, 1)])):
        expected = transformer.fit(table, y).transform(table)
        for data, target in ((lazy.drop("click"), y), (lazy, "click")):
            written.clear()
            found = transformer.fit(data, target).transform(table)
            assert len(written) == (target is not y)
            np.testing.assert_array_equal(found.to_numpy(), expected.to_numpy())
        with pytest.raises(TypeError, match="fit_transform needs rows in memory, got a LazyFrame"):
            transformer.fit_transform(lazy, "click")
        transformer.fit_transform(lazy.drop("click"), y)


def test_names_of_targets_go_with_data_sets_and_targets_with_tables(parts):
    X, y, folder = parts
    with pytest.raises(TypeError, match="y='click' is the name of a column.* X is a DataFrame"):
        CTRClassifier(**QUICK).fit(X.assign(click=y), "click")
    with pytest.raises(TypeError, match="y_val='click' is the name of a column"):
        CTRClassifier(**QUICK).fit(X, y, X_val=X.assign(click=y), y_val="click")
    for data in (ParquetDataset(folder), pyarrow.dataset.dataset(folder)):
        with pytest.raises(TypeError, match="y must be the name of a column where X is a data set"):
            CTRClassifier(**QUICK).fit(data, y)


def test_rows_are_predicted_in_whatever_they_come(parts, written, monkeypatch):
    X, y, folder = parts
    model = CTRClassifier(**QUICK).fit(X, y)
    expected = model.predict_proba(X)
    lazy = pl.scan_parquet(folder / "*.parquet")
    for rows in (ParquetDataset(folder), lazy, nw.from_native(lazy), X.to_dict("records")):
        np.testing.assert_array_equal(model.predict_proba(rows), expected)
    assert len(written) == 2
    for wrong, message in (
        (lazy.rename({"f0": "f"}).drop("click"), "Missing: .'f0'.; new: .'f'"),
        (lazy.select(*reversed(X.columns)), "must be in the order"),
    ):
        with pytest.raises(ValueError, match=message):
            model.predict_proba(wrong)
    assert len(written) == 2  # nothing was computed for them
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "sklearn_autorec.estimators._datasets.find_spec",
        lambda name: None if name == "pyarrow" else find(name),
    )
    np.testing.assert_array_equal(model.predict_proba(lazy.drop("click")), expected)
    assert len(written) == 2  # collected, for want of pyarrow


def test_columns_without_names_are_in_no_data_set(parts):
    X, y, folder = parts
    model = CTRClassifier(**QUICK).fit(X.to_numpy(), y)
    with pytest.raises(ValueError, match="was fitted on columns without names"):
        model.predict(ParquetDataset(folder))


def test_frozen_vectors_and_shared_vocabularies_hold_where_rows_come_in_blocks(tmp_path):
    """Values that no row has are kept for their vectors, and columns share, as of a table."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"item": rng.choice(list("abcd"), 900), "last": rng.choice(list("abce"), 900)})
    write_parts(tmp_path, X.assign(click=rng.integers(0, 2, 900)), 300, 100)
    vectors = pd.DataFrame(rng.normal(size=(3, 4)), index=["a", "b", "never seen"])
    model = CTRClassifier(
        network="fm",
        embedding_dim=4,
        shared_vocabularies={"last": "item"},
        initial_embeddings={"item": vectors},
        frozen_embeddings=["item"],
        max_epochs=1,
        random_state=0,
        device="cpu",
    )
    model.fit(ParquetDataset(tmp_path, buffer_rows=300, sample_rows=200), "click")
    assert model.dataset_ is not None and model.encoder_.shared_fields_ == {1: 0}
    found = model.get_embeddings("item").loc[vectors.index].to_numpy()
    np.testing.assert_array_equal(found, vectors.to_numpy().astype(np.float32))
