"""DeepFM."""

from numbers import Integral

from torch import nn

from ..base import register_network
from ..nn import BiInteraction, FieldLinear, FieldNetwork, MatrixCross, SumPool, linear
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._deep import DeepNetwork


class DeepFMModule(FieldNetwork):
    """First-order term, pairs and an MLP over shared embeddings; see `DeepFM`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        self.interaction = parts.get("interaction") or BiInteraction(context)
        self.pool = SumPool(self.interaction.out_dim, context)
        n_in = context.axis("F", context.embedding_dim)
        self.head = network.head(context, parts, n_in)
        self.cross = None
        if network.n_cross_layers:
            options = {"generator": context.generator, "members": context.members}
            self.cross = nn.Sequential(
                MatrixCross(n_in, network.n_cross_layers, rank=network.cross_rank, **options),
                linear(n_in, context.n_outputs, bias=False, **options),
            )

    def logits(self, e, inputs):
        logits = (
            self.linear(inputs)
            + self.pool.of(self.interaction, e, inputs)
            + self.head(e.flatten(1))
        )
        return logits if self.cross is None else logits + self.cross(e.flatten(1))


@inherits_entries
@register_network("deepfm")
class DeepFM(DeepNetwork):
    """Factorization machine and a multilayer perceptron side by side on the same embeddings.

    Parameters
    ----------
    {hidden_units to batch_norm}
    n_cross_layers : int, default=0
        Cross layers of DCN-V2 beside the perceptron, whose last output adds to the logits by a
        linear layer; L of them reach interactions of order L + 1.
    cross_rank : int or None, default=16
        Rank of their matrices, W = U V^T; None is full.

    References
    ----------
    .. [1] Guo, H. et al. "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction",
       IJCAI 2017, eq. 1-4. https://arxiv.org/abs/1703.04247
    .. [2] Wang, R. et al. "DCN V2: Improved Deep & Cross Network and Practical Lessons for
       Web-scale Learning to Rank Systems", WWW 2021, of the cross layers.
       https://arxiv.org/abs/2008.13535

    Examples
    --------
    >>> from sklearn_autorec.networks import DeepFM
    >>> DeepFM(hidden_units=(64, 32)).slots
    ('gate', 'embedding', 'numeric', 'sequence', 'interaction', 'body', 'head', 'loss')
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "n_cross_layers": [Interval(Integral, 0, None, closed="left")],
        "cross_rank": [None, Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        hidden_units=(400, 400, 400),
        dropout=0.2,
        batch_norm=True,
        n_cross_layers=0,
        cross_rank=16,
    ):
        """Store the parameters."""

    def build(self, context, parts):
        return DeepFMModule(context, parts, self)
