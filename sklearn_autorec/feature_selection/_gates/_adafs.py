"""AdaFS: weights of the fields that differ from row to row."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ...base import SearchMethod
from ...base._constraints import constraints_of
from ...engine import ArchSchedule, EncodedTensors, MovedByAdam, batches_of
from ...nn import MLP, batch_norm
from ...nn._blocks import hold_shift
from ...nn._statistics import mean_over_rows
from ...utils._parameters import stores_parameters
from ...utils._sklearn import Interval, StrOptions
from ._fields import ScoredFields, check_numbers

PREDICT_ROWS = 16_384  # of one forward pass
JUDGED_SHARE = 0.2  # of the training rows; they end the search and are not trained on


class AdaptiveGates(nn.Module):
    """A controller that weighs the fields of each row; (B, F, d) -> factors (B, F), those that are
    not zero of mean one.

    Parameters
    ----------
    context : BuildContext
    hidden_units : tuple of int
        Of the controller.
    n_kept : int or None
        Fields that keep a weight in each row; None is all.
    """

    def __init__(self, context, hidden_units, n_kept):
        super().__init__()
        n = context.axis("F")
        self.norm = batch_norm(context.embedding_dim)
        if hidden_units:
            hold_shift(self.norm.bias)  # the first layer of the controller is normalised
        n_in = context.axis("F", context.embedding_dim)
        self.controller = MLP(n_in, hidden_units, context.generator, n_outputs=n)
        self.n_kept = n_kept

    def normed(self, e):
        """Embeddings, normalised over rows and fields, (B, F d)."""
        # Of 2-D tables, batch norm takes half the time. Not len(e), which an exported graph would
        # take for a constant.
        return self.norm(e.flatten(0, 1), n_rows=e.shape[0]).view_as(e).flatten(1)

    def forward(self, e, inputs):
        weights = torch.softmax(self.controller(self.normed(e)), 1)
        if self.n_kept is None:
            return weights * weights.shape[1]
        top, where = weights.topk(self.n_kept, 1)
        return torch.zeros_like(weights).scatter(
            1, where, top / top.sum(1, keepdim=True) * self.n_kept
        )


class SearchedAdaptiveGates(MovedByAdam, AdaptiveGates):
    """`AdaptiveGates` with the hooks of a bi-level search; all factors are one during the
    warm-up.
    """

    def __init__(self, context, hidden_units, n_kept, schedule, arch_lr):
        super().__init__(context, hidden_units, n_kept)
        self.arch_schedule, self.arch_lr = schedule, arch_lr
        self.warming = schedule.warmup > 0
        self.judged_share, self.ends_early = JUDGED_SHARE, True
        # Of the epoch whose weights these are: whether the controller has weighed anything.
        self.register_buffer("weighed", torch.tensor(not self.warming))
        self.register_buffer("mean_weight", torch.ones(context.n_fields))
        self.field_axes = {"mean_weight": {0: context.axis("F")}}

    def arch_parameters(self):
        return [*self.norm.parameters(), *self.controller.parameters()]

    def set_progress(self, t):
        self.warming = t < self.arch_schedule.warmup
        if not self.warming:
            self.weighed.fill_(True)

    def forward(self, e, inputs):
        if self.warming:
            self.normed(e)  # statistics for what comes
            return e.new_ones(1, e.shape[1])
        factors = super().forward(e, inputs)
        if self.training:
            self.mean_weight.lerp_(mean_over_rows(factors.detach()), 0.02)
        return factors

    def summary(self):
        return {
            "smallest_weight": float(self.mean_weight.min()),
            "largest_weight": float(self.mean_weight.max()),
        }


class AdaFS(ScoredFields, SearchMethod):
    r"""Weigh the fields of each row by a small controller network.

    Of the embeddings of a row, batch-normalised, the controller makes weights

    .. math:: w = \mathrm{softmax}(\mathrm{controller}(\mathrm{BN}(e))), \qquad
              e_i \leftarrow F w_i e_i

    With ``mode="hard"`` the ``n_kept`` largest weights of each row are kept, scaled to that sum,
    the others are zero. The network trains on one part of the training rows, the controller on the
    other. No field is dropped: the controller stays in the network, unless unseen rows say that it
    is of no use.

    Parameters
    ----------
    mode : {"soft", "hard"}, default="soft"
    n_kept : int of at least 2, or float in (0, 1), default=0.5
        Fields (or share of them, but at least 2) that keep a weight in a row (``mode="hard"``
        only). A single weight would always be one, and the controller could not learn.
    hidden_units : tuple of int, default=()
        Hidden layers of the controller.
    level : {"first_order", "unrolled", "one_level"}, default="first_order"
        How the controller is trained: on rows of its own, with the weights as they are or after one
        more step; or on the same rows as the weights.
    arch_lr : float, default=0.01
        Adam's learning rate of the controller.
    arch_every : int, default=2
        Weight steps per step of the controller.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which the controller is trained (bi-level only).
    warmup : float in [0, 1), default=0.2
        Share of the steps without the controller.
    retrain : {"keep", "scratch", "rewind"}, default="keep"
        Weights with which the final training starts, in which controller and network train
        together.

    Notes
    -----
    A fifth of the rows of the weights trains nothing. The search ends once their loss has not
    fallen for ``patience`` epochs, and goes back to the best one. Where that lies in the warm-up,
    no controller has lowered the loss: the network is trained without one, and
    ``architecture_["gate"]["controller"]`` is False.

    ``field_scores_`` are the mean weights over the last rows of the search, 1 for a field of
    average weight; `field_weights` gives those of single rows. Both are ways to look at the
    network, not a choice: for fields to drop use `AutoField` or `LPFS`.

    The factor F keeps embeddings at their size; batch norm is applied to what the controller reads,
    not to what the network reads. There is no ReLU before the softmax, which keeps the published
    code from closing a field. Neither departure shows: with batch norm feeding the network as well,
    with the ReLU, and with both, AUC differed from this form by less than between two seeds (40,000
    rows of Frappe, perceptron of 64-64, soft and hard, means of the four: .9279; .9285, .9283,
    .9281; on the planted switch all stayed within .0102 of the best possible).

    References
    ----------
    .. [1] Lin, W. et al. "AdaFS: Adaptive Feature Selection in Deep Recommender System", KDD 2022.
       https://doi.org/10.1145/3534678.3539204

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, feature_selection
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = feature_selection.AdaFS("hard", n_kept=2)
    >>> model = CTRClassifier(network="fm", search=search, max_epochs=2, random_state=0).fit(X, y)
    >>> feature_selection.field_weights(model, X).shape
    (2000, 4)
    """

    slot = "gate"
    distributes = True
    _parameter_constraints = {
        "mode": [StrOptions({"soft", "hard"})],
        "n_kept": [
            Interval(Integral, 2, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "hidden_units": [tuple, list],
        **constraints_of("level", "arch_lr", "arch_every", "search_fraction", "warmup", "retrain"),
    }

    @stores_parameters
    def __init__(
        self,
        mode="soft",
        n_kept=0.5,
        hidden_units=(),
        level="first_order",
        arch_lr=0.01,
        arch_every=2,
        search_fraction=0.2,
        warmup=0.2,
        retrain="keep",
    ):
        """Store the parameters."""

    def _sizes(self, context):
        """Hidden layers, and fields that are kept in a row or None."""
        if not all(isinstance(n, int) and n >= 1 for n in self.hidden_units):
            raise ValueError(
                f"hidden_units must hold ints of at least 1, got {self.hidden_units!r}."
            )
        if self.mode == "soft":
            return self.hidden_units, None
        n = (
            self.n_kept
            if isinstance(self.n_kept, Integral)
            else min(max(round(self.n_kept * context.n_fields), 2), context.n_fields)
        )
        if n > context.n_fields:
            raise ValueError(
                f"n_kept={self.n_kept} is more than the {context.n_fields} fields: "
                f"{context.field_names}."
            )
        return self.hidden_units, int(n)

    def build(self, context):
        schedule = ArchSchedule(self.level, self.arch_every, self.search_fraction, self.warmup)
        return SearchedAdaptiveGates(context, *self._sizes(context), schedule, self.arch_lr)

    def derive(self, module, context):
        return {
            "scores": module.mean_weight.cpu().numpy().astype(float).tolist(),
            "controller": bool(module.weighed),
        }

    def check(self, architecture, context):
        check_numbers("scores", architecture, context.n_fields)
        controller = architecture.get("controller", True)
        if not isinstance(controller, bool):
            raise ValueError(f"controller must be true or false, got {controller!r:.100}.")

    def realise(self, architecture, context):
        if not architecture.get("controller", True):
            return None
        return AdaptiveGates(context, *self._sizes(context))


def field_weights(model, X):
    """Factors by which a fitted model's gates multiply the fields of each row.

    Parameters
    ----------
    model : CTRClassifier or RatingRegressor
        Fitted, for instance with ``search=AdaFS()``.
    X : table of shape (n_rows, n_columns)

    Returns
    -------
    DataFrame of shape (n_rows, n_fields)
        A column for each field of the network, by name; 1 leaves a field as it is.

    Raises
    ------
    ValueError
        If the model saw a single class.
    """
    check_is_fitted(model, "encoder_")
    if model.net_ is None:
        raise ValueError(f"{model!r} has seen a single class and has no network.")
    module = model.net_.module_
    data = EncodedTensors.from_table(model.encoder_.encode(X), next(module.parameters()).device)
    with torch.inference_mode():
        factors = [
            module.gates(**batch.inputs).cpu().numpy() for batch in batches_of(data, PREDICT_ROWS)
        ]
    names, gate = model.encoder_.field_names_, model.architecture_.get("gate", {})
    columns = [names[f] for f in gate.get("fields", range(len(names)))]
    return pd.DataFrame(np.concatenate(factors), columns=columns, index=getattr(X, "index", None))
