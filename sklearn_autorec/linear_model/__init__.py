"""Linear models of raw tables that find their own crosses of columns."""

from ._estimators import CrossedLinearClassifier, CrossedLinearRegressor

__all__ = ["CrossedLinearClassifier", "CrossedLinearRegressor"]
