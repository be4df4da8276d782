"""The companions of a network as a torch module, for graphs: encoded rows to the mean of all
outputs.
"""

import math

import torch
from torch import nn

from .._ensemble._companions import NETWORK, STATISTICS, WIDE
from ..feature_crossing._combinations import RADIX_LIMIT
from ..linear_model._terms import CategoricalTerm, CrossTerm, NumericTerm, SequenceTerm


def _codes(values, missing, edges, first):
    """Bins of numbers (B,) between inner edges, from ``first`` on; 0 where missing."""
    bins = (values.unsqueeze(1).to(edges.dtype) >= edges).sum(1) + first
    return torch.where(missing > 0, torch.zeros_like(bins), bins)


class _Places(nn.Module):
    """Places of combinations in sorted tables, 0 where unseen: (B, K) keys -> (B, K), by one binary
    search for all tables.
    """

    def __init__(self, tables):
        super().__init__()
        lengths = [len(table) for table in tables]
        starts = torch.tensor([0, *lengths]).cumsum(0)[:-1]
        values = torch.cat([torch.tensor(table.astype("int64")) for table in tables])
        self.register_buffer(
            "values", values if len(values) else torch.full((1,), -1, dtype=torch.int64)
        )
        self.register_buffer("starts", starts)
        self.register_buffer("lengths", torch.tensor(lengths))
        self.n_steps = max(max(lengths, default=1), 1).bit_length()

    def forward(self, keys):
        low = torch.zeros_like(keys)
        high = self.lengths.expand_as(keys)
        last = len(self.values) - 1
        for _ in range(self.n_steps):  # the first place whose value is not below the key
            middle = torch.div(low + high, 2, rounding_mode="floor")
            below = self.values[(self.starts + middle).clamp(max=last)] < keys
            searching = low < high
            low = torch.where(searching & below, middle + 1, low)
            high = torch.where(searching & ~below, middle, high)
        there = (low < self.lengths) & (self.values[(self.starts + low).clamp(max=last)] == keys)
        return torch.where(there, low + 1, torch.zeros_like(low))


class _Keys(nn.Module):
    """Combinations as whole numbers: codes of each part, (B, n_parts), to (B, K) in mixed radix."""

    def __init__(self, keys, sizes):
        super().__init__()
        for key, own in zip(keys, sizes, strict=True):
            if math.prod(own) > RADIX_LIMIT:
                raise ValueError(
                    f"The combinations of the fields {key} are hashed, which an ONNX graph cannot "
                    f"do; leave out the part with "
                    "wide=None or target_statistics=False."
                )
        order = max(map(len, keys), default=1)
        columns = torch.zeros(len(keys), order, dtype=torch.int64)
        factors = torch.zeros(len(keys), order, dtype=torch.int64)
        for j, (key, own) in enumerate(zip(keys, sizes, strict=True)):
            factor = 1
            for at in reversed(range(len(key))):
                columns[j, at], factors[j, at] = key[at], factor
                factor *= int(own[at])
        self.register_buffer("columns", columns)
        self.register_buffer("factors", factors)

    def forward(self, codes):
        return (codes[:, self.columns] * self.factors).sum(2)


class _Linear(nn.Module):
    """A `CrossedLinear` of one output."""

    def __init__(self, model):
        super().__init__()
        self.register_buffer("weights", torch.tensor(model.weights[0]))
        self.bias, self.steps, self.crosses = float(model.bias[0]), [], []
        terms = model.terms.terms
        parts, keys, sizes, tables = [], [], [], []  # of crosses: their parts are columns of codes
        for j, (term, start) in enumerate(zip(terms, model.terms.offsets.tolist(), strict=False)):
            if isinstance(term, CrossTerm):
                keys.append(tuple(range(len(parts), len(parts) + len(term.parts))))
                sizes.append(term.sizes)
                tables.append(term.keys)
                parts += term.parts
                self.crosses.append(start)
            else:
                self.steps.append((self._kept(term, f"term_{j}"), term, start))
        self.parts = [(self._kept(part, f"part_{j}"), part) for j, part in enumerate(parts)]
        if keys:
            self.keys, self.places = _Keys(keys, sizes), _Places(tables)
            self.register_buffer("cross_starts", torch.tensor(self.crosses))

    def _kept(self, term, name):
        """Register the edges of a numeric term; their name."""
        if isinstance(term, NumericTerm):
            self.register_buffer(name, torch.tensor(term.edges, dtype=torch.float64))
        return name

    def _ids(self, name, term, ids, numeric):
        if isinstance(term, CategoricalTerm):
            return ids[:, term.field].long()
        return _codes(
            numeric[:, term.field], numeric[:, term.n_fields + term.field], getattr(self, name), 2
        )

    def forward(self, ids, numeric, sequences):
        total = torch.full((ids.shape[0],), self.bias, dtype=torch.float64, device=ids.device)
        for name, term, start in self.steps:
            if isinstance(term, SequenceTerm):
                items = sequences[:, term.places].long()
                place = torch.where(items > 0, items + start, torch.zeros_like(items))
                first = (
                    torch.where(items[:, :1] > 0, items[:, :1], torch.zeros_like(items[:, :1]))
                    + start
                )
                total = total + self.weights[torch.cat([first, place[:, 1:]], 1)].sum(1)
            else:
                total = total + self.weights[self._ids(name, term, ids, numeric) + start]
        if self.crosses:
            codes = torch.stack(
                [self._ids(name, part, ids, numeric) for name, part in self.parts], 1
            )
            total = total + self.weights[self.places(self.keys(codes)) + self.cross_starts].sum(1)
        return total


