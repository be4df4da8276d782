"""Feature interaction graph neural network."""

from numbers import Integral

import torch
from torch import nn

from ..base import Network, register_network
from ..nn import FieldAttention, FieldNetwork, SeparateLinear, add_bias, linear, output_bias
from ..utils._sklearn import Interval


def sigmoid(x):
    """1 / (1 + exp(-x)), with the same bits wherever an element stands: torch computes the last
    elements of a tensor otherwise than the rest, so that a row alone would get another prediction.
    """
    return 0.5 + 0.5 * torch.tanh(0.5 * x)


class FieldGraph(nn.Module):
    """Message passing between fields; (B, F, n) -> (B, F, n).

    All fields are neighbours of all others. How much field i listens to field j is a softmax over j
    of LeakyReLU(w^T [e_i; e_j])."""

    def __init__(self, context, n, n_steps):
        super().__init__()
        options = {"generator": context.generator, "members": context.members}
        fields = context.axis("F")
        self.listener, self.speaker = (linear(n, 1, bias=False, **options) for _ in range(2))
        self.sent, self.received = (
            SeparateLinear(fields, n, n, bias=False, **options) for _ in range(2)
        )
        # Update gate, reset gate and candidate of the recurrent unit, side by side.
        self.by_message, self.by_state = (linear(n, 3 * n, **options) for _ in range(2))
        self.n_steps = n_steps
        self.register_buffer("own", torch.eye(fields, dtype=torch.bool), persistent=False)

    def weights(self, e):
        """Edge weights, (B, F, F), nothing from a field to itself; a single field has no edge."""
        scores = nn.functional.leaky_relu(self.listener(e) + self.speaker(e).transpose(1, 2))
        weights = scores.masked_fill(self.own, torch.finfo(e.dtype).min).softmax(2)
        return weights.masked_fill(self.own, 0.0)

    def forward(self, e):
        weights, state = self.weights(e), e
        for _ in range(self.n_steps):
            message = self.received(weights @ self.sent(state))
            update, reset, candidate = self.by_message(message).chunk(3, 2)
            own_update, own_reset, own_candidate = self.by_state(state).chunk(3, 2)
            update = sigmoid(update + own_update)
            candidate = torch.tanh(candidate + sigmoid(reset + own_reset) * own_candidate)
            state = candidate + update * (state - candidate) + e
        return state


class FiGNNModule(FieldNetwork):
    """Attention, a graph of the fields, and a weighted sum of their scores; see `FiGNN`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        options = {"generator": context.generator, "members": context.members}
        n = context.embedding_dim
        self.attention = None
        if network.n_heads:
            self.attention = FieldAttention(n, network.n_heads, network.width, **options)
            n = network.n_heads * network.width
        self.graph = FieldGraph(context, n, network.n_steps)
        self.score = linear(n, context.n_outputs, bias=False, **options)
        self.weight = linear(context.axis("F", n), context.axis("F"), bias=False, **options)
        self.bias = output_bias(context)

    def logits(self, e, inputs):
        state = self.graph(e if self.attention is None else self.attention(e))
        weight = sigmoid(self.weight(state.flatten(1))).unsqueeze(2)
        return add_bias((weight * self.score(state)).sum(1), self.bias)


@register_network("fignn")
class FiGNN(Network):
    r"""Fi-GNN: fields are nodes of a graph and pass messages along weighted edges.

    .. math:: a_i = W^{in}_i \sum_{j \ne i} g_{ij} W^{out}_j h_j, \quad
              h_i \leftarrow \mathrm{GRU}(h_i, a_i) + e_i

    Each field then has a score :math:`w^T h_i`, and the logit is their sum, weighted by sigmoids of
    all states.

    Parameters
    ----------
    n_steps : int, default=3
        Rounds of messages.
    n_heads : int, default=2
        Heads of the self-attention before the graph; 0 leaves the attention out.
    width : int, default=8
        Width of a head.

    Notes
    -----
    The edges are made once, of what enters the graph. The constant that the paper adds to messages
    is part of the recurrent unit's biases.

    References
    ----------
    .. [1] Li, Z. et al. "Fi-GNN: Modeling Feature Interactions via Graph Neural Networks for CTR
       Prediction", CIKM 2019. https://arxiv.org/abs/1910.05552

    Examples
    --------
    >>> from sklearn_autorec.networks import FiGNN
    >>> FiGNN(n_heads=0).n_steps
    3
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "loss")
    supports_members = True
    _parameter_constraints = {
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 0, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, n_steps=3, n_heads=2, width=8):
        self.n_steps = n_steps
        self.n_heads = n_heads
        self.width = width

    def build(self, context, parts):
        return FiGNNModule(context, parts, self)
