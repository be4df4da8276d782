"""Fits of several processes find what one finds, and what is left when one of them dies."""

import multiprocessing
import pickle
import re
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from process_cases import (
    CASES,
    PLAIN,
    assert_found_alike,
    environment,
    fit,
    found,
    free_port,
    searched_with_checkpoint,
    started,
    table,
    with_checkpoint,
)
from process_cases import __file__ as SCRIPT
from torch import distributed

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.datasets import ParquetDataset
from sklearn_autorec.embedding import ESAPN
from sklearn_autorec.engine import FieldNet, _training
from sklearn_autorec.engine._distributed_net import trained_together
from sklearn_autorec.engine._processes import Processes
from sklearn_autorec.exceptions import SingleClassWarning
from sklearn_autorec.interaction import AutoCTR, AutoFeature
from sklearn_autorec.networks import DIEN, FM
from sklearn_autorec.preprocessing import FieldEncoder

TIMEOUT = 240  # seconds after which processes are ended that wait for each other
N_PROCESSES = 3


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What three processes have found that torchrun has started, each by itself."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={N_PROCESSES}"]
    command += ["--master-addr=127.0.0.1", f"--master-port={free_port()}", SCRIPT, "train", folder]
    launched = {**environment(0, 1, 0)}
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "LOCAL_RANK", "WORLD_SIZE"):
        del launched[name]  # what torchrun is to say
    run = subprocess.run(command, env=launched, capture_output=True, text=True, timeout=TIMEOUT)
    assert run.returncode == 0, run.stderr[:3000]
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(N_PROCESSES)]


def losses(history):
    return [
        [record[name] for name in ("train_loss", "valid_loss") if name in record]
        for record in history
    ]


@pytest.mark.parametrize("name", CASES)
def test_several_processes_find_what_one_finds(together, name):
    alone = found(CASES[name](False))
    for each in together:
        assert_found_alike(each[name], alone)


@pytest.mark.parametrize("name", [*CASES, "default"])
def test_all_processes_have_the_same_model(together, name):
    first, *others = (each[name] for each in together)
    for other in others:
        np.testing.assert_array_equal(other["predictions"], first["predictions"])
        assert other["history"] == first["history"]
        assert other["weights"] == first["weights"]


def test_the_default_has_its_parts(together):
    assert {*together[0]["default"]["weights"]} > {"network"}


def test_other_rows_in_one_process_are_refused_in_all(together):
    for each in together:
        assert "y of the processes [1] differ" in each["refused"]


def test_the_first_process_says_when_time_is_over(together):
    of_first = together[0]["time"]
    assert of_first["stopped"] == "max_time"
    assert len(of_first["search_history"]) < 3 and len(of_first["history"]) < 3  # epochs


def test_nothing_keeps_a_group_that_is_left(together):
    """Its threads would take from an interpreter that has ended, and abort the process."""
    assert all(each["group is left"] for each in together)


@contextmanager
def ended(processes):
    """Processes that are killed in the end, however it comes."""
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_a_killed_process_ends_the_others_and_its_fit_goes_on(tmp_path, capsys):
    with ended(started("die", tmp_path, 2)) as processes:
        errors = [process.communicate(timeout=TIMEOUT)[1].decode() for process in processes]
    assert processes[1].returncode == -9, errors[1]
    assert processes[0].returncode == 0, errors[0]
    assert "checkpoint" in (tmp_path / "lost").read_text()
    kept = torch.load(tmp_path / "epochs" / "train.pt")["state"]["numbers"]
    assert kept["next"] == 2  # epochs
    resumed = fit(with_checkpoint(tmp_path, verbose=1), False)
    assert re.findall("train epoch (.)", capsys.readouterr().out) == ["3", "4"]
    whole = fit(with_checkpoint(tmp_path, checkpoint=None), False)
    np.testing.assert_allclose(losses(resumed.history_), losses(whole.history_), atol=1e-5)
    np.testing.assert_allclose(
        found(resumed)["predictions"], found(whole)["predictions"], atol=1e-5
    )


def test_a_killed_process_leaves_what_the_search_has_found(tmp_path, capsys):
    with ended(started("die-after-search", tmp_path, 2)) as processes:
        errors = [process.communicate(timeout=TIMEOUT)[1].decode() for process in processes]
    assert processes[0].returncode == 0, errors[0]
    assert {path.name for path in (tmp_path / "epochs").iterdir()} == {"search.pt", "train.pt"}
    resumed = fit(searched_with_checkpoint(tmp_path, verbose=1), False)
    assert re.findall("(.*) epoch (.)", capsys.readouterr().out) == [("train", "3"), ("train", "4")]
    whole = fit(searched_with_checkpoint(tmp_path, checkpoint=None), False)
    assert_found_alike(found(resumed), found(whole))


@pytest.mark.slow
def test_a_process_that_does_not_answer_ends_the_others_in_the_time_of_the_group(tmp_path):
    with ended(started("hang", tmp_path, 2)) as processes:
        assert processes[0].wait(TIMEOUT) == 0
        assert processes[1].poll() is None  # which hangs
    assert "lost each other" in (tmp_path / "lost").read_text()


