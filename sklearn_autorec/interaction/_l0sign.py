"""L0-SIGN: every row is a graph of its values; an L0 penalty closes edges that are of no use."""

import math
from numbers import Integral, Real

import torch
from scipy.stats import norm
from torch import nn

from ..base import SearchMethod
from ..base._constraints import RETRAIN_OR_NOT
from ..engine import batches_of
from ..nn import (
    FieldEmbedding,
    hard_concrete,
    linear,
    logistic_noise,
    pair_index,
    probability_of_open,
)
from ..nn._numeric import hold_constants
from ..nn._relaxed import own_generator
from ..nn._statistics import drawn_by_row, mean_over_rows
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._evidence import CHANCE, JUDGED_SHARE, fading_evidence, mean_slopes
from ._field_operations import FieldNorm
from ._hidden_pairs import gated_sums, hidden_scores, read_units
from ._products import ScoredTuples, check_pairs_exist, check_tuples, warn_of_nothing

FIRST_LOGIT = 1.0  # of an edge; most are open at the start
FIRST_VECTOR = 0.1  # standard deviation of the numbers of vectors at the start
FREE = 0.3  # share of the search in which edges cost nothing
PASS_CELLS = 2**21  # numbers of messages made at a time


class EdgeGraph(nn.Module):
    """Sum of the messages along the edges of every row's graph; (B, F, d), inputs -> (B, d).

    A message is the elementwise product of two embeddings and what a hidden layer makes of it.
    Embeddings are brought to one initial size first, whatever that of the network is.

    Parameters
    ----------
    pairs : int64 Tensor (2, K)
        Fields whose values may have an edge.
    context : BuildContext
    hidden_units : int
    level : {"value", "field"}
        Whether an edge opens by the two values, or for all rows alike.
    """

    def __init__(self, pairs, context, hidden_units, level):
        super().__init__()
        d, n_pairs, generator = context.embedding_dim, pairs.shape[1], context.generator
        for name, fields in (("left", pairs[0]), ("right", pairs[1])):
            self.register_buffer(name, fields.contiguous(), persistent=False)
        self.out_dim, self.level = d, level
        self.factor = FIRST_VECTOR / context.embedding_init
        self.hidden = linear(d, hidden_units, generator)
        self.out = linear(hidden_units, d, generator, bias=False)
        # Open edges count as the products of a factorization machine do. Of smaller messages a
        # decay of the embeddings leaves nothing before they have learned anything.
        self.scale = nn.Parameter(torch.ones(()))
        if level == "field":
            self.edge = nn.Parameter(torch.full((n_pairs,), FIRST_LOGIT))
            return
        self.edge_embedding, self.edge_norm = FieldEmbedding(context), FieldNorm(context)
        hold_constants(self.edge_embedding)
        self.edge_hidden = linear(d, hidden_units, generator)
        self.edge_out = linear(hidden_units, 1, generator)
        nn.init.constant_(self.edge_out.bias, FIRST_LOGIT)

    def interactions(self):
        """The pairs; each has a gate for every row, and no one weight."""
        pairs = zip(self.left.tolist(), self.right.tolist(), strict=True)
        return [(pair, None) for pair in pairs]

    def edge_logits(self, e, inputs):
        """Logits of the gates of all edges, (B, K)."""
        if self.level == "field":
            return self.edge.expand(e.shape[0], -1)
        vectors = self.edge_norm(self.edge_embedding(inputs))
        return hidden_scores(vectors, self.left, self.right, self.edge_hidden, self.edge_out)

    def reading(self):
        """Linear map of messages to features, (d, d + H)."""
        weight = self.out.weight
        same = torch.eye(self.out_dim, dtype=weight.dtype, device=weight.device)
        return self.scale * torch.cat([same, weight], 1)

    def gates(self, logits):
        """Shares of the messages that pass, (B, K)."""
        return hard_concrete(logits)

    def forward(self, e, inputs):
        if not len(self.left):
            return e.new_zeros(e.shape[0], self.out_dim)
        gates = self.gates(self.edge_logits(e, inputs))
        sums = gated_sums(e * self.factor, gates, self.left, self.right, self.hidden)
        # The reading is linear: it is taken of the sum, not of every message.
        return sums @ self.reading().T


