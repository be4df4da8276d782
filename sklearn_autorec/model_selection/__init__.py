"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._bayes import BayesSearchCV
from ._plan import PlanSearchCV
from ._plan_blocks import Alternating, Conditioning, Joint

__all__ = ["Alternating", "BayesSearchCV", "Conditioning", "Joint", "PlanSearchCV"]
