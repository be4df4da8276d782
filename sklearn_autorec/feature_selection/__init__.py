"""Selection of fields: transformers over any estimator, and gates inside a network."""

from ._adafs import AdaFS, field_weights
from ._autofield import AutoField
from ._baselines import RandomSubset
from ._dual_agent import DualAgent
from ._fstd import FSTD
from ._lpfs import LPFS
from ._marlfs import MARLFS
from ._optfs import OptFS
from ._selector import FieldSelector
from ._sensitivity import SensitivitySelector

__all__ = [
    "FSTD",
    "LPFS",
    "MARLFS",
    "AdaFS",
    "AutoField",
    "DualAgent",
    "FieldSelector",
    "OptFS",
    "RandomSubset",
    "SensitivitySelector",
    "field_weights",
]
