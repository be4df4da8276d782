"""Search methods that choose the interactions of a network."""

from ._autofeature import AutoFeature
from ._autofis import AutoFIS
from ._autopi import AutoPI
from ._bpfis import BPFIS
from ._fives import FIVES
from ._random import RandomInteractions
from ._user_gates import user_gates, user_interactions

__all__ = [
    "BPFIS",
    "FIVES",
    "AutoFIS",
    "AutoFeature",
    "AutoPI",
    "RandomInteractions",
    "user_gates",
    "user_interactions",
]
