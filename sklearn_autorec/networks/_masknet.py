"""MaskNet: hidden vectors multiplied by masks of the embeddings."""

from numbers import Integral

import torch
from torch import nn

from ..base import register_network
from ..nn import FieldNetwork, LayerNorm, ReLUDropout, head_part, linear
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._deep import DeepNetwork


class MaskBlock(nn.Module):
    """ReLU(LN(W (M(v) o x))), M(v) = U_2 ReLU(U_1 v + c_1) + c_2; v (B, D) and x (B, n) -> (B,
    n_out).

    c_2 starts at one: at first the block is a layer of a perceptron.
    """

    def __init__(self, context, n_in, n_out, network):
        super().__init__()
        own = {"generator": context.generator, "members": context.members}
        n_embedded = context.axis("F", context.embedding_dim)
        self.squeeze = linear(n_embedded, network.mask_units, **own)
        self.mask = linear(network.mask_units, n_in, **own)
        nn.init.ones_(self.mask.bias)
        self.layer = linear(n_in, n_out, bias=False, **own)
        self.norm = LayerNorm(n_out, members=context.members)
        self.activation = ReLUDropout(network.dropout, context.generator)

    def forward(self, v, x):
        mask = self.mask(torch.relu(self.squeeze(v)))
        return self.activation(self.norm(self.layer(mask * x)))


class MaskNetModule(FieldNetwork):
    """Mask blocks one behind the other, or side by side below a perceptron; see `MaskNet`."""

    def __init__(self, context, parts, network):
        super().__init__(context, parts)
        d, members = context.embedding_dim, context.members
        n_embedded = context.axis("F", d)
        self.norm = LayerNorm(context.axis("F"), d, members=members)
        self.serial = network.structure == "serial"
        if self.serial:
            widths = [n_embedded, *network.units()]
            sizes = zip(widths[:-1], widths[1:], strict=True)
            self.blocks = nn.ModuleList(MaskBlock(context, *size, network) for size in sizes)
            self.head = head_part(parts, widths[-1], context) or linear(
                widths[-1], context.n_outputs, context.generator, members=members
            )
        else:
            self.blocks = nn.ModuleList(
                MaskBlock(context, n_embedded, network.block_units, network)
                for _ in range(network.n_blocks)
            )
            self.head = network.head(context, parts, network.n_blocks * network.block_units)

    def logits(self, e, inputs):
        v, x = e.flatten(1), self.norm(e).flatten(1)
        if not self.serial:
            return self.head(torch.cat([block(v, x) for block in self.blocks], 1))
        for block in self.blocks:
            x = block(v, x)
        return self.head(x)


@register_network("masknet")
class MaskNet(DeepNetwork):
    r"""MaskNet: layers whose inputs are multiplied, row by row, by a mask made of all embeddings.

    .. math:: \mathrm{ReLU}(\mathrm{LN}(W (M(v) \odot x))), \quad
              M(v) = U_2 \, \mathrm{ReLU}(U_1 v + c_1) + c_2

    with v the embeddings side by side. In the serial structure the first block has for x the
    normalised embeddings, each next one what the block before it gives; a linear layer makes the
    logits. In the parallel structure all blocks have the normalised embeddings, and a perceptron
    takes what they give.

    Parameters
    ----------
    structure : {"parallel", "serial"}, default="parallel"
    n_blocks : int, default=3
        Blocks of the parallel structure.
    block_units : int, default=64
        Outputs of each of them.
    mask_units : int, default=128
        Hidden units of each mask.
    hidden_units : tuple of int, default=(400, 400, 400)
        Outputs of the blocks in the serial structure, one at least; hidden layers of the
        perceptron, which may be none, in the parallel one.
    dropout : float in [0, 1), default=0.2
        Share of the outputs of blocks and hidden layers dropped at a training step.

    Notes
    -----
    Each field has a scale and a shift of its own in the normalisation of the embeddings. By the
    shift a field that a gate has closed is a constant to the network, not nothing: one that a
    search drops changes the function a little more than its gate did.

    The masks of the paper start around zero, where all but the scale is lost; here they start
    around one. They have as many hidden units there as numbers that they multiply, or a multiple;
    here the number is given, so that it is the same where a search drops fields.

    References
    ----------
    .. [1] Wang, Z., She, Q. and Zhang, J. "MaskNet: Introducing Feature-Wise Multiplication to CTR
       Ranking Models by Instance-Guided Mask", DLP-KDD 2021. https://arxiv.org/abs/2102.07619

    Examples
    --------
    >>> from sklearn_autorec.networks import MaskNet
    >>> MaskNet("serial", hidden_units=(64, 64)).structure
    'serial'
    """

    slots = ("gate", "embedding", "numeric", "sequence", "body", "head", "loss")
    supports_members = True
    batch_norm = False  # the blocks normalise rows
    _parameter_constraints = {
        "structure": [StrOptions({"parallel", "serial"})],
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "block_units": [Interval(Integral, 1, None, closed="left")],
        "mask_units": [Interval(Integral, 1, None, closed="left")],
        "hidden_units": DeepNetwork._parameter_constraints["hidden_units"],
        "dropout": DeepNetwork._parameter_constraints["dropout"],
    }

    @stores_parameters
    def __init__(
        self,
        structure="parallel",
        n_blocks=3,
        block_units=64,
        mask_units=128,
        hidden_units=(400, 400, 400),
        dropout=0.2,
    ):
        """Store the parameters."""

    def units(self):
        """Outputs of the blocks of the serial structure.

        Raises
        ------
        ValueError
            If there are none.
        """
        if not self.hidden_units:
            raise ValueError(
                "hidden_units must hold the outputs of one block at least with "
                f"structure='serial', got {self.hidden_units!r}."
            )
        return self.checked_units()

    def build(self, context, parts):
        return MaskNetModule(context, parts, self)
