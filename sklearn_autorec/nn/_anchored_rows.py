"""Embedding tables whose rows are sparse combinations of a few anchors."""

import numpy as np
import torch
from torch import nn

from ._budget import kinds_of_tables, stored_bytes
from ._few_rows import pick, reads_few
from ._number_rows import NumberRows
from ._numeric import initial
from ._parts import tensor_bytes
from ._read_rows import read_rows
from ._row_numbers import BLOCK, RowNumbers
from ._storage import TableRows, storage_of

MAX_ANCHORS = 256  # that a byte can number


def anchored_bytes(n_weights, n_living, n_anchors, context):
    """Bytes of an `AnchoredRows` as it will be stored, scales of int8 and index included.

    Parameters
    ----------
    n_weights : int ndarray (n_tables,)
        Weights of the values of each table.
    n_living : int ndarray (n_tables,)
        Values of each table with a weight or more.
    n_anchors : int
        Anchors that are used.
    context : BuildContext
    """
    sizes, d = context.table_sizes, context.embedding_dim
    weights = stored_bytes(n_weights, n_living, kinds_of_tables(context)).sum()
    anchors = stored_bytes([n_anchors * d], [n_anchors], [storage_of(context.storage, None)])[0]
    of_rows = -(-sum(sizes) // BLOCK) * (BLOCK // 8 + 4) + 4 * (int(np.sum(n_living)) + 1)
    return int(weights + anchors) + int(np.sum(n_weights)) + of_rows


class AnchoredRows(RowNumbers, NumberRows):
    """S6: every value is a combination of some of K anchors with weights of at least 0; inputs ->
    (B, F, d).

    A value without anchors gives zeros. Numeric fields have d columns.

    Parameters
    ----------
    context : BuildContext
        Of one member.
    support : ndarray of bool (V, K)
        Which anchors each row combines, rows of all categorical, then of all sequence fields with
        tables of their own; K is at most 256.

    Attributes
    ----------
    values : Parameter (N,)
        Weights of the N combined anchors, row by row.
    anchors : Parameter (K, d)

    Notes
    -----
    Beside 4 bytes a weight it takes one for the number of its anchor, 4 for each of the L rows with
    anchors, and a bit and a half for every row, to tell these: 5 N + 4 (L + 1) + 3 V / 16 + 4 K d
    bytes, where a table takes 4 V d. The index follows from ``support``, which the architecture
    holds, and is in no ``state_dict``.
    """

    column: torch.Tensor
    row_offsets: torch.Tensor

    def __init__(self, context, support):
        super().__init__(context)
        support = np.asarray(support, bool)
        if support.ndim != 2 or len(support) != self.n_rows or support.shape[1] > MAX_ANCHORS:
            raise ValueError(
                f"support must have {self.n_rows} rows of at most {MAX_ANCHORS} anchors, got the "
                f"shape {support.shape}."
            )
        lengths = support.sum(1)
        self.dim, self.longest = context.embedding_dim, int(lengths.max(initial=0))
        self.width = self.longest
        # As large as a plain table would be, whatever is combined.
        weights = initial(context, int(lengths.sum()), std=1.0).detach().abs()
        per_row = np.repeat(np.maximum(lengths, 1) ** -0.5, lengths).astype(np.float32)
        self.values = nn.Parameter(weights * torch.from_numpy(per_row))
        std = context.embedding_init
        self.anchors = initial(context, support.shape[1], self.dim, std=std)
        self.init_numbers(context, self.dim, std)
        living = lengths > 0
        index = {
            "row_offsets": np.concatenate([[0], np.cumsum(lengths[living])]).astype(np.int32),
            "column": np.nonzero(support)[1].astype(np.uint8),
            **self.pack_rows(living),
        }
        for name, array in index.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)
        self.register_popcount()

    few_by_rows = True

    def lookup(self, ids, rows, fields):
        if not self.longest:
            return torch.zeros(*rows.shape, self.dim, device=rows.device)
        if reads_few(rows) and {"values", "anchors"} <= self._parameters.keys():
            return self._few(rows, fields)
        weights = self.numbers_of(ids, rows, fields)
        where, _ = self._places(rows)
        rounding = self.rounding.get("anchors")
        anchors = read_rows(self.anchors, self.column[where].long(), rounding=rounding)
        return (weights.unsqueeze(-1) * anchors).sum(-2)

    def few_numbers(self, arrays, rows, fields):
        behind, living = self.few_row_numbers(arrays, rows)
        offsets = arrays["row_offsets"]
        start = offsets.take(behind - 1, mode="clip")
        stop = np.where(living, offsets.take(behind), start)
        where = start[..., None] + np.arange(self.longest)
        weights = pick(arrays["values"], where, where < stop[..., None])
        column = arrays["column"].take(where, mode="clip")
        anchors = arrays["anchors"].take(column, 0)
        # The sum is torch's own, whose order of additions other batches have.
        return torch.from_numpy(weights[..., None] * anchors).sum(-2).numpy()

    def stored_numbers(self, ids, rows, fields):
        if not self.longest:
            return self.values.new_zeros(*rows.shape, 0)
        where, present = self._places(rows)
        return self.elements(where) * present

    def vector_of(self, rows):
        number, living = self.number(rows.long())
        return torch.where(living, number, 0)

    def vector_rows(self):
        return np.flatnonzero(self._living())

    def _living(self):
        bits = np.unpackbits(self.alive.cpu().numpy(), bitorder="little")
        return bits[: self.n_rows].astype(bool)

    def _places(self, rows):
        """Positions of the weights of rows, and whether there is one, (..., longest) each."""
        number, living = self.number(rows.long())
        number = torch.where(living, number, 0)
        start, stop = self.row_offsets[number].long(), self.row_offsets[number + 1].long()
        where = start.unsqueeze(-1) + torch.arange(self.longest, device=rows.device)
        present = (where < stop.unsqueeze(-1)) & living.unsqueeze(-1)
        return where.clamp(max=len(self.values) - 1), present

    def stored_tables(self):
        # Anchors belong to no column: they are stored as all columns are, or as they were trained.
        def anchors():
            return TableRows(np.full(len(self.anchors), len(self.column_names)))

        return {"anchors": anchors, **super().stored_tables()}

    @torch.no_grad()
    def after_step(self):
        """Weights stay at least 0."""
        self.values.clamp_(min=0)

    def embedding_parameters(self):
        return [self.values, self.anchors, *super().embedding_parameters()]

    def sizes(self):
        """Anchors that each value combines, list by field of the context: an int array by id, or d
        of a numeric field.
        """
        by_row = np.zeros(self.n_rows, np.int64)
        by_row[self._living()] = self.row_offsets.diff().cpu().numpy()
        return self.by_field(by_row, self.dim)

    def nbytes(self):
        """Bytes by kind: weights and anchors are "embedding", which anchors a row has "index"."""
        index = tensor_bytes([self.column, self.row_offsets, self.alive, self.before])
        return {"embedding": tensor_bytes(self.parameters()), "index": index}
