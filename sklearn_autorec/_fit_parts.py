"""Small parts of a fit: seeds, progress, weights carried over, devices."""

import dataclasses

import numpy as np
import torch
from sklearn.utils import check_random_state

from .search import FieldNet


class Seeds:
    """Independent seeds of the parts of one fit, all from ``random_state``."""

    def __init__(self, random_state):
        self.initial, self.order, self.split = (
            int(s) for s in check_random_state(random_state).randint(np.iinfo(np.int32).max, size=3)
        )

    def fresh(self, context):
        """The context with its generator at the start: every network of a fit starts alike."""
        return dataclasses.replace(context, generator=torch.Generator().manual_seed(self.initial))


class EpochReporter:
    """Carries epochs to scikit-learn's callbacks and, if verbose, to the screen."""

    def __init__(self, estimator, X, y, n_tasks):
        self.estimator, self.X, self.y = estimator, X, y
        self.root = estimator._init_callback_context(max_subtasks=n_tasks)
        self.root.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
        self.task = None

    def begin(self, name, n_epochs, current=None):
        """Open a task of ``n_epochs``; returns what `train` calls after each epoch.

        ``current`` makes the fitted attributes of the moment, for callbacks that score.
        """
        estimator = self.estimator
        self.task = self.root.subcontext(task_name=name, max_subtasks=n_epochs)
        self.task.call_on_fit_task_begin(estimator=estimator, X=self.X, y=self.y)

        def on_epoch(epoch, record):
            if estimator.verbose:
                figures = "  ".join(
                    f"{k} {v:.5g}" for k, v in record.items() if k != "epoch" and isinstance(v, int | float)
                )
                print(f"{name} epoch {record['epoch']}/{n_epochs}  {figures}")
            context = self.task.subcontext(task_name="epoch")
            context.call_on_fit_task_begin(estimator=estimator, X=self.X, y=self.y)
            return context.call_on_fit_task_end(
                estimator=estimator, X=self.X, y=self.y, reconstruction_attributes=current
            )

        return on_epoch

    def end(self):
        self.task.call_on_fit_task_end(estimator=self.estimator, X=self.X, y=self.y)

    def close(self):
        self.root.call_on_fit_task_end(estimator=self.estimator, X=self.X, y=self.y)


def serving_net(module, loss):
    """A skorch net that holds the module and nothing of its training."""
    return FieldNet(module, loss).initialize().discard_training_state()


def transfer(module, problem, retrain):
    """Start the found network from weights of the search, where name and shape agree."""
    state = {"scratch": {}, "rewind": problem.initial_state, "keep": problem.final_state}[retrain]
    own = module.state_dict()
    matching = {name: t for name, t in state.items() if name in own and own[name].shape == t.shape}
    module.load_state_dict(matching, strict=False)


def mean_one(weight):
    return None if weight is None else (weight / weight.mean()).astype(np.float32)


def resolve_device(device):
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not a device: give 'auto', 'cpu', 'cuda' or 'cuda:1'.") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but torch sees no CUDA device here; give 'auto' or 'cpu'.")
    return resolved
