"""Operations on the vectors of all fields, (B, F, d) -> (B, F, d), of one scale; graphs of them."""

import torch
from torch import nn

from ..nn import FieldAttention, PairProducts, linear, row_batch_norm
from ..nn._blocks import hold_shift

OPERATIONS = ("skip", "senet", "attention", "fm", "fc", "conv")
REDUCTION = 3  # of the fields in the squeeze of "senet", as in SENET
KERNEL = 3  # fields that "conv" sees at a time


class FieldNorm(nn.Module):
    """Batch norm of every number of every field, without scale and shift; (B, F, d) -> (B, F, d).

    Operations are of one scale behind it, so that their weights in a mixture can be compared.
    """

    def __init__(self, context):
        super().__init__()
        n = context.n_fields * context.embedding_dim
        self.register_buffer("running_mean", torch.zeros(n))
        self.register_buffer("running_var", torch.ones(n))

    def forward(self, e):
        normed = row_batch_norm(
            e.flatten(1), self.running_mean, self.running_var, None, None, self.training, 0.1, 1e-5
        )
        return normed.view_as(e)


class FieldWeights(nn.Module):
    """Squeeze and excitation: fields times weights that depend on all of them, e_i a_i with
    a = 2 sigmoid(W_2 ReLU(W_1 z)) and z_i the mean of e_i; (B, F, d) -> (B, F, d).

    The ReLU in the place of the sigmoid, as in FiBiNET, may shut all fields for good.
    """

    def __init__(self, context):
        super().__init__()
        n, squeezed = context.n_fields, max(context.n_fields // REDUCTION, 1)
        self.squeeze = linear(n, squeezed, context.generator, bias=False)
        self.excite = linear(squeezed, n, context.generator, bias=False)

    def forward(self, e):
        weights = 2 * torch.sigmoid(self.excite(torch.relu(self.squeeze(e.mean(2)))))
        return e * weights.unsqueeze(2)


class ProjectedPairs(nn.Module):
    """All inner products of pairs, brought to the shape of the embeddings; (B, F, d) ->
    (B, F, d).
    """

    def __init__(self, context):
        super().__init__()
        self.products = PairProducts(context)
        n_out = context.n_fields * context.embedding_dim
        self.project = linear(int(self.products.out_dim), n_out, context.generator)
        hold_shift(self.project.bias)

    def forward(self, e):
        return self.project(self.products(e)).view_as(e)


class FullLayer(nn.Module):
    """ReLU(W e + b) of all numbers of all fields, W = U V of low rank; (B, F, d) -> (B, F, d)."""

    def __init__(self, context, rank):
        super().__init__()
        n, generator = context.n_fields * context.embedding_dim, context.generator
        if rank is None or rank >= n:
            self.layer = linear(n, n, generator)
        else:
            down = linear(n, rank, generator, bias=False)
            self.layer = nn.Sequential(down, linear(rank, n, generator))

    def forward(self, e):
        return torch.relu(self.layer(e.flatten(1))).view_as(e)


class FieldConvolution(nn.Module):
    """ReLU of a convolution over neighbouring fields; (B, F, d) -> (B, F, d)."""

    def __init__(self, context):
        super().__init__()
        d = context.embedding_dim
        self.conv = nn.utils.skip_init(nn.Conv1d, d, d, KERNEL, padding=KERNEL // 2)
        nn.init.xavier_normal_(self.conv.weight, generator=context.generator)
        nn.init.zeros_(self.conv.bias)

    def forward(self, e):
        return torch.relu(self.conv(e.transpose(1, 2))).transpose(1, 2)


def operation(name, context, rank):
    """An operation with a batch norm behind it; (B, F, d) -> (B, F, d)."""
    d = context.embedding_dim
    if name == "attention":
        heads = 2 if d % 2 == 0 else 1
        made = FieldAttention(d, heads, d // heads, context.generator)
    elif name == "fc":
        made = FullLayer(context, rank)
    else:
        kinds = {
            "skip": lambda context: nn.Identity(),
            "senet": FieldWeights,
            "fm": ProjectedPairs,
            "conv": FieldConvolution,
        }
        made = kinds[name](context)
    return nn.Sequential(made, FieldNorm(context))


class Cell(nn.Module):
    """A graph of nodes, each the batch norm of the weighted sum of what its edges make of earlier
    states.

    Parameters
    ----------
    nodes : list of list of (int, nn.Module)
        The edges of each node: from which state, and what is done to it.
    context : BuildContext
    """

    def __init__(self, nodes, context):
        super().__init__()
        self.sources = [[source for source, _ in edges] for edges in nodes]
        self.nodes = nn.ModuleList(nn.ModuleList(m for _, m in edges) for edges in nodes)
        self.norms = nn.ModuleList(FieldNorm(context) for _ in nodes)

    def forward(self, states, weights=None):
        """States so far, a list of (B, F, d), to those of the nodes. ``weights`` are a tensor of
        the edges of every node; None is a plain sum.
        """
        n_given = len(states)
        for k, (sources, edges) in enumerate(zip(self.sources, self.nodes, strict=True)):
            made = [edge(states[source]) for source, edge in zip(sources, edges, strict=True)]
            if weights is not None:
                made = [w * out for w, out in zip(weights[k], made, strict=True)]
            states = [*states, self.norms[k](sum(made[1:], made[0]))]
        return states[n_given:]
