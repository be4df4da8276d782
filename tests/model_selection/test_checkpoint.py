"""Searches that are killed, stopped and resumed."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import known_curves
import numpy as np
import pytest
from kill_me import run as small_search
from known_curves import Counted, Curve, Troubled, X, Y, columns, search
from scipy.stats import loguniform, norm, uniform
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline

from sklearn_autorec.model_selection import HyperbandSearchCV
from sklearn_autorec.model_selection._running._checkpoint import (
    Checkpoint,
    identity,
    write_atomically,
)

HERE = Path(__file__).parent
WARM = pytest.mark.parametrize("warm", [False, True])


@WARM
def test_a_finished_search_is_read_not_repeated(tmp_path, warm):
    first = search(warm=warm, checkpoint=tmp_path).fit(X, Y)
    known_curves.TRAINED.clear()
    again = search(warm=warm, checkpoint=str(tmp_path), refit=True, n_jobs=1, max_time=100).fit(
        X, Y
    )
    assert len(known_curves.TRAINED) == 1  # the refit
    assert columns(first) == columns(again) == columns(search(warm=warm).fit(X, Y))


@WARM
def test_a_stopped_search_goes_on(tmp_path, warm):
    slow = Troubled(seconds=0.01)
    finished = columns(search(Troubled(), warm=warm).fit(X, Y))
    stops = 0
    for _ in range(30):
        part = search(slow, warm=warm, checkpoint=tmp_path, max_time=0.15).fit(X, Y)
        if part.stopped_ == "finished":
            break
        stops += 1
    assert stops >= 2 and columns(part) == finished


@WARM
def test_an_interrupted_search_goes_on(tmp_path, warm):
    known_curves.TRAINED.clear()
    with pytest.warns(UserWarning, match="interrupted"):
        part = search(Troubled(trouble="interrupt"), warm=warm, checkpoint=tmp_path).fit(X, Y)
    assert part.stopped_ == "interrupted"
    known_curves.TRAINED[:] = [None] * 100
    whole = search(Troubled(trouble="interrupt"), warm=warm, checkpoint=tmp_path).fit(X, Y)
    assert columns(whole) == columns(search(Troubled(), warm=warm).fit(X, Y))


def test_models_are_kept_as_long_as_something_can_continue_them(tmp_path):
    search(Troubled(seconds=0.001), warm=True, checkpoint=tmp_path).fit(X, Y)
    # The last batch: three candidates of bracket 0, two splits.
    assert len(list(tmp_path.glob("state-*.joblib"))) == 6
    assert len(list(tmp_path.glob("evaluation-*.joblib"))) == 44
    assert not list(tmp_path.glob(".*.tmp"))


def test_warm_pipelines_resume(tmp_path):
    pipeline = make_pipeline(Counted(), Troubled(seconds=0.01))
    space = {"counted__factor": [1.0, 2.0], "troubled__a": uniform(), "troubled__b": uniform()}
    options = {
        "resource": "troubled__epochs",
        "max_resources": 9,
        "cv": 2,
        "random_state": 0,
        "warm": True,
    }
    stopped = 0
    for _ in range(30):
        part = HyperbandSearchCV(pipeline, space, **options, checkpoint=tmp_path, max_time=0.2).fit(
            X, Y
        )
        if part.stopped_ == "finished":
            break
        stopped += 1
    assert stopped and columns(part) == columns(
        HyperbandSearchCV(pipeline, space, **options).fit(X, Y)
    )


@pytest.mark.parametrize(
    "change",
    [
        {"max_resources": 27},
        {"random_state": 1},
        {"warm": True},
        {"cv": KFold(3)},
        {"estimator": Curve(c=1)},
    ],
)
def test_a_folder_of_another_search_is_refused(tmp_path, change):
    search(checkpoint=tmp_path).fit(X, Y)
    with pytest.raises(ValueError, match="holds a search of other parameters or other data"):
        search(checkpoint=tmp_path, **change).fit(X, Y)


def test_a_folder_of_other_data_is_refused(tmp_path):
    search(checkpoint=tmp_path).fit(X, Y)
    for data, y, weight in ((X + 1, Y, None), (X, 1 - Y, None), (X, Y, np.ones(40))):
        with pytest.raises(ValueError, match="other data"):
            search(checkpoint=tmp_path).fit(
                data, y, **({} if weight is None else {"sample_weight": weight})
            )
    os.remove(tmp_path / "search.joblib")
    with pytest.raises(ValueError, match="without the search they belong to"):
        search(checkpoint=tmp_path).fit(X, Y)


def test_random_generators_as_seeds_resume(tmp_path):
    state = np.random.RandomState(0)
    first = search(random_state=state, checkpoint=tmp_path).fit(X, Y)
    assert columns(first) == columns(search(random_state=state, checkpoint=tmp_path).fit(X, Y))
    unseeded = search(random_state=None, checkpoint=tmp_path / "unseeded").fit(X, Y)
    assert columns(unseeded) == columns(
        search(random_state=None, checkpoint=tmp_path / "unseeded").fit(X, Y)
    )
    splits = search(cv=iter(list(KFold(2).split(X))), checkpoint=tmp_path / "iterator").fit(X, Y)
    again = search(cv=iter(list(KFold(2).split(X))), checkpoint=tmp_path / "iterator").fit(X, Y)
    assert columns(splits) == columns(again)


def test_the_identity_is_the_same_in_every_process():
    """joblib's own hash of a distribution holds numpy's global generator, another one in each
    process.
    """
    here = identity([{"a": loguniform(1e-3, 1), "b": norm(loc=2), "c": ["x1", None]}, np.arange(9)])
    np.random.uniform()  # noqa: NPY002
    assert here == identity(
        [{"a": loguniform(1e-3, 1), "b": norm(loc=2), "c": ["x1", None]}, np.arange(9)]
    )
    assert here != identity(
        [{"a": loguniform(1e-3, 2), "b": norm(loc=2), "c": ["x1", None]}, np.arange(9)]
    )
    assert identity(lambda x: x + 1) != identity(lambda x: x + 2)
    with pytest.raises(ValueError, match="parameters that can be pickled"):
        identity(x for x in "ab")


def test_files_are_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "value"
    write_atomically(path, [1])

    def fail(value, f):
        f.write(b"half of it")
        raise OSError("disk full")

    monkeypatch.setattr(joblib, "dump", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, [2])
    assert joblib.load(path) == [1] and list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    (tmp_path / ".abc.tmp").write_bytes(b"half")
    keep = Checkpoint(tmp_path, "x")
    keep.settings({})
    keep.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", "search.joblib"]


class Zygote:
    """A process that has imported everything and forks searches to be killed."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "kill_me.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def run(self, checkpoint, result, how, kill_after=None):
        """Start a search; kill it after so many files of evaluations and a moment, or let
        it end.
        """
        self.process.stdin.write(f"{checkpoint} {result} {how}\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        if kill_after is not None:
            files, moment = kill_after
            while not result.exists() and len(list(checkpoint.glob("evaluation-*"))) < files:
                time.sleep(0.0005)
            time.sleep(moment)
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        assert self.process.stdout.readline() == "ended\n"

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def zygote():
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    process = Zygote()
    yield process
    process.close()


def kill_and_resume(zygote, folder, how, n_kills, random_state):
    """Kill searches at random moments, several times each; what the last one finds must be what was
    to be found.
    """
    kills = 0
    while kills < n_kills:
        checkpoint, result = folder / f"search{kills}", folder / f"result{kills}"
        checkpoint.mkdir()
        while not result.exists():
            done = len(list(checkpoint.glob("evaluation-*")))
            ahead = 5 if how.startswith("own") else 20
            moment = done + random_state.randint(0, ahead), random_state.uniform(0, 0.02)
            before = result.exists()
            zygote.run(checkpoint, result, how, moment if kills < n_kills else None)
            kills += not (before or result.exists())
        found = pickle.loads(result.read_bytes())
        # What nobody killed finds from the same seed and splits.
        settings = checkpoint / "search.joblib"
        untouched = folder / f"untouched{kills}"
        untouched.mkdir()
        shutil.copy(settings, untouched)
        assert found == columns(small_search(str(untouched), how))
        assert len(found["params"]) == {"own-warm": 6, "own-cold": 6, "own-population": 12}.get(
            how, 22
        )
    return kills


def test_killed_at_three_random_moments_the_arrays_are_equal(zygote, tmp_path):
    assert kill_and_resume(zygote, tmp_path, "warm", 3, np.random.RandomState(os.getpid())) >= 3


@pytest.mark.slow
@WARM
def test_killed_at_twenty_random_moments_the_arrays_are_equal(zygote, tmp_path, warm):
    assert (
        kill_and_resume(zygote, tmp_path, "warm" if warm else "cold", 20, np.random.RandomState(0))
        >= 20
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "how, n_kills, seed", [("own-warm", 14, 1), ("own-cold", 13, 2), ("own-population", 13, 3)]
)
def test_forty_kills_of_searches_with_our_own_estimators(zygote, tmp_path, how, n_kills, seed):
    assert kill_and_resume(zygote, tmp_path, how, n_kills, np.random.RandomState(seed)) >= n_kills
