"""FIVES: combinations of fields as edges of a graph, found order by order by gradients."""

from itertools import permutations
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import constraints_of
from ..engine import ArchSchedule
from ..nn import annealed, check_temperatures, pair_index
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._evidence import JUDGED_SHARE
from ._field_operations import FieldNorm
from ._path_evidence import JudgedPaths
from ._products import KeptProducts, ScoredTuples, check_tuples

MAX_ORDER = 4
OPEN = 0.5  # logits of all edges at the start: above the threshold, so that paths exist
CONFIDENCE_RATE = 1  # of the factors of all layers, times that of the edges
READOUT = 0.1  # where the weights of the linear read-out begin


class FieldGraph(JudgedPaths, nn.Module):
    r"""Fields as nodes whose states gain an order with every layer; (B, F, d), inputs -> (B, K F).

    With the batch-normalised embeddings :math:`n^{(0)}_i`:

    .. math:: n^{(k)}_i = n^{(k-1)}_i \odot
              \frac{1}{F - 1} \sum_{j \ne i} A^{(k)}_{ij} W_j n^{(0)}_j

    Outputs are :math:`\langle r^{(k)}_i, n^{(k)}_i \rangle`, layer after layer.

    Parameters
    ----------
    context : BuildContext
    n_layers : int
        K; layer k makes interactions of order k + 1.
    init_logit : float
        Where the logits of all edges begin.
    threshold : float
        From which value on an edge counts as open.
    temperatures : (float, float)
        First and last.
    arch_lr : float
    schedule : ArchSchedule
    judged : bool, default=True
        Whether rows that nothing is trained on end the search and judge what is open.
    """

    def __init__(
        self,
        context,
        n_layers,
        init_logit,
        threshold,
        temperatures,
        arch_lr,
        schedule,
        judged=True,
    ):
        super().__init__()
        n, d = context.n_fields, context.embedding_dim
        noise = 1e-3 * torch.randn(n_layers, n, n, generator=context.generator)
        self.logits = nn.Parameter(init_logit + noise)
        self.transform = nn.Parameter(torch.eye(d).repeat(n, 1, 1))
        self.readout = nn.Parameter(torch.full((n_layers, n, d), READOUT))
        # Weights that know their rows by heart are too sure on others. Without factors for that,
        # right edges would close to make the products of their layer smaller.
        self.confidence = nn.Parameter(torch.zeros(1))
        self.norm = FieldNorm(context)
        self.register_buffer("others", 1 - torch.eye(n), persistent=False)
        self.threshold, self.temperatures = threshold, temperatures
        self.temperature = temperatures[0]
        self.arch_lr, self.arch_schedule = arch_lr, schedule
        self.judged_share, self.ends_early = JUDGED_SHARE * judged, judged
        self.out_dim = n_layers * n
        self.evidence = None

    def adjacency(self):
        r"""The tensors of all orders, (K, F, F), in [0, 1], with zeros on the diagonal.

        .. math:: A^{(1)} = \sigma(H^{(1)} / \tau), \quad A^{(k)} = \sigma \left(
                  \mathrm{logit} \left( D^{-1} \varphi(A^{(k-1)}) \sigma(H^{(k)}) \right) / \tau
                  \right)

        :math:`\varphi` says which edges are open, D counts those of a node; gradients flow
        through neither. A node without an open edge has none in the layers that follow.
        """
        layers = []
        for logits in self.logits:
            strength = torch.sigmoid(logits)
            if layers:
                opened = (layers[-1].detach() >= self.threshold).float()
                strength = opened @ strength / opened.sum(1, keepdim=True).clamp(min=1)
            sharp = torch.sigmoid(torch.logit(strength, eps=1e-6) / self.temperature)
            if layers:
                sharp = sharp * opened.amax(1, keepdim=True)
            layers.append(sharp * self.others)
        return torch.stack(layers)

    def forward(self, e, inputs):
        # Field by field: the edges then meet all rows in one product of matrices.
        first = self.norm(e).transpose(0, 1)
        messages = torch.bmm(first, self.transform)
        state, outputs = first, []
        for edges, readout in zip(self.adjacency(), self.readout, strict=True):
            reached = (edges / (e.shape[1] - 1)) @ messages.flatten(1)
            state = state * reached.view_as(messages)
            outputs.append(torch.bmm(state, readout.unsqueeze(2)).squeeze(2))
        return torch.cat(outputs).T * self.confidence.exp()

    def set_progress(self, t):
        self.temperature = annealed(
            *self.temperatures, t, warmup=self.arch_schedule.warmup, schedule="exponential"
        )

    def arch_parameters(self):
        return [self.logits, self.confidence]

    def arch_optimizer(self, n_steps):
        groups = [
            {"params": [self.logits], "lr": self.arch_lr},
            {"params": [self.confidence], "lr": CONFIDENCE_RATE * self.arch_lr},
        ]
        return torch.optim.Adam(groups)

    @torch.no_grad()
    def combinations(self):
        """All combinations by order, with their scores and weakest edges; see `tuple_strengths`.

        Returns
        -------
        list of (tuples ndarray (T, p), scores ndarray (T,), weakest ndarray (T,))
        """
        edges = self.adjacency().cpu().numpy().astype(float)
        found = []
        for order in range(2, len(edges) + 2):
            tuples = pair_index(edges.shape[1], order).T.numpy()
            found.append((tuples, *tuple_strengths(edges, tuples)))
        return found

    @torch.no_grad()
    def summary(self):
        """How many edges of each order are open."""
        opened = (self.adjacency() >= self.threshold).sum((1, 2)).tolist()
        return {f"open_edges_{k + 2}": n for k, n in enumerate(opened)}


