"""Deep Interest Network."""

import torch
from torch import nn

from ..base import register_network
from ..nn._statistics import rows_in_batch, var_mean_over_rows
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import StrOptions
from ._histories import HistoryModule, HistoryNetwork

EPS = 1e-9  # added to variances, which are tiny as long as embeddings are


class Dice(nn.Module):
    r"""Dice of the units of K lists: :math:`p x + s (1 - p) x`, p = sigmoid of x, normalised.

    Parameters
    ----------
    n_lists : FieldAxis
        K.
    n_units : int
    members : int, default=1
        Each has slopes and statistics of its own.
    """

    def __init__(self, n_lists, n_units, members=1):
        super().__init__()
        shape = (members, n_lists, n_units) if members > 1 else (n_lists, n_units)
        self.slope = nn.Parameter(torch.zeros(shape))
        self.register_buffer("running_mean", torch.zeros(shape))
        self.register_buffer("running_var", torch.ones(shape))
        self.field_axes = {name: {-2: n_lists} for name in ("slope", "running_mean", "running_var")}

    def forward(self, x, present, at):
        """Units (B, L, n) and where there is an item, bool (B, L) -> (B, L, n).

        ``at`` is the place of the list, and of the member, on the first axes of the weights.
        Statistics are of the items alone. Of a single row, or a single item, those of before are
        taken and left."""
        mean, var = self.running_mean[at], self.running_var[at]
        if self.training and rows_in_batch(x) > 1:
            of_items, mean_of_items, n_items = var_mean_over_rows(x[present])
            if n_items > 1:
                var, mean = of_items, mean_of_items
                with torch.no_grad():
                    self.running_mean[at].lerp_(mean, 0.1)
                    self.running_var[at].lerp_(var, 0.1)
        p = torch.sigmoid((x - mean) * torch.rsqrt(var + EPS))
        return x * (p + self.slope[at] * (1 - p))


class InterestPool(nn.Module):
    """The items of a list weighed by how they go with a target; the part of `DIN` in the sequence
    slot.

    vectors (B, K, L, d), present (B, K, L), targets (B, K, d) -> (B, K, d); of M members M * B
    rows. A list without a target gives the mean of its items.

    Parameters
    ----------
    context : BuildContext
    targets : list of (int or None)
        None for lists that have no target.
    units : tuple of int
        Of the hidden layers.
    normalize : "softmax" or None
    """

    def __init__(self, context, targets, units, normalize):
        super().__init__()
        n_lists, members = context.axis("L"), context.members
        self.targets, self.normalize, self.members = list(targets), normalize, members
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        each = (members, n_lists) if members > 1 else (n_lists,)
        widths = [4 * context.embedding_dim, *units, 1]
        for n_in, n_out in zip(widths[:-1], widths[1:], strict=True):
            weight = torch.empty(*each, n_out, n_in)
            std = (2 / (n_in + n_out)) ** 0.5
            self.weights.append(nn.Parameter(weight.normal_(0, std, generator=context.generator)))
            # A softmax does not see what is added to all of its inputs.
            if len(self.weights) <= len(units) or not normalize:
                self.biases.append(nn.Parameter(torch.zeros(*each, n_out)))
        self.dice = nn.ModuleList([Dice(n_lists, n, members) for n in units])
        self.weights.field_axes = {str(i): {-3: n_lists} for i in range(len(self.weights))}
        self.biases.field_axes = {str(i): {-2: n_lists} for i in range(len(self.biases))}

    def scores(self, items, present, target, at):
        """What each item of a list is worth, before any softmax; (B, L, d), bool (B, L), (B, d) ->
        (B, L). ``at`` is the place of the list, and of the member, in the weights.
        """
        t = target.unsqueeze(1).expand_as(items)
        x = torch.cat([t, items, t - items, t * items], 2)
        for i, weight in enumerate(self.weights):
            bias = self.biases[i][at] if i < len(self.biases) else None
            x = nn.functional.linear(x, weight[at], bias)
            if i < len(self.dice):
                x = self.dice[i](x, present, at)
        return x.squeeze(2)

    def _scores_of_members(self, items, present, target, k):
        if self.members == 1:
            return self.scores(items, present, target, k)
        rows = [t.unflatten(0, (self.members, -1)) for t in (items, present, target)]
        return torch.cat([self.scores(*(t[m] for t in rows), (m, k)) for m in range(self.members)])

    def forward(self, vectors, present, targets):
        pooled = []
        for k, target in enumerate(self.targets):
            items, there = vectors[:, k], present[:, k]
            if target is None:
                weights = there / there.sum(1, keepdim=True).clamp(min=1)
            else:
                weights = self._scores_of_members(items, there, targets[:, k], k)
                if self.normalize == "softmax":
                    weights = weights.masked_fill(~there, torch.finfo(weights.dtype).min)
                    weights = torch.softmax(weights, 1)
                weights = weights * there  # of an empty list all are zero
            pooled.append((items * weights.unsqueeze(2)).sum(1))
        return torch.stack(pooled, 1)


