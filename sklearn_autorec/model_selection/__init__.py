"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._evolution import RegularizedEvolutionSearchCV
from ._hypergradient import HyperMutation, population_minimize
from ._population import PopulationSearchCV

__all__ = ["HyperMutation", "PopulationSearchCV", "RegularizedEvolutionSearchCV", "population_minimize"]
