"""DCNv3 (FCN): two cross networks that mask and supervise themselves."""

from numbers import Integral

import torch
from torch import nn

from ..base import register_network
from ..nn import FieldNetwork, LayerNorm, PlainDropout, linear
from ..nn._statistics import mean_over_rows, rows_that_pass
from ..utils._sklearn import Interval
from ._deep import DeepNetwork


class MaskedCross(nn.Module):
    """Cross layers x_{l+1} = y o ([c; c o m] + b_l) + x_l, c = W_l x_l, m = ReLU(LN(c)); (B, n) ->
    (B, n).

    y is x_0 in a linear network, of order l + 1, and x_l in an exponential one, of order 2^l.

    Parameters
    ----------
    context : BuildContext
    n_layers : int
    exponential : bool
    dropout : float in [0, 1)
    """

    def __init__(self, context, n_layers, exponential, dropout):
        super().__init__()
        d, members = context.embedding_dim, context.members
        self.exponential, self.members = exponential, members
        self.n_fields, self.half = context.n_fields, d // 2
        # Of an odd d the first half is the larger one.
        first = context.axis("F", d - self.half)
        n_in = first + context.axis("F", self.half)
        options = {"generator": context.generator, "bias": False, "members": members}
        self.layers = nn.ModuleList(linear(n_in, first, **options) for _ in range(n_layers))
        self.norms = nn.ModuleList(LayerNorm(first, members=members) for _ in range(n_layers))
        shape = (n_layers, n_in) if members == 1 else (members, n_layers, n_in)
        self.bias = nn.Parameter(torch.zeros(shape))
        self.field_axes = {"bias": {-1: n_in}}
        self.dropout = PlainDropout(dropout, context.generator)
        self.out = linear(n_in, context.n_outputs, context.generator, members=members)

    def forward(self, x0):
        x = x0
        biases = self.bias.unbind(-2)
        for layer, norm, bias in zip(self.layers, self.norms, biases, strict=True):
            c = layer(x)
            masked = (c * torch.relu(norm(c))).unflatten(1, (self.n_fields, -1))
            h = torch.cat([c, masked[..., : self.half].flatten(1)], 1)
            if self.members == 1:
                h = h + bias
            else:
                h = (h.unflatten(0, (self.members, -1)) + bias.unsqueeze(1)).flatten(0, 1)
            x = self.dropout(torch.addcmul(x, x if self.exponential else x0, h))
        return self.out(x)


class DCNv3Module(FieldNetwork):
    """The mean of a linear and an exponential cross network, each trained as if it were alone as
    well; see `DCNv3`.
    """

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        self.half, self.members = context.embedding_dim // 2, context.members
        self.linear_cross, self.exponential_cross = (
            MaskedCross(context, n_layers, exponential, network.dropout)
            for n_layers, exponential in (
                (network.n_linear_layers, False),
                (network.n_exponential_layers, True),
            )
        )
        self.supervised = network.supervised
        self.judges = (context.reference_loss,)  # a tuple: it is no part of the network
        self.alone = self.extra = None

    def logits(self, e, inputs):
        first = e.shape[2] - self.half
        x = torch.cat([e[..., :first].flatten(1), e[..., first:].flatten(1)], 1)
        both = self.linear_cross(x), self.exponential_cross(x)
        mean = (both[0] + both[1]) / 2
        self.alone = (mean.detach(), *both) if self.training and self.supervised else None
        self.extra = None
        return mean

    observes_all_rows = True

    def observe(self, batch, per_row_loss):
        """Note what the two networks lose by themselves, weighed by how much more that is than
        what their mean loses.

        Of members that are modules of their own a batch holds the rows of others as well, which
        cannot be told apart: these are trained by their mean alone.
        """
        judge, alone, self.alone = self.judges[0], self.alone, None
        batch = rows_that_pass(batch)
        if judge is None or alone is None or len(alone[0]) != len(batch.y):
            return
        rows = torch.stack([judge(logits, batch.y) for logits in alone])
        if batch.weight is not None:
            rows = rows * batch.weight
        mean, *own = mean_over_rows(rows.unflatten(1, (self.members, -1)), 2)
        self.extra = sum(((loss - mean).detach().clamp(min=0) * loss).sum() for loss in own)

    def penalty(self):
        extra, self.extra = self.extra, None
        return 0.0 if extra is None else extra

    def __getstate__(self):
        # What one step has left is of no use to a copy.
        return {**self.__dict__, "alone": None, "extra": None}


@register_network("dcnv3")
class DCNv3(DeepNetwork):
    r"""DCNv3: a linear and an exponential cross network without any perceptron.

    .. math:: x_{l+1} = y \odot ([c; c \odot m] + b_l) + x_l, \quad c = W_l x_l, \quad
              m = \mathrm{ReLU}(\mathrm{LN}(c))

    with :math:`y = x_0` in the linear network, whose layers raise the order of interactions by one,
    and :math:`y = x_l` in the exponential one, whose layers double it. W has half as many rows as
    columns: c takes the first halves of all embeddings, its masked copy the second ones. The logit
    is the mean of both networks'. Each is trained by its own loss as well,

    .. math:: L + \max(0, L_1 - L) \, L_1 + \max(0, L_2 - L) \, L_2,

    with weights that are constants to the gradient.

    Parameters
    ----------
    n_linear_layers : int, default=3
        Cross layers of the linear network.
    n_exponential_layers : int, default=3
        Cross layers of the exponential network.
    supervised : bool, default=True
        Whether each network is trained by its own loss as well.
    dropout : float in [0, 1), default=0.1
        Share of the numbers dropped behind each layer at a training step.

    Notes
    -----
    The authors' code lets the gradient through the weights of the losses, and draws the biases from
    (0, 1); here they start at zero. It has heads with tables of their own, here there is one. Of an
    odd number of dimensions the middle one has no masked copy.

    LN is over all fields: a network on some of the fields takes over the weights but is another
    function. Losses are those of the estimator, by which it is judged, whatever loss trains. The
    steps of an architecture, and members that stand side by side as separate modules, go without
    the supervision.

    References
    ----------
    .. [1] Li, H. et al. "FCN: Fusing Exponential and Linear Cross Network for Click-Through Rate
       Prediction", 2024; named DCNv3 in its first version. https://arxiv.org/abs/2407.13349

    Examples
    --------
    >>> from sklearn_autorec.networks import DCNv3
    >>> DCNv3(n_linear_layers=2, n_exponential_layers=2).supervised
    True
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "loss")
    supports_members = True
    _parameter_constraints = {
        "n_linear_layers": [Interval(Integral, 1, None, closed="left")],
        "n_exponential_layers": [Interval(Integral, 1, None, closed="left")],
        "supervised": ["boolean"],
        "dropout": DeepNetwork._parameter_constraints["dropout"],
    }

    def __init__(self, n_linear_layers=3, n_exponential_layers=3, supervised=True, dropout=0.1):
        self.n_linear_layers = n_linear_layers
        self.n_exponential_layers = n_exponential_layers
        self.supervised = supervised
        self.dropout = dropout

    def build(self, context, parts):
        return DCNv3Module(context, parts, self)
