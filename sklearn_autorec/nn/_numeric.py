"""Vectors of numbers: piecewise-linear, periodic and linear embeddings, by functions of the scaled
value.
"""

import math

import numpy as np
import torch
from torch import nn

from ._context import BuildContext
from ._parts import own_bytes
from ._quantized import whole
from ._read_rows import read_rows
from ._storage import TableRows

PERIODIC_STD = 0.3  # of the initial frequencies, in periods per standard deviation of a number
NUMERIC_EMBEDDINGS = ("piecewise", "periodic", "linear")


def numeric_rows(numeric_embedding, n_bins):
    """Vectors of length d that each number has: K, the first axis of ``numeric_weight``."""
    return {"piecewise": n_bins, "periodic": 2 * n_bins, "linear": 1}[numeric_embedding] + 2


def numeric_shapes(context: BuildContext):
    """Shapes of the parameters of numbers in tables of ``embedding_dim`` columns, by name."""
    if not context.n_numeric:
        return {}
    rows = numeric_rows(context.numeric_embedding, context.n_numeric_bins)
    shapes: dict[str, tuple] = {"numeric_weight": (rows, context.n_numeric, context.embedding_dim)}
    if context.numeric_embedding == "periodic":
        shapes["numeric_frequency"] = context.n_numeric_bins, context.n_numeric
    if context.members > 1:
        shapes = {name: (context.members, *shape) for name, shape in shapes.items()}
    return shapes


def initial(context, *shape, std):
    """A parameter of independent normal numbers from the context's generator."""
    return nn.Parameter(
        torch.empty(shape).normal_(0.0, std, generator=context.generator)
        if std
        else torch.zeros(shape)
    )


