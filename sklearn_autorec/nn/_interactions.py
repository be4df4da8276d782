"""Interaction slot: combinations of field embeddings (B, F, d) to features (B, K)."""

from itertools import combinations

import torch
from torch import nn

from ._axes import FieldAxis
from ._blocks import linear


def pair_index(n_fields, order=2):
    """All tuples of ``order`` different fields in lexicographic order; int64 (order, P)."""
    if order == 2:
        return torch.triu_indices(n_fields, n_fields, 1)
    tuples = list(combinations(range(n_fields), order))
    return torch.tensor(tuples, dtype=torch.int64).reshape(len(tuples), order).T.contiguous()


class _PairDots(torch.autograd.Function):
    """<e_i, e_j> of chosen pairs: all of e e^T, then the wanted entries; (B, F, d) -> (B, P).

    torch's own backward writes the gradient of every entry of e e^T by index, then multiplies
    twice. Here the gradients are gathered into one symmetric matrix, which takes a single product.
    """

    @staticmethod
    def forward(ctx, e, flat, symmetric):
        ctx.save_for_backward(e, symmetric)
        return torch.bmm(e, e.transpose(1, 2)).flatten(1).index_select(1, flat)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return _PairDots.gradient(grad, *ctx.saved_tensors), None, None

    @staticmethod
    def gradient(grad, e, symmetric):
        n = e.shape[1]
        padded = nn.functional.pad(grad, (0, 1))  # entries that are no pair read the zero column
        return torch.bmm(padded.index_select(1, symmetric).unflatten(1, (n, n)), e)


class _WeightedPairDots(torch.autograd.Function):
    """As `_PairDots`, of <e_i o w, e_j> with a vector w (d,)."""

    @staticmethod
    def forward(ctx, e, weight, flat, symmetric):
        ctx.save_for_backward(e, weight, symmetric)
        return torch.bmm(e * weight, e.transpose(1, 2)).flatten(1).index_select(1, flat)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        e, weight, symmetric = ctx.saved_tensors
        others = _PairDots.gradient(grad, e, symmetric)
        # Each pair is met from both of its sides.
        return others * weight, 0.5 * (others * e).sum((0, 1)), None, None


class PairDots(nn.Module):
    """Inner products <e_i, e_j> of the given pairs i < j; (B, F, d) -> (B, P).

    With a vector w (d,) they are <e_i o w, e_j>.
    """

    def __init__(self, pairs, n_fields):
        super().__init__()
        left, right = pairs
        symmetric = torch.full((n_fields, n_fields), len(left), dtype=torch.int64)
        symmetric[left, right] = symmetric[right, left] = torch.arange(len(left))
        self.register_buffer("flat", left * n_fields + right, persistent=False)
        self.register_buffer("symmetric", symmetric.flatten(), persistent=False)

    def forward(self, e, weight=None):
        if e.requires_grad and weight is not None:
            return _WeightedPairDots.apply(e, weight, self.flat, self.symmetric)
        if e.requires_grad:
            return _PairDots.apply(e, self.flat, self.symmetric)
        left = e if weight is None else e * weight
        return torch.bmm(left, e.transpose(1, 2)).flatten(1).index_select(1, self.flat)


class _PairSum(torch.autograd.Function):
    """((sum e)^2 - sum e^2) / 2 with its gradient, the sum of the other fields' vectors, in
    one node.
    """

    @staticmethod
    def forward(ctx, e):
        total = e.sum(1)
        ctx.save_for_backward(e, total)
        return _pair_sum(e, total)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        e, total = ctx.saved_tensors
        return (total.unsqueeze(1) - e).mul_(grad.unsqueeze(1))


def _pair_sum(e, total):
    return 0.5 * (total * total - (e * e).sum(1))


class BiInteraction(nn.Module):
    """Sum over pairs of e_i o e_j by ((sum e)^2 - sum e^2) / 2; (B, F, d) -> (B, d) in O(F d)."""

    def __init__(self, context):
        super().__init__()
        self.out_dim = context.embedding_dim

    def forward(self, e, inputs=None):
        return pair_sum(e)


def pair_sum(e):
    """Sum over all pairs of fields of e_i o e_j; (B, F, d) -> (B, d)."""
    return _PairSum.apply(e) if e.requires_grad else _pair_sum(e, e.sum(1))