def tuple_strengths(adjacency, tuples):
    """What a graph says of combinations of one order.

    A combination is a node and an order of the others, as they are met layer by layer.

    Parameters
    ----------
    adjacency : ndarray (K, F, F)
    tuples : ndarray of int (T, p), p <= K + 1

    Returns
    -------
    mean : ndarray (T,)
        Of the product of the edges, over all nodes and orders.
    weakest : ndarray (T,)
        The weakest edge of the node and order whose weakest edge is the strongest.
    """
    products, weakest = [], []
    for node, *others in permutations(tuples.T):
        edges = [adjacency[k, node, other] for k, other in enumerate(others)]
        products.append(np.prod(edges, 0))
        weakest.append(np.min(edges, 0))
    return np.mean(products, 0), np.max(weakest, 0)


class FIVES(ScoredTuples, SearchMethod):
    r"""Find combinations of two, three or four fields as paths in a graph, order by order.

    Fields are the nodes of a graph, and every order of interaction has edges of its own, weights in
    [0, 1]. With the embeddings as first states :math:`n^{(0)}`, layer k takes the states of the
    fields an order further:

    .. math:: n^{(k)}_i = n^{(k-1)}_i \odot
              \frac{1}{F - 1} \sum_{j \ne i} A^{(k)}_{ij} W_j n^{(0)}_j

    so that :math:`n^{(k)}_i` holds the products of field i with those that its edges lead to, one
    for each layer. Edges of a layer follow from those of the one before: good combinations rarely
    come from useless ones.

    .. math:: A^{(1)} = \sigma(H^{(1)}), \quad
              A^{(k)} = D^{-1} \varphi(A^{(k-1)})\, \sigma(H^{(k)})

    :math:`\varphi` says which edges are at or above ``threshold``, D counts them by node. The
    logits H are trained on rows of their own, all else on the others (bi-level, first order); a
    falling temperature brings the edges to 0 or 1. A combination :math:`c_1, \ldots, c_k, i` is
    found if all :math:`A^{(j)}_{i c_j}` are open at the end, for some order of its fields, and it
    lowers the loss of rows that the search has not seen. The network is then trained anew with the
    products of what was found.

    It fits networks with an "interaction" slot: FM, DeepFM, FwFM, IPNN. What it finds also serves
    models without embeddings, as columns: ``FieldCrosser.from_estimator(model)``.

    Parameters
    ----------
    max_order : {2, 3, 4}, default=3
        Fields of a combination, at most.
    threshold : float in (0, 1), default=0.5
        From which value on an edge is open.
    max_interactions : int or None, default=None
        Keep at most so many, those of the largest scores.
    choice : {"evidence", "threshold"}, default="evidence"
        What of the open combinations is kept: those that help on rows that nothing was trained on,
        by more than chance explains, or all, as in the paper.
    level : {"first_order", "one_level"}, default="first_order"
        Whether edges are trained on rows of their own, or on those of the weights by the same
        backward pass. The latter ranks as well on large tables but closes few edges.
    arch_lr : float, default=0.02
        Learning rate of the logits of edges.
    warmup : float in [0, 1), default=0.1
        Share of the search in which only the weights are trained.
    temperature : (float, float), default=(1.0, 0.2)
        First and last temperature of the edges, :math:`\sigma(\mathrm{logit}(A) / \tau)`.
    search_fraction : float in (0, 1), default=0.5
        Share of the training rows on which edges are trained.
    init_weight : float, default=0.6
        Initial weights of the kept products, as in `AutoFIS`.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the rest of the network, the embeddings, starts the final training: new,
        those at the start, or those at the end of the search. The products start anew.

    Notes
    -----
    ``interaction_scores_`` are, for every combination, the product of its edges, in the mean over
    all orders of its fields: of a pair the mean of both edges between the two. ``architecture_``
    has the edges themselves, "adjacency", a list of matrices, and "evidence", the t statistics of
    what was asked of unseen rows.

    A fifth of the rows of the weights trains nothing. The search ends once their loss has not
    fallen for ``patience`` epochs, with the weights and edges of the best one, and every open
    combination is then taken out and must lower their loss as it is faded in again, by more than
    chance explains (one-sided t tests, at 1 % for all open ones together, as in `AutoFIS`; of more
    than 20,000 open ones those of the largest scores are asked). On labels of noise nothing is
    kept. ``choice="threshold"`` keeps a third of the pairs there.

    Edges of pairs that lead to a combination of three have to be open, so that with
    ``max_order=3`` such pairs are found beside it. A perceptron beside the graph (DeepFM, IPNN)
    learns what pairs say by itself and leaves the edges less to tell: rank with an FM.

    There is no public code, and the paper's text and defaults were not at hand. The batch norm of
    the embeddings, the fixed divisor F - 1 (closing an edge does not make others larger), the
    linear read-out, temperatures and rates are ours. So is a factor of all outputs, trained with
    the edges, which says how sure products may be on rows that the weights have not seen: without
    it right edges close where few rows are trained on for long. Where nothing acts together the
    factor falls instead, and chance decides which edges stay open. What unseen rows are asked is
    ours as well. The sum of a layer also holds squares of a field that two layers lead to; they are
    no combination and are not kept. The final network has explicit products in place of the graph:
    those of three and four fields have an embedding table of their own.

    References
    ----------
    .. [1] Xie, Y. et al. "FIVES: Feature Interaction Via Edge Search for Large-Scale Tabular Data",
       KDD 2021. https://arxiv.org/abs/2007.14573

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, feature_crossing, interaction
    >>> X, y, truth = datasets.make_ctr(4000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.FIVES(max_order=2, max_interactions=1)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, lr=0.01, max_epochs=4, batch_size=64, random_state=0
    ... )
    >>> model.fit(X, y).interactions_
    [('f0', 'f1')]
    >>> feature_crossing.FieldCrosser.from_estimator(model).fit(X).crosses_
    [('f0', 'f1')]
    """

    slot = "interaction"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "max_order": [Interval(Integral, 2, MAX_ORDER, closed="both")],
        "threshold": [Interval(Real, 0, 1, closed="neither")],
        **constraints_of(
            "max_interactions", "arch_lr", "warmup", "temperature", "search_fraction", "retrain"
        ),
        "choice": [StrOptions({"evidence", "threshold"})],
        "level": [StrOptions({"first_order", "one_level"})],
        "init_weight": [Real],
    }

    @stores_parameters
    def __init__(
        self,
        max_order=3,
        threshold=0.5,
        max_interactions=None,
        choice="evidence",
        level="first_order",
        arch_lr=0.02,
        warmup=0.1,
        temperature=(1.0, 0.2),
        search_fraction=0.5,
        init_weight=0.6,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        if context.n_fields < self.max_order:
            raise ValueError(
                f"max_order={self.max_order} of FIVES needs at least as many fields, the table has "
                f"{context.n_fields}: {context.field_names}."
            )
        if self.level == "one_level":
            schedule = ArchSchedule("one_level", warmup=float(self.warmup))
        else:
            schedule = ArchSchedule(
                self.level, fraction=self.search_fraction, warmup=float(self.warmup)
            )
        return FieldGraph(
            context,
            self.max_order - 1,
            OPEN,
            self.threshold,
            check_temperatures(self.temperature),
            self.arch_lr,
            schedule,
            self.choice == "evidence",
        )

    def derive(self, module, context):
        found = module.combinations()
        candidates = [t for tuples, *_ in found for t in tuples.tolist()]
        scores, weakest = (np.concatenate(parts) for parts in list(zip(*found, strict=True))[1:])
        good = (weakest >= self.threshold) & module.proven(candidates)
        kept = [int(k) for k in np.argsort(-scores, kind="stable") if good[k]]
        return {
            "interactions": [candidates[k] for k in sorted(kept[: self.max_interactions])],
            "candidates": candidates,
            "scores": scores.tolist(),
            "adjacency": module.adjacency().detach().cpu().numpy().astype(float).tolist(),
            "evidence": [[list(t), evidence] for t, evidence in (module.evidence or {}).items()],
        }

    def check(self, architecture, context):
        check_tuples(architecture, context, max_order=MAX_ORDER)

    def realise(self, architecture, context):
        return KeptProducts(architecture["interactions"], context, self.init_weight)
