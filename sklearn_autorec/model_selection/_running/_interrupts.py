"""How a search is stopped between and within its evaluations."""

import signal
import threading
from typing import Any


class Stopped(Exception):
    """No further evaluation is to start."""


class Interrupts:
    """Ctrl-C: while ``armed`` it raises KeyboardInterrupt at once, else at the second time;
    ``seen`` remembers it.

    Books that are being kept are not left half written, and estimators that swallow the exception
    do not hide it."""

    def __enter__(self):
        self.seen = self.armed = False
        self.previous: Any = None
        self.here = threading.current_thread() is threading.main_thread()
        if self.here:
            self.previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, *args):
        again, self.seen = self.seen, True
        if self.armed or again:
            raise KeyboardInterrupt

    def __exit__(self, *args):
        if self.here:
            signal.signal(signal.SIGINT, signal.SIG_DFL if self.previous is None else self.previous)
