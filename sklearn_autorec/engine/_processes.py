"""Processes that train one network together, each on its share of every batch."""

import atexit
import multiprocessing
import os
import pickle
import warnings
from contextlib import contextmanager

import numpy as np
import torch
from torch import distributed

from ..exceptions import ProcessLostError
from ._distributed_net import SharedBatches, trained_together
from ._shared_rows import SharedRows
from ._time_limit import BatchesInTime, has_passed
from ._training import forward_in_chunks

__all__ = ["Processes", "processes_of"]

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun


def processes_of(wanted):
    """The processes of a fit.

    A group that the user has initialised is taken as it is. Otherwise that of torchrun is
    initialised, which lasts as long as the process.

    Parameters
    ----------
    wanted : bool
        The parameter ``distributed``.

    Returns
    -------
    Processes or None
        None where this process trains alone.

    Raises
    ------
    ValueError
        In a worker of a pool, which has the environment of a process that torchrun has started but
        is none; and where torch was built without ``torch.distributed``.

    Warns
    -----
    UserWarning
        If there are no other processes.
    """
    if not wanted:
        return None
    if not distributed.is_available():
        raise ValueError("distributed=True needs a torch that was built with torch.distributed.")
    if not distributed.is_initialized():
        if not all(name in os.environ for name in LAUNCHED):
            warnings.warn(
                "distributed=True, but this process knows of no others and trains alone: start the "
                "script with torchrun, or call torch.distributed.init_process_group before.",
                UserWarning,
                stacklevel=5,
            )
            return None
        name = multiprocessing.current_process().name
        if name != "MainProcess":
            raise ValueError(
                f"distributed=True in the worker {name!r} of a pool, which is none of the "
                f"processes that torchrun has started; set n_jobs=1, or distributed=False."
            )
        # Its functions would keep the group as their default if torch first imported it later, with
        # the optimizers: a group that outlives its end may abort the process as it exits.
        import torch.distributed.nn.functional  # noqa: F401

        with _explained("could not meet"):
            distributed.init_process_group()
        atexit.register(_leave)
    return Processes()


