"""Inner-product-based neural network."""

import torch

from ..base import Network, register_network
from ..nn import MLP, FieldNetwork, PairProducts


class IPNNModule(FieldNetwork):
    """MLP of embeddings and their inner products; see `IPNN`."""

    def __init__(self, context, parts, hidden_units, dropout, batch_norm):
        super().__init__(context, parts)
        self.interaction = parts.get("interaction") or PairProducts(context)
        self.head = parts.get("head") or MLP(
            context.n_fields * context.embedding_dim + self.interaction.out_dim,
            hidden_units,
            context.generator,
            dropout=dropout,
            batch_norm=batch_norm,
            n_outputs=context.n_outputs,
        )

    def logits(self, e, inputs):
        return self.head(torch.cat([e.flatten(1), self.interaction(e, inputs)], 1))


@register_network("ipnn")
class IPNN(Network):
    r"""Product-based network: an MLP on the embeddings and the inner products of all pairs.

    .. math:: \mathrm{MLP}\bigl([e_1; \dots; e_F; (\langle e_i, e_j \rangle)_{i<j}]\bigr)

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
    Qu, Y. et al. "Product-based Neural Networks for User Response Prediction", ICDM 2016.

    Examples
    --------
    >>> from sklearn_autorec.networks import IPNN
    >>> "interaction" in IPNN().slots
    True
    """

    slots = ("gate", "embedding", "interaction", "head", "loss")

    def __init__(self, hidden_units=(400, 400, 400), dropout=0.2, batch_norm=True):
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.batch_norm = batch_norm

    def build(self, context, parts):
        return IPNNModule(context, parts, self.hidden_units, self.dropout, self.batch_norm)
