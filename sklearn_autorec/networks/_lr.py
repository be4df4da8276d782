"""Logistic (linear) regression."""

from torch import nn

from ..base import Network, register_network
from ..nn import FieldLinear, Inputs


class LRModule(nn.Module):
    """First-order term only; see `LR`."""

    def __init__(self, context):
        super().__init__()
        self.linear = FieldLinear(context)

    def forward(self, ids, numeric, sequences):
        """Encoded batch to logits (B, C)."""
        return self.linear(Inputs(ids, numeric, sequences))


@register_network("lr")
class LR(Network):
    r"""One weight per value: logistic regression for clicks, linear regression for ratings.

    .. math:: b + \sum_i w_{x_i}

    It has no embeddings, hence no slots but the loss.

    Examples
    --------
    >>> from sklearn_autorec.networks import LR
    >>> LR().slots
    ('loss',)
    """

    slots = ("loss",)
    supports_members = True

    def build(self, context, parts):
        return LRModule(context)
