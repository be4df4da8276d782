"""PROFIT: interactions of every order as a tensor of low rank, searched order by order."""

from numbers import Integral, Real

import numpy as np
import torch
from scipy.stats import norm
from torch import nn

from ..base import SearchMethod
from ..engine import ArchSchedule
from ..nn import FieldEmbedding, Inputs
from ..utils._sklearn import Interval, StrOptions
from ._evidence import fading_evidence
from ._factors import scored_tuples, symmetric_polynomials
from ._products import KeptProducts, check_tuples

CHANCE = 0.01  # probability that an order passes on labels of noise
JUDGED_SHARE = 0.2  # of the training rows; they decide whether an order helps


class DecomposedTensors(nn.Module):
    """Weighted sums of the products of all tuples of 2, 3, ... fields; (B, F, d), inputs ->
    (B, n d), d numbers for each order reached so far.

    Orders above two have an embedding table of their own each.
    """

    def __init__(self, context, max_order, rank, arch_lr, search_fraction):
        super().__init__()
        d, generator = context.embedding_dim, context.generator
        self.max_order, self.order, self.d = max_order, 2, d
        self.arch_lr = arch_lr
        self.arch_schedule = ArchSchedule("first_order", fraction=search_fraction)
        self.judged_share = JUDGED_SHARE
        self.tables = nn.ModuleDict(
            {str(order): FieldEmbedding(context) for order in range(3, max_order + 1)}
        )
        self.field_axes = {}
        for order in range(2, max_order + 1):
            factors = torch.empty(rank, context.n_fields).uniform_(0.2, 0.5, generator=generator)
            self.register_parameter(f"factors_{order}", nn.Parameter(factors))
            self.register_parameter(f"signs_{order}", nn.Parameter(torch.ones(rank)))
            self.field_axes[f"factors_{order}"] = {-1: context.axis("F")}
        self.out_dim = (max_order - 1) * d
        self.sizes, self.evidence = {}, {}

    def vectors(self, order, e, inputs):
        """The embeddings that an order multiplies, (B, F, d)."""
        return e if order == 2 else self.tables[str(order)](inputs)

    def tensor(self, order):
        """Factors (R, F) and weights of the ranks (R,) of one order."""
        return getattr(self, f"factors_{order}"), getattr(self, f"signs_{order}")

    def forward(self, e, inputs):
        parts = []
        for order in range(2, self.order + 1):
            factors, signs = self.tensor(order)
            sums = symmetric_polynomials(factors, self.vectors(order, e, inputs), order)
            parts.append((sums * signs.unsqueeze(1)).sum(1))
        missing = self.out_dim - len(parts) * self.d
        return nn.functional.pad(torch.cat(parts, 1), (0, missing))
