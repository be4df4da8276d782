"""Which combinations of columns deserve a statistic: greedy unions, judged by rows that did not
make them.
"""

import heapq
import math
from collections.abc import Iterable
from itertools import combinations as subsets
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import norm

from ...preprocessing._vocabulary import UNKNOWN
from ...utils._typing import Array
from .._autocross._fieldwise import penalty
from .._combinations import combine
from ._look_up import DENSE_LEAST
from ._statistics import as_columns, spread_folds

N_FOLDS = 3
SWEEPS = 4  # over the columns of the additive model
CHANCE = 0.05  # of taking one combination or more where none is of use
MOST_TARGETS = 8  # of many classes, the most frequent judge


class _Judge:
    """The gain of a combination over what an additive model of the columns says so far.

    There is a model for each fold, fitted to the rows of the other folds only; the fold's rows
    judge. One that had seen the judging rows, even through the residuals of others, would be wrong
    about them in the opposite direction."""

    def __init__(self, columns, sizes, targets, weights, smoothing, logistic, order, rng):
        self.columns, self.sizes, self.logistic, self.weights = columns, sizes, logistic, weights
        if order is None:
            n_folds = N_FOLDS
            folds = spread_folds(targets @ np.arange(1.0, targets.shape[1] + 1), n_folds, rng)
        else:  # the latest rows judge
            n_folds, folds = 1, (order <= np.quantile(order, 1 - 1 / N_FOLDS)).astype(np.int64)
        mean = np.average(targets, axis=0, weights=weights)
        if logistic:
            start = logit(np.clip(mean, 1e-6, 1 - 1e-6))
            self.penalty = smoothing * mean * (1 - mean)
        else:
            scale = np.maximum(
                np.sqrt(np.average((targets - mean) ** 2, axis=0, weights=weights)), 1e-12
            )
            targets, start = (targets - mean) / scale, np.zeros_like(mean)
            self.penalty = np.full(len(mean), float(smoothing))
        # One for each fold and target: whether a row judges, the target, and the model's linear
        # predictor.
        self.parts = [
            (t, (folds == fold).astype(np.int64), targets[:, t], np.full(len(folds), start[t]))
            for fold in range(n_folds)
            for t in range(targets.shape[1])
        ]
        self.derived = [self._derivatives(y, eta) for _, _, y, eta in self.parts]

    def _derivatives(self, y, eta):
        p = expit(eta) if self.logistic else eta
        return self.weights * (y - p), self.weights * (
            p * (1 - p) if self.logistic else np.ones_like(p)
        )

    def _groups(self, key):
        """Combination of each row, and their number."""
        combined = combine([self.columns[i] for i in key], [self.sizes[i] for i in key])
        size = math.prod(self.sizes[i] for i in key)
        if size > max(2 * len(combined), DENSE_LEAST):
            combined, distinct = pd.factorize(combined)
            size = len(distinct)
        return combined, size

    def fit_columns(self, fields):
        """Fit the additive model of single columns in each fold."""
        self._fit([(self.columns[i], self.sizes[i]) for i in fields], estimated=True)

    def take(self, key):
        """Add a combination to the models."""
        self._fit([self._groups(key)], estimated=False)

    def _fit(self, terms, estimated):
        """Add the effects of terms, groups (n_rows,) and their number each, fitted to the rows that
        do not judge.

        Penalties are estimated, or those that candidates are scored with, so that what was taken
        does not score again."""
        for k, (t, judges, y, eta) in enumerate(self.parts):
            weights = [np.zeros(size) for _, size in terms]
            for _ in range(SWEEPS):
                for (ids, size), weight in zip(terms, weights, strict=True):
                    residual, curvature = (d * (1 - judges) for d in self._derivatives(y, eta))
                    g, h = np.bincount(ids, residual, size), np.bincount(ids, curvature, size)
                    l2 = penalty(g + h * weight, h, "auto") if estimated else self.penalty[t]
                    # An infinite penalty: the values differ no more than by chance.
                    new = np.zeros(size)
                    if np.isfinite(l2):
                        new = weight + np.clip((g - l2 * weight) / (h + l2 + 1e-9), -2, 2)
                    eta += (new - weight)[ids]
                    weight[:] = new
            self.derived[k] = self._derivatives(y, eta)

    def _steps(self, groups, size, k):
        """Sums of the judging rows, and the step that the other rows want, (size,) each."""
        t, judges = self.parts[k][:2]
        cells = 2 * groups + judges
        residual, curvature = (np.bincount(cells, d, 2 * size) for d in self.derived[k])
        steps = np.clip(residual[::2] / (curvature[::2] + self.penalty[t] + 1e-9), -2, 2)
        return residual[1::2], curvature[1::2], steps

    def score(self, key):
        """Gain in log likelihood, and its size in standard errors were the combination of
        no use.
        """
        groups, size = self._groups(key)
        first = spread = 0.0
        for k in range(len(self.parts)):
            residual, curvature, steps = self._steps(groups, size, k)
            first += float((residual * steps).sum())
            spread += float((curvature * steps * steps).sum())
        return first - spread / 2, first / math.sqrt(spread) if spread > 0 else 0.0


