"""Layers with weights of their own for every field or pair, and the pairs they are given."""

import torch
from torch import nn

from ._interactions import pair_index


class SeparateLinear(nn.Module):
    """A fully connected layer for each field or pair; (B, n, n_in) -> (B, n, n_out).

    Weights (n, n_in, n_out) are Glorot-normal, biases (n, n_out) zero. With M ``members`` they have
    M in front, and (M * B, n, n_in) goes to (M * B, n, n_out).

    Parameters
    ----------
    n : FieldAxis
        How many layers: ``context.axis("F")`` or ``context.axis("P")``.
    n_in, n_out : int
        Numbers that each takes and gives.
    generator : torch.Generator
    bias : bool, default=True
    members : int, default=1
    """

    def __init__(self, n, n_in, n_out, generator, bias=True, members=1):
        super().__init__()
        own = () if members == 1 else (members,)
        std = (2 / (n_in + n_out)) ** 0.5
        weight = torch.empty(*own, n, n_in, n_out).normal_(0, std, generator=generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(*own, n, n_out)) if bias else None
        self.members = members
        self.field_axes = {"weight": {-3: n}}
        if bias:
            self.field_axes["bias"] = {-2: n}

    def forward(self, x):
        rows = x.unflatten(0, (self.members, -1))  # (M, B, n, n_in)
        if self.weight.shape[-1] == 1:
            # Products of matrices and vectors sum in another order for other numbers of rows.
            out = (rows * self.weight.view(self.members, 1, *x.shape[1:])).sum(3, keepdim=True)
            if self.bias is not None:
                out = out + self.bias.view(self.members, 1, -1, 1)
            return out.flatten(0, 1)
        # (M n, B, n_in): one product for each member and layer.
        rows = rows.transpose(1, 2).flatten(0, 1)
        weight = self.weight.flatten(0, -3)
        if self.bias is None:
            out = torch.bmm(rows, weight)
        else:
            out = torch.baddbmm(self.bias.flatten(0, -2).unsqueeze(1), rows, weight)
        return out.unflatten(0, (self.members, -1)).transpose(1, 2).flatten(0, 1)

    def extra_repr(self):
        return f"{', '.join(map(str, self.weight.shape[-3:]))}, members={self.members}"


class PairEnds(nn.Module):
    """The two embeddings of every pair i < j; (B, F, d) -> two of (B, P, d)."""

    def __init__(self, context):
        super().__init__()
        left, right = pair_index(context.n_fields)
        self.register_buffer("left", left, persistent=False)
        self.register_buffer("right", right, persistent=False)

    def forward(self, e):
        return e.index_select(1, self.left), e.index_select(1, self.right)
