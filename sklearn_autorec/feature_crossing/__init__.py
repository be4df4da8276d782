"""Crosses of columns: finding them, and turning them into columns."""

from ._aefe import AEFE
from ._autocross import AutoCross
from ._crosser import FieldCrosser
from ._glider import GLIDER

__all__ = ["AEFE", "GLIDER", "AutoCross", "FieldCrosser"]