def choose_keys(
    codes: Any,
    y: Array,
    sample_weight: Array | None = None,
    sizes: list[int] | None = None,
    *,
    fields: list[int] | None = None,
    given: Iterable[tuple[int, ...]] = (),
    logistic: bool = True,
    max_order: int = 4,
    max_crosses: int = 15,
    smoothing: float = 20.0,
    max_rows: int = 20_000,
    max_candidates: int = 600,
    order: Array | None = None,
    rng: Any = None,
) -> tuple[list[tuple[int, ...]], list[float]]:
    """Combinations of columns whose statistics tell what single columns do not add up to.

    All pairs of columns are scored by what they add, on rows that did not make them, to an additive
    model of all columns. The best joins the model; its unions with one more column become
    candidates. Scores of the others are renewed as they come up (they mostly fall, so that few need
    it), until no gain stands out from chance.

    Parameters
    ----------
    codes : list of int ndarray of shape (n_rows,), or int ndarray of shape (n_rows, n_columns)
        0 missing, 1 unknown or rare, 2.. values.
    y : ndarray of shape (n_rows,) or (n_rows, n_targets)
        0 and 1 (indicators of classes) if ``logistic``, else numbers.
    sample_weight : ndarray of shape (n_rows,) or None
    sizes : list of int or None
        Number of codes of each column; None: as many as occur.
    fields : list of int or None
        Columns that may be combined; None: all.
    given : list of tuple of int
        Combinations that are there already.
    logistic : bool, default=True
    max_order : int, default=4
        Columns of a combination at most.
    max_crosses : int, default=15
        Combinations at most.
    smoothing : float, default=20
        As of `Statistics`.
    max_rows : int, default=20,000
        Of more rows a random part is looked at.
    max_candidates : int, default=600
        Scores computed at most; pairs take half of them, those of the columns that tell most by
        themselves.
    order : ndarray of shape (n_rows,) or None
        Such as a time: the last third of the rows judges, instead of each third in turn.
    rng : RandomState

    Returns
    -------
    list of tuple of int
        In the order in which they were taken, positions ascending.
    list of float
        Gain in log likelihood per row (numbers: in half the squared error over the variance) of
        each.
    """
    columns, targets = as_columns(codes), np.asarray(y, dtype=np.float64)
    targets = targets[:, None] if targets.ndim == 1 else targets
    weights = (
        np.ones(len(targets))
        if sample_weight is None
        else np.asarray(sample_weight, dtype=np.float64)
    )
    rows = np.flatnonzero(weights > 0)
    if len(rows) > max_rows:
        rows = np.sort(rows[rng.permutation(len(rows))[:max_rows]])
    columns = [np.asarray(column)[rows].astype(np.int64) for column in columns]
    if sizes is None:
        sizes = [max(int(column.max(initial=0)), UNKNOWN) + 1 for column in columns]
    targets, weights = targets[rows], weights[rows]
    if targets.shape[1] > MOST_TARGETS:
        targets = targets[:, np.argsort(-targets.sum(0), kind="stable")[:MOST_TARGETS]]
    fields = list(range(len(columns))) if fields is None else list(fields)
    fields = [i for i in fields if len(rows) and (columns[i] != columns[i][0]).any()]
    if len(fields) < 2 or max_order < 2 or len(rows) < 2 * N_FOLDS:
        return [], []
    judge = _Judge(
        columns,
        sizes,
        targets,
        weights,
        smoothing,
        logistic,
        None if order is None else order[rows],
        rng,
    )
    single = {i: judge.score((i,))[0] for i in fields}
    fields.sort(key=lambda i: (-single[i], i))
    judge.fit_columns(fields)
    for key in given:
        judge.take(tuple(key))
    widest = max(int((1 + math.sqrt(1 + 4 * max_candidates)) / 2), 2)
    pairs = [tuple(sorted(pair)) for pair in subsets(fields[:widest], 2)]
    search = _Search(judge, fields[:widest], max_order, max_candidates)
    found, gains = search.run(pairs, {tuple(sorted(key)) for key in given}, max_crosses)
    return found, [float(gain / weights.sum()) for gain in gains]


class _Search:
    """Greedy choice with lazily renewed scores."""

    def __init__(self, judge, fields, max_order, max_candidates):
        self.judge, self.fields, self.max_order = judge, fields, max_order
        self.left = max_candidates
        self.queue = []  # (-gain, key, number of combinations taken when it was scored)
        self.level = norm.isf(CHANCE / max_candidates)

    def run(self, pairs, known, max_crosses):
        found, gains = [], []
        known = set(known)
        for pair in pairs:
            self._add(pair, known, 0)
        while self.queue and len(found) < max_crosses:
            negative, key, at = heapq.heappop(self.queue)
            if at < len(found):
                if self.left <= 0:
                    break
                self._push(key, len(found))
                continue
            found.append(key)
            gains.append(-negative)
            self.judge.take(key)
            if len(key) < self.max_order:
                for i in self.fields:
                    if i not in key:
                        self._add(tuple(sorted((*key, i))), known, len(found))
        return found, gains

    def _add(self, key, known, at):
        if key not in known and self.left > 0:
            known.add(key)
            self._push(key, at)

    def _push(self, key, at):
        self.left -= 1
        gain, in_errors = self.judge.score(key)
        if gain > 0 and in_errors > self.level:
            heapq.heappush(self.queue, (-gain, key, at))
