"""Rows of sizes of their own, brought to one width and one scale by maps of their field."""

import numpy as np
import torch
from torch import nn

from ._context import BuildContext
from ._numeric import initial
from ._sized_rows import SizedRows, tables_by_size


class ProjectedSizes(SizedRows):
    r"""Values of size k of field f, stored as :math:`e_v` of length k, are read as
    :math:`s_f \tanh(e_v P_{fk} + c_{fk})`; inputs -> (B, F, d).

    Parameters
    ----------
    context : BuildContext
        Of one member.
    sizes : ndarray of int (V,)
        As in `SizedRows`; at least 1.
    """

    def __init__(self, context: BuildContext, sizes):
        super().__init__(context, sizes)
        n_fields, d = context.n_fields, context.embedding_dim
        self.field_of_table = context.table_fields
        # A field reads the table of another one by its maps.
        self.owned = None
        if context.shared_ids:
            owners = torch.tensor([context.table_fields[table] for table in context.id_tables])
            self.register_buffer("owned", owners, persistent=False)
        for size in self.distinct:
            maps = initial(context, n_fields, size, d, std=size**-0.5)
            self.register_parameter(f"projection_of_{size}", maps)
        self.projection_shift = nn.Parameter(torch.zeros(len(self.distinct), n_fields, d))
        self.projection_scale = nn.Parameter(torch.full((n_fields, 1), d**-0.5))

    def lookup(self, ids, rows, fields):
        single = isinstance(fields, int)  # a list of items, of one table
        first = self.field_of_table[fields] if single else 0
        rows = (rows.reshape(-1, 1) if single else rows).T.contiguous()  # (n, B)
        own = slice(first, first + len(rows)) if single or self.owned is None else self.owned
        e, numbers = super().lookup(rows, rows, fields), self.number(rows).unsqueeze(-1)
        out = torch.zeros_like(e)
        for k, (size, start, stop) in enumerate(self._ranges()):
            projection = getattr(self, f"projection_of_{size}")[own]
            shift = self.projection_shift[k, own].unsqueeze(1)
            x = torch.baddbmm(shift, e[..., :size], projection)
            out = torch.where((numbers >= start) & (numbers < stop), torch.tanh(x), out)
        out = (out * self.projection_scale[own].unsqueeze(1)).transpose(0, 1)
        return out.reshape(*ids.shape, out.shape[-1])

    def nbytes(self):
        """Bytes by kind: dict of "embedding", "projection" and "index"."""
        kinds = super().nbytes()
        maps = sum(p.nbytes for name, p in self.named_parameters() if "projection" in name)
        return {**kinds, "projection": maps, "embedding": kinds["embedding"] - maps}


def projected_state(table, sizes, projections, shifts, scale):
    """State of a `ProjectedSizes`.

    Parameters
    ----------
    table : Tensor (V, d)
        Of which row v has the first columns, as many as its size says.
    sizes : ndarray of int (V,)
    projections, shifts : dict of size to Tensor (F, size, d), and (F, d)
        Of all candidates.
    scale : Tensor (F, 1)

    Returns
    -------
    dict of str to Tensor
    """
    distinct = [int(size) for size in np.unique(sizes)]
    maps = {f"projection_of_{size}": projections[size].clone() for size in distinct}
    d = table.shape[1]
    return {
        **tables_by_size(table, sizes),
        **maps,
        "projection_shift": torch.stack([shifts[size] for size in distinct])
        if distinct
        else shifts[next(iter(shifts))].new_zeros(0, len(scale), d),
        "projection_scale": scale.clone(),
    }
