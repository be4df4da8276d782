"""SIF: which function of its two embeddings every pair of fields gets, by a proximal search."""

from contextlib import contextmanager
from numbers import Integral

import numpy as np
import torch
from scipy.stats import norm
from torch import nn

from ..base import SearchMethod
from ..base._constraints import constraints_of
from ..engine import ArchSchedule
from ..nn import OPERATORS, one_hot_of_largest, own_generator, pair_index, straight_through
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._evidence import (
    CHANCE,
    JUDGED_SHARE,
    cut_behind,
    fading_evidence,
    judging_batches,
    slopes,
)
from ._pair_functions import PairFunctions
from ._products import ScoredTuples, check_pairs_exist, check_tuples

SIZES = (0.25, 0.5, 0.75, 1.0)  # of a function on unseen rows, where it may be too loud
DRAWN = 0.5  # share of the steps after the warm-up in which functions are drawn
ROUNDS = 2  # of the comparison: functions are compared beside the best ones of the round before


class FunctionSearch(nn.Module):
    """All functions of all pairs, of which one a pair counts at a time; (B, F, d), inputs ->
    (B, P).

    Parameters
    ----------
    context : BuildContext
    names : sequence of str
        O functions.
    n_hidden : int
        Of the micro functions.
    shared : bool
        Whether all pairs have the same function.
    arch_lr : float
        How far an entry of the relaxed choice may move in the whole search.
    schedule : ArchSchedule
    judged : bool
        Whether functions are compared on rows of their own at the end.

    Attributes
    ----------
    relaxed : Parameter (P, O), or (1, O) if ``shared``
        In [0, 1]; the largest entry of a row is the choice.
    gains : Tensor (P, O)
        By how much a function lowers the mean loss of unseen rows.
    evidence : Tensor (P,)
        How fast their loss falls as the best function is faded in, in standard errors.
    """

    def __init__(self, context, names, n_hidden, shared, arch_lr, schedule, judged):
        super().__init__()
        self.names, self.shared = tuple(names), shared
        self.pairs = pair_index(context.n_fields).T.tolist()
        self.out_dim = context.axis("P")
        pairs_of = dict.fromkeys(self.names, self.pairs)
        self.functions = PairFunctions(pairs_of, context, n_hidden, self.out_dim)
        n_choices = 1 if shared else self.out_dim
        noise = 1e-3 * torch.randn(n_choices, len(names), generator=context.generator)
        self.relaxed = nn.Parameter(0.5 + noise)
        self.field_axes = {} if shared else {"relaxed": {0: self.out_dim}}
        self.arch_lr, self.arch_schedule = arch_lr, schedule
        self.judged_share = JUDGED_SHARE if judged else 0.0
        self.generator = own_generator(context.generator)
        self.drawn = self.fixed = self.made = None
        self.best = torch.zeros(n_choices, dtype=torch.int64)
        self.gains = torch.zeros(len(self.pairs), len(names), dtype=torch.float64)
        self.evidence = torch.zeros(len(self.pairs), dtype=torch.float64)

    def choice(self):
        """One-hot rows, with the gradient of the relaxed choice unless they are drawn or fixed."""
        if self.fixed is not None:
            return self.fixed
        # A draw is for the step of the weights; that of the choice follows it and sees the best.
        drawn, self.drawn = (self.drawn, None) if self.training else (None, self.drawn)
        if drawn is not None:
            return drawn
        return straight_through(one_hot_of_largest(self.relaxed), self.relaxed)

    def forward(self, e, inputs):
        choice = self.choice()
        if self.training and not choice.requires_grad:  # of a draw nothing else is asked
            drawn = choice.argmax(1).expand(len(self.pairs))
            features = self.functions.of_choice(e, inputs, drawn)
            if features is not None:
                return features
        made = self.functions(e, inputs).unflatten(1, (len(self.names), -1))
        self.made = made.detach()
        return (made * choice.T).sum(1)

    def set_progress(self, t):
        """Draw functions for the step of the weights, so that none is trained for being ahead."""
        share = 1.0 if t < self.arch_schedule.warmup else DRAWN
        drawn = torch.randint(len(self.names), (len(self.relaxed),), generator=self.generator)
        explores = float(torch.rand((), generator=self.generator)) < share
        self.drawn = self.one_hot(drawn) if explores else None

    def one_hot(self, positions):
        """Positions of functions as rows of a choice."""
        rows = nn.functional.one_hot(positions, len(self.names)).float()
        return rows.to(self.relaxed.device)

    def arch_parameters(self):
        return [self.relaxed]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam([self.relaxed], lr=self.arch_lr / n_steps)

    @torch.no_grad()
    def after_step(self):
        self.relaxed.clamp_(0, 1)

    def judge(self, network, loss, data):
        """Compare the functions of every pair on rows that nothing was trained on, and test the
        best ones.
        """
        best = self.relaxed.detach().argmax(1).cpu()
        for _ in range(ROUNDS):
            with self.fixed_to(best):
                self.gains = function_gains(self, network, loss, data)
            gains = self.gains.sum(0, keepdim=True) if self.shared else self.gains
            best = gains.argmax(1)
        with self.fixed_to(best):
            self.evidence = fading_evidence(self, network, loss, data)
        self.best = best

    @contextmanager
    def fixed_to(self, positions):
        """The given functions alone count meanwhile."""
        self.fixed = self.one_hot(positions)
        try:
            yield
        finally:
            self.fixed = None

    def summary(self):
        """How many pairs have each function, by the relaxed choice."""
        chosen = self.relaxed.detach().argmax(1).expand(len(self.pairs)).tolist()
        return {f"pairs_{name}": chosen.count(k) for k, name in enumerate(self.names)}


