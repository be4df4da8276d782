"""Which combinations of fields are worth a statistic: those that say more than their parts."""

import itertools
import math

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ._combinations import combine

KEY_ROWS = 30_000  # drawn rows that judge: so many, or more where few pairs have to be tried
MOST_KEY_ROWS = 130_000
ROWS_TIMES_PAIRS = 6_000_000
MAX_PARTNERS = 40  # fields of which all pairs are tried: those that say most by themselves
LEAST_SHARE = 1e-3  # of a probability, against infinite logits
N_FOLDS = 5
BEAM = 4  # crosses of each order that are made longer
SPAN_PER_ROW = 1  # possible combinations a row up to which an array of them all is faster


class _Judge:
    """Out-of-fold estimates of targets (n_rows, n_targets) from the groups of rows that share a
    combination.
    """

    def __init__(self, y, weight, folds, logistic):
        self.y, self.folds, self.logistic = y, folds, logistic
        self.n_folds = int(folds.max()) + 1
        self.weight = np.ones(len(y)) if weight is None else weight
        self.prior = np.average(y, axis=0, weights=self.weight)
        self.binary = bool(((y == 0) | (y == 1)).all())
        # The strength of a mean toward its prior: for numbers in units of their variance, so the
        # same.
        self.unit = 1.0
        if not logistic:
            self.unit = (
                float(np.average(((y - self.prior) ** 2).sum(1), weights=self.weight)) or 1.0
            )

    def link(self, mean):
        return logit(np.clip(mean, LEAST_SHARE, 1 - LEAST_SHARE)) if self.logistic else mean

    def mean(self, link):
        return expit(link) if self.logistic else link

    def loss(self, mean):
        """Mean loss of an estimate, in units of the loss of the prior's scale."""
        if self.logistic:
            p = np.clip(mean, LEAST_SHARE, 1 - LEAST_SHARE)
            if self.binary:  # one logarithm a row
                rows = -np.log(np.abs(1 - self.y - p)).sum(1)
            else:
                rows = -(self.y * np.log(p) + (1 - self.y) * np.log1p(-p)).sum(1)
        else:
            rows = ((self.y - mean) ** 2).sum(1) / self.unit
        return float(np.average(rows, weights=self.weight))

    def estimate(self, groups, n_groups, parent, smoothing):
        """``parent`` moved by the mean residual of the rows of other folds in the same group,
        (n_rows, n_targets).
        """
        cells, n_cells = groups * self.n_folds + self.folds, n_groups * self.n_folds
        count = np.bincount(cells, self.weight, n_cells).reshape(-1, self.n_folds)
        count = count.sum(1, keepdims=True) - count
        moved = np.empty_like(parent)
        for t in range(parent.shape[1]):
            residual = np.bincount(cells, self.weight * (self.y[:, t] - parent[:, t]), n_cells)
            residual = residual.reshape(-1, self.n_folds)
            residual = residual.sum(1, keepdims=True) - residual
            moved[:, t] = parent[:, t] + (residual / (count + smoothing)).ravel()[cells]
        return np.clip(moved, LEAST_SHARE, 1 - LEAST_SHARE) if self.logistic else moved


def _groups(columns, sizes, key):
    """A number for each row, the same for the same combination, and how many there are."""
    combined = combine([columns[i] for i in key], [sizes[i] for i in key])
    span = math.prod(sizes[i] for i in key)
    if span > SPAN_PER_ROW * len(combined):
        groups, distinct = pd.factorize(combined)
        return groups, len(distinct)
    # Numbered through an array of all combinations that could be: no sorting, no hashing.
    present = np.zeros(span, bool)
    present[combined] = True
    numbers = np.cumsum(present)
    return numbers[combined] - 1, int(numbers[-1])


