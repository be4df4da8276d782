"""Hand-made base networks; each is known to the estimators by a short name."""

from ._afm import AFM
from ._autoint import AutoInt
from ._dcn import DCN, DCNv2
from ._dcnv3 import DCNv3
from ._deep_crossing import DeepCrossing
from ._deepfm import DeepFM
from ._default import DefaultNetwork
from ._dien import DIEN
from ._din import DIN
from ._ffm import FFM
from ._fibinet import FiBiNET
from ._fignn import FiGNN
from ._finalmlp import FinalMLP
from ._fm import FM
from ._fwfm import FwFM
from ._gdcn import GDCN
from ._ipnn import IPNN
from ._lr import LR
from ._masknet import MaskNet
from ._mlp import MLPNetwork
from ._nfm import NFM
from ._opnn import OPNN
from ._pin import PIN
from ._wide_deep import WideDeep
from ._xdeepfm import XDeepFM

__all__ = [
    "AFM",
    "DCN",
    "DIEN",
    "DIN",
    "FFM",
    "FM",
    "GDCN",
    "IPNN",
    "LR",
    "NFM",
    "OPNN",
    "PIN",
    "AutoInt",
    "DCNv2",
    "DeepCrossing",
    "DeepFM",
    "DefaultNetwork",
    "FiGNN",
    "DCNv3",
    "DeepFM",
    "DefaultNetwork",
    "FiBiNET",
    "FinalMLP",
    "FwFM",
    "MLPNetwork",
    "MaskNet",
    "WideDeep",
    "XDeepFM",
]
