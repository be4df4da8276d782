"""Values with vectors of their own length, brought to one width by maps of their field."""

import numpy as np
import torch
from torch import nn

from ._context import BuildContext
from ._embeddings import FieldRows
from ._numeric import initial

BLOCK = 16  # values that share one stored position


class ProjectedSizes(FieldRows):
    r"""Vectors of several sizes, stored end to end; inputs -> (B, F, d).

    Value v of field f, of candidate n, has the numbers :math:`e_v` of length :math:`d_n` and the
    vector :math:`s_f \tanh(e_v P_{fn} + c_{fn})`.

    Parameters are ``values`` (all :math:`e_v`), ``projection_n`` (F, d_n, d) of candidate n,
    ``projection_shift`` (N, F, d) and ``projection_scale`` (F, 1); buffers, which need 1.25 bytes a
    value, ``code`` uint8 (V,), the number of the candidate, and ``before`` int32, where the numbers
    of every sixteenth value begin.

    Parameters
    ----------
    context : BuildContext
    candidates : list of int
        Sizes, rising.
    codes : uint8 ndarray (V,)
        Number of the candidate of each row of the tables.
    """

    code: torch.Tensor
    before: torch.Tensor
    lengths: torch.Tensor

    def __init__(self, context: BuildContext, candidates, codes):
        super().__init__(context)
        d, n_fields, std = context.embedding_dim, context.n_fields, context.embedding_init
        self.candidates, self.field_of_table = list(candidates), context.table_fields
        lengths = np.asarray(candidates, np.int64)
        each = lengths[codes]
        before = (np.cumsum(each) - each)[::BLOCK].astype(np.int32)
        self.values = initial(context, int(each.sum()), std=std)
        self.init_numbers(context, d, std)
        for n, w in enumerate(candidates):
            self.register_parameter(
                f"projection_{n}", initial(context, n_fields, w, d, std=w**-0.5)
            )
        self.projection_shift = nn.Parameter(torch.zeros(len(candidates), n_fields, d))
        self.projection_scale = nn.Parameter(torch.full((n_fields, 1), d**-0.5))
        padded = np.zeros(len(before) * BLOCK, np.uint8)
        padded[: len(codes)] = codes
        self.register_buffer("code", torch.from_numpy(padded))
        self.register_buffer("before", torch.from_numpy(before))
        self.register_buffer("lengths", torch.from_numpy(lengths), persistent=False)

    def embedding_parameters(self):
        return [self.values, *super().embedding_parameters()]

    def stored(self, rows):
        """Numbers of rows of the tables, padded with zeros, and their candidates.

        Parameters
        ----------
        rows : int64 Tensor (...)

        Returns
        -------
        Tensor (..., longest candidate)
        int64 Tensor (...)
        """
        block = rows // BLOCK
        near = (block * BLOCK).unsqueeze(-1) + torch.arange(BLOCK, device=rows.device)
        earlier = torch.where(near < rows.unsqueeze(-1), self.lengths[self.code[near].long()], 0)
        start = self.before[block].long() + earlier.sum(-1)
        code = self.code[rows].long()
        column = torch.arange(self.candidates[-1], device=rows.device)
        present = column < self.lengths[code].unsqueeze(-1)
        where = (start.unsqueeze(-1) + column).clamp(0, len(self.values) - 1)
        return self.values[where] * present, code

    def lookup(self, ids, rows, fields):
        single = isinstance(fields, int)  # a list of items, of one table
        first = self.field_of_table[fields] if single else 0
        rows = (rows.flatten().unsqueeze(1) if single else rows).long().T  # (n, B)
        own = slice(first, first + len(rows))
        e, code = self.stored(rows)
        out = e.new_zeros(*code.shape, self.projection_shift.shape[-1])
        for n, w in enumerate(self.candidates):
            projection = getattr(self, f"projection_{n}")[own]
            x = torch.baddbmm(self.projection_shift[n, own].unsqueeze(1), e[..., :w], projection)
            out = torch.where((code == n).unsqueeze(-1), torch.tanh(x), out)
        out = (out * self.projection_scale[own].unsqueeze(1)).transpose(0, 1)
        return out.reshape(*ids.shape, -1)