def _leave():
    """End a group that `processes_of` has initialised."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def _explained(what):
    """Errors of a group as one that can be caught by name."""
    try:
        yield
    except ProcessLostError:
        raise
    except RuntimeError as error:
        raise ProcessLostError(
            f"The processes of a fit with distributed=True {what}: {error!s:.400}. One of them "
            f"has ended, has failed, or cannot be reached; what it has printed says why. Start all "
            f"again; with checkpoint=FOLDER they go on from the last epoch that was finished."
        ) from error


class Processes:
    """The default group of ``torch.distributed``, and the batch that its processes are at.

    While a batch passes, it is what `statistics_across` asks for: `at` has the numbers.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of all.
    at : SharedRows or None
        The share of this process in the batch that is passing through the network.
    deadline : float or None
        Reading of the clock of the first process at which the present training is to end.
    time_is_over : bool
        Whether the first process has found, in the last step, that it has passed.
    """

    def __init__(self):
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.at, self.deadline, self.time_is_over = None, None, False
        backends = distributed.get_backend_config()
        kinds = {part.split(":")[0] for part in str(backends).split(",") if ":" in part}
        known = {"gloo": {"cpu"}, "nccl": {"cuda"}, "mpi": {"cpu"}}
        self.kinds = kinds or known.get(distributed.get_backend(), {"cpu"})

    @property
    def is_first(self):
        """Whether this process does what is done once: files, the screen, parts beside the
        network.
        """
        return self.rank == 0

    def device(self, wanted):
        """The device of this process: of "auto" the GPU of its number on the machine, if there are
        several.
        """
        several = wanted == "auto" and torch.cuda.is_available() and torch.cuda.device_count() > 1
        if not several:
            return wanted
        number = int(os.environ.get("LOCAL_RANK", self.rank)) % torch.cuda.device_count()
        torch.cuda.set_device(number)
        return f"cuda:{number}"

    # Rows
    # ---------------------------------------------------------------------------------------------

    def share(self, batch, members=1):
        """What this process has of a batch, as `SharedRows`."""
        return SharedRows(batch, self.rank, self.size, members)

    n_rows = property(lambda self: self.at.n_rows)
    n_own = property(lambda self: self.at.n_own)
    n_passed = property(lambda self: self.at.n_passed)
    first = property(lambda self: self.at.first)
    members = property(lambda self: self.at.members)

    def of_all_rows(self, values, own):
        """What all processes have for the rows of a batch, in the order of the batch.

        Parameters
        ----------
        values : Tensor (M * n_passed, ...)
        own : SharedRows

        Returns
        -------
        Tensor (M * n_rows, ...)
        """
        most = -(-own.n_rows // self.size)
        rows = values.detach().unflatten(0, (own.members, -1)).transpose(0, 1)[: own.n_own]
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: own.n_own] = rows
        counts = np.diff(np.linspace(0, own.n_rows, self.size + 1).astype(int))
        each = zip(self.gathered(padded), counts, strict=True)
        return torch.cat([part[:n] for part, n in each]).transpose(0, 1).flatten(0, 1)

    def forward(self, module, data):
        """As `forward_in_chunks`, each process its share of the rows; all get all logits."""
        own = self.share(data)
        return self.of_all_rows(forward_in_chunks(module, own), own)

    def batches(self, batches, deadline=None):
        """Those of `TrainingBatches`, of each the share of this process, until a deadline by the
        clock of the first process; as `BatchesInTime`.
        """
        self.deadline, self.time_is_over = deadline, False
        return BatchesInTime(SharedBatches(batches, self), deadline, lambda: self.time_is_over)

    def ends_in_time(self):
        """Whether this process has to tell the others that the deadline has passed."""
        return self.is_first and has_passed(self.deadline)

    def together(self, net):
        """See `trained_together`."""
        return trained_together(net, self)

    # Exchange
    # ---------------------------------------------------------------------------------------------

    def _there(self, t):
        """A tensor on a device over which the group exchanges."""
        return t.contiguous() if t.device.type in self.kinds else t.to(min(self.kinds))

    def total(self, t):
        """Sum of a tensor over the processes; a new tensor."""
        there = self._there(t)
        there = there.clone() if there.data_ptr() == t.data_ptr() else there
        with _explained("lost each other"):
            distributed.all_reduce(there)
        return there.to(t.device)

    def gathered(self, t):
        """A tensor of each process, of the same shape in all, stacked."""
        there = self._there(t)
        each = [torch.empty_like(there) for _ in range(self.size)]
        with _explained("lost each other"):
            distributed.all_gather(each, there)
        return torch.stack(each).to(t.device)

    def of_first(self, t):
        """Write the tensor of the first process into that of each."""
        there = self._there(t.detach())
        with _explained("lost each other"):
            distributed.broadcast(there, 0)
        if there.data_ptr() != t.data_ptr():
            with torch.no_grad():
                t.copy_(there)
        return t

    def any(self, flag):
        """Whether a flag is set in some process."""
        return bool(self.total(torch.tensor([float(bool(flag))])).item())

    def value_of_first(self, make):
        """What a function returns in the first process; the others do not call it.

        Raises
        ------
        ProcessLostError
            In the others, if it raises an error in the first.
        """
        packed, error = b"", None
        if self.is_first:
            try:
                packed = pickle.dumps(make())
            except BaseException as raised:
                error = raised
        n = int(self.of_first(torch.tensor([-1 if error is not None else len(packed)])))
        if error is not None:
            raise error
        if n < 0:
            raise ProcessLostError("The first process of a fit with distributed=True has failed.")
        sent = np.frombuffer(packed, np.uint8).copy() if self.is_first else np.zeros(n, np.uint8)
        received = self.of_first(torch.from_numpy(sent))
        # What was fitted is the same object in one process only: a copy there would be twice it.
        return pickle.loads(received.numpy().tobytes())

    def check_same(self, values):
        """Refuse processes that were given different things.

        Parameters
        ----------
        values : dict of str to str
            By the name that the user knows it by: a hash, or a short text. The names are the same
            in all processes.

        Raises
        ------
        ValueError
            In all of them, naming what differs.
        """
        texts = [f"{name}\n{value}" for name, value in values.items()]
        first = self.value_of_first(lambda: texts)
        agree = [a == b for a, b in zip(first, texts, strict=True)]
        each = self.gathered(torch.tensor(agree, dtype=torch.float32))
        if not bool(each.all()):
            names = [n for n, same in zip(values, each.all(0).tolist(), strict=True) if not same]
            ranks = [rank for rank, same in enumerate(each.all(1).tolist()) if not same]
            raise ValueError(
                f"distributed=True: {', '.join(names)} of the processes {ranks} differ from those "
                f"of process 0. Each process must be given the whole table and the same "
                f"parameters; it takes its share of each batch by itself."
            )
