"""Multilayer perceptron on embeddings."""

from ..base import register_network
from ..nn import FieldNetwork
from ._deep import DeepNetwork


class MLPModule(FieldNetwork):
    """MLP of the concatenated embeddings; see `MLPNetwork`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.head = network.head(context, parts, context.axis("F", context.embedding_dim))

    def logits(self, e, inputs):
        return self.head(e.flatten(1))


@register_network("mlp")
class MLPNetwork(DeepNetwork):
    """Multilayer perceptron on the concatenated field embeddings (also called DNN or FNN).

    Parameters
    ----------
    hidden_units : tuple of int, default=(400, 400, 400)
        Units of each hidden layer.
    dropout : float in [0, 1), default=0.2
        Share of hidden units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation before each ReLU.

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