class _Trees(nn.Module):
    """The mean of several `TreeSum`: (B, F) features, NaN where missing, to (B,)."""

    def __init__(self, sums):
        super().__init__()
        self.start = sum(trees.start for trees in sums) / len(sums)
        self.depth = max((trees.depth for trees in sums), default=0)
        offsets = [0]
        for trees in sums:
            offsets.append(offsets[-1] + len(trees.feature))
        for name in ("roots", "left", "right"):
            shifted = [
                getattr(trees, name).astype("int64") + start
                for trees, start in zip(sums, offsets, strict=False)
            ]
            self.register_buffer(name, torch.cat([torch.tensor(part) for part in shifted]))
        for name in ("feature", "threshold", "missing_left", "value"):
            self.register_buffer(
                name, torch.cat([torch.tensor(getattr(trees, name)) for trees in sums])
            )
        self.feature, self.value = self.feature.long(), self.value / len(sums)

    def forward(self, features):
        features = features.double()
        at = self.roots.expand(features.shape[0], -1)
        for _ in range(self.depth):
            x = features.gather(1, self.feature[at])
            missing = torch.isnan(x)
            # NaN is below nothing.
            go_left = (missing & self.missing_left[at]) | (x <= self.threshold[at])
            at = torch.where(go_left, self.left[at], self.right[at])
        return self.start + self.value[at].sum(1)


class _Boosted(nn.Module):
    """A `StatisticsBoosting`."""

    def __init__(self, model):
        super().__init__()
        statistics = model.statistics
        self.n_edges = len(model.codes.edges)
        for j, edges in enumerate(model.codes.edges):
            self.register_buffer(f"edges_{j}", torch.tensor(edges))
        sizes = [[statistics.sizes[i] for i in key] for key in statistics.keys]
        self.keys, self.places = _Keys(statistics.keys, sizes), _Places(statistics.combinations)
        prior = torch.tensor([statistics.prior[0]], dtype=torch.float32)
        means, counts, starts, start = [], [], [], 0
        for mean, count in zip(statistics.means, statistics.counts, strict=True):
            means += [prior, torch.tensor(mean[:, 0])]
            counts += [torch.zeros(1), torch.tensor(count, dtype=torch.float64).log1p().float()]
            starts.append(start)
            start += 1 + len(count)
        self.register_buffer("means", torch.cat(means) if means else prior)
        self.register_buffer("log_counts", torch.cat(counts) if counts else torch.zeros(1))
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.int64))
        self.trees = _Trees(model.trees)

    def forward(self, ids, numeric, sequences):
        m = self.n_edges
        values, missing = numeric[:, :m], numeric[:, m : 2 * m]  # without vectors behind them
        numbers = torch.where(missing > 0, torch.full_like(values, math.nan), values)
        columns = [ids[:, j].long() for j in range(ids.shape[1])]
        columns += [
            _codes(numeric[:, j], numeric[:, m + j], getattr(self, f"edges_{j}"), 2)
            for j in range(m)
        ]
        features = [numbers]
        if len(self.starts):
            at = self.places(self.keys(torch.stack(columns, 1))) + self.starts
            features += [self.means[at], self.log_counts[at]]
        return self.trees(torch.cat(features, 1))


class MixtureModule(nn.Module):
    """Output of the network (B, 1) and the encoded rows to the weighted mean of all parts, float32
    (B, 1).
    """

    def __init__(self, mixture):
        super().__init__()
        make = {WIDE: _Linear, STATISTICS: _Boosted}
        self.parts = nn.ModuleDict(
            {name: make[name](model) for name, model in mixture.models.items()}
        )
        self.weights = mixture.weights

    def forward(self, logits, ids, numeric, sequences):
        total = self.weights[NETWORK] * logits[:, 0].double()
        for name, part in self.parts.items():
            total = total + self.weights[name] * part(ids, numeric, sequences)
        return total.float().unsqueeze(1)
