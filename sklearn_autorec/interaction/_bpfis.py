"""BP-FIS: every user has interactions of their own."""

from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import at_least_one
from ..nn import PairProducts, linear, pair_index
from ..nn._interactions import pair_sum
from ..nn._relaxed import own_generator
from ..nn._statistics import drawn_by_row
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._evidence import share_spread
from ._products import ScoredTuples, check_tuples
from ._user_gates import LEVELS, levels_from_text, levels_to_text, update_gates, user_field

FIRST_LOG_VARIANCE = -4.0


def by_row(draw, like, generator):
    """Numbers of rows, of the shape and on the device of others: `torch.rand` or `torch.randn`."""
    drawn = drawn_by_row(lambda shape: draw(shape, generator=generator), like.shape)
    return drawn.to(like.device)


class PersonalGates(nn.Module):
    """The probability that a field matters to the user of a row; (B, F, d), inputs -> (B, F).

    Parameters
    ----------
    levels : uint8 ndarray (n_users, F)
        Probabilities in units of 1 / 255, by id of the user.
    user : int
        Number of the user's field.
    """

    one_row_a_value = True

    def __init__(self, levels, user):
        super().__init__()
        self.user = user
        self.register_buffer("levels", torch.from_numpy(levels))

    def forward(self, e, inputs):
        return self.levels.index_select(0, inputs.ids[:, self.user]).to(e.dtype) / LEVELS


class PersonalPairs(nn.Module):
    """Mean weight of every pair of feature values, times the probability that it counts; gated
    embeddings (B, F, d), inputs -> (B, P).

    The weight is :math:`\\mu^T f(v_i \\circ v_j)`, with f the identity or a ReLU layer. Both are
    positively homogeneous, so that the gates of the embeddings come out as their product p.
    """

    def __init__(self, context, hidden_units, heredity):
        super().__init__()
        n, d = context.n_fields, context.embedding_dim
        for name, fields in zip(("left", "right"), pair_index(n), strict=True):
            self.register_buffer(name, fields.contiguous(), persistent=False)
        self.dots = None if hidden_units else PairProducts(context)
        self.hidden = (
            linear(d, hidden_units, context.generator, bias=False) if hidden_units else None
        )
        width = hidden_units or d
        self.mean = nn.Parameter(torch.full((width,), 1.0 if not hidden_units else width**-0.5))
        self.heredity, self.out_dim = heredity, context.axis("P")

    def scores(self, e, *vectors):
        """f(v_i o v_j) times each of the vectors, (B, P) each."""
        if self.hidden is not None:
            v = e.index_select(1, self.left) * e.index_select(1, self.right)
            f = torch.relu(self.hidden(v))
            return [f @ vector for vector in vectors]
        return [self.dots(e, weight=vector) for vector in vectors]

    def interactions(self):
        """All pairs: their weights depend on the row."""
        pairs = zip(self.left.tolist(), self.right.tolist(), strict=True)
        return [(pair, None) for pair in pairs]

    def total(self, e, inputs):
        """Sum of what the pairs give, (B, 1): of plain products without making any."""
        if self.heredity == "weak" or self.hidden is not None:
            return self(e, inputs).sum(1, keepdim=True)
        return (pair_sum(e) * self.mean).sum(1, keepdim=True)

    def forward(self, e, inputs):
        (weight,) = self.scores(e, self.mean)
        if self.heredity == "strong" or inputs.gates is None:
            return weight
        i = inputs.gates.index_select(1, self.left)
        j = inputs.gates.index_select(1, self.right)
        return weight * (1 + i + j - 2 * i * j)


class SampledGates(nn.Module):
    """Gates of the search: drawn for every row in training, else their probabilities; -> (B, F)."""

    probabilities: torch.Tensor

    def __init__(self, context, user, probabilities):
        super().__init__()
        self.user = user
        self.register_buffer("probabilities", probabilities)
        self.generator = own_generator(context.generator)
        self.forced = None  # (field, 0.0 or 1.0): a gate that is held there
        # Of the last forward pass, for the pairs: ungated embeddings, probabilities and gates.
        self.seen = None

    def forward(self, e, inputs):
        p = self.probabilities.index_select(0, inputs.ids[:, self.user])
        gates = p
        if self.training:
            gates = (by_row(torch.rand, p, self.generator) < p).to(e.dtype)
        elif self.forced is not None:
            field, value = self.forced
            gates = p.clone()
            gates[:, field] = value
        self.seen = e, p, gates
        return gates


