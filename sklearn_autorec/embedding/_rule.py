"""RULE: one training of elastic embeddings, from which models of any size are cut."""

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import torch

from ..base import SearchMethod
from ..base._constraints import BUDGET, at_least_one
from ..engine import UniformPaths, one_shot_scores
from ..engine._policies import numpy_random, text_of
from ..nn import FieldEmbedding, limit_of, table_bytes
from ..nn._budget import kinds_of_tables
from ..nn._row_groups import GroupedRows, group_sizes
from ..nn._statistics import total_over_rows
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._blocks import row_bounds
from ._elastic import AnyBlocks, BlockSpace, ScoreEstimator, TableCosts, fittest
from ._few_rows import check_list

INDEX = "bits"  # how it is stored where blocks lie; earlier releases stored positions
SHARES = (0.125, 0.25, 0.5, 0.75)  # budgets at which the estimator is tried and corrected


def column_widths(embedding_dim, n_blocks):
    """Columns of each block, int64 ndarray (N,)."""
    edges = np.linspace(0, embedding_dim, min(n_blocks, embedding_dim) + 1).round().astype(int)
    return np.diff(edges)


class ElasticEmbedding(FieldEmbedding):
    """A table of which groups of rows are read with some of their column blocks, the others being
    zero; inputs -> (B, F, d).

    Parameters
    ----------
    context : BuildContext
    bounds : list of list of int
        See `GroupedRows`.
    widths : int ndarray (N,)
        Columns of each block.
    diversity : float
        Weight of the penalty on blocks that are alike.
    """

    def __init__(self, context, bounds, widths, diversity):
        super().__init__(context)
        sizes, n_blocks = group_sizes(bounds), len(widths)
        self.paths = UniformPaths(AnyBlocks(len(sizes), n_blocks), context.generator)
        self.diversity, self.looked_up = diversity, []
        group = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes))
        block = torch.from_numpy(np.repeat(np.arange(n_blocks), widths))
        self.register_buffer("group", group, persistent=False)
        self.register_buffer("block", block, persistent=False)
        self.register_buffer("owner", torch.eye(n_blocks)[block], persistent=False)

    def kept(self):
        """Columns of each group that are read, float Tensor (G, d)."""
        rows = [torch.zeros(self.owner.shape[1]) for _ in self.paths.current["blocks"]]
        for row, blocks in zip(rows, self.paths.current["blocks"], strict=True):
            row[blocks] = 1
        return torch.stack(rows).to(self.block.device)[:, self.block]

    def unpooled(self, inputs):
        self.looked_up = []
        self.columns = self.kept() if len(self.group) else None
        return super().unpooled(inputs)

    def lookup(self, ids, rows, fields):
        e = super().lookup(ids, rows, fields)
        self.looked_up.append(e)
        return e * self.columns[self.group[rows.long()]]

    def penalty(self):
        r"""Mean over pairs of column blocks of :math:`\|E_i^T E_j\|^2 / (\|E_i\|^2 \|E_j\|^2)`, E
        the vectors that were read, times its weight.
        """
        n_blocks = self.owner.shape[1]
        if not self.diversity or n_blocks < 2 or not self.looked_up:
            return 0.0
        E = torch.cat([e.flatten(0, -2) for e in self.looked_up])
        products = total_over_rows(E.T @ E)
        between = self.owner.T @ products.square() @ self.owner
        size = self.owner.T @ products.diagonal()
        alike = between / (size.unsqueeze(0) * size.unsqueeze(1)).clamp(min=1e-30)
        above = alike.triu(1).sum() / (n_blocks * (n_blocks - 1) / 2)
        return self.diversity * above


@dataclass
class Supernet:
    """What a search leaves, from which models of other sizes are cut.

    Parameters
    ----------
    state : dict of str to Tensor
        Weights of the `ElasticEmbedding`.
    estimator : ScoreEstimator
    seed : int
        Of the evolution.
    """

    state: dict
    estimator: ScoreEstimator
    seed: int