class DINModule(HistoryModule):
    """Perceptron on the embeddings, lists weighed by their targets; see `DIN`."""

    @staticmethod
    def part(context, targets, network):
        if all(target is None for target in targets):
            return None
        units = network.checked_units("attention_units")
        return InterestPool(context, targets, units, network.normalize)


@register_network("din")
@inherits_entries
class DIN(HistoryNetwork):
    r"""Deep Interest Network: what counts of a history depends on the item that is judged.

    A list of items :math:`h_1, \ldots, h_L` beside a target t, such as the items that a user has
    bought beside the item that is shown, becomes

    .. math:: \sum_j a(t, h_j) \, h_j, \quad a(t, h) = \mathrm{MLP}([t; h; t - h; t \circ h])

    in place of its mean, and then is a field like all others of a perceptron. The hidden units of
    a have the activation Dice, :math:`p x + s (1 - p) x` with p the sigmoid of the normalised x and
    a learned slope s.

    Parameters
    ----------
    {hidden_units, dropout, batch_norm}
    attention : dict of str to str, or None, default=None
        ``{list column: categorical column}``, which column is the target of which list. None: each
        list whose vocabulary the encoder shares with a column has that as its target. Lists without
        a target are averaged, which ``{}`` says of all.
    attention_units : tuple of int, default=(64,)
        Units of the hidden layers of a.
    normalize : "softmax" or None, default="softmax"
        Whether the weights of a list are brought to sum 1, as in the authors' code; None takes them
        as they come, so that long lists count for more.

    Notes
    -----
    List and target should share one vocabulary, and with it one table:
    ``encoder=FieldEncoder(shared_vocabularies={"history": "item"})``. Other pairs can be named in
    ``attention``; what one item has to do with another is then learned for each pair of values.

    Padding has no part in anything, the statistics of Dice included. An empty list becomes zeros. A
    missing target has an embedding of its own. Where a search drops a target, its list is
    averaged.

    The perceptron behind the lists is that of the package, with ReLU and batch normalisation, where
    the paper has Dice as well.

    References
    ----------
    .. [1] Zhou, G. et al. "Deep Interest Network for Click-Through Rate Prediction", KDD 2018, eq.
       3-4. https://arxiv.org/abs/1706.06978

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.networks import DIN
    >>> from sklearn_autorec.preprocessing import FieldEncoder
    >>> X = pd.DataFrame({"item": ["a", "b", "c", "a"], "history": [["a"], ["c", "b"], [], ["b"]]})
    >>> encoder = FieldEncoder(shared_vocabularies={"history": "item"})
    >>> model = CTRClassifier(network=DIN(), encoder=encoder, max_epochs=1, random_state=0)
    >>> model.fit(X, [1, 1, 0, 0]).predict_proba(X).shape
    (4, 2)
    """

    slots = ("gate", "embedding", "numeric", "sequence", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **HistoryNetwork._parameter_constraints,
        "attention_units": [tuple, list],
        "normalize": [StrOptions({"softmax"}), None],
    }

    @stores_parameters
    def __init__(
        self,
        hidden_units=(200, 80),
        dropout=0.2,
        batch_norm=True,
        attention=None,
        attention_units=(64,),
        normalize="softmax",
    ):
        """Store the parameters."""

    def build(self, context, parts):
        return DINModule(context, parts, self)
