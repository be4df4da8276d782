"""Deep & Cross networks, with vectors (DCN) and with matrices (DCN-V2)."""

from numbers import Integral

import torch

from ..base import register_network
from ..nn import FieldNetwork, MatrixCross, VectorCross, linear
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._deep import DeepNetwork


class CrossModule(FieldNetwork):
    """Cross layers and an MLP, in parallel or stacked, and a linear output; see `DCN` and
    `DCNv2`.
    """

    def __init__(self, context, parts, network, cross, stacked=False):
        super().__init__(context, parts)
        n_in = context.axis("F", context.embedding_dim)
        self.cross = cross
        self.stacked = stacked
        self.deep = network.mlp(context, n_in)
        n_out = self.deep.out_dim if stacked else n_in + self.deep.out_dim
        self.out = linear(n_out, context.n_outputs, context.generator, members=context.members)

    def logits(self, e, inputs):
        x = e.flatten(1)
        crossed = self.cross(x)
        if self.stacked:
            return self.out(self.deep(crossed))
        return self.out(torch.cat([crossed, self.deep(x)], 1))


@inherits_entries
@register_network("dcn")
class DCN(DeepNetwork):
    r"""Deep & Cross: cross layers of one weight vector each beside a multilayer perceptron.

    .. math:: x_{l+1} = x_0 (w_l^T x_l) + b_l + x_l

    Parameters
    ----------
    n_cross_layers : int, default=3
        Cross layers; L of them reach interactions of order L + 1.
    {hidden_units to batch_norm}

    References
    ----------
    .. [1] Wang, R. et al. "Deep & Cross Network for Ad Click Predictions", ADKDD 2017.
       https://arxiv.org/abs/1708.05123

    Examples
    --------
    >>> from sklearn_autorec.networks import DCN
    >>> DCN(n_cross_layers=2).n_cross_layers
    2
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "n_cross_layers": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, n_cross_layers=3, hidden_units=(400, 400, 400), dropout=0.2, batch_norm=True
    ):
        super().__init__(hidden_units, dropout, batch_norm)
        self.n_cross_layers = n_cross_layers

    def build(self, context, parts):
        n_in = context.axis("F", context.embedding_dim)
        cross = VectorCross(n_in, self.n_cross_layers, context.generator, context.members)
        return CrossModule(context, parts, self, cross)


@inherits_entries
@register_network("dcnv2")
class DCNv2(DeepNetwork):
    r"""DCN-V2: cross layers of one weight matrix each, beside or below a multilayer perceptron.

    .. math:: x_{l+1} = x_0 \odot (W_l x_l + b_l) + x_l

    Parameters
    ----------
    n_cross_layers : int, default=3
        Cross layers; L of them reach interactions of order L + 1.
    rank : int or None, default=None
        Rank of the matrices, W = U V^T; None is full.
    structure : {"parallel", "stacked"}, default="parallel"
        The perceptron sees the embeddings, or what the cross layers make of them.
    {hidden_units to batch_norm}

    References
    ----------
    .. [1] Wang, R. et al. "DCN V2: Improved Deep & Cross Network and Practical Lessons for
       Web-scale Learning to Rank Systems", WWW 2021. https://arxiv.org/abs/2008.13535

    Examples
    --------
    >>> from sklearn_autorec.networks import DCNv2
    >>> DCNv2(structure="stacked", rank=8).rank
    8
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "n_cross_layers": [Interval(Integral, 1, None, closed="left")],
        "rank": [None, Interval(Integral, 1, None, closed="left")],
        "structure": [StrOptions({"parallel", "stacked"})],
    }

    @stores_parameters
    def __init__(
        self,
        n_cross_layers=3,
        rank=None,
        structure="parallel",
        hidden_units=(400, 400, 400),
        dropout=0.2,
        batch_norm=True,
    ):
        """Store the parameters."""

    def build(self, context, parts):
        n_in = context.axis("F", context.embedding_dim)
        cross = MatrixCross(
            n_in, self.n_cross_layers, context.generator, self.rank, context.members
        )
        stacked = self.structure == "stacked"
        return CrossModule(context, parts, self, cross, stacked)
