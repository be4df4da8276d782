"""Search methods that choose the interactions of a network."""

from ._autofeature import AutoFeature
from ._autofis import AutoFIS
from ._autopi import AutoPI
from ._random import RandomInteractions

__all__ = ["AutoFIS", "AutoFeature", "AutoPI", "RandomInteractions"]
