"""What comes before the search: rows that judge, and bins of numeric columns."""

import numpy as np
from sklearn.utils import check_random_state

from .._reading import binned_columns, bins_of, column_edges
from ._cross_search import Fold
from ._fieldwise import AdditiveModel, row_loss

MIN_ROWS = 2  # of each class
FOLDED_ROWS = 50_000  # up to which all rows are held out in turn, n_folds="auto"


def split_rows(y, logistic, n_folds, validation_fraction, random_state):
    """A random order of the rows, and folds that hold out parts of it; each class is spread evenly
    over them.

    Returns
    -------
    int ndarray of shape (n_rows,)
    list of Fold
        The first holds out the last part of the order.
    """
    order = check_random_state(random_state).permutation(len(y))
    groups = [order[y[order] == value] for value in (0, 1)] if logistic else [order]
    for value, rows in enumerate(groups):
        if len(rows) < MIN_ROWS:
            what = f"of class {value}, " if logistic else ""
            raise ValueError(
                f"AutoCross needs {MIN_ROWS} rows {what}one of them to hold out, got {len(rows)} "
                f"(n_samples = {len(y)})."
            )
    if n_folds == "auto":
        n_folds = round(1 / validation_fraction) if len(y) <= FOLDED_ROWS else 1
    n_folds = min(n_folds, *map(len, groups))
    part = np.zeros(len(y), np.int64)
    for rows in groups:
        if n_folds > 1:
            part[rows] = np.arange(len(rows)) * n_folds // len(rows)
        else:
            part[rows[min(max(round(validation_fraction * len(rows)), 1), len(rows) - 1) :]] = 1
    parts = [order[part[order] == k] for k in reversed(range(max(n_folds, 2)))]
    stops = np.cumsum([len(rows) for rows in parts]).tolist()
    folds = [Fold(stop - len(rows), stop) for rows, stop in zip(parts, stops, strict=True)]
    return np.concatenate(parts), folds[::-1][:n_folds]


def best_bins(table, encoder, granularities, y, rows, n_train, logistic, l2):
    """Of each numeric column the granularity that predicts the held-out rows best by itself, the
    coarsest of equals.

    Parameters
    ----------
    table : EncodedTable
    encoder : FieldEncoder
        Fitted on that table.
    granularities : list of int
        Numbers of bins, rising.
    y : float64 ndarray of shape (n_rows,)
        In the order of ``rows``.
    rows : int ndarray of shape (n_rows,)
        Training rows first.
    n_train : int
    logistic, l2
        As of `AdditiveModel`.

    Returns
    -------
    dict of int to int, dict of int to ndarray
        Numbers of bins and edges of the bins, by position.
    """
    positions = list(range(encoder.n_features_in_))
    options = [
        column_edges(encoder, positions, [n_bins] * len(positions)) for n_bins in granularities
    ]
    bins, edges, m = {}, {}, len(encoder.numeric_)
    for j, i in binned_columns(encoder):
        scores, missing = table.numeric[rows, j], table.numeric[rows, m + j] > 0
        losses = []
        for option in options if len(options) > 1 else []:
            ids = bins_of(scores, missing, option[i])
            model = AdditiveModel(y, n_train, logistic, l2).extended(ids, int(ids.max()) + 1).fit()
            losses.append(row_loss(y[n_train:], model.eta[n_train:], logistic).mean())
        best = int(np.argmin(losses)) if losses else 0
        bins[i], edges[i] = granularities[best], options[best][i]
    return bins, edges
