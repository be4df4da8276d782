"""OptFS: one gate per value."""

import math
from numbers import Real

import numpy as np
import torch
from torch import nn

from ...base import SearchMethod
from ...base._constraints import constraints_of
from ...engine import ArchSchedule
from ...nn import InputSelection, annealed, mask_from_text, mask_to_text
from ...utils._parameters import stores_parameters
from ...utils._sklearn import Interval
from ._fields import FieldSearch, FixedGates, check_fields

INIT = 0.5  # of the logits of all gates
RESERVED = 2  # the missing and the unknown id of a field, which are neither penalised nor pruned


class ValueGates(nn.Module):
    """sigmoid(tau g) / sigmoid(1 / 2) of every value; inputs -> (B, F). Numeric and sequence fields
    have one gate each.

    Parameters
    ----------
    context : BuildContext
    penalty : float
        Loss of all gates open.
    gamma : float
        Last tau; the first is 1, geometric in between.
    travel : float
        Sum of the learning rates of all steps.
    warmup : float
        Share of the steps in which the gates rest.
    """

    def __init__(self, context, penalty, gamma, travel, warmup):
        super().__init__()
        self.arch_schedule = ArchSchedule(warmup=warmup)
        n_categorical, n_others = sum(context.n_ids), context.n_fields - context.n_categorical
        self.logit = nn.Parameter(torch.full((n_categorical + n_others, 1), INIT))
        self.register_buffer("usable", torch.ones(context.n_fields), persistent=False)
        starts = value_starts(context)
        self.register_buffer("offsets", torch.tensor(starts, dtype=torch.int32), persistent=False)
        penalised = torch.ones(len(self.logit), 1)
        for start in starts.tolist():
            penalised[start : start + RESERVED] = 0
        # One gate for all of a column: as if it had the values of the average column.
        penalised[n_categorical:] = max(n_categorical / max(context.n_categorical, 1), 1.0)
        self.register_buffer(
            "penalised", penalised / penalised.sum().clamp(min=1), persistent=False
        )
        self.n_categorical, self.n_others = n_categorical, n_others
        self.strength, self.gamma, self.travel, self.temperature = penalty, gamma, travel, 1.0

    def arch_parameters(self):
        return [self.logit]

    def arch_optimizer(self, n_steps):
        # The penalty's gradient falls with the number of values: with the usual eps its step would
        # as well.
        return torch.optim.Adam([self.logit], lr=self.travel / n_steps, eps=1e-15)

    def set_progress(self, t):
        self.temperature = annealed(
            1.0, self.gamma, t, warmup=self.arch_schedule.warmup, schedule="exponential"
        )

    def gates(self):
        """Open shares of all values, (V, 1)."""
        return torch.sigmoid(self.temperature * self.logit)

    def penalty(self):
        return self.strength * (self.gates() * self.penalised).sum()

    def forward(self, e, inputs):
        gates = self.gates() / torch.sigmoid(torch.tensor(INIT))
        parts = []
        if self.n_categorical:
            # Of a vector, index_select has a gradient that takes a tenth of the time of an
            # embedding's.
            rows = (inputs.ids + self.offsets).flatten()
            parts.append(gates[:, 0].index_select(0, rows).view(inputs.ids.shape))
        if self.n_others:
            parts.append(gates[self.n_categorical :, 0].expand(len(e), -1))
        return (parts[0] if len(parts) == 1 else torch.cat(parts, 1)) * self.usable

    def summary(self):
        return {
            "temperature": self.temperature,
            "kept_share": float(((self.logit > 0) * self.penalised).sum()),
        }


def value_starts(context):
    """Where the values of each categorical field begin, int64 ndarray (F_cat,)."""
    return np.cumsum([0, *context.n_ids], dtype=np.int64)[: context.n_categorical]


def share_kept_values(kept, context):
    """Keep a value in all categorical fields that share its table if one of them keeps it; changes
    ``kept``, bool ndarray (values of all fields,).
    """
    starts = value_starts(context)
    for of_owner in (True, False):
        for f, owner in enumerate(context.shared_ids):
            if owner is not None:
                own, others = (slice(starts[k], starts[k] + context.n_ids[k]) for k in (f, owner))
                kept[others if of_owner else own] |= kept[own if of_owner else others]


