"""What the networks with a perceptron share: its parameters, and making it."""

from numbers import Real

from torch import nn

from ..base import Network
from ..nn import MLP, ReLUDropout, head_part, linear
from ..utils._sklearn import Interval


def plain_perceptron(widths, context):
    """Linear layers with ReLU between them, without dropout and batch norm; (B, widths[0]) -> (B,
    widths[-1]).
    """
    options = {"generator": context.generator, "members": context.members}
    layers = [linear(widths[0], widths[1], **options)]
    for n_in, n_out in zip(widths[1:-1], widths[2:], strict=True):
        layers += [nn.ReLU(), linear(n_in, n_out, **options)]
    return nn.Sequential(*layers)


class DeepNetwork(Network):
    """Base of networks with hidden layers, dropout and batch normalisation.

    Parameters
    ----------
    hidden_units : tuple of int, default=(400, 400, 400)
        Units of each hidden layer.
    dropout : float in [0, 1), default=0.2
        Share of hidden units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation before each ReLU.
    """

    _parameter_constraints: dict = {
        "hidden_units": [tuple, list],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "batch_norm": ["boolean"],
    }

    def __init__(self, hidden_units=(400, 400, 400), dropout=0.2, batch_norm=True):
        self.hidden_units = hidden_units
        self.dropout = dropout
        self.batch_norm = batch_norm

    def checked_units(self, name="hidden_units"):
        """The units of hidden layers that a parameter holds.

        Raises
        ------
        ValueError
            If one is not an int of at least 1.
        """
        units = getattr(self, name)
        if any(not isinstance(n, int) or n < 1 for n in units):
            raise ValueError(f"{name} must hold ints of at least 1, got {units!r}.")
        return units

    def normalises(self, parts):
        """Whether the first layer behind what the perceptron reads has a batch norm."""
        return self.batch_norm and bool(self.hidden_units) and "head" not in parts

    def mlp(self, context, n_in, n_outputs=None, hidden_units=None):
        """Hidden layers on ``n_in`` numbers, with a linear output layer if ``n_outputs`` is
        given; ``hidden_units`` are some of the network's, None is all.
        """
        units = self.checked_units()
        return MLP(
            n_in,
            units if hidden_units is None else hidden_units,
            context.generator,
            dropout=self.dropout,
            batch_norm=self.batch_norm,
            n_outputs=n_outputs,
            members=context.members,
        )

    def adjust(self, module):
        for layer in module.modules():
            if isinstance(layer, ReLUDropout):
                layer.p = float(self.dropout)
        return {"dropout": self.dropout}

    def head(self, context, parts, n_in):
        """The part that stands in the head slot, or a perceptron from ``n_in`` numbers to the
        logits.
        """
        head = head_part(parts, n_in, context)
        return self.mlp(context, n_in, context.n_outputs) if head is None else head
