"""Search methods that choose the size of embeddings."""

from ._autodim import AutoDim
from ._autodis import AutoDis
from ._autoemb import AutoEmb
from ._autosrh import AutoSrh
from ._baselines import EqualSize, MagnitudePruning, RandomSizes
from ._esapn import ESAPN
from ._nis import NIS
from ._pep import PEP
from ._sseds import SSEDS

__all__ = [
    "ESAPN",
    "NIS",
    "PEP",
    "SSEDS",
    "AutoDim",
    "AutoDis",
    "AutoEmb",
    "AutoSrh",
    "EqualSize",
    "MagnitudePruning",
    "RandomSizes",
]
