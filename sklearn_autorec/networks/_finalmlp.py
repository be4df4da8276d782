"""FinalMLP: two perceptrons on differently gated embeddings, and a bilinear form of both."""

from numbers import Integral

import torch
from torch import nn

from ..base import register_network
from ..nn import MLP, FieldNetwork, MemberLinear, head_part, linear
from ..nn._numeric import hold_constants
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._deep import DeepNetwork, plain_perceptron


class StreamGate(nn.Module):
    """Factors 2 sigmoid(g) of the numbers of all embeddings; (B, F, d) -> (B, F * d).

    Parameters
    ----------
    context : BuildContext
    fields : list of (int or None)
        g is a perceptron of the vectors of these, None for one that is not there. Of none at all it
        is a vector that is the same for all rows.
    hidden_units : tuple of int
    """

    def __init__(self, context, fields, hidden_units):
        super().__init__()
        self.fields, self.members = fields, context.members
        n_out = context.axis("F", context.embedding_dim)
        if fields:
            widths = [len(fields) * context.embedding_dim, *hidden_units, n_out]
            self.net = plain_perceptron(widths, context)
        else:
            shape = (n_out,) if context.members == 1 else (context.members, n_out)
            self.bias = nn.Parameter(torch.zeros(shape))
            self.field_axes = {"bias": {-1: n_out}}

    def forward(self, e):
        if self.fields:
            nothing = torch.zeros_like(e[:, 0])
            g = self.net(torch.cat([nothing if f is None else e[:, f] for f in self.fields], 1))
        else:
            g = self.bias
            if self.members > 1:
                g = g.repeat_interleave(len(e) // self.members, 0)
        return 2 * torch.sigmoid(g)


class BilinearFusion(nn.Module):
    r"""b + w_1 . o_1 + w_2 . o_2 + sum_t o_1^(t) W_t o_2^(t), t over slices of both; (B, h_1 + h_2)
    -> (B, C).
    """

    def __init__(self, context, n_first, n_second, n_heads):
        super().__init__()
        members, n_outputs = context.members, context.n_outputs
        self.n_first, self.n_second, self.n_heads = n_first, n_second, n_heads
        self.members = members
        n_in = n_first + n_second
        self.linear = linear(n_in, n_outputs, context.generator, members=members)
        # The weights of all slices are one set each, as those of members are.
        widths = n_first // n_heads, n_outputs * (n_second // n_heads)
        self.bilinear = MemberLinear(*widths, context.generator, n_heads * members, bias=False)
        # The sum over all products is as large as one of them, not as their number.
        std = (2 / (1 + n_first * n_second / n_heads)) ** 0.5
        self.bilinear.weight.data.normal_(0, std, generator=context.generator)

    def forward(self, x):
        first, second = x.split([self.n_first, self.n_second], 1)
        by_slice = first.unflatten(1, (self.n_heads, -1)).transpose(0, 1)  # (H, B, h_1 / H)
        maps = self.bilinear(by_slice.flatten(0, 1)).unflatten(0, (self.n_heads, -1))
        maps = maps.transpose(0, 1).unflatten(2, (-1, self.n_second // self.n_heads))
        products = maps * second.unflatten(1, (self.n_heads, 1, -1))  # (B, H, C, h_2 / H)
        return self.linear(x) + products.sum((1, 3))


class FinalMLPModule(FieldNetwork):
    """Two gated streams and their fusion; see `FinalMLP`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        n_in = context.axis("F", context.embedding_dim)
        narrowed = "selection" in parts
        self.stream_gates = nn.ModuleList(
            StreamGate(context, fields, network.checked_units("gate_units"))
            for fields in network.context_fields(context, narrowed)
        )
        self.streams = nn.ModuleList(network.streams(context, n_in))
        gated = self.gate is not None or any(gate.fields for gate in self.stream_gates)
        if network.batch_norm and not gated:
            hold_constants(self)
        widths = [stream.out_dim for stream in self.streams]
        self.head = head_part(parts, sum(widths), context) or BilinearFusion(
            context, *widths, network.n_heads
        )

    def logits(self, e, inputs):
        x = e.flatten(1)
        outs = [
            stream(x * gate(e))
            for gate, stream in zip(self.stream_gates, self.streams, strict=True)
        ]
        return self.head(torch.cat(outs, 1))


@register_network("finalmlp")
class FinalMLP(DeepNetwork):
    r"""FinalMLP: two perceptrons on differently gated embeddings, multiplied at their last layer.

    .. math:: b + w_1^T o_1 + w_2^T o_2 + \sum_{t=1}^{H} o_1^{(t)T} W_t \, o_2^{(t)}, \quad
              o_k = \mathrm{MLP}_k(x \odot g_k), \quad g_k = 2 \sigma(\mathrm{MLP}'_k(c_k))

    with x the embeddings side by side and slices t of the last hidden layers.

    Parameters
    ----------
    hidden_units : tuple of int, default=(400, 400, 400)
        Units of each hidden layer of the first perceptron, one layer at least.
    second_units : tuple of int or None, default=None
        Those of the second; None is the same.
    contexts : tuple of two tuples of str, default=((), ())
        Columns whose embeddings make the gates g of either perceptron, such as the user's for one
        and the item's for the other. Without any, g is one learned vector for all rows.
    gate_units : tuple of int, default=(64,)
        Hidden layers of the gates.
    n_heads : int, default=1
        H, which divides the last of the hidden units. 1 is the whole bilinear form.
    dropout : float in [0, 1), default=0.2
        Share of hidden units dropped at a training step.
    batch_norm : bool, default=True
        Batch normalisation before each ReLU of the two perceptrons.

    Notes
    -----
    The gates read the embeddings of the network, where the reference has tables of their own for
    them. Without columns the reference sends a vector of zeros through a perceptron; as no gradient
    passes the ReLU of zeros, all that it learns is the last bias, which is what stands here.

    Where a search drops a column of ``contexts``, zeros stand for its vector.

    References
    ----------
    .. [1] Mao, K. et al. "FinalMLP: An Enhanced Two-Stream MLP Model for CTR Prediction", AAAI
       2023. https://arxiv.org/abs/2304.00902

    Examples
    --------
    >>> from sklearn_autorec.networks import FinalMLP
    >>> FinalMLP((64, 32), (64,), contexts=(("user",), ("item",)), n_heads=4).n_heads
    4
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True
    _parameter_constraints = {
        **DeepNetwork._parameter_constraints,
        "second_units": [tuple, list, None],
        "contexts": [tuple, list],
        "gate_units": [tuple, list],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        hidden_units=(400, 400, 400),
        second_units=None,
        contexts=((), ()),
        gate_units=(64,),
        n_heads=1,
        dropout=0.2,
        batch_norm=True,
    ):
        """Store the parameters."""

    def streams(self, context, n_in):
        """The two perceptrons.

        Raises
        ------
        ValueError
            If one has no layer, or ``n_heads`` does not divide its last one.
        """
        made = []
        for name in (
            "hidden_units",
            "hidden_units" if self.second_units is None else "second_units",
        ):
            units = self.checked_units(name)
            if not units or units[-1] % self.n_heads:
                raise ValueError(
                    f"the last of {name} must be a multiple of n_heads={self.n_heads}, got "
                    f"{name}={units!r}."
                )
            made.append(
                MLP(
                    n_in,
                    units,
                    context.generator,
                    dropout=self.dropout,
                    batch_norm=self.batch_norm,
                    members=context.members,
                )
            )
        return made

    def context_fields(self, context, narrowed=False):
        """Numbers of the fields that make each of the two gates, None for one that a search has
        dropped (``narrowed``).

        Raises
        ------
        ValueError
            If ``contexts`` is not two collections of columns of the table.
        """
        names = list(context.field_names)
        wanted = [list(c) if isinstance(c, (tuple, list)) else None for c in self.contexts]
        unknown = [n for own in wanted if own for n in own if n not in names]
        if len(wanted) != 2 or None in wanted or (unknown and not narrowed):
            raise ValueError(
                f"contexts must be two tuples of columns out of {names}, got {self.contexts!r}."
            )
        return [[names.index(n) if n in names else None for n in own] for own in wanted]

    def build(self, context, parts):
        return FinalMLPModule(context, parts, self)
