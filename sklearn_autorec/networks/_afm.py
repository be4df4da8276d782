"""Attentional factorization machine."""

from numbers import Integral

import torch
from torch import nn

from ..base import Network, register_network
from ..nn import FieldLinear, FieldNetwork, PairEnds, linear
from ..nn._blocks import mix_of_features
from ..utils._sklearn import Interval


class AttentivePairs(nn.Module):
    """Mean of all pairs' element-wise products by weights that a small network gives each; (B, F,
    d) -> (B, d).
    """

    def __init__(self, context, n_units):
        super().__init__()
        options = {"generator": context.generator, "members": context.members}
        self.ends = PairEnds(context)
        self.hidden = linear(context.embedding_dim, n_units, **options)
        self.score = linear(n_units, 1, bias=False, **options)
        self.out_dim = context.embedding_dim

    def forward(self, e, inputs=None):
        left, right = self.ends(e)
        products = left * right  # (B, P, d)
        weights = self.score(torch.relu(self.hidden(products))).softmax(1)
        return (weights * products).sum(1)


class AFMModule(FieldNetwork):
    """First-order term and attentive pairs; see `AFM`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.interaction = parts.get("interaction") or AttentivePairs(
            context, network.attention_units
        )
        self.out = mix_of_features(self.interaction.out_dim, context)

    def logits(self, e, inputs):
        return self.linear(inputs) + self.out(self.interaction(e, inputs))


@register_network("afm")
class AFM(Network):
    r"""Attentional factorization machine: how much a pair counts depends on the values in it.

    .. math:: b + \sum_i w_{x_i} + p^T \sum_{i<j} a_{ij} (e_i \odot e_j), \quad
              a = \mathrm{softmax}_{ij}\, h^T \mathrm{ReLU}(W (e_i \odot e_j) + c)

    Parameters
    ----------
    attention_units : int, default=16
        Hidden units of the network that weighs a pair.

    Notes
    -----
    A part in the "interaction" slot takes the place of the attentive mean, and p mixes what it
    gives. Since weights of all pairs add up to one, a pair's share is small in wide tables. Of the
    paper's means against overfitting the dropout of the mean and the starting from a trained FM are
    left out; the estimator's ``weight_decay`` acts on W and h.

    References
    ----------
    .. [1] Xiao, J. et al. "Attentional Factorization Machines: Learning the Weight of Feature
       Interactions via Attention Networks", IJCAI 2017. https://arxiv.org/abs/1708.04617

    Examples
    --------
    >>> from sklearn_autorec.networks import AFM
    >>> AFM(attention_units=8)
    AFM(attention_units=8)
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "loss")
    supports_members = True
    _parameter_constraints = {"attention_units": [Interval(Integral, 1, None, closed="left")]}

    def __init__(self, attention_units=16):
        self.attention_units = attention_units

    def build(self, context, parts):
        return AFMModule(context, parts, self)
