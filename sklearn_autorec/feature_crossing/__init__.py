"""Crosses of columns: finding them, and turning them into columns."""

from ._autocross import AutoCross
from ._crosser import FieldCrosser

__all__ = ["AutoCross", "FieldCrosser"]
