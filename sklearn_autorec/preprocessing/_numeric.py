"""Scaling of numeric columns from counts of their values, mergeable over chunks."""

import numpy as np

EXACT_VALUES = 100_000  # distinct values a column keeps exactly
SKETCH_VALUES = 20_000  # to which a longer list is reduced


class NumericSummary:
    """Distinct values and their counts; beyond ``EXACT_VALUES`` of them, an even quantile sketch."""

    def __init__(self):
        self.values = np.zeros(0)
        self.counts = np.zeros(0, np.int64)

    def add(self, column):
        """Count one chunk, float64 (n_rows,) with NaN where missing."""
        values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
        if len(self.values):
            values = np.concatenate([self.values, values])
            values, where = np.unique(values, return_inverse=True)
            counts = np.bincount(where, np.concatenate([self.counts, counts])).astype(np.int64)
        if len(values) > EXACT_VALUES:
            # Representatives at even ranks; the extremes stay, since scaled values are clipped there.
            upper = np.cumsum(counts)
            ranks = np.linspace(0, upper[-1] - 1, SKETCH_VALUES)
            picked = np.unique(np.searchsorted(upper, ranks, side="right"))
            counts = np.diff(upper[picked], prepend=0)
            values = values[picked]
        self.values, self.counts = values, counts

    def scaler(self, method, n_quantiles):
        """The fitted scaler of a column."""
        return NumericScaler(self.values, self.counts, method, n_quantiles)


class NumericScaler:
    """float64 values with NaN to scaled float32 values and 0/1 missing indicators.

    Parameters
    ----------
    values, counts : ndarray (n_distinct,)
        Sorted values and how often each occurs.
    method : {"quantile", "log_square", "standard"} or None
        "quantile": share of training values below, spread evenly over mean 0 and variance 1, clipped at the
        extremes. "log_square": sign(x) log(1 + |x|)^2, then mean 0 and variance 1. "standard": mean 0 and variance
        1. None: as it is. A constant column becomes 0 (but for None).
    n_quantiles : int
        Points of the quantile grid.
    """

    def __init__(self, values, counts, method, n_quantiles):
        self.method = method
        if method == "quantile":
            total = counts.sum()
            middle = (np.cumsum(counts) - 0.5 * counts) / total if total else counts
            if len(values) > n_quantiles:
                grid = np.linspace(0, len(values) - 1, n_quantiles).round().astype(int)
                by_rank = np.searchsorted(middle, np.linspace(middle[0], middle[-1], n_quantiles))
                picked = np.unique(np.concatenate([by_rank, grid[[0, -1]]]))
                values, middle = values[picked], middle[picked]
            self.grid, self.score = values, (middle - 0.5) * np.sqrt(12)
        elif method is not None:
            x = self._shape(values)
            weight = counts / max(counts.sum(), 1)
            self.mean = float(weight @ x)
            self.scale = float(np.sqrt(weight @ (x - self.mean) ** 2)) or 1.0

    def _shape(self, x):
        return np.sign(x) * np.log1p(np.abs(x)) ** 2 if self.method == "log_square" else x

    def transform(self, x):
        """Scaled values and missing indicators, both (n_rows,)."""
        missing = np.isnan(x)
        if self.method is None:
            scaled = x
        elif self.method == "quantile":
            scaled = np.interp(x, self.grid, self.score) if len(self.grid) > 1 else np.zeros_like(x)
        else:
            scaled = (self._shape(x) - self.mean) / self.scale
        return np.where(missing, 0.0, scaled), missing
