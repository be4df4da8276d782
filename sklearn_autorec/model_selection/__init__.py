"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._bayes import BayesSearchCV
from ._evolution import RegularizedEvolutionSearchCV
from ._halving import SuccessiveHalvingSearchCV
from ._hyperband import HyperbandSearchCV
from ._hypergradient import HyperMutation, population_minimize
from ._plans._plan import PlanSearchCV
from ._plans._plan_blocks import Alternating, Conditioning, Joint
from ._population._population import PopulationSearchCV
from ._samplers import RandomSampler
from ._workers import use_gpu_of_worker

__all__ = [
    "Alternating",
    "BayesSearchCV",
    "Conditioning",
    "HyperMutation",
    "HyperbandSearchCV",
    "Joint",
    "PlanSearchCV",
    "PopulationSearchCV",
    "RandomSampler",
    "RegularizedEvolutionSearchCV",
    "SuccessiveHalvingSearchCV",
    "population_minimize",
    "use_gpu_of_worker",
]
