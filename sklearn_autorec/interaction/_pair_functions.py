"""Functions of the two embeddings of chosen pairs, added up by learned weights."""

import torch
from torch import nn

from ..nn import FieldEmbedding, PairOperator

# Heads of products begin as sums: as those of a factorization machine. All others begin with
# alternating signs, since max(l, r) alone can only be convex.
SUMMED = ("inner", "hadamard", "kernel")


class MicroFunctions(nn.Module):
    r"""An elementwise function for each field; (B, F, d) -> (B, F, d).

    .. math:: g_i(x) = x + \sum_{h=1}^H v_{ih} \tanh(u_{ih} x + b_{ih})

    It begins as the identity.

    Parameters
    ----------
    n_hidden : int
        H.
    context : BuildContext
    """

    def __init__(self, n_hidden, context):
        super().__init__()
        n, generator = context.axis("F"), context.generator
        self.slope = nn.Parameter(torch.randn(n, 1, n_hidden, generator=generator))
        self.shift = nn.Parameter(torch.randn(n, 1, n_hidden, generator=generator))
        self.weight = nn.Parameter(torch.zeros(n, 1, n_hidden))
        self.field_axes = {name: {0: n} for name in ("slope", "shift", "weight")}

    def forward(self, e):
        hidden = torch.tanh(e.unsqueeze(-1) * self.slope + self.shift)
        return e + (hidden * self.weight).sum(-1)


class PairFunctions(nn.Module):
    """One number for each chosen pair: the weighted sum of a function of its two embeddings;
    (B, F, d), inputs -> (B, K).

    Pairs of a function are computed together and stand together. The first function reads the
    embeddings of the network, each further one has a table of its own; all see them through micro
    functions of their own.

    Parameters
    ----------
    pairs_of : dict of str to list of (int, int)
        Pairs by the name of their function, one of `sklearn_autorec.nn.OPERATORS`.
    context : BuildContext
    n_hidden : int
        Of the micro functions; 0 is without them.
    n_pairs : FieldAxis or None, default=None
        The number of pairs of every function, where all have all.
    """

    def __init__(self, pairs_of, context, n_hidden, n_pairs=None):
        super().__init__()
        self.names, self.pairs = [*pairs_of], [tuple(p) for own in pairs_of.values() for p in own]
        self.operators, self.micro, self.tables = (nn.ModuleDict() for _ in range(3))
        self.out_dim, self.field_axes = len(self.pairs), {}
        for k, (name, own) in enumerate(pairs_of.items()):
            n = len(own) if n_pairs is None else n_pairs
            index = torch.tensor(own, dtype=torch.int64).T.contiguous()
            self.register_buffer(f"pairs_{name}", index, persistent=False)
            operator = PairOperator(name, n, context.embedding_dim, context.generator)
            self.operators[name] = operator
            if n_hidden:
                self.micro[name] = MicroFunctions(n_hidden, context)
            if k:
                self.tables[name] = FieldEmbedding(context)
            head = torch.ones(n, operator.width)
            if name not in SUMMED:
                head[:, 1::2] = -1
            self.register_parameter(f"head_{name}", nn.Parameter(head))
            self.field_axes[f"head_{name}"] = {0: n}

    def interactions(self):
        """The pairs; each has a function of several numbers, and no one weight."""
        return [(pair, None) for pair in sorted(self.pairs)]

    def forward(self, e, inputs):
        if not self.out_dim:
            return e.new_zeros(e.shape[0], 0)
        features = []
        for name in self.names:
            x = self.seen(name, e, inputs)
            left, right = (x.index_select(1, fields) for fields in getattr(self, f"pairs_{name}"))
            head = getattr(self, f"head_{name}")
            features.append((self.operators[name](left, right) * head).sum(-1))
        return torch.cat(features, 1)

    def seen(self, name, e, inputs):
        """Embeddings as a function sees them, (B, F, d)."""
        x = self.tables[name](inputs) if name in self.tables else e
        return self.micro[name](x) if name in self.micro else x

    def of_choice(self, e, inputs, which):
        """Where all functions have all pairs, the numbers of one function a pair; (B, P), or None
        where that cannot be had without the others.

        Parameters
        ----------
        which : int64 Tensor (P,)
            Number of the function of each pair.
        """
        own = [(which == k).nonzero().flatten() for k in range(len(self.names))]
        weighted = any(operator.module is not None for operator in self.operators.values())
        # Weights that take no part in a step would not move, but by their momentum they do.
        if weighted or not all(map(len, own)):
            return None
        features = []
        for name, pairs in zip(self.names, own, strict=True):
            x = self.seen(name, e, inputs)
            fields = getattr(self, f"pairs_{name}").index_select(1, pairs)
            left, right = (x.index_select(1, f) for f in fields)
            head = getattr(self, f"head_{name}").index_select(0, pairs)
            features.append((self.operators[name](left, right) * head).sum(-1))
        return torch.cat(features, 1).index_select(1, torch.cat(own).argsort())
