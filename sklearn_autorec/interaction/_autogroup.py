"""AutoGroup: interactions of any order inside groups of fields that are learned."""

import math
from itertools import combinations
from numbers import Integral, Real

import torch
from scipy.stats import norm
from torch import nn

from ..base import SearchMethod
from ..base._constraints import RETRAIN_OR_NOT, constraints_of
from ..engine import ArchSchedule, MovedByAdam
from ..nn import FieldEmbedding, PairDots, logistic_noise, straight_through
from ..nn._numeric import hold_constants
from ..nn._relaxed import own_generator
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._evidence import CHANCE, JUDGED_SHARE, fading_evidence, mean_slopes
from ._factors import (
    pairs_are_cheaper,
    scored_tuples,
    summed_pairs,
    summed_polynomials,
    summed_powers,
)
from ._field_operations import FieldNorm
from ._products import ScoredTuples, check_pairs_exist, check_tuples, warn_of_nothing

FIRST_LOGIT = 0.5  # of a field to be in a group
FIRST_SIZE = 0.3  # of the logits of an order at the start


class GroupProducts(nn.Module):
    """Interactions inside groups of fields, a number for each group; (B, F, d), inputs -> (B, K).

    Of a group of order p it is the sum over the coordinates of all weighted products of p of its
    fields. Orders above two have an embedding table of their own each.

    Parameters
    ----------
    context : BuildContext
    members : dict of int to bool Tensor (K_p, F)
        By order: which fields are in each group.
    kernel : {"esp", "power"}
        See `AutoGroup`.
    """

    def __init__(self, context, members, kernel):
        super().__init__()
        self.orders, self.kernel = [*members], kernel
        self.out_dim = sum(len(own) for own in members.values())
        self.groups = {
            p: [fields.nonzero().flatten().tolist() for fields in own] for p, own in members.items()
        }
        self.tables = nn.ModuleDict({str(p): FieldEmbedding(context) for p in members if p > 2})
        hold_constants(self.tables)
        self.norms = nn.ModuleDict({str(p): FieldNorm(context) for p in members})
        self.field_axes = {}
        for p, own in members.items():
            self.register_buffer(f"members_{p}", own.float(), persistent=False)
            weight = torch.empty(own.shape).uniform_(0.5, 1.5, generator=context.generator)
            n_products = math.comb(context.n_fields, p) * context.embedding_dim
            weight *= (FIRST_SIZE / (len(own) * n_products**0.5)) ** (1 / p)
            self.register_parameter(f"weight_{p}", nn.Parameter(weight))
            self.field_axes |= {f"{name}_{p}": {-1: context.axis("F")} for name in self.by_field}
        together = members[2].float().T @ members[2].float() if 2 in members else torch.zeros(0, 0)
        pairs = together.triu(1).nonzero().T.contiguous()
        self.register_buffer("pairs", pairs, persistent=False)
        # Pairs that share no group are not multiplied.
        dense = pairs_are_cheaper(pairs.shape[1], len(members.get(2, ())), context.embedding_dim)
        self.dots = PairDots(pairs, context.n_fields) if dense else None

    by_field: tuple = ("weight",)

    def chosen(self, order):
        """1 for the fields in each group of an order, 0 for the others, (K_p, F)."""
        return getattr(self, f"members_{order}")

    def interactions(self):
        """All tuples of an order inside one of its groups, which have no one weight."""
        return [(tuple(t), None) for t in tuples_inside(self.groups)]

    def forward(self, e, inputs):
        if not self.out_dim:
            return e.new_zeros(e.shape[0], 0)
        features = []
        for p in self.orders:
            weight = getattr(self, f"weight_{p}") * self.chosen(p)
            vectors = self.norms[str(p)](e if p == 2 else self.tables[str(p)](inputs))
            if p == 2 and self.dots is not None:
                made = summed_pairs(weight, self.dots(vectors), self.pairs)
                features.append(made if self.kernel == "esp" else 2 * made)
            elif self.kernel == "esp":
                features.append(summed_polynomials(weight, vectors, p))
            else:
                features.append(summed_powers(weight, vectors, p))
        return torch.cat(features, 1)


