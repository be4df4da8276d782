"""What every search for embedding sizes must beat at the same number of bytes."""

from numbers import Integral, Real

import torch

from ..base import SearchMethod
from ..base._constraints import BUDGET
from ..nn import FieldEmbedding, MixedEmbedding, mask_to_text
from ..nn._statistics import read_in_all
from ..utils._docs import inherits_entries
from ..utils._sklearn import Interval, StrOptions
from ._budgets import one_given
from ._masks import PrunedShare
from ._widths import (
    bytes_for_widths,
    check_candidates,
    check_widths,
    mixed_bytes,
    owners,
    with_width,
)


class EqualSize(SearchMethod):
    """Every field gets the same smaller width: the dullest way to a smaller table.

    Parameters
    ----------
    width : int, float or None, default=None
        Width of every field, or its share of ``embedding_dim`` (at least 1). None is 0.25 where
        there is no budget either.
    budget : float or int or None, default=None
        In place of a width: the largest whose tables and projection fit. A float in (0, 1] is a
        share of the bytes of the whole tables, an int a number of bytes.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=3, pairs=1, random_state=0)
    >>> search = embedding.EqualSize(4)
    >>> model = CTRClassifier(network="fm", search=search, max_epochs=1, random_state=0).fit(X, y)
    >>> model.embedding_sizes_
    {'f0': 4, 'f1': 4, 'f2': 4}
    """

    slot = "embedding"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "width": [
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="right"),
            None,
        ],
        "budget": [*BUDGET, None],
    }

    def __init__(self, width=None, budget=None):
        self.width = width
        self.budget = budget

    def search(self, problem):
        context = problem.context
        one_given(self, "width", "budget")
        if self.budget is not None:
            return {"widths": [self._widest(context)] * context.n_fields}
        width = 0.25 if self.width is None else self.width
        width = (
            width if isinstance(width, Integral) else max(round(width * context.embedding_dim), 1)
        )
        return {"widths": check_candidates([width], context.embedding_dim) * context.n_fields}

    def _widest(self, context):
        """The largest width that fits the budget; the full one has no projection."""
        limit = bytes_for_widths(self.budget, 1, context)
        every = range(1, context.embedding_dim + 1)
        return max(w for w in every if mixed_bytes([w] * context.n_fields, context) <= limit)

    def check(self, architecture, context):
        check_widths(architecture, context)

    def realise(self, architecture, context):
        return MixedEmbedding(context, architecture["widths"])


class RandomSizes(SearchMethod):
    """Every field gets a random width: what a search over widths must beat.

    Parameters
    ----------
    candidates : tuple of int or "auto", default="auto"
        Widths to draw from, as in `AutoDim`.
    budget : float or int or None, default=None
        Bytes that tables and projections may take: a float in (0, 1] is a share of the whole
        tables, an int a number of bytes. Fields drawn at random get a narrower width until the
        draw fits, then a wider one as long as one fits.

    Examples
    --------
    >>> from sklearn_autorec.embedding import RandomSizes
    >>> RandomSizes(candidates=(2, 8)).slot
    'embedding'
    """

    slot = "embedding"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "candidates": [tuple, list, StrOptions({"auto"})],
        "budget": [*BUDGET, None],
    }

    def __init__(self, candidates="auto", budget=None):
        self.candidates = candidates
        self.budget = budget

    def search(self, problem):
        context = problem.context
        candidates = check_candidates(self.candidates, context.embedding_dim)
        drawn = torch.randint(len(candidates), (context.n_fields,), generator=context.generator)
        for f, owner in context.sharers:
            drawn[f] = drawn[owner]
        widths = [candidates[n] for n in drawn]
        if self.budget is not None:
            limit = bytes_for_widths(self.budget, candidates[0], context)
            widths = _drawn_within(widths, candidates, limit, context)
        return {"widths": widths, "candidates": candidates}

    def check(self, architecture, context):
        check_widths(architecture, context)

    def realise(self, architecture, context):
        return MixedEmbedding(context, architecture["widths"])


def _drawn_within(widths, candidates, limit, context):
    """The widths with some drawn again, so that they fit and no field alone could be wider."""

    def one_of(choices):
        n = torch.randint(len(choices), (1,), generator=context.generator)
        return choices[int(n)]

    while mixed_bytes(widths, context) > limit:
        wide = [f for f in owners(context) if widths[f] > candidates[0]]
        f = one_of(wide)
        narrower = [w for w in candidates if w < widths[f]]
        widths = with_width(widths, f, one_of(narrower), context)
    while True:
        wider = [
            new
            for f in owners(context)
            for w in candidates
            if w > widths[f]
            and mixed_bytes(new := with_width(widths, f, w, context), context) <= limit
        ]
        if not wider:
            return widths
        widths = one_of(wider)


class ObservedEmbedding(FieldEmbedding):
    """A plain table that remembers which rows were trained."""

    def __init__(self, context):
        super().__init__(context)
        self.register_buffer("seen", torch.zeros(self.n_rows, dtype=torch.bool), persistent=False)
        self.read_rows: list[torch.Tensor] = []

    observes_all_rows = True

    def lookup(self, ids, rows, fields):
        self.read_rows.append(read_in_all(rows) if self.training else rows)
        return super().lookup(ids, rows, fields)

    def unpooled(self, inputs):
        self.read_rows = []
        return super().unpooled(inputs)

    def observe(self, inputs, per_row_loss):
        for rows in self.read_rows:
            self.seen[rows.long()] = True


@inherits_entries
class MagnitudePruning(PrunedShare, SearchMethod):
    """Train once, keep the largest elements of the embeddings, train again without the others.

    Often as good as learned pruning; it stands beside `PEP` in every table.

    Parameters
    ----------
    {target_sparsity, budget}
    retrain : {"rewind", "scratch", "keep"}, default="rewind"
        Weights with which the final training starts: those of the first training's start, new, or
        its results.

    Examples
    --------
    >>> from sklearn_autorec.embedding import MagnitudePruning
    >>> MagnitudePruning(budget=0.1).slot
    'embedding'
    """

    slot = "embedding"
    distributes = True
    _parameter_constraints = {
        **PrunedShare._parameter_constraints,
        "retrain": [StrOptions({"scratch", "rewind", "keep"})],
    }

    def __init__(self, target_sparsity=None, budget=None, retrain="rewind"):
        self.target_sparsity = target_sparsity
        self.budget = budget
        self.retrain = retrain

    def build(self, context):
        self.check_budget(context)
        return ObservedEmbedding(context)

    def derive(self, module, context):
        size = torch.where(module.seen.unsqueeze(1), module.weight.detach().abs(), -torch.inf)
        return {"mask": mask_to_text(self.mask_of(size.cpu().numpy(), context))}
