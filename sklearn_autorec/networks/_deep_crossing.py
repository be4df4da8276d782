"""Deep Crossing."""

import torch
from torch import nn

from ..base import register_network
from ..nn import FieldNetwork, head_part, linear
from ._deep import DeepNetwork


class DeepCrossingModule(FieldNetwork):
    """Residual units on the embeddings, then a scoring layer; see `DeepCrossing`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        n_in = context.axis("F", context.embedding_dim)
        self.units = nn.ModuleList(
            network.mlp(context, n_in, n_in, hidden_units=(n,)) for n in network.hidden_units
        )
        self.head = head_part(parts, n_in, context)
        if self.head is None:
            self.head = linear(n_in, context.n_outputs, context.generator, members=context.members)

    def logits(self, e, inputs):
        x = e.flatten(1)
        for unit in self.units:
            x = torch.relu(x + unit(x))
        return self.head(x)


@register_network("deep_crossing")
class DeepCrossing(DeepNetwork):
    r"""Deep Crossing: residual units as wide as all embeddings together, then a linear layer.

    .. math:: x \leftarrow \mathrm{ReLU}(x + W_2\, \mathrm{ReLU}(W_1 x + b_1) + b_2)

    Parameters
    ----------
    hidden_units : tuple of int, default=(64, 64, 64)
        Inner units of each residual unit.
    dropout : float in [0, 1), default=0.2
        Share of inner units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation before the inner ReLU; the paper has none.

    References
    ----------
    .. [1] Shan, Y. et al. "Deep Crossing: Web-Scale Modeling without Manually Crafted Combinatorial
       Features", KDD 2016. https://doi.org/10.1145/2939672.2939704

    Examples
    --------
    >>> from sklearn_autorec.networks import DeepCrossing
    >>> DeepCrossing(hidden_units=(32, 32)).hidden_units
    (32, 32)
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True

    def __init__(self, hidden_units=(64, 64, 64), dropout=0.2, batch_norm=True):
        super().__init__(hidden_units, dropout, batch_norm)

    def build(self, context, parts):
        return DeepCrossingModule(context, parts, self)
