"""Automated deep recommender models for tables of categorical fields, behind scikit-learn's interfaces."""

from . import networks  # noqa: F401  (fills the registry of network names)
from ._version import __version__
from .estimators import CTRClassifier, RatingRegressor

__all__ = ["CTRClassifier", "RatingRegressor", "__version__"]
