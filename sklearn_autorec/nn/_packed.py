"""Embedding tables in whichever form takes fewest bytes: those that leave out what is zero."""

import numpy as np
import torch

from ._budget import kinds_of_tables
from ._few_rows import pick
from ._packed_rows import PackedBits, PackedSparse
from ._packed_table import PackedEmbedding, by_field, require
from ._quantized import QuantizedTable
from ._read_rows import read_rows


class PackedColumns(PackedEmbedding):
    """S1: every field stores its own columns; the rest of its columns is zero for all of its
    values.

    Buffers: ``position`` int16 (F, width), where a column lies within a stored row, -1 where it
    does not."""

    form = "columns"
    buffer_types = {"position": torch.int16}
    matrices = ("position",)
    max_width = 2**15

    def __init__(self, context, arrays):
        super().__init__(context, arrays)
        sizes = np.array(self.field_sizes, np.int64)
        widths = (np.asarray(arrays["position"]) >= 0).sum(1)
        start = np.concatenate([[0], np.cumsum(sizes * widths)])
        self.n_stored = int(start[-1])
        self.register_buffer(
            "start", torch.from_numpy(start[:-1].astype(np.int64)), persistent=False
        )
        self.register_buffer("widths", torch.from_numpy(widths.astype(np.int64)), persistent=False)

    @classmethod
    def fits(cls, context, arrays):
        return _of_fields_and_columns(arrays["position"], context)

    @staticmethod
    def pack(table, sizes):
        position = np.full((len(sizes), table.shape[1]), -1, np.int16)
        blocks = [np.zeros(0, np.float32)]
        for f, block in enumerate(by_field(table, sizes)):
            used = np.flatnonzero((block != 0).any(0))
            position[f, used] = np.arange(len(used))
            blocks.append(block[:, used].ravel())
        return {"values": np.concatenate(blocks), "position": position}

    @staticmethod
    def counts_of(table, sizes):
        numbers = [len(b) * int((b != 0).any(0).sum()) for b in by_field(table, sizes)]
        return numbers, sizes, 2 * len(sizes) * table.shape[1]

    def locate(self, ids, rows, fields):
        position = self.position[fields].long()
        start = self.start[fields] + ids.long() * self.widths[fields]
        return start.unsqueeze(-1) + position, position >= 0

    def few_numbers(self, arrays, ids, fields):
        names = "position", "start", "widths"
        position, start, widths = (arrays[name].take(fields, 0) for name in names)
        where = (start + ids * widths)[..., None] + position
        return pick(arrays["values"], where, position >= 0)

    def check(self):
        stored = self.position.long()
        expected = torch.where(stored >= 0, (stored >= 0).cumsum(1) - 1, -1)
        require(torch.equal(stored, expected) and self.n_stored == len(self.values), "position")


class PackedPrefixes(PackedEmbedding):
    """S2: every value stores its first columns; within a field widths never grow with the id.

    Encoders number values by falling frequency, so a size that follows frequency needs no index per
    value. A value that is narrower than a later one is stored as wide as that one.

    Buffers: ``bounds`` int32 (F, width), how many values of a field store column k.
    """

    form = "prefixes"
    buffer_types = {"bounds": torch.int32}
    matrices = ("bounds",)

    def __init__(self, context, arrays):
        super().__init__(context, arrays)
        bounds = np.asarray(arrays["bounds"], np.int64)
        # Column k of a field is a run of bounds[f, k] numbers.
        start = np.concatenate([[0], np.cumsum(bounds)])
        self.n_stored = int(start[-1])
        self.register_buffer(
            "start", torch.from_numpy(start[:-1].reshape(bounds.shape)), persistent=False
        )

    @classmethod
    def fits(cls, context, arrays):
        return _of_fields_and_columns(arrays["bounds"], context)

    @staticmethod
    def pack(table, sizes):
        bounds, runs = np.zeros((len(sizes), table.shape[1]), np.int32), [np.zeros(0, np.float32)]
        for f, block in enumerate(by_field(table, sizes)):
            bounds[f] = _prefix_bounds(block)
            runs += [column[:n] for column, n in zip(block.T, bounds[f], strict=True)]
        return {"values": np.concatenate(runs), "bounds": bounds}

    @staticmethod
    def counts_of(table, sizes):
        numbers = [int(_prefix_bounds(block).sum()) for block in by_field(table, sizes)]
        return numbers, sizes, 4 * len(sizes) * table.shape[1]

    def locate(self, ids, rows, fields):
        ids = ids.long().unsqueeze(-1)
        return self.start[fields] + ids, ids < self.bounds[fields]

    def few_numbers(self, arrays, ids, fields):
        ids, start, bounds = ids[..., None], arrays["start"], arrays["bounds"]
        return pick(arrays["values"], start.take(fields, 0) + ids, ids < bounds.take(fields, 0))

    def check(self):
        sizes = torch.tensor(self.field_sizes).unsqueeze(1)
        falling = (self.bounds[:, 1:] <= self.bounds[:, :-1]).all()
        fits = (self.bounds >= 0).all() and (self.bounds <= sizes).all()
        require(bool(falling and fits) and self.n_stored == len(self.values), "bounds")