class SearchedGroups(MovedByAdam, GroupProducts):
    """Groups whose fields are drawn by their odds in the steps of the structure, and are the more
    likely choice otherwise.
    """

    by_field = ("weight", "logits")
    judged_share = JUDGED_SHARE

    def __init__(self, context, n_groups, kernel, schedule, arch_lr, temperature, price):
        n = context.n_fields
        super().__init__(
            context, {p: torch.ones(k, n, dtype=torch.bool) for p, k in n_groups.items()}, kernel
        )
        self.arch_schedule, self.arch_lr = schedule, arch_lr
        self.temperature, self.price = temperature, price
        self.noise = {}
        for p, k in n_groups.items():
            self.register_parameter(f"logits_{p}", nn.Parameter(torch.full((k, n), FIRST_LOGIT)))
            self.noise[p] = torch.zeros(k, n)
        self.generator = own_generator(context.generator)
        self.passes = 0  # of this training step
        self.slopes = torch.ones(self.out_dim, 1)  # of the logits by each group's number
        # By order: how fast the loss of unseen rows falls as its groups are faded in, in standard
        # errors; those of no entry are not known.
        self.evidence = {}

    def arch_parameters(self):
        return [getattr(self, f"logits_{p}") for p in self.orders]

    def set_progress(self, t):
        """Draw the noise of the structure's next step."""
        self.passes = 0
        for p in self.orders:
            self.noise[p] = logistic_noise(self.noise[p].shape, self.generator)

    def forward(self, e, inputs):
        features = super().forward(e, inputs)
        self.passes += self.training
        return features

    def chosen(self, order):
        logits = getattr(self, f"logits_{order}")
        if self.training and self.passes:  # the weights have had their pass
            logits = logits + self.noise[order].to(logits.device)
        hard = (logits >= 0).to(logits.dtype)
        return straight_through(hard, torch.sigmoid(logits / self.temperature))

    def penalty(self):
        means = [torch.sigmoid(t / self.temperature).mean() for t in self.arch_parameters()]
        return self.price * sum(means)

    def judge(self, network, loss, data):
        """Learn, on rows that nothing was trained on, how the network reads the groups, and which
        orders point towards the target.
        """
        self.slopes = mean_slopes(self, network, data)
        for p in self.orders:
            own = self.columns(p)
            self.evidence[p] = float(fading_evidence(self, network, loss, data, own))

    def columns(self, order):
        """Where the numbers of the groups of an order stand."""
        before = sum(len(self.noise[p]) for p in self.orders if p < order)
        return slice(before, before + len(self.noise[order]))

    def proven(self, order):
        """Whether chance does not explain how much the groups of an order help on unseen rows."""
        return self.evidence.get(order, math.inf) > norm.isf(CHANCE / len(self.orders))

    def members(self, order):
        """Which fields are in each group of an order, bool (K_p, F)."""
        return (getattr(self, f"logits_{order}") >= 0).detach().cpu()

    @torch.no_grad()
    def scores(self, order):
        """Tuples (K, p) of an order, and the sum of what all groups make of each, (K,), fields by
        the odds of their choice.
        """
        odds = torch.sigmoid(getattr(self, f"logits_{order}") / self.temperature)
        weight = (getattr(self, f"weight_{order}") * odds).double().cpu()
        slopes = self.slopes[self.columns(order)]
        return scored_tuples(order, weight.numpy(), slopes.numpy())

    def summary(self):
        """Mean share of the fields that are in a group, by order."""
        return {f"share_of_fields_{p}": float(self.members(p).float().mean()) for p in self.orders}


