"""Search methods that choose the interactions of a network."""

from ._aoanet import AOANet
from ._autoctr import AutoCTR
from ._autofeature import AutoFeature
from ._autofis import AutoFIS
from ._autogroup import AutoGroup
from ._autopi import AutoPI
from ._bpfis import BPFIS
from ._fives import FIVES
from ._interaction_gain import InteractionGain
from ._l0sign import L0SIGN
from ._profit import PROFIT
from ._random import RandomInteractions
from ._sif import SIF
from ._user_gates import user_gates, user_interactions

__all__ = [
    "AOANet",
    "BPFIS",
    "FIVES",
    "L0SIGN",
    "PROFIT",
    "SIF",
    "AutoCTR",
    "AutoFIS",
    "AutoFeature",
    "AutoGroup",
    "AutoPI",
    "InteractionGain",
    "RandomInteractions",
    "user_gates",
    "user_interactions",
]
