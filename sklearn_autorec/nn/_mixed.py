"""Embeddings of several widths side by side, brought to one width by projections."""

import torch
from torch import nn

from ._context import Inputs
from ._embeddings import FieldEmbedding
from ._numeric import initial


class MixedEmbedding(nn.Module):
    """Every field has its own width d_f; fields of one width share a projection to d; inputs -> (B,
    F, d).

    A field of width d needs no projection; a field of width 0 has no table and gives zeros.

    Parameters
    ----------
    context : BuildContext
    widths : list of int, length F
        In the order of ``context.field_names``.
    """

    position: torch.Tensor

    def __init__(self, context, widths):
        super().__init__()
        d = context.embedding_dim
        if len(widths) != context.n_fields or not all(0 <= w <= d for w in widths):
            raise ValueError(
                f"widths must hold {context.n_fields} numbers between 0 and embedding_dim={d}, "
                f"got {widths!r}."
            )
        self.distinct = sorted({w for w in widths if w})
        self.tables, order = nn.ModuleList(), []
        for w in self.distinct:
            fields = [f for f, width in enumerate(widths) if width == w]
            self.tables.append(FieldEmbedding(context.of_fields(fields, embedding_dim=w)))
            columns_of = zip(("ids", "numbers", "items"), context.columns(fields), strict=True)
            for name, columns in columns_of:
                self.register_buffer(
                    f"{name}_{w}", torch.tensor(columns, dtype=torch.int64), persistent=False
                )
            if w < d:
                shape = (w, d) if context.members == 1 else (context.members, w, d)
                self.register_parameter(f"projection_{w}", initial(context, *shape, std=w**-0.5))
            order += fields
        empty = [f for f, width in enumerate(widths) if not width]
        self.n_empty, self.dim, self.members = len(empty), d, context.members
        position = torch.tensor([*order, *empty], dtype=torch.int64).argsort()
        self.register_buffer("position", position, persistent=False)

    def forward(self, inputs: Inputs):
        parts = []
        for w, table in zip(self.distinct, self.tables, strict=True):
            e = table(
                Inputs(
                    inputs.ids.index_select(1, getattr(self, f"ids_{w}")),
                    inputs.numeric.index_select(1, getattr(self, f"numbers_{w}")),
                    inputs.sequences.index_select(1, getattr(self, f"items_{w}")),
                )
            )
            parts.append(e if w == self.dim else self._project(e, getattr(self, f"projection_{w}")))
        if self.n_empty:
            parts.append(inputs.numeric.new_zeros(inputs.ids.shape[0], self.n_empty, self.dim))
        return torch.cat(parts, 1).index_select(1, self.position)

    def _project(self, e, projection):
        if self.members == 1:
            return e @ projection
        return torch.cat(
            [r @ p for r, p in zip(e.unflatten(0, (self.members, -1)), projection, strict=True)]
        )
