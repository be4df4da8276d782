"""Field-weighted factorization machine."""

import torch
from torch import nn

from ..base import Network, register_network
from ..nn import FieldLinear, FieldNetwork, SumPool, WeightedPairs, add_bias, output_bias
from ..utils._sklearn import StrOptions


class FieldVectorLinear(nn.Module):
    """First-order logits from embeddings, sum_i <e_i, w_i> + b with one vector per field; (B, F, d)
    -> (B, C).
    """

    def __init__(self, context):
        super().__init__()
        shape = (context.axis("F", context.embedding_dim), context.n_outputs)
        self.members = context.members
        if self.members > 1:
            shape = (self.members, *shape)
        self.weight = nn.Parameter(torch.empty(shape).normal_(0, 0.1, generator=context.generator))
        self.bias = output_bias(context)
        self.field_axes = {"weight": {-2: shape[-2]}}

    def forward(self, e):
        if self.members == 1:
            return torch.addmm(self.bias, e.flatten(1), self.weight)
        rows = e.flatten(1).unflatten(0, (self.members, -1))
        return add_bias(
            torch.cat([r @ w for r, w in zip(rows, self.weight, strict=True)]), self.bias
        )


class FwFMModule(FieldNetwork):
    """First-order term and weighted pairs; see `FwFM`."""

    def __init__(self, context, parts, linear):
        super().__init__(context, parts)
        self.linear = FieldVectorLinear(context) if linear == "FiLV" else FieldLinear(context)
        self.by_vector = linear == "FiLV"
        self.interaction = parts.get("interaction") or WeightedPairs(context)
        self.pool = SumPool(self.interaction.out_dim, context)

    def logits(self, e, inputs):
        first = self.linear(e) if self.by_vector else self.linear(inputs)
        return first + self.pool(self.interaction(e, inputs))


@register_network("fwfm")
class FwFM(Network):
    r"""Field-weighted factorization machine: one weight per pair of fields.

    .. math:: b + \sum_i w_{x_i} + \sum_{i<j} r_{ij} \langle e_i, e_j \rangle

    Parameters
    ----------
    linear : {"LW", "FiLV"}, default="LW"
        First-order term: one weight per value, or the inner product of the embedding and a vector
        per field.

    References
    ----------
    .. [1] Pan, J. et al. "Field-weighted Factorization Machines for Click-Through Rate Prediction
       in Display Advertising", WWW 2018. https://arxiv.org/abs/1806.03514

    Examples
    --------
    >>> from sklearn_autorec.networks import FwFM
    >>> FwFM(linear="FiLV")
    FwFM(linear='FiLV')
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "loss")
    supports_members = True
    _parameter_constraints = {"linear": [StrOptions({"LW", "FiLV"})]}

    def __init__(self, linear="LW"):
        self.linear = linear

    def build(self, context, parts):
        return FwFMModule(context, parts, self.linear)