class OptFS(FieldSearch, SearchMethod):
    r"""Keep single values of the columns, those whose gates stay open against a penalty.

    The embedding of a value is multiplied by its gate, trained on the same batches as the weights
    (one level):

    .. math:: \frac{\sigma(\tau g)}{\sigma(1/2)}, \qquad \tau = \gamma^t, \quad t \in [0, 1], \qquad
              \text{loss} + \lambda \frac{1}{V} \sum_v \sigma(\tau g_v)

    Values with g > 0 are kept. The others share the row of unknown values, and the tables hold no
    rows for them; a column without kept values is dropped. The network is then trained from the
    *same* initial weights (a lottery ticket). Gates rest during a warm-up, after which t runs from
    0 to 1.

    Parameters
    ----------
    penalty : float, default=0.1
        :math:`\lambda`, the loss of all gates open, whatever the number of values. Larger keeps
        fewer.
    gamma : float, default=2000.0
        Last :math:`\tau`.
    travel : float, default=2.0
        Sum of the learning rates of g over all steps (Adam): the way of a gate that is always
        pushed one way. Gates start at 0.5. A gate that is pushed to and fro by chance strays by
        about travel over the root of the number of steps, which must stay well below 0.5.
    warmup : float in [0, 1), default=0.3
        Share of the steps in which gates rest at 1 while the embeddings are learned.
    retrain : {"rewind", "scratch", "keep"}, default="rewind"
        Weights with which the final training starts: those with which the search started, new, or
        searched ones.

    Notes
    -----
    Missing and unknown values are always kept. Numbers and lists have one gate per column,
    penalised like the values of the average column together. ``field_scores_`` is the share of the
    training cells of a column that hold kept values (for numbers and lists, 1 or 0); it is not a
    ranking of columns.

    Without the warm-up gates are moved by the gradients of embeddings that have learned nothing
    yet, and with much ``travel`` chance alone closes them: on 40,000 rows of Frappe (FM, 468 steps)
    ``penalty=0`` kept 60 % of the values of 100 rows or more with ``travel=10, warmup=0``, and
    keeps all of them now.

    The paper's sum of all gates ties :math:`\lambda` to the size of the corpus; here it is the
    mean. In the paper a pruned value has the embedding 0; here it is treated as any other unknown
    value, so that nothing of it needs to be stored but one bit. The paper rewinds to an early
    epoch, here to the first weights.

    References
    ----------
    .. [1] Lyu, F. et al. "Optimizing Feature Set for Click-Through Rate Prediction", WWW 2023.
       https://arxiv.org/abs/2301.10909

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, feature_selection
    >>> X, y, truth = datasets.make_ctr(
    ...     4000, n_fields=4, pairs=[], informative_fields=[2], main_effect=2, random_state=0
    ... )
    >>> search = feature_selection.OptFS(0.2)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> kept = {name: len(values) for name, values in model.fit(X, y).selected_values_.items()}
    >>> max(kept, key=kept.get)
    'f2'
    """

    supports_members = True
    _parameter_constraints = {
        "penalty": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 1, None, closed="left")],
        "travel": [Interval(Real, 0, None, closed="neither")],
        **constraints_of("warmup", "retrain"),
    }

    @stores_parameters
    def __init__(self, penalty=0.1, gamma=2000.0, travel=2.0, warmup=0.3, retrain="rewind"):
        """Store the parameters."""

    def build(self, context):
        return ValueGates(context, self.penalty, self.gamma, self.travel, self.warmup)

    def derive(self, module, context):
        logit = module.logit.detach().cpu().numpy()[:, 0]
        sizes = [*context.n_ids, *[1] * module.n_others]
        bounds = np.cumsum(sizes)
        eligible = np.repeat(module.usable.cpu().numpy() > 0, sizes) & (
            module.penalised.cpu().numpy()[:, 0] > 0
        )
        kept = (logit > 0) & eligible
        if not kept.any():  # the value whose gate was the last to close
            kept[np.argmax(np.where(eligible, logit, -np.inf))] = True
        share_kept_values(kept, context)
        scores, fields = [], []
        for f, own in enumerate(np.split(kept, bounds[:-1])):
            counts = np.asarray(context.counts[f]) if f < len(context.counts) else np.ones(len(own))
            scores.append(float(counts[own].sum() / max(counts.sum(), 1)))
            fields += [f] * bool(own.any())
        starts = value_starts(context)
        for start, size in zip(starts, context.n_ids, strict=True):
            kept[start : start + min(RESERVED, size)] = True
        return {
            "fields": fields,
            "scores": scores,
            "values": mask_to_text(kept[: module.n_categorical, None]),
        }

    def check(self, architecture, context):
        check_fields(architecture, context)
        shape = mask_from_text(architecture.get("values")).shape
        if shape != (sum(context.n_ids), 1):
            raise ValueError(
                f"values must hold {sum(context.n_ids)} bits, one a value of this table, got "
                f"{shape}."
            )
        kept = mask_from_text(architecture["values"])[:, 0].astype(bool)
        together = kept.copy()
        share_kept_values(together, context)
        if not np.array_equal(kept, together):
            raise ValueError("values must be the same for columns that share a vocabulary.")

    def selection(self, architecture, context):
        return InputSelection(
            context, architecture["fields"], mask_from_text(architecture["values"])[:, 0]
        )

    def realise(self, architecture, context):
        if self.retrain != "keep":
            return None
        return FixedGates([1 + math.exp(-INIT)] * context.n_fields)  # as the search left open gates