def _of_fields_and_columns(array, context):
    """Whether an array has an entry for each column of each table."""
    return array.shape == (len(context.table_sizes), context.embedding_dim)


def _prefix_bounds(block):
    """How many values of a field store each column, int64 (d,): all up to the last that is not zero
    in this column or a later one.
    """
    last = np.array([np.flatnonzero(column)[-1] + 1 if column.any() else 0 for column in block.T])
    return np.maximum.accumulate(last[::-1])[::-1]


class PackedDense(PackedEmbedding):
    """S0: every element is stored."""

    form = "dense"

    @staticmethod
    def pack(table, sizes):
        return {"values": table.ravel()}

    @staticmethod
    def counts_of(table, sizes):
        return [n * table.shape[1] for n in sizes], sizes, 0

    def stored_numbers(self, ids, rows, fields):
        if isinstance(self.values, QuantizedTable):
            return self.elements(rows.long().unsqueeze(-1) * self.width + self.columns)
        return self.without_zeros(read_rows(self.values.view(self.n_rows, self.width), rows))

    def check(self):
        require(len(self.values) == self.n_rows * self.width, "values")


# Forms that read as any table does. `pack_table` takes the smallest; others are made by the parts
# of the methods whose they are.
FORMS: dict[str, type[PackedEmbedding]] = {
    cls.form: cls for cls in (PackedDense, PackedColumns, PackedPrefixes, PackedSparse, PackedBits)
}


def pack_table(table, context, numeric_weight=None, forms=None, numeric_frequency=None):
    """The module of fewest bytes that reads as the given table.

    Parameters
    ----------
    table : ndarray (V, width), float32
        Rows of all categorical, then all sequence fields; zeros are what is pruned.
    context : BuildContext
    numeric_weight : ndarray (K, F_num, width) or None
    forms : sequence of str or None
        Forms to choose from; None is all of "dense", "columns", "prefixes", "sparse", "bits".
    numeric_frequency : ndarray (T, F_num) or None

    Returns
    -------
    PackedEmbedding
    """
    sizes = context.table_sizes
    best = FORMS[_smallest_form(table, context, forms)]
    numeric = {"numeric_weight": numeric_weight, "numeric_frequency": numeric_frequency}
    numeric = {name: array for name, array in numeric.items() if array is not None}
    return best(context, best.pack(table, sizes) | numeric)


def packed_bytes(table, context):
    """Bytes of the form that `pack_table` chooses: numbers as they will be stored, scales of int8
    and index.

    Parameters
    ----------
    table : ndarray (V, width)
        Or a mask of what is not zero, ndarray of bool.
    context : BuildContext
    """
    best, kinds = FORMS[_smallest_form(table, context)], kinds_of_tables(context)
    return best.bytes_of(table, context.table_sizes, kinds)


def _smallest_form(table, context, forms=None):
    """Name of the form of fewest bytes, of some or of all that can hold the table."""
    sizes = context.table_sizes
    if not sizes:  # numeric fields alone: there is no table
        return "dense"
    if forms is None:
        forms = [name for name, cls in FORMS.items() if table.shape[1] <= cls.max_width]
    kinds = kinds_of_tables(context)
    return min(forms, key=lambda name: FORMS[name].bytes_of(table, sizes, kinds))
