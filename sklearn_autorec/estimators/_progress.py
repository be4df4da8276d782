"""What accompanies a fit: the seeds of its parts, and the reports of its epochs."""

import dataclasses

import numpy as np
import torch
from sklearn.utils import check_random_state

from ..utils._progress import FitProgress

__all__ = ["EpochReporter", "Seeds"]


class Seeds:
    """Independent seeds of the parts of one fit, all from ``random_state``; of several processes
    those of the first.
    """

    def __init__(self, random_state, processes=None):
        seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=5)
        if processes is not None:
            seeds = processes.of_first(torch.from_numpy(seeds.astype(np.int64))).numpy()
        self.initial, self.order, self.split, self.search, self.companions = map(int, seeds)

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
    """Carries epochs to scikit-learn's callbacks and, if verbose, to the screen: of several
    processes the first one prints.
    """

    def __init__(self, estimator, X, y, prints=True):
        self.tasks = FitProgress(estimator, X, y)
        self.verbose = estimator.verbose if prints else 0

    def within(self, n_tasks):
        """A fit of so many searches and trainings, as a context."""
        return self.tasks.within(n_tasks)

    def begin(self, name, n_epochs, current=None):
        """Open a task of ``n_epochs`` (None: not known); returns what `train` calls after each
        epoch, and ``evaluate`` of a search problem after each candidate.

        ``current`` makes the fitted attributes of the moment, for callbacks that score.
        """
        self.tasks.begin(name, n_epochs)

        def on_epoch(epoch, record):
            unit = "epoch" if "epoch" in record else "candidate"
            if self.verbose:
                figures = "  ".join(
                    f"{k} {v:.5g}"
                    for k, v in record.items()
                    if k != unit and isinstance(v, int | float)
                )
                of = "" if n_epochs is None else f"/{n_epochs}"
                print(f"{name} {unit} {record[unit]}{of}  {figures}")
            return self.tasks.step(unit, current)

        return on_epoch

    def end(self):
        """Close the task that was begun last."""
        self.tasks.end()
