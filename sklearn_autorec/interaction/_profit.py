"""PROFIT: interactions of every order as a tensor of low rank, searched order by order."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from scipy.stats import norm
from torch import nn

from ..base import SearchMethod
from ..base._constraints import N_INTERACTIONS, constraints_of
from ..engine import ArchSchedule, MovedByAdam
from ..nn import FieldEmbedding, PairDots, pair_index
from ..nn._numeric import hold_constants
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._evidence import fading_evidence, mean_slopes
from ._factors import pairs_are_cheaper, scored_tuples, summed_pairs, summed_polynomials
from ._field_operations import FieldNorm
from ._products import KeptProducts, ScoredTuples, check_pairs_exist, check_tuples

FIRST_SIZE = 0.3  # of the logits of a new order
CHANCE = 0.01  # probability that an order passes on labels of noise
JUDGED_SHARE = 0.2  # of the training rows; they decide whether an order helps


class DecomposedTensors(MovedByAdam, nn.Module):
    """Weighted sums of the products of all tuples of 2, 3, ... fields; (B, F, d), inputs ->
    (B, n d), d numbers for each order reached so far.

    Orders above two have an embedding table of their own each.
    """

    def __init__(self, context, max_order, rank, arch_lr, search_fraction):
        super().__init__()
        d, generator = context.embedding_dim, context.generator
        self.max_order, self.order = max_order, 2
        self.rank, self.slopes = rank, {}
        self.arch_lr = arch_lr
        self.arch_schedule = ArchSchedule("first_order", fraction=search_fraction)
        self.judged_share, self.ends_early = JUDGED_SHARE, True
        self.tables = nn.ModuleDict(
            {str(order): FieldEmbedding(context) for order in range(3, max_order + 1)}
        )
        hold_constants(self.tables)
        self.norms = nn.ModuleDict(
            {str(order): FieldNorm(context) for order in range(2, max_order + 1)}
        )
        self.field_axes = {}
        for order in range(2, max_order + 1):
            factors = torch.empty(rank, context.n_fields).uniform_(0.5, 1.5, generator=generator)
            # The sum of the products of all tuples then varies by about FIRST_SIZE.
            n_products = math.comb(context.n_fields, order) * d
            factors *= (FIRST_SIZE / (rank * n_products**0.5)) ** (1 / order)
            self.register_parameter(f"factors_{order}", nn.Parameter(factors))
            self.register_parameter(f"signs_{order}", nn.Parameter(torch.ones(rank)))
            self.field_axes[f"factors_{order}"] = {-1: context.axis("F")}
        pairs = pair_index(context.n_fields)
        self.register_buffer("pairs", pairs, persistent=False)
        dense = pairs_are_cheaper(pairs.shape[1], rank, d)
        self.dots = PairDots(pairs, context.n_fields) if dense else None
        self.out_dim = (max_order - 1) * rank
        # By order: how fast the loss of unseen rows falls as it is faded in, in standard errors.
        self.evidence = {}

    def vectors(self, order, e, inputs):
        """The embeddings that an order multiplies, batch-normalised so that the entries of its
        tensor can be compared, (B, F, d).
        """
        vectors = e if order == 2 else self.tables[str(order)](inputs)
        return self.norms[str(order)](vectors)

    def tensor(self, order):
        """Factors (R, F) and weights of the ranks (R,) of one order."""
        return getattr(self, f"factors_{order}"), getattr(self, f"signs_{order}")

    def forward(self, e, inputs):
        parts = []
        for order in range(2, self.order + 1):
            factors, signs = self.tensor(order)
            vectors = self.vectors(order, e, inputs)
            if order == 2 and self.dots is not None:
                sums = summed_pairs(factors, self.dots(vectors), self.pairs)
            else:
                sums = summed_polynomials(factors, vectors, order)
            parts.append(sums * signs)
        features = torch.cat(parts, 1)
        return nn.functional.pad(features, (0, self.out_dim - features.shape[1]))

    def arch_parameters(self):
        return [t for order in range(2, self.max_order + 1) for t in self.tensor(order)]

    def moves(self, name):
        """Whether a parameter of the network moves while the present order is searched: the tensors
        of lower orders rest.
        """
        resting = [f"{kind}_{q}" for q in range(2, self.order) for kind in ("factors", "signs")]
        return name.removeprefix("interaction.") not in resting

    def judge(self, network, loss, data):
        """Measure on rows that nothing was trained on whether the present order points towards the
        target.
        """
        columns = slice((self.order - 2) * self.rank, (self.order - 1) * self.rank)
        self.evidence[self.order] = float(fading_evidence(self, network, loss, data, columns))
        self.slopes[self.order] = mean_slopes(self, network, data)[columns].numpy()

    def proven(self, order):
        """Whether chance does not explain how much an order helps on unseen rows."""
        return self.evidence.get(order, 0.0) > norm.isf(CHANCE)

    @torch.no_grad()
    def scores(self, order):
        """Tuples (K, p) of an order, and the size of their entries in its tensor, (K,)."""
        factors, signs = (t.double().cpu().numpy() for t in self.tensor(order))
        slopes = self.slopes.get(order, np.ones((self.rank, 1)))
        return scored_tuples(order, factors, signs[:, None] * slopes)

    def summary(self):
        return {"order": self.order}


class PROFIT(ScoredTuples, SearchMethod):
    r"""Search interactions order by order, as symmetric tensors of low rank (PROFIT).

    Whether p fields interact is an entry of a symmetric tensor. That of order p has only ``rank``
    numbers for each field:

    .. math:: A_{i_1 \ldots i_p} = \sum_{r=1}^R s_r \prod_{q=1}^p \beta_{r i_q}

    so that all products of p embeddings, weighted by it, are

    .. math:: f^{(p)} = \sum_{i_1 < \ldots < i_p} A_{i_1 \ldots i_p}\,
              e_{i_1} \odot \ldots \odot e_{i_p}
              = \sum_r s_r E_p(\beta_{r1} e_1, \ldots, \beta_{rF} e_F)

    with the elementary symmetric polynomial :math:`E_p`, which takes time proportional to the
    number of fields. The search begins with pairs. The tensor is trained on rows of its own, the
    weights on the others (bi-level, first order). Then it rests and the next order is added, as
    long as orders help on rows that the search has not seen. The strongest tuples of each order
    are kept, and the network is trained anew with their products.

    It fits networks with an "interaction" slot: FM, DeepFM, FwFM, IPNN.

    Parameters
    ----------
    max_order : int, default=3
        Fields of an interaction, at most.
    n_interactions : int, float, or sequence of these, default=0.2
        How many tuples of an order to keep, or their share of all; a sequence has one for each
        order from 2.
    rank : int, default=32
        R, numbers a field and order. More ranks can tell more patterns apart.
    arch_lr : float, default=0.01
        Learning rate of the tensors.
    patience : int or None, default=1
        Orders without proven help after which no higher one is searched. None searches all.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which the tensors are trained.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the final training starts: new, those at the start, or those at the end
        of the search. Products begin anew.

    Notes
    -----
    Every order is searched for ``search_epochs``. A fifth of the training rows trains nothing: on
    it the sum :math:`f^{(p)}` must lower the loss as it is faded in, in the mean of the rows by
    more than chance explains (one-sided t tests at 1 %, as in `AutoFIS`). Of an order that does not
    nothing is kept. Higher orders grow out of lower ones in most tables; where three fields act
    together of which no two do, pairs stop the search unless ``patience=2``.

    ``interaction_scores_`` are absolute entries of the tensors, for all orders that were searched.
    The search batch-normalises the embeddings, without scale and shift, so that they can be
    compared within an order. Of more than 20,000 tuples of an order those are scored that a beam
    search over the factors finds.
    ``architecture_["interaction"]["evidence"]`` has the t statistics by order.

    Orders above two have an embedding table of their own each in the search; in the final network
    they share one. There is no public code, and the paper's sizes and defaults were not at hand:
    the weights of the ranks, the batch norm, the rule when to stop and all defaults are ours.
    Without the batch norm small embeddings left the products of a DeepFM far behind its perceptron,
    and planted pairs were ranked little better than by chance.

    References
    ----------
    .. [1] Gao, C. et al. "Progressive Feature Interaction Search for Deep Sparse Network", NeurIPS
       2021.
       https://papers.neurips.cc/paper/2021/hash/03b2ceb73723f8b53cd533e4fba898ee-Abstract.html

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(4000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.PROFIT(n_interactions=1)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> scores = model.fit(X, y).interaction_scores_
    >>> max(scores, key=scores.get)
    ('f0', 'f1')
    """

    slot = "interaction"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "max_order": [Interval(Integral, 2, None, closed="left")],
        "n_interactions": [*N_INTERACTIONS, tuple, list],
        "rank": [Interval(Integral, 1, None, closed="left")],
        **constraints_of("arch_lr", "search_fraction", "retrain"),
        "patience": [None, Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        max_order=3,
        n_interactions=0.2,
        rank=32,
        arch_lr=0.01,
        patience=1,
        search_fraction=0.2,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        check_pairs_exist("PROFIT", context)
        self.kept_counts()
        max_order = min(self.max_order, context.n_fields)
        return DecomposedTensors(context, max_order, self.rank, self.arch_lr, self.search_fraction)

    def kept_counts(self):
        """``n_interactions`` of every order from 2, as a list."""
        n = self.n_interactions
        counts = [n] * (self.max_order - 1) if isinstance(n, Real) else list(n)
        right = all(
            isinstance(k, Real)
            and not isinstance(k, bool)
            and (k >= 0 if isinstance(k, Integral) else 0 <= k <= 1)
            for k in counts
        )
        if len(counts) != self.max_order - 1 or not right:
            raise ValueError(
                f"n_interactions must be a number of tuples, a share in [0, 1], or one of these "
                f"for each of the {self.max_order - 1} orders up to max_order={self.max_order}, "
                f"got {n!r}."
            )
        return counts

    def search(self, problem):
        module, result, misses = self.build(problem.context), None, 0
        for order in range(2, module.max_order + 1):
            module.order = order
            result = problem.train(module, start=result, only=lambda name, p: module.moves(name))
            misses += not module.proven(order)
            if problem.interrupted or misses == self.patience:
                break
        return self.derive(module, problem.context)

    def derive(self, module, context):
        found = {"interactions": [], "candidates": [], "scores": []}
        for order, n in zip(range(2, module.order + 1), self.kept_counts(), strict=False):
            tuples, scores = module.scores(order)
            n = n if isinstance(n, Integral) else round(n * len(tuples))
            best = np.argsort(-scores, kind="stable")[: n * module.proven(order)]
            found["interactions"] += tuples[np.sort(best)].tolist()
            found["candidates"] += tuples.tolist()
            found["scores"] += scores.tolist()
        evidence = {str(order): t for order, t in module.evidence.items()}
        return {**found, "evidence": evidence}

    def check(self, architecture, context):
        check_tuples(architecture, context, max_order=context.n_fields)

    def realise(self, architecture, context):
        return KeptProducts(architecture["interactions"], context)
