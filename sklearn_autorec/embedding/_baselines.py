"""What every search for embedding sizes must beat at the same number of bytes."""

from numbers import Integral, Real

import torch

from ..base import SearchMethod
from ..nn import FieldEmbedding, MixedEmbedding, mask_to_text
from ..utils._sklearn import Interval, StrOptions
from ._masks import MaskSearch, strongest
from ._widths import check_candidates, check_widths


class EqualSize(SearchMethod):
    """Every field gets the same smaller width: the dullest way to a smaller table.

    Parameters
    ----------
    width : int or float, default=0.25
        Width of every field, or its share of ``embedding_dim`` (at least 1).

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.embedding import EqualSize
    >>> X, y, truth = make_ctr(1000, n_fields=3, pairs=1, random_state=0)
    >>> model = CTRClassifier(network="fm", search=EqualSize(4), max_epochs=1, random_state=0).fit(
    ...     X, y
    ... )
    >>> model.embedding_sizes_
    {'f0': 4, 'f1': 4, 'f2': 4}
    """

    slot = "embedding"
    supports_members = True
    _parameter_constraints = {
        "width": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right")]
    }

    def __init__(self, width=0.25):
        self.width = width

    def search(self, problem):
        context = problem.context
        width = self.width
        width = (
            width if isinstance(width, Integral) else max(round(width * context.embedding_dim), 1)
        )
        return {"widths": check_candidates([width], context.embedding_dim) * context.n_fields}

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

    Examples
    --------
    >>> from sklearn_autorec.embedding import RandomSizes
    >>> RandomSizes(candidates=(2, 8)).slot
    'embedding'
    """

    slot = "embedding"
    supports_members = True
    _parameter_constraints = {"candidates": [tuple, list, StrOptions({"auto"})]}

    def __init__(self, candidates="auto"):
        self.candidates = candidates

    def search(self, problem):
        context = problem.context
        candidates = check_candidates(self.candidates, context.embedding_dim)
        drawn = torch.randint(len(candidates), (context.n_fields,), generator=context.generator)
        for f, owner in context.sharers:
            drawn[f] = drawn[owner]
        return {"widths": [candidates[n] for n in drawn], "candidates": candidates}

    def check(self, architecture, context):
        check_widths(architecture, context)

    def realise(self, architecture, context):
        return MixedEmbedding(context, architecture["widths"])


class _CountedEmbedding(FieldEmbedding):
    """A plain table that remembers which rows were trained."""

    def __init__(self, context):
        super().__init__(context)
        self.register_buffer("seen", torch.zeros(self.n_rows, dtype=torch.bool), persistent=False)
        self.read_rows: list[torch.Tensor] = []

    def lookup(self, ids, rows, fields):
        self.read_rows.append(rows)
        return super().lookup(ids, rows, fields)

    def unpooled(self, inputs):
        self.read_rows = []
        return super().unpooled(inputs)

    def observe(self, inputs, per_row_loss):
        for rows in self.read_rows:
            self.seen[rows.long()] = True


class MagnitudePruning(MaskSearch, SearchMethod):
    """Train once, keep the largest elements of the embeddings, train again without the others.

    Often as good as learned pruning; it stands beside `PEP` in every table.

    Parameters
    ----------
    target_sparsity : float in [0, 1], default=0.8
        Share of the embedding elements to prune. Rows of values that no training row holds are
        always pruned.
    retrain : {"rewind", "scratch", "keep"}, default="rewind"
        Weights with which the final training starts: those of the first training's start, new, or
        its results.

    Examples
    --------
    >>> from sklearn_autorec.embedding import MagnitudePruning
    >>> MagnitudePruning(target_sparsity=0.9).slot
    'embedding'
    """

    slot = "embedding"
    _parameter_constraints = {
        "target_sparsity": [Interval(Real, 0, 1, closed="both")],
        "retrain": [StrOptions({"scratch", "rewind", "keep"})],
    }

    def __init__(self, target_sparsity=0.8, retrain="rewind"):
        self.target_sparsity = target_sparsity
        self.retrain = retrain

    def build(self, context):
        return _CountedEmbedding(context)

    def derive(self, module, context):
        size = torch.where(module.seen.unsqueeze(1), module.weight.detach().abs(), -torch.inf)
        return {"mask": mask_to_text(strongest(size.cpu().numpy(), self.target_sparsity))}
