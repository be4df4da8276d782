"""Dense vectors of a table as vectors of the network: a linear projection of each."""

import torch
from torch import nn

from ._parts import own_bytes


class VectorEmbedding(nn.Module):
    """Projections of the vector fields; encoded numbers of a batch (M * B, ...) -> (M * B, F_vec,
    width).

    A vector field j of standardised numbers x (n_j,) with missing indicator m gives

    .. math:: W_j x + m u_j + b_j

    Its numbers are the last columns of ``Inputs.numeric``, those of each field followed by its
    indicator. The projections are weights of the network as those of its layers are, not rows of a
    table: weight decay applies to them, and no embedding decay, storage or budget does.

    Parameters
    ----------
    context : BuildContext
    width : int
        Numbers of an embedding.
    std : float
        Of the initial weights of W and u; b starts at zero.
    """

    def __init__(self, context, width, std):
        super().__init__()
        self.lengths = [length + 1 for length in context.vectors]
        self.n_inputs, self.members = sum(self.lengths), context.members
        own = (self.members,) if self.members > 1 else ()
        weight = torch.zeros(*own, self.n_inputs, width)
        if std:
            weight.normal_(0.0, std, generator=context.generator)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(*own, len(self.lengths), width))
        self.field_axes = {"weight": {-2: context.axis("W")}, "bias": {-2: context.axis("D")}}

    def forward(self, numeric):
        x = numeric[:, -self.n_inputs :]
        if self.members == 1:
            parts = zip(x.split(self.lengths, 1), self.weight.split(self.lengths, 0), strict=True)
            return torch.stack([own @ weight for own, weight in parts], 1) + self.bias
        x = x.unflatten(0, (self.members, -1))  # (M, B, n)
        parts = zip(x.split(self.lengths, 2), self.weight.split(self.lengths, 1), strict=True)
        e = torch.stack([own @ weight for own, weight in parts], 2)  # (M, B, F_vec, width)
        return (e + self.bias.unsqueeze(1)).flatten(0, 1)

    def nbytes(self):
        """Bytes by kind; see `PackedPart`."""
        return own_bytes(self, "network")


def vector_embedding(context, width, std):
    """A `VectorEmbedding`, or None of a table without vectors."""
    return VectorEmbedding(context, width, std) if context.vectors else None
