"""DeepFM."""

from ..base import Network, register_network
from ..nn import MLP, BiInteraction, FieldLinear, FieldNetwork, SumPool


class DeepFMModule(FieldNetwork):
    """First-order term, pairs and an MLP over shared embeddings; see `DeepFM`."""

    def __init__(self, context, parts, hidden_units, dropout, batch_norm):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.interaction = parts.get("interaction") or BiInteraction(context)
        self.pool = SumPool(self.interaction.out_dim, context)
        self.head = parts.get("head") or MLP(
            context.n_fields * context.embedding_dim,
            hidden_units,
            context.generator,
            dropout=dropout,
            batch_norm=batch_norm,
            n_outputs=context.n_outputs,
        )

    def logits(self, e, inputs):
        return self.linear(inputs) + self.pool(self.interaction(e, inputs)) + self.head(e.flatten(1))


@register_network("deepfm")
class DeepFM(Network):
    """Factorization machine and a multilayer perceptron side by side on the same embeddings.

    Parameters
    ----------
    hidden_units : tuple of int, default=(400, 400, 400)
        Units of each hidden layer.
    dropout : float in [0, 1), default=0.2
        Share of hidden units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation before each ReLU.

    References
    ----------
    Guo, H. et al. "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction",
    IJCAI 2017, eq. 1-4.

    Examples
    --------
    >>> from sklearn_autorec.networks import DeepFM
    >>> DeepFM(hidden_units=(64, 32)).slots
    ('gate', 'embedding', 'interaction', 'head', 'loss')
    """

    slots = ("gate", "embedding", "interaction", "head", "loss")

    def __init__(self, hidden_units=(400, 400, 400), dropout=0.2, batch_norm=True):
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.batch_norm = batch_norm

    def build(self, context, parts):
        return DeepFMModule(context, parts, self.hidden_units, self.dropout, self.batch_norm)
