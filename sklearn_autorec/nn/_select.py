"""Some fields of a table, and some values of them, as the whole table of a smaller network."""

import numpy as np
import torch
from torch import nn

from ._context import BuildContext, Inputs
from ._parts import tensor_bytes
from ._row_numbers import RowNumbers

RESERVED = 2  # the missing and the unknown id of every categorical field, which are always kept


class InputSelection(RowNumbers, nn.Module):
    """Encoded batch in, encoded batch of the kept fields and values out.

    Ids of kept values are counted anew, so that tables hold no rows of others; values that are not
    kept read as the unknown id of their field, and so they do in a list that shares its vocabulary.
    Where the categorical field is dropped, such a list has a table of its own.

    Parameters
    ----------
    context : BuildContext
        Of the whole table.
    fields : sequence of int
        Kept fields, rising.
    values : ndarray of bool (sum of n_ids,) or None, default=None
        Kept ids of all categorical fields side by side, the same ones for those that share a
        vocabulary; None keeps all.
    """

    id_columns: torch.Tensor
    number_columns: torch.Tensor
    item_columns: torch.Tensor
    item_owner: torch.Tensor
    offsets: torch.Tensor
    first: torch.Tensor

    def __init__(self, context: BuildContext, fields, values=None):
        super().__init__()
        self.fields = [int(f) for f in fields]
        self.categorical, self.numbers, self.lists = context.by_kind(self.fields)
        self.vectors = context.vectors_of(self.fields)
        ids, numbers, items = context.columns(self.fields)
        offsets = np.cumsum([0, *context.n_ids], dtype=np.int64)
        for name, columns in (
            ("id_columns", ids),
            ("number_columns", numbers),
            ("item_columns", items),
            ("offsets", [offsets[f] for f in self.categorical]),
        ):
            self.register_buffer(name, torch.tensor(columns, dtype=torch.int64), persistent=False)
        # The lists that share the values of a kept field; -1 of the others.
        self.owners = [
            self.categorical.index(f) if (f := context.list_targets[k]) in self.categorical else -1
            for k in self.lists
        ]
        self.n_ids = [int(context.n_ids[f]) for f in self.categorical]
        self.by_value = values is not None
        if values is not None:
            kept = np.zeros(offsets[-1], bool)
            for f in self.categorical:
                own = slice(offsets[f], offsets[f + 1])
                kept[own] = values[own]
                kept[offsets[f] : offsets[f] + RESERVED] = True
            for name, array in self.pack_rows(kept).items():
                self.register_buffer(name, torch.from_numpy(array), persistent=False)
            self.register_popcount()
            first = np.concatenate([[0], np.cumsum(kept)])[offsets]
            lengths = [context.sequences[k][1] for k in self.lists]
            owner = np.repeat(self.owners, lengths).astype(np.int64)
            self.register_buffer("item_owner", torch.from_numpy(owner), persistent=False)
            self.register_buffer(
                "first", torch.tensor([first[f] for f in self.categorical]), persistent=False
            )

    def forward(self, inputs: Inputs):
        ids = inputs.ids.index_select(1, self.id_columns)
        if self.by_value and self.categorical:
            number, kept = self.number(ids + self.offsets)
            ids = torch.where(kept, number - self.first, 1).to(inputs.ids.dtype)
        items = inputs.sequences.index_select(1, self.item_columns)
        if self.by_value and any(owner >= 0 for owner in self.owners):
            owner, own = self.item_owner.clamp(min=0), self.item_owner < 0
            # Items of other lists are not looked up: they may be larger than any id here.
            number, kept = self.number(torch.where(own, 0, items) + self.offsets[owner])
            numbered = torch.where(kept, number - self.first[owner], 1)
            items = torch.where(own, items, numbered).to(inputs.sequences.dtype)
        return inputs._replace(
            ids=ids,
            numeric=inputs.numeric.index_select(1, self.number_columns),
            sequences=items,
        )

    def kept_ids(self):
        """Kept ids of each kept categorical field, list of int ndarrays."""
        if not self.by_value:
            return [np.arange(n) for n in self.n_ids]
        bits = np.unpackbits(self.alive.cpu().numpy(), bitorder="little")
        return [
            np.flatnonzero(bits[start : start + n])
            for start, n in zip(self.offsets.tolist(), self.n_ids, strict=True)
        ]

    def nbytes(self):
        """Bytes by kind. All is made from the architecture, hence in no ``state_dict``."""
        return {"index": tensor_bytes(self.buffers())}

    def ids_by_field(self, layout):
        """Kept ids of every kept field, in the numbering of the whole table.

        Parameters
        ----------
        layout : FieldLayout
            Of the whole table.

        Returns
        -------
        dict of int to ndarray or None
            By position of the field, rising; None of numbers.
        """
        kept, first = self.kept_ids(), layout.n_categorical + layout.n_numeric
        ids = dict(zip(self.categorical, kept, strict=True))
        for k, owner in zip(self.lists, self.owners, strict=True):
            ids[first + k] = np.arange(layout.sequences[k][0]) if owner < 0 else kept[owner]
        return {f: ids.get(f) for f in self.fields}

    def narrow(self, context):
        """The context of the table that is left."""
        kept = self.kept_ids()
        counts = []
        for f, ids in zip(self.categorical, kept, strict=True):
            if context.counts:
                own = np.asarray(context.counts[f])
                left = own[ids].copy()
                left[1] += own.sum() - left.sum()  # what is not kept counts as unknown
                counts.append(left)
        sequences = tuple(
            (n if owner < 0 else len(kept[owner]), length)
            for (n, length), owner in zip(
                (context.sequences[k] for k in self.lists), self.owners, strict=True
            )
        )
        whole = self.ids_by_field(context)
        names = {context.field_names[f]: ids for f, ids in whole.items()}
        given = tuple(
            own.on(names[own.field]) for own in context.given_vectors if own.field in names
        )
        return context.of_fields(
            self.fields,
            given_vectors=given,
            n_ids=tuple(len(ids) for ids in kept),
            sequences=sequences,
            counts=tuple(counts),
        )

    def table_rows(self, context):
        """Rows of the kept values in tables of the whole table, int64 ndarray."""
        starts, kept = context.row_starts, self.kept_ids()
        tables = {**dict(enumerate(context.id_tables))}
        tables |= dict(enumerate(context.list_tables, context.n_categorical + context.n_numeric))
        rows = []
        for own in context.of_fields(self.fields).table_fields:
            table = tables[self.fields[own]]
            every = np.arange(starts[table + 1] - starts[table])
            rows.append(starts[table] + (kept[own] if own < len(kept) else every))
        return np.concatenate(rows).astype(np.int64) if rows else np.zeros(0, np.int64)
