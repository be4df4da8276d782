"""Deep Interest Evolution Network."""

from numbers import Real

import torch
from torch import nn
from torch.nn import functional as F

from ..base import register_network
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._deep import plain_perceptron
from ._histories import HistoryModule, HistoryNetwork


class Recurrence(nn.Module):
    r"""A GRU for each of K lists, from first item to last, whose update gate may be weighed.

    .. math:: h_j = (1 - a_j u) \odot h_{j-1} + a_j u \odot
              \tanh(W x_j + b + r \odot U h_{j-1})

    with gates u and r, sigmoids of linear maps of x_j and h_{j-1}, and h_0 = 0. Where there is no
    item h stays.

    Parameters
    ----------
    n_lists : FieldAxis
        K.
    d : int
        Numbers of an item, and of h.
    generator : torch.Generator
    """

    def __init__(self, n_lists, d, generator):
        super().__init__()
        # Rows of the update gate, of the reset gate, then of the candidate.
        self.of_item, self.of_state = (
            nn.Parameter(torch.empty(n_lists, 3 * d, d).normal_(0, d**-0.5, generator=generator))
            for _ in range(2)
        )
        self.bias = nn.Parameter(torch.zeros(n_lists, 3 * d))
        self.field_axes = {
            "of_item": {-3: n_lists},
            "of_state": {-3: n_lists},
            "bias": {-2: n_lists},
        }

    def forward(self, items, present, k, attention=None):
        """Items (B, L, d) of list k, bool (B, L), and a (B, L) or None for ones -> all h, (B, L,
        d).
        """
        update = present.to(items.dtype)
        if attention is not None:
            update = update * attention
        maps = F.linear(items, self.of_item[k], self.bias[k])
        h, states = torch.zeros_like(items[:, 0]), []
        # All rows at once, item by item: each needs the state that the one before has left.
        for j, x in enumerate(maps.unbind(1)):
            x_gates, x_new = x.tensor_split((2 * h.shape[1],), 1)
            h_gates, h_new = F.linear(h, self.of_state[k]).tensor_split((2 * h.shape[1],), 1)
            u, r = torch.sigmoid(x_gates + h_gates).chunk(2, 1)
            h = torch.lerp(h, torch.tanh(x_new + r * h_new), u * update[:, j : j + 1])
            states.append(h)
        return torch.stack(states, 1)


