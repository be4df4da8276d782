"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._bayes import BayesSearchCV
from ._halving import SuccessiveHalvingSearchCV
from ._hyperband import HyperbandSearchCV
from ._plan import PlanSearchCV
from ._plan_blocks import Alternating, Conditioning, Joint
from ._samplers import RandomSampler
from ._workers import use_gpu_of_worker

__all__ = [
    "Alternating",
    "BayesSearchCV",
    "Conditioning",
    "HyperbandSearchCV",
    "Joint",
    "PlanSearchCV",
    "RandomSampler",
    "SuccessiveHalvingSearchCV",
    "use_gpu_of_worker",
]
