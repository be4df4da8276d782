"""Additive models of ids, one weight per id: field-wise logistic (or linear) regression.

The indicators of one field never overlap, so its part of the Hessian is diagonal: a Newton step of
a whole field is two counts over the rows, whatever the number of ids. Everything else in the model
enters as the cached offset ``eta``, the sum of the other fields' weights in each row."""

import numpy as np
from scipy.stats import rankdata

MAX_STEP = 2.0  # of a weight per Newton step; where hits are rare, a full one overshoots
SCORING_STEPS = 20
ESTIMATED_SWEEPS = 6  # in which penalties are estimated
CHANGE_PER_ROW = 1e-6  # of the loss, at which sweeps end
LEAST_CHANGE = 0.1  # of its sum: less says nothing, however few rows there are
TINY = 1e-100


def sigmoid(eta):
    """1 / (1 + exp(-eta)), by numpy's vectorised exponential: a third of the time of scipy's."""
    with np.errstate(over="ignore"):
        p = np.exp(-eta)
    p += 1.0
    return np.divide(1.0, p, out=p)


def derivatives(y, eta, logistic, weight=None):
    """Gradient of the log likelihood and its negative second derivative with respect to ``eta``,
    both (n_rows,).

    Errors of a linear model have the variance of its residuals. A row of weight 2 counts as two
    rows."""
    if logistic:
        p = sigmoid(eta)
        g, h = y - p, p * (1 - p)
    else:
        residual = y - eta
        precision = 1 / max(float(np.average(residual**2, weights=weight)), 1e-12)
        g, h = residual * precision, np.full(len(y), precision)
    return (g, h) if weight is None else (g * weight, h * weight)


def row_loss(y, eta, logistic):
    """Log loss or squared error of each row, (n_rows,)."""
    if logistic:
        return np.maximum(eta, 0) + np.log1p(np.exp(-np.abs(eta))) - y * eta
    return (y - eta) ** 2


def penalty(gradient, curvature, l2):
    """L2 penalty of the weights of a field, given or estimated.

    Parameters
    ----------
    gradient, curvature : ndarray of shape (n_ids,)
        Of the log likelihood at zero weights.
    l2 : float or "auto"

    Returns
    -------
    float
        "auto": one over the most likely variance v of the weights, infinite for v = 0. Were they
        drawn from N(0, v), gradient k would have the variance h + v h^2, with h the curvature;
        Fisher scoring solves sum((g^2 - h - v h^2) / (1 + v h)^2) = 0.
    """
    if l2 != "auto":
        return l2
    # Not by ``@``: BLAS starts threads for vectors of this size, which costs more than the sum,
    # most of all on a busy machine.
    excess, squares = np.square(gradient) - curvature, np.square(curvature)
    variance = 1.0
    for _ in range(SCORING_STEPS):
        share = np.square(1 / (1 + variance * curvature))
        before, variance = (
            variance,
            max(float((share * excess).sum()) / max(float((share * squares).sum()), TINY), 0.0),
        )
        if abs(variance - before) <= 0.02 * before:
            break
    return 1 / variance if variance > TINY else np.inf


def _step(gradient, curvature, weights, l2):
    with np.errstate(divide="ignore", invalid="ignore"):
        step = (gradient - l2 * weights) / (curvature + l2)
    step[curvature + l2 <= 0] = 0  # ids that occur in no row, without a penalty
    return np.clip(step, -MAX_STEP, MAX_STEP)


def fit_field(ids, size, y, eta, logistic, l2="auto", n_steps=1, start=None, weight=None):
    """Weights of one field, everything else being held.

    Parameters
    ----------
    ids : int ndarray of shape (n_rows,)
    size : int
        Number of ids.
    y, eta : ndarray of shape (n_rows,)
        Target and offset.
    logistic : bool
    l2 : float or "auto"
    n_steps : int
        Newton steps at most.
    start : tuple of gradient and curvature at ``eta``, default=None
        As of `derivatives`, if they are known.
    weight : ndarray of shape (n_rows,), default=None
        How often each row counts.

    Returns
    -------
    ndarray of shape (size,)
    """
    weights = np.zeros(size)
    for k in range(n_steps):
        g, h = (
            start
            if k == 0 and start is not None
            else derivatives(y, eta + weights[ids], logistic, weight)
        )
        gradient, curvature = np.bincount(ids, g, size), np.bincount(ids, h, size)
        if k == 0:
            l2 = penalty(gradient, curvature, l2)
            if l2 == np.inf:
                break
        step = _step(gradient, curvature, weights, l2)
        weights += step
        if np.abs(step).max() < 1e-3:
            break
    return weights