class SampledPairs(PersonalPairs):
    """Pair weights drawn from their posteriors in training, else their means, times pair gates.

    A pair counts if both of its fields do; of a pair of which one field does a gate of its own
    decides, whose probability is that both would.
    """

    total = None  # type: ignore[assignment]  # noise and gates are by pair

    def __init__(self, context, hidden_units, heredity, gates, kl_weight):
        super().__init__(context, hidden_units, heredity)
        self.spread = nn.Parameter(torch.zeros_like(self.mean))
        self._gates = (gates,)  # it stands in the network already
        self.kl_weight, self.divergence = kl_weight, 0.0
        self.memory, self.batch = None, 0  # weights of batches, and the number of the present one
        self.variation = torch.zeros(self.out_dim)  # of what each pair adds to the logits
        self.generator = own_generator(context.generator)

    def forward(self, e, inputs):
        e, p, gates = self._gates[0].seen
        if not self.training:
            weight = self.remembered(e)
        else:
            weight, log_variance = self.scores(e, self.mean, self.spread)
            log_variance = log_variance + FIRST_LOG_VARIANCE
            variance = log_variance.exp()
            self.divergence = 0.5 * (weight.square() + variance - 1 - log_variance).mean()
            noise = by_row(torch.randn, weight, self.generator)
            weight = weight + variance.sqrt() * noise
        i, j = gates.index_select(1, self.left), gates.index_select(1, self.right)
        share = i * j
        if self.heredity == "weak":
            own = p.index_select(1, self.left) * p.index_select(1, self.right)
            if self.training:
                own = (by_row(torch.rand, own, self.generator) < own).to(own.dtype)
            share = share + (i + j - 2 * i * j) * own
        return weight * share

    def remembered(self, e):
        """Mean weights, which are those of the first pass where ``memory`` keeps them: they do not
        depend on the gates.
        """
        if self.memory is None:
            return self.scores(e, self.mean)[0]
        if self.batch == len(self.memory):
            self.memory.append(self.scores(e, self.mean)[0])
        return self.memory[self.batch]

    def penalty(self):
        return self.kl_weight * self.divergence


