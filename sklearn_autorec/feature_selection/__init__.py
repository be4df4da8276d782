"""Search methods that choose fields and values, and a transformer around them."""

from ._adafs import AdaFS, field_weights
from ._autofield import AutoField
from ._lpfs import LPFS
from ._optfs import OptFS

__all__ = ["LPFS", "AdaFS", "AutoField", "OptFS", "field_weights"]
