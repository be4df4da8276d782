"""Multilayer perceptron on embeddings."""

from ..base import register_network
from ..nn import FieldNetwork
from ..nn._numeric import hold_constants
from ..utils._docs import inherits_entries
from ._deep import DeepNetwork


class MLPModule(FieldNetwork):
    """MLP of the concatenated embeddings; see `MLPNetwork`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        if network.normalises(parts) and self.gate is None:
            hold_constants(self)
        self.head = network.head(context, parts, context.axis("F", context.embedding_dim))

    def logits(self, e, inputs):
        return self.head(e.flatten(1))


@inherits_entries
@register_network("mlp")
class MLPNetwork(DeepNetwork):
    """Multilayer perceptron on the concatenated field embeddings (also called DNN or FNN).

    Parameters
    ----------
    {hidden_units to batch_norm}

    Examples
    --------
    >>> from sklearn_autorec.networks import MLPNetwork
    >>> MLPNetwork(hidden_units=(64,)).get_params()["hidden_units"]
    (64,)
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True

    def build(self, context, parts):
        return MLPModule(context, parts, self)
