"""How clicks and ratings are judged beside accuracy: within groups, and by calibration."""

from ._calibration import (
    calibration_by_group,
    calibration_error,
    calibration_ratio,
    normalized_entropy,
)
from ._ranking import grouped_hit_rate, grouped_ndcg_score, grouped_roc_auc_score
from ._scorers import grouped_scorer, nbytes_scorer

__all__ = [
    "calibration_by_group",
    "calibration_error",
    "calibration_ratio",
    "grouped_hit_rate",
    "grouped_ndcg_score",
    "grouped_roc_auc_score",
    "grouped_scorer",
    "nbytes_scorer",
    "normalized_entropy",
]
