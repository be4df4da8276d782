"""Loss slot: logits and targets to a loss per row, (B, C), (B,) -> (B,)."""

import torch
from torch import nn
from torch.nn import functional as F


class BinaryLogLoss(nn.Module):
    """-log p(y); logits (B, 1), y float (B,) of 0 and 1 -> (B,)."""

    def forward(self, logits, y):
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")


class MulticlassLogLoss(nn.Module):
    """-log softmax(logits)[y]; logits (B, C), y int64 (B,) -> (B,)."""

    def forward(self, logits, y):
        return F.cross_entropy(logits, y, reduction="none")


class SquaredError(nn.Module):
    """(prediction - y)^2; (B, 1), y float (B,) -> (B,)."""

    def forward(self, logits, y):
        return (logits.squeeze(1) - y).square()


class MemberLosses(nn.Module):
    """A loss of its own for each of M members; logits (M * B, C), y (M * B,), member after member
    -> (M * B,).
    """

    def __init__(self, losses):
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, logits, y):
        rows = zip(
            self.losses, logits.chunk(len(self.losses)), y.chunk(len(self.losses)), strict=True
        )
        return torch.cat([loss(own_logits, own_y) for loss, own_logits, own_y in rows])
