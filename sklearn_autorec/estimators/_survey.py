"""The first pass over a data set: vocabularies, labels or their scale, and a sample in memory."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from ..engine._group_parts import group_threshold
from ..utils._row_draws import uniform_by_label, uniform_by_row
from ._initial_embeddings import add_frozen_values, check_embeddings
from ._rows import Rows
from ._target_sums import ClassSums, RatingSums
from ._targets import target_of
from ._vocabularies import encoder_to_keep, wanted_encoder

__all__ = ["Reading", "Survey", "located", "survey"]


@dataclass(frozen=True, eq=False)
class Reading:
    """How rows of a data set are read: which columns are what.

    Parameters
    ----------
    dataset : ParquetDataset
    columns : list of str
        Of the table.
    target : str
    weight : str or None
        Names of the columns of the target and of the weights.
    estimator : CTRClassifier or RatingRegressor
    group : str or None, default=None
        Name of the column of groups, which may be among ``columns``.
    """

    dataset: Any
    columns: list
    target: str
    weight: str | None
    estimator: Any
    group: str | None = None

    @property
    def class_weight(self):
        return getattr(self.estimator, "class_weight", None)

    def parts(self, number):
        """Table, targets and weights (or None) of all rows of a block, slice after slice.

        Yields
        ------
        part : pyarrow.Table
            With all columns.
        y : ndarray of shape (n_rows,)
        weight : float64 ndarray of shape (n_rows,) or None

        Raises
        ------
        ValueError
            For targets and weights that are missing or wrong, with the file and the row group.
        """
        others = (self.target, self.weight, self.group)
        names = list(dict.fromkeys([*self.columns, *(n for n in others if n is not None)]))
        for part in self.dataset.slices(number, names):
            try:
                y, weight = self._targets(part), self._weights(part)
                self.labels(part)
            except (ValueError, TypeError) as error:
                name = self.dataset.blocks[number].name
                raise located(error, name) from error
            yield part, y, weight

    def slices(self, number, see=None):
        """The rows of a block that count, slice after slice, with their numbers. ``see`` is told
        all targets, those of classes of weight zero too.

        Yields
        ------
        rows : int64 ndarray of shape (n_rows,)
            Which are counted from the first row of the data set.
        X : pyarrow.Table
        y, weight
            As of ``parts``.
        groups : int64 ndarray of shape (n_rows,) or None
            Hashes of the labels of the groups, at least 0.
        """
        first = self.dataset.blocks[number].first
        for part, y, weight in self.parts(number):
            rows = np.arange(first, first + len(part))
            first += len(part)
            counts = np.ones(len(y), bool) if weight is None else weight > 0
            if see is not None:
                see(y[counts])
            if isinstance(self.class_weight, dict):
                nothing = [label for label, w in self.class_weight.items() if w == 0]
                counts &= ~np.isin(y, nothing)
            if not counts.all():
                part, rows, y = part.filter(counts), rows[counts], y[counts]
                weight = None if weight is None else weight[counts]
            if len(part):
                labels = self.labels(part)
                groups = None if labels is None else _hashes(labels)
                yield rows, part.select(self.columns), y, weight, groups

    def groups(self, number, kept=None):
        """The groups of the rows of a block that count, as of ``slices``, int64 (n_rows,).

        Other columns than those that say so are not read. ``kept`` says of numbers and groups of
        rows which are wanted.
        """
        found = [np.zeros(0, np.int64)]
        for rows, _, _, _, groups in replace(self, columns=[]).slices(number):
            found.append(groups if kept is None else groups[kept(rows, groups)])
        return np.concatenate(found)

    def labels(self, part):
        """The labels of the groups of rows, an array; None if there are none."""
        if self.group is None:
            return None
        values = _values(part.column(self.group))
        missing = pd.isna(values)
        if missing.any():
            raise ValueError(
                f"groups={self.group!r} must have a label for each row, {int(missing.sum())} of "
                f"{len(values)} are missing; rows without a group can have labels of their own."
            )
        return values

    def _targets(self, part):
        column = part.column(self.target)
        if column.null_count:
            raise ValueError(
                f"the target {self.target!r} is missing in {column.null_count} of {len(column)} "
                f"rows."
            )
        try:
            return self.estimator._target_kind.check(_values(column), self.estimator)
        except ValueError as error:
            raise ValueError(f"the target {self.target!r}: {error}") from error

    def _weights(self, part):
        if self.weight is None:
            return None
        column = part.column(self.weight)
        weight = np.asarray(_values(column), np.float64)
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise ValueError(
                f"the sample_weight {self.weight!r} must hold finite numbers of at least 0, got "
                f"{weight[~(weight >= 0) | ~np.isfinite(weight)][0]}."
            )
        return weight


def _hashes(labels):
    """A hash of each label, int64 (n_rows,), at least 0; the same in every process."""
    hashes = pd.util.hash_array(labels, categorize=False)
    return (hashes >> np.uint64(1)).astype(np.int64)


def located(error, name):
    """An error that says in which block it was, of the plain type: others want more than a text."""
    return (TypeError if isinstance(error, TypeError) else ValueError)(f"{name}: {error}")


def _values(column):
    """A pyarrow column as a pandas Series or an array of plain values."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pd.Series(column.to_pandas()).to_numpy()


