"""Selection of fields: transformers over any estimator, and gates inside a network."""

from ._baselines import RandomSubset
from ._dual_agent import DualAgent
from ._fstd import FSTD
from ._marlfs import MARLFS
from ._sensitivity import SensitivitySelector

__all__ = ["FSTD", "MARLFS", "DualAgent", "RandomSubset", "SensitivitySelector"]
