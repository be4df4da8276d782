"""Search methods that choose the size of embeddings."""

from ._autodim import AutoDim
from ._pep import PEP

__all__ = ["PEP", "AutoDim"]
