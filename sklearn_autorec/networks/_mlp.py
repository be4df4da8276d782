"""Multilayer perceptron on embeddings."""

from ..base import Network, register_network
from ..nn import MLP, FieldNetwork


class MLPModule(FieldNetwork):
    """MLP of the concatenated embeddings; see `MLPNetwork`."""

    def __init__(self, context, parts, hidden_units, dropout, batch_norm):
        super().__init__(context, parts)
        self.head = parts.get("head") or MLP(
            context.n_fields * context.embedding_dim,
            hidden_units,
            context.generator,
            dropout=dropout,
            batch_norm=batch_norm,
            n_outputs=context.n_outputs,
        )

    def logits(self, e, inputs):
        return self.head(e.flatten(1))


@register_network("mlp")
class MLPNetwork(Network):
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

    slots = ("gate", "embedding", "head", "loss")

    def __init__(self, hidden_units=(400, 400, 400), dropout=0.2, batch_norm=True):
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.batch_norm = batch_norm

    def build(self, context, parts):
        return MLPModule(context, parts, self.hidden_units, self.dropout, self.batch_norm)
