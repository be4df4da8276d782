"""Search methods that choose the size of embeddings."""

from ._autodim import AutoDim

__all__ = ["AutoDim"]
