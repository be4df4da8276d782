"""Scaling of numeric columns from counts of their values, mergeable over chunks."""

import numpy as np

from ._weights import as_counts, count_cells

EXACT_VALUES = 100_000  # distinct values a column keeps exactly over chunks
SKETCH_VALUES = 20_000  # to which a longer list is reduced


class NumericSummary:
    """Distinct values and their counts; over chunks, beyond ``EXACT_VALUES`` of them, an even quantile sketch.

    Mean and standard deviation are those of the distinct values while these are exact, so that they do not depend on
    the chunks by a single bit; afterwards they are running figures, equal up to rounding.

    Parameters
    ----------
    method : {"quantile", "log_square", "standard"} or None
    """

    def __init__(self, method):
        self.method = method
        self.values = np.zeros(0)
        self.counts = np.zeros(0, np.int64)
        self.n = 0
        self.mean = self.variance = 0.0
        self.exact = True

    def add(self, column, weight=None):
        """Count one chunk, float64 (n_rows,) with NaN where missing; rows may have weights, float64 (n_rows,)."""
        present = ~np.isnan(column)
        if weight is None:
            values, counts = np.unique(column[present], return_counts=True)
        else:
            values, where = np.unique(column[present], return_inverse=True)
            counts = count_cells(where, weight[present], len(values))
        n, mean, variance = moments(shape_of(values, self.method), counts)
        if self.n:
            total = self.n + n
            gap = mean - self.mean
            self.variance = (self.n * self.variance + n * variance + gap**2 * self.n * n / total) / total
            self.mean += gap * n / total
            self.n = total
            values = np.concatenate([self.values, values])
            values, where = np.unique(values, return_inverse=True)
            counts = as_counts(np.bincount(where, np.concatenate([self.counts, counts])))
        else:
            self.n, self.mean, self.variance = n, mean, variance
        self.values, self.counts = values, counts
        if self.exact:
            self.n, self.mean, self.variance = moments(shape_of(values, self.method), counts)

    def compress(self):
        """Of too many values keep those in the middle of ranges of equal weight, and the extremes, where scales are clipped."""
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
        self.counts = as_counts(np.bincount(where, np.diff(edges)))
        self.values = self.values[picked]
        self.exact = False

    def scaler(self, n_quantiles):
        """The fitted scaler of the column."""
        return NumericScaler(self.values, self.counts, self.method, n_quantiles, self.mean, self.variance)


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
    method : {"quantile", "log_square", "standard"} or None
        "quantile": share of training values below (ties count half), moved to mean 0 and stretched so that
        distinct values have variance 1, in [-sqrt(3), sqrt(3)], clipped at the extremes. "log_square": sign(x) log(1 +
        |x|)^2, then mean 0 and variance 1. "standard": mean 0 and variance 1. None: as it is. A constant column becomes 0
        (but for None).
    n_quantiles : int
        Points of the quantile grid.
    mean, variance : float
        Of the values, for "log_square" and "standard".
    """

    def __init__(self, values, counts, method, n_quantiles, mean, variance):
        self.method = method
        if method == "quantile":
            total = counts.sum()
            middle = (np.cumsum(counts) - 0.5 * counts) / total if total else counts.astype(np.float64)
            if len(values) > n_quantiles:
                by_rank = np.searchsorted(middle, np.linspace(middle[0], middle[-1], n_quantiles))
                picked = np.unique(np.append(by_rank.clip(max=len(values) - 1), [0, len(values) - 1]))
                values, middle = values[picked], middle[picked]
            self.grid, self.score = values, (middle - 0.5) * np.sqrt(12)
        else:
            self.mean, self.scale = mean, float(np.sqrt(variance)) or 1.0

    def scale_values(self, x):
        """Scaled values, NaN where missing."""
        if self.method is None:
            return x
        if self.method == "quantile":
            return np.interp(x, self.grid, self.score) if len(self.grid) > 1 else np.where(np.isnan(x), x, 0.0)
        return (shape_of(x, self.method) - self.mean) / self.scale

    def transform(self, x):
        """Scaled values, 0 where missing, and missing indicators, both (n_rows,)."""
        missing = np.isnan(x)
        return np.where(missing, 0.0, self.scale_values(x)), missing
