"""Statistics of one or two columns: counts, distinct partners, shares and cross-fitted target
means.
"""

from dataclasses import dataclass

import numpy as np

from ...preprocessing._vocabulary import MISSING, UNKNOWN
from .._combinations import Combinations

MOST_SMOOTHING = 1e6  # rows; groups that differ less have all the same mean


@dataclass(frozen=True)
class Feature:
    """What to compute.

    Parameters
    ----------
    kind : {"count", "nunique", "share", "mean"}
    columns : tuple of int
        Positions: (a, b) stands for b given a in "nunique" and "share"; one or two for "mean".
    """

    kind: str
    columns: tuple

    def names(self, labels, classes=None):
        """Names of its columns: one, or one for each class (of a target mean of more than two
        classes).
        """
        a, b = (labels[self.columns[0]], labels[self.columns[-1]])
        if self.kind in ("nunique", "share"):
            return [f"{self.kind}({b} | {a})"]
        of = ", ".join(labels[i] for i in self.columns)
        if self.kind == "count":
            return [f"count({of})"]
        return [f"mean(y | {of})"] if classes is None else [f"mean(y={c} | {of})" for c in classes]


def features_of(pair, paradigms):
    """Features of a pair of columns."""
    a, b = sorted(pair)
    found = []
    if "count" in paradigms:
        found.append(Feature("count", (a, b)))
    if "nunique" in paradigms:
        found += [Feature("nunique", (a, b)), Feature("nunique", (b, a))]
    if "ratio" in paradigms:
        found += [Feature("share", (a, b)), Feature("share", (b, a))]
    if "target" in paradigms or "concat" in paradigms:
        found.append(Feature("mean", (a, b)))
    return found


def random_folds(y, n_folds, rng, stratify):
    """Fold of each row, int (n_rows,): equally many rows, of each class as well if ``stratify``."""
    order = rng.permutation(len(y))
    if stratify:
        order = order[np.argsort(y[order], kind="stable")]
    folds = np.empty(len(y), np.int64)
    folds[order] = np.arange(len(y)) % n_folds
    return folds


def group_means(counts, sums, squares, smoothing="auto"):
    r"""Means of groups, shrunk towards that of all rows.

    Parameters
    ----------
    counts : ndarray of shape (n_groups,)
        Rows.
    sums, squares : ndarray of shape (n_groups, C)
        Of the targets.
    smoothing : float or "auto"
        Rows m that the mean of all rows counts for. "auto": variance within groups over variance of
        the true means between groups, by moments; the means of groups that differ no more than by
        chance are all the same.

    Returns
    -------
    ndarray of shape (n_groups, C)
        (sum + m mean) / (count + m); the mean of all rows for a group without any. One m for all C,
        so that shares of classes sum to one.
    """
    n, k = counts.sum(), int((counts > 0).sum())
    if n == 0:
        return np.zeros_like(sums, dtype=np.float64)
    mean = sums.sum(0) / n
    m = smoothing
    if smoothing == "auto":
        own = sums / np.maximum(counts, 1)[:, None]
        within = max(float(squares.sum() - (counts[:, None] * own**2).sum()), 0) / max(n - k, 1)
        spread = float((counts[:, None] * (own - mean) ** 2).sum()) - (k - 1) * within
        between = max(spread / max(n - (counts**2).sum() / n, 1e-12), 0)
        # Without two rows in any group there is nothing to tell noise by.
        m = within / between if between * MOST_SMOOTHING > within and n > k else np.inf
    if m == np.inf:
        return np.repeat(mean[None], len(counts), 0)
    size = counts[:, None] + m
    return np.where(size > 0, (sums + m * mean) / np.where(size > 0, size, 1), mean)


