"""Weights with which the outputs of several models are averaged, from rows that none was
fitted on.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

PULL = 5.0  # toward equal weights, in units of the loss of one row
LEAST_ERROR = 1e-3  # of the worst model's: a perfect model would make the unit 0
LEAST_WEIGHT = 0.02  # a model that gets less is left out


def as_rows(weight):
    """Weights as numbers of rows, which penalties, smoothing and `mixing_weights` are set against.

    Whole weights are repetitions and stay as they are. Weights that are less than 1 on the mean,
    for instance of sum 1, say nothing of numbers: they are brought to the mean 1, since whoever
    took them for rows would learn nothing.

    Parameters
    ----------
    weight : float64 ndarray of shape (n_rows,) or None
        None of them zero.

    Returns
    -------
    float64 ndarray of shape (n_rows,) or None
    """
    return None if weight is None else weight / min(np.mean(weight), 1.0)


def mixing_weights(outputs, y, weight=None, *, logistic, pull=PULL, least=LEAST_WEIGHT):
    r"""Weights, not negative and of sum 1, of the mean of several models' outputs.

    They minimise the loss of the mean on held-out rows plus :math:`\mathrm{pull} \cdot K \sum_k
    w_k^2`, which keeps them equal until the rows say otherwise: with few rows the plain mean is the
    better guess.

    Parameters
    ----------
    outputs : float64 ndarray of shape (n_rows, n_models)
        Logits, or predicted numbers.
    y : ndarray of shape (n_rows,)
        0/1, or numbers.
    weight : ndarray of shape (n_rows,) or None
        See `as_rows`.
    logistic : bool
        Log loss of logits, or squared error in units of twice the residual variance of the best
        model.
    pull : float
    least : float
        A model whose weight would be smaller gets 0.

    Returns
    -------
    float64 ndarray of shape (n_models,)
    """
    n_models = outputs.shape[1]
    if n_models == 1:
        return np.ones(1)
    y = np.asarray(y, dtype=np.float64)
    rows = np.ones(len(y)) if weight is None else as_rows(weight)
    errors = [np.average((outputs[:, k] - y) ** 2, weights=rows) for k in range(n_models)]
    unit = 2 * max(min(errors), LEAST_ERROR * max(errors)) or 1.0

    def objective(scores):
        w = softmax(scores)
        mean = outputs @ w
        if logistic:
            loss, slope = np.logaddexp(0, mean) - y * mean, expit(mean) - y
        else:
            loss, slope = (mean - y) ** 2 / unit, 2 * (mean - y) / unit
        value = rows @ loss + pull * n_models * (w @ w)
        gradient = outputs.T @ (rows * slope) + 2 * pull * n_models * w
        return value, w * (gradient - w @ gradient)

    found = softmax(minimize(objective, np.zeros(n_models), jac=True, method="L-BFGS-B").x)
    found[found < least] = 0.0
    return found / found.sum()
