"""Statistics of pairs of columns of a table whose rows come in blocks: counted over all rows."""

import numpy as np

from ...utils._sklearn import check_y
from .._combinations import Combinations
from .._reading import checked_encoder, column_edges, column_ids, column_sizes
from ._pair_features import Statistic

__all__ = ["BlockStatistics"]


class BlockStatistics:
    """The selected features of an `AEFE`, fitted to all rows of a data set.

    Parameters
    ----------
    features : list of Feature
    aefe : AEFE
    blocks : TableBlocks
    positions : list of int
        Of the columns that are read.
    labels : ndarray or None
        The classes of the rows on which the features were found; None of numbers.

    Attributes
    ----------
    encoder : FieldEncoder
    edges : dict
        Of the bins of numeric columns, by position.
    statistics : list of Statistic

    Raises
    ------
    ValueError
        For wrong targets, and classes that those rows do not have, with the block.
    """

    def __init__(self, features, aefe, blocks, positions, labels):
        self.aefe, self.blocks, self.positions, self.labels = aefe, blocks, positions, labels
        self.encoder = checked_encoder(aefe.encoder)
        blocks.count(self.encoder, positions)
        self.edges = column_edges(self.encoder, positions, aefe._bins)
        self.encoder.discard_counts()
        sizes = column_sizes(self.encoder, positions, self.edges)
        self.statistics = [Statistic(feature, aefe) for feature in features]
        made = Combinations.of_blocks(
            ([s.columns_of(ids) for s in self.statistics] for ids, _ in self._parts()),
            [s.columns_of(sizes) for s in self.statistics],
            [s.least for s in self.statistics],
            aefe.max_ids,
        )
        for statistic, combinations in zip(self.statistics, made, strict=True):
            statistic.combinations = combinations
        totals = [s.totals(sizes) for s in self.statistics]
        for ids, targets in self._parts():
            for statistic, own in zip(self.statistics, totals, strict=True):
                own.add(statistic.combinations.ids(statistic.columns_of(ids)), ids, targets)
        for statistic, own in zip(self.statistics, totals, strict=True):
            statistic.finish(own)

    def _parts(self):
        """Ids of all columns by position, and targets (n_rows, C), slice by slice."""
        names = [self.blocks.columns[i] for i in self.positions]
        for name, X, y, _ in self.blocks:
            try:
                targets = self._targets(y)
            except ValueError as error:
                raise ValueError(f"{name}: the target {self.blocks.target!r}: {error}") from error
            table = self.encoder.encode(X.select(names))
            yield column_ids(table, self.encoder, self.positions, self.edges), targets

    def _targets(self, y):
        if self.labels is None:
            return check_y(y, self.aefe, y_numeric=True).astype(np.float64)[:, None]
        new = np.setdiff1d(check_y(y, self.aefe), self.labels)
        if len(new):
            raise ValueError(
                f"{new.tolist()[0]!r} is a class that none of the rows has which were drawn to "
                f"find features; raise sample_rows of the data set."
            )
        if len(self.labels) == 2:
            return (y == self.labels[1]).astype(np.float64)[:, None]
        return (y[:, None] == self.labels).astype(np.float64)
