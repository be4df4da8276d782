"""Hand-made base networks; each is known to the estimators by a short name."""

from ._deepfm import DeepFM
from ._fm import FM

__all__ = ["FM", "DeepFM"]
