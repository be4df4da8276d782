"""Product-network in network."""

from numbers import Integral

import torch
from torch import nn

from ..base import register_network
from ..nn import PairEnds, SeparateLinear
from ..nn._blocks import hold_shift
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._deep import DeepNetwork
from ._ipnn import IPNNModule


class PairNorm(nn.Module):
    """Layer norm of what each pair has, with a scale and a shift of its own; (B, P, n) -> (B, P,
    n).
    """

    def __init__(self, n_pairs, n, members=1):
        super().__init__()
        shape = (n_pairs, n) if members == 1 else (members, n_pairs, n)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.members = members
        self.field_axes = {"weight": {-2: n_pairs}, "bias": {-2: n_pairs}}

    def forward(self, x):
        rows = nn.functional.layer_norm(x, x.shape[-1:]).unflatten(0, (self.members, -1))
        weight, bias = (p.view(self.members, 1, *x.shape[1:]) for p in (self.weight, self.bias))
        return torch.addcmul(bias, rows, weight).flatten(0, 1)


class PairNetworks(nn.Module):
    """A small network for each pair of fields, on [e_i; e_j; e_i o e_j]; (B, F, d) -> (B, P *
    n_out).
    """

    def __init__(self, context, n_units, n_out):
        super().__init__()
        n_pairs, options = (
            context.axis("P"),
            {"generator": context.generator, "members": context.members},
        )
        self.ends = PairEnds(context)
        self.hidden = SeparateLinear(n_pairs, 3 * context.embedding_dim, n_units, **options)
        self.norm = PairNorm(n_pairs, n_units, context.members)
        self.out = SeparateLinear(n_pairs, n_units, n_out, **options)
        self.out_dim = context.axis("P", n_out)

    def forward(self, e, inputs=None):
        left, right = self.ends(e)
        hidden = self.hidden(torch.cat([left, right, left * right], 2))
        return self.out(torch.relu(self.norm(hidden))).flatten(1)


@register_network("pin")
class PIN(DeepNetwork):
    r"""Product-network in network: every pair of fields has a small network, an MLP reads them all.

    .. math:: \mathrm{MLP}\left([e_1; \ldots; e_F; (s_{ij})_{i<j}]\right), \quad s_{ij} = U_{ij}\,
              \mathrm{ReLU}(\mathrm{LN}(W_{ij} [e_i; e_j; e_i \odot e_j] + b_{ij})) + c_{ij}

    Parameters
    ----------
    pair_units : int, default=20
        Hidden units of each pair's network.
    pair_outputs : int, default=1
        Numbers that each gives.
    hidden_units : tuple of int, default=(400, 400, 400)
        Units of each hidden layer behind them.
    dropout : float in [0, 1), default=0.2
        Share of these units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation before each ReLU of these.

    Notes
    -----
    The MLP sees the embeddings too, as that of `IPNN` does, so that a table of one column, which
    has no pair, is learned as well; the paper's sees the pairs alone. The authors' code normalises
    what a pair's network gives once more, which would leave nothing of a single number; here the
    first hidden layer's batch norm does that. Weights and memory grow with the number of pairs.

    References
    ----------
    .. [1] Qu, Y. et al. "Product-based Neural Networks for User Response Prediction over
       Multi-field Categorical Data", TOIS 2018. https://arxiv.org/abs/1807.00311

    Examples
    --------
    >>> from sklearn_autorec.networks import PIN
    >>> PIN(pair_units=8, hidden_units=(64,)).pair_outputs
    1
    """

    slots = ("gate", "embedding", "numeric", "sequence", "interaction", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "pair_units": [Interval(Integral, 1, None, closed="left")],
        "pair_outputs": [Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        pair_units=20,
        pair_outputs=1,
        hidden_units=(400, 400, 400),
        dropout=0.2,
        batch_norm=True,
    ):
        """Store the parameters."""

    def build(self, context, parts):
        interaction = parts.get("interaction")
        if interaction is None:
            interaction = PairNetworks(context, self.pair_units, self.pair_outputs)
            if self.normalises(parts):
                hold_shift(interaction.out.bias)
        return IPNNModule(context, {**parts, "interaction": interaction}, self)
