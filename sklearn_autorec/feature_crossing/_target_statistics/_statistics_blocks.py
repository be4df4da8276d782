"""Target statistics of a table whose rows come in blocks: sums over all rows, crosses chosen on a
sample.
"""

import numpy as np
from sklearn.utils.multiclass import type_of_target

from ...utils._sklearn import check_y
from .._reading import column_ids
from ._statistics_reading import read_target

__all__ = ["BlockTargets", "add_blocks"]


class BlockTargets:
    """Targets of all rows, read once: what they are, their classes, or their mean and scale.

    Parameters
    ----------
    blocks : TableBlocks
    estimator : TargetStatistics

    Raises
    ------
    ValueError
        For wrong targets, with the block.
    """

    def __init__(self, blocks, estimator):
        self.estimator = estimator
        values, self.continuous = None, estimator.target_type == "continuous"
        total, first, lowest, highest, self.offset = 0.0, 0.0, np.inf, -np.inf, None
        for name, _, y, weight in blocks:
            try:
                y = check_y(y, estimator, y_numeric=self.continuous)
            except ValueError as error:
                raise ValueError(f"{name}: the target {blocks.target!r}: {error}") from error
            weight = np.ones(len(y)) if weight is None else weight
            y, weight = y[weight > 0], weight[weight > 0]
            if not len(y):
                continue
            if not self.continuous:
                own = np.unique(y)
                values = own if values is None else np.union1d(values, own)
                self.continuous = (
                    estimator.target_type == "auto" and type_of_target(values) == "continuous"
                )
            if y.dtype.kind in "bif":
                y = y.astype(np.float64)
                # Around the first rating, so that sums of large ratings keep their digits.
                self.offset = y[0] if self.offset is None else self.offset
                total, first = total + weight.sum(), first + (weight * (y - self.offset)).sum()
                lowest, highest = min(lowest, y.min()), max(highest, y.max())
        if values is None and self.offset is None:
            raise ValueError(f"No row of {blocks.dataset!r} has a positive weight.")
        if self.continuous:
            self.kind, self.classes = "continuous", None
            self.centre = float(self.offset + first / total)
            self.scale = float(max(highest - self.centre, self.centre - lowest)) or 1.0
        else:  # what is refused of all rows is refused of their values
            _, self.kind, self.classes = read_target(values, estimator)
            self.centre, self.scale = 0.0, 1.0

    def read(self, y):
        """Targets of some rows as float64 (n_rows,) or (n_rows, n_classes)."""
        if self.classes is None:
            numbers = check_y(y, self.estimator, y_numeric=True).astype(np.float64)
            return (numbers - self.centre) / self.scale
        if self.kind == "binary":
            return (y == self.classes[1]).astype(np.float64)
        return (y[:, None] == self.classes).astype(np.float64)


def add_blocks(statistics, blocks, targets, encoder, positions, edges, used, sizes):
    """Fit statistics to all rows, block by block.

    Parameters
    ----------
    statistics : Statistics
        Not fitted.
    blocks : TableBlocks
    targets : BlockTargets
    encoder, positions, edges
        As of `column_ids`.
    used : list of int
        Positions of the columns of the keys.
    sizes : list of int
        Number of codes of each.
    """

    def parts():
        for table, y, weight in blocks.encoded(encoder, positions):
            ids = column_ids(table, encoder, positions, edges)
            yield [ids[i] for i in used], targets.read(y), weight

    statistics.fit_blocks(parts, sizes)
