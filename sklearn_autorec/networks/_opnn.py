"""Outer-product-based neural network."""

from torch import nn

from ..base import register_network
from ..nn import PairEnds, SeparateLinear
from ..utils._docs import inherits_entries
from ..utils._sklearn import StrOptions
from ._deep import DeepNetwork
from ._ipnn import IPNNModule


class SummedOuterProducts(nn.Module):
    """Outer products of all two fields, added up: f f^T of the sum f of the embeddings; (B, F, d)
    -> (B, d * d).
    """

    def __init__(self, context):
        super().__init__()
        self.out_dim = context.embedding_dim**2

    def forward(self, e, inputs=None):
        total = e.sum(1)
        return (total.unsqueeze(2) * total.unsqueeze(1)).flatten(1)


class KernelProducts(nn.Module):
    """Outer products of all pairs, each read by a matrix of its own, <K_ij, e_i e_j^T>; (B, F, d)
    -> (B, P).
    """

    def __init__(self, context):
        super().__init__()
        d = context.embedding_dim
        self.ends = PairEnds(context)
        self.out_dim = context.axis("P")
        self.kernel = SeparateLinear(
            self.out_dim, d, d, context.generator, bias=False, members=context.members
        )

    def forward(self, e, inputs=None):
        left, right = self.ends(e)
        return (self.kernel(left) * right).sum(2)


@register_network("opnn")
@inherits_entries
class OPNN(DeepNetwork):
    r"""Product-based network: an MLP on the embeddings and outer products of them.

    .. math:: \mathrm{MLP}\left([e_1; \ldots; e_F; \mathrm{vec}(f f^T)]\right), \quad f =
              \sum_i e_i

    Parameters
    ----------
    products : {"summed", "kernel"}, default="summed"
        "summed" adds the outer products of all two fields up, d^2 numbers a row whatever the number
        of fields. "kernel" keeps pairs apart and gives a number for each, e_i^T K_ij e_j, with d^2
        weights a pair.
    {hidden_units to batch_norm}

    References
    ----------
    .. [1] Qu, Y. et al. "Product-based Neural Networks for User Response Prediction", ICDM 2016, of
       "summed". https://arxiv.org/abs/1611.00144
    .. [2] Qu, Y. et al. "Product-based Neural Networks for User Response Prediction over
       Multi-field Categorical Data", TOIS 2018, of "kernel". https://arxiv.org/abs/1807.00311

    Examples
    --------
    >>> from sklearn_autorec.networks import OPNN
    >>> OPNN(products="kernel").products
    'kernel'
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "products": [StrOptions({"summed", "kernel"})],
    }

    def __init__(
        self, products="summed", hidden_units=(400, 400, 400), dropout=0.2, batch_norm=True
    ):
        super().__init__(hidden_units, dropout, batch_norm)
        self.products = products

    def build(self, context, parts):
        kind = SummedOuterProducts if self.products == "summed" else KernelProducts
        interaction = parts.get("interaction") or kind(context)
        return IPNNModule(context, {**parts, "interaction": interaction}, self)