class InterestEvolution(nn.Module):
    """What interest in a target the items of a list have led to, from the first to the last; the
    part of `DIEN` in the sequence slot.

    vectors (B, K, L, d), present (B, K, L), targets (B, K, d) -> (B, K, d), zeros of empty lists.

    Parameters
    ----------
    context : BuildContext
    targets : list of (int or None)
        None for lists that have no target: all of their items count alike.
    network : DIEN
    """

    def __init__(self, context, targets, network):
        super().__init__()
        d, n_lists = context.embedding_dim, context.axis("L")
        self.targets, self.normalize = list(targets), network.normalize
        self.extractor = Recurrence(n_lists, d, context.generator)
        self.match = nn.Parameter(torch.eye(d).repeat(n_lists, 1, 1))
        self.evolution = Recurrence(n_lists, d, context.generator)
        self.field_axes = {"match": {-3: n_lists}}
        self.auxiliary_weight, self.guess = network.auxiliary_weight, None
        if self.auxiliary_weight:
            widths = [2 * d, *network.checked_units("auxiliary_units"), 1]
            self.guess = plain_perceptron(widths, context)
        self.auxiliary: list = []
        self.reads_whole_batch = self.guess is not None  # other rows' items are the wrong ones

    def attention(self, states, present, target, k):
        """Weights of the items of list k, (B, L, d), bool (B, L), (B, d) -> (B, L)."""
        scores = (F.linear(states, self.match[k]) * target.unsqueeze(1)).sum(2)
        if self.normalize == "sigmoid":
            return torch.sigmoid(scores)
        scores = scores.masked_fill(~present, torch.finfo(scores.dtype).min)
        return torch.softmax(scores, 1)

    def next_item_loss(self, states, items, present):
        """How badly states tell the items that follow from others; (B, L, d) twice, bool (B, L) ->
        scalar.

        The others are what follows half a batch away, in rows that shuffling has put there; where
        that is the same item, it does not count."""
        known = present[:, :-1] & present[:, 1:]
        before, after = states[:, :-1][known], items[:, 1:][known]
        n = len(after)
        if n < 2:
            return states.new_zeros(())
        other = after.roll(n // 2, 0)
        different = (other != after).any(1)
        real = self.guess(torch.cat([before, after], 1)).squeeze(1)
        false = self.guess(torch.cat([before, other], 1)).squeeze(1)
        return F.softplus(-real).mean() + (F.softplus(false) * different).sum() / (
            different.sum().clamp(min=1)
        )

    def forward(self, vectors, present, targets):
        if self.training and bool(present.any()):  # nothing comes behind the longest list
            longest = int(present.flatten(0, 1).any(0).nonzero()[-1]) + 1
            vectors, present = vectors[:, :, :longest], present[:, :, :longest]
        evolved, self.auxiliary = [], []
        for k, target in enumerate(self.targets):
            items, there = vectors[:, k], present[:, k]
            states = self.extractor(items, there, k)
            weights = None if target is None else self.attention(states, there, targets[:, k], k)
            evolved.append(self.evolution(states, there, k, weights)[:, -1])
            if self.training and self.guess is not None:
                self.auxiliary.append(self.next_item_loss(states, items, there))
        return torch.stack(evolved, 1)

    def penalty(self):
        losses, self.auxiliary = self.auxiliary, []
        return self.auxiliary_weight * sum(losses) / max(len(losses), 1)

    def __getstate__(self):
        # What one step has left is of no use to a copy.
        return {**self.__dict__, "auxiliary": []}


class DIENModule(HistoryModule):
    """Perceptron on the embeddings, lists as what they have led to; see `DIEN`."""

    @staticmethod
    def part(context, targets, network):
        return InterestEvolution(context, targets, network) if targets else None


@register_network("dien")
@inherits_entries
class DIEN(HistoryNetwork):
    r"""Deep Interest Evolution Network: what a history in its order has led to, as far as the item
    that is judged is concerned.

    A list of items, the oldest first, goes through a GRU, whose states :math:`s_j` are the
    interests. Each is weighed by the target t, and a second GRU (AUGRU) goes through them, the
    update gate of which is multiplied by the weight:

    .. math:: a_j = \mathrm{softmax}_j(s_j^T W t), \quad
              h_j = (1 - a_j u_j) \odot h_{j-1} + a_j u_j \odot \tilde{h}_j

    Its last state takes the place of the mean of the list and then is a field like all others of a
    perceptron. While it is trained, the states of the first GRU are asked as well which item comes
    next: a perceptron tells the pair of a state and the item that follows from that of a state and
    another item, by the logistic loss.

    Parameters
    ----------
    {hidden_units, dropout, batch_norm}
    attention : dict of str to str, or None, default=None
        ``{list column: categorical column}``, which column is the target of which list. None: each
        list whose vocabulary the encoder shares with a column has that as its target. The items of
        a list without a target have weight 1, which ``{}`` says of all.
    normalize : {"softmax", "sigmoid"}, default="softmax"
        What makes weights of the scores. Those of a softmax are about one over the length, so that
        a state moves little with each item of a long list; those of a sigmoid do not know of it.
    auxiliary_weight : float, default=1.0
        Weight of the loss of the next item; 0 goes without.
    auxiliary_units : tuple of int, default=(100, 50)
        Hidden layers of its perceptron, which all lists share.

    Notes
    -----
    Lists are in time order: the last item is the newest, and of lists that are longer than
    ``max_length`` of `sklearn_autorec.preprocessing.FieldEncoder` the newest items are kept. A list
    in no order, such as tags, is better left to another network.

    List and target should share one vocabulary, as with `DIN`. Padding has no part in anything, an
    empty list becomes zeros, and where a search drops a target, its list is read without weights.

    The items that did not follow are those of other rows of the same batch, so that frequent items
    are met more often. The loss of the next item counts in the training alone, and not in the
    losses of histories that are validated. It is no part of steps without a penalty, those of a
    policy.

    The authors' code lets a weight of 1 overwrite the state, and one of 0 is a plain GRU; here, as
    in the paper's formula, an item of weight 0 is passed over. It hands the sum of the list to the
    perceptron as well, and has Dice where the perceptron of the package has ReLU.

    References
    ----------
    .. [1] Zhou, G. et al. "Deep Interest Evolution Network for Click-Through Rate Prediction", AAAI
       2019. https://arxiv.org/abs/1809.03672

    Examples
    --------
    That of `DIN` has a fit with a history, which is the same here.

    >>> from sklearn_autorec.networks import DIEN
    >>> DIEN(hidden_units=(64,)).slots
    ('gate', 'embedding', 'numeric', 'sequence', 'head', 'loss')
    """

    slots = ("gate", "embedding", "numeric", "sequence", "head", "loss")
    _parameter_constraints = {
        **HistoryNetwork._parameter_constraints,
        "normalize": [StrOptions({"softmax", "sigmoid"})],
        "auxiliary_weight": [Interval(Real, 0, None, closed="left")],
        "auxiliary_units": [tuple, list],
    }

    @stores_parameters
    def __init__(
        self,
        hidden_units=(200, 80),
        dropout=0.2,
        batch_norm=True,
        attention=None,
        normalize="softmax",
        auxiliary_weight=1.0,
        auxiliary_units=(100, 50),
    ):
        """Store the parameters."""

    def build(self, context, parts):
        return DIENModule(context, parts, self)
