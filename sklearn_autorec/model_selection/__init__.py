"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._evolution import RegularizedEvolutionSearchCV
from ._halving import SuccessiveHalvingSearchCV
from ._hyperband import HyperbandSearchCV
from ._hypergradient import HyperMutation, population_minimize
from ._population import PopulationSearchCV
from ._samplers import RandomSampler
from ._workers import use_gpu_of_worker

__all__ = [
    "HyperMutation",
    "HyperbandSearchCV",
    "PopulationSearchCV",
    "RandomSampler",
    "RegularizedEvolutionSearchCV",
    "SuccessiveHalvingSearchCV",
    "population_minimize",
    "use_gpu_of_worker",
]