@dataclass(frozen=True, eq=False)
class Survey:
    """What the first pass has found.

    Parameters
    ----------
    rows : Rows
        The sample, in the order of the data set.
    judge : bool ndarray of shape (n_sampled,)
        Which rows of the sample are held out: all that are.
    sizes : int64 ndarray of shape (n_blocks,)
        Training rows of each block.
    holds_out : callable (int64 ndarray, int64 ndarray or None) -> bool ndarray
        Which rows of these numbers and groups are held out.
    mean_weight : float
        Of the training rows.
    """

    rows: Rows
    judge: np.ndarray
    sizes: np.ndarray
    holds_out: Any
    mean_weight: float


def survey(reading, fitted, share, by_position, seed):
    """Read all rows once, and before that the groups of all rows, if whole groups are held out.

    Parameters
    ----------
    reading : Reading
    fitted : estimator or None
        Which goes on, with its encoder and its labels or scale.
    share : float in [0, 1)
        Share of rows to hold out.
    by_position : bool
        Hold out the last rows, not some drawn at random.
    seed : int
        Of the rows that are drawn.

    Returns
    -------
    Survey

    Raises
    ------
    ValueError
        For wrong targets and weights, and if no row counts.
    """
    dataset, n_rows = reading.dataset, reading.dataset.n_rows
    most = min(dataset.sample_rows / n_rows, 1.0)
    share = min(share, most)
    last = n_rows - max(int(share * n_rows), 1)

    def drawn(rows, below):
        first = int(rows[0])
        return uniform_by_row(first, int(rows[-1]) - first + 1, seed)[rows - first] < below

    threshold, by_group = None, share and reading.group is not None and not by_position
    if by_group:
        blocks = map(reading.groups, range(len(dataset.blocks)))
        threshold = group_threshold(blocks, share, seed)

    def holds_out(rows, groups):
        if not share or (by_group and threshold is None):
            return np.zeros(len(rows), bool)
        if by_group:
            return uniform_by_label(groups, seed) < threshold
        return rows >= last if by_position else drawn(rows, share)

    # Of the number by which rows are held out those that follow are the sample, unless another one
    # holds out.
    sampled = most if by_position or by_group else share + most

    kind = reading.estimator._target_kind
    labels = ClassSums() if kind.is_class else RatingSums()
    learned, sample = _Encoder(reading.estimator, fitted), _Sample()
    sizes = np.zeros(len(dataset.blocks), np.int64)
    for i, block in enumerate(dataset.blocks):
        for rows, X, y, weight, groups in reading.slices(i, labels.see):
            judge = holds_out(rows, groups)
            try:
                learned.count(X, y, weight)
            except (ValueError, TypeError) as error:
                raise located(error, block.name) from error
            labels.count(y, weight, judge)
            sizes[i] += len(rows) - int(judge.sum())
            sample.add(judge | drawn(rows, sampled), X, y, weight, judge, groups)
    if not sizes.sum():
        raise ValueError(f"No row of {dataset!r} has a positive weight and is not held out.")
    target = labels.target() if fitted is None else target_of(fitted)
    target = target.sampled(reading.estimator, fitted).with_loss(reading.estimator.loss)
    by_class, totals, of_trained = labels.totals(target, reading.class_weight)
    encoder = learned.finish(target)
    X, y, weight, judge, groups = sample.tables()
    encoded = target.encode(y)
    if by_class is not None:
        of_rows = by_class[target.codes(y)]
        weight = of_rows if weight is None else of_rows * weight
    rows = Rows(
        encoder, target, by_class, encoder.encode(X), encoded, weight, groups, totals=totals
    )
    return Survey(rows, judge, sizes, holds_out, of_trained[1].sum() / of_trained[0].sum())


class _Encoder:
    """A copy of the encoder that counts values, unless it is fitted already."""

    def __init__(self, estimator, fitted):
        if fitted is None:
            check_embeddings(estimator)
        given = wanted_encoder(estimator) if fitted is None else fitted.encoder_
        self.known = fitted is not None or isinstance(given, FrozenEstimator)
        self.encoder, self.estimator = given if self.known else clone(given), estimator
        self.by_target = getattr(given, "numeric_bins", None) == "target"

    def count(self, X, y, weight):
        if self.known:
            return
        known = {} if weight is None else {"sample_weight": weight}
        if self.by_target:
            if y.dtype.kind not in "bif":
                raise ValueError(
                    "encoder with numeric_bins='target' needs labels that are numbers where rows "
                    f"come in blocks, got {y.dtype}."
                )
            known["y"] = y.astype(np.float64)
        self.encoder.partial_fit(X, **known)

    def finish(self, target):
        if self.known:
            return self.encoder
        if self.by_target and target.n_outputs > 1:
            raise ValueError(
                "encoder with numeric_bins='target' needs two classes or ratings where rows come "
                f"in blocks, got {target.n_outputs} classes."
            )
        add_frozen_values(self.estimator, self.encoder)
        return encoder_to_keep(self.estimator, self.encoder)


class _Sample:
    """Rows that are drawn, as they came."""

    def __init__(self):
        self.parts = []

    def add(self, drawn, X, *arrays):
        if drawn.any():
            own = (None if array is None else array[drawn] for array in arrays)
            self.parts.append((X.filter(drawn), *own))

    def tables(self):
        """The table and the arrays (or None) of all rows."""
        import pyarrow as pa

        if not self.parts:
            raise ValueError("sample_rows is so small that no row was drawn; raise it.")
        tables, *arrays = zip(*self.parts, strict=True)
        whole = (None if own[0] is None else np.concatenate(own) for own in arrays)
        return pa.concat_tables(tables), *whole
