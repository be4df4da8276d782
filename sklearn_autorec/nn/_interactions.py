"""Interaction slot: combinations of field embeddings (B, F, d) to features (B, K)."""

from itertools import combinations

import torch
from torch import nn


def pair_index(n_fields, order=2):
    """All tuples of ``order`` different fields in lexicographic order; int64 (order, P)."""
    tuples = list(combinations(range(n_fields), order))
    return torch.tensor(tuples, dtype=torch.int64).reshape(len(tuples), order).T.contiguous()


class BiInteraction(nn.Module):
    """Sum over pairs of e_i o e_j by ((sum e)^2 - sum e^2) / 2; (B, F, d) -> (B, d) in O(F d)."""

    def __init__(self, context):
        super().__init__()
        self.out_dim = context.embedding_dim

    def forward(self, e, inputs=None):
        total = e.sum(1)
        return 0.5 * (total * total - (e * e).sum(1))


class PairProducts(nn.Module):
    """Inner products of all pairs of fields, <e_i, e_j> for i < j; (B, F, d) -> (B, P).

    The whole Gram matrix is one batched product: cheaper than gathering 2 P vectors a row.
    """

    def __init__(self, context):
        super().__init__()
        n = context.n_fields
        left, right = pair_index(n)
        self.register_buffer("flat", left * n + right, persistent=False)
        self.out_dim = len(left)

    def forward(self, e, inputs=None):
        return torch.bmm(e, e.transpose(1, 2)).flatten(1).index_select(1, self.flat)
