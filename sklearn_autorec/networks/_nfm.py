"""Neural factorization machine."""

from torch import nn

from ..base import register_network
from ..nn import BiInteraction, FieldLinear, FieldNetwork, batch_norm
from ..nn._blocks import hold_shift
from ._deep import DeepNetwork


class NFMModule(FieldNetwork):
    """First-order term plus an MLP of the pooled pairs; see `NFM`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.pooled = BiInteraction(context)
        self.norm = (
            batch_norm(self.pooled.out_dim, context.members)
            if network.batch_norm
            else nn.Identity()
        )
        if network.normalises(parts):
            hold_shift(self.norm.bias)
        self.head = network.head(context, parts, self.pooled.out_dim)

    def logits(self, e, inputs):
        return self.linear(inputs) + self.head(self.norm(self.pooled(e)))


@register_network("nfm")
class NFM(DeepNetwork):
    r"""Neural factorization machine: an MLP on the sum of all pairs' element-wise products.

    .. math:: b + \sum_i w_{x_i} +
              \mathrm{MLP}\left(\frac{1}{2} [(\sum_i e_i)^2 - \sum_i e_i^2]\right)

    Parameters
    ----------
    hidden_units : tuple of int, default=(400,)
        Units of each hidden layer; one is often best.
    dropout : float in [0, 1), default=0.2
        Share of hidden units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation of the pooled pairs and before each ReLU.

    References
    ----------
    .. [1] He, X. and Chua, T.-S. "Neural Factorization Machines for Sparse Predictive Analytics",
       SIGIR 2017. https://arxiv.org/abs/1708.05027

    Examples
    --------
    >>> from sklearn_autorec.networks import NFM
    >>> NFM(hidden_units=(64,)).slots
    ('gate', 'embedding', 'numeric', 'sequence', 'body', 'head', 'loss')
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True

    def __init__(self, hidden_units=(400,), dropout=0.2, batch_norm=True):
        super().__init__(hidden_units, dropout, batch_norm)

    def build(self, context, parts):
        return NFMModule(context, parts, self)
