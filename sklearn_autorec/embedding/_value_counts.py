"""How often each value has come: what decides the size of its embedding while a stream goes on."""

import numpy as np
import torch
from torch import nn


class ValueCounts(nn.Module):
    r"""Training rows in which each row of the tables has come so far; rows of tables (...) to what
    a controller is told of them (..., 1).

    That is :math:`(\log_2(1 + c) - 5) / 5`: -1 for values that have not come, about 1 for those of
    a thousand rows. In a stream counts grow chunk by chunk. In a fit those of categorical fields
    are known from the start (``context.counts``), those of lists are counted in the first epoch.

    Parameters
    ----------
    context : BuildContext
    """

    counts: torch.Tensor
    column_starts: torch.Tensor
    observes_all_rows = True

    def __init__(self, context):
        super().__init__()
        self.n_categorical = context.n_categorical
        counts = np.zeros(context.n_rows, np.int64)
        starts, tables = context.row_starts, context.id_tables
        for table, own in zip(tables, context.counts, strict=False):
            counts[starts[table] : starts[table + 1]] += np.asarray(own).astype(np.int64)
        self.register_buffer("counts", torch.from_numpy(counts))
        self.field_axes = {"counts": {0: context.axis("V")}}
        lists = np.repeat(starts[context.list_tables], context.sequence_lengths)
        columns = torch.from_numpy(np.concatenate([starts[tables], lists]).astype(np.int64))
        self.register_buffer("column_starts", columns, persistent=False)
        self.counts_items = bool(context.sequences)

    def rows_of(self, data):
        """Rows of the tables that rows of a batch read, int64 Tensor (B, F_cat + items), and
        whether they are there: the padding of lists is not.
        """
        rows = torch.cat([data.ids, data.sequences], 1) + self.column_starts
        present = torch.cat([torch.ones_like(data.ids), data.sequences], 1) > 0
        return rows, present

    def begin_chunk(self, data):
        self.counts_items = False
        rows, present = self.rows_of(data)
        self.counts += torch.bincount(rows[present], minlength=len(self.counts))

    def observe(self, batch, per_row_loss):
        if self.counts_items:
            rows, present = (t[:, self.n_categorical :] for t in self.rows_of(batch))
            self.counts += torch.bincount(rows[present], minlength=len(self.counts))

    def summary(self):
        self.counts_items = False  # an epoch has ended: all rows have been counted
        return {}

    def forward(self, rows):
        return popularity(self.counts[rows]).unsqueeze(-1)


def popularity(counts):
    """Counts on the scale that controllers see; int Tensor to float Tensor of equal shape."""
    return (torch.log2(1.0 + counts) - 5) / 5


class LossHistory(nn.Module):
    """The last losses of the rows in which each value has come; rows of tables (...) to their mean
    (...), NaN where a value has not come.

    A value that comes several times in a batch leaves the mean of these losses.

    Parameters
    ----------
    n_rows : FieldAxis
        Rows of all tables, ``context.axis("V")``.
    length : int
        Losses that are remembered of each.
    """

    def __init__(self, n_rows, length):
        super().__init__()
        self.register_buffer("losses", torch.zeros(n_rows, length))
        self.register_buffer("n_pushed", torch.zeros(n_rows, dtype=torch.int64))
        self.field_axes = {name: {0: n_rows} for name in ("losses", "n_pushed")}

    def push(self, rows, present, losses):
        """Remember the losses (B,) of the rows of tables (B, n) that are there."""
        each = losses.unsqueeze(1).expand(rows.shape)[present]
        values, number = rows[present].unique(return_inverse=True)
        total = torch.zeros(2, len(values), device=each.device)
        total.index_add_(1, number, torch.stack([each, torch.ones_like(each)]).float())
        self.losses[values, self.n_pushed[values] % self.losses.shape[1]] = total[0] / total[1]
        self.n_pushed[values] += 1

    def forward(self, rows):
        known = self.n_pushed[rows].clamp(max=self.losses.shape[1])
        return self.losses[rows].sum(-1) / known  # 0 / 0 where nothing is known

    def usual(self):
        """The mean of what is remembered, 0 if that is nothing."""
        known = self.n_pushed.clamp(max=self.losses.shape[1]).sum()
        return self.losses.sum() / known.clamp(min=1)
