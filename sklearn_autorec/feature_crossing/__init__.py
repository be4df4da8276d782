"""Crosses of columns: finding them, and turning them into columns; statistics of the target."""

from ._aefe._aefe import AEFE
from ._autocross._autocross import AutoCross
from ._crosser import FieldCrosser
from ._glider._glider import GLIDER
from ._target_statistics._target_statistics import TargetStatistics

__all__ = ["AEFE", "GLIDER", "AutoCross", "FieldCrosser", "TargetStatistics"]
