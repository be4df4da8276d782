"""A training that has not ended, in a file from which it goes on to the bit."""

import copy
from pathlib import Path

import torch

from ..exceptions import CheckpointError
from ..nn import ReLUDropout
from ..utils._files import replacing

__all__ = ["TrainingCheckpoint"]

VERSION = 1


class TrainingCheckpoint:
    """The folder of a fit, with a file for each of its trainings, written after every epoch.

    At any moment a file is that of the last finished epoch, or absent. It holds tensors and plain
    values, no code. Of several processes the first one writes and reads it.

    Parameters
    ----------
    folder : path-like
        Made if it does not exist.
    identity : dict of str to str
        Hashes of what makes the fit this one, by the names that the user knows.
    processes : Processes or None
    """

    def __init__(self, folder, identity, processes=None):
        self.folder, self.identity, self.processes = Path(folder), identity, processes
        if self._writes:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CheckpointError(
                    f"checkpoint={str(self.folder)!r} cannot be made: {error}. Name a folder that "
                    f"you may write to."
                ) from error

    @property
    def _writes(self):
        return self.processes is None or self.processes.is_first

    def path(self, name):
        """The file of the training of that name."""
        return self.folder / f"{name}.pt"

    def load(self, name):
        """What `save` was given last, on the CPU; None if there is nothing.

        Raises
        ------
        CheckpointError
            If the file is damaged, or belongs to another fit. It stays as it is.
        """
        if self.processes is None:
            return self._read(self.path(name))
        return self.processes.value_of_first(lambda: self._read(self.path(name)))

    def _read(self, path):
        if not path.exists():
            return None
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            version, identity, state = stored["version"], stored["identity"], stored["state"]
        except Exception as error:  # of the system, of zip, of pickle: whatever is wrong with it
            raise CheckpointError(
                f"The checkpoint file {str(path)!r} cannot be read: {type(error).__name__}: "
                f"{error!s:.200}. Remove it, and the training begins with its first epoch."
            ) from error
        told = f"checkpoint={str(self.folder)!r} belongs to another fit"
        if version != VERSION:
            raise CheckpointError(f"{told}: its format is {version}, not {VERSION}.")
        other = [n for n in self.identity if identity.get(n) != self.identity[n]]
        if other or identity.keys() != self.identity.keys():
            raise CheckpointError(
                f"{told}: {', '.join(other) or 'what is known of it'} differs. Name another "
                f"folder, or remove this one."
            )
        return state

    def save(self, name, state):
        """Write the state of a training beside its file, and move it there.

        Raises
        ------
        CheckpointError
            If that cannot be; the file of the epoch before stays.
        """
        if not self._writes:
            return
        path = self.path(name)
        stored = {"version": VERSION, "identity": self.identity, "state": state}
        try:
            with replacing(path) as f:
                torch.save(stored, f)
        except (OSError, RuntimeError) as error:  # torch tells of a full disk by the latter
            raise CheckpointError(
                f"The checkpoint file {str(path)!r} cannot be written: {error!s:.200}. That of the "
                f"epoch before is still there."
            ) from error


class EpochFile:
    """The file of one training: what `train` needs to go on behind an epoch.

    Parameters
    ----------
    checkpoint : TrainingCheckpoint
    name : str
    net : FieldNet
        Initialised.
    batches : TrainingBatches
    best : Snapshot
    average : WeightAverage or None
    """

    def __init__(self, checkpoint, name, net, batches, best, average):
        self.checkpoint, self.name = checkpoint, name
        self.net, self.batches, self.best, self.average = net, batches, best, average
        self.dropouts = [m for m in net.module_.modules() if isinstance(m, ReLUDropout)]
        self.before = [layer._epoch for layer in self.dropouts]

    def begin(self, epoch):
        """Let the random bits of dropout be those of the epoch, whichever process began with."""
        for layer, before in zip(self.dropouts, self.before, strict=True):
            layer.restart(before + epoch)

    def end(self):
        """Let dropout be as it was, so that what is pickled does not tell of a checkpoint."""
        for layer, before in zip(self.dropouts, self.before, strict=True):
            layer.restart(before)

    def save(self, numbers):
        """Keep the end of an epoch.

        Parameters
        ----------
        numbers : dict
            Plain values, which `load` returns.
        """
        net = self.net
        self.checkpoint.save(
            self.name,
            {
                "weights": net.trained.state_dict(),
                "moments": net.training_state(),
                "step": net.step_,
                "best": self.best.state,
                "average": None
                if self.average is None
                else {"tensors": self.average.average, "steps": self.average.steps},
                "order": self.batches.order_state(),
                "numbers": numbers,
            },
        )

    def load(self):
        """Bring the training to the end of the epoch that was kept; returns the numbers, or None if
        nothing was.
        """
        state = self.checkpoint.load(self.name)
        if state is None:
            return None
        net = self.net
        net.trained.load_state_dict(state["weights"])
        net.load_training_state(copy.deepcopy(state["moments"]))
        net.step_ = state["step"]
        if state["best"] is not None:
            self.best.take(net.trained)
            for name, t in state["best"].items():
                self.best.state[name].copy_(t)
        if self.average is not None:
            self.average.steps = state["average"]["steps"]
            for own, kept in zip(self.average.average, state["average"]["tensors"], strict=True):
                own.copy_(kept)
        self.batches.set_order_state(state["order"])
        return state["numbers"]
