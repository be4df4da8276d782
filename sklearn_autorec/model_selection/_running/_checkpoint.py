"""Finished evaluations of a search, in files that a killed process cannot leave half written."""

import contextlib
import hashlib
import os
from pathlib import Path

import joblib

from ...exceptions import CheckpointError
from ...utils._files import replacing
from ...utils._identity import identity
from ._lock import FolderLock

__all__ = ["Checkpoint", "NoCheckpoint", "identity", "read_checked", "write_atomically"]

VERSION = 2  # 1 had no checksums
# Behind the pickle, which ends by itself: before the digest of all before it.
TAIL = b"autorec-sha256:"


def write_atomically(path, value):
    """Dump with joblib beside ``path`` and move there: at any moment the file is whole or
    absent.
    """
    with replacing(path) as f:
        joblib.dump(value, f)
        f.seek(0)
        digest = hashlib.file_digest(f, "sha256").digest()
        f.seek(0, os.SEEK_END)
        f.write(TAIL + digest)


def read_checked(path):
    """What `write_atomically` wrote; ValueError if the file has other bytes."""
    with open(path, "rb") as f:
        digest, size = hashlib.sha256(), os.fstat(f.fileno()).st_size
        left = size - len(TAIL) - digest.digest_size
        while left > 0 and (block := f.read(min(left, 2**20))):
            digest.update(block)
            left -= len(block)
        if left or f.read() != TAIL + digest.digest():
            raise ValueError(f"its checksum does not agree with its {size} bytes")
        f.seek(0)
        return joblib.load(f)


@contextlib.contextmanager
def _about(path, what, then):
    """Errors of the system, and of pickles, as one that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"The checkpoint file {str(path)!r} cannot be {what}: {type(error).__name__}: "
            f"{error}. {then}"
        ) from error


class NoCheckpoint:
    """Remembers nothing."""

    def settings(self, fresh):
        return fresh

    def load(self, row, split):
        return None

    def begin(self, row, split):
        pass

    def deaths(self, row, split):
        return 0

    def alive(self, row, split):
        pass

    def save(self, row, split, result):
        pass

    def forget(self, row, split):
        pass

    def close(self):
        pass


class Checkpoint:
    """A folder with what a search has finished; nobody else may use it until ``close``.

    Fitted models that may go on ("state" of a result) lie in files of their own, deleted as soon as
    nothing can continue them: a search holds the models of its last batch and no others. Whatever
    is wrong with a file or the folder is a CheckpointError that names it; what had been stored
    stays.

    Parameters
    ----------
    folder : path-like
        Made if it does not exist. The files are pickles: keep them as safe as the code itself.
    identity : str, or dict of str
        Hash of the search's parameters and data, or hashes by their names. A folder of another
        search is refused.
    """

    def __init__(self, folder, identity):
        self.folder = Path(folder)
        self.identity = identity
        then = "Name a folder that you may write to."
        with _about(self.folder, "made", then):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _about(self.folder / "lock", "locked", then):
            self.lock = FolderLock(self.folder)
        for leftover in self.folder.glob(".*.tmp"):  # of a process killed while it wrote
            with contextlib.suppress(OSError):
                leftover.unlink()

    def close(self):
        """Let others use the folder."""
        self.lock.release()

    def settings(self, fresh):
        """What was drawn at the start of the search (its seed, its splits): stored once, read by
        those that resume.

        Parameters
        ----------
        fresh : dict

        Returns
        -------
        dict

        Raises
        ------
        CheckpointError
            The folder belongs to another search.
        """
        path, name = self.folder / "search.joblib", f"checkpoint={str(self.folder)!r}"
        if (
            found := self._read(
                path, "Without it the other files have no meaning; delete the folder."
            )
        ) is not None:
            if found["version"] != VERSION:
                raise CheckpointError(
                    f"{name} was written by another version of sklearn-autorec; name an empty "
                    f"folder."
                )
            if found["identity"] != self.identity:
                raise CheckpointError(
                    f"{name} holds a search of other parameters or other "
                    f"data{self._differences(found)}; name an empty "
                    "folder, or delete this one."
                )
            return found["settings"]
        if any(self.folder.glob("evaluation-*.joblib")):
            raise CheckpointError(f"{name} holds evaluations without the search they belong to.")
        self._write(path, {"version": VERSION, "identity": self.identity, "settings": fresh})
        return fresh

    def _differences(self, found):
        mine, other = self.identity, found["identity"]
        if not isinstance(mine, dict) or not isinstance(other, dict):
            return ""
        different = sorted(
            key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key)
        )
        return f" (different: {', '.join(different)})"

    def _path(self, kind, row, split):
        return self.folder / f"{kind}-{row:06d}-{split:03d}.joblib"

    def _read(self, path, then):
        """What a file holds, None if there is none."""
        with _about(path, "read", then):
            try:
                return read_checked(path)
            except FileNotFoundError:
                return None

    def _write(self, path, value):
        with _about(
            path, "written", "What was stored before is whole: make room and run the search again."
        ):
            write_atomically(path, value)

    def load(self, row, split):
        """Result of an evaluation with its "state", which is None where it was deleted; None
        without result.
        """
        then = "Delete it, and the search repeats what it held."
        result = self._read(self._path("evaluation", row, split), then)
        if result is not None and "state" in result:
            result["state"] = self._read(self._path("state", row, split), then)
        return result

    def begin(self, row, split):
        """Note that an evaluation begins in this process, which it may end (see `deaths`)."""
        path = self._path("begun", row, split)
        with _about(path, "written", "Make room and run the search again."), open(path, "ab") as f:
            f.write(b".")

    def deaths(self, row, split):
        """How often an evaluation began in a process that has not lived to see its end."""
        try:
            return self._path("begun", row, split).stat().st_size
        except OSError:
            return 0

    def save(self, row, split, result):
        """Write a result, its model first: a result that can be read is complete."""
        if result.get("state") is not None:
            self._write(self._path("state", row, split), result["state"])
            result = {**result, "state": None}
        self._write(self._path("evaluation", row, split), result)
        self.alive(row, split)

    def alive(self, row, split):
        """An evaluation has come to an end, or was stopped by what the process survived."""
        self._remove(self._path("begun", row, split))

    def forget(self, row, split):
        """Delete the model of an evaluation."""
        self._remove(self._path("state", row, split))

    @staticmethod
    def _remove(path):
        with _about(path, "deleted", "Delete it, and run the search again."):
            path.unlink(missing_ok=True)
