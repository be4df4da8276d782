"""Scaling of numeric columns from counts of their values, mergeable over chunks."""

import numpy as np

from ._ranks import rank_grid
from ._weights import as_counts, count_cells

EXACT_VALUES = 100_000  # distinct values a column keeps exactly over chunks
GRIDS = ("rank", "quantile")  # scales that interpolate in a grid, and are bounded
SKETCH_VALUES = 20_000  # to which a longer list is reduced


class NumericSummary:
    """Distinct values and their counts; over chunks, beyond ``EXACT_VALUES`` of them, an even
    quantile sketch.

    Mean and standard deviation are those of the distinct values while these are exact, so that they
    do not depend on the chunks by a single bit; afterwards they are running figures, equal up to
    rounding.

    Parameters
    ----------
    method : {"rank", "quantile", "log_square", "standard"} or None

    Attributes
    ----------
    sums : ndarray of shape (n_distinct, n_targets) or None
        Sums of targets (and of their squares) over the rows of each value; None where none were
        given.
    """

    def __init__(self, method):
        self.method = method
        self.values = np.zeros(0)
        self.counts = np.zeros(0, np.int64)
        self.sums = None
        self.n = 0
        self.mean = self.variance = 0.0
        self.exact = True

    def add(self, column, weight=None, targets=None):
        """Count one chunk, float64 (n_rows,) with NaN where missing.

        Rows may have weights, float64 (n_rows,), and targets, float64 (n_rows, n_targets).
        """
        present = ~np.isnan(column)
        if weight is None and targets is None:
            values, counts = np.unique(column[present], return_counts=True)
        else:
            values, where = np.unique(column[present], return_inverse=True)
            own = np.ones(len(where), np.int64) if weight is None else weight[present]
            counts = count_cells(where, own, len(values))
            if targets is not None:
                sums = _sums(where, targets[present] * own[:, None], len(values))
        n, mean, variance = moments(shape_of(values, self.method), counts)
        if self.n:
            total = self.n + n
            gap = mean - self.mean
            self.variance = (
                self.n * self.variance + n * variance + gap**2 * self.n * n / total
            ) / total
            self.mean += gap * n / total
            self.n = total
            values = np.concatenate([self.values, values])
            values, where = np.unique(values, return_inverse=True)
            counts = as_counts(np.bincount(where, np.concatenate([self.counts, counts])))
            if targets is not None:
                sums = _sums(where, np.concatenate([self.sums, sums]), len(values))
        else:
            self.n, self.mean, self.variance = n, mean, variance
        self.values, self.counts = values, counts
        if targets is not None:
            self.sums = sums
        if self.exact:
            self.n, self.mean, self.variance = moments(shape_of(values, self.method), counts)

    def compress(self):
        """Of too many values keep those in the middle of ranges of equal weight, and the extremes,
        where scales are clipped.
        """
        if len(self.values) <= EXACT_VALUES:
            return
        upper = np.cumsum(self.counts)
        edges = np.linspace(0, upper[-1], SKETCH_VALUES + 1)
        if self.counts.dtype.kind == "i":
            edges = edges.round().astype(np.int64)
            centres = (edges[:-1] + edges[1:]) // 2
        else:
            centres = (edges[:-1] + edges[1:]) / 2
        middle = np.searchsorted(upper, centres, side="right")
        middle[[0, -1]] = 0, len(upper) - 1
        picked, where = np.unique(middle, return_inverse=True)
        if self.sums is not None:
            # A value's targets go where the middle of its rows goes.
            part = np.searchsorted(edges, upper - (self.counts + 1) // 2, side="right") - 1
            self.sums = _sums(where[part], self.sums, len(picked))
        self.counts = as_counts(np.bincount(where, np.diff(edges)))
        self.values = self.values[picked]
        self.exact = False

    def scaler(self, n_quantiles, n_bins=24, ages=False):
        """The fitted scaler of the column; of times in seconds, that of their ages before the
        newest of them.
        """
        if ages and len(self.values):
            newest = float(self.values[-1])
            values, counts = newest - self.values[::-1], self.counts[::-1]
            sums = None if self.sums is None else self.sums[::-1]
            own = newest - self.mean, self.variance
            if self.method == "log_square":
                own = moments(shape_of(values, self.method), counts)[1:]
            scaler = NumericScaler(values, counts, self.method, n_quantiles, *own, n_bins, sums)
            scaler.newest = newest
            return scaler
        own = self.mean, self.variance
        return NumericScaler(
            self.values, self.counts, self.method, n_quantiles, *own, n_bins, self.sums
        )


def _sums(where, targets, n):
    """Sums of targets (n_rows, n_targets) by group, (n, n_targets)."""
    return np.stack([np.bincount(where, t, minlength=n) for t in targets.T], 1)


def shape_of(x, method):
    """x, or sign(x) log(1 + |x|)^2 for "log_square"."""
    return np.sign(x) * np.log1p(np.abs(x)) ** 2 if method == "log_square" else x


def moments(values, counts):
    """Sum of counts, weighted mean and variance."""
    n = counts.sum().item()
    if n == 0:
        return 0, 0.0, 0.0
    weight = counts / n
    mean = float(weight @ values)
    return n, mean, float(weight @ (values - mean) ** 2)


class NumericScaler:
    """float64 values with NaN to scaled values and missing indicators.

    Parameters
    ----------
    values, counts : ndarray (n_distinct,)
        Sorted values and how often each occurs.
    method : {"rank", "quantile", "log_square", "standard"} or None
        "rank": share of training values below, in which no value counts for more than one of
        ``n_bins`` of them, stretched to [0, 1]; clipped at the extremes. "quantile": share of
        training values below (ties count half), moved to mean 0 and stretched so that distinct
        values have variance 1, in [-sqrt(3), sqrt(3)], clipped at the extremes. "log_square":
        sign(x) log(1 + |x|)^2, then mean 0 and variance 1. "standard": mean 0 and variance 1. None:
        as it is. A constant column becomes 0 (but for None).
    n_quantiles : int
        Points of the grid of "rank" and "quantile".
    mean, variance : float
        Of the values, for "log_square" and "standard".
    n_bins : int
        Equal steps of "rank".
    sums : ndarray of shape (n_distinct, n_targets) or None
        Sums of the targets and of their squares, by which "rank" finds where its steps lie; None
        goes by ranks alone.

    Attributes
    ----------
    newest : float or None
        Of times, the newest of the training in seconds since 1970: what is scaled is the age before
        it, below zero for later times. None of other numbers.
    """

    newest: float | None = None

    def __init__(self, values, counts, method, n_quantiles, mean, variance, n_bins=24, sums=None):
        self.method = method
        if method == "rank":
            self.grid, self.score = rank_grid(values, counts, n_quantiles, n_bins, sums)
        elif method == "quantile":
            total = counts.sum()
            middle = (
                (np.cumsum(counts) - 0.5 * counts) / total if total else counts.astype(np.float64)
            )
            if len(values) > n_quantiles:
                by_rank = np.searchsorted(middle, np.linspace(middle[0], middle[-1], n_quantiles))
                picked = np.unique(
                    np.append(by_rank.clip(max=len(values) - 1), [0, len(values) - 1])
                )
                values, middle = values[picked], middle[picked]
            self.grid, self.score = values, (middle - 0.5) * np.sqrt(12)
        else:
            self.mean, self.scale = mean, float(np.sqrt(variance)) or 1.0

    def scale_values(self, x):
        """Scaled values, NaN where missing."""
        if self.newest is not None:
            x = self.newest - x
        if self.method is None:
            return x
        if self.method in GRIDS:
            return (
                np.interp(x, self.grid, self.score)
                if len(self.grid) > 1
                else np.where(np.isnan(x), x, 0.0)
            )
        return (shape_of(x, self.method) - self.mean) / self.scale

    def transform(self, x):
        """Scaled values, 0 where missing, and missing indicators, both (n_rows,)."""
        missing = np.isnan(x)
        return np.where(missing, 0.0, self.scale_values(x)), missing
