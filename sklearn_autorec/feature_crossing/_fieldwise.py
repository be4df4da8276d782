"""Additive models of ids, one weight per id: field-wise logistic (or linear) regression.

The indicators of one field never overlap, so its part of the Hessian is diagonal: a Newton step of a whole field is two counts
over the rows, whatever the number of ids. Everything else in the model enters as the cached offset ``eta``, the sum of the other
fields' weights in each row.
"""

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

MAX_STEP = 2.0  # of a weight per Newton step; where hits are rare, a full one overshoots
AGAIN = 3  # sweeps in which the strength of the penalties is estimated


def derivatives(y, eta, logistic):
    """Gradient of the log likelihood and its negative second derivative with respect to ``eta``, both (n_rows,).

    Errors of a linear model have the variance of its residuals.
    """
    if logistic:
        p = expit(eta)
        return y - p, p * (1 - p)
    residual = y - eta
    precision = 1 / max(float(np.mean(residual**2)), 1e-12)
    return residual * precision, np.full(len(y), precision)


def row_loss(y, eta, logistic):
    """Log loss or squared error of each row, (n_rows,)."""
    if logistic:
        return np.maximum(eta, 0) + np.log1p(np.exp(-np.abs(eta))) - y * eta
    return (y - eta) ** 2


def penalty(gradient, curvature, l2):
    """L2 penalty of the weights of a field, given or estimated.

    The estimate is by moments: were the weights drawn with variance v, the squared gradients at zero weights would be h + v h^2
    on average, with h the curvatures. The penalty is 1 / v; infinite if the gradients show nothing but noise.
    """
    if l2 != "auto":
        return l2
    # Not by ``@``: BLAS starts threads for vectors of this size, which costs more than the sum, most of all on a busy machine.
    excess = float(np.square(gradient).sum() - curvature.sum())
    return float(np.square(curvature).sum()) / excess if excess > 0 else np.inf


def _step(gradient, curvature, weights, l2):
    with np.errstate(divide="ignore", invalid="ignore"):
        step = (gradient - l2 * weights) / (curvature + l2)
    step[curvature + l2 <= 0] = 0  # ids that occur in no row, without a penalty
    return np.clip(step, -MAX_STEP, MAX_STEP)


def fit_field(ids, size, y, eta, logistic, l2="auto", n_steps=1, start=None):
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

    Returns
    -------
    ndarray of shape (size,)
    """
    weights = np.zeros(size)
    for k in range(n_steps):
        g, h = start if k == 0 and start is not None else derivatives(y, eta + weights[ids], logistic)
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

    Attributes
    ----------
    eta : ndarray of shape (n_rows,)
    weights : list of ndarray
    penalties : list of float
    """

    def __init__(self, y, n_train, logistic, l2="auto"):
        self.y, self.n_train, self.logistic, self.l2 = y, n_train, logistic, l2
        mean = float(y[:n_train].mean())
        self.eta = np.full(len(y), np.log(mean / (1 - mean)) if logistic else mean)
        self.fields, self.weights, self.penalties = [], [], []

    def extended(self, ids, size):
        """A copy with one more field, its weights zero."""
        other = object.__new__(AdditiveModel)
        other.__dict__.update(self.__dict__)
        other.eta = self.eta.copy()
        other.fields = [*self.fields, ids]
        other.weights = [*self.weights, np.zeros(size)]
        other.penalties = [*self.penalties, np.inf if self.l2 == "auto" else self.l2]
        return other

    def fit(self, tol=1e-6, max_sweeps=30, within=lambda: True):
        """Sweep over the fields until the objective per row falls by less than ``tol``, or ``within()`` is no longer true."""
        n, y = self.n_train, self.y[: self.n_train]
        last = np.inf
        for sweep in range(max_sweeps):
            g, h = derivatives(y, self.eta[:n], self.logistic)
            self.eta += np.clip(g.sum() / h.sum(), -MAX_STEP, MAX_STEP)
            for j in range(len(self.fields)):
                self._update(j, self.l2 == "auto" and sweep < AGAIN)
                if not within():
                    return self
            shrunk = (
                sum(p * np.square(w).sum() for w, p in zip(self.weights, self.penalties, strict=True) if p != np.inf)
                / 2
            )
            if not self.logistic:
                shrunk *= 2 / h[0]  # in units of the squared error
            loss = row_loss(y, self.eta[:n], self.logistic).sum() + shrunk
            if last - loss < tol * n and sweep >= AGAIN * (self.l2 == "auto"):
                break
            last = loss
        return self

    def _update(self, j, estimate):
        ids, weights = self.fields[j], self.weights[j]
        train = ids[: self.n_train]
        g, h = derivatives(self.y[: self.n_train], self.eta[: self.n_train], self.logistic)
        gradient, curvature = np.bincount(train, g, len(weights)), np.bincount(train, h, len(weights))
        if estimate:  # gradients as they would be with the weights of this field at zero
            self.penalties[j] = penalty(gradient + curvature * weights, curvature, "auto")
        if self.penalties[j] == np.inf:
            step = -weights
        else:
            step = _step(gradient, curvature, weights, self.penalties[j])
        if step.any():
            weights = weights + step
            # What all weights have in common belongs to the intercept, which is not penalised; ``eta`` stays as it is.
            self.weights[j] = weights - weights.mean() * (self.penalties[j] != np.inf)
            self.eta += step[ids]


def placements(y, score):
    """Share of rows of the other class that each row is on the right side of, ties count half; their mean is the AUC."""
    positive = y > 0
    n_positive = int(positive.sum())
    ranks = rankdata(score)
    out = np.empty(len(y))
    out[positive] = (ranks[positive] - rankdata(score[positive])) / (len(y) - n_positive)
    out[~positive] = 1 - (ranks[~positive] - rankdata(score[~positive])) / n_positive
    return out
