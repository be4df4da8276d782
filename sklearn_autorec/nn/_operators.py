"""Functions of two embeddings, by name: what searches for interaction functions choose from.

Each maps the left and the right embeddings of n pairs, two of (B, n, d), to (B, n, width).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ._separate import SeparateLinear


class Kernel(nn.Module):
    """l^T K r with a matrix K for each pair, which starts as the identity; width 1."""

    def __init__(self, n_pairs, d, generator):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(d).repeat(n_pairs, 1, 1))
        self.field_axes = {"weight": {0: n_pairs}}

    def forward(self, left, right):
        mapped = torch.einsum("bnd,nde->bne", left, self.weight)
        return (mapped * right).sum(-1, keepdim=True)


class Cross(nn.Module):
    """l o (W r + b) + l, a cross layer of DCN-V2 between the two; width d."""

    def __init__(self, n_pairs, d, generator):
        super().__init__()
        self.layer = SeparateLinear(n_pairs, d, d, generator)

    def forward(self, left, right):
        return left * self.layer(right) + left


class Gated(nn.Module):
    """g o l + (1 - g) o r with g = sigmoid(W [l; r] + b); width d."""

    def __init__(self, n_pairs, d, generator):
        super().__init__()
        self.layer = SeparateLinear(n_pairs, 2 * d, d, generator)

    def forward(self, left, right):
        gate = torch.sigmoid(self.layer(torch.cat([left, right], -1)))
        return gate * left + (1 - gate) * right


class Attention(nn.Module):
    """a_l l + a_r r with (a_l, a_r) = softmax of v^T tanh(W x + b) of both; width d."""

    def __init__(self, n_pairs, d, generator):
        super().__init__()
        self.layer = SeparateLinear(n_pairs, d, d, generator)
        self.score = SeparateLinear(n_pairs, d, 1, generator, bias=False)

    def forward(self, left, right):
        scores = [self.score(torch.tanh(self.layer(x))) for x in (left, right)]
        # Of two logits the softmax is the logistic function of their difference.
        share = torch.sigmoid(scores[0] - scores[1])
        return share * left + (1 - share) * right


def inner(left, right):
    return (left * right).sum(-1, keepdim=True)


def hadamard(left, right):
    return left * right


def outer(left, right):
    return (left.unsqueeze(-1) * right.unsqueeze(-2)).flatten(-2)


def plus(left, right):
    return left + right


def difference(left, right):
    return left - right


def distance(left, right):
    return (left - right).abs()


def concat(left, right):
    return torch.cat([left, right], -1)


@dataclass(frozen=True)
class Operator:
    """A function of two embeddings, or a class of modules that compute one.

    Attributes
    ----------
    made_of : callable
        Of (left, right); or a class of modules, made by (n_pairs, d, generator).
    width : callable
        Its output width, by the width d of the embeddings.
    """

    made_of: Callable
    width: Callable = lambda d: d


# A further one needs a function or a class above and a line here.
OPERATORS = {
    "inner": Operator(inner, lambda d: 1),
    "hadamard": Operator(hadamard),
    "outer": Operator(outer, lambda d: d * d),
    "kernel": Operator(Kernel, lambda d: 1),
    "cross": Operator(Cross),
    "max": Operator(torch.maximum),
    "min": Operator(torch.minimum),
    "plus": Operator(plus),
    "difference": Operator(difference),
    "distance": Operator(distance),
    "concat": Operator(concat, lambda d: 2 * d),
    "gated": Operator(Gated),
    "attention": Operator(Attention),
}


class PairOperator(nn.Module):
    """An operator of ``OPERATORS`` for n pairs; (B, n, d), (B, n, d) -> (B, n, width).

    Parameters
    ----------
    name : str
    n_pairs : int
        How many pairs; a `FieldAxis` where weights are to be carried to fewer fields.
    d : int
        Width of an embedding.
    generator : torch.Generator
        Of the initial weights, where the operator has any.

    Attributes
    ----------
    width : int

    Raises
    ------
    ValueError
        If there is no operator of that name.
    """

    def __init__(self, name, n_pairs, d, generator):
        super().__init__()
        if name not in OPERATORS:
            raise ValueError(f"an operator must be one of {tuple(OPERATORS)}, got {name!r}.")
        operator = OPERATORS[name]
        self.name, self.width = name, operator.width(d)
        made_of = operator.made_of
        self.module = made_of(n_pairs, d, generator) if isinstance(made_of, type) else None

    def forward(self, left, right):
        if self.module is not None:
            return self.module(left, right)
        return OPERATORS[self.name].made_of(left, right)

    def extra_repr(self):
        return self.name
