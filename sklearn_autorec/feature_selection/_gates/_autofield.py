"""AutoField: one keep-or-drop choice per field."""

import torch
from torch import nn

from ...base import SearchMethod
from ...base._constraints import constraints_of
from ...engine import ArchSchedule, MovedByAdam
from ...nn import GumbelSoftmax, check_temperatures
from ...utils._parameters import stores_parameters
from ._fields import N_KEPT, FieldSearch, choose, with_unusable_last


class SampledGates(MovedByAdam, nn.Module):
    """Twice the probability of keeping each field, with Gumbel noise in training, and one during
    the warm-up; -> (1, F).

    Parameters
    ----------
    context : BuildContext
    schedule : ArchSchedule
    arch_lr : float
    temperatures : (float, float)
        First and last.
    """

    def __init__(self, context, schedule, arch_lr, temperatures):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(context.n_fields, 2))  # of dropping, of keeping
        self.field_axes = {"alpha": {0: context.axis("F")}}
        self.register_buffer("usable", torch.ones(context.n_fields), persistent=False)
        self.arch_schedule, self.arch_lr = schedule, arch_lr
        self.choice = GumbelSoftmax(
            self.alpha.shape, context.generator, temperatures, warmup=schedule.warmup
        )

    def arch_parameters(self):
        return [self.alpha]

    def forward(self, e, inputs):
        if self.choice.warming:
            return self.usable.unsqueeze(0)
        return (2 * self.choice(self.alpha)[:, 1] * self.usable).unsqueeze(0)

    def scores(self):
        """log of the odds of keeping each field, (F,)."""
        return (self.alpha[:, 1] - self.alpha[:, 0]).detach()

    def summary(self):
        return {
            "temperature": self.choice.temperature,
            "open_gates": int((self.scores() > 0).sum()),
        }


class AutoField(FieldSearch, SearchMethod):
    r"""Keep the fields that a bi-level search with Gumbel noise finds worth keeping.

    Every field's embedding is multiplied by twice the second of

    .. math:: p_j = \mathrm{softmax}_j ( (\log \mathrm{softmax}(\alpha)_j + g_j) / \tau ), \quad
              g_j = -\log(-\log u_j), \quad j \in \{\text{drop}, \text{keep}\}

    The weights train on one part of the training rows, :math:`\alpha` on the other. Fields are
    ranked by :math:`\alpha_{keep} - \alpha_{drop}`, which are ``field_scores_``; the network of the
    best is trained anew, without gates.

    Parameters
    ----------
    n_kept : "auto", int or float in (0, 1), default="auto"
        How many fields to keep, or which share. "auto" keeps those that are more likely to be kept
        than dropped, at least the best one.
    level : {"first_order", "unrolled", "one_level"}, default="first_order"
        How :math:`\alpha` is trained: on rows of its own, with the weights as they are or after one
        more step; or on the same rows as the weights.
    arch_lr : float, default=0.02
        Adam's learning rate of :math:`\alpha`.
    arch_every : int, default=2
        Weight steps per step of :math:`\alpha`.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which :math:`\alpha` is trained (bi-level only).
    warmup : float in [0, 1), default=0.5
        Share of the steps with all gates at one, before the search begins. Without it, fields that
        matter only in pairs are closed before the network has learned the pair.
    temperature : tuple of (float, float), default=(1.0, 0.1)
        First and last :math:`\tau`; falls linearly with the share of steps done.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the final training starts; "rewind" and "keep" take over those of the
        kept fields.

    Notes
    -----
    The temperature follows the share of steps done: at the paper's 0.00005 a step a short search
    would end as it began. Noise is drawn in training only, and once a step for all rows of a batch.

    The paper keeps a given number of fields; "auto" is ours. So is the factor of two: undecided
    gates leave embeddings as they are, and the network learns pairs as fast as without gates. A
    column with one value, and a relabelled copy of an earlier one, have no part in the search.

    References
    ----------
    .. [1] Wang, Y. et al. "AutoField: Automating Feature Selection in Deep Recommender Systems",
       WWW 2022. https://arxiv.org/abs/2204.09078

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, feature_selection
    >>> X, y, truth = datasets.make_ctr(
    ...     4000, n_fields=4, pairs=[], informative_fields=[2], main_effect=2, random_state=0
    ... )
    >>> search = feature_selection.AutoField(n_kept=1)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> model.fit(X, y).selected_fields_
    ['f2']
    """

    _parameter_constraints = {
        "n_kept": N_KEPT,
        **constraints_of(
            "level", "arch_lr", "arch_every", "search_fraction", "warmup", "temperature", "retrain"
        ),
    }

    @stores_parameters
    def __init__(
        self,
        n_kept="auto",
        level="first_order",
        arch_lr=0.02,
        arch_every=2,
        search_fraction=0.2,
        warmup=0.5,
        temperature=(1.0, 0.1),
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        schedule = ArchSchedule(self.level, self.arch_every, self.search_fraction, self.warmup)
        return SampledGates(context, schedule, self.arch_lr, check_temperatures(self.temperature))

    def derive(self, module, context):
        scores, usable = (
            module.scores().cpu().numpy().astype(float),
            module.usable.cpu().numpy() > 0,
        )
        kept, scores = (scores > 0) & usable, with_unusable_last(scores, usable)
        return {"fields": choose(scores, kept, self.n_kept, context), "scores": scores.tolist()}
