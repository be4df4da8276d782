"""Small parts of a fit: seeds, progress, weights carried over, devices."""

import dataclasses

import numpy as np
import torch
from sklearn.utils import check_random_state

from ..engine import FieldNet
from ..nn import Members


class Seeds:
    """Independent seeds of the parts of one fit, all from ``random_state``."""

    def __init__(self, random_state):
        self.initial, self.order, self.split, self.search, self.companions = (
            int(s) for s in check_random_state(random_state).randint(np.iinfo(np.int32).max, size=5)
        )

    def fresh(self, context, search=False):
        """The context with its generator at the start: all searched networks of a fit start alike,
        with one member.

        The final network starts otherwise, else ``retrain="scratch"`` would repeat the weights of
        the search."""
        seed = self.search if search else self.initial
        members = 1 if search else context.members
        return dataclasses.replace(
            context, generator=torch.Generator().manual_seed(seed), members=members
        )


class EpochReporter:
    """Carries epochs to scikit-learn's callbacks and, if verbose, to the screen."""

    def __init__(self, estimator, X, y, n_tasks):
        self.estimator, self.X, self.y = estimator, X, y
        self.root = estimator._init_callback_context(max_subtasks=n_tasks)
        self.root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        self.task = None

    def begin(self, name, n_epochs, current=None):
        """Open a task of ``n_epochs`` (None: not known); returns what `train` calls after each
        epoch, and ``evaluate`` of a search problem after each candidate.

        ``current`` makes the fitted attributes of the moment, for callbacks that score.
        """
        estimator = self.estimator
        self.task = self.root.subcontext(task_name=name, max_subtasks=n_epochs)
        self.task.call_on_fit_task_begin(estimator=estimator, X=self.X, y=self.y)

        def on_epoch(epoch, record):
            unit = "epoch" if "epoch" in record else "candidate"
            if estimator.verbose:
                figures = "  ".join(
                    f"{k} {v:.5g}"
                    for k, v in record.items()
                    if k != unit and isinstance(v, int | float)
                )
                of = "" if n_epochs is None else f"/{n_epochs}"
                print(f"{name} {unit} {record[unit]}{of}  {figures}")
            context = self.task.subcontext(task_name=unit)
            context.call_on_fit_task_begin(estimator=estimator, X=self.X, y=self.y)
            return context.call_on_fit_task_end(
                estimator=estimator, X=self.X, y=self.y, reconstruction_attributes=current
            )

        return on_epoch

    def end(self):
        self.task.call_on_fit_task_end(estimator=self.estimator, X=self.X, y=self.y)

    def close(self):
        self.root.call_on_fit_task_end(estimator=self.estimator, X=self.X, y=self.y)


def compact(module):
    """Replace every part that has a smaller form for serving; returns the module."""
    for name, child in list(module.named_children()):
        setattr(module, name, child.compact() if hasattr(child, "compact") else compact(child))
    return module


def serving_net(module, loss):
    """A skorch net that holds the module in its serving form and nothing of its training."""
    device = next(module.parameters()).device
    return FieldNet(compact(module).to(device), loss).initialize().discard_training_state()


def sizes(module):
    """Bytes of a module by purpose: dict of "embedding", "projection", "index", "network" and
    "total".

    "embedding" are vectors of values and of numbers, "projection" what brings them to a common
    width, "index" what says where stored numbers belong, "network" everything behind the
    embeddings."""
    if isinstance(module, Members):
        each = [sizes(network) for network in module.networks]
        return {kind: sum(nbytes[kind] for nbytes in each) for kind in each[0]}
    nbytes = dict.fromkeys(("embedding", "projection", "index", "network"), 0)
    parameters = dict(module.named_parameters())
    for name, t in module.state_dict().items():
        kind = "network"
        if name.startswith("numeric."):
            kind = "embedding" if name in parameters else "network"
        elif name.startswith("embedding."):
            kind = (
                "index"
                if name not in parameters
                else "projection"
                if "projection" in name
                else "embedding"
            )
        nbytes[kind] += t.numel() * t.element_size()
    selection = getattr(module, "selection", None)
    if selection is not None:  # made from the architecture, hence in no state_dict
        nbytes["index"] += sum(b.numel() * b.element_size() for b in selection.buffers())
    return {**nbytes, "total": sum(nbytes.values())}


def device_of(net):
    """Where the parameters of a net lie."""
    return next(net.module_.parameters()).device


def mean_one(weight):
    return None if weight is None else (weight / weight.mean()).astype(np.float32)


def resolve_device(device):
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a device: give 'auto', 'cpu', 'cuda' or 'cuda:1'."
        ) from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r}, but torch sees no CUDA device here; give 'auto' or 'cpu'."
        )
    return resolved
