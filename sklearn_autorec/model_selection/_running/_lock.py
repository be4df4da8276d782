"""A folder that one search at a time may use; the lock of a dead process is gone with it."""

import errno
import os
import socket
import threading
import warnings

from ...exceptions import CheckpointError

# Real path of the folder: process id; locks of the system do not tell threads apart.
_HELD: dict[str, int] = {}
_GUARD = threading.Lock()
_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class FolderLock:
    """Holds a folder from construction to ``release``.

    The lock is one of the operating system on the file "lock", which the system drops when the
    process ends, however it ends. Children do not inherit it.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    CheckpointError
        Another search holds it.
    """

    def __init__(self, folder):
        self.folder, self.key, self.file = folder, os.path.realpath(folder), None
        with _GUARD:
            if _HELD.get(self.key) == os.getpid():
                raise CheckpointError(f"{_busy(folder)} in another thread of this process.")
            # Never deleted, or two processes would hold two files of this name.
            handle = os.open(
                folder / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666
            )
            self.file = open(handle, "r+b", buffering=0)
            try:
                self._acquire()
            except BaseException:
                self.file.close()
                raise
            _HELD[self.key] = os.getpid()

    def _acquire(self):
        try:
            _lock(self.file)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                warnings.warn(
                    f"The file system of checkpoint={str(self.folder)!r} has no locks ({error}); "
                    f"make sure that one "
                    "search alone uses the folder.",
                    stacklevel=2,
                )
                return
            holder = self.file.read(200).decode(errors="replace").strip()
            raise CheckpointError(
                f"{_busy(self.folder)}{f' ({holder})' if holder else ''}. Wait until it has "
                f"ended, or name another "
                "folder."
            ) from error
        self.file.truncate(0)
        self.file.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())

    def release(self):
        """Let others have the folder."""
        with _GUARD:
            if self.file is not None and _HELD.get(self.key) == os.getpid():
                del _HELD[self.key]
                self.file.close()  # which drops the lock
            self.file = None


def _busy(folder):
    return f"checkpoint={str(folder)!r} is in use by another search"


def _lock(file):
    if os.name == "nt":
        import msvcrt

        file.seek(1_000_000)  # behind the text, which others may then read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        file.seek(0)
    else:
        import fcntl

        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
