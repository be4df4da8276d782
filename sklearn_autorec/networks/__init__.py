"""Hand-made base networks; each is known to the estimators by a short name."""

from ._afm import AFM
from ._autoint import AutoInt
from ._dcn import DCN, DCNv2
from ._deep_crossing import DeepCrossing
from ._deepfm import DeepFM
from ._default import DefaultNetwork
from ._din import DIN
from ._ffm import FFM
from ._fignn import FiGNN
from ._fm import FM
from ._fwfm import FwFM
from ._ipnn import IPNN
from ._lr import LR
from ._mlp import MLPNetwork
from ._nfm import NFM
from ._opnn import OPNN
from ._pin import PIN
from ._wide_deep import WideDeep
from ._xdeepfm import XDeepFM

__all__ = [
    "AFM",
    "DCN",
    "DIN",
    "FFM",
    "FM",
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
    "FwFM",
    "MLPNetwork",
    "WideDeep",
    "XDeepFM",
]
