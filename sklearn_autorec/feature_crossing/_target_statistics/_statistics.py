"""Target statistics of codes: smoothed means and counts of combinations, for training rows out of
sample.
"""

import math
import threading

import numpy as np
import pandas as pd

from ...preprocessing._vocabulary import UNKNOWN
from .._combinations import combine
from ._block_sums import BlockSums
from ._look_up import DENSE_LEAST, FEW_ROWS, _LookUp

# Attributes from which fitted statistics can be made again.
STATE = (
    "keys",
    "smoothing",
    "method",
    "n_folds",
    "sizes",
    "prior",
    "combinations",
    "means",
    "counts",
)
METHODS = ("ordered", "folds")

_building = threading.Lock()


def spread_folds(y, n_folds, rng):
    """Fold of each row, int64 (n_rows,), at random, but such that each spreads evenly over the
    values of ``y``.

    The means of the folds then agree, so that the mean of the other folds says next to nothing
    about a row.

    Parameters
    ----------
    y : ndarray of shape (n_rows,)
    n_folds : int
    rng : RandomState
    """
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    # In each block of neighbours by y every fold occurs once, in random order.
    blocks = rng.random_sample((-(-len(y) // n_folds), n_folds)).argsort(axis=1)
    folds = np.empty(len(y), np.int64)
    folds[order] = blocks.ravel()[: len(y)]
    return folds


def as_columns(codes):
    """Columns of codes: those of a list, or of an int array of shape (n_rows, n_fields)."""
    return list(codes.T) if isinstance(codes, np.ndarray) else list(codes)


class Statistics:
    """Smoothed mean target and count of each combination of codes.

    Parameters
    ----------
    keys : list of tuple of int
        Positions of the columns of each key, one or several, all different.
    smoothing : float, default=20
        Rows that the mean of all rows counts for in each combination.
    method : {"ordered", "folds"}, default="ordered"
        What a training row sees: the earlier rows of an order, or the rows of the other folds.
    n_folds : int, default=5

    Attributes
    ----------
    sizes : list of int
        Codes of each column are below its size; greater ones are treated as unknown.
    prior : float64 ndarray of shape (n_targets,)
        Mean target of all rows.
    combinations : list of int ndarray
        Seen combinations of each key, rising.
    means : list of float32 ndarray of shape (n_seen, n_targets)
    counts : list of float32 ndarray of shape (n_seen,)
        Rows (sums of weights) of each combination.
    """

    def __init__(self, keys, *, smoothing=20.0, method="ordered", n_folds=5):
        self.keys = [tuple(int(i) for i in key) for key in keys]
        self.smoothing, self.method = float(smoothing), method
        self.n_folds = n_folds
        self._fast = None

    @property
    def n_targets(self):
        """Number of targets."""
        return len(self.prior)

    @property
    def n_columns(self):
        """Number of features: means of each key (of every target), then a log count of each key."""
        return len(self.keys) * (self.n_targets + 1)

    def names(self, columns, targets=None):
        """Names of the features, given those of the columns, and of the targets where there are
        several.
        """
        of = [", ".join(columns[i] for i in key) for key in self.keys]
        of_y = ["y"] if targets is None else [f"y={c}" for c in targets]
        return [f"mean({t} | {key})" for key in of for t in of_y] + [
            f"log_count({key})" for key in of
        ]

    # fit
    # ----------------------------------------------------------------------------------------------

    def fit(self, codes, y, sample_weight=None, sizes=None):
        """Learn the table of each key from all rows.

        Parameters
        ----------
        codes : list of int ndarray of shape (n_rows,), or int ndarray of shape (n_rows, n_columns)
            0 missing, 1 unknown or rare, 2.. values.
        y : ndarray of shape (n_rows,) or (n_rows, n_targets)
        sample_weight : ndarray of shape (n_rows,) or None
            Not negative, not all zero.
        sizes : list of int or None
            Number of codes of each column; None: as many as occur.

        Returns
        -------
        self
        """
        columns, targets, weights = self._start(codes, y, sample_weight, sizes)
        for key in self.keys:
            groups, distinct = self._groups(columns, key)
            self._add_table(groups, distinct, targets, weights)
        return self

    def fit_blocks(self, parts, sizes):
        """Learn the table of each key from rows that come in blocks.

        Parameters
        ----------
        parts : callable () -> iterable of (codes, y, sample_weight)
            The rows, as of `fit`, from the first to the last.
        sizes : list of int

        Returns
        -------
        self
        """
        sums, total, of_all = [BlockSums() for _ in self.keys], 0.0, 0.0
        for codes, y, weight in parts():
            columns, targets, weights = self._start(codes, y, weight, sizes)
            total += float(len(targets)) if weights is None else weights.sum()
            of_all += (targets if weights is None else targets * weights[:, None]).sum(0)
            for key, of_key in zip(self.keys, sums, strict=True):
                groups, distinct = self._groups(columns, key)
                of_key.add(distinct, *self._sums(groups, len(distinct), targets, weights))
        self.prior = of_all / total
        for of_key in sums:
            self._store(*of_key.sums())
        return self

    def fit_transform(
        self,
        codes,
        y,
        sample_weight=None,
        sizes=None,
        *,
        rng=None,
        folds=None,
        order=None,
        n_draws=None,
    ):
        """`fit`, and features of the same rows of which none knows the row's own target.

        Parameters
        ----------
        codes, y, sample_weight, sizes
            As of `fit`.
        rng : RandomState
            Draws folds or orders.
        folds : int ndarray of shape (n_rows,) or None
            Folds, where they are given.
        order : ndarray of shape (n_rows,) or None
            With "ordered": a row sees those of smaller order (such as a time), not those of the
            same.
        n_draws : int or None, default=None
            Draws of folds or orders, each a version of the rows to train on. There is no mean of
            them: with the number of draws it goes to what all others say, from which a row's own
            target can be told within its group.

        Returns
        -------
        float32 ndarray of shape (n_rows, n_columns), or (n_draws, n_rows, n_columns)
        """
        columns, targets, weights = self._start(codes, y, sample_weight, sizes)
        n, k, c = len(targets), len(self.keys), self.n_targets
        draws = self._draws(targets, weights, rng, folds, order, n_draws or 1)
        out = np.zeros((len(draws), n, k * (c + 1)), np.float32)
        for j, key in enumerate(self.keys):
            groups, distinct = self._groups(columns, key)
            self._add_table(groups, distinct, targets, weights)
            for features, draw in zip(out, draws, strict=True):
                means, counts = self._of_others(groups, len(distinct), targets, weights, draw)
                features[:, j * c : (j + 1) * c] = means
                features[:, k * c + j] = np.log1p(counts)
        return out[0] if n_draws is None else out

    def _start(self, codes, y, sample_weight, sizes):
        columns = as_columns(codes)
        targets = np.asarray(y, dtype=np.float64)
        targets = targets[:, None] if targets.ndim == 1 else targets
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if sizes is None:
            sizes = [int(column.max(initial=UNKNOWN)) + 1 for column in columns]
        self.sizes = [max(int(size), UNKNOWN + 1) for size in sizes]
        # A weighted sum of exact terms, so that equal weights and none agree to the bit.
        total = float(len(targets)) if weights is None else weights.sum()
        self.prior = (targets if weights is None else targets * weights[:, None]).sum(0) / total
        self.combinations, self.means, self.counts, self._fast = [], [], [], None
        return columns, targets, weights

    def _draws(self, targets, weights, rng, folds, order, n_draws):
        """Folds or orders. Rows without weight do not change those of the others."""
        if folds is not None or order is not None:
            return [folds if folds is not None else order]
        rows = slice(None) if weights is None else weights > 0
        label = targets[rows] @ np.arange(1.0, self.n_targets + 1)
        folded = self.method == "folds"
        drawn = [
            spread_folds(label, self.n_folds, rng)
            if folded
            else rng.permutation(len(label)).astype(np.float64)
            for _ in range(n_draws)
        ]
        if len(label) == len(targets):
            return drawn
        out = []
        for of_weighted in drawn:
            draw = rng.random_sample(len(targets)) * (self.n_folds if folded else len(targets))
            draw = draw.astype(of_weighted.dtype)
            draw[rows] = of_weighted
            out.append(draw)
        return out

    def _groups(self, columns, key):
        """Group of each row, int, and the combination of each group, rising or in order of
        occurrence.
        """
        combined = self._combined(columns, key)
        size = math.prod(self.sizes[i] for i in key)
        if size <= max(2 * len(combined), DENSE_LEAST):
            return combined, np.arange(size)
        return pd.factorize(combined)

    def _combined(self, columns, key):
        parts = []
        for i in key:
            column = columns[i]
            parts.append(np.where(column < self.sizes[i], column, UNKNOWN))
        return combine(parts, [self.sizes[i] for i in key])

    def _sums(self, groups, n_groups, targets, weights):
        """Weights (n_groups,) and weighted targets (n_groups, n_targets) of groups."""
        counts = np.bincount(groups, weights, minlength=n_groups).astype(np.float64)
        sums = [
            np.bincount(groups, t if weights is None else t * weights, minlength=n_groups)
            for t in targets.T
        ]
        return counts, np.stack(sums, axis=1)

    def _smooth(self, counts, sums):
        """Means (..., n_targets) of groups with these weights and sums."""
        size = (counts + self.smoothing)[..., None]
        return np.where(
            size > 0, (sums + self.smoothing * self.prior) / np.where(size > 0, size, 1), self.prior
        )

    def _add_table(self, groups, distinct, targets, weights):
        self._store(distinct, *self._sums(groups, len(distinct), targets, weights))

    def _store(self, distinct, counts, sums):
        """Make the table of a key of the sums over all rows of each combination."""
        seen = np.flatnonzero(counts > 0)
        seen = seen[np.argsort(distinct[seen], kind="stable")]
        combinations = distinct[seen]
        largest = int(combinations[-1]) if len(seen) else 0
        if len(seen) and combinations[0] >= 0:  # hashes keep their 64 bits
            combinations = combinations.astype(np.min_scalar_type(largest))
        self.combinations.append(combinations)
        self.means.append(self._smooth(counts[seen], sums[seen]).astype(np.float32))
        self.counts.append(counts[seen].astype(np.float32))

    def _of_others(self, groups, n_groups, targets, weights, draw):
        """Means (n_rows, n_targets) and counts (n_rows,) from the rows that each may see, on the
        scale of all rows.
        """
        if self.method == "ordered":
            counts, sums = self._earlier(groups, targets, weights, draw)
            return self._smooth(counts, sums), counts
        n_folds = int(draw.max()) + 1
        cells = groups * n_folds + draw
        counts, sums = self._sums(cells, n_groups * n_folds, targets, weights)
        counts, sums = counts.reshape(-1, n_folds), sums.reshape(n_groups, n_folds, -1)
        counts, sums = counts.sum(1, keepdims=True) - counts, sums.sum(1, keepdims=True) - sums
        means = self._smooth(counts, sums).reshape(n_groups * n_folds, -1)
        counts = counts.ravel() * (n_folds / max(n_folds - 1, 1))
        return means[cells], counts[cells]

    def _earlier(self, groups, targets, weights, order):
        """Weights and weighted targets of the rows of a row's group with a smaller order."""
        rows = np.lexsort((order, groups))
        group, rank = groups[rows], order[rows]
        new_group = np.r_[True, group[1:] != group[:-1]]
        new_rank = new_group | np.r_[True, rank[1:] != rank[:-1]]
        at = np.arange(len(rows))
        # Of each row the first of its group, and the first of its order in the group.
        start = np.maximum.accumulate(np.where(new_group, at, 0))
        until = np.maximum.accumulate(np.where(new_rank, at, 0))
        weight = np.ones(len(rows)) if weights is None else weights[rows]
        terms = np.column_stack([weight, targets[rows] * weight[:, None]])
        before = np.vstack([np.zeros(terms.shape[1]), np.cumsum(terms, axis=0)])
        found = np.empty_like(terms)
        found[rows] = before[until] - before[start]
        return found[:, 0], found[:, 1:]

    # new rows
    # ------------------------------------------------------------------------------------------

    def transform(self, codes):
        """Features of new rows by look-up.

        Parameters
        ----------
        codes : list of int ndarray of shape (n_rows,), or int ndarray of shape (n_rows, n_columns)

        Returns
        -------
        float32 ndarray of shape (n_rows, n_columns)
            A combination that was not seen has the mean of all rows and the count 0.
        """
        columns = as_columns(codes)
        n, k = len(columns[0]) if columns else 0, len(self.keys)
        if self._fast is None:
            with _building:
                if self._fast is None:
                    self._fast = _LookUp(self)
        fast = self._fast
        if n <= FEW_ROWS:
            places = fast.places_of_few(np.array(columns, dtype=np.int64).reshape(len(columns), n))
            if places is not None:
                return fast.features(places)
        places = np.empty((n, k), np.int64)
        for j, key in enumerate(self.keys):
            places[:, j] = fast.places(j, self._combined(columns, key))
        return fast.features(places)

    # state
    # ---------------------------------------------------------------------------------------------

    def __getstate__(self):
        return self.__dict__ | {"_fast": None}

    def state(self):
        """Plain values from which `restored` makes the same statistics again."""
        return {name: getattr(self, name) for name in STATE} | {"keys": list(self.keys)}

    @classmethod
    def restored(cls, state):
        """Statistics with the state of others."""
        made = cls(state["keys"])
        for name, value in state.items():
            if name != "keys":
                setattr(made, name, value)
        return made
