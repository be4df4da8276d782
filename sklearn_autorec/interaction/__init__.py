"""Search methods that choose the interactions of a network."""

from ._autofis import AutoFIS
from ._random import RandomInteractions

__all__ = ["AutoFIS", "RandomInteractions"]
