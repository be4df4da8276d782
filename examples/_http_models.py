"""A model read from a file that is watched: a replacement is loaded beside it and then put in its
place."""

import hashlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from _http_rows import RowReader
from sklearn.base import is_classifier

from sklearn_autorec.serving import load

TRIES = 3  # of one state of the file: it may be written in place, and not be complete yet


@dataclass(frozen=True)
class Served:
    """A model as it answers; a request reads one of these once and sees one model throughout.

    Parameters
    ----------
    model : fitted estimator
    reader : RowReader
    classes : list or None
        Of a classifier, as JSON has them.
    digest : str
        SHA-256 of the file, in hexadecimal.
    version : int
        1 for the first model, one more for each replacement.
    path : Path
    loaded_at : float
        Seconds since 1970.
    """

    model: object
    reader: RowReader
    classes: list | None
    digest: str
    version: int
    path: Path
    loaded_at: float

    def predict(self, rows):
        """Answers for a list of dicts: a list of probabilities (one a class) or of numbers."""
        X = self.reader.table(rows)
        if self.classes is not None:
            return self.model.predict_proba(X).tolist()
        return self.model.predict(X).tolist()


def state_of(path):
    """What changes when a file is written or replaced; None where there is none, or none to see."""
    try:
        status = path.stat()
    except OSError:  # reading the file will say what it is
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class WatchedModel:
    """Serves the model of a file, and its replacements.

    Parameters
    ----------
    path : str or path-like
        As `sklearn_autorec.serving.save` writes it. Whoever replaces it should do so at once, as
        ``save`` and ``os.replace`` do; a file that is written in place is read when it is complete.
    interval : float, default=1.0
        Seconds between two looks at the file.
    max_bytes : int or None, default=None
        See `sklearn_autorec.serving.load`.

    Attributes
    ----------
    served : Served
        Replaced by one assignment.
    error : str or None
        Why the file, as it is now, is not what answers.
    failures : int
        Replacements that were refused.

    Raises
    ------
    OSError, ModelFileError, ValueError
        If there is no first model to serve.

    Notes
    -----
    Columns and classes are what clients rely on: a replacement with others is refused like a
    damaged file, and the model before it goes on to answer. Restart the service for those.
    """

    def __init__(self, path, interval=1.0, max_bytes=None):
        self.path, self.interval, self.max_bytes = Path(path), interval, max_bytes
        self.error, self.failures, self._tries = None, 0, 0
        self._state = state_of(self.path)
        self.served = self._read(version=1)
        self._stop = threading.Event()
        self._thread = None

    def start(self):
        """Look at the file from now on, in a thread."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._watch, name="watch model file", daemon=True)
        self._thread.start()

    def stop(self):
        """Stop looking; waits for a replacement that is being read."""
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.wait(self.interval):
            self.look()

    def look(self):
        """Serve the file's model if it is another one; says in ``error`` why not."""
        state = state_of(self.path)
        new = state != self._state
        if not new and (self.error is None or self._tries >= TRIES):
            return
        self._tries = 1 if new else self._tries + 1
        self._state = state
        try:
            found = self._read(version=self.served.version + 1)
            if state_of(self.path) != state:
                return  # written meanwhile: what was read may be half of each; next time
            if found is not None:
                self._refuse_other_contract(found)
                self.served = found
            self.error = None
        except Exception as error:  # whatever is wrong with the new file, the old model serves
            self.failures += new
            self.error = f"{type(error).__name__}: {error}"

    def _read(self, version):
        """The file as Served; None if it is the one that serves."""
        with open(self.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if version > 1 and digest == self.served.digest:
            return None
        model = load(self.path, max_bytes=self.max_bytes)
        classes = model.classes_.tolist() if is_classifier(model) else None
        return Served(model, RowReader(model), classes, digest, version, self.path, time.time())

    def _refuse_other_contract(self, found):
        names, now = set(found.reader.names), set(self.served.reader.names)
        if names != now:
            raise ValueError(
                f"The new model has other columns: without {sorted(now - names)}, with "
                f"{sorted(names - now)}. Restart the service if clients know."
            )
        if found.classes != self.served.classes:
            raise ValueError(
                f"The new model has classes {found.classes}, the service answers for "
                f"{self.served.classes}. Restart the service if clients know."
            )
