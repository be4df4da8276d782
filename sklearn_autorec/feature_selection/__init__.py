"""Search methods that choose fields and values, and a transformer around them."""

from ._adafs import AdaFS, field_weights
from ._autofield import AutoField
from ._lpfs import LPFS
from ._optfs import OptFS
from ._selector import FieldSelector

__all__ = ["LPFS", "AdaFS", "AutoField", "FieldSelector", "OptFS", "field_weights"]
