"""OptEmbed: which values have an embedding by learned thresholds, how wide fields are by
evolution.
"""

from numbers import Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import BUDGET, RETRAIN_OR_NOT, at_least_one, constraints_of
from ..engine import ArchSchedule, MovedByAdam, RegularizedEvolution, UniformPaths, one_shot_scores
from ..nn import FieldEmbedding, element_bytes, mask_to_text
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._budgets import warn_if_nothing_is_kept
from ._masks import MaskSearch, bytes_for_masked
from ._prefix_bytes import PrefixBytes


class LongTailedStep(torch.autograd.Function):
    """1 where x > 0, else 0; the gradient is 2 - 4 |x| up to 0.4, 0.4 up to 1, and 0 beyond."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        size = x.abs()
        slope = torch.where(size <= 0.4, 2 - 4 * size, torch.where(size <= 1, 0.4, 0.0))
        return grad * slope


class WidthSpace:
    """Widths of tables, {"widths": [...]}, of which those are valid whose bytes fit.

    Parameters
    ----------
    column_bytes : int ndarray (T,)
        Bytes of a column of each table, of its kept rows.
    embedding_dim : int
    limit : int
        Bytes.
    random : numpy.random.Generator
        Of the repairs.
    bytes_of : callable or None, default=None
        Bytes of widths, int ndarray (T,), as they will be stored; None is the sum over columns.
    """

    def __init__(self, column_bytes, embedding_dim, limit, random, bytes_of=None):
        self.column_bytes, self.dim, self.limit = column_bytes, embedding_dim, limit
        self.random = random
        self.bytes_of = bytes_of or (lambda widths: (widths * column_bytes).sum())

    def draw(self, random):
        return {"widths": random.integers(1, self.dim + 1, len(self.column_bytes)).tolist()}

    def mutate(self, configuration, random):
        """A copy with another width of one table."""
        widths = list(configuration["widths"])
        table = int(random.integers(len(widths)))
        widths[table] = int((widths[table] + random.integers(1, self.dim + 1)) % (self.dim + 1))
        return {"widths": widths}

    def repair(self, configuration):
        """The configuration with columns taken off tables, drawn one after the other, until it
        fits.
        """
        widths = np.array(configuration["widths"])
        while self.bytes_of(widths) > self.limit:
            table = self.random.choice(np.flatnonzero(widths * self.column_bytes))
            widths[table] -= 1
        return {"widths": widths.tolist()}


class ThresholdedEmbedding(MovedByAdam, FieldEmbedding):
    """A table read without the vectors whose L1 norm is below the threshold of their field, and in
    the first columns that a path has drawn for the field; inputs -> (B, F, d).
    """

    def __init__(self, context, method):
        super().__init__(context)
        self.thresholds = nn.Parameter(torch.zeros(len(context.table_sizes)))
        space = WidthSpace(np.zeros(len(context.table_sizes)), context.embedding_dim, 0, None)
        self.paths = UniformPaths(space, context.generator)
        self.alpha, self.arch_lr = method.alpha, method.arch_lr
        self.arch_schedule = ArchSchedule(method.level, fraction=method.search_fraction)
        self.register_buffer("columns", torch.arange(context.embedding_dim), persistent=False)

    def arch_parameters(self):
        return [self.thresholds]

    def penalty(self):
        return self.alpha * torch.exp(-self.thresholds).sum()

    def lookup(self, ids, rows, fields):
        e = super().lookup(ids, rows, fields)
        kept = LongTailedStep.apply(e.abs().sum(-1) - self.thresholds[fields])
        widths = torch.tensor(self.paths.current["widths"], device=e.device)[fields]
        return e * kept.unsqueeze(-1) * (self.columns < widths.unsqueeze(-1))

    def kept_rows(self):
        """Rows above their thresholds, list of bool ndarrays by table."""
        norms = self.weight.detach().abs().sum(1).cpu()
        tables = norms.split(self.field_sizes)
        return [(own > t).numpy() for own, t in zip(tables, self.thresholds.tolist(), strict=True)]

    def summary(self):
        kept = self.kept_rows()
        n_rows = max(sum(map(len, kept)), 1)
        return {"rows_kept": float(sum(own.sum() for own in kept)) / n_rows}


class OptEmbed(MaskSearch, SearchMethod):
    r"""Drop the values whose vectors stay short, and choose the width of each field by evolution.

    In the search the vector of value v of field f is read as

    .. math:: \tilde e_v = S(\|e_v\|_1 - t_f) \, (e_v \odot m_{d_f})

    S is the unit step, whose gradient is that of a wide hat; :math:`m_{d_f}` keeps the first
    :math:`d_f` columns. Every step draws the widths :math:`d_f` at random, so that the table serves
    with any of them. The thresholds :math:`t_f` are learned, with :math:`\alpha \sum_f
    \exp(-t_f)` added to the loss. Then an evolution looks for widths: each candidate is judged, by
    the weights of the search, on rows that these have not seen. The network is trained anew with
    the values that are left, in these widths.

    Parameters
    ----------
    budget : float in (0, 1] or int, default=0.5
        Bytes of the packed tables, what says where the numbers belong and scales of int8 included:
        a float in (0, 1] is a share of the whole tables, an int a number of bytes. Never exceeded:
        candidates that take more lose columns.
    alpha : float, default=1e-4
        :math:`\alpha`; the larger, the more values are dropped.
    arch_lr : float, default=0.01
        Adam's learning rate of the thresholds.
    level : {"first_order", "one_level"}, default="first_order"
        The rows on which thresholds are learned: those of the evolution, or those of the weights,
        by the same backward pass, as in the paper.
    n_evaluations : int, default=100
        Candidates of the evolution.
    population : int, default=20
        Length of its queue.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows that the weights of the search do not see.
    retrain : {"rewind", "scratch", "keep", "none"}, default="rewind"
        Weights with which the final training starts: those with which the search started, new ones
        or searched ones. "none": the latter serve as they are.

    Notes
    -----
    The paper's evolution keeps the best of all candidates and crosses them, and knows no budget;
    here it is `RegularizedEvolution`, and widths fall to 0 where the budget asks.

    On their own rows weights learn noise by heart, so that thresholds there keep it; hence the
    default of ``level``.

    A field may lose all values. Fields of numbers are left whole and are not counted.

    References
    ----------
    .. [1] Lyu, F. et al. "OptEmbed: Learning Optimal Embedding Table for Click-through Rate
       Prediction", CIKM 2022. https://arxiv.org/abs/2208.04482

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.OptEmbed(budget=0.3, n_evaluations=30)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=8, lr=0.02, max_epochs=2, random_state=0
    ... ).fit(X, y)
    >>> model.compression_ratio_ > 3
    True
    """

    slot = "embedding"
    distributes = True
    _parameter_constraints = {
        "budget": BUDGET,
        "alpha": [Interval(Real, 0, None, closed="left")],
        **constraints_of("arch_lr", "search_fraction"),
        "level": [StrOptions({"first_order", "one_level"})],
        **at_least_one("n_evaluations", "population"),
        "retrain": RETRAIN_OR_NOT,
    }

    @stores_parameters
    def __init__(
        self,
        budget=0.5,
        alpha=1e-4,
        arch_lr=0.01,
        level="first_order",
        n_evaluations=100,
        population=20,
        search_fraction=0.2,
        retrain="rewind",
    ):
        """Store the parameters."""

    def build(self, context):
        return ThresholdedEmbedding(context, self)

    def search(self, problem):
        context, module = problem.context, self.build(problem.context)
        limit = bytes_for_masked(self.budget, context, numeric=False)
        for_weights, held_out = problem.split(self.search_fraction)
        # Of its own rows a bi-level schedule holds back the same ones.
        rows = for_weights if self.level == "one_level" else None
        result = problem.train(module, rows=rows)
        kept = module.kept_rows()
        widths = [context.embedding_dim] * len(kept)
        if kept and not problem.interrupted:
            random = np.random.default_rng(
                int(torch.randint(2**62, (), generator=context.generator))
            )
            n_rows = np.array([int(own.sum()) for own in kept])
            column_bytes = n_rows * element_bytes(context)[context.table_fields]
            evolution = RegularizedEvolution(
                WidthSpace(
                    column_bytes,
                    context.embedding_dim,
                    limit,
                    random,
                    PrefixBytes(kept, context),
                ),
                context.generator,
                n_evaluations=self.n_evaluations,
                population=self.population,
                tournament=max(self.population // 4, 1),
            )
            while candidates := evolution.ask():
                evolution.tell(
                    one_shot_scores(
                        module.paths, candidates, lambda: -problem.score(result, held_out)
                    )
                )
            widths = evolution.best[0]["widths"]
        module.paths.current = {"widths": widths}
        columns = np.arange(context.embedding_dim)
        tables = zip(kept, widths, strict=True)
        mask = [own[:, None] & (columns < width) for own, width in tables]
        mask = np.concatenate([np.zeros((0, len(columns)), bool), *mask])
        warn_if_nothing_is_kept(self, mask)
        return {
            "mask": mask_to_text(mask),
            "thresholds": module.thresholds.detach().double().tolist(),
            "table_widths": list(widths),
            "table_rows": [int(own.sum()) for own in kept],
        }

    def transfer(self, state, architecture, context):
        """Thresholds are no weights of the concrete part."""
        return {name: t for name, t in state.items() if name != "embedding.thresholds"}
