"""Files that are whole or absent at any moment."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ._typing import FilePath

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(path: FilePath) -> Iterator[IO[Any]]:
    """A new file, open for writing and reading bytes, that takes the place of ``path`` at the end.

    It stands in the same folder until it is on the disk. If anything is raised meanwhile, it is
    removed, and what was at ``path`` is still there.

    Parameters
    ----------
    path : path

    Raises
    ------
    OSError
        If the folder or the disk takes no file.
    """
    handle, temporary = tempfile.mkstemp(dir=Path(path).parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
