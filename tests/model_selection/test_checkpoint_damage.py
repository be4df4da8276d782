"""Folders of searches that are damaged, full or in use."""

import errno
import os
import signal
import subprocess
import sys
import threading

import joblib
import pytest
from known_curves import Troubled, X, Y, columns, search

from sklearn_autorec.exceptions import CheckpointError
from sklearn_autorec.model_selection._running._checkpoint import Checkpoint


def closing(sign):
    def scorer(estimator, X, y):
        return sign * estimator.score(X, y)

    return scorer


def holder(folder):
    """A process that holds a folder until its input ends or it is killed."""
    program = (
        "import sys; from pathlib import Path; from "
        "sklearn_autorec.model_selection._running._lock import FolderLock;"
        f"lock = FolderLock(Path({str(folder)!r})); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == "held\n"
    return process


# one search at a time
# ----------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_until_its_process_is_gone(tmp_path):
    half = tmp_path / ".half.tmp"
    half.write_bytes(b"of the other process")
    with holder(tmp_path) as other:
        with pytest.raises(
            CheckpointError, match=f"is in use by another search \\(process {other.pid} on "
        ):
            search(checkpoint=tmp_path).fit(X, Y)
        assert half.exists()
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    found = search(checkpoint=tmp_path).fit(X, Y)
    assert columns(found) == columns(search().fit(X, Y)) and not half.exists()


def test_a_folder_in_use_by_another_thread_is_refused(tmp_path):
    refused, link = [], tmp_path.with_name("link")
    link.symlink_to(tmp_path)

    def second():
        try:
            search(checkpoint=link).fit(X, Y)
        except CheckpointError as error:
            refused.append(str(error))

    first = Checkpoint(tmp_path, "x")
    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
    first.close()
    assert len(refused) == 1 and "in use by another search in another thread" in refused[0]
    search(checkpoint=link).fit(X, Y)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_neither_has_nor_ends_the_lock(tmp_path):
    mine = Checkpoint(tmp_path, "x")
    child = os.fork()
    if child == 0:
        try:
            mine.close()  # as a finally clause in the child would
            Checkpoint(tmp_path, "x")
        except CheckpointError:
            os._exit(5)
        os._exit(6)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    with pytest.raises(CheckpointError):
        Checkpoint(tmp_path, "x")
    mine.close()


def flip(data):
    changed = bytearray(data)
    changed[len(data) // 2] ^= 4
    return bytes(changed)


DAMAGES = {
    "empty": lambda data: b"",
    "garbage": lambda data: b"garbage" * 30,
    "cut": lambda data: data[:-1],
    "half": lambda data: data[: len(data) // 2],
    "longer": lambda data: data + b"x",
    "a flipped bit": flip,
}

# damaged files
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", ["search", "evaluation", "state"])
def test_damaged_files_are_named(tmp_path, kind, damage):
    whole = search(warm=True, checkpoint=tmp_path).fit(X, Y)
    victim = sorted(tmp_path.glob(f"{kind}*.joblib"))[-1]
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    others = {
        file: file.read_bytes()
        for file in tmp_path.iterdir()
        if file not in (victim, tmp_path / "lock")
    }
    with pytest.raises(
        CheckpointError, match=f"{victim.name}' cannot be read: .*Delete it|delete the folder"
    ):
        search(warm=True, checkpoint=tmp_path).fit(X, Y)
    assert all(file.read_bytes() == content for file, content in others.items())
    if kind != "search":
        victim.unlink()
        assert columns(search(warm=True, checkpoint=tmp_path).fit(X, Y)) == columns(whole)


def test_files_that_cannot_be_opened_are_named(tmp_path):
    search(checkpoint=tmp_path).fit(X, Y)
    victim = sorted(tmp_path.glob("evaluation*"))[0]
    victim.unlink()
    victim.mkdir()
    with pytest.raises(CheckpointError, match=f"{victim.name}' cannot be read"):
        search(checkpoint=tmp_path).fit(X, Y)
    file = tmp_path / "lock"
    with pytest.raises(CheckpointError, match="lock' cannot be made"):
        search(checkpoint=file).fit(X, Y)
    with pytest.raises(CheckpointError, match="cannot be made"):
        search(checkpoint=file / "inner").fit(X, Y)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to root"
)
def test_folders_that_are_closed_are_named(tmp_path):
    for mode in (0o500, 0o000):
        tmp_path.chmod(mode)
        try:
            with pytest.raises(CheckpointError, match=tmp_path.name):
                search(checkpoint=tmp_path).fit(X, Y)
        finally:
            tmp_path.chmod(0o700)


@pytest.mark.parametrize("warm", [False, True])
def test_a_full_disk_is_told_once_and_keeps_what_has_finished(tmp_path, monkeypatch, warm):
    whole = search(warm=warm).fit(X, Y)
    written, sync = [], os.fsync

    def fill(handle):
        written.append(handle)
        if len(written) > 11:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        with pytest.raises(
            CheckpointError, match=r"(evaluation|state)-\d+-\d+\.joblib' cannot be written: OSError"
        ):
            search(warm=warm, checkpoint=tmp_path).fit(X, Y)
    kept = len(list(tmp_path.glob("evaluation-*")))
    assert kept == (5 if warm else 10) and not list(tmp_path.glob(".*.tmp"))
    counted = []
    with monkeypatch.context() as patch:
        save = Checkpoint.save
        patch.setattr(Checkpoint, "save", lambda *args: (counted.append(args), save(*args)))
        assert columns(search(warm=warm, checkpoint=tmp_path).fit(X, Y)) == columns(whole)
    assert len(counted) == 44 - kept


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_limit_of_the_system_is_told_too(tmp_path):
    import resource

    child = os.fork()
    if child == 0:
        code = 1
        try:
            search(
                checkpoint=tmp_path, max_resources=1, brackets=[0], cv=2, scoring=closing(1)
            ).fit(X, Y)
            resource.setrlimit(resource.RLIMIT_FSIZE, (150, resource.RLIM_INFINITY))
            (tmp_path / "evaluation-000000-001.joblib").unlink()
            search(
                checkpoint=tmp_path, max_resources=1, brackets=[0], cv=2, scoring=closing(1)
            ).fit(X, Y)
        except CheckpointError as error:
            code = 5 if "evaluation-000000-001.joblib" in str(error) else 6
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert len(list(tmp_path.glob("evaluation-*"))) == 1 and not list(tmp_path.glob(".*.tmp"))


def test_models_that_cannot_be_pickled_are_told(tmp_path):
    class Local(Troubled):
        pass

    with pytest.raises(CheckpointError, match="state-000000-000.joblib' cannot be written"):
        search(Local(), warm=True, checkpoint=tmp_path).fit(X, Y)


def test_folders_of_other_versions_are_refused(tmp_path):
    joblib.dump({"version": 1, "identity": "x", "settings": {}}, tmp_path / "search.joblib")
    with pytest.raises(CheckpointError, match=r"search.joblib' cannot be read: .*checksum"):
        search(checkpoint=tmp_path).fit(X, Y)