class NumericEmbedding(nn.Module):
    """Base of the modules that embed numbers: (B, 2 F_num) scaled values and missing indicators ->
    (B, F_num, width).

    Number j with scaled value x and missing indicator m gives f_j(x) + m u_j, where f_j is

    - "piecewise": sum_t c_t(x) v_jt + b_j with c_t = clip(position(x) - t, 0, 1) for t = 0 .. T-1:
      linear between T + 1 knots at equal steps of the scale, and going on beyond its ends as in the
      first and last step;
    - "periodic": relu(sum_k cos(2 pi w_jk x) p_jk + sin(2 pi w_jk x) q_jk + b_j), k = 0 .. T-1;
      without the relu where ``rectified`` is False;
    - "linear": x v_j + b_j.

    The parameters stand on the module itself: ``numeric_weight`` (K, F_num, width), whose last two
    rows are u and b, and for "periodic" ``numeric_frequency`` (T, F_num); of M members (M, ...)
    each. All vectors of one number lie at one place of the second axis.

    Notes
    -----
    "piecewise" is computed as the interpolation that it is: per number two rows of d are read and
    joined, 4 d bytes times 2 and 2 d operations. The basis c times the weights would be T d
    multiplications per number and T further floats written and read."""

    numeric_weight: nn.Parameter  # where there are numeric fields
    numeric_frequency: nn.Parameter  # where they are periodic
    rectified = True
    holds_constant = False  # whether b stays as it is, see `hold_constants`
    rounding: dict = {}  # of tables by name, while training sees them as they will be stored

    def __init__(self, context: BuildContext):
        super().__init__()
        self.n_numeric = context.n_numeric
        self.column_names, self.first_number = context.field_names, context.n_categorical
        self.numeric_embedding = context.numeric_embedding
        self.n_bins = context.n_numeric_bins
        if self.numeric_embedding not in NUMERIC_EMBEDDINGS:
            raise ValueError(
                f"numeric_embedding must be one of {NUMERIC_EMBEDDINGS}, got "
                f"{self.numeric_embedding!r}."
            )
        numbers = context.axis("N")
        self.field_axes = {"numeric_weight": {-2: numbers}, "numeric_frequency": {-1: numbers}}
        low, high = context.numeric_range
        # To knots: position = (x - low) * per_unit, in [0, T] within the range.
        self.low, self.per_unit = low, self.n_bins / (high - low)
        # Scales that are centred already are taken as they are; others as if numbers were even over
        # the range.
        centred = low + high == 0
        self.centre, self.stretch = (
            (0.0, 1.0) if centred else ((low + high) / 2, math.sqrt(12) / (high - low))
        )
        self.members = context.members
        if self.n_numeric and self.numeric_embedding == "piecewise":
            # Of each member and number the row of its first knot.
            first = torch.arange(self.members, dtype=torch.int32).unsqueeze(1) * (
                self.n_bins * self.n_numeric
            )
            numbers = first + torch.arange(self.n_numeric, dtype=torch.int32)
            self.register_buffer("numbers", numbers.unsqueeze(1), persistent=False)

    def init_numbers(self, context: BuildContext, width: int, std: float):
        """Make the parameters."""
        if not self.n_numeric:
            return
        rows, each = (
            numeric_rows(self.numeric_embedding, self.n_bins),
            (self.members,) if self.members > 1 else (),
        )
        self.numeric_weight = initial(context, *each, rows, self.n_numeric, width, std=std)
        if self.numeric_embedding == "periodic":
            self.numeric_frequency = initial(
                context, *each, self.n_bins, self.n_numeric, std=PERIODIC_STD
            )

    def embed_numbers(self, numeric):
        """(M * B, 2 F_num) -> (M * B, F_num, width); columns behind those are left out."""
        return self._embedded(numeric, self.number_vectors())

    def own_numbers(self, numeric):
        """The columns of numbers, without those of vectors behind them."""
        n = 2 * self.n_numeric
        return numeric if numeric.shape[1] == n else numeric[:, :n]

    def number_vectors(self):
        """``numeric_weight`` as it is read: a few vectors a number, which are used together."""
        vectors = whole(self.numeric_weight, self.rounding.get("numeric_weight"))
        if self.holds_constant and torch.is_grad_enabled():
            n = vectors.shape[-3] - 1
            vectors = torch.cat(
                [vectors.narrow(-3, 0, n), vectors.narrow(-3, n, 1).detach()], dim=-3
            )
        return vectors

    def embed_with(self, other, numeric):
        """What `embed_numbers` of this module and of another give, in one pass.

        Parameters
        ----------
        other : module
        numeric : float Tensor of shape (M * B, 2 F_num)

        Returns
        -------
        pair of Tensor, or None
            None where the two do not embed the same numbers in the same way.
        """
        embed = NumericEmbedding.embed_numbers
        if (
            not self.n_numeric
            or not isinstance(other, NumericEmbedding)
            or type(self).embed_numbers is not embed
            or type(other).embed_numbers is not embed
            or self._scheme() != other._scheme()
        ):
            return None
        weights = self.number_vectors(), other.number_vectors()
        vectors = self._embedded(numeric, torch.cat(weights, -1))
        return vectors.split([w.shape[-1] for w in weights], -1)

    def _scheme(self):
        """What must be the same for one pass: "piecewise" embeds each column of a vector alone."""
        return (
            self.numeric_embedding == "piecewise" or id(self),
            self.n_numeric,
            self.n_bins,
            self.low,
            self.per_unit,
            self.members,
        )

    def _embedded(self, numeric, weight):
        numeric = self.own_numbers(numeric)
        # (M, K, F_num, d)
        weight = weight if self.members > 1 else weight.unsqueeze(0)
        # (M, B, F_num)
        values, missing = numeric.unflatten(0, (self.members, -1)).split(self.n_numeric, 2)
        if self.numeric_embedding == "linear":
            if self.centre:
                values = (values - self.centre) * self.stretch
            by_value, by_missing, constant = weight.unsqueeze(1).unbind(2)
            return (
                values.unsqueeze(-1) * by_value + missing.unsqueeze(-1) * by_missing + constant
            ).flatten(0, 1)
        if self.numeric_embedding == "piecewise":
            found = self._piecewise(values, weight)
        else:
            found = self._periodic(values, weight)
        return torch.addcmul(found, missing.unsqueeze(-1), weight[:, None, -2]).flatten(0, 1)

    def embedding_parameters(self):
        """The parameters that the embedding's L2 decay applies to."""
        return [self.numeric_weight] if self.n_numeric else []

    def stored_tables(self):
        """The tables that may be stored in fewer bytes: dict of attributes to functions without
        arguments that make the `TableRows` of each.
        """

        def rows():
            n_vectors = self.members * numeric_rows(self.numeric_embedding, self.n_bins)
            return TableRows(np.tile(self.first_number + np.arange(self.n_numeric), n_vectors))

        return {"numeric_weight": rows} if self.n_numeric else {}

    def nbytes(self):
        """Bytes by kind; see `PackedPart`."""
        return own_bytes(self)

    def _piecewise(self, values, weight):
        slopes = weight[:, :-2]  # (M, T, F_num, d)
        knots = torch.cat([weight[:, -1:], slopes[:, :-1]], 1).cumsum(1)  # where each step starts
        position = (values - self.low) * self.per_unit
        step = position.detach().to(torch.int32).clamp(0, self.n_bins - 1)
        within = (position - step).unsqueeze(-1)
        pairs = torch.cat([knots, slopes], 3).flatten(0, 2)
        start, slope = read_rows(pairs, step * self.n_numeric + self.numbers).chunk(2, 3)
        return torch.addcmul(start, within, slope)

    def _periodic(self, values, weight):
        frequency = (
            self.numeric_frequency if self.members > 1 else self.numeric_frequency.unsqueeze(0)
        )
        values = (values - self.centre) * self.stretch
        # (M, B, F_num, T)
        angle = (2 * math.pi) * values.unsqueeze(-1) * frequency.transpose(1, 2).unsqueeze(1)
        basis = torch.cat([angle.cos(), angle.sin()], 3)
        found = (
            torch.einsum("mbnk,mnkd->mbnd", basis, weight[:, :-2].transpose(1, 2))
            + weight[:, None, -1]
        )
        return torch.relu(found) if self.rectified else found


def hold_constants(part):
    """Keep the constant vectors b of numbers as they are, where nothing but batch norms see the
    embeddings, which take them away; see `hold_shift`.

    Parameters
    ----------
    part : nn.Module
        Whose embeddings these are. Those of "periodic", of which b is no shift, stay free.
    """
    for module in part.modules():
        if isinstance(module, NumericEmbedding) and module.numeric_embedding != "periodic":
            module.holds_constant = True


class NumberVectors(NumericEmbedding):
    """The plain numeric slot; (M * B, 2 F_num) -> (M * B, F_num, d)."""

    def __init__(self, context: BuildContext):
        super().__init__(context)
        self.init_numbers(context, context.embedding_dim, context.embedding_init)

    def forward(self, numeric):
        return self.embed_numbers(numeric)
