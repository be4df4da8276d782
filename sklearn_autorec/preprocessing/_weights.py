"""Weights of rows in the counts of a `FieldEncoder`: whole weights are repetitions."""

import numpy as np

from ..utils._sklearn import check_sample_weight, safe_indexing
from ._columns import read_columns

__all__ = ["as_counts", "count_cells", "row_weights", "weighted_rows"]


def row_weights(sample_weight, n_rows):
    """Weights as float64 (n_rows,), None if there are none or all are 1."""
    if sample_weight is None:
        return None
    if not np.asarray(sample_weight).any():
        raise ValueError("sample_weight must have at least one positive value, got only zeros.")
    weight = check_sample_weight(
        sample_weight, np.empty(n_rows), dtype=np.float64, ensure_non_negative=True
    )
    return None if (weight == 1).all() else weight


def weighted_rows(X, sample_weight, estimator):
    """A table without the rows of weight 0: X, names and columns, weights (None if all are 1), and
    whether rows are gone.
    """
    names, columns = read_columns(X, estimator)
    weight = row_weights(sample_weight, len(columns[0]))
    left_out = weight is not None and not weight.all()
    if left_out:
        rows = np.flatnonzero(weight)
        X = safe_indexing(X, rows)
        weight = row_weights(weight[rows], len(rows))
        names, columns = read_columns(X, estimator)
    return X, names, columns, weight, left_out


def count_cells(codes, weight, n):
    """Weight of each of n codes, int64 or float64 (n,); see `as_counts`."""
    counts = np.bincount(codes, weight, minlength=n)
    return counts if weight is None else as_counts(counts)


def as_counts(counts):
    """Sums of weights as int64 where they are whole, so that they are the same as without weights,
    else as float64.
    """
    whole = (
        counts.dtype.kind == "f"
        and np.abs(counts).max(initial=0) < 2.0**53
        and not np.mod(counts, 1).any()
    )
    return counts.astype(np.int64) if whole else counts
