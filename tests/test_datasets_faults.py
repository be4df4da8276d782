"""What goes wrong in a fit from files is named and leaves nothing behind; searches of such rows."""

import numpy as np
import pandas as pd
import pytest
from parquet_cases import clicks, damage, reading_threads, write_parts

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import ParquetDataset
from sklearn_autorec.embedding import AMTL, AutoDim
from sklearn_autorec.embedding import _amtl as amtl
from sklearn_autorec.engine import FieldNet
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.preprocessing import FieldEncoder

QUICK = {"network": "fm", "max_epochs": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture
def folder(tmp_path):
    X, y = clicks(1200)
    place = tmp_path / "clicks"
    place.mkdir()
    write_parts(place, X.assign(click=y, w=1.0), 600, 200)
    return place


def fit(place, y="click", estimator=None, **options):
    estimator = CTRClassifier(**QUICK) if estimator is None else estimator
    return estimator.fit(ParquetDataset(place, buffer_rows=300), y, **options)


@pytest.mark.parametrize(
    ("error", "y", "options", "message"),
    [
        (ValueError, "clicks", {}, "y='clicks' is no column of the data set; its columns are"),
        (ValueError, "click", {"sample_weight": "v"}, "sample_weight='v' is no column"),
        (TypeError, np.zeros(1200), {}, "y must be the name of a column where X is a data set"),
        (TypeError, None, {}, "y must be the name of a column where X is a data set, got None"),
        (
            TypeError,
            "click",
            {"sample_weight": np.ones(1200)},
            "sample_weight must be the name of a column where X is a data set",
        ),
    ],
)
@pytest.mark.parametrize("buffer_rows", [300, 10_000])
def test_what_is_no_column_is_refused(folder, error, y, options, message, buffer_rows):
    data = ParquetDataset(folder, buffer_rows=buffer_rows)
    with pytest.raises(error, match=message):
        CTRClassifier(**QUICK).fit(data, y, **options)


def one_bad_row(folder, name, value, row=450):
    """Another file in which a cell of one column is something else; the row group is 2."""
    frame = pd.read_parquet(folder / "part-0.parquet")
    frame[name] = frame[name].astype(float)
    frame.loc[row, name] = value
    for part in folder.iterdir():
        part.unlink()
    write_parts(folder, frame, 600, 200)


@pytest.mark.parametrize("buffer_rows", [300, 10_000])
def test_a_missing_target_is_named_with_its_row_group(folder, buffer_rows):
    one_bad_row(folder, "click", None)
    data = ParquetDataset(folder, buffer_rows=buffer_rows)
    with pytest.raises(ValueError, match="part-0.parquet, row group 2: the target 'click' is mis"):
        CTRClassifier(**QUICK).fit(data, "click")


@pytest.mark.parametrize("buffer_rows", [300, 10_000])
def test_targets_that_are_no_labels_are_named(folder, buffer_rows):
    one_bad_row(folder, "click", 0.25)
    data = ParquetDataset(folder, buffer_rows=buffer_rows)
    with pytest.raises(ValueError, match="row group 2: the target 'click': Unknown label type"):
        CTRClassifier(**QUICK).fit(data, "click")
    one_bad_row(folder, "click", np.inf)
    with pytest.raises(ValueError, match="row group 2: the target 'click': Input y contains inf"):
        RatingRegressor(**QUICK).fit(data, "click")


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_wrong_weights_are_named(folder, weight):
    one_bad_row(folder, "w", weight)
    told = "row group 2: the sample_weight 'w' must hold finite numbers of at least 0, got"
    with pytest.raises(ValueError, match=told):
        fit(folder, sample_weight="w")


def test_only_zero_weights_are_refused(folder):
    frame = pd.read_parquet(folder / "part-0.parquet").assign(w=0.0)
    for part in folder.iterdir():
        part.unlink()
    write_parts(folder, frame, 600, 200)
    with pytest.raises(ValueError, match="No row of .* has a positive weight"):
        fit(folder, sample_weight="w")


def test_numbers_that_cannot_be_read_are_named_with_their_row_group(folder):
    frame = pd.read_parquet(folder / "part-0.parquet").assign(price=np.arange(600.0))
    frame.loc[450, "price"] = np.inf
    for part in folder.iterdir():
        part.unlink()
    write_parts(folder, frame, 600, 200)
    with pytest.raises(ValueError, match="row group 2: Input X contains infinity .* 'price'"):
        fit(folder)


def test_no_row_to_validate_on_is_told(folder):
    model = CTRClassifier(**QUICK, early_stopping=True, validation_fraction=1e-9)
    with pytest.raises(ValueError, match="validation_fraction=1e-09 leaves no rows to validate on"):
        fit(folder, estimator=model)


def test_a_file_that_changes_between_two_passes_is_named(folder, monkeypatch):
    real = FieldEncoder.discard_counts

    def between(self):
        frame = pd.read_parquet(folder / "part-1.parquet").assign(w=0.0)
        write_parts(folder.parent, frame, 600, 200)
        (folder.parent / "part-0.parquet").replace(folder / "part-1.parquet")
        return real(self)

    monkeypatch.setattr(FieldEncoder, "discard_counts", between)
    told = "part-1.parquet, row group . (had .* the file has changed|cannot be read)"
    with pytest.raises(OSError, match=told):
        fit(folder, sample_weight="w")
    assert reading_threads() == []


def test_an_error_in_the_second_pass_leaves_the_estimator_as_it_was(folder, monkeypatch):
    model = fit(folder)
    before = dict(vars(model))
    real = FieldEncoder.discard_counts
    monkeypatch.setattr(
        FieldEncoder,
        "discard_counts",
        lambda self: damage(folder / "part-1.parquet", 0.1) or real(self),
    )
    with pytest.raises(OSError, match="part-1.parquet"):
        fit(folder, estimator=model)
    assert vars(model) == before and reading_threads() == []


def interrupted_at(monkeypatch, step):
    """Ctrl-C in a training step; a list of the threads that read then."""
    real, steps, threads = FieldNet.train_step, [], []

    def train_step(self, batch, **params):
        steps.append(1)
        if len(steps) == step:
            threads.extend(reading_threads())
            raise KeyboardInterrupt
        return real(self, batch, **params)

    monkeypatch.setattr(FieldNet, "train_step", train_step)
    return threads


def test_ctrl_c_ends_the_thread_and_the_cache_and_keeps_the_best_epoch(folder, monkeypatch):
    cache = folder.parent / "cache"
    cache.mkdir()
    data = ParquetDataset(folder, buffer_rows=300, cache=cache)
    threads = interrupted_at(monkeypatch, step=20)
    model = CTRClassifier(**QUICK, batch_size=100)
    with pytest.warns(UserWarning, match="interrupted; the model keeps the weights of epoch 1"):
        model.fit(data, "click")
    assert threads and reading_threads() == []
    assert model.n_iter_ == 1 and list(cache.iterdir()) == []


def test_ctrl_c_in_the_first_epoch_leaves_nothing(folder, monkeypatch):
    threads = interrupted_at(monkeypatch, step=2)
    model = CTRClassifier(**QUICK, batch_size=100)
    with pytest.raises(KeyboardInterrupt):
        model.fit(ParquetDataset(folder, buffer_rows=300), "click")
    assert threads and reading_threads() == [] and not hasattr(model, "net_")


def test_text_labels_and_bins_by_target_do_not_go_together(folder):
    frame = pd.read_parquet(folder / "part-0.parquet").assign(price=np.arange(600.0))
    frame["click"] = frame["click"].map({0: "no", 1: "yes"})
    for part in folder.iterdir():
        part.unlink()
    write_parts(folder, frame, 600, 200)
    model = CTRClassifier(**QUICK, encoder=FieldEncoder(numeric_bins="target"))
    with pytest.raises(ValueError, match="numeric_bins='target' needs labels that are numbers"):
        fit(folder, estimator=model)


# Searches
# --------------------------------------------------------------------------------------------------


def planted(tmp_path):
    X, y = clicks(4000, n_fields=5, cardinality=8, pairs=[(1, 3)], informative_fields=[0])
    write_parts(tmp_path, X.assign(click=y), 2000, 500)
    return ParquetDataset(tmp_path, buffer_rows=1000, sample_rows=200)


def test_a_search_learns_from_all_rows(tmp_path):
    """The planted pair is found, which the 200 rows of the sample do not show."""
    data = planted(tmp_path)
    params = QUICK | {"lr": 0.02, "batch_size": 64, "max_epochs": 3}
    model = CTRClassifier(search=AutoFIS(max_interactions=1), **params).fit(data, "click")
    assert model.interactions_ == [("f1", "f3")]
    sample = data.sample(200).to_pandas()
    of_sample = CTRClassifier(search=AutoFIS(max_interactions=1), **params).fit(
        sample.drop(columns="click"), sample["click"]
    )
    assert of_sample.interactions_ != model.interactions_


@pytest.mark.parametrize(
    "search",
    [
        AutoDim(
            candidates=(2, 4), arch_every=1, warmup=0.0, search_fraction=0.5
        ),  # bi-level: rows of its own
        AutoField(n_kept=2),  # drops fields of the stream
        [AutoField(n_kept=3), AutoFIS()],  # what is left is searched again; some rows judge
        RandomInteractions(n_interactions=1),
    ],
    ids=str,
)
def test_searches_of_every_kind_have_blocks(search, tmp_path):
    params = QUICK | {"search_epochs": 1, "max_epochs": 1}
    model = CTRClassifier(search=search, **params).fit(planted(tmp_path), "click")
    assert model.dataset_["n_sampled"] < 300
    assert np.isfinite(model.history_[-1]["train_loss"]) and reading_threads() == []


def test_rows_of_the_architecture_train_no_weight(tmp_path, monkeypatch):
    """Half of the rows are the architecture's, of the same blocks: they are read once."""
    seen, own, read = [], [], []
    real_step, real_arch = FieldNet.train_step, FieldNet._arch_step
    real_slices = ParquetDataset.slices

    def train_step(self, batch, **params):
        if self.arch_batches is not None:
            seen.extend(map(tuple, batch.ids.tolist()))
        return real_step(self, batch, **params)

    def arch_step(self, schedule, optimizer, module, batch):
        wrapped = self.arch_batches

        def noted():
            for rows in wrapped:
                own.extend(map(tuple, rows.ids.tolist()))
                yield rows

        self.arch_batches = noted()
        real_arch(self, schedule, optimizer, module, batch)
        self.arch_batches = wrapped

    def slices(self, number, columns=None):
        read.append(number)
        return real_slices(self, number, columns)

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.permutation(1200).astype(str), "b": rng.integers(0, 3, 1200)})
    write_parts(tmp_path, frame.assign(click=rng.integers(0, 2, 1200)), 600, 100)
    monkeypatch.setattr(FieldNet, "train_step", train_step)
    monkeypatch.setattr(FieldNet, "_arch_step", arch_step)
    monkeypatch.setattr(ParquetDataset, "slices", slices)
    params = QUICK | {"search_epochs": 1, "max_epochs": 1, "batch_size": 50, "id_dropout": 0.0}
    model = CTRClassifier(
        search=AutoDim(candidates=(2, 4), arch_every=1, warmup=0.0, search_fraction=0.5), **params
    )
    model.fit(ParquetDataset(tmp_path, buffer_rows=300, sample_rows=100), "click")
    assert seen and own and not set(seen) & set(own)
    assert len(set(seen)) + len(set(own)) > 1000
    assert len(read) == 12 * 3  # the first pass, the search, the training


def test_methods_that_count_values_count_those_of_all_rows(tmp_path, monkeypatch):
    counted, real = [], amtl.value_counts
    monkeypatch.setattr(
        amtl, "value_counts", lambda *args: counted.append(real(*args)) or counted[-1]
    )
    data = planted(tmp_path)
    params = QUICK | {"search_epochs": 1, "max_epochs": 1, "early_stopping": False}
    model = CTRClassifier(search=AMTL(), **params).fit(data, "click")
    assert np.array_equal(counted[0], np.concatenate(model.encoder_.counts_))
