"""Which combinations of fields are worth a statistic: those that say more than their parts."""

import itertools

import numpy as np
from scipy.special import expit, logit

from ..feature_crossing._combinations import combine

KEY_ROWS = 30_000  # drawn rows that judge
MAX_PARTNERS = 40  # fields of which all pairs are tried: those that say most by themselves
LEAST_SHARE = 1e-3  # of a probability, against infinite logits


class _Judge:
    """Out-of-fold estimates of a target from the groups of rows that share a combination."""

    def __init__(self, y, weight, folds, logistic):
        self.y, self.folds, self.logistic = y, folds, logistic
        self.n_folds = int(folds.max()) + 1
        self.weight = np.ones(len(y)) if weight is None else weight
        self.prior = float(np.average(y, weights=self.weight))
        # The strength of a mean toward its prior: for numbers in units of their variance, so the same.
        self.unit = 1.0 if logistic else float(np.average((y - self.prior) ** 2, weights=self.weight)) or 1.0

    def link(self, mean):
        return logit(np.clip(mean, LEAST_SHARE, 1 - LEAST_SHARE)) if self.logistic else mean

    def mean(self, link):
        return expit(link) if self.logistic else link

    def loss(self, mean):
        """Mean loss of an estimate, in units of the loss of the prior's scale."""
        if self.logistic:
            p = np.clip(mean, LEAST_SHARE, 1 - LEAST_SHARE)
            rows = -(self.y * np.log(p) + (1 - self.y) * np.log1p(-p))
        else:
            rows = (self.y - mean) ** 2 / self.unit
        return float(np.average(rows, weights=self.weight))

    def estimate(self, groups, n_groups, parent, smoothing):
        """``parent`` moved by the mean residual of the rows of other folds in the same group, (n_rows,)."""
        cells = groups * self.n_folds + self.folds
        residual = np.bincount(cells, self.weight * (self.y - parent), n_groups * self.n_folds)
        count = np.bincount(cells, self.weight, n_groups * self.n_folds)
        residual, count = residual.reshape(-1, self.n_folds), count.reshape(-1, self.n_folds)
        residual = residual.sum(1, keepdims=True) - residual
        count = count.sum(1, keepdims=True) - count
        moved = parent + (residual / (count + smoothing)).ravel()[cells]
        return np.clip(moved, LEAST_SHARE, 1 - LEAST_SHARE) if self.logistic else moved


def _groups(columns, sizes, key):
    combined = combine([columns[i] for i in key], [sizes[i] for i in key])
    distinct, groups = np.unique(combined, return_inverse=True)
    return groups, len(distinct)


def choose_keys(columns, sizes, y, *, logistic, weight=None, rng, max_crosses=12, max_order=3, smoothing=2.0):
    """Crosses of fields whose statistics say more than those of their parts together.

    A cross is judged by how much the out-of-fold residuals of its parts (added on the scale of logits)
    shrink when each row is moved by the mean residual of the rows that share its combination. Where two
    values are only ever seen together, there is nothing to move.

    Parameters
    ----------
    columns : list of int ndarray of shape (n_rows,)
        Codes of each field.
    sizes : list of int
        Codes are below these.
    y : float64 ndarray of shape (n_rows,)
        0/1, or numbers.
    logistic : bool
    weight : ndarray of shape (n_rows,) or None
    rng : RandomState
    max_crosses, max_order : int
    smoothing : float
        Rows for which the parts' estimate counts.

    Returns
    -------
    list of tuple of int
        Best first.
    """
    n = len(y)
    if n > KEY_ROWS:
        rows = rng.permutation(n)[:KEY_ROWS]
        columns, y = [column[rows] for column in columns], y[rows]
        weight = None if weight is None else weight[rows]
    judge = _Judge(y, weight, rng.permutation(len(y)) % 5, logistic)
    grouped, estimates, losses = {}, {}, {}
    for i in range(len(columns)):
        groups, n_groups = _groups(columns, sizes, (i,))
        if n_groups < 2:
            continue
        grouped[(i,)] = groups, n_groups
        estimates[(i,)] = judge.estimate(groups, n_groups, np.full(len(y), judge.prior), 5.0)
        losses[(i,)] = judge.loss(estimates[(i,)])
    singles = sorted(losses, key=losses.get)[:MAX_PARTNERS]
    found = {}

    def try_pair(a, b):
        union = tuple(sorted({*a, *b}))
        if len(union) != len(a) + len(b) or union in found:
            return
        groups, n_groups = _groups(columns, sizes, union)
        if n_groups <= max(grouped[a][1], grouped[b][1]):
            return
        parent = judge.mean(judge.link(estimates[a]) + judge.link(estimates[b]) - judge.link(judge.prior))
        estimate = judge.estimate(groups, n_groups, parent, smoothing)
        gain = judge.loss(parent) - judge.loss(estimate)
        # More than its parts one by one, too: parts that say the same twice make a poor sum.
        gain = min(gain, min(losses[a], losses[b]) - judge.loss(estimate))
        if gain > 0:
            found[union] = gain, groups, n_groups, estimate

    for a, b in itertools.combinations(singles, 2):
        try_pair(a, b)
    for _ in range(3, max_order + 1):
        longest = sorted((k for k in found if k not in grouped), key=lambda k: -found[k][0])[:4]
        for key in longest:
            _, groups, n_groups, estimate = found[key]
            grouped[key], estimates[key], losses[key] = (groups, n_groups), estimate, judge.loss(estimate)
        for key in longest:
            for single in singles:
                try_pair(key, single)
    return sorted(found, key=lambda k: -found[k][0])[:max_crosses]
