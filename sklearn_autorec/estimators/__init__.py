"""The two network estimators: clicks (classes) and ratings."""

from ._classifier import CTRClassifier
from ._regressor import RatingRegressor

__all__ = ["CTRClassifier", "RatingRegressor"]
