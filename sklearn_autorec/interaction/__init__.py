"""Search methods that choose the interactions of a network."""

from ._autofis import AutoFIS
from ._bpfis import BPFIS
from ._random import RandomInteractions
from ._user_gates import user_gates, user_interactions

__all__ = ["AutoFIS", "BPFIS", "RandomInteractions", "user_gates", "user_interactions"]
