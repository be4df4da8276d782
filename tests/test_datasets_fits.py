"""Fits from tables in Parquet files: as good as from memory, to the bit where all rows fit."""

import pickle
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.dataset
import pytest
import torch
from parquet_cases import clicks, reading_threads, write_parts
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import ParquetDataset, make_ctr
from sklearn_autorec.estimators._datasets import streamed
from sklearn_autorec.exceptions import SingleClassWarning
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

QUICK = {"network": "fm", "max_epochs": 2, "random_state": 0, "device": "cpu"}


def state_of(model):
    return model.net_.module_.state_dict()


def same_weights(model, other):
    ours, theirs = state_of(model), state_of(other)
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Rows, clicks, and a folder with both."""
    X, y = clicks(3000)
    folder = tmp_path_factory.mktemp("clicks")
    write_parts(folder, X.assign(click=y), 1300, 400)
    return X, y, folder


def as_dask(X, y, folder):
    dataframe = pytest.importorskip("dask.dataframe")
    return dataframe.from_pandas(X.assign(click=y), npartitions=3, sort=False)


SOURCES = {
    "parquet": lambda X, y, folder: ParquetDataset(folder),
    "arrow": lambda X, y, folder: pyarrow.dataset.dataset(folder),
    "filtered": lambda X, y, folder: pyarrow.dataset.dataset(folder).filter(
        pyarrow.dataset.field("click") >= 0
    ),
    "polars": lambda X, y, folder: pl.scan_parquet(folder / "*.parquet"),
    "dask": as_dask,
}


@pytest.mark.parametrize("source", SOURCES)
def test_what_fits_into_a_buffer_is_fitted_as_a_table_to_the_bit(source, parts, monkeypatch):
    X, y, folder = parts
    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent))
    model = CTRClassifier(**QUICK).fit(SOURCES[source](X, y, folder), "click")
    assert same_weights(model, CTRClassifier(**QUICK).fit(X, y))
    assert model.feature_names_in_.tolist() == list(X.columns)
    assert not hasattr(model, "dataset_")
    assert not list(folder.parent.glob("sklearn_autorec-*"))


def test_a_filter_of_a_data_set_is_heeded(parts):
    X, y, folder = parts
    filtered = pyarrow.dataset.dataset(folder).filter(pyarrow.dataset.field("click") == 1)
    with pytest.warns(SingleClassWarning):
        model = CTRClassifier(**QUICK).fit(filtered, "click")
    assert model.classes_.tolist() == [1]


def test_blocks_that_fit_into_one_buffer_train_to_the_bit(parts):
    X, y, folder = parts
    # The last block is what makes the buffer full, so that all rows are in it.
    data = ParquetDataset(folder, buffer_rows=2999)
    params = QUICK | {"early_stopping": False, "embedding_l2": 1e-3, "members": 2}
    model = CTRClassifier(**params).fit(data, "click")
    assert model.dataset_ == {
        "n_rows": 3000,
        "n_training_rows": 3000,
        "n_held_out": 0,
        "n_sampled": 3000,
        "n_blocks": 9,
    }
    assert same_weights(model, CTRClassifier(**params).fit(X, y))
    given = QUICK | {"max_epochs": 4}
    of_table = CTRClassifier(**given).fit(X[:2000], y[:2000], X_val=X[2000:], y_val=y[2000:])
    stopped = CTRClassifier(**given).fit(
        ParquetDataset(
            write_parts(folder.parent, X.assign(click=y)[:2000], 2000, 500)[0], buffer_rows=1999
        ),
        "click",
        X_val=X[2000:],
        y_val=y[2000:],
    )
    assert same_weights(stopped, of_table) and stopped.history_ == of_table.history_


@pytest.mark.parametrize("cache", [False, True])
def test_all_kinds_of_columns_train_to_the_bit(cache, tmp_path):
    X, y, _ = make_ctr(1200, n_fields=4, n_numeric=2, n_sequences=1, random_state=0)
    write_parts(tmp_path, X.assign(click=y), 700, 250)
    params = QUICK | {"network": "deepfm", "early_stopping": False}
    model = CTRClassifier(**params).fit(
        ParquetDataset(tmp_path, buffer_rows=1199, cache=cache), "click"
    )
    assert same_weights(model, CTRClassifier(**params).fit(X, y))


@pytest.mark.parametrize("network", ["fm", "auto"])
def test_small_buffers_predict_as_well_as_memory(network, tmp_path):
    X, y = clicks(8000)
    X_test, y_test = X[6000:], y[6000:]
    write_parts(tmp_path, X.assign(click=y)[:6000], 2500, 300)
    params = QUICK | {"network": network, "max_epochs": 5, "lr": 0.01, "batch_size": 128}
    params["early_stopping"] = True
    in_memory = CTRClassifier(**params).fit(X[:6000], y[:6000])
    data = ParquetDataset(tmp_path, buffer_rows=1000, sample_rows=2000)
    streamed = CTRClassifier(**params).fit(data, "click")
    loss, of_table = (log_loss(y_test, m.predict_proba(X_test)) for m in (streamed, in_memory))
    constant = log_loss(y_test, np.full(2000, y[:6000].mean()))
    assert constant - of_table > 0.02
    assert abs(loss - of_table) < 0.01
    assert 450 < streamed.dataset_["n_held_out"] < 750
    assert streamed.dataset_["n_rows"] == 6000
    assert sum(streamed.dataset_[n] for n in ("n_training_rows", "n_held_out")) == 6000
    if network == "auto":
        assert 1700 < streamed.dataset_["n_sampled"] < 2300
        assert set(streamed.part_weights_) > {"network"}


def test_vocabularies_and_counts_are_those_of_all_rows(parts):
    X, y, folder = parts
    data = ParquetDataset(folder, buffer_rows=500, sample_rows=100)
    encoder = CTRClassifier(**QUICK).fit(data, "click").encoder_
    whole = FieldEncoder().fit(X)
    assert np.array_equal(encoder.encode(X).ids, whole.encode(X).ids)
    assert all(map(np.array_equal, encoder.counts_, whole.counts_))


def test_weights_and_class_weights_are_those_of_a_table(parts, tmp_path):
    X, y, _ = parts
    weight = np.random.default_rng(0).integers(0, 4, len(X))
    write_parts(tmp_path, X.assign(click=y, w=weight), 1300, 400)
    params = QUICK | {"early_stopping": False, "class_weight": "balanced"}
    data = ParquetDataset(tmp_path, buffer_rows=2999)
    model = CTRClassifier(**params).fit(data, "click", sample_weight="w")
    of_table = CTRClassifier(**params).fit(X, y, sample_weight=weight)
    assert model.dataset_["n_rows"] == (weight > 0).sum()
    np.testing.assert_allclose(
        model.predict_proba(X[:50]), of_table.predict_proba(X[:50]), atol=1e-5
    )
    # Adam does not see the scale of a loss, the history does.
    losses = [m.history_[0]["train_loss"] for m in (model, of_table)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    unweighted = CTRClassifier(**params | {"class_weight": None}).fit(X, y)
    assert np.abs(unweighted.predict_proba(X[:50]) - of_table.predict_proba(X[:50])).max() > 0.01
    assert model.feature_names_in_.tolist() == list(X.columns)


def test_classes_of_weight_zero_are_known_and_not_learned(parts):
    X, y, folder = parts
    data = ParquetDataset(folder, buffer_rows=500)
    labels = CTRClassifier(**QUICK | {"class_weight": {0: 0.0}}).fit(data, "click")
    assert labels.classes_.tolist() == [0, 1]
    assert labels.dataset_["n_rows"] == y.sum()


def test_a_column_is_constant_only_if_all_rows_say_so(tmp_path):
    X, y = clicks(1000)
    nearly = np.where(np.arange(1000) == 999, "b", "a")
    for name, column in (("nearly", nearly), ("always", "a")):
        (tmp_path / name).mkdir()
        write_parts(tmp_path / name, X.assign(flag=column, click=y), 1000, 100)
        data = ParquetDataset(tmp_path / name, buffer_rows=100, sample_rows=50)
        given = ("click", None, None), (None, None, None), None
        with streamed(CTRClassifier(**QUICK), data, *given) as found:
            assert (found.rows.table.ids[:, 4] == 2).all()  # the sample does not know
            assert found.stream.constant.tolist() == ([4] if name == "always" else [])


@pytest.mark.parametrize("labels", [["no", "yes"], ["a", "b", "c"]])
def test_labels_of_text_and_of_more_than_two_classes(labels, tmp_path):
    X, y = clicks(900)
    named = np.array(labels, object)[(y + np.arange(900)) % len(labels)]
    write_parts(tmp_path, X.assign(kind=named), 500, 200)
    params = QUICK | {"early_stopping": False}
    model = CTRClassifier(**params).fit(ParquetDataset(tmp_path, buffer_rows=899), "kind")
    assert model.classes_.tolist() == labels
    assert same_weights(model, CTRClassifier(**params).fit(X, named))


def test_ratings_have_the_scale_of_all_rows(tmp_path):
    X, y, _ = make_ctr(1500, n_fields=4, task="rating", random_state=0)
    weight = np.arange(1500) % 3 + 0.5
    write_parts(tmp_path, X.assign(stars=y * 1e6, w=weight), 700, 200)
    params = QUICK | {"early_stopping": False}
    data = ParquetDataset(tmp_path, buffer_rows=1499)
    model = RatingRegressor(**params).fit(data, "stars", sample_weight="w")
    of_table = RatingRegressor(**params).fit(X, y * 1e6, sample_weight=weight)
    np.testing.assert_allclose(
        (model.y_mean_, model.y_scale_), (of_table.y_mean_, of_table.y_scale_), rtol=1e-12
    )
    np.testing.assert_allclose(model.predict(X), of_table.predict(X), rtol=1e-4)


def test_the_last_rows_can_judge(parts):
    X, y, folder = parts
    data = ParquetDataset(folder, buffer_rows=1000)
    params = QUICK | {"validation": "last", "early_stopping": True}
    assert CTRClassifier(**params).fit(data, "click").dataset_["n_held_out"] == 300
    # Rows that judge are not trained on: their labels turned round change the history alone.
    turned = np.where(np.arange(3000) < 2700, y, 1 - y)
    paths = write_parts(folder.parent, X.assign(click=turned), 3000, 400)
    other = CTRClassifier(**params).fit(ParquetDataset(paths[0], buffer_rows=1000), "click")
    model = CTRClassifier(**params).fit(data, "click")
    assert other.history_[0]["valid_loss"] > model.history_[0]["valid_loss"] + 0.01


def test_a_frozen_encoder_and_a_data_set_of_validation_rows(parts):
    X, y, folder = parts
    frozen = FrozenEstimator(FieldEncoder(max_categories=5).fit(X))
    data = ParquetDataset(folder, buffer_rows=1000)
    model = CTRClassifier(**QUICK, encoder=frozen).fit(data, "click", X_val=data, y_val="click")
    assert model.encoder_ is not None and max(model.encoder_.n_ids_) == 7
    assert model.dataset_["n_held_out"] == 0 and "valid_loss" in model.history_[0]


def test_warm_start_goes_on_from_a_data_set(parts):
    X, y, folder = parts
    data = ParquetDataset(folder, buffer_rows=1000)
    model = CTRClassifier(**QUICK, warm_start=True, lr=0.01).fit(data, "click")
    model.set_params(max_epochs=4).fit(data, "click")
    assert model.n_iter_ <= 4 and len(model.history_) == 4
    assert model.history_[-1]["train_loss"] < model.history_[0]["train_loss"]


def test_predictions_of_a_data_set_are_those_of_its_rows(parts):
    X, y, folder = parts
    model = CTRClassifier(**QUICK, members=2).fit(X, y)
    expected = model.predict_proba(X, return_std=True)
    for source in (ParquetDataset(folder), pl.scan_parquet(folder / "*.parquet")):
        for ours, theirs in zip(
            model.predict_proba(source, return_std=True), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    without = ParquetDataset(folder).read().drop_columns([X.columns[0]])
    with pytest.raises(ValueError, match=f"lacks the columns \\['{X.columns[0]}'\\]"):
        model.predict(pyarrow.dataset.dataset(without))


def test_encoded_blocks_lie_in_the_folder_only_during_the_fit(parts, tmp_path, monkeypatch):
    X, y, folder = parts
    data = ParquetDataset(folder, buffer_rows=1000, cache=tmp_path)
    seen, decoded = [], []
    real = ParquetDataset.slices

    def slices(self, number, columns=None):
        decoded.append(number)
        seen.extend(tmp_path.rglob("*.npy"))
        return real(self, number, columns)

    monkeypatch.setattr(ParquetDataset, "slices", slices)
    kept = CTRClassifier(**QUICK).fit(data, "click")
    assert sorted(decoded) == sorted(list(range(9)) * 2)  # one pass, and one epoch of two
    assert seen and list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert same_weights(
        kept, CTRClassifier(**QUICK).fit(ParquetDataset(folder, buffer_rows=1000), "click")
    )


def test_a_cache_that_is_full_is_named(parts, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sklearn_autorec.estimators._encoded_blocks.np.save", full)
    data = ParquetDataset(parts[2], buffer_rows=1000, cache=tmp_path)
    with pytest.raises(OSError, match="cache: .* cannot be written .*No space left"):
        CTRClassifier(**QUICK).fit(data, "click")
    assert list(Path(tmp_path).iterdir()) == [] and reading_threads() == []


def test_a_model_of_a_data_set_is_saved_and_pickled_as_any(parts, tmp_path):
    X, y, folder = parts
    model = CTRClassifier(**QUICK | {"network": "auto"})
    model.fit(ParquetDataset(folder, buffer_rows=1000, sample_rows=800), "click")
    save(model, tmp_path / "model.zip")
    expected = model.predict_proba(X)
    for again in (load(tmp_path / "model.zip"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(again.predict_proba(X), expected, rtol=1e-6)
    assert clone(model).fit(X, y).n_iter_ and not hasattr(clone(model), "dataset_")
    model.fit(X, y)
    assert not hasattr(model, "dataset_")  # it is of the last fit