class PairProducts(PairDots):
    """Inner products of all pairs of fields, <e_i, e_j> for i < j; (B, F, d) -> (B, P)."""

    def __init__(self, context):
        pairs = pair_index(context.n_fields)
        super().__init__(pairs, context.n_fields)
        self.out_dim = context.axis("P")

    def forward(self, e, inputs=None, weight=None):
        return super().forward(e, weight)


class VectorCross(nn.Module):
    """Cross layers with one weight vector each, x_{l+1} = x_0 (w_l . x_l) + b_l + x_l; (B, n) ->
    (B, n).
    """

    def __init__(self, n_in, n_layers, generator, members=1):
        super().__init__()
        std = (2 / (n_in + 1)) ** 0.5
        shape = (n_layers, n_in) if members == 1 else (members, n_layers, n_in)
        self.weight = nn.Parameter(torch.empty(shape).normal_(0, std, generator=generator))
        self.bias = nn.Parameter(torch.zeros(shape))
        if isinstance(n_in, FieldAxis):
            self.field_axes = {"weight": {-1: n_in}, "bias": {-1: n_in}}

    def forward(self, x0):
        if self.weight.ndim == 3:
            return self._of_members(x0)
        x = x0
        for w, b in zip(self.weight, self.bias, strict=True):
            x = torch.addcmul(x + b, x0, (x @ w).unsqueeze(1))
        return x

    def _of_members(self, x0):
        x = x0 = x0.unflatten(0, (len(self.weight), -1))
        for w, b in zip(self.weight.unbind(1), self.bias.unbind(1), strict=True):
            # Row by row, whatever the number of rows.
            weighed = (x * w.unsqueeze(1)).sum(-1, keepdim=True)
            x = torch.addcmul(x + b.unsqueeze(1), x0, weighed)
        return x.flatten(0, 1)


class MatrixCross(nn.Module):
    """Cross layers with a matrix each, x_{l+1} = x_0 o (W_l x_l + b_l) + x_l; (B, n) -> (B, n).

    With ``rank`` r, W_l = U_l V_l^T with U, V of shape (n, r).
    """

    def __init__(self, n_in, n_layers, generator, rank=None, members=1):
        super().__init__()

        def layer():
            if rank is None:
                return linear(n_in, n_in, generator, members=members)
            down = linear(n_in, rank, generator, bias=False, members=members)
            return nn.Sequential(down, linear(rank, n_in, generator, members=members))

        self.layers = nn.ModuleList(layer() for _ in range(n_layers))

    def forward(self, x0):
        x = x0
        for layer in self.layers:
            x = torch.addcmul(x, x0, layer(x))
        return x


class FieldAttention(nn.Module):
    """One layer of multi-head self-attention over fields, ReLU(heads + W_res e); (B, F, d) -> (B,
    F, heads * width).

    The scores are not divided by the root of the width, as in the original AutoInt.
    """

    def __init__(self, n_in, n_heads, width, generator, residual=True, members=1):
        super().__init__()
        self.n_heads = n_heads
        options = {"bias": False, "members": members}
        self.project = linear(n_in, 3 * n_heads * width, generator, **options)
        self.residual = linear(n_in, n_heads * width, generator, **options) if residual else None

    def forward(self, e):
        query, key, value = (
            self.project(e).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, H, F, width)
        out = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        out = out.transpose(1, 2).flatten(2)
        return torch.relu(out if self.residual is None else out + self.residual(e))


class WeightedPairs(nn.Module):
    """Inner products of all pairs, each times a learned weight r_ij that starts at 1; (B, F, d) ->
    (B, P).
    """

    def __init__(self, context):
        super().__init__()
        self.products = PairProducts(context)
        self.members = context.members
        self.weight = nn.Parameter(
            torch.ones(*([self.members] * (self.members > 1)), self.products.out_dim)
        )
        self.out_dim = self.products.out_dim
        self.field_axes = {"weight": {-1: self.out_dim}}

    def forward(self, e, inputs=None):
        products = self.products(e)
        if self.members == 1:
            return products * self.weight
        return (products.unflatten(0, (self.members, -1)) * self.weight.unsqueeze(1)).flatten(0, 1)