class AdditiveModel:
    """Intercept and one weight per id of each field, fitted field by field until nothing moves.

    Parameters
    ----------
    y : float64 ndarray of shape (n_rows,)
    n_train : int
        The first rows, which it is fitted on; ``eta`` is kept for all.
    logistic : bool
    l2 : float or "auto"
        Penalty l2 / 2 times the squared weights of a field; "auto" estimates one per field.
    weight : float64 ndarray of shape (n_rows,), default=None
        How often each row counts.

    Attributes
    ----------
    eta : ndarray of shape (n_rows,)
    weights : list of ndarray
    penalties : list of float
    """

    def __init__(self, y, n_train, logistic, l2="auto", weight=None):
        self.y, self.n_train, self.logistic, self.l2, self.weight = y, n_train, logistic, l2, weight
        self.train_weight = None if weight is None else weight[:n_train]
        mean = float(np.average(y[:n_train], weights=self.train_weight))
        self.eta = np.full(len(y), np.log(mean / (1 - mean)) if logistic else mean)
        self.fields, self.weights, self.penalties = [], [], []
        self._derived = None  # derivatives at ``eta``, while it stays

    def extended(self, ids, size):
        """A copy with one more field, its weights zero.

        Ids of shape (n_rows, n_places) are a bag: a row has the sum of its items' weights; the last
        id is an empty place, which weighs nothing."""
        other = object.__new__(AdditiveModel)
        other.__dict__.update(self.__dict__)
        other.eta = self.eta.copy()
        other.fields = [*self.fields, ids]
        other.weights = [*self.weights, np.zeros(size)]
        other.penalties = [*self.penalties, np.nan]  # until it is fitted
        return other

    def fit(self, tol=None, max_sweeps=100, within=lambda: True):
        """Sweep over the fields until the sum of the losses moves by less than ``tol``, or
        ``within()`` is no longer true.

        Penalties are estimated in the first sweeps, then they stay. (With weights the curvatures
        change, and so do the estimates; now and then they would go to and fro for ever.)"""
        n, y, weight = self.n_train, self.y[: self.n_train], self.train_weight
        total = n if weight is None else weight.sum()
        tol = max(CHANGE_PER_ROW * total, LEAST_CHANGE) if tol is None else tol
        last = np.inf
        for sweep in range(max_sweeps):
            g, h = self._derivatives()
            self._move(np.clip(g.sum() / h.sum(), -MAX_STEP, MAX_STEP))
            for j in range(len(self.fields)):
                self._update(j, sweep)
                if not within():
                    return self
            loss = row_loss(y, self.eta[:n], self.logistic)
            loss = loss.sum() if weight is None else (loss * weight).sum()
            if abs(last - loss) < tol:
                break
            last = loss
        return self

    def spreads(self):
        """Estimated standard deviation of the weights of each field (of numbers: over that of the
        residuals), 1 if not penalised.
        """
        noise = 1.0
        if not self.logistic:
            loss = row_loss(self.y[: self.n_train], self.eta[: self.n_train], False)
            loss = np.average(loss, weights=self.train_weight)
            noise = float(np.sqrt(loss)) or 1.0
        return [float(1 / np.sqrt(p)) / noise if p > 0 else 1.0 for p in self.penalties]

    def _derivatives(self):
        """Those of the training rows; a field that has not moved leaves them as they are."""
        if self._derived is None:
            n = self.n_train
            self._derived = derivatives(self.y[:n], self.eta[:n], self.logistic, self.train_weight)
        return self._derived

    def _move(self, change):
        self.eta += change
        self._derived = None

    def _update(self, j, sweep):
        ids, weights = self.fields[j], self.weights[j]
        if sweep >= ESTIMATED_SWEEPS and self.penalties[j] == np.inf and not weights.any():
            return  # for good
        train = ids[: self.n_train]
        g, h = self._derivatives()
        bag = ids.ndim == 2
        if bag:
            gradient, curvature, bound = _bag_sums(train, g, h, len(weights))
        else:
            gradient, curvature = (
                np.bincount(train, g, len(weights)),
                np.bincount(train, h, len(weights)),
            )
            bound = curvature
        if sweep < ESTIMATED_SWEEPS or not self.penalties[j] >= 0:
            # Gradients as they would be with the weights of this field at zero.
            found = penalty(gradient + curvature * weights, curvature, self.l2)
            if sweep > 1 and self.penalties[j] > 0 < found < np.inf > self.penalties[j]:
                found = 2 / (1 / found + 1 / self.penalties[j])
            self.penalties[j] = found
        if self.penalties[j] == np.inf:
            step = -weights
        else:
            step = _step(gradient, bound, weights, self.penalties[j])
        if step.any():
            weights = weights + step
            # What all weights have in common belongs to the intercept, which is not penalised;
            # ``eta`` stays as it is.
            self.weights[j] = (
                weights if bag else weights - weights.mean() * (self.penalties[j] != np.inf)
            )
            self._move(step.take(ids).sum(1) if bag else step.take(ids))


def _bag_sums(ids, g, h, size):
    """Gradient, curvature and a bound of the curvature for steps of all items at once, each
    (size,).
    """
    items = (ids != size - 1).sum(1)
    flat, n_places = ids.ravel(), ids.shape[1]
    sums = [np.bincount(flat, np.repeat(rows, n_places), size) for rows in (g, h, h * items)]
    for found in sums:
        found[-1] = 0.0
    return sums


def placements(y, score):
    """Share of rows of the other class that each row is on the right side of, ties count half;
    their mean is the AUC.
    """
    positive = y > 0
    n_positive = int(positive.sum())
    ranks = rankdata(score)
    out = np.empty(len(y))
    out[positive] = (ranks[positive] - rankdata(score[positive])) / (len(y) - n_positive)
    out[~positive] = 1 - (ranks[~positive] - rankdata(score[~positive])) / n_positive
    return out
