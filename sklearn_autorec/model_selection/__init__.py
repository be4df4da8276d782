"""Searches over the hyperparameters of any estimator, as scikit-learn search estimators."""

from ._bayes import BayesSearchCV

__all__ = ["BayesSearchCV"]
