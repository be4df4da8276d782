"""Search methods that choose the size of embeddings."""

from ._autodim import AutoDim
from ._baselines import EqualSize, MagnitudePruning, RandomSizes
from ._nis import NIS
from ._pep import PEP

__all__ = ["NIS", "PEP", "AutoDim", "EqualSize", "MagnitudePruning", "RandomSizes"]
