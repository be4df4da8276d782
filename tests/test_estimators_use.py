"""What the estimators leave behind, callbacks, devices."""

import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from estimators_cases import clicks_of_five, quick
from sklearn.base import BaseEstimator
from sklearn.metrics import roc_auc_score

from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import DeepFM


@pytest.fixture(scope="module")
def clicks():
    return clicks_of_five()


# artifacts
# -------------------------------------------------------------------------------------------------


def test_nothing_of_the_search_is_left(clicks):
    X, y, _ = clicks
    model = quick(network="fm", search=AutoFIS(), embedding_dim=8).fit(X, y)
    names = {type(m).__name__ for m in model.net_.module_.modules()}
    assert "KeptProducts" in names and "GatedProducts" not in names
    data = pickle.dumps(model)
    for trace in (
        b"GRDA",
        b"GatedProducts",
        b"exp_avg",
        b"TrainingBatches",
        b"SearchProblem",
        b"NumericSummary",
    ):
        assert trace not in data
    assert model.net_.optimizer_ is None
    module = model.net_.module_
    assert model.n_parameters_ == sum(p.numel() for p in module.parameters())
    assert model.nbytes_["total"] == sum(
        t.numel() * t.element_size() for t in module.state_dict().values()
    )
    assert model.nbytes_["embedding"] == 4 * sum(p.numel() for p in module.embedding.parameters())


def test_pickle_is_as_large_as_parameters_and_vocabularies():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "user": [f"user-{i}" for i in rng.integers(0, 20_000, 30_000)],
            "item": rng.integers(0, 3000, 30_000),
        }
    )
    y = rng.integers(0, 2, 30_000)
    model = quick(network=DeepFM((64, 64)), embedding_dim=16, max_epochs=1, search=AutoFIS()).fit(
        X, y
    )
    vocabularies = sum(
        len(pickle.dumps((c, n)))
        for c, n in zip(model.encoder_.categories_, model.encoder_.counts_, strict=True)
    )
    assert len(pickle.dumps(model)) <= 1.1 * model.nbytes_["total"] + vocabularies + 10_000


FRESH = """
import pickle, sys, numpy as np, pandas as pd, resource, warnings
from pathlib import Path

folder = Path(sys.argv[1])
model = pickle.loads((folder / "model.pkl").read_bytes())
np.save(folder / "p.npy", model.predict_proba(pd.read_pickle(folder / "X.pkl")))

warnings.simplefilter("default")
from sklearn_autorec import CTRClassifier
X = pd.DataFrame({"user": np.arange(300_000).astype(str)}); y = np.arange(300_000) % 2
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30, taken + 2**30))
try:
    CTRClassifier(network="fm", embedding_dim=512, max_epochs=1, device="cpu").fit(X, y)
except ValueError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def fresh(clicks, tmp_path_factory):
    """What a model predicts, what its pickle predicts in a fresh process, and what is said there of
    tables that do not fit into the memory which that process allows itself.
    """
    X, y, _ = clicks
    folder = tmp_path_factory.mktemp("fresh")
    model = quick(search=AutoFIS()).fit(X, y)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    X.to_pickle(folder / "X.pkl")
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", FRESH, str(folder)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    return model.predict_proba(X), np.load(folder / "p.npy"), run.stdout


def test_pickle_predicts_the_same_in_a_fresh_process(fresh):
    here, there, _ = fresh
    np.testing.assert_array_equal(there, here)


def test_many_threads_predict_as_one(clicks):
    X, y, _ = clicks
    model = pickle.loads(pickle.dumps(quick(search=AutoFIS()).fit(X, y)))
    chunks = [X.iloc[i * 40 : i * 40 + (1 if i % 2 else 40)] for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(model.predict_proba, chunks))
    for got, chunk in zip(parallel, chunks, strict=True):
        np.testing.assert_array_equal(got, model.predict_proba(chunk))


# callbacks
# -------------------------------------------------------------------------------------------------


def test_progress_and_scores_by_scikit_learns_callbacks(clicks, capsys):
    callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    X, y, _ = clicks
    monitor = callback.ScoringMonitor(scoring="roc_auc")
    model = (
        quick(network="deepfm", search=AutoFIS(), max_epochs=3, search_epochs=2)
        .set_callbacks(monitor)
        .fit(X, y)
    )
    rows = [r for r in monitor.get_logs().data if r["task_name"] == "epoch"]
    scores = [r["roc_auc"] for r in rows if r.get("roc_auc") is not None]
    assert len(scores) == 3 and scores[-1] == pytest.approx(
        roc_auc_score(y, model.predict_proba(X)[:, 1]), abs=1e-9
    )
    plain = quick(network="deepfm", search=AutoFIS(), max_epochs=3, search_epochs=2).fit(X, y)
    # Looking changes nothing.
    np.testing.assert_array_equal(plain.predict_proba(X), model.predict_proba(X))
    assert capsys.readouterr().out == ""
    quick(search=AutoFIS()).set_callbacks(callback.ProgressBar()).fit(X, y)
    shown = capsys.readouterr().out
    assert "AutoFIS" in shown and "train" in shown


class Callback:
    """Hears everything and does nothing."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        pass


