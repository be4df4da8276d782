"""The rows that one of several processes has of a batch."""

import numpy as np
import torch

from ._batches import EncodedTensors

__all__ = ["SharedRows"]


class SharedRows(EncodedTensors):
    """The share of a process in a batch: of each member consecutive rows, as many as others have or
    one less.

    Parameters
    ----------
    whole : EncodedTensors
        The batch; M * B rows of M members.
    rank, size : int
        Number of the process, and of all.
    members : int, default=1

    Attributes
    ----------
    n_rows : int
        Rows that each member has in the whole batch.
    first : int
        Number of the first of them that this process has.
    n_own : int
        How many it has.
    n_passed : int
        How many it holds: at least one. The row of a process that has none stands in for them, so
        that all do the same, and counts 0.
    """

    def __init__(self, whole, rank, size, members=1):
        n = len(whole) // members
        bounds = np.linspace(0, n, size + 1).astype(int)
        start, stop = int(bounds[rank]), int(bounds[rank + 1])
        self.whole, self.members = whole, members
        self.n_rows, self.n_own = n, stop - start
        if not self.n_own:
            start, stop = 0, 1
        self.first, self.n_passed = start, stop - start
        own = slice(start, stop)
        if members > 1:
            numbers = torch.arange(len(whole), device=whole.ids.device).view(members, n)
            own = numbers[:, own].flatten()
        super().__init__(**whole.select(own).__dict__)

    @property
    def factor(self):
        """What the mean over the rows of this process counts in that over all."""
        return self.n_own / self.n_rows
