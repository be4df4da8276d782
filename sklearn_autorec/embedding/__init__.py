"""Search methods that choose the size of embeddings."""

from ._amtl import AMTL
from ._ant import ANT
from ._autodim import AutoDim
from ._autodis import AutoDis
from ._autoemb import AutoEmb
from ._autosrh import AutoSrh
from ._baselines import EqualSize, MagnitudePruning, RandomSizes
from ._esapn import ESAPN
from ._hashed import QR, Hashing
from ._mixed_dimensions import MDE
from ._nis import NIS
from ._optembed import OptEmbed
from ._pep import PEP
from ._rule import RULE
from ._sseds import SSEDS

__all__ = [
    "AMTL",
    "ANT",
    "MDE",
    "ESAPN",
    "NIS",
    "PEP",
    "QR",
    "RULE",
    "SSEDS",
    "AutoDim",
    "AutoDis",
    "AutoEmb",
    "AutoSrh",
    "EqualSize",
    "Hashing",
    "MagnitudePruning",
    "OptEmbed",
    "RandomSizes",
]
