"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._halving import SuccessiveHalvingSearchCV
from ._hyperband import HyperbandSearchCV
from ._samplers import RandomSampler

__all__ = ["HyperbandSearchCV", "RandomSampler", "SuccessiveHalvingSearchCV"]
