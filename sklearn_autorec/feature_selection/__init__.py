"""Selection of fields: transformers over any estimator, and gates inside a network."""

from ._baselines import RandomSubset
from ._fstd import FSTD

__all__ = ["FSTD", "RandomSubset"]