def choose_keys(
    columns,
    sizes,
    y,
    *,
    logistic,
    weight=None,
    rng,
    max_crosses=12,
    max_order=3,
    smoothing=2.0,
    fill=False,
):
    """Crosses of fields whose statistics say more than those of their parts together.

    A cross is judged by how much the out-of-fold residuals of its parts (added on the scale of
    logits) shrink when each row is moved by the mean residual of the rows that share its
    combination. Where two values are only ever seen together, there is nothing to move.

    Parameters
    ----------
    columns : list of int ndarray of shape (n_rows,)
        Codes of each field.
    sizes : list of int
        Codes are below these.
    y : float64 ndarray of shape (n_rows,) or (n_rows, n_targets)
        0/1, or numbers; of several targets the sum of the losses counts.
    logistic : bool
    weight : ndarray of shape (n_rows,) or None
    rng : RandomState
    max_crosses, max_order : int
    smoothing : float
        Rows for which the parts' estimate counts.
    fill : bool, default=False
        Whether pairs that gain nothing follow, up to ``max_crosses``: those of the fields that say
        most in crosses, then alone. Their counts may be of use where their means are not.

    Returns
    -------
    list of tuple of int
        Best first.
    """
    y = np.asarray(y, dtype=np.float64)
    y = y[:, None] if y.ndim == 1 else y
    if weight is not None and not np.all(weight):  # rows without weight are as good as not there
        rows = np.flatnonzero(weight)
        columns, y, weight = [column[rows] for column in columns], y[rows], weight[rows]
    n_pairs = math.comb(min(len(columns), MAX_PARTNERS), 2)
    most = int(np.clip(ROWS_TIMES_PAIRS // max(n_pairs, 1), KEY_ROWS, MOST_KEY_ROWS))
    if len(y) > most:
        rows = rng.permutation(len(y))[:most]
        columns, y = [column[rows] for column in columns], y[rows]
        weight = None if weight is None else weight[rows]
    judge = _Judge(y, weight, rng.permutation(len(y)) % N_FOLDS, logistic)
    grouped, links, losses = {}, {}, {}
    prior = np.broadcast_to(judge.prior, y.shape)
    for i in range(len(columns)):
        groups, n_groups = _groups(columns, sizes, (i,))
        if n_groups < 2:
            continue
        grouped[(i,)] = groups, n_groups
        estimate = judge.estimate(groups, n_groups, prior, 5.0)
        losses[(i,)], links[(i,)] = judge.loss(estimate), judge.link(estimate)
    prior_link = judge.link(judge.prior)
    singles = sorted(losses, key=losses.get)[:MAX_PARTNERS]
    gains, parts, useless = {}, {}, []

    def joined(a, b):
        """Groups of the rows by both, and their estimates without and with what the two say
        together.
        """
        groups, n_groups = _groups(columns, sizes, tuple(sorted({*a, *b})))
        parent = judge.mean(links[a] + links[b] - prior_link)
        return groups, n_groups, parent, judge.estimate(groups, n_groups, parent, smoothing)

    def try_pair(a, b):
        union = tuple(sorted({*a, *b}))
        if len(union) != len(a) + len(b) or union in gains:
            return
        groups, n_groups, parent, estimate = joined(a, b)
        if n_groups <= max(grouped[a][1], grouped[b][1]):
            return
        loss = judge.loss(estimate)
        # More than its parts one by one, too: parts that say the same twice make a poor sum.
        gain = min(judge.loss(parent), losses[a], losses[b]) - loss
        if gain > 0:
            gains[union], parts[union] = gain, (a, b)
        elif len(union) == 2:
            useless.append(union)

    for a, b in itertools.combinations(singles, 2):
        try_pair(a, b)
    for _ in range(3, max_order + 1):
        longest = sorted((key for key in gains if key not in grouped), key=lambda key: -gains[key])[
            :BEAM
        ]
        for key in longest:
            groups, n_groups, _, estimate = joined(*parts[key])
            grouped[key], losses[key] = (groups, n_groups), judge.loss(estimate)
            links[key] = judge.link(estimate)
        for key in longest:
            for single in singles:
                try_pair(key, single)
    chosen = sorted(gains, key=lambda key: -gains[key])
    if fill:
        # Fields that say something in a cross come first, even if they say nothing alone, then
        # those that do.
        of_crosses = {i: sum(gain for key, gain in gains.items() if i in key) for (i,) in singles}
        rank = {
            i: r
            for r, (i,) in enumerate(
                sorted(singles, key=lambda key: (-of_crosses[key[0]], losses[key]))
            )
        }
        chosen += sorted(useless, key=lambda pair: sorted(rank[i] for i in pair))
    return chosen[:max_crosses]
