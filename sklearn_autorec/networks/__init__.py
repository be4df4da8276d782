"""Hand-made base networks; each is known to the estimators by a short name."""

from ._autoint import AutoInt
from ._dcn import DCN, DCNv2
from ._deepfm import DeepFM
from ._default import DefaultNetwork
from ._din import DIN
from ._fm import FM
from ._fwfm import FwFM
from ._ipnn import IPNN
from ._lr import LR
from ._mlp import MLPNetwork
from ._nfm import NFM
from ._wide_deep import WideDeep

__all__ = [
    "DCN",
    "DIN",
    "FM",
    "IPNN",
    "LR",
    "NFM",
    "AutoInt",
    "DCNv2",
    "DeepFM",
    "DefaultNetwork",
    "FwFM",
    "MLPNetwork",
    "WideDeep",
]
