"""What the pair and triple searches share: candidate products, and the concrete module of the kept
ones.
"""

import math
import warnings
from itertools import pairwise

import torch
from torch import nn

from ..nn import (
    FieldAxis,
    FieldEmbedding,
    PairDots,
    PairProducts,
    member_batch_norm,
    pair_index,
    row_batch_norm,
)

SMALL_PRODUCT = 170  # numbers that are gathered, multiplied and summed in the time of E E^T


class ScoredTuples:
    """Mixin of search methods whose architecture has "candidates", tuples of fields, and "scores",
    one of each; it stands before `SearchMethod`.
    """

    def interaction_scores(self, architecture, context):
        if "candidates" not in architecture:  # an architecture may be known without them
            return None
        candidates, scores = architecture["candidates"], architecture.get("scores", [])
        return {tuple(t): score for t, score in zip(candidates, scores, strict=True)}


def check_pairs_exist(method, context):
    """Refuse a table of a single field; ``method`` is the name that the message begins with."""
    if context.n_fields < 2:
        raise ValueError(
            f"{method} needs at least 2 fields, the table has {context.n_fields}: "
            f"{context.field_names}."
        )


def check_tuples(architecture, context, max_order=3):
    """Refuse an architecture whose tuples are not two to ``max_order`` rising fields, or whose
    scores are not numbers.
    """
    lists = [
        architecture.get("interactions"),
        architecture.get("candidates", []),
        architecture.get("scores", []),
    ]
    if not all(isinstance(found, list) for found in lists):
        raise ValueError(
            f"architecture must have lists of interactions, candidates and scores, got "
            f"{architecture!r:.200}."
        )
    for t in (*lists[0], *lists[1]):
        if (
            not isinstance(t, list | tuple)
            or not 2 <= len(t) <= max_order
            or not all(type(i) is int for i in t)
        ):
            allowed = {2: "two", 3: "two or three"}.get(max_order, f"2 to {max_order}")
            raise ValueError(f"an interaction must be {allowed} ints, got {t!r:.100}.")
        if not (t[0] >= 0 and t[-1] < context.n_fields and all(i < j for i, j in pairwise(t))):
            raise ValueError(
                f"an interaction must be of rising fields below {context.n_fields}, got {t!r}."
            )
    if len(lists[1]) != len(lists[2]) or not all(
        isinstance(s, float) and math.isfinite(s) for s in lists[2]
    ):
        raise ValueError(f"scores must be {len(lists[1])} finite floats, got {lists[2]!r:.100}.")


def warn_of_nothing(method, n_candidates, advice):
    """Say that a search has kept no interaction though it could not show that none helps."""
    warnings.warn(
        f"{type(method).__name__} has kept none of {n_candidates} candidates: the network has no "
        f"interactions in that slot; {advice}.",
        UserWarning,
        stacklevel=2,
    )


class ProductNorm(nn.Module):
    """Batch norm without scale and shift of its own, times a weight per product; (B, K), (K,) ->
    (B, K).

    Of M members: (M * B, K), (M, K) -> (M * B, K), each with its own statistics.

    Gates are comparable only between products of one scale. The averages move by 0.1 a step, not by
    0.01 as in the reference code: short trainings would otherwise predict with the initial
    statistics."""

    def __init__(self, n_products, members=1):
        super().__init__()
        shape = (n_products,) if members == 1 else (members, n_products)
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        if isinstance(n_products, FieldAxis):
            self.field_axes = {name: {-1: n_products} for name in ("running_mean", "running_var")}

    def forward(self, products, weight):
        # The weight takes the place of batch norm's own scale: one pass over the products instead
        # of two.
        norm = row_batch_norm if weight.ndim == 1 else member_batch_norm
        return norm(
            products,
            self.running_mean,
            self.running_var,
            weight,
            None,
            self.training,
            momentum=0.1,
            eps=1e-3,
        )


