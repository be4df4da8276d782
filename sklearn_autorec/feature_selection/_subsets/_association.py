"""Columns of any kind as codes, and what these say about each other and about the target."""

import numpy as np

from ...preprocessing import FieldEncoder

BINS = 10
MAX_CODES = 50
ROWS = 20_000  # of large tables so many rows are read, fewer where there are many pairs of columns
CELLS = 2 * 10**8


def field_codes(X, rng):
    """Small integer codes of the columns of a raw table.

    Categorical columns keep their most frequent values; numeric ones are cut into ten parts of
    equal size; of a sequence the first item counts. Missing is a code of its own.

    Returns
    -------
    codes : int64 ndarray (n_used, n_fields)
    rows : ndarray (n_used,)
        The rows they are of, a random part of large tables.
    """
    encoder = FieldEncoder(
        max_categories=MAX_CODES, max_length=1, time_features=None, unknown_warning=None
    )
    table = encoder.fit_encode(X)
    n, n_fields = len(table), encoder.n_features_in_
    n_used = min(n, ROWS, max(1000, CELLS // n_fields**2))
    rows = np.sort(rng.choice(n, n_used, replace=False)) if n_used < n else np.arange(n)
    codes = np.empty((len(rows), n_fields), np.int64)
    codes[:, encoder.categorical_] = table.ids[rows]
    codes[:, encoder.sequence_] = table.sequences[rows]
    start = 0
    for f, length in zip(encoder.vector_.tolist(), encoder.vector_lengths_, strict=True):
        # The direction in which they vary most.
        x = table.vectors[rows, start : start + length]
        codes[:, f] = equal_parts(x @ np.linalg.svd(x.T @ x)[0][:, 0])
        start += length + 1
    n_numeric = len(encoder.numeric_)
    ids = set(encoder.categorical_.tolist())
    for j, f in enumerate(encoder.numeric_.tolist()):
        if f in ids:  # its values tell as much as their order
            continue
        missing = table.numeric[rows, n_numeric + j] > 0
        codes[missing, f] = 0
        codes[~missing, f] = 1 + equal_parts(table.numeric[rows, j][~missing])
    return codes, rows


def equal_parts(x):
    """Numbers (n,) cut into `BINS` parts of about equal size, 0 the smallest."""
    if not len(x):
        return np.zeros(0, np.int64)
    edges = np.unique(np.quantile(x, np.arange(1, BINS) / BINS))
    return np.searchsorted(edges, x, side="left")


def target_codes(y, discrete):
    """The target as codes: classes, or ten parts of equal size."""
    return (
        np.unique(y, return_inverse=True)[1].ravel()
        if discrete
        else equal_parts(np.asarray(y, float))
    )


def mutual_information(a, b):
    """Mutual information of two arrays of codes (n,), in nats, less what independent columns would
    show, not below 0.

    Codes are 0, 1, ... without gaps. The plug-in estimate of K_a and K_b values exceeds the truth
    by about (K_a - 1)(K_b - 1) / 2n, which would make columns of many values look relevant."""
    k_a, k_b, n = int(a.max()) + 1, int(b.max()) + 1, len(a)
    joint = np.bincount(a * k_b + b, minlength=k_a * k_b).reshape(k_a, k_b) / n
    expected = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    found = float((joint[seen] * np.log(joint[seen] / expected[seen])).sum())
    return max(found - (k_a - 1) * (k_b - 1) / (2 * n), 0.0)


def entropy(a):
    """Entropy of codes (n,), in nats."""
    share = np.unique(a, return_counts=True)[1] / len(a)
    return float(-(share * np.log(share)).sum())


class Association:
    """Relevance of every column and redundancy of every pair.

    Parameters
    ----------
    codes : int64 ndarray (n, n_fields)
    target : int64 ndarray (n,)

    Attributes
    ----------
    codes, target : int64 ndarray
        The same without gaps between the codes.
    relevance : ndarray (n_fields,)
        Mutual information with the target, in nats.
    redundancy : ndarray (n_fields, n_fields)
        Mutual information of pairs of columns, in nats; zeros on the diagonal.
    entropies : ndarray (n_fields,)
    """

    def __init__(self, codes, target):
        n_fields = codes.shape[1]
        codes = np.stack([np.unique(column, return_inverse=True)[1] for column in codes.T], 1)
        target = np.unique(target, return_inverse=True)[1]
        self.codes, self.target = codes, target
        columns = np.ascontiguousarray(codes.T)
        self.relevance = np.array([mutual_information(column, target) for column in columns])
        self.redundancy = np.zeros((n_fields, n_fields))
        for i in range(n_fields):
            for j in range(i):
                self.redundancy[i, j] = self.redundancy[j, i] = mutual_information(
                    columns[i], columns[j]
                )
        self.entropies = np.array([entropy(column) for column in columns])

    def of_subset(self, mask):
        """(mean relevance, mean redundancy) of a subset: 1/|S| sum I(x_i; y) and 1/|S|^2 sum_ij
        I(x_i; x_j).
        """
        n = int(mask.sum())
        return self.relevance[mask].mean(), self.redundancy[np.ix_(mask, mask)].sum() / n**2

    def similarity(self):
        """Symmetric uncertainty 2 I(x_i; x_j) / (H(x_i) + H(x_j)) in [0, 1], ones on the
        diagonal.
        """
        total = self.entropies[:, None] + self.entropies
        share = np.divide(2 * self.redundancy, total, out=np.zeros_like(total), where=total > 0)
        np.fill_diagonal(share, 1.0)
        return share.clip(0, 1)
