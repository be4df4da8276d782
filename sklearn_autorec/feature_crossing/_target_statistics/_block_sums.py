"""Sums of combinations over blocks of rows."""

import numpy as np

__all__ = ["BlockSums"]

LEAST_WAITING = 2**18  # combinations that wait to be put together, at least


class BlockSums:
    """Weights and weighted targets of each combination. Blocks wait until there are as many
    combinations as are put together already, so that each is sorted a few times only.
    """

    def __init__(self):
        self.known, self.waiting, self.n_waiting = None, [], 0

    def add(self, distinct, counts, sums):
        """Add combinations (n,), weights (n,) and weighted targets (n, n_targets) of a block."""
        seen = counts > 0
        self.waiting.append((distinct[seen], counts[seen], sums[seen]))
        self.n_waiting += int(seen.sum())
        if self.n_waiting > max(LEAST_WAITING, 0 if self.known is None else len(self.known[0])):
            self._join()

    def _join(self):
        parts = ([] if self.known is None else [self.known]) + self.waiting
        distinct, counts, sums = (np.concatenate(each) for each in zip(*parts, strict=True))
        distinct, places = np.unique(distinct, return_inverse=True)
        # In the order of the blocks, so that sums of whole numbers are exact.
        columns = [np.bincount(places, column, len(distinct)) for column in (counts, *sums.T)]
        self.known = distinct, columns[0], np.stack(columns[1:], axis=1)
        self.waiting, self.n_waiting = [], 0

    def sums(self):
        """Combinations, rising, with their weights and weighted targets over all blocks."""
        if self.waiting:
            self._join()
        return self.known
