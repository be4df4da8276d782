"""Wide & Deep."""

from ..base import register_network
from ..nn import FieldLinear
from ..utils._docs import inherits_entries
from ._deep import DeepNetwork
from ._mlp import MLPModule


class WideDeepModule(MLPModule):
    """First-order term and MLP side by side; see `WideDeep`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts, network)
        self.linear = FieldLinear(context)

    def logits(self, e, inputs):
        return self.linear(inputs) + super().logits(e, inputs)


@inherits_entries
@register_network("wide_deep")
class WideDeep(DeepNetwork):
    """Wide & Deep: a linear model and a multilayer perceptron, their logits added.

    The wide part sees the columns as they are; add crossed columns to the table to give it
    interactions.

    Parameters
    ----------
    {hidden_units to batch_norm}

    References
    ----------
    .. [1] Cheng, H.-T. et al. "Wide & Deep Learning for Recommender Systems", DLRS 2016.
       https://arxiv.org/abs/1606.07792

    Examples
    --------
    >>> from sklearn_autorec.networks import WideDeep
    >>> WideDeep().slots
    ('gate', 'embedding', 'numeric', 'sequence', 'body', 'head', 'loss')
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True

    def build(self, context, parts):
        return WideDeepModule(context, parts, self)