class SearchedGraph(EdgeGraph):
    """The graph of all pairs; in training gates are drawn for every row, and open ones cost."""

    judged_share = JUDGED_SHARE

    def __init__(self, context, hidden_units, level, l0):
        super().__init__(pair_index(context.n_fields), context, hidden_units, level)
        self.l0, self.progress, self.share = l0, 0.0, torch.zeros(())
        if level == "field":
            self.field_axes = {"edge": {0: context.axis("P")}}
        self.generator = own_generator(context.generator)
        # How fast the loss of unseen rows falls as the sum is faded in, in standard errors.
        self.evidence = math.inf
        self.asked = (
            None  # what is to be told of each batch instead of a pass, while it is measured
        )

    def forward(self, e, inputs):
        if self.asked is None:
            return super().forward(e, inputs)
        self.asked(e, inputs)
        return e.new_zeros(e.shape[0], self.out_dim)

    def set_progress(self, t):
        self.progress = max(t - FREE, 0.0) / (1 - FREE)

    def gates(self, logits):
        if not self.training:
            return hard_concrete(logits)
        self.share = mean_over_rows(probability_of_open(logits)).mean()
        noise = drawn_by_row(lambda shape: logistic_noise(shape, self.generator), logits.shape)
        return hard_concrete(logits, noise.to(logits.device))

    def penalty(self):
        """The price of the open edges, which comes late and grows from nothing: at once it would
        close all edges of embeddings that have not learned anything yet.
        """
        return self.l0 * self.progress * self.share

    def judge(self, network, loss, data):
        """Measure, on rows that nothing was trained on, whether the sum points at the target."""
        self.evidence = float(fading_evidence(self, network, loss, data, slice(None)))

    def summary(self):
        """Mean probability of an edge to be open, in the last batch."""
        return {"open_edges": float(self.share.detach())}

    @torch.no_grad()
    def measure(self, network, data):
        """Mean gate of every pair, and how much its message to the logits, times the odds that it
        passes, varies; (P,) each.

        Parameters
        ----------
        network : nn.Module
            Around this module.
        data : EncodedTensors
        """
        mode, d = network.training, self.out_dim
        network.eval()
        slopes = mean_slopes(self, network, data)
        read = (self.reading().double().T @ slopes.to(self.scale.device)).float().T  # (C, d + H)
        totals = [0.0, 0.0, 0.0]  # of gates, of what is added, of its squares

        def add_up(e, inputs):
            logits = self.edge_logits(e, inputs)
            odds = probability_of_open(logits).double().unsqueeze(2)
            made = read_units(
                e * self.factor, self.left, self.right, self.hidden, read[:, d:], read[:, :d]
            )
            shares = odds * made.double()  # (B, P, C)
            for k, t in enumerate((hard_concrete(logits).double(), shares, shares.square())):
                totals[k] = totals[k] + t.sum(0).cpu()

        self.asked = add_up
        try:
            for batch in batches_of(data, max(PASS_CELLS // (len(self.left) * read.shape[1]), 1)):
                network(**batch.inputs)
        finally:
            self.asked = None
            network.train(mode)
        opened, sums, squares = totals
        variance = (squares / len(data) - (sums / len(data)).square()).clamp(min=0)
        return opened / len(data), variance.sum(1).sqrt()


class L0SIGN(ScoredTuples, SearchMethod):
    r"""Close the edges between values that are of no use, by an L0 penalty (L0-SIGN).

    A row is a graph: its values are nodes, with embeddings :math:`u_i`, and every two have an edge.
    The messages along the edges are summed up, each times a gate in [0, 1]:

    .. math:: \sum_{i<j} s_{ij}\, h(u_i \odot u_j), \qquad
              s_{ij} = \mathrm{HardConcrete}(\mathrm{MLP}(v_i \odot v_j))

    Gates are drawn for every row in the search and depend on embeddings :math:`v_i` of their own,
    so that two values have an edge or not, in whatever row they meet. The mean probability of a
    gate to be open, times ``l0``, is added to the loss; weights and gates are trained together (one
    level). Pairs of fields whose gates are closed in nearly all rows are dropped.

    It fits networks with an "interaction" slot: FM, DeepFM, FwFM, IPNN.

    Parameters
    ----------
    level : {"value", "field"}, default="value"
        "field" has one gate for each pair of fields in place of one for two values.
    l0 : float, default=0.1
        Price of all edges at the end of the search, in units of the loss; it grows from zero, after
        three tenths of the search without any.
        Larger leaves fewer open.
    threshold : float in [0, 1], default=0.1
        Pairs of fields whose mean gate is not above it are dropped.
    max_interactions : int or None, default=None
        Keep at most so many, those of the largest scores.
    hidden_units : int, default=32
        Of the layer in h, and of that of the gates.
    retrain : {"scratch", "rewind", "keep", "none"}, default="scratch"
        Weights with which the final training starts: new, those at the start, or those at the end
        of the search. "none" does not train again, as the paper; nothing stops the search before
        it knows its rows by heart, so that ``search_epochs`` must be right then.

    Notes
    -----
    ``interaction_scores_`` tell how much what a pair adds to the logit varies over the training
    rows: its standard deviation, gates at the odds that they are open; the logit's mean derivative
    where a perceptron reads the sum.
    ``architecture_["interaction"]["gates"]`` has the mean gates of all candidates. Gates out of
    the search are those without noise. A fifth of the training rows trains nothing in the search:
    on it the sum must lower the loss as it is faded in, by more than chance explains (a one-sided t
    test at 1 %, as in `PROFIT`), or nothing is kept. A search that closes all edges leaves a
    network without interactions and warns of it. A strong ``embedding_l2`` is one reason: it holds
    the vectors so small that messages are worth less than their price.

    Departures from the published code: :math:`h(x) = x + W\,\mathrm{ReLU}(V x + b)` keeps the
    product itself, without which few epochs teach it nothing (the paper trains hundreds); the
    vectors :math:`v_i` are batch-normalised; messages are summed, not averaged over the open edges,
    so that to close one does not move the others; an open edge begins as a product of a
    factorization machine; no value has an edge to itself; gates that serve
    have no noise; the estimator's loss in place of a squared one, and no penalty of the states of
    nodes.

    References
    ----------
    .. [1] Su, Y. et al. "Detecting Beneficial Feature Interactions for Recommender Systems", AAAI
       2021. https://arxiv.org/abs/2008.00404

    Examples
    --------
    >>> from sklearn_autorec import RatingRegressor, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(4000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.L0SIGN(level="field", max_interactions=1)
    >>> model = RatingRegressor(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> model.fit(X, y).interactions_
    [('f0', 'f1')]
    """

    slot = "interaction"
    distributes = True
    _parameter_constraints = {
        "level": [StrOptions({"value", "field"})],
        "l0": [Interval(Real, 0, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "max_interactions": [None, Interval(Integral, 0, None, closed="left")],
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        "retrain": RETRAIN_OR_NOT,
    }

    @stores_parameters
    def __init__(
        self,
        level="value",
        l0=0.1,
        threshold=0.1,
        max_interactions=None,
        hidden_units=32,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        check_pairs_exist("L0SIGN", context)
        return SearchedGraph(context, self.hidden_units, self.level, self.l0)

    def search(self, problem):
        module = self.build(problem.context)
        network = problem.train(module).net.module_
        gates, scores = module.measure(network, problem.data)
        order = scores.argsort(descending=True, stable=True).tolist()
        kept = [i for i in order if gates[i] > self.threshold][: self.max_interactions]
        tuples = pair_index(problem.context.n_fields).T.tolist()
        if not kept and self.max_interactions != 0 and not problem.interrupted:
            warn_of_nothing(self, len(tuples), "a smaller l0 or embedding_l2 may keep some")
        if module.evidence <= norm.isf(CHANCE):
            kept = []
        return {
            "interactions": [tuples[i] for i in sorted(kept)],
            "candidates": tuples,
            "scores": scores.tolist(),
            "gates": gates.tolist(),
            "evidence": module.evidence if math.isfinite(module.evidence) else None,
        }

    def transfer(self, state, architecture, context):
        name, kept = "interaction.edge", architecture["interactions"]
        if name not in state:
            return state
        tuples = pair_index(context.n_fields).T.tolist()
        rows = torch.tensor([tuples.index(list(pair)) for pair in kept], dtype=torch.int64)
        return {**state, name: state[name][rows.to(state[name].device)]}

    def check(self, architecture, context):
        check_tuples(architecture, context, max_order=2)
        pairs = [tuple(pair) for pair in architecture["interactions"]]
        if len({*pairs}) < len(pairs):
            raise ValueError(f"interactions must be pairs, each once, got {pairs!r:.200}.")

    def realise(self, architecture, context):
        pairs = torch.tensor(architecture["interactions"], dtype=torch.int64).reshape(-1, 2).T
        return EdgeGraph(pairs, context, self.hidden_units, self.level)
