"""xDeepFM."""

import torch
from torch import nn

from ..base import register_network
from ..nn import FieldLinear, FieldNetwork, linear
from ..nn._blocks import mix_of_features
from ..utils._docs import inherits_entries
from ._deep import DeepNetwork


class CompressedInteractions(nn.Module):
    """Compressed interaction network: layer by layer, weighted sums of element-wise products with
    the embeddings, pooled over the embedding's dimensions; (B, F, d) -> (B, sum of units).
    """

    def __init__(self, context, units):
        super().__init__()
        options = {"generator": context.generator, "bias": False, "members": context.members}
        n_above = ["F", *units][: len(units)]
        self.layers = nn.ModuleList(
            linear(context.axis(above, "F"), n, **options)
            for above, n in zip(n_above, units, strict=True)
        )
        self.out_dim = sum(units)

    def forward(self, e, inputs=None):
        x0 = x = e.transpose(1, 2)  # (B, d, F)
        pooled = []
        for layer in self.layers:
            x = layer((x.unsqueeze(3) * x0.unsqueeze(2)).flatten(2))  # (B, d, H)
            pooled.append(x.sum(1))
        return torch.cat(pooled, 1)


class XDeepFMModule(FieldNetwork):
    """First-order term, compressed interactions and an MLP; see `XDeepFM`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.interaction = parts.get("interaction") or network.compressed(context)
        self.out = mix_of_features(self.interaction.out_dim, context)
        self.head = network.head(context, parts, context.axis("F", context.embedding_dim))

    def logits(self, e, inputs):
        pooled = self.interaction(e, inputs)
        return self.linear(inputs) + self.out(pooled) + self.head(e.flatten(1))


@register_network("xdeepfm")
@inherits_entries
class XDeepFM(DeepNetwork):
    r"""xDeepFM: a compressed interaction network beside a linear model and an MLP.

    .. math:: X^k_h = \sum_{i,j} W^{k,h}_{ij}\, X^{k-1}_i \odot e_j, \quad X^0_i = e_i

    Every vector of every layer, summed over its d numbers, adds to the logits by a learned weight.

    Parameters
    ----------
    cross_units : tuple of int, default=(16, 16, 16)
        Vectors of each layer; L layers reach interactions of order L + 1.
    hidden_units : tuple of int, default=(400, 400, 400)
        Units of each hidden layer of the MLP.
    {dropout, batch_norm}

    Notes
    -----
    Layers have no activation, as in the paper's best setting, and all their vectors go both to the
    output and to the next layer. A part in the "interaction" slot takes the place of the layers.

    References
    ----------
    .. [1] Lian, J. et al. "xDeepFM: Combining Explicit and Implicit Feature Interactions for
       Recommender Systems", KDD 2018. https://arxiv.org/abs/1803.05170

    Examples
    --------
    >>> from sklearn_autorec.networks import XDeepFM
    >>> XDeepFM(cross_units=(8, 8), hidden_units=(64,)).cross_units
    (8, 8)
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {**DeepNetwork._parameter_constraints, "cross_units": [tuple, list]}

    def __init__(
        self,
        cross_units=(16, 16, 16),
        hidden_units=(400, 400, 400),
        dropout=0.2,
        batch_norm=True,
    ):
        super().__init__(hidden_units, dropout, batch_norm)
        self.cross_units = cross_units

    def compressed(self, context):
        """The layers of the compressed interaction network."""
        if not self.cross_units or any(not isinstance(n, int) or n < 1 for n in self.cross_units):
            raise ValueError(
                f"cross_units must hold one int or more, each of at least 1, got "
                f"{self.cross_units!r}."
            )
        return CompressedInteractions(context, self.cross_units)

    def build(self, context, parts):
        return XDeepFMModule(context, parts, self)
