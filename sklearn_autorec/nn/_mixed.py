"""Embeddings of several widths side by side, brought to one width by projections."""

import torch
from torch import nn

from ._context import Inputs
from ._embeddings import FieldEmbedding
from ._numeric import initial
from ._parts import tensor_bytes


def check_shared_widths(widths, context):
    """Refuse two widths, of a list and of the field whose table it reads.

    Raises
    ------
    ValueError
    """
    for f, owner in context.sharers:
        if widths[f] != widths[owner]:
            raise ValueError(
                f"widths must be the same for {context.field_names[owner]!r} and "
                f"{context.field_names[f]!r}, which share a table, got {widths[owner]} and "
                f"{widths[f]}."
            )


class MixedEmbedding(nn.Module):
    """Every field has its own width d_f; fields of one width share a projection to d; inputs -> (B,
    F, d).

    A field of width d needs no projection; a field of width 0 has no table and gives zeros.

    Parameters
    ----------
    context : BuildContext
    widths : list of int, length F
        In the order of ``context.field_names``. A list that shares the table of a categorical field
        has its width.
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
        check_shared_widths(widths, context)
        self.widths, self.distinct = list(widths), sorted({w for w in widths if w})
        self.tables, order = nn.ModuleList(), []
        self.fields_of: dict[int, list[int]] = {}
        self.n_fields, self.lengths = context.n_fields, context.sequence_lengths
        columns: tuple[list[list[int]], ...] = [], [], []  # of ids, numbers and items
        for w in self.distinct:
            fields = [f for f, width in enumerate(widths) if width == w]
            self.fields_of[w] = fields
            self.tables.append(FieldEmbedding(context.of_fields(fields, embedding_dim=w)))
            for kind, own in zip(columns, context.columns(fields), strict=True):
                kind.append(own)
            if w < d:
                shape = (w, d) if context.members == 1 else (context.members, w, d)
                self.register_parameter(f"projection_{w}", initial(context, *shape, std=w**-0.5))
            order += fields
        empty = [f for f, width in enumerate(widths) if not width]
        self.n_empty, self.dim, self.members = len(empty), d, context.members
        position = torch.tensor([*order, *empty], dtype=torch.int64).argsort()
        self.register_buffer("position", position, persistent=False)
        # Of each kind of inputs the columns of one width after those of another.
        self.n_columns = [[len(own) for own in kind] for kind in columns]
        for name, kind in zip(("ids", "numbers", "items"), columns, strict=True):
            together = torch.tensor([c for own in kind for c in own], dtype=torch.int64)
            self.register_buffer(f"{name}_by_width", together, persistent=False)
        self.ids_alone = not sum(map(sum, self.n_columns[1:]))

    def sizes(self):
        """Length of the embeddings by field, list of F."""
        return list(self.widths)

    def nbytes(self):
        """Bytes by kind: those of the tables, and of the projections."""
        tables = tensor_bytes(self.tables.parameters())
        return {"embedding": tables, "projection": tensor_bytes(self.parameters()) - tables}

    def forward(self, inputs: Inputs):
        if self.ids_alone and not self.training:
            # What the tables do with ids, in fewer steps: of a few rows these are most of the time.
            ids = self._columns_by_width(inputs.ids, "ids", 0)
            found = [
                table.lookup(own, own + table.offsets, None)
                for table, own in zip(self.tables, ids, strict=True)
            ]
        else:
            own = self._by_width(inputs)
            found = [table(part) for table, part in zip(self.tables, own, strict=True)]
        parts = [self._project(e, w) for e, w in zip(found, self.distinct, strict=True)]
        if self.n_empty:
            parts.append(inputs.numeric.new_zeros(inputs.ids.shape[0], self.n_empty, self.dim))
        return torch.cat(parts, 1).index_select(1, self.position)

    def unpooled(self, inputs: Inputs):
        """As `FieldRows` has it."""
        n_rows = inputs.ids.shape[0]
        single: dict[int, torch.Tensor] = {}
        lists: dict[int, torch.Tensor] = {}
        empty = inputs.numeric.new_zeros(n_rows, 1, self.dim)
        for w, table, own in zip(self.distinct, self.tables, self._by_width(inputs), strict=True):
            vectors, items = table.unpooled(own)
            numbers = self.fields_of[w]
            n_single = len(numbers) - len(items)
            if n_single:
                e = self._project(torch.cat(vectors, 1), w)
                single |= dict(zip(numbers, e.split(1, 1), strict=False))
            for f, rows in zip(numbers[n_single:], items, strict=True):
                lists[f] = self._project(rows, w)
        first = self.n_fields - len(self.lengths)
        vectors = [single.get(f, empty) for f in range(first)]
        nothing = [empty.expand(n_rows, length, self.dim) for length in self.lengths]
        return vectors, [lists.get(first + k, zeros) for k, zeros in enumerate(nothing)]

    def _by_width(self, inputs):
        """The batch of the fields of each width, in turn."""
        kinds = zip(inputs[:3], ("ids", "numbers", "items"), range(3), strict=True)
        for own in zip(*(self._columns_by_width(*kind) for kind in kinds), strict=True):
            yield Inputs(*own)

    def _columns_by_width(self, kind, name, k):
        """The columns of one kind of inputs (B, n) that each width reads, tuple of (B, n_w)."""
        return kind.index_select(1, getattr(self, f"{name}_by_width")).split(self.n_columns[k], 1)

    def _project(self, e, w):
        """Vectors of width w brought to d columns."""
        if w == self.dim:
            return e
        projection = getattr(self, f"projection_{w}")
        if self.members == 1:
            return e @ projection
        return torch.cat(
            [r @ p for r, p in zip(e.unflatten(0, (self.members, -1)), projection, strict=True)]
        )