class AutoGroup(ScoredTuples, SearchMethod):
    r"""Learn groups of fields, and let all tuples of an order inside a group interact.

    A group j of order p has weights :math:`w_{ij}` and choices :math:`s_{ij} \in \{0, 1\}` of its
    fields, and gives one number, in time proportional to the number of fields:

    .. math:: I_j = \sum_f \sum_{i_1 < \ldots < i_p} \prod_q s_{i_q j} w_{i_q j} e_{i_q f}
              \quad \text{("esp")}, \qquad
              I_j = \sum_f \left( \sum_i s_{ij} w_{ij} e_{if} \right)^p
              - \sum_i (s_{ij} w_{ij} e_{if})^p \quad \text{("power")}

    Choices are trained in steps of their own, the weights between them with the likeliest ones
    (bi-level): Bernoulli draws, relaxed by the Gumbel softmax and straight-through. Each costs a
    small price. Groups of fewer fields than their order are dropped, and orders that do not help on
    unseen rows.

    It fits networks with an "interaction" slot: FM, DeepFM, FwFM, IPNN.

    Parameters
    ----------
    max_order : int, default=3
        Fields of an interaction, at most.
    n_groups : int or sequence of int, default=32
        Groups of each order from 2 before the search.
    kernel : {"esp", "power"}, default="esp"
        "power" is the paper's. From order three on it has products with powers of a field in it,
        which "esp" has not; for pairs it is twice "esp".
    price : float, default=0.06
        Of all fields in all groups of an order, in units of the loss; larger makes smaller groups.
    arch_lr : float, default=0.02
        Learning rate of the choices.
    temperature : float, default=0.5
        Of their relaxation.
    warmup : float in [0, 1), default=0.4
        Share of the search in which only the weights are trained.
    search_fraction : float in (0, 1) or None, default=0.2
        Share of the training rows on which the choices are trained. None takes the batch that the
        weights have just been trained on, as the published code does.
    retrain : {"scratch", "rewind", "keep", "none"}, default="scratch"
        Weights with which the final training of the chosen groups starts: new, those at the start,
        or those at the end of the search. "none" does not train again, as the paper.

    Notes
    -----
    ``interactions_`` are all tuples of an order inside its groups. ``interaction_scores_`` tell
    them apart: the absolute sum over all groups of the products of weights times the odds of their
    choice, each times what the network makes of the group's number (the mean derivative of the
    logit on a fifth of the training rows, which train nothing; 1 in FM and DeepFM). Groups overlap,
    and a tuple may be in several that cancel out. ``architecture_["interaction"]["groups"]`` has
    the groups by order. Networks keep groups, not tuples: six fields in a group of order two are 15
    pairs.

    A fifth of the training rows trains nothing in the search: on it the groups of an order must
    lower the loss as they are faded in, by more than chance explains (one-sided t tests, at 1 % for
    all orders together, as in `PROFIT`), or none of them is kept. A search whose fields leave all
    groups warns of it. ``architecture_["interaction"]["evidence"]`` has the t statistics by order.

    Departures from the published code: the network is trained anew, since nothing stops the search
    before it knows its rows by heart; the first order is left to the network; pairs read the
    embeddings of the network; no table has another width; rows of the choices, price, warm-up, a
    milder temperature and rate (0.01 and 100 there); powers of single fields are left out in full.
    Without the warm-up fields left all groups before their weights had learned anything: on planted
    pairs one of five was lost.

    References
    ----------
    .. [1] Liu, B. et al. "AutoGroup: Automatic Feature Grouping for Modelling Explicit High-Order
       Feature Interactions in CTR Prediction", SIGIR 2020. https://doi.org/10.1145/3397271.3401082

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(4000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.AutoGroup(max_order=2, n_groups=4)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> scores = model.fit(X, y).interaction_scores_
    >>> max(scores, key=scores.get)
    ('f0', 'f1')
    """

    slot = "interaction"
    distributes = True
    _parameter_constraints = {
        "max_order": [Interval(Integral, 2, None, closed="left")],
        "n_groups": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "kernel": [StrOptions({"esp", "power"})],
        "price": [Interval(Real, 0, None, closed="left")],
        **constraints_of("arch_lr", "warmup"),
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "search_fraction": [None, Interval(Real, 0, 1, closed="neither")],
        "retrain": RETRAIN_OR_NOT,
    }

    @stores_parameters
    def __init__(
        self,
        max_order=3,
        n_groups=32,
        kernel="esp",
        price=0.06,
        arch_lr=0.02,
        temperature=0.5,
        warmup=0.4,
        search_fraction=0.2,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        check_pairs_exist("AutoGroup", context)
        n = self.n_groups
        n = [n] * (self.max_order - 1) if isinstance(n, Integral) else list(n)
        if len(n) != self.max_order - 1 or not all(isinstance(k, Integral) and k > 0 for k in n):
            raise ValueError(
                f"n_groups must be an int of at least 1, or one for each of the "
                f"{self.max_order - 1} orders up to max_order={self.max_order}, got "
                f"{self.n_groups!r}."
            )
        rows = {"rows": "same"} if self.search_fraction is None else {"level": "first_order"}
        if self.search_fraction is not None:
            rows["fraction"] = self.search_fraction
        return SearchedGroups(
            context,
            {p: k for p, k in enumerate(n, 2) if p <= context.n_fields},
            self.kernel,
            ArchSchedule(**rows, warmup=float(self.warmup)),
            self.arch_lr,
            self.temperature,
            self.price,
        )

    def derive(self, module, context):
        found = {"groups": {}, "numbers": {}, "interactions": [], "candidates": [], "scores": []}
        none_left = True
        for p in module.orders:
            members = module.members(p)
            kept = (members.sum(1) >= p).nonzero().flatten().tolist()
            none_left = none_left and not kept
            if kept and module.proven(p):
                found["numbers"][str(p)] = kept
                found["groups"][str(p)] = [members[j].nonzero().flatten().tolist() for j in kept]
            tuples, scores = module.scores(p)
            found["candidates"] += tuples.tolist()
            found["scores"] += scores.tolist()
        found["interactions"] = tuples_inside(found["groups"])
        found["evidence"] = {str(p): t for p, t in module.evidence.items()}
        if none_left:
            advice = "a smaller price, arch_lr or embedding_l2 may keep some"
            warn_of_nothing(self, len(found["candidates"]), advice)
        return found

    def transfer(self, state, architecture, context):
        numbers, brought = architecture["numbers"], {}
        for name, tensor in state.items():
            kind, _, order = name.removeprefix("interaction.").partition("_")
            own = name.startswith("interaction.") and order.isdecimal()
            if own and kind == "weight":
                tensor = tensor[torch.tensor(numbers.get(order, []), dtype=torch.int64)]
            if not own or kind != "logits":
                brought[name] = tensor
        return brought

    def check(self, architecture, context):
        groups, numbers = architecture.get("groups"), architecture.get("numbers")
        if not isinstance(groups, dict) or not all(isinstance(g, list) for g in groups.values()):
            raise ValueError(f"groups must be a dict of order to a list of groups, got {groups!r}.")
        for order, own in groups.items():
            p = int(order) if isinstance(order, str) and order.isdecimal() else 0
            if not 2 <= p <= context.n_fields or not own:
                raise ValueError(
                    f"groups must be by orders from 2 to {context.n_fields}, none of them empty, "
                    f"got {order!r}: {own!r:.200}."
                )
            for fields in own:
                right = isinstance(fields, list) and all(type(f) is int for f in fields)
                if not right or sorted({*fields}) != fields or not p <= len(fields):
                    raise ValueError(
                        f"a group of order {p} must be a list of {p} rising fields or more, got "
                        f"{fields!r:.200}."
                    )
                if not 0 <= fields[0] <= fields[-1] < context.n_fields:
                    raise ValueError(
                        f"fields of a group must be below {context.n_fields}, got {fields!r:.200}."
                    )
        told = {order: len(own) for order, own in groups.items()}
        if not isinstance(numbers, dict) or told != {
            order: len(own) for order, own in numbers.items() if isinstance(own, list)
        }:
            raise ValueError(
                f"numbers must have as many numbers of each order as there are groups, {told}, "
                f"got {numbers!r:.200}."
            )
        check_tuples(architecture, context, max_order=context.n_fields)
        if [list(t) for t in architecture["interactions"]] != tuples_inside(groups):
            raise ValueError("interactions must be all tuples inside the groups of their order.")

    def realise(self, architecture, context):
        members = {}
        for order, groups in architecture["groups"].items():
            members[int(order)] = torch.zeros(len(groups), context.n_fields, dtype=torch.bool)
            for own, fields in zip(members[int(order)], groups, strict=True):
                own[fields] = True
        return GroupProducts(context, members, self.kernel)


def tuples_inside(groups):
    """All tuples of an order inside one of its groups, each once, in order; lists of fields."""
    inside = {
        int(order): {t for fields in own for t in combinations(fields, int(order))}
        for order, own in groups.items()
    }
    return [list(t) for order in sorted(inside) for t in sorted(inside[order])]