class BPFIS(ScoredTuples, SearchMethod):
    r"""Choose interactions for every user, by Bayesian variable selection (BP-FIS).

    A field i matters to user u (:math:`s_{ui} = 1`) or not: only then does it count by itself. Its
    interaction with a field j counts if both matter (strong heredity), by a chance of its own if
    one of them does (weak heredity), and not if none does:

    .. math:: b_u + \sum_i s_{ui} w_i + \sum_{i<j} s_{uij} \tilde w_{ij}, \qquad
              \tilde w_{ij} \sim N(\mu^T f(v_i \circ v_j), \sigma_{ij})

    The posterior of :math:`s_{ui}` is a probability :math:`\pi_{ui}`; that of the chance of a pair
    is :math:`\pi_{ui} \pi_{uj}`. The search trains the weights with gates and pair weights drawn
    from their posteriors, then updates :math:`\pi` with the weights as they are. The network is
    then trained anew with both at their means. It searches the slots "gate" and "interaction"
    together, which FM, DeepFM and IPNN have.

    Parameters
    ----------
    user_column : int or str, default=0
        Who the gates belong to: the name of a categorical column, or its number among the
        categorical columns.
    heredity : {"strong", "weak"}, default="strong"
        Whether both fields of a pair must matter; "weak" is the paper.
    prior : float in (0, 1), default=0.5
        Probability that a field matters to a user, before anything is seen.
    hidden_units : int, default=0
        Units of the ReLU layer f (BP-NFM); 0 is the identity (BP-FM).
    kl_weight : float, default=0.001
        Weight of the mean divergence of the pair weights from their prior N(0, 1) in the loss of
        the search.
    n_rounds : int, default=1
        How often weights are trained anew and gates updated; the rounds share the epochs of the
        search.
    n_sweeps : int, default=2
        Updates of every gate in a round; each takes two passes over the rows per field.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the final training starts.

    Notes
    -----
    `user_gates` and `user_interactions` tell the probabilities. ``field_scores_`` are their means
    over the users of the training rows; ``interaction_scores_`` say how much what a pair adds to
    the logit varies over these rows: two fields that matter each have a gate, whatever they say
    together. No pair is dropped
    for everyone: ``interactions_`` has them all. A user without training rows has the mean gates.
    The gate of the user's own field is open, as is :math:`b_u` in the paper.

    Gates are per user and field, a byte each; the paper has them per user and single value. It
    updates :math:`\pi` by Adam and clamps it; here an update is the solution given the other gates,
    and the divergence of gates from their prior is in it. That of pair weights is in the loss of
    the search (the published code adds both to the prediction). Gates are drawn row by row, not
    once a batch; f has no bias, so that it commutes with gates. The share of a pair is its exact
    expectation, with :math:`p = \pi_{ui} \pi_{uj}` and weak heredity

    .. math:: p \, (1 + \pi_{ui} + \pi_{uj} - 2 p)

    where the paper multiplies the expectations of the factors. This share hardly grows with one
    probability where the other is near one, so that weak heredity needs two rounds to tell whose
    pair is whose (40 users in two groups, 5,000 rows: pairs of users are ranked with an AUC of .84
    after one round and .99 after two; strong heredity 1.00 after one).

    The likelihood is that of the estimator: Bernoulli or categorical for classes, normal for
    ratings, with the variance of the residuals. Evidence grows with the rows of a user: those of
    few rows keep gates near the prior.

    References
    ----------
    .. [1] Chen, Y. et al. "Bayesian Personalized Feature Interaction Selection for Factorization
       Machines", SIGIR 2019. https://doi.org/10.1145/3331184.3331196

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, _ = datasets.make_ctr(1000, n_fields=3, cardinality=5, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.BPFIS(user_column="f0")
    >>> model = CTRClassifier(network="fm", search=search, max_epochs=2, random_state=0).fit(X, y)
    >>> interaction.user_gates(model).shape
    (5, 3)
    """

    slots = ("gate", "interaction")
    distributes = True
    _parameter_constraints = {
        "user_column": [Interval(Integral, 0, None, closed="left"), str],
        "heredity": [StrOptions({"weak", "strong"})],
        "prior": [Interval(Real, 0, 1, closed="neither")],
        "hidden_units": [Interval(Integral, 0, None, closed="left")],
        "kl_weight": [Interval(Real, 0, None, closed="left")],
        **at_least_one("n_rounds", "n_sweeps"),
        "retrain": [StrOptions({"scratch", "rewind", "keep"})],
    }

    @stores_parameters
    def __init__(
        self,
        user_column=0,
        heredity="strong",
        prior=0.5,
        hidden_units=0,
        kl_weight=0.001,
        n_rounds=1,
        n_sweeps=2,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        user = user_field(self.user_column, context)
        probabilities = torch.full((context.n_ids[user], context.n_fields), float(self.prior))
        probabilities[:, user] = 1.0
        gates = SampledGates(context, user, probabilities)
        pairs = SampledPairs(context, self.hidden_units, self.heredity, gates, self.kl_weight)
        return {"gate": gates, "interaction": pairs}

    def search(self, problem):
        probabilities, epochs = None, problem.plan.epochs // self.n_rounds
        if not epochs:
            raise ValueError(
                f"n_rounds={self.n_rounds} needs as many epochs of the search, search_epochs is "
                f"{problem.plan.epochs}."
            )
        for _ in range(self.n_rounds):
            parts = self.build(problem.context)
            if probabilities is not None:
                parts["gate"].probabilities = probabilities
            network = problem.train(parts, epochs=epochs).net.module_
            if problem.interrupted:
                break
            update_gates(
                network, parts["gate"], problem.loss, problem.data, self.prior, self.n_sweeps
            )
            probabilities = parts["gate"].probabilities.cpu()
        pairs = parts["interaction"]
        pairs.variation = share_spread(pairs, network, problem.data)
        return self.derive(parts, problem.context)

    def derive(self, parts, context):
        gates, pairs = parts["gate"], parts["interaction"]
        levels = (gates.probabilities * LEVELS).round().to(torch.uint8).cpu().numpy()
        known = context.counts[gates.user] > 0 if context.counts else np.ones(len(levels), bool)
        tuples = pair_index(context.n_fields).T.tolist()
        return {
            "gate": {
                "user": gates.user,
                "probabilities": levels_to_text(levels),
                "scores": (levels[known].mean(0) / LEVELS).tolist(),
            },
            "interaction": {
                "interactions": tuples,
                "candidates": tuples,
                "scores": pairs.variation.tolist(),
            },
        }

    def check(self, architecture, context):
        gate, pairs = architecture["gate"], architecture["interaction"]
        user = gate.get("user")
        if type(user) is not int or not 0 <= user < len(context.n_ids):
            raise ValueError(
                f"user must be a categorical field below {len(context.n_ids)}, got {user!r}."
            )
        shape = levels_from_text(gate.get("probabilities")).shape
        wanted = (context.n_ids[user], context.n_fields)
        if shape != wanted:
            raise ValueError(
                f"the gates have shape {shape}, not {wanted[0]} users and {wanted[1]} fields."
            )
        check_tuples(pairs, context)
        if [list(t) for t in pairs["interactions"]] != pair_index(context.n_fields).T.tolist():
            raise ValueError(
                f"the interactions must be all pairs of {context.n_fields} fields, got "
                f"{pairs['interactions']!r:.200}."
            )

    def interaction_scores(self, architecture, context):
        return super().interaction_scores(architecture["interaction"], context)

    def field_scores(self, architecture, context):
        return architecture["gate"]["scores"]

    def realise(self, architecture, context):
        gate = architecture["gate"]
        levels = levels_from_text(gate["probabilities"])
        return {
            "gate": PersonalGates(levels, gate["user"]),
            "interaction": PersonalPairs(context, self.hidden_units, self.heredity),
        }
