"""AutoGroup: interactions of all orders in groups of fields that are learned."""

from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..engine import ArchSchedule
from ..nn import FieldEmbedding, logistic_noise, straight_through
from ..nn._relaxed import own_generator
from ..utils._sklearn import Interval, StrOptions
from ._evidence import mean_slopes
from ._field_operations import FieldNorm
from ._products import check_tuples
from ._factors import scored_tuples, symmetric_polynomials

FIRST_SIZE = 0.3  # of the logits of an order at the start
JUDGED_SHARE = 0.2


class GroupProducts(nn.Module):
    def __init__(self, context, n_groups, kernel):
        super().__init__()
        self.orders, self.kernel = [*n_groups], kernel
        self.tables = nn.ModuleDict({str(p): FieldEmbedding(context) for p in n_groups if p > 2})
        self.norms = nn.ModuleDict({str(p): FieldNorm(context) for p in n_groups})
        self.out_dim = sum(n_groups.values())
        n, d = context.n_fields, context.embedding_dim
        import math
        for p, k in n_groups.items():
            w = torch.empty(k, n).uniform_(0.5, 1.5, generator=context.generator)
            w *= (FIRST_SIZE / (k * (math.comb(n, p) * d) ** 0.5)) ** (1 / p)
            self.register_parameter(f"weight_{p}", nn.Parameter(w))

    def chosen(self, p):
        raise NotImplementedError

    def forward(self, e, inputs):
        feats = []
        for p in self.orders:
            w = getattr(self, f"weight_{p}") * self.chosen(p)
            v = self.norms[str(p)](e if p == 2 else self.tables[str(p)](inputs))
            feats.append(symmetric_polynomials(w, v, p).sum(2))
        return torch.cat(feats, 1)


class SearchedGroups(GroupProducts):
    judged_share = JUDGED_SHARE

    def __init__(self, context, n_groups, kernel, schedule, arch_lr, tau, price):
        super().__init__(context, n_groups, kernel)
        self.arch_schedule, self.arch_lr, self.tau, self.price = schedule, arch_lr, tau, price
        for p, k in n_groups.items():
            a = torch.empty(k, context.n_fields).uniform_(-1e-3, 1e-3, generator=context.generator)
            self.register_parameter(f"logits_{p}", nn.Parameter(a))
        self.generator = own_generator(context.generator)
        self.passes, self.slopes, self.noise = 0, None, {}

    def arch_parameters(self):
        return [getattr(self, f"logits_{p}") for p in self.orders]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam(self.arch_parameters(), lr=self.arch_lr)

    def set_progress(self, t):
        self.passes = 0
        self.noise = {p: logistic_noise(getattr(self, f"logits_{p}").shape, self.generator) for p in self.orders}

    def forward(self, e, inputs):
        out = super().forward(e, inputs)
        self.passes += self.training
        return out

    def chosen(self, p):
        a = getattr(self, f"logits_{p}")
        if self.training and self.passes == 1:
            a = a + self.noise[p]
        return straight_through((a >= 0).to(a.dtype), torch.sigmoid(a / self.tau))

    def penalty(self):
        return self.price * sum(torch.sigmoid(a / self.tau).mean() for a in self.arch_parameters())

    def judge(self, network, loss, data):
        self.slopes = mean_slopes(self, network, data)

    @torch.no_grad()
    def scores(self, p):
        start = sum(len(getattr(self, f"weight_{q}")) for q in self.orders if q < p)
        w = (getattr(self, f"weight_{p}") * (getattr(self, f"logits_{p}") >= 0)).double().numpy()
        h = self.slopes[start:start + len(w)].numpy()
        return scored_tuples(p, w, h)

    def summary(self):
        return {f"in_{p}": float((getattr(self, f"logits_{p}") >= 0).float().mean()) for p in self.orders}


class AutoGroup(SearchMethod):
    def __init__(self, max_order=2, n_groups=16, arch_lr=0.02, tau=0.5, price=0.01, search_fraction=0.2):
        self.max_order, self.n_groups, self.arch_lr, self.tau, self.price, self.search_fraction = max_order, n_groups, arch_lr, tau, price, search_fraction

    def build(self, context):
        f = self.search_fraction
        sch = ArchSchedule(rows="same") if f is None else ArchSchedule("first_order", fraction=f)
        return SearchedGroups(context, {p: self.n_groups for p in range(2, self.max_order + 1)}, "esp", sch, self.arch_lr, self.tau, self.price)

    def derive(self, m, context):
        found = {"interactions": [], "candidates": [], "scores": []}
        for p in m.orders:
            t, s = m.scores(p)
            found["candidates"] += t.tolist(); found["scores"] += s.tolist()
            found["interactions"] += t[s > 0].tolist()
        return found
    def check(self, a, c): pass
    def realise(self, architecture, context):
        from ._products import KeptProducts
        return KeptProducts(architecture["interactions"], context)
