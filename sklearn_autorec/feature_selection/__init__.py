"""Selection of fields: transformers over any estimator, and gates inside a network."""

from ._gates._adafs import AdaFS, field_weights
from ._gates._autofield import AutoField
from ._gates._lpfs import LPFS
from ._gates._optfs import OptFS
from ._selector import FieldSelector
from ._subsets._baselines import RandomSubset
from ._subsets._dual_agent import DualAgent
from ._subsets._fstd import FSTD
from ._subsets._marlfs import MARLFS
from ._subsets._sensitivity import SensitivitySelector

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
