"""DeepFM."""

from ..base import register_network
from ..nn import BiInteraction, FieldLinear, FieldNetwork, SumPool
from ._deep import DeepNetwork


class DeepFMModule(FieldNetwork):
    """First-order term, pairs and an MLP over shared embeddings; see `DeepFM`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.interaction = parts.get("interaction") or BiInteraction(context)
        self.pool = SumPool(self.interaction.out_dim, context)
        self.head = network.head(context, parts, context.n_fields * context.embedding_dim)

    def logits(self, e, inputs):
        return self.linear(inputs) + self.pool(self.interaction(e, inputs)) + self.head(e.flatten(1))


@register_network("deepfm")
class DeepFM(DeepNetwork):
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

    def build(self, context, parts):
        return DeepFMModule(context, parts, self)
