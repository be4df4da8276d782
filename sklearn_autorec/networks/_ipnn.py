"""Inner-product-based neural network."""

import torch

from ..base import register_network
from ..nn import FieldNetwork, PairProducts
from ..utils._docs import inherits_entries
from ._deep import DeepNetwork


class IPNNModule(FieldNetwork):
    """MLP of embeddings and their inner products; see `IPNN`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.interaction = parts.get("interaction") or PairProducts(context)
        n_in = context.axis("F", context.embedding_dim) + self.interaction.out_dim
        self.head = network.head(context, parts, n_in)

    def logits(self, e, inputs):
        return self.head(torch.cat([e.flatten(1), self.interaction(e, inputs)], 1))


@inherits_entries
@register_network("ipnn")
class IPNN(DeepNetwork):
    r"""Product-based network: an MLP on the embeddings and the inner products of all pairs.

    .. math:: \mathrm{MLP}\left([e_1; \ldots; e_F; (\langle e_i, e_j \rangle)_{i<j}]\right)

    Parameters
    ----------
    {hidden_units to batch_norm}

    References
    ----------
    .. [1] Qu, Y. et al. "Product-based Neural Networks for User Response Prediction", ICDM 2016.
       https://arxiv.org/abs/1611.00144

    Examples
    --------
    >>> from sklearn_autorec.networks import IPNN
    >>> "interaction" in IPNN().slots
    True
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")
    supports_members = True

    def build(self, context, parts):
        return IPNNModule(context, parts, self)
