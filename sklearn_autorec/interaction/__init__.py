"""Search methods that choose the interactions of a network."""

from ._aoanet import AOANet
from ._autoctr import AutoCTR
from ._autofeature import AutoFeature
from ._autofis import AutoFIS
from ._autopi import AutoPI
from ._bpfis import BPFIS
from ._random import RandomInteractions
from ._user_gates import user_gates, user_interactions

__all__ = [
    "AOANet",
    "BPFIS",
    "AutoCTR",
    "AutoFIS",
    "AutoFeature",
    "AutoPI",
    "RandomInteractions",
    "user_gates",
    "user_interactions",
]