class GroupTotals:
    """What the values of a feature's groups are made of, summed over rows that may come in blocks.

    Parameters
    ----------
    feature : Feature
    n_groups : int
    sizes : dict of int to int
        Number of ids of each column.
    """

    def __init__(self, feature, n_groups, sizes):
        self.feature, self.n_groups, self.sizes = feature, n_groups, sizes
        self.counts = self.sums = self.squares = 0.0
        self.of_a, self.a_of = 0, np.full(n_groups, -1)  # rows by id of a; the id of a by group
        self.pairs = np.zeros(0, np.int64)  # of a group and an id of b

    def add(self, groups, ids, targets):
        """Count rows: their groups, the ids of all columns by position, targets (n_rows, C)."""
        kind, a, b = self.feature.kind, self.feature.columns[0], self.feature.columns[-1]
        if kind == "nunique":
            present = ids[b] != MISSING
            own = groups[present].astype(np.int64) * self.sizes[b] + ids[b][present]
            self.pairs = np.union1d(self.pairs, own)
            return
        if kind == "mean":
            counts, sums, squares = sums_of(groups, targets, self.n_groups)
            self.sums, self.squares = self.sums + sums, self.squares + squares
        else:
            counts = np.bincount(groups, minlength=self.n_groups).astype(np.float64)
        self.counts = self.counts + counts
        if kind == "share":
            self.of_a = self.of_a + np.bincount(ids[a], minlength=self.sizes[a])
            self.a_of[groups] = ids[a]

    def values(self, smoothing, hashed):
        """Values of the groups, float64 (n_groups, n_columns)."""
        kind, b = self.feature.kind, self.feature.columns[-1]
        if kind == "mean":
            return group_means(self.counts, self.sums, self.squares, smoothing)
        if kind == "nunique":
            groups = self.pairs // self.sizes[b]
            values = np.bincount(groups, minlength=self.n_groups).astype(np.float64)
        elif kind == "share":
            seen = self.a_of >= 0
            values = self.counts / np.where(seen, self.of_a[self.a_of], 1)
        else:
            values = np.log1p(self.counts)
        if not hashed:
            values[UNKNOWN] = 0  # rare combinations are what new ones will be
        return values[:, None]


def sums_of(groups, targets, n_groups):
    """Rows of each group, and sums of their targets (n_rows, C) and of the squares."""
    counts = np.bincount(groups, minlength=n_groups).astype(np.float64)
    sums = np.stack([np.bincount(groups, t, n_groups) for t in targets.T], 1)
    squares = np.stack([np.bincount(groups, t * t, n_groups) for t in targets.T], 1)
    return counts, sums, squares


class Statistic:
    """A feature, fitted on some rows.

    Parameters
    ----------
    feature : Feature
    options : object with ``min_count``, ``max_ids`` and ``smoothing``

    Attributes
    ----------
    combinations : Combinations
        Vocabulary of the columns' combinations.
    values : ndarray of shape (n_ids, n_columns)
        What each combination becomes.
    """

    def __init__(self, feature, options):
        self.feature = feature
        self.min_count, self.max_ids = options.min_count, options.max_ids
        self.smoothing = options.smoothing

    def fit(self, ids, sizes, targets):
        """Learn values from the ids of all columns (dict of position to array), their sizes, and
        targets (n_rows, C).
        """
        self._fit(ids, sizes, targets)
        return self

    def transform(self, ids):
        """New rows, float64 (n_rows, n_columns)."""
        return self.values[self.combinations.ids(self.columns_of(ids))]

    def fit_transform(self, ids, sizes, targets, folds):
        """Training rows; target means of a row come from other folds than its own."""
        groups = self._fit(ids, sizes, targets)
        if self.feature.kind != "mean":
            return self.values[groups]
        out = np.empty((len(groups), targets.shape[1]))
        n_folds = int(folds.max()) + 1
        counts, sums, squares = sums_of(
            groups * n_folds + folds, targets, len(self.values) * n_folds
        )
        counts = counts.reshape(-1, n_folds)
        sums, squares = (a.reshape(-1, n_folds, targets.shape[1]) for a in (sums, squares))
        all_counts, all_sums, all_squares = counts.sum(1), sums.sum(1), squares.sum(1)
        for fold in range(n_folds):
            rows = np.flatnonzero(folds == fold)
            if not len(rows):
                continue
            means = group_means(
                all_counts - counts[:, fold],
                all_sums - sums[:, fold],
                all_squares - squares[:, fold],
                self.smoothing,
            )
            out[rows] = means[groups[rows]]
        return out

    def columns_of(self, by_position):
        """Of something by position of columns, what belongs to those of the combinations."""
        columns = self.feature.columns
        return [
            by_position[i] for i in (columns[:1] if self.feature.kind == "nunique" else columns)
        ]

    @property
    def least(self):
        """Rows of a combination at least."""
        return 1 if self.feature.kind == "nunique" else self.min_count

    def totals(self, sizes):
        """Where the rows of its combinations are counted."""
        return GroupTotals(self.feature, self.combinations.n_ids, sizes)

    def finish(self, totals):
        """Set ``values`` by what was counted."""
        self.values = totals.values(self.smoothing, bool(self.combinations.n_buckets))

    def _fit(self, ids, sizes, targets):
        """Set ``combinations`` and ``values``; the training rows' ids."""
        columns = self.columns_of(ids)
        sizes_of = self.columns_of(sizes)
        self.combinations = Combinations(columns, sizes_of, self.least, self.max_ids)
        groups, totals = self.combinations.ids(columns), self.totals(sizes)
        totals.add(groups, ids, targets)
        self.finish(totals)
        return groups