def function_gains(part, network, loss, data):
    """By how much each function of each pair lowers the mean loss of rows, in place of the one that
    counts; float64 (P, O).

    A function is taken at the best of a few sizes: one fitted to few rows may be the right one and
    too loud. As in `slope_evidence`, it is exact where features are added to the logit and of first
    order where a perceptron reads them.
    """
    n_pairs, n_names = len(part.pairs), len(part.names)
    total = torch.zeros(n_pairs, n_names, len(SIZES), dtype=torch.float64)
    sizes = torch.tensor(SIZES).view(-1, 1, 1)
    with cut_behind(part) as seen:
        for batch in judging_batches(network, data, n_pairs * n_names * len(SIZES)):
            logits = network(**batch.inputs)
            slope = slopes(logits, seen[0])  # (B, P, C)
            made = part.made  # (B, O, P)
            logits = logits.detach()
            weight = 1.0 if batch.weight is None else batch.weight

            def lost(z, weight=weight, y=batch.y):
                """Summed losses of logits (n, B, C); (n,)."""
                each = loss(z.flatten(0, 1), y.repeat(len(z))).view(len(z), -1)
                return (each * weight).sum(1).double().cpu()

            for p in range(n_pairs):
                without = logits - seen[0].detach()[:, p, None] * slope[:, p]
                share = made[:, :, p].T.unsqueeze(2) * slope[:, p]  # (O, B, C)
                sized = without + sizes.to(share.device) * share.unsqueeze(1)
                found = lost(torch.cat([without[None], sized.flatten(0, 1)]))
                total[p] += found[0] - found[1:].view(n_names, -1)
    return total.amax(2) / len(data)


