"""Selection of fields: transformers over any estimator, and gates inside a network."""

from ._baselines import RandomSubset
from ._fstd import FSTD
from ._marlfs import MARLFS

__all__ = ["FSTD", "MARLFS", "RandomSubset"]
