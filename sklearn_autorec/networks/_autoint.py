"""AutoInt."""

from numbers import Integral

from torch import nn

from ..base import register_network
from ..nn import FieldAttention, FieldLinear, FieldNetwork, linear
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._deep import DeepNetwork


class AutoIntModule(FieldNetwork):
    """First-order term, attention over fields, and perhaps an MLP; see `AutoInt`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.linear = FieldLinear(context)
        widths = [context.embedding_dim] + [network.n_heads * network.width] * network.n_layers
        self.attention = nn.Sequential(
            *(
                FieldAttention(
                    n_in,
                    network.n_heads,
                    network.width,
                    context.generator,
                    network.residual,
                    context.members,
                )
                for n_in in widths[:-1]
            )
        )
        n_attended = context.axis("F", widths[-1])
        self.out = linear(n_attended, context.n_outputs, context.generator, members=context.members)
        self.head = None
        if network.hidden_units or "head" in parts:
            self.head = network.head(context, parts, context.axis("F", context.embedding_dim))

    def logits(self, e, inputs):
        logits = self.linear(inputs) + self.out(self.attention(e).flatten(1))
        return logits if self.head is None else logits + self.head(e.flatten(1))


@register_network("autoint")
class AutoInt(DeepNetwork):
    """AutoInt: multi-head self-attention over the fields; with a perceptron beside it, AutoInt+.

    Parameters
    ----------
    n_layers : int, default=2
        Attention layers.
    n_heads : int, default=2
        Heads of each.
    width : int, default=16
        Width of a head.
    residual : bool, default=True
        Add a linear map of a layer's input to its output.
    hidden_units : tuple of int, default=(400, 400, 400)
        Hidden layers of the perceptron; () for none.
    dropout : float in [0, 1), default=0.2
        Share of the perceptron's hidden units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation in the perceptron.

    References
    ----------
    .. [1] Song, W. et al. "AutoInt: Automatic Feature Interaction Learning via Self-Attentive
       Neural Networks", CIKM 2019. https://arxiv.org/abs/1810.11921

    Examples
    --------
    >>> from sklearn_autorec.networks import AutoInt
    >>> AutoInt(hidden_units=()).n_heads
    2
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "n_layers": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "residual": ["boolean"],
    }

    @stores_parameters
    def __init__(
        self,
        n_layers=2,
        n_heads=2,
        width=16,
        residual=True,
        hidden_units=(400, 400, 400),
        dropout=0.2,
        batch_norm=True,
    ):
        """Store the parameters."""

    def build(self, context, parts):
        return AutoIntModule(context, parts, self)
