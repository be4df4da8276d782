"""Search methods that begin with a model of another table."""

from ._autoft import AutoFT

__all__ = ["AutoFT"]
