"""The same search on the workers of a dask cluster; which GPU a worker takes."""

import multiprocessing
import os
import signal
import sys
import threading
import types

import joblib
import pytest
from known_curves import Counted, Curve, Troubled, X, Y, columns, search
from scipy.stats import uniform
from sklearn.pipeline import make_pipeline

from sklearn_autorec.model_selection import use_gpu_of_worker


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip(
        "distributed", reason="distributed is not installed (extra dask)"
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("warm", [False, True])
def test_dask_workers_find_what_this_process_finds(client, warm):
    with joblib.parallel_config("dask"):
        found = search(warm=warm, n_jobs=-1).fit(X, Y)
    assert columns(found) == columns(search(warm=warm).fit(X, Y))


def test_warm_pipelines_on_dask(client):
    pipeline = make_pipeline(Counted(), Curve())
    space = {"counted__factor": [1.0, 2.0], "curve__a": uniform(), "curve__b": uniform()}
    options = {"resource": "curve__epochs", "warm": True}
    with joblib.parallel_config("dask", scatter=[X, Y]):
        found = search(pipeline, space, n_jobs=-1, **options).fit(X, Y)
    assert columns(found) == columns(search(pipeline, space, **options).fit(X, Y))


def test_every_dask_worker_takes_its_gpu(client):
    def environment():
        return os.environ.get("CUDA_VISIBLE_DEVICES")

    def pretend():
        os.environ["CUDA_VISIBLE_DEVICES"] = "4,7"

    before = client.run(environment)
    client.run(pretend)
    client.register_worker_callbacks(use_gpu_of_worker)
    assert sorted(client.run(environment).values()) == ["4", "7"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") in before.values()  # this process is left alone


def test_a_killed_dask_worker_does_not_lose_the_search(client):
    victim = min(client.run(os.getpid).values())
    timer = threading.Timer(0.7, os.kill, (victim, signal.SIGKILL))
    timer.start()
    with joblib.parallel_config("dask"):
        found = search(Troubled(seconds=0.08), warm=True, n_jobs=-1).fit(X, Y)
    timer.join()
    assert victim not in client.run(os.getpid).values()
    assert columns(found) == columns(search(Troubled(), warm=True).fit(X, Y))


@pytest.fixture
def gpus(monkeypatch):
    def see(value):
        if value is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)

    see("0,1,2")
    monkeypatch.setitem(sys.modules, "torch", None)
    return see


@pytest.mark.parametrize(
    "name, gpu", [(0, "0"), (1, "1"), ("2", "2"), (3, "0"), ("box-1", "1"), ("a-b-12", "0")]
)
def test_the_name_of_a_dask_worker_decides(gpus, name, gpu):
    assert use_gpu_of_worker(dask_worker=types.SimpleNamespace(name=name)) == gpu
    assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu
    # Once more changes nothing.
    assert use_gpu_of_worker(dask_worker=types.SimpleNamespace(name=name)) == gpu


def test_a_dask_worker_without_number_is_refused(gpus):
    with pytest.raises(
        ValueError, match="'tcp://10.0.0.1:3456' has no number; start workers with --name"
    ):
        use_gpu_of_worker(dask_worker=types.SimpleNamespace(name="tcp://10.0.0.1:3456"))
    assert (
        use_gpu_of_worker(dask_worker=types.SimpleNamespace(name="tcp://10.0.0.1:3456"), index=2)
        == "2"
    )


@pytest.mark.parametrize(
    "name, gpu",
    [
        ("LokyProcess-1", "0"),
        ("LokyProcess-5", "1"),
        ("SpawnPoolWorker-3", "2"),
        ("MainProcess", "0"),
    ],
)
def test_the_name_of_a_process_decides(gpus, monkeypatch, name, gpu):
    monkeypatch.setattr(
        multiprocessing, "current_process", lambda: types.SimpleNamespace(name=name)
    )
    assert use_gpu_of_worker() == gpu


def test_gpus_may_be_named_and_counted(gpus, monkeypatch, tmp_path):
    assert (
        use_gpu_of_worker(["GPU-a", "GPU-b"], index=3)
        == os.environ["CUDA_VISIBLE_DEVICES"]
        == "GPU-b"
    )
    gpus("")
    assert use_gpu_of_worker(index=1) is None and os.environ["CUDA_VISIBLE_DEVICES"] == ""
    gpus(None)
    listing = tmp_path / "nvidia-smi"
    listing.write_text(
        "#!/bin/sh\necho 'GPU 0: H200 (UUID: GPU-1)'\necho '  MIG 1g'\necho 'GPU 1: H200 (UUID: "
        "GPU-2)'\n"
    )
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert use_gpu_of_worker(index=5) == "1"
    gpus(None)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert use_gpu_of_worker(index=5) is None and "CUDA_VISIBLE_DEVICES" not in os.environ


def test_too_late(gpus, monkeypatch):
    used = types.SimpleNamespace(cuda=types.SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", used)
    with pytest.raises(RuntimeError, match="too late for GPU 1"):
        use_gpu_of_worker(index=1)
    gpus("1")
    assert use_gpu_of_worker(index=0) == "1"


def gpu_here():
    return multiprocessing.current_process().name, os.environ.get("CUDA_VISIBLE_DEVICES")


def test_joblibs_workers_take_theirs_when_they_start(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with joblib.parallel_config(backend="loky", initializer=use_gpu_of_worker):
        seen = joblib.Parallel(n_jobs=2)(joblib.delayed(gpu_here)() for _ in range(8))
    for name, gpu in seen:
        assert gpu == str((int(name.rsplit("-")[-1]) - 1) % 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