def test_a_callback_can_stop_training(clicks):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    X, y, _ = clicks

    class Stop(Callback):
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch" and context.task_id == 1

    assert quick(max_epochs=9).set_callbacks(Stop()).fit(X, y).n_iter_ == 2


def test_callbacks_are_told_of_the_tasks_that_run(clicks):
    pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    X, y, _ = clicks
    planned, begun = [], []

    class Count(Callback):
        def on_fit_task_begin(self, estimator, context):
            if context.parent is None:
                planned.append(context.max_subtasks)
                begun.append(0)
            elif context.task_name != "epoch":
                begun[-1] += 1

    model = quick(search=AutoFIS(), warm_start=True, max_epochs=1).set_callbacks(Count())
    model.fit(X, y).set_params(max_epochs=2).fit(X, y)
    parts = {"wide": None, "target_statistics": False, "max_epochs": 1}
    quick(network="auto", **parts).set_callbacks(Count()).fit(X, y)  # four parts judge in turn
    assert planned == begun == [2, 1, 5]


def test_verbose_prints_a_line_an_epoch(clicks, capsys):
    X, y, _ = clicks
    quick(search=AutoFIS(), verbose=1).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert (
        len(lines) == 4
        and lines[0].startswith("search-AutoFIS epoch 1/2  train_loss")
        and lines[-1].startswith("train epoch 2/2")
    )


# device
# --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trained_on_cuda_predicts_on_the_cpu(clicks):
    X, y, _ = clicks
    model = quick(device="cuda", search=AutoFIS()).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert next(again.net_.module_.parameters()).device.type == "cpu"
    np.testing.assert_allclose(again.predict_proba(X), model.predict_proba(X), atol=1e-5)


def test_a_missing_device_is_named(clicks):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    X, y, _ = clicks
    with pytest.raises(ValueError, match="device='cuda', but torch sees no CUDA device"):
        quick(device="cuda").fit(X, y)


def test_an_estimator_of_ours_is_a_plain_base_estimator():
    assert isinstance(quick(), BaseEstimator) and "embedding_dim" in quick().get_params()


def test_tables_that_would_not_fit_are_refused_before_they_are_allocated(fresh):
    *_, out = fresh
    assert (
        "300,002 ids with embedding_dim=512 need about" in out
        and "Column 'user' has most ids" in out
        and "max_categories" in out
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_search_processes_start_afresh(clicks, method):
    """Nothing lives in module globals: a process that imports anew fits and predicts the
    same bits.
    """
    X, y, _ = clicks
    expected = _fit_and_predict((X, y))
    with multiprocessing.get_context(method).Pool(1) as pool:
        np.testing.assert_array_equal(pool.map(_fit_and_predict, [(X, y)])[0], expected)


def _fit_and_predict(data):
    torch.set_num_threads(1)
    X, y = data
    return quick(network="fm", search=AutoFIS(), max_epochs=1).fit(X, y).predict_proba(X)
