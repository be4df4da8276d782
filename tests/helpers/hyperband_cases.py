"""What the tests of Hyperband share."""

import numpy as np
from known_curves import Curve
from scipy.stats import loguniform, uniform
from sklearn.experimental import enable_halving_search_cv  # noqa: F401

from sklearn_autorec.model_selection import (
    HyperbandSearchCV,
)

X = np.zeros((12, 2))

Y = np.tile([0, 1], 6)

ONE_SPLIT = [(np.arange(8), np.arange(8, 12))]

CURVES = {"a": uniform(0.2, 0.8), "b": loguniform(0.01, 2)}


def curve(params, r):
    return params["a"] * (1 - np.exp(-params["b"] * r))


def hyperband(estimator=None, space=None, **options):
    options = {"resource": "epochs", "cv": ONE_SPLIT, "random_state": 0, "refit": False, **options}
    return HyperbandSearchCV(estimator or Curve(), space or CURVES, **options)
