"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._halving import SuccessiveHalvingSearchCV
from ._hyperband import HyperbandSearchCV
from ._samplers import RandomSampler
from ._workers import use_gpu_of_worker

__all__ = ["HyperbandSearchCV", "RandomSampler", "SuccessiveHalvingSearchCV", "use_gpu_of_worker"]
