"""Searches over subsets of columns, for any estimator."""

from ._baselines import RandomSubset
from ._dual_agent import DualAgent
from ._fstd import FSTD
from ._marlfs import MARLFS
from ._sensitivity import SensitivitySelector

__all__ = ["SUBSET_SELECTORS"]

SUBSET_SELECTORS = (FSTD, MARLFS, DualAgent, RandomSubset, SensitivitySelector)
