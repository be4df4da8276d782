"""Dense layers. Initial weights come from the generator handed in, never from torch's
global one.
"""

import math

import numpy as np
import torch
from torch import nn

from ._axes import layer_axes
from ._members import MemberLinear
from ._members import batch_norm as normalise
from ._statistics import drawn_by_row


def linear(n_in, n_out, generator, bias=True, members=1):
    """Fully connected layer with Glorot-normal weights and zero bias; (..., n_in) -> (..., n_out).

    With M ``members`` each has weights of its own; (M * B, ..., n_in) -> (M * B, ..., n_out). Where
    ``n_in`` or ``n_out`` is a `FieldAxis` the layer declares its axes.
    """
    if members > 1:
        layer = MemberLinear(n_in, n_out, generator, members, bias)
        layer.field_axes = layer_axes(n_in, n_out)
        return layer
    layer = nn.utils.skip_init(nn.Linear, n_in or 1, n_out, bias=bias)
    if not n_in:  # a search may leave nothing to read, of which torch's own constructor warns
        layer.in_features, layer.weight = 0, nn.Parameter(layer.weight[:, :0].detach())
    nn.init.xavier_normal_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    layer.field_axes = layer_axes(n_in, n_out)
    return layer


def mix_of_features(n_in, context):
    """Layer without bias from features to the logits of a context; (B, n_in) -> (B, C)."""
    return linear(n_in, context.n_outputs, context.generator, bias=False, members=context.members)


def hold_shift(bias):
    """Keep a parameter as it is, that adds the same to all rows ahead of a batch norm.

    The norm takes it away again, and has a shift of its own. What is left of its gradient is
    rounding, of which Adam makes whole steps: the parameter would wander, running means after it.
    """
    bias.requires_grad_(False)


class _ReLUDropoutFunction(torch.autograd.Function):
    """max(x, 0) times factors, 0 or ``scale``: the backward needs nothing but the output's sign."""

    @staticmethod
    def forward(ctx, x, factors, scale):
        out = torch.relu(x).mul_(factors)
        ctx.save_for_backward(out)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grad, out, 0).mul_(ctx.scale), None, None


class ReLUDropout(nn.Module):
    """ReLU followed by dropout; any shape to the same shape.

    On a CPU torch draws a Bernoulli variable per unit from a serial generator, which costs 40 % of
    a step of a typical click network. Here one 64-bit draw serves eight units (8-bit thresholds),
    so on a CPU the rate is rounded to a multiple of 1/256.

    Parameters
    ----------
    p : float in [0, 1)
        Probability that a unit is set to zero.
    generator : torch.Generator
        Seeds this layer's own stream of random bits.
    """

    def __init__(self, p, generator):
        super().__init__()
        self.p = float(p)
        self.seed = int(torch.randint(2**62, (), generator=generator))
        self._stream, self._epoch = None, 0

    def restart(self, epoch):
        """Begin the random bits of an epoch: those of a copy of the module are the same."""
        self._stream, self._epoch = None, epoch

    def forward(self, x):
        drawn = self.factors(x)
        if drawn is None:
            return torch.relu(x)
        return _ReLUDropoutFunction.apply(x, *drawn)

    def factors(self, x):
        """What each number of x is multiplied by, 0 or a scale, and that scale; None if nothing is
        dropped.
        """
        if not self.training or self.p == 0.0:
            return None
        if x.device.type == "cpu":
            threshold = round(256 * self.p)
            if threshold == 0:
                return None
            scale = 256 / (256 - threshold)
            # By numpy: torch compares bytes one by one, which takes longer than the layer before.
            kept = drawn_by_row(self._random_bytes, x.shape).numpy() >= threshold
            factors = np.multiply(kept, np.float32(scale), dtype=np.float32)
            return torch.from_numpy(factors), scale
        if self._stream is None:
            self._stream = torch.Generator(x.device).manual_seed(self.seed + self._epoch)
        scale = 1 / (1 - self.p)

        def draw(shape):
            return x.new_empty(shape).bernoulli_(1 - self.p, generator=self._stream)

        return drawn_by_row(draw, x.shape).mul_(scale), scale

    def _random_bytes(self, shape):
        if self._stream is None:
            entropy = [self.seed, self._epoch] if self._epoch else self.seed
            self._stream = np.random.Generator(np.random.SFC64(entropy))
        n = math.prod(shape)
        words = self._stream.integers(0, 2**64 - 1, (n + 7) // 8, dtype=np.uint64, endpoint=True)
        return torch.from_numpy(words.view(np.uint8)[:n]).view(shape)

    def __getstate__(self):
        # The stream belongs to a training run on one device; a copy or a pickle starts it afresh.
        return {**self.__dict__, "_stream": None}

    def extra_repr(self):
        return f"p={self.p}"


class PlainDropout(ReLUDropout):
    """Dropout alone, with the random bits of `ReLUDropout`; any shape to the same shape."""

    def forward(self, x):
        drawn = self.factors(x)
        return x if drawn is None else x * drawn[0]


class MLP(nn.Module):
    """Hidden layers of Linear, batch norm, ReLU and dropout; (B, n_in) -> (B, hidden_units[-1]).

    With ``n_outputs`` a last linear layer maps to (B, n_outputs). With M ``members``, rows are M *
    B and each member has weights, statistics and dropped units of its own."""

    def __init__(
        self,
        n_in,
        hidden_units,
        generator,
        *,
        dropout=0.0,
        batch_norm=True,
        n_outputs=None,
        members=1,
    ):
        super().__init__()
        layers = []
        for n_hidden in hidden_units:
            layers.append(linear(n_in, n_hidden, generator, members=members))
            if batch_norm:
                hold_shift(layers[-1].bias)
                layers.append(normalise(n_hidden, members))
            layers.append(ReLUDropout(dropout, generator))
            n_in = n_hidden
        if n_outputs is not None:
            layers.append(linear(n_in, n_outputs, generator, members=members))
            n_in = n_outputs
        self.layers = nn.Sequential(*layers)
        self.out_dim = n_in

    def forward(self, x):
        return self.layers(x)
