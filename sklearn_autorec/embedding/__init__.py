"""Search methods that choose the size of embeddings."""

from ._autodim import AutoDim
from ._autodis import AutoDis
from ._baselines import EqualSize, MagnitudePruning, RandomSizes
from ._pep import PEP

__all__ = ["PEP", "AutoDim", "AutoDis", "EqualSize", "MagnitudePruning", "RandomSizes"]
