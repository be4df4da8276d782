"""Fits that keep their epochs go on as if nothing had happened."""

from unittest import mock

import numpy as np
import pytest
import torch
from process_cases import PLAIN, fit, found, table

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import ParquetDataset
from sklearn_autorec.embedding import PEP, RULE
from sklearn_autorec.engine import _training
from sklearn_autorec.exceptions import CheckpointError
from sklearn_autorec.networks import DeepFM

DEEP = {**PLAIN, "network": DeepFM((8,), dropout=0.3), "max_epochs": 4}
WITH_AVERAGES = {"averaging": 0.9, "lr_schedule": "cosine", "early_stopping": True}


class Dies(Exception):
    pass


def model(folder=None, **changes):
    return CTRClassifier(checkpoint=folder, **{**DEEP, **changes})


def died(estimator, n_epochs):
    """Begin a fit that ends at the end of an epoch, counted over all its trainings."""
    check, left = _training._check_finite, [n_epochs]

    def deadly_check(*args):
        left[0] -= 1
        if not left[0]:
            raise Dies
        check(*args)

    with mock.patch.object(_training, "_check_finite", deadly_check), pytest.raises(Dies):
        fit(estimator, False)


def assert_same(one, other):
    np.testing.assert_array_equal(found(one)["predictions"], found(other)["predictions"])
    assert one.history_ == other.history_
    assert one.n_iter_ == other.n_iter_


@pytest.mark.parametrize(
    "changes",
    [{}, WITH_AVERAGES, {"early_stopping": True, "patience": 1, "lr": 0.3}, {"members": 2}],
    ids=["plain", "averages", "stopped", "members"],
)
def test_what_has_died_goes_on_to_the_bit(tmp_path, changes):
    died(model(tmp_path / "died", **changes), 3)
    resumed = fit(model(tmp_path / "died", **changes), False)
    assert_same(resumed, fit(model(tmp_path / "whole", **changes), False))


def test_trainings_before_the_last_go_on_as_well(tmp_path):
    """The default holds out four parts in turn; the second one is at its first epoch."""
    changes = {"network": "auto", "max_epochs": 2, "batch_size": 128, "target_statistics": False}
    died(model(tmp_path / "died", **changes), 3)
    assert [path.name for path in (tmp_path / "died").iterdir()] == ["validate-1.pt"]
    resumed = fit(model(tmp_path / "died", **changes), False)
    assert_same(resumed, fit(model(tmp_path / "whole", **changes), False))


@pytest.mark.parametrize(
    ("search", "trained"),
    # In its first epoch the final training has no state of its own beside what the search left.
    [(PEP(), 2), (PEP(retrain="keep"), 1), (RULE(n_samples=8, n_evaluations=40), None)],
)
def test_a_finished_search_is_not_done_again(tmp_path, capsys, search, trained):
    """But for one that leaves a supernet, which no file of tensors and plain values holds."""
    changes = {"network": "fm", "embedding_dim": 4, "search": search}
    kept = trained is not None
    if kept:
        died(model(tmp_path / "died", **changes), 4 + trained)
    else:
        fit(model(tmp_path / "died", **changes), False)
    resumed = fit(model(tmp_path / "died", verbose=1, **changes), False)
    assert ("search-" in capsys.readouterr().out) is not kept
    whole = fit(model(tmp_path / "whole", **changes), False)
    assert_same(resumed, whole)
    assert resumed.search_history_ == whole.search_history_
    assert resumed.architecture_ == whole.architecture_


def test_a_checkpoint_changes_nothing_but_dropout(tmp_path):
    changes = {"network": "fm", **WITH_AVERAGES}
    assert_same(fit(model(tmp_path, **changes), False), fit(model(**changes), False))


def test_a_finished_fit_is_not_done_again(tmp_path, capsys):
    first = fit(model(tmp_path), False)
    again = fit(model(tmp_path, verbose=1), False)
    assert "epoch" not in capsys.readouterr().out
    assert_same(first, again)


@pytest.mark.parametrize(
    ("changes", "n_values", "named"),
    [({"lr": 0.02}, 7, "parameters"), ({"random_state": 1}, 7, "random_state"), ({}, 8, "X, y")],
)
def test_another_fit_is_refused(tmp_path, changes, n_values, named):
    fit(model(tmp_path, max_epochs=1), False)
    before = (tmp_path / "train.pt").read_bytes()
    with pytest.raises(CheckpointError, match=f"belongs to another fit: {named} differs"):
        fit(model(tmp_path, **{"max_epochs": 1, **changes}), False, n_values)
    assert (tmp_path / "train.pt").read_bytes() == before


def test_values_count_by_what_they_are(tmp_path):
    """The codes of both tables are the same."""
    X, y, _ = table()
    model(tmp_path, max_epochs=1).fit(X, y)
    with pytest.raises(CheckpointError, match="another fit: X differs"):
        model(tmp_path, max_epochs=1).fit(X.assign(a=X["a"] + "!"), y)


def test_a_damaged_file_is_named_and_stays(tmp_path):
    fit(model(tmp_path, max_epochs=1), False)
    path = tmp_path / "train.pt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="train.pt' cannot be read"):
        fit(model(tmp_path, max_epochs=1), False)
    assert path.exists()


def test_a_full_disk_leaves_the_epoch_before(tmp_path, monkeypatch):
    save, calls = torch.save, []

    def fails(value, file):
        calls.append(1)
        if len(calls) == 2:
            file.write(b"half")
            raise OSError("No space left on device")
        save(value, file)

    monkeypatch.setattr(torch, "save", fails)
    with pytest.raises(CheckpointError, match="No space left.*the epoch before is still there"):
        fit(model(tmp_path), False)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["train.pt"]
    assert torch.load(tmp_path / "train.pt")["state"]["numbers"]["next"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"random_state": None}, "needs a random_state that is an int, got None"),
        ({"warm_start": True}, "needs warm_start=False"),
        ({"max_time": 60}, "checkpoint cannot go with max_time=60"),
    ],
)
def test_fits_that_could_not_be_repeated_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        fit(model(tmp_path, **changes), False)
    assert not [*tmp_path.iterdir()]


def test_rows_that_come_in_blocks_are_refused(tmp_path):
    X, y, _ = table()
    X.assign(y=y).to_parquet(tmp_path / "rows.parquet", row_group_size=50)
    data = ParquetDataset(tmp_path / "rows.parquet", buffer_rows=100)
    with pytest.raises(ValueError, match="checkpoint='.*epochs' needs rows in memory"):
        model(tmp_path / "epochs").fit(data, "y")
    assert not (tmp_path / "epochs").exists()


def test_functions_of_the_user_and_their_code_count(tmp_path):
    def weighed(factor):
        return lambda logits, y: factor * (logits - y) ** 2

    died(model(tmp_path / "died", loss=weighed(1.0)), 3)
    resumed = fit(model(tmp_path / "died", loss=weighed(1.0)), False)
    assert_same(resumed, fit(model(tmp_path / "whole", loss=weighed(1.0)), False))
    with pytest.raises(CheckpointError, match="another fit: parameters differs"):
        fit(model(tmp_path / "died", loss=weighed(2.0)), False)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be made"):
        fit(model(tmp_path / "file"), False)
