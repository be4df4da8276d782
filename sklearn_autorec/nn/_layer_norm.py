"""Layer normalisation, with scales and shifts of their own for fields and for members."""

import torch
from torch import nn

from ._axes import FieldAxis


class LayerNorm(nn.Module):
    """Layer norm over the last axis, times a scale plus a shift; (B, ..., n) to the same.

    Unlike torch's layer the scale and the shift may differ along further axes, as those of fields
    do, and with M members along the members as well: (M * B, ..., n). A row is normalised by
    itself, so that batches of one row need no rule of their own.

    Parameters
    ----------
    *shape : int
        Of the scale and the shift; the last is n. Lengths that are a `FieldAxis` are declared.
    members : int, default=1
    """

    def __init__(self, *shape, members=1):
        super().__init__()
        whole = shape if members == 1 else (members, *shape)
        self.members, self.eps = members, 1e-5
        self.weight = nn.Parameter(torch.ones(whole))
        self.bias = nn.Parameter(torch.zeros(whole))
        by_field = {i - len(shape): n for i, n in enumerate(shape) if isinstance(n, FieldAxis)}
        if by_field:
            self.field_axes = {"weight": by_field, "bias": by_field}

    def forward(self, x):
        x = nn.functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        if self.members == 1:
            return torch.addcmul(self.bias, x, self.weight)
        rows = x.unflatten(0, (self.members, -1))
        return torch.addcmul(self.bias.unsqueeze(1), rows, self.weight.unsqueeze(1)).flatten(0, 1)
