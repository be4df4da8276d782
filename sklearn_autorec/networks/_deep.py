"""What the networks with a perceptron share: its parameters, and making it."""

from numbers import Real

from ..base import Network
from ..nn import MLP, ReLUDropout, head_part
from ..utils._sklearn import Interval


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

    def mlp(self, context, n_in, n_outputs=None):
        """Hidden layers on ``n_in`` numbers, with a linear output layer if ``n_outputs`` is
        given.
        """
        wrong = [n for n in self.hidden_units if not isinstance(n, int) or n < 1]
        if wrong:
            raise ValueError(
                f"hidden_units must hold ints of at least 1, got {self.hidden_units!r}."
            )
        return MLP(
            n_in,
            self.hidden_units,
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
