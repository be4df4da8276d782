"""Estimators and functions for searches whose every score is known."""

import numpy as np
from scipy.stats import uniform
from sklearn.base import BaseEstimator

from sklearn_autorec.model_selection._trials import Outcome

UNIT = uniform()
BRANIN_MINIMUM = 0.397887


def branin(x, y):
    """Branin's function on [-5, 10] x [0, 15]; its minimum is 0.397887."""
    b, c = 5.1 / (4 * np.pi**2), 5 / np.pi
    return (y - b * x * x + c * x - 6) ** 2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10


class Branin(BaseEstimator):
    """Scores minus Branin's function; fails for x below ``limit``."""

    def __init__(self, x=0.0, y=0.0, limit=None, kind=None):
        self.x = x
        self.y = y
        self.limit = limit
        self.kind = kind

    def fit(self, X, y=None):
        if self.limit is not None and self.x < self.limit:
            raise ArithmeticError(f"x is {self.x}")
        return self

    def score(self, X, y=None):
        return -branin(self.x, self.y)


def drive(search, function, seed):
    """What a search would try and find if candidates scored ``function(**params)``: list of (trial,
    score).
    """
    policy = search._policy(np.random.RandomState(seed))
    rows, said = [], None
    while True:
        try:
            batch = policy.send(said)
        except StopIteration:
            return rows
        said = [
            Outcome(trial, len(rows) + k, float(function(**trial.params)))
            for k, trial in enumerate(batch)
        ]
        rows += [(outcome.trial, outcome.score) for outcome in said]


def needed(rows, enough):
    """Number of trials until a score is ``enough``; one more than all if none is."""
    hits = [k for k, (_, score) in enumerate(rows) if score >= enough]
    return hits[0] + 1 if hits else len(rows) + 1
