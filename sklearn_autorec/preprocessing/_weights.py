"""Weights of rows in the counts of a `FieldEncoder`: whole weights are repetitions."""

import numpy as np

from ..utils._sklearn import check_sample_weight

__all__ = ["as_counts", "count_cells", "row_weights"]


def row_weights(sample_weight, n_rows):
    """Weights as float64 (n_rows,), None if there are none or all are 1."""
    if sample_weight is None:
        return None
    if not np.any(sample_weight):
        raise ValueError("sample_weight must have at least one positive value, got only zeros.")
    weight = check_sample_weight(sample_weight, np.empty(n_rows), dtype=np.float64, ensure_non_negative=True)
    return None if (weight == 1).all() else weight


def count_cells(codes, weight, n):
    """Weight of each of n codes, int64 or float64 (n,); see `as_counts`."""
    counts = np.bincount(codes, weight, minlength=n)
    return counts if weight is None else as_counts(counts)


def as_counts(counts):
    """Sums of weights as int64 where they are whole, so that they are the same as without weights, else as float64."""
    whole = counts.dtype.kind == "f" and np.abs(counts).max(initial=0) < 2.0**53 and not np.mod(counts, 1).any()
    return counts.astype(np.int64) if whole else counts
