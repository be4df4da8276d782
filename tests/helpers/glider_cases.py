"""What the tests of GLIDER share."""

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from small_tables import planted_crosses

from sklearn_autorec.feature_crossing import GLIDER

FAST = {"n_instances": 16, "n_perturbations": 200, "max_epochs": 40, "random_state": 0}


class Formula(RegressorMixin, BaseEstimator):
    """A regressor that is a function of its table."""

    def __init__(self, function=None):
        self.function = function

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.asarray(self.function(np.asarray(X, dtype=float)), dtype=float)


def numbers(n=60, d=7, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def of_formula(function, X, **params):
    return GLIDER(Formula(function), prefit=True, **{**FAST, **params}).fit(X)


def clicks(seed, n=4000, **options):
    options = {"n_fields": 7, "cardinality": 6, "pair_effect": 1.6} | options
    return planted_crosses(n, seed, ids="category", **options)


TREES = HistGradientBoostingClassifier(max_iter=40, random_state=0)
