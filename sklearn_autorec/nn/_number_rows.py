"""Vectors put together from numbers that are stored one after the other."""

import copy

import numpy as np
import torch
from torch import nn

from ._embeddings import FieldRows
from ._few_rows import arrays_of, read_distinct_end, reads_few
from ._quantized import QuantizedTable
from ._storage import TableRows

BLOCK = 2**20  # numbers that are worked out at once


class NumberRows(FieldRows):
    """Base of tables whose rows consist of numbers of ``values``, a parameter (N,); a subclass says
    by ``stored_numbers`` which. In a storage of int8 all numbers of a row share a scale.

    It may say the same of a few rows in numpy, ``few_numbers(arrays, ids, fields)``: its tensors by
    name, ids (B, n), and the tables of these (n,) or an int; or, with ``few_by_rows``, rows in
    place of ids. It gives what ``lookup`` does, to the bit, where ``values`` is a parameter.
    """

    few_numbers = None
    few_by_rows = False

    def lookup(self, ids, rows, fields):
        if self.few_numbers is not None and "values" in self._parameters and reads_few(rows):
            return self._few(rows if self.few_by_rows else ids, fields)
        return self.numbers_of(ids, rows, fields)

    def _few(self, numbers, fields):
        arrays = arrays_of(self)
        if isinstance(fields, torch.Tensor):
            own = fields is self._buffers["fields"]
            fields = arrays["fields"] if own else fields.numpy()
        return torch.from_numpy(
            read_distinct_end(numbers.numpy(), lambda some: self.few_numbers(arrays, some, fields))
        )

    def numbers_of(self, ids, rows, fields):
        """As ``stored_numbers``, with their scales."""
        vectors = self.stored_numbers(ids, rows, fields)
        if isinstance(self.values, QuantizedTable):
            return self.values.scaled(vectors, self.vector_of(rows))
        rounding = self.rounding.get("values")
        return vectors if rounding is None else rounding(vectors, rows)

    def stored_numbers(self, ids, rows, fields):
        """Numbers of rows, (..., k), not multiplied by their scales where ``values`` is stored with
        such, 0 where nothing is stored; arguments as in `lookup`.
        """
        raise NotImplementedError

    def elements(self, where):
        """Stored numbers by their positions, (...) each."""
        if isinstance(self.values, QuantizedTable):
            return self.values.elements(where)
        values = self.values if len(self.values) else self.values.new_zeros(1)
        return values[where]

    def vector_of(self, rows):
        """Number of the scale of each row, int (...); what is not stored has any."""
        return rows

    def vector_rows(self):
        """Rows that have a scale, int64 ndarray, as `vector_of` numbers them."""
        return np.arange(self.n_rows)

    def stored_tables(self):
        return {"values": self._owners, **super().stored_tables()}

    @torch.no_grad()
    def _owners(self):
        """Of each stored number the row whose it is."""
        n, columns, n_read = len(self.values), self.row_columns(), 0
        twin, owner = self._with_numbers(), np.zeros(n, np.int64)
        for first, rows, table in self._blocks():
            found = twin.stored_numbers(rows - first, rows, table).long().cpu().numpy()
            row, column = np.nonzero(found)
            owner[found[row, column] - 1] = rows.cpu().numpy()[row]
            n_read += len(row)
        numbers = self.vector_of(torch.from_numpy(owner).to(self.offsets.device))
        return TableRows(
            columns[owner],
            numbers.long().cpu().numpy(),
            columns[self.vector_rows()],
            read_columns=columns,
            shares=n_read > n,
        )

    def _with_numbers(self):
        """This module with the numbers 1, 2, ... in the places of those that are stored."""
        twin = copy.copy(self)
        twin._parameters = {k: p for k, p in self._parameters.items() if k != "values"}
        twin._modules = {k: m for k, m in self._modules.items() if k != "values"}
        numbers = torch.arange(1, len(self.values) + 1, device=self.offsets.device)
        twin.values = nn.Parameter(numbers.double(), requires_grad=False)
        return twin

    def _blocks(self):
        """All rows in blocks of one table: its first row, the rows, and its number."""
        block, start = max(BLOCK // max(self.width, 1), 1), 0
        for table, n in enumerate(self.field_sizes):
            for first in range(start, start + n, block):
                last = min(first + block, start + n)
                yield start, torch.arange(first, last, device=self.offsets.device), table
            start += n