def test_a_process_without_others_says_so():
    with pytest.warns(UserWarning, match="knows of no others"):
        alone = fit(CTRClassifier(network="fm", **PLAIN), True)
    expected = fit(CTRClassifier(network="fm", **PLAIN), False)
    np.testing.assert_array_equal(found(alone)["predictions"], found(expected)["predictions"])


def test_workers_of_a_pool_are_none_of_the_processes(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(multiprocessing.current_process(), "_name", "LokyProcess-1")
    with pytest.raises(ValueError, match="worker 'LokyProcess-1' of a pool"):
        fit(CTRClassifier(network="fm", **PLAIN), True)


@pytest.fixture
def group():
    """A group of torch with this process alone, as users initialise it."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_group_of_the_user_is_taken(group):
    model, expected = (CASES["fm"](wanted) for wanted in (True, False))
    np.testing.assert_array_equal(found(model)["predictions"], found(expected)["predictions"])
    assert distributed.is_initialized()
    reloaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(found(reloaded)["predictions"], found(expected)["predictions"])


class Normed(FM):
    """A machine with a batch norm that the package does not know."""

    def build(self, context, parts):
        module = super().build(context, parts)
        module.foreign = torch.nn.BatchNorm1d(1)
        return module


class Observer(torch.nn.Linear):
    def observe(self, batch, per_row_loss):
        """What this reads of a pass is that of a part of the rows."""


class Observed(FM):
    def build(self, context, parts):
        module = super().build(context, parts)
        module.observer = Observer(1, 1)
        return module


@pytest.mark.parametrize(
    ("network", "part"),
    [(DIEN((4,)), "InterestEvolution"), (Normed(), "BatchNorm1d"), (Observed(), "Observer")],
    ids=["dien", "foreign", "observer"],
)
def test_what_reads_whole_batches_is_refused(group, network, part):
    X, y, _ = table()
    X = X[["a"]].assign(history=[[value, "1"] for value in X["b"]])
    encoder = FieldEncoder(shared_vocabularies={"history": "a"})
    model = CTRClassifier(network=network, encoder=encoder, distributed=True, **PLAIN)
    with pytest.raises(ValueError, match=f"distributed=True: {part}.*whole batches"):
        model.fit(X, y)


class Other(SearchMethod):
    """A loss of the user's own."""

    slot, distributes = "loss", True

    def search(self, problem):
        return {}

    def realise(self, architecture, context):
        return torch.nn.BCEWithLogitsLoss(reduction="none")


def test_a_part_in_the_loss_slot_is_refused(group):
    X, y, _ = table()
    with pytest.raises(ValueError, match="distributed=True: BCEWithLogitsLoss"):
        CTRClassifier(network="fm", search=Other(), distributed=True, **PLAIN).fit(X, y)


def test_ctrl_c_ends_a_shared_fit(group, monkeypatch):
    """The others are at another step: there is no epoch to fall back on that all have."""
    check, epochs = _training._check_finite, []

    def pressed(*args):
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        check(*args)

    monkeypatch.setattr(_training, "_check_finite", pressed)
    X, y, _ = table()
    model = CTRClassifier(network="fm", distributed=True, **PLAIN)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "net_")


def test_searches_that_cannot_be_shared_are_refused(group):
    X, y, _ = table()
    for method in (ESAPN(), AutoCTR(), AutoFeature()):
        with pytest.raises(ValueError, match=f"distributed=True: search={type(method).__name__}"):
            CTRClassifier(network="fm", search=method, distributed=True).fit(X, y)
    with pytest.raises(ValueError, match="distributed=True is not supported by partial_fit"):
        CTRClassifier(network="fm", distributed=True).partial_fit(X, y, classes=[0, 1])


def test_a_data_set_of_one_buffer_is_shared_as_a_table(group, tmp_path):
    X, y, _ = table()
    X.assign(y=y).to_parquet(tmp_path / "rows.parquet", row_group_size=50)
    shared = CTRClassifier(network="fm", distributed=True, **PLAIN)
    shared.fit(ParquetDataset(tmp_path / "rows.parquet"), "y")
    alone = CTRClassifier(network="fm", **PLAIN).fit(X, y)
    np.testing.assert_array_equal(shared.predict_proba(X), alone.predict_proba(X))


def test_a_single_class_is_seen_by_all(group):
    X, _, _ = table()
    with pytest.warns(SingleClassWarning):
        model = CTRClassifier(network="fm", distributed=True, **PLAIN).fit(X, np.ones(len(X)))
    assert model.classes_.tolist() == [1.0]


def test_weights_that_go_apart_are_an_error(group, monkeypatch):
    """Here the "first process" has other weights than this one at the end of the training."""
    processes = Processes()
    net = FieldNet(torch.nn.Linear(2, 1), torch.nn.MSELoss()).initialize()
    with pytest.raises(RuntimeError, match="'weight' is another one than in process 0"):
        with trained_together(net, processes):
            monkeypatch.setattr(processes, "of_first", lambda t: t.add_(1.0))


def test_some_tables_are_row_wise():
    assert hasattr(CASES["row-wise"](False)._stream, "table_optimizer_")
    assert not hasattr(
        fit(CTRClassifier(network="fm", warm_start=True, **PLAIN), False)._stream,
        "table_optimizer_",
    )