class SIF(ScoredTuples, SearchMethod):
    r"""Search the function by which two fields interact: product, maximum, sum, ... (SIF).

    Every pair of fields gets one function out of a few, the macro choice. The number that it gives
    the network is the weighted sum of that function of both embeddings, behind elementwise micro
    functions with weights of their own:

    .. math:: h_{ij}^\top o_{ij}(g_i(e_i), g_j(e_j)), \quad o_{ij} \in \{l \odot r, \max(l, r),
              l + r, \ldots\}

    The choice is relaxed to numbers in :math:`[0, 1]`, but only the largest of a pair counts in
    forward passes (a proximal step); the gradient at that corner moves all of them, on rows of
    their own, and they are clipped to the box. Before and between, functions are drawn for the
    steps of the weights, so that all are trained alike. At the end all functions of a pair are
    compared on further rows, the best one is tested there, and the network is trained anew with the
    functions of the pairs that passed.

    It fits networks with an "interaction" slot: FM, DeepFM, FwFM, IPNN.

    Parameters
    ----------
    functions : sequence of str, default=("hadamard", "max", "plus")
        Names of ``sklearn_autorec.nn.OPERATORS``, at least one.
    shared : bool, default=False
        Whether all pairs get the same function, as where a table has two fields.
    choice : {"evidence", "proximal"}, default="evidence"
        By what the function of a pair is chosen. "evidence" compares losses on rows that nothing
        was trained on, and drops pairs whose best function chance explains. "proximal" takes the
        largest relaxed number, as the paper does, and keeps all pairs.
    micro_hidden : int, default=0
        Hidden units of a micro function, a perceptron 1-H-1 beside the identity; 8 in the paper. 0
        is without: a table of embeddings is an elementwise function of ids already.
    max_interactions : int or None, default=None
        Keep at most so many pairs, those of the largest scores.
    arch_lr : float, default=1.0
        How far a relaxed number can move in the search; they begin near 0.5.
    warmup : float in [0, 1), default=0.5
        Share of the search in which functions are drawn in every step and the choice rests.
        Afterwards they are drawn in half of the steps.
    search_fraction : float in (0, 1), default=0.1
        Share of the training rows on which the choice is trained.

    Notes
    -----
    ``interaction_scores_`` are, with "evidence", t statistics of how fast the loss of unseen rows
    (a fifth of the training rows) falls as the best function is faded in, as in `AutoFIS`; a pair
    is kept if they pass a one-sided test at 1 % for all functions of all pairs together. With
    "proximal" they are the largest relaxed numbers. ``architecture_["interaction"]`` has the
    function of each kept pair, "functions", and for all pairs and functions "gains", by how much
    the mean loss of unseen rows is lower with it, and "relaxed".

    Beside a first-order part, which all these networks have, some functions say the same: max(l, r)
    is half of l + r + abs(l - r), so that "max", "min" and "distance" differ by sums alone, and
    "plus", "difference" and "concat" add nothing but sums. So the default has one of each kind.
    Which kind it is shows where embeddings are tied to something, such as numbers
    with ``numeric_embedding="linear"``. Ids are free to move: a few products describe a table of
    maxima about as well as maxima do, and are found more easily, so that between ids a maximum is
    mostly taken for a product. The pairs themselves are found either way.

    Each function has a table of embeddings of its own, in the search as at the end, but for the
    first one, which reads those of the network. Departures from the paper: pairs of any table
    instead of two modes; tables and micro functions by function; drawn functions; the comparison at
    the end; micro functions are trained with the weights and trained anew, where the paper trains
    them with the choice and freezes them. Batch-normalised functions, also tried, were worse: on
    few steps they make noise as loud as effects.

    References
    ----------
    .. [1] Yao, Q., Chen, X., Kwok, J., Li, Y., Hsieh, C.-J. "Efficient Neural Interaction Function
       Search for Collaborative Filtering", WWW 2020. https://arxiv.org/abs/1906.12091

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, _ = datasets.make_ctr(4000, n_fields=3, cardinality=6, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(
    ...     network="fm",
    ...     search=interaction.SIF(),
    ...     lr=0.02,
    ...     max_epochs=6,
    ...     batch_size=128,
    ...     random_state=0,
    ...     embedding_init=0.1,
    ... )
    >>> model.fit(X, y).interactions_
    [('f0', 'f1')]
    >>> model.architecture_["interaction"]["functions"]
    ['hadamard']
    """

    slot = "interaction"
    distributes = True
    _parameter_constraints = {
        "functions": [tuple, list],
        "shared": ["boolean"],
        "choice": [StrOptions({"evidence", "proximal"})],
        "micro_hidden": [Interval(Integral, 0, None, closed="left")],
        **constraints_of("max_interactions", "arch_lr", "warmup", "search_fraction"),
    }

    @stores_parameters
    def __init__(
        self,
        functions=("hadamard", "max", "plus"),
        shared=False,
        choice="evidence",
        micro_hidden=0,
        max_interactions=None,
        arch_lr=1.0,
        warmup=0.5,
        search_fraction=0.1,
    ):
        """Store the parameters."""

    def build(self, context):
        check_pairs_exist("SIF", context)
        names = tuple(self.functions)
        known = all(isinstance(name, str) and name in OPERATORS for name in names)
        if not known or not names or len(set(names)) < len(names):
            raise ValueError(
                f"functions must be different names out of {tuple(OPERATORS)}, got "
                f"{self.functions!r}."
            )
        schedule = ArchSchedule(
            "first_order", fraction=self.search_fraction, warmup=float(self.warmup)
        )
        return FunctionSearch(
            context,
            names,
            self.micro_hidden,
            self.shared,
            self.arch_lr,
            schedule,
            self.choice == "evidence",
        )

    def derive(self, module, context):
        n_pairs = len(module.pairs)
        relaxed = module.relaxed.detach().cpu().double()
        if self.choice == "evidence":
            best, scores = module.best.expand(n_pairs), module.evidence
            kept = scores > norm.isf(CHANCE / module.gains.numel())
        else:
            best, scores = (t.expand(n_pairs) for t in (relaxed.argmax(1), relaxed.amax(1)))
            kept = torch.ones(n_pairs, dtype=torch.bool)
        order = np.argsort(-scores.numpy(), kind="stable")
        chosen = sorted([int(k) for k in order if kept[k]][: self.max_interactions])
        return {
            "interactions": [module.pairs[k] for k in chosen],
            "functions": [module.names[best[k]] for k in chosen],
            "candidates": module.pairs,
            "scores": scores.tolist(),
            "gains": module.gains.tolist(),
            "relaxed": relaxed.tolist(),
        }

    def check(self, architecture, context):
        check_tuples(architecture, context, max_order=2)
        pairs, names = architecture["interactions"], architecture.get("functions")
        if len({tuple(p) for p in pairs}) < len(pairs):
            raise ValueError(f"interactions must be pairs, each once, got {pairs!r:.200}.")
        known = isinstance(names, list) and all(
            isinstance(name, str) and name in OPERATORS for name in names
        )
        if not known or len(names) != len(pairs):
            raise ValueError(
                f"functions must be a list of {len(pairs)} names out of {tuple(OPERATORS)}, one a "
                f"pair, got {names!r:.200}."
            )

    def realise(self, architecture, context):
        pairs_of = {}
        for pair, name in zip(architecture["interactions"], architecture["functions"], strict=True):
            pairs_of.setdefault(name, []).append(pair)
        return PairFunctions(pairs_of, context, self.micro_hidden)
