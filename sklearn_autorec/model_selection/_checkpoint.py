"""Finished evaluations of a search, in files that a killed process cannot leave half written."""

import os
import tempfile
from pathlib import Path

import joblib

VERSION = 1


def write_atomically(path, value):
    """Dump with joblib beside ``path`` and move there: at any moment the file is whole or absent."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as f:
            joblib.dump(value, f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


class NoCheckpoint:
    """Remembers nothing."""

    def settings(self, fresh):
        return fresh

    def load(self, row, split):
        return None

    def save(self, row, split, result):
        pass


class Checkpoint:
    """A folder with what a search has finished.

    Parameters
    ----------
    folder : path-like
        Made if it does not exist. The files are pickles: keep them as safe as the code itself.
    identity : str
        Hash of the search's parameters and data. A folder of another search is refused.
    """

    def __init__(self, folder, identity):
        self.folder = Path(folder)
        self.identity = identity
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".*.tmp"):  # of a process killed while it wrote
            leftover.unlink(missing_ok=True)

    def settings(self, fresh):
        """What was drawn at the start of the search (its seed, its splits): stored once, read by those that resume.

        Parameters
        ----------
        fresh : dict

        Returns
        -------
        dict

        Raises
        ------
        ValueError
            The folder belongs to another search.
        """
        path = self.folder / "search.joblib"
        if path.exists():
            found = joblib.load(path)
            if (found["version"], found["identity"]) != (VERSION, self.identity):
                raise ValueError(
                    f"checkpoint={str(self.folder)!r} holds a search of other parameters or other data; name an empty "
                    "folder, or delete this one."
                )
            return found["settings"]
        if any(self.folder.glob("evaluation-*.joblib")):
            raise ValueError(f"checkpoint={str(self.folder)!r} holds evaluations without the search they belong to.")
        write_atomically(path, {"version": VERSION, "identity": self.identity, "settings": fresh})
        return fresh

    def _path(self, row, split):
        return self.folder / f"evaluation-{row:06d}-{split:03d}.joblib"

    def load(self, row, split):
        """Result of an evaluation, or None."""
        path = self._path(row, split)
        return joblib.load(path) if path.exists() else None

    def save(self, row, split, result):
        write_atomically(self._path(row, split), result)
