"""Finished evaluations of a search, in files that a killed process cannot leave half written."""

import os
import tempfile
from pathlib import Path
from types import FunctionType

import joblib
from joblib.hashing import NumpyHasher

VERSION = 1


class _Hasher(NumpyHasher):
    """joblib's hash of values, for two things that it knows by their address or by global state only."""

    def save(self, obj):
        if type(obj).__module__.startswith("scipy.stats") and hasattr(obj, "dist"):
            # A frozen distribution carries numpy's global generator with it.
            obj = ("distribution", type(obj).__name__, obj.dist.name, obj.args, obj.kwds)
        elif isinstance(obj, FunctionType):
            code = obj.__code__
            constants = [c for c in code.co_consts if not hasattr(c, "co_code")]
            obj = (
                "function",
                obj.__module__,
                obj.__qualname__,
                code.co_code,
                constants,
                code.co_names,
                obj.__defaults__,
            )
        super().save(obj)


def identity(value):
    """Hash of a value that is the same in every process.

    Parameters
    ----------
    value : object
        What pickle knows, or functions, or scipy's frozen distributions.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        Something in it cannot be pickled.
    """
    try:
        return _Hasher(hash_name="md5").hash(value)
    except Exception as error:
        raise ValueError(f"a checkpoint needs parameters that can be pickled: {error}") from error


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

    def forget(self, row, split):
        pass


class Checkpoint:
    """A folder with what a search has finished.

    Fitted models that may go on ("state" of a result) lie in files of their own, deleted as soon as nothing can
    continue them: a search holds the models of its last batch and no others.

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

    def _path(self, kind, row, split):
        return self.folder / f"{kind}-{row:06d}-{split:03d}.joblib"

    def load(self, row, split):
        """Result of an evaluation with its "state", which is None where it was deleted; None without result."""
        path = self._path("evaluation", row, split)
        if not path.exists():
            return None
        result = joblib.load(path)
        if "state" in result:
            path = self._path("state", row, split)
            result["state"] = joblib.load(path) if path.exists() else None
        return result

    def save(self, row, split, result):
        """Write a result, its model first: a result that can be read is complete."""
        if result.get("state") is not None:
            write_atomically(self._path("state", row, split), result["state"])
            result = {**result, "state": None}
        write_atomically(self._path("evaluation", row, split), result)

    def forget(self, row, split):
        """Delete the model of an evaluation."""
        self._path("state", row, split).unlink(missing_ok=True)