class RULE(SearchMethod):
    r"""Train embeddings once, then cut models of any size out of them, without training.

    The values of a field, sorted by frequency, are cut into groups, and columns into N blocks. A
    group may keep any of the blocks; the others are zero. In the search the network is trained
    while every step draws which blocks are kept, so that it serves with any of them, and with the
    penalty

    .. math:: \gamma \, \mathrm{mean}_{i < j} \,
              \frac{\|E_i^T E_j\|^2}{\|E_i\|^2 \|E_j\|^2}

    E_i being block i of the vectors that a batch reads: blocks that say the same are of no use
    together. Configurations are scored on rows of their own, with the weights as they are. An
    estimator (ridge regression on single blocks and pairs of them) learns the scores of
    ``n_samples`` random ones, then of those that it believes the best at several budgets. For a
    budget an evolution looks for the configuration of highest estimate; in ``fit`` the best few are
    scored on the rows, too.

    A fitted estimator then has ``specialize(budget)``, which gives another one of that size in
    a second or so: it needs neither rows nor training.

    Parameters
    ----------
    budget : float in (0, 1] or int, default=0.25
        Bytes of the embedding tables (int), or their share of the whole tables' (float), what says
        where blocks lie included: a bit a group and column. Never exceeded, and used up: it is not
        left where a further block fits.
    n_groups : int, default=5
        Groups of a field, at most: no more than the field has values.
    n_blocks : int, default=8
        N, at most: no more than there are columns.
    diversity : float, default=1e-3
        :math:`\gamma`.
    n_samples : int, default=128
        Random configurations that are scored.
    n_evaluations : int, default=1000
        Configurations that an evolution looks at.
    population : int, default=50
        Length of its queue.
    n_rescored : int, default=8
        Configurations that are scored at each budget after the evolution.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows that score configurations, and that the weights never see.
    pickle_supernet : bool, default=False
        Whether pickles and copies of a fitted estimator hold the whole tables, too, so that they
        can be cut again. Without it they are as small as the budget says, and only the estimator
        that was fitted (and those that it gave) has ``specialize``.

    Notes
    -----
    The paper trains by the ranking loss of recommendation, here the loss is the estimator's. Its
    mutations exchange the blocks of two groups, or draw those of a group anew; here one block may
    come or go as well, and the paper's one empty set, a group without any block, is allowed: its
    values have no embedding. Defaults and the form of the penalty were not to be had.

    A quarter of the steps keep everything. The others draw how large a share of the blocks is kept
    before they draw which: with independent draws half would be kept nearly always.

    Fields of numbers are left whole and are not counted; scales of int8 are counted.

    ``search_epochs`` is all the training there is.

    References
    ----------
    .. [1] Chen, T., Yin, H., Zheng, Y., Huang, Z., Wang, Y., Wang, M. "Learning Elastic Embeddings
       for Customizing On-Device Recommenders", KDD 2021. https://arxiv.org/abs/2106.02223

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(
    ...     network="fm",
    ...     search=embedding.RULE(0.5, n_samples=30),
    ...     embedding_dim=8,
    ...     search_epochs=2,
    ...     random_state=0,
    ... ).fit(X, y)
    >>> small = model.specialize(0.1)
    >>> model.compression_ratio_ < 3 < 9 < small.compression_ratio_
    True
    """

    slot = "embedding"
    distributes = True
    retrain = "none"
    stores_numbers = True
    _parameter_constraints = {
        "budget": BUDGET,
        **at_least_one("n_groups", "n_blocks", "n_evaluations", "population", "n_rescored"),
        "diversity": [Interval(Real, 0, None, closed="left")],
        "n_samples": [Interval(Integral, 2, None, closed="left")],
        "search_fraction": [Interval(Real, 0, 1, closed="neither")],
        "pickle_supernet": ["boolean"],
    }

    @stores_parameters
    def __init__(
        self,
        budget=0.25,
        n_groups=5,
        n_blocks=8,
        diversity=1e-3,
        n_samples=128,
        n_evaluations=1000,
        population=50,
        n_rescored=8,
        search_fraction=0.2,
        pickle_supernet=False,
    ):
        """Store the parameters."""

    def build(self, context):
        widths = column_widths(context.embedding_dim, self.n_blocks)
        return ElasticEmbedding(context, self._bounds(context), widths, self.diversity)

    def search(self, problem):
        context, generator = problem.context, problem.context.generator
        whole, limit = table_bytes(context, numeric=False), self._limit(self.budget, context)
        module = self.build(context)
        for_weights, held_out = problem.split(self.search_fraction)
        result = problem.train(module, rows=for_weights)
        shape = len(group_sizes(self._bounds(context))), len(self._widths(context))
        module.paths.current = BlockSpace.configuration(np.ones(shape, bool))
        if problem.interrupted or not shape[0]:
            return self._architecture(module.paths.current, context)
        random, seed = numpy_random(generator), int(torch.randint(2**62, (), generator=generator))
        drawn = [AnyBlocks(*shape).draw(random) for _ in range(self.n_samples)]
        scored = {}

        def score(configurations):
            scores = one_shot_scores(
                module.paths, configurations, lambda: -problem.score(result, held_out)
            )
            for configuration, own in zip(configurations, scores, strict=True):
                scored[text_of(configuration)] = configuration, own
            return ScoreEstimator(
                [BlockSpace.bits(c, shape).ravel() for c, _ in scored.values()],
                [own for _, own in scored.values()],
            )

        estimator = score([module.paths.current, *drawn])
        for share in SHARES:
            estimator = score(self._fittest(estimator, int(share * whole), seed, context))
        best = self._fittest(estimator, limit, seed, context)
        estimator = score(best)
        module.paths.current = max(best, key=lambda c: scored[text_of(c)][1])
        state = {name: t.detach().clone() for name, t in module.state_dict().items()}
        problem.kept = Supernet(state, estimator, seed)
        return {
            **self._architecture(module.paths.current, context),
            "estimator_score": estimator.rank_correlation,
        }

    def specialize(self, kept, budget, context):
        """What another budget gives, without training.

        Parameters
        ----------
        kept : Supernet
        budget : float or int
        context : BuildContext

        Returns
        -------
        architecture : dict
        state : dict of str to Tensor
            Weights of the part.
        """
        limit = self._limit(budget, context)
        best = self._fittest(kept.estimator, limit, kept.seed, context)[0]
        architecture = {
            **self._architecture(best, context),
            "estimator_score": kept.estimator.rank_correlation,
        }
        return architecture, self._cut(kept.state, architecture, context)

    def transfer(self, state, architecture, context):
        """The kept columns of the whole table."""
        own = {
            name.removeprefix("embedding."): t
            for name, t in state.items()
            if name.startswith("embedding.")
        }
        rest = {name: t for name, t in state.items() if not name.startswith("embedding.")}
        cut = self._cut(own, architecture, context)
        return {**rest, **{f"embedding.{name}": t for name, t in cut.items()}}

    def check(self, architecture, context):
        bounds, blocks = architecture.get("bounds"), architecture.get("blocks")
        check_list(
            architecture,
            "bounds",
            context,
            lambda own, n: _rising(own, 1, n) and own[-1:] == [n],
            "rising numbers of ids, the last being all,",
        )
        if architecture.get("index", INDEX) != INDEX:
            raise ValueError(f"index must be {INDEX!r} or left out, got {architecture['index']!r}.")
        n_groups, n_blocks = sum(map(len, bounds)), len(self._widths(context))
        good = isinstance(blocks, list) and len(blocks) == n_groups
        if not good or not all(_rising(own, 0, n_blocks - 1) for own in blocks):
            raise ValueError(
                f"blocks must hold rising numbers of column blocks, from 0 to {n_blocks - 1}, for "
                f"each of {n_groups} groups, got {blocks!r:.200}."
            )

    def realise(self, architecture, context):
        kept, positions = self._kept(architecture, context), architecture.get("index") != INDEX
        return GroupedRows(context, architecture["bounds"], kept, positions)

    def _bounds(self, context):
        return [row_bounds(n, self.n_groups)[1:] for n in context.table_sizes]

    def _widths(self, context):
        return column_widths(context.embedding_dim, self.n_blocks)

    def _tables(self, context):
        """What numbers take, a `TableCosts`."""
        n_groups = [len(own) for own in self._bounds(context)]
        return TableCosts(
            np.repeat(np.arange(len(n_groups)), n_groups),
            context.table_sizes,
            kinds_of_tables(context),
            context.embedding_dim,
        )

    def _limit(self, budget, context):
        """Bytes that a budget leaves for numbers; refused if no block fits. Of everything nothing
        has to say where it lies."""
        limit = limit_of(budget, context)
        sizes, tables = group_sizes(self._bounds(context)), self._tables(context)
        if not len(sizes) or limit >= table_bytes(context, numeric=False):
            return limit
        index = GroupedRows.index_bytes(len(sizes), context.embedding_dim)
        blocks = sizes * int(self._widths(context).min())
        smallest = min(map(tables.bytes_of, tables.of_group.tolist(), blocks.tolist())) + index
        if limit < smallest:
            raise ValueError(
                f"budget={budget!r} is {limit} bytes, but the smallest block of the tables takes "
                f"{smallest}; raise it (a float is a share of the whole tables, an int is bytes)."
            )
        return limit - index

    def _fittest(self, estimator, n_bytes, seed, context):
        """Configurations within a number of bytes that the estimator believes the best."""
        space = BlockSpace(
            group_sizes(self._bounds(context)),
            self._widths(context),
            n_bytes,
            estimator.worth(),
            np.random.default_rng(seed),
            self._tables(context),
        )
        generator = torch.Generator().manual_seed(seed)
        return fittest(
            estimator, space, generator, self.n_evaluations, self.population, self.n_rescored
        )

    def _architecture(self, configuration, context):
        return {"bounds": self._bounds(context), **configuration, "index": INDEX}

    def _kept(self, architecture, context):
        """Columns that each group keeps, bool ndarray (G, d)."""
        widths = self._widths(context)
        shape = len(architecture["blocks"]), len(widths)
        return np.repeat(BlockSpace.bits(architecture, shape), widths, axis=1)

    def _cut(self, state, architecture, context):
        """Weights of the concrete part, of those of the searched one."""
        state = dict(state)
        table, kept = state.pop("weight"), self._kept(architecture, context)
        part = self.realise(architecture, context).state_dict()
        return {
            **part,
            **state,
            "values": GroupedRows.pack(table, architecture["bounds"], kept),
        }


def _rising(numbers, low, high):
    """Whether a list holds ints between two, rising."""
    whole = isinstance(numbers, list) and all(type(n) is int for n in numbers)
    return whole and all(
        a < b for a, b in zip([low - 1, *numbers], [*numbers, high + 1], strict=True)
    )
