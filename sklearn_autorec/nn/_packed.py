"""Embedding tables that hold only what is not zero, in whichever form takes fewest bytes."""

import numpy as np
import torch
from torch import nn

from ._embeddings import FieldRows
from ._numeric import numeric_shapes
from ._read_rows import read_rows
from ._row_numbers import BLOCK, RowNumbers


class PackedEmbedding(FieldRows):
    """Base of the packed forms: one vector ``values`` of stored numbers, and buffers that say where
    they belong.

    What is not stored reads as zero and has no gradient, and neither has a stored zero: what is
    pruned cannot grow back.

    Parameters
    ----------
    context : BuildContext
    arrays : dict of str to ndarray
        "values" (float32), the buffers of the form, and the parameters of numeric fields where
        there are such.
    """

    form = ""
    buffer_types: dict[str, torch.dtype] = {}
    matrices: tuple[str, ...] = ()  # buffers of two dimensions; the others have one
    max_width = 2**31  # that the type of its buffers can count to

    def __init__(self, context, arrays):
        super().__init__(context)
        self.width = context.embedding_dim
        self.field_sizes = context.table_sizes
        self.values = nn.Parameter(torch.from_numpy(np.array(arrays["values"], np.float32)))
        for name, dtype in self.buffer_types.items():
            self.register_buffer(name, torch.from_numpy(np.array(arrays[name])).to(dtype))
        for name in numeric_shapes(context):
            setattr(self, name, nn.Parameter(torch.from_numpy(np.array(arrays[name], np.float32))))
        self.register_buffer("columns", torch.arange(self.width), persistent=False)

    def embedding_parameters(self):
        return [self.values, *super().embedding_parameters()]

    def lookup(self, ids, rows, fields):
        where, present = self.locate(ids, rows.long(), fields)
        # An empty table still needs an element to read.
        values = self.values if len(self.values) else self.values.new_zeros(1)
        return self.without_zeros(values[where.clamp(0, len(values) - 1)]) * present

    def without_zeros(self, found):
        """The same numbers; in training, those that are zero pass no gradient on (some forms have
        to store a few).
        """
        return found * (found.detach() != 0) if self.training else found

    def locate(self, ids, rows, fields):
        """Positions in ``values`` and whether there is one: two Tensors (..., width)."""
        raise NotImplementedError

    def check(self):
        """Raise ValueError where a buffer points outside of what is stored."""
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, context, arrays):
        """The module of its own ``state_dict``, as arrays; contents are left to `check`.

        Raises
        ------
        ValueError
            If an array is missing or has another type or number of dimensions.
        """
        wanted = {"values": (np.dtype("float32"), 1)}
        for name, dtype in cls.buffer_types.items():
            wanted[name] = torch.empty(0, dtype=dtype).numpy().dtype, 1 + (name in cls.matrices)
        numeric = numeric_shapes(context)
        wanted |= {name: (np.dtype("float32"), len(shape)) for name, shape in numeric.items()}
        got = {name: (a.dtype, a.ndim) for name, a in arrays.items()}
        if got != wanted:
            raise ValueError(
                f"a packed table of form {cls.form!r} needs the arrays {wanted}, got {got}."
            )
        for name, shape in numeric.items():
            _require(arrays[name].shape == shape, name)
        _require(context.embedding_dim <= cls.max_width and cls.fits(context, arrays), "shapes")
        return cls(context, arrays)

    @classmethod
    def fits(cls, context, arrays):
        """Whether the shapes of a form's own arrays go with the tables and with each other."""
        return True

    @torch.no_grad()
    def mask(self):
        """What is not zero, bool ndarray (V, width); made in blocks of rows."""
        out = np.zeros((self.n_rows, self.width), bool)
        block = max(2**20 // self.width, 1)
        start = 0
        for f, n in enumerate(self.field_sizes):
            for first in range(0, n, block):
                ids = torch.arange(first, min(first + block, n), device=self.values.device)
                out[start + first : start + first + len(ids)] = (
                    (self.lookup(ids, ids + start, f) != 0).cpu().numpy()
                )
            start += n
        return out


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
        return arrays["position"].shape == (
            len(context.table_sizes),
            context.embedding_dim,
        )

    @staticmethod
    def pack(table, sizes):
        position = np.full((len(sizes), table.shape[1]), -1, np.int16)
        blocks = [np.zeros(0, np.float32)]
        for f, block in enumerate(_by_field(table, sizes)):
            used = np.flatnonzero((block != 0).any(0))
            position[f, used] = np.arange(len(used))
            blocks.append(block[:, used].ravel())
        return {"values": np.concatenate(blocks), "position": position}

    def locate(self, ids, rows, fields):
        position = self.position[fields].long()
        start = self.start[fields] + ids.long() * self.widths[fields]
        return start.unsqueeze(-1) + position, position >= 0

    def check(self):
        stored = self.position.long()
        expected = torch.where(stored >= 0, (stored >= 0).cumsum(1) - 1, -1)
        _require(torch.equal(stored, expected) and self.n_stored == len(self.values), "position")


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
        return arrays["bounds"].shape == (
            len(context.table_sizes),
            context.embedding_dim,
        )

    @staticmethod
    def pack(table, sizes):
        bounds, runs = np.zeros((len(sizes), table.shape[1]), np.int32), [np.zeros(0, np.float32)]
        for f, block in enumerate(_by_field(table, sizes)):
            last = np.array(
                [np.flatnonzero(column)[-1] + 1 if column.any() else 0 for column in block.T]
            )
            bounds[f] = np.maximum.accumulate(last[::-1])[::-1]
            runs += [column[:n] for column, n in zip(block.T, bounds[f], strict=True)]
        return {"values": np.concatenate(runs), "bounds": bounds}

    def locate(self, ids, rows, fields):
        ids = ids.long().unsqueeze(-1)
        return self.start[fields] + ids, ids < self.bounds[fields]

    def check(self):
        sizes = torch.tensor(self.field_sizes).unsqueeze(1)
        falling = (self.bounds[:, 1:] <= self.bounds[:, :-1]).all()
        fits = (self.bounds >= 0).all() and (self.bounds <= sizes).all()
        _require(bool(falling and fits) and self.n_stored == len(self.values), "bounds")


class _LivingRows(RowNumbers, PackedEmbedding):
    """Forms with an entry per row that is not all zero; see `RowNumbers`."""

    buffer_types = {"alive": torch.uint8, "before": torch.int32}

    def __init__(self, context, arrays):
        super().__init__(context, arrays)
        self.register_popcount()

    @classmethod
    def fits(cls, context, arrays):
        n_blocks = -(-context.n_rows // BLOCK)
        return len(arrays["alive"]) == n_blocks * BLOCK // 8 and len(arrays["before"]) == n_blocks

    def n_living(self):
        """Living rows; raises ValueError if the counts do not fit the bits."""
        bits = np.unpackbits(self.alive.numpy(), bitorder="little")
        n_blocks = -(-self.n_rows // BLOCK)
        _require(len(bits) == n_blocks * BLOCK and not bits[self.n_rows :].any(), "alive")
        counts = bits.reshape(-1, BLOCK).sum(1, dtype=np.int64)
        _require(np.array_equal(self.before.numpy(), np.cumsum(counts) - counts), "before")
        return int(counts.sum())


class PackedSparse(_LivingRows):
    """S3: compressed sparse rows with one byte per column number (width at most 256).

    Buffers: ``row_offsets`` int32 (living rows + 1,); ``column`` uint8 (stored numbers,).
    """

    form = "sparse"
    max_width = 256
    buffer_types = {**_LivingRows.buffer_types, "row_offsets": torch.int32, "column": torch.uint8}

    def __init__(self, context, arrays):
        super().__init__(context, arrays)
        lengths = np.diff(np.asarray(arrays["row_offsets"]).astype(np.int64))
        self.longest = min(int(lengths.max(initial=0)), self.width)

    @staticmethod
    def pack(table, sizes):
        used = table != 0
        living = used.any(1)
        return {
            "values": table[used],
            "column": np.nonzero(used)[1].astype(np.uint8),
            "row_offsets": np.concatenate([[0], np.cumsum(used[living].sum(1))]).astype(np.int32),
            **_LivingRows.pack_rows(living),
        }

    def lookup(self, ids, rows, fields):
        number, living = self.number(rows.long())
        number = torch.where(living, number, 0)
        if not self.longest:
            return self.values.new_zeros(*rows.shape, self.width)
        start, stop = self.row_offsets[number].long(), self.row_offsets[number + 1].long()
        where = start.unsqueeze(-1) + torch.arange(self.longest, device=rows.device)
        present = (where < stop.unsqueeze(-1)) & living.unsqueeze(-1)
        where = where.clamp(max=len(self.values) - 1)
        # Absent entries go to one column too many, which is cut off.
        column = torch.where(present, self.column[where].long(), self.width)
        out = self.values.new_zeros(*rows.shape, self.width + 1)
        return out.scatter(-1, column, self.without_zeros(self.values[where]))[..., : self.width]

    def check(self):
        n = self.n_living()
        offsets = self.row_offsets.long()
        _require(
            len(offsets) == n + 1 and int(offsets[0]) == 0 and bool((offsets.diff() > 0).all()),
            "row_offsets",
        )
        _require(int(offsets[-1]) == len(self.values) == len(self.column), "row_offsets")
        _require(bool((self.column.long() < self.width).all()), "column")
        rising = self.column.long().diff() > 0
        rising[offsets[1:-1] - 1] = True
        _require(bool(rising.all()), "column")


class PackedBits(_LivingRows):
    """S4: a bit per element of a living row, and one offset a row.

    Buffers: ``bits`` uint8 (living rows, ceil(width / 8)); ``row_offsets`` int32 (living rows +
    1,)."""

    form = "bits"
    matrices = ("bits",)
    buffer_types = {**_LivingRows.buffer_types, "bits": torch.uint8, "row_offsets": torch.int32}

    @staticmethod
    def pack(table, sizes):
        used = table != 0
        living = used.any(1)
        return {
            "values": table[used],
            "bits": np.packbits(used[living], axis=1, bitorder="little"),
            "row_offsets": np.concatenate([[0], np.cumsum(used[living].sum(1))]).astype(np.int32),
            **_LivingRows.pack_rows(living),
        }

    def locate(self, ids, rows, fields):
        number, living = self.number(rows)
        if not len(self.bits):
            return torch.zeros(*rows.shape, self.width, dtype=torch.int64), living.unsqueeze(-1) & (
                self.columns < 0
            )
        number = torch.where(living, number, 0)
        used = torch.bitwise_and(self.bits[number].unsqueeze(-1).int(), self.bit.int()) != 0
        used = used.flatten(-2)[..., : self.width]
        return self.row_offsets[number].long().unsqueeze(-1) + used.long().cumsum(
            -1
        ) - 1, used & living.unsqueeze(-1)

    def check(self):
        n = self.n_living()
        bits = np.unpackbits(self.bits.numpy(), axis=1, bitorder="little")
        _require(
            self.bits.shape == (n, -(-self.width // 8)) and not bits[:, self.width :].any(), "bits"
        )
        counts = bits.sum(1, dtype=np.int64)
        offsets = self.row_offsets.numpy().astype(np.int64)
        _require(bool((counts > 0).all()), "bits")
        _require(np.array_equal(offsets, np.concatenate([[0], np.cumsum(counts)])), "row_offsets")
        _require(int(offsets[-1]) == len(self.values), "values")


class PackedDense(PackedEmbedding):
    """S0: every element is stored."""

    form = "dense"

    @staticmethod
    def pack(table, sizes):
        return {"values": table.ravel()}

    def lookup(self, ids, rows, fields):
        return self.without_zeros(read_rows(self.values.view(self.n_rows, self.width), rows))

    def check(self):
        _require(len(self.values) == self.n_rows * self.width, "values")


FORMS: dict[str, type[PackedEmbedding]] = {
    cls.form: cls for cls in (PackedDense, PackedColumns, PackedPrefixes, PackedSparse, PackedBits)
}


def _by_field(table, sizes):
    return np.split(table, np.cumsum(sizes)[:-1]) if sizes else []


def _require(condition, name):
    if not condition:
        raise ValueError(f"the packed table's {name!r} does not fit what is stored.")


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
    if not sizes:  # numeric fields alone: there is no table
        forms = ["dense"]
    elif forms is None:
        forms = [name for name, cls in FORMS.items() if table.shape[1] <= cls.max_width]
    packed = {name: FORMS[name].pack(table, sizes) for name in forms}
    best = min(packed, key=lambda name: sum(array.nbytes for array in packed[name].values()))
    numeric = {"numeric_weight": numeric_weight, "numeric_frequency": numeric_frequency}
    return FORMS[best](
        context, packed[best] | {name: a for name, a in numeric.items() if a is not None}
    )
