"""AutoSrh: soft columns for blocks of values of like frequency, then the largest elements."""

from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import BUDGET, RETRAIN_OR_NOT, constraints_of
from ..engine import ArchSchedule
from ..nn import mask_from_text, mask_to_text
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._baselines import ObservedEmbedding
from ._budgets import warn_if_nothing_is_kept
from ._frequency import value_counts
from ._masks import MaskSearch, bytes_for_masked, strongest_within


def frequency_blocks(counts, n_blocks, sizes=None):
    """Number of the block of each value, int64 ndarray (V,): block 0 has the most frequent.

    Parameters
    ----------
    counts : ndarray (V,)
        Values of equal counts stand in the order of the tables.
    n_blocks : int
        Blocks have equally many values, but for rounding.
    sizes : list of int, or None
        Values of each field, whose blocks are then made by themselves; None makes them of all.
    """
    parts = [counts] if sizes is None else np.split(counts, np.cumsum(sizes)[:-1])
    blocks = []
    for part in parts:
        rank = np.empty(len(part), np.int64)
        rank[np.argsort(-part, kind="stable")] = np.arange(len(part))
        blocks.append(rank * n_blocks // max(len(part), 1))
    return np.concatenate(blocks)


class RowNormalisedDescent(torch.optim.SGD):
    """Gradient descent with each row of a gradient divided by the mean of its absolute values, and
    parameters brought back to [0, 1].
    """

    @torch.no_grad()
    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        for p in parameters:
            if p.grad is not None:
                size = p.grad.abs().mean(-1, keepdim=True)
                p.grad = torch.where(size > 0, p.grad / size, 0.0)
        loss = super().step(closure)
        for p in parameters:
            p.clamp_(0, 1)
        return loss


class BlockScaledEmbedding(ObservedEmbedding):
    """A table whose every value is multiplied by the weights of its block; inputs -> (B, F, d).

    Parameters
    ----------
    context : BuildContext
    blocks : int64 ndarray (V,)
        Block of each row of the tables.
    n_blocks : int
    arch_lr, l1 : float
    """

    def __init__(self, context, blocks, n_blocks, arch_lr, l1):
        super().__init__(context)
        self.block_weights = nn.Parameter(torch.ones(n_blocks, context.embedding_dim))
        self.register_buffer("blocks", torch.from_numpy(blocks))
        self.field_axes["blocks"] = {0: context.axis("V")}
        self.arch_lr, self.l1 = arch_lr, l1
        self.arch_schedule = ArchSchedule()

    def arch_parameters(self):
        return [self.block_weights]

    def arch_optimizer(self, n_steps):
        return RowNormalisedDescent([self.block_weights], lr=self.arch_lr)

    def penalty(self):
        return self.l1 * self.block_weights.abs().sum()

    def lookup(self, ids, rows, fields):
        weights = nn.functional.embedding(self.blocks[rows.long()], self.block_weights)
        return super().lookup(ids, rows, fields) * weights

    def summary(self):
        return {"mean_block_weight": float(self.block_weights.detach().mean())}


class AutoSrh(MaskSearch, SearchMethod):
    r"""Keep the largest elements of embeddings that are weighed by blocks of values of like
    frequency.

    Values are sorted by frequency over all fields and cut into blocks. The embedding of value v is
    read as

    .. math:: \tilde e_v = e_v \odot A_{b(v)}, \quad A \in [0, 1]^{B \times d}

    The network is trained first, with A at 1. Then the tables train on one part of the training
    rows, with the rest of the network as it is, and in turn A on the other part: by gradient
    descent on the loss, whose gradient is divided, row by row, by the mean of its absolute values.
    A is multiplied into the tables, and the largest :math:`|\tilde e|` are kept, as many as the
    budget allows.

    Parameters
    ----------
    budget : float or int, default=0.2
        Bytes of the packed tables, what says where the numbers belong included, that are never
        exceeded: a float in (0, 1] is a share of the whole tables, an int a number of bytes.
    n_blocks : int, default=10
        Blocks of values.
    per_field : bool, default=False
        Make the blocks by the order of frequency within each field, of equally many of its values,
        not over all fields.
    arch_lr : float, default=0.01
        Learning rate of A.
    l1 : float, default=1e-5
        Weight of the sum of A in the loss.
    level : {"first_order", "unrolled"}, default="first_order"
        How A is trained: with the weights as they are, or after one more step of the tables.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which A is trained, and nothing else.
    warmup : float in [0, 1), default=0.5
        Share of the epochs of the search in which the whole network is trained, with A at 1. With
        none the network goes on moving beside the tables.
    retrain : {"keep", "none", "scratch", "rewind"}, default="keep"
        Weights with which the final training starts: searched ones, with A multiplied into the
        tables; new ones; or those with which the search started. "none" leaves the searched network
        as it is, the paper's way unless nearly everything is pruned.

    Notes
    -----
    In the public code a training after the pruning does not hold pruned elements at zero, so that
    they grow back; here they cannot.

    The search ends with the weights of its last epoch; the public code takes those of the epoch
    that does best on the rows of A, which these rows would have chosen.

    Elements whose A has reached 0 are never kept, even if the budget would allow them. Fields of
    numbers are left whole and are not counted.

    References
    ----------
    .. [1] Kong, S., Cheng, W., Shen, Y., Huang, L. "AutoSrh: An Embedding Dimensionality Search
       Framework for Tabular Data Prediction", TKDE 2023.
    .. [2] Cheng, W., Shen, Y., Huang, L. "Differentiable Neural Input Search for Recommender
       Systems", 2020. https://arxiv.org/abs/2006.04466

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.AutoSrh(budget=0.25, n_blocks=3)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=4, max_epochs=2, random_state=0
    ... ).fit(X, y)
    >>> model.compression_ratio_ >= 4
    True
    """

    slot = "embedding"
    distributes = True
    _parameter_constraints = {
        "budget": BUDGET,
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "per_field": ["boolean"],
        "arch_lr": [Interval(Real, 0, None, closed="left")],
        "l1": [Interval(Real, 0, None, closed="left")],
        "level": [StrOptions({"first_order", "unrolled"})],
        **constraints_of("search_fraction", "warmup"),
        "retrain": RETRAIN_OR_NOT,
    }

    @stores_parameters
    def __init__(
        self,
        budget=0.2,
        n_blocks=10,
        per_field=False,
        arch_lr=0.01,
        l1=1e-5,
        level="first_order",
        search_fraction=0.2,
        warmup=0.5,
        retrain="keep",
    ):
        """Store the parameters."""

    def search(self, problem):
        context, epochs = problem.context, problem.plan.epochs
        n_bytes = bytes_for_masked(self.budget, context, numeric=False)
        sizes = context.table_sizes
        counts = value_counts(problem.data, context, problem.stream)
        blocks = frequency_blocks(counts, self.n_blocks, sizes if self.per_field else None)
        table = BlockScaledEmbedding(context, blocks, self.n_blocks, self.arch_lr, self.l1)
        warm_epochs, warm, only = min(round(self.warmup * epochs), epochs - 1), None, None
        if warm_epochs:
            for_weights, _ = problem.split(self.search_fraction)
            warm = problem.train(
                table,
                rows=for_weights,
                only=lambda name, parameter: parameter is not table.block_weights,
                epochs=warm_epochs,
            )
            only = _tables_of(warm.net.module_)
        if not problem.interrupted:
            # The rows that the schedule holds back are those that the warm-up has not seen.
            table.arch_schedule = ArchSchedule(self.level, fraction=self.search_fraction)
            problem.train(table, start=warm, only=only, epochs=epochs - warm_epochs)
        architecture = largest_elements(table, n_bytes, context)
        warn_if_nothing_is_kept(self, mask_from_text(architecture["mask"]))
        return architecture

    def transfer(self, state, architecture, context):
        """A is multiplied into the tables."""
        state = dict(state)
        weights, blocks = state.pop("embedding.block_weights"), state.pop("embedding.blocks")
        state["embedding.weight"] = state["embedding.weight"] * weights[blocks]
        return state


def largest_elements(table, n_bytes, context):
    """The architecture of a searched `BlockScaledEmbedding`: the mask of the largest elements that
    a packed table can store in so many bytes, and A. None is kept of elements at 0, nor of rows
    that were never trained.

    Parameters
    ----------
    table : BlockScaledEmbedding
    n_bytes : int
    context : BuildContext
    """
    weights = table.block_weights.detach()
    size = (table.weight.detach() * weights[table.blocks]).abs().cpu().numpy()
    size[~table.seen.cpu().numpy()] = -np.inf
    size[size == 0] = -np.inf
    return {
        "mask": mask_to_text(strongest_within(size, n_bytes, context)),
        "block_weights": weights.double().cpu().numpy().tolist(),
    }


def _tables_of(network):
    """Whether a parameter is an embedding table, the first-order weights among them, or a searched
    weight of one: (name, parameter) -> bool, for a network of the same names.
    """
    tables = {
        id(p)
        for m in network.modules()
        if hasattr(m, "embedding_parameters")
        for p in m.embedding_parameters()
    }
    names = {name for name, p in network.named_parameters() if id(p) in tables}
    return lambda name, parameter: name in names or name == "embedding.block_weights"
