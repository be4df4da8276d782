"""Gated deep & cross network."""

from numbers import Integral

import torch
from torch import nn

from ..base import register_network
from ..nn import FieldNetwork, head_part, linear
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._deep import DeepNetwork


class GatedCross(nn.Module):
    """Cross layers whose products pass a gate each, x_{l+1} = x_0 o (W_l x_l + b_l) o sigmoid(V_l
    x_l) + x_l; (B, n) -> (B, n).
    """

    def __init__(self, n_in, n_layers, generator, members=1):
        super().__init__()
        options = {"generator": generator, "members": members}
        self.layers = nn.ModuleList(linear(n_in, n_in, **options) for _ in range(n_layers))
        self.gates = nn.ModuleList(
            linear(n_in, n_in, bias=False, **options) for _ in range(n_layers)
        )

    def forward(self, x0):
        x = x0
        for layer, gate in zip(self.layers, self.gates, strict=True):
            x = torch.addcmul(x, x0 * layer(x), torch.sigmoid(gate(x)))
        return x


class GDCNModule(FieldNetwork):
    """Gated cross layers, and a perceptron beside or behind them; see `GDCN`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        n_in = context.axis("F", context.embedding_dim)
        self.cross = GatedCross(
            n_in, network.n_cross_layers, context.generator, members=context.members
        )
        self.deep = None
        if network.structure == "stacked":
            self.head = network.head(context, parts, n_in)
        else:
            self.deep = network.mlp(context, n_in)
            n_both = n_in + self.deep.out_dim
            self.head = head_part(parts, n_both, context) or linear(
                n_both, context.n_outputs, context.generator, members=context.members
            )

    def logits(self, e, inputs):
        x = e.flatten(1)
        crossed = self.cross(x)
        return self.head(crossed if self.deep is None else torch.cat([crossed, self.deep(x)], 1))


@register_network("gdcn")
@inherits_entries
class GDCN(DeepNetwork):
    r"""Gated deep & cross network: cross layers that choose, row by row, which products count.

    .. math:: x_{l+1} = x_0 \odot (W_l x_l + b_l) \odot \sigma(V_l x_l) + x_l

    Parameters
    ----------
    n_cross_layers : int, default=3
        Cross layers; L of them reach interactions of order L + 1, and beyond by their gates.
    structure : {"parallel", "stacked"}, default="parallel"
        The perceptron sees the embeddings, or what the cross layers make of them (GDCN-P and GDCN-S
        of the paper).
    {hidden_units to batch_norm}

    Notes
    -----
    Biases start at zero, where the authors' code draws them from (0, 1). In the parallel structure
    a part in the head slot takes what the cross layers and the perceptron give, side by side.

    References
    ----------
    .. [1] Wang, F. et al. "Towards Deeper, Lighter and Interpretable Cross Network for CTR
       Prediction", CIKM 2023. https://arxiv.org/abs/2311.04635

    Examples
    --------
    >>> from sklearn_autorec.networks import GDCN
    >>> GDCN(structure="stacked").n_cross_layers
    3
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "n_cross_layers": [Interval(Integral, 1, None, closed="left")],
        "structure": [StrOptions({"parallel", "stacked"})],
    }

    @stores_parameters
    def __init__(
        self,
        n_cross_layers=3,
        structure="parallel",
        hidden_units=(400, 400, 400),
        dropout=0.2,
        batch_norm=True,
    ):
        """Store the parameters."""

    def build(self, context, parts):
        return GDCNModule(context, parts, self)
