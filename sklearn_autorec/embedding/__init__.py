"""Search methods that choose the size of embeddings."""

from ._amtl import AMTL
from ._ant import ANT
from ._autodim import AutoDim
from ._autodis import AutoDis
from ._autosrh import AutoSrh
from ._baselines import EqualSize, MagnitudePruning, RandomSizes
from ._nis import NIS
from ._pep import PEP
from ._sseds import SSEDS

__all__ = [
    "AMTL",
    "ANT",
    "NIS",
    "PEP",
    "SSEDS",
    "AutoDim",
    "AutoDis",
    "AutoSrh",
    "EqualSize",
    "MagnitudePruning",
    "RandomSizes",
]
