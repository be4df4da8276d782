"""Evaluations in processes of their own: one that kills its process, or takes too long, is told by
name.
"""

import math
import re
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from joblib import effective_n_jobs, parallel_config
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import get_active_backend

TRIES = 2  # what dies with its process may have been killed by others
LOCAL = {"LokyBackend", "MultiprocessingBackend", "ThreadingBackend", "SequentialBackend"}


@dataclass
class _Task:
    worker: ProcessPoolExecutor
    pair: tuple | None = None  # None while the process starts
    call: tuple = ()
    number: int = 1
    since: float = math.inf


class Guard:
    """Runs tasks side by side, each alone in a process of this machine.

    Parameters
    ----------
    n_jobs : int or None
        As joblib understands it here. Its threads per process, and what it runs when a process
        starts, are kept.
    timeout : float or None
        Seconds that a task may take, not counting the start of its process.
    known : object
        Sent to each process before its first task, so that what must be imported is not counted
        either.

    Raises
    ------
    ValueError
        The tasks would go to another machine's processes, which this one cannot end.
    """

    def __init__(self, n_jobs, timeout, known):
        backend, _ = get_active_backend()
        name = type(backend).__name__
        if timeout is not None and name not in LOCAL:
            raise ValueError(
                f"candidate_timeout={timeout} needs processes of this machine, but joblib's "
                f"backend here is {name}; "
                'use parallel_config("loky"), or candidate_timeout=None.'
            )
        self.n_workers = effective_n_jobs(n_jobs) if name in LOCAL else 1
        self.timeout = math.inf if timeout is None else timeout
        self.known = known
        given = getattr(backend, "backend_kwargs", None) or {}
        self.options = {key: given[key] for key in ("initializer", "initargs") if key in given}
        if hasattr(backend, "_prepare_worker_env"):
            self.options["env"] = backend._prepare_worker_env(self.n_workers)
        self.idle: list[ProcessPoolExecutor] = []
        self.busy: dict[Any, _Task] = {}

    def run(self, calls):
        """Pairs and results as the calls end: ``(pair, result, None)``, or ``(pair, None, what
        happened)``.

        Parameters
        ----------
        calls : iterable of (pair, (function, arguments, named arguments))
            Taken one by one, when there is a process for it.
        """
        calls, again = iter(calls), deque()
        try:
            while True:
                self._begin(calls, again)
                if not self.busy:
                    return
                done, _ = wait(self.busy, timeout=self._patience(), return_when=FIRST_COMPLETED)
                for future in done:
                    task = self.busy.pop(future)
                    error = future.exception()
                    if isinstance(error, BrokenProcessPool):
                        self._end(task.worker)
                        if task.pair is None:
                            raise RuntimeError(
                                f"a process for evaluations ended as it started: {error}"
                            ) from error
                        if task.number < TRIES:
                            again.append((task.pair, task.call, task.number + 1))
                        else:
                            yield task.pair, None, f"its process died {TRIES} times {_codes(error)}"
                        continue
                    self.idle.append(task.worker)
                    if error is not None:
                        raise error
                    if task.pair is not None:
                        yield task.pair, future.result(), None
                for future, task in list(self.busy.items()):
                    if (
                        task.pair is not None
                        and time.monotonic() - task.since > self.timeout
                        and not future.done()
                    ):
                        del self.busy[future]
                        self._end(task.worker)
                        yield (
                            task.pair,
                            None,
                            f"it took longer than candidate_timeout={self.timeout} seconds",
                        )
        finally:
            for task in self.busy.values():
                self._end(task.worker)
            self.busy.clear()

    def _begin(self, calls, again):
        """Give waiting calls to idle processes, and start processes for those that find none."""
        while self.idle and (waiting := again.popleft() if again else _first(calls)):
            worker = self.idle.pop()
            pair, call, number = waiting
            future = worker.submit(_alone, *call)
            self.busy[future] = _Task(worker, pair, call, number, time.monotonic())
        starting = sum(task.pair is None for task in self.busy.values())
        while not self.idle and len(self.busy) < self.n_workers:
            if len(again) == starting:
                if (waiting := _first(calls)) is None:
                    return
                again.append(waiting)
            worker = ProcessPoolExecutor(max_workers=1, **self.options)
            self.busy[worker.submit(_import, self.known)] = _Task(worker)
            starting += 1

    def _patience(self):
        """Seconds until the first task has had its time."""
        ends = [task.since + self.timeout for task in self.busy.values() if task.pair is not None]
        left = min(ends, default=math.inf) - time.monotonic()
        return min(max(left, 0.0) + 0.001, 10.0)  # some systems hear Ctrl-C only then

    @staticmethod
    def _end(worker):
        worker.shutdown(wait=True, kill_workers=True)

    def close(self):
        """End the processes."""
        for worker in self.idle:
            self._end(worker)
        self.idle.clear()


def _first(calls):
    found = next(calls, None)
    return None if found is None else (*found, 1)


def _import(known):
    pass


def _alone(function, arguments, named):
    with parallel_config("threading"):  # within a worker of joblib it is the same
        return function(*arguments, **named)


def _codes(error):
    found = re.search(r"exit codes of the workers are (\{.*?\})", str(error))
    return f"(exit code {found[1].strip('{}')})" if found else ""
