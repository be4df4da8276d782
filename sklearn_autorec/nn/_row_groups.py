"""Embedding tables whose rows stand in groups, each of which stores columns of its own."""

import numpy as np
import torch

from ._few_rows import pick
from ._number_rows import NumberRows
from ._numeric import initial


def group_sizes(bounds):
    """Rows of each group of all tables, int64 ndarray (G,)."""
    return np.concatenate([np.zeros(0, np.int64), *(np.diff([0, *own]) for own in bounds)])


class GroupedRows(NumberRows):
    """Consecutive ids of a table are a group, which stores some of the columns; the others are
    zero. inputs -> (B, F, d).

    No value has an index: where its vector lies follows from its group.

    Parameters
    ----------
    context : BuildContext
    bounds : list of list of int
        For each table the first id behind each of its groups, rising to the number of ids.
    kept : ndarray of bool (G, d)
        Columns of each group, groups of one table after those of another.
    positions : bool, default=False
        Whether the state holds a position for each group and column, as files of earlier releases
        have it; they are made of ``kept`` otherwise.
    """

    def __init__(self, context, bounds, kept, positions=False):
        super().__init__(context)
        sizes, d = group_sizes(bounds), context.embedding_dim
        widths = kept.sum(1).astype(np.int64)
        self.group_sizes, self.width = sizes, d
        self.values = initial(context, int((sizes * widths).sum()), std=context.embedding_init)
        self.init_numbers(context, d, context.embedding_init)
        position = np.where(kept, np.cumsum(kept, 1) - 1, -1)
        position = torch.from_numpy(position.astype(np.int16))
        self.register_buffer("position", position, persistent=positions)
        self.map_bytes = 0 if positions or kept.all() else self.index_bytes(*kept.shape)
        # All that follows is made of the architecture again.
        n_groups = [len(own) for own in bounds]
        most = max(n_groups, default=1)
        ends = torch.full((max(len(bounds), 1), most - 1), np.iinfo(np.int32).max)
        for table, own in enumerate(bounds):
            ends[table, : len(own) - 1] = torch.tensor(own[:-1])
        start = np.cumsum([0, *(sizes * widths)])[:-1]
        low = np.concatenate([np.zeros(0, np.int64), *([0, *own[:-1]] for own in bounds)])
        first = np.cumsum([0, *n_groups])[:-1] if n_groups else np.zeros(1)
        for name, array in (
            ("ends", ends.int()),
            ("first", torch.from_numpy(first.astype(np.int64))),
            # Of the vector of id 0, were it in the group.
            ("start", torch.from_numpy((start - low * widths).astype(np.int64))),
            ("widths", torch.from_numpy(widths)),
        ):
            self.register_buffer(name, array, persistent=False)

    def embedding_parameters(self):
        return [self.values, *super().embedding_parameters()]

    def stored_numbers(self, ids, rows, fields):
        behind = ids.unsqueeze(-1) >= self.ends[fields]
        group = self.first[fields] + behind.sum(-1)
        position = self.position[group].long()
        where = (self.start[group] + ids.long() * self.widths[group]).unsqueeze(-1) + position
        return self.elements(where.clamp(0, max(len(self.values) - 1, 0))) * (position >= 0)

    def few_numbers(self, arrays, ids, fields):
        ends, first, start, widths = (arrays[n] for n in ("ends", "first", "start", "widths"))
        behind = ids[..., None] >= ends.take(fields, 0)
        group = first.take(fields) + behind.sum(-1)
        position = arrays["position"].take(group, 0)
        where = (start.take(group) + ids * widths.take(group))[..., None] + position
        return pick(arrays["values"], where, position >= 0)

    @staticmethod
    def index_bytes(n_groups, width):
        """Bytes of what says which columns each group stores: a bit for each."""
        return n_groups * -(-width // 8)

    def nbytes(self):
        """Bytes by kind; what says which columns groups store is an index."""
        found = super().nbytes()
        return {**found, "index": found["index"] + self.map_bytes}

    @staticmethod
    def pack(table, bounds, kept):
        """``values`` of the stored columns of a whole table, Tensor (V, d)."""
        groups = table.split(group_sizes(bounds).tolist())
        columns = torch.from_numpy(kept).to(table.device)
        parts = [rows[:, own].flatten() for rows, own in zip(groups, columns, strict=True)]
        return torch.cat([table.new_zeros(0), *parts])

    def sizes(self):
        """Columns of each field: an int of a number, an int ndarray by id of the others."""
        return self.by_field(np.repeat(self.widths.cpu().numpy(), self.group_sizes), self.width)