class TripleProducts(nn.Module):
    """sum_f e_i e_j e_k for all i < j < k, over an embedding table of its own; inputs -> (B, T).

    The products of all pairs meet all fields in one batched product, from which the T =
    F(F-1)(F-2)/6 ordered triples are read."""

    def __init__(self, context):
        super().__init__()
        n = context.n_fields
        self.embedding = FieldEmbedding(context)
        left, right = pair_index(n)
        i, j, k = pair_index(n, 3)
        pair_number = torch.full((n, n), -1)
        pair_number[left, right] = torch.arange(len(left))
        for name, index in (("left", left), ("right", right), ("flat", pair_number[i, j] * n + k)):
            self.register_buffer(name, index, persistent=False)
        self.out_dim = context.axis("P3")

    def forward(self, e, inputs):
        e = self.embedding(inputs)
        pairs = e.index_select(1, self.left) * e.index_select(1, self.right)
        return torch.bmm(pairs, e.transpose(1, 2)).flatten(1).index_select(1, self.flat)


class KeptProducts(nn.Module):
    """Products of chosen tuples, batch-normalised and weighted; (B, F, d), inputs -> (B, K).

    Parameters
    ----------
    tuples : list of tuple of int
        Two fields or more each; those of three and more use an embedding table of their own.
    context : BuildContext
    weight : float
        Initial weight of every product.

    Notes
    -----
    The products stand in the order of their lengths, those of one length in the given order.
    """

    def __init__(self, tuples, context, weight=0.6):
        super().__init__()
        self.tuples, n = [tuple(t) for t in tuples], context.n_fields
        by_order = {
            order: torch.tensor([t for t in tuples if len(t) == order], dtype=torch.int64).T
            for order in sorted({len(t) for t in tuples})
        }
        pairs = by_order.pop(2, torch.zeros(2, 0, dtype=torch.int64))
        # All F^2 products in one go are cheaper than gathering 2 K vectors, unless few pairs of
        # many are kept. However small, a product of matrices takes as long as some dozens of pairs.
        gram = pairs.shape[1] * context.embedding_dim > SMALL_PRODUCT + n * n / 3
        self.dots = PairDots(pairs, n) if gram else None
        self.register_buffer("pairs", pairs.contiguous(), persistent=False)
        for order, fields in by_order.items():
            self.register_buffer(f"tuples_{order}", fields.contiguous(), persistent=False)
        self.orders, self.n_pairs = [*by_order], pairs.shape[1]
        self.embedding = FieldEmbedding(context) if self.orders else None
        self.out_dim = len(tuples)
        self.norm = ProductNorm(self.out_dim, context.members)
        shape = (self.out_dim,) if context.members == 1 else (context.members, self.out_dim)
        self.weight = nn.Parameter(torch.full(shape, float(weight)))

    def interactions(self):
        """The products and their weights, the means of several members: list of pairs."""
        weight = self.weight.detach().cpu()
        weight = weight if weight.ndim == 1 else weight.mean(0)
        # They stand in the order of their lengths.
        order = sorted(range(self.out_dim), key=lambda k: len(self.tuples[k]))
        by_tuple = {self.tuples[k]: float(w) for k, w in zip(order, weight, strict=True)}
        return [(t, by_tuple[t]) for t in self.tuples]

    def forward(self, e, inputs):
        if not self.out_dim:
            return e.new_zeros(e.shape[0], 0)  # len() would fix the batch size in an exported graph
        products = []
        if self.dots is not None:
            products.append(self.dots(e))
        elif self.n_pairs:
            products.append(
                (e.index_select(1, self.pairs[0]) * e.index_select(1, self.pairs[1])).sum(-1)
            )
        if self.orders:
            own = self.embedding(inputs)
        for order in self.orders:
            fields = getattr(self, f"tuples_{order}")
            products.append(math.prod(own.index_select(1, f) for f in fields).sum(-1))
        return self.norm(products[0] if len(products) == 1 else torch.cat(products, 1), self.weight)


class CandidateProducts(nn.Module):
    """All products of the given orders side by side, batch-normalised, times gates (P,); ->
    (B, P).
    """

    def __init__(self, orders, context):
        super().__init__()
        kinds = {2: PairProducts, 3: TripleProducts}
        self.products = nn.ModuleList(kinds[order](context) for order in orders)
        self.tuples = [
            tuple(t) for order in orders for t in pair_index(context.n_fields, order).T.tolist()
        ]
        self.out_dim = sum(products.out_dim for products in self.products)
        self.norm = ProductNorm(self.out_dim)

    def forward(self, e, inputs, gate):
        products = [products(e, inputs) for products in self.products]
        return self.norm(products[0] if len(products) == 1 else torch.cat(products, 1), gate)
