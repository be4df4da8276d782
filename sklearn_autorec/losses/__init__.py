"""Search methods that choose the loss by which a network is trained."""

from ._autoloss import AutoLoss

__all__ = ["AutoLoss"]
