"""Packed forms with an entry for every row that is not all zero."""

import numpy as np
import torch

from ._packed_table import PackedEmbedding, per_table, require
from ._row_numbers import BLOCK, RowNumbers


class _LivingRows(RowNumbers, PackedEmbedding):
    """Forms with an entry per row that is not all zero; see `RowNumbers`."""

    buffer_types = {"alive": torch.uint8, "before": torch.int32}
    few_by_rows = True

    def __init__(self, context, arrays):
        super().__init__(context, arrays)
        self.register_popcount()

    @classmethod
    def fits(cls, context, arrays):
        n_blocks = -(-context.n_rows // BLOCK)
        return len(arrays["alive"]) == n_blocks * BLOCK // 8 and len(arrays["before"]) == n_blocks

    @staticmethod
    def row_bytes(n_rows, n_living):
        """Bytes of what numbers the living ones among some rows, and of their offsets."""
        return -(-n_rows // BLOCK) * (BLOCK // 8 + 4) + 4 * (n_living + 1)

    @staticmethod
    def pack_numbers(used, table):
        """The arrays that both forms have of the elements that are ``used``."""
        living = used.any(1)
        offsets = np.concatenate([[0], np.cumsum(used[living].sum(1))]).astype(np.int32)
        return {
            "values": table[used],
            "row_offsets": offsets,
            **_LivingRows.pack_rows(living),
        }

    def vector_of(self, rows):
        number, living = self.number(rows.long())
        return torch.where(living, number, 0)

    def vector_rows(self):
        bits = np.unpackbits(self.alive.cpu().numpy(), bitorder="little")
        return np.flatnonzero(bits[: self.n_rows])

    def few_runs(self, arrays, rows):
        """In numpy, of rows (n,): their numbers among the living, that of the next where a row does
        not live, whether they live, how many numbers are stored of each, and where these are,
        those of one row after those of another.
        """
        behind, living = self.few_row_numbers(arrays, rows)
        number, offsets = behind - living, arrays["row_offsets"]
        stop = offsets.take(behind)
        lengths = stop - offsets.take(number)  # 0 where a row does not live
        ends = lengths.cumsum()
        where = np.arange(ends[-1]) + (stop - ends).repeat(lengths)
        return number, living, lengths, where

    def n_living(self):
        """Living rows; raises ValueError if the counts do not fit the bits."""
        bits = np.unpackbits(self.alive.numpy(), bitorder="little")
        n_blocks = -(-self.n_rows // BLOCK)
        require(len(bits) == n_blocks * BLOCK and not bits[self.n_rows :].any(), "alive")
        counts = bits.reshape(-1, BLOCK).sum(1, dtype=np.int64)
        require(np.array_equal(self.before.numpy(), np.cumsum(counts) - counts), "before")
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
        column = np.nonzero(used)[1].astype(np.uint8)
        return {"column": column, **_LivingRows.pack_numbers(used, table)}

    @staticmethod
    def counts_of(table, sizes):
        used = table != 0
        living, numbers = used.any(1), per_table(used.sum(1), sizes)
        index = int(numbers.sum()) + _LivingRows.row_bytes(len(living), int(living.sum()))
        return numbers, per_table(living, sizes), index

    def stored_numbers(self, ids, rows, fields):
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
        found = self.without_zeros(self.elements(where))
        out = found.new_zeros(*rows.shape, self.width + 1)
        return out.scatter(-1, column, found)[..., : self.width]

    def few_numbers(self, arrays, rows, fields):
        _, _, lengths, where = self.few_runs(arrays, rows.ravel())
        first = np.arange(0, self.width * len(lengths), self.width).repeat(lengths)
        out = np.zeros((*rows.shape, self.width), np.float32)
        out.reshape(-1)[first + arrays["column"].take(where)] = arrays["values"].take(where)
        return out

    def check(self):
        n = self.n_living()
        offsets = self.row_offsets.long()
        require(
            len(offsets) == n + 1 and int(offsets[0]) == 0 and bool((offsets.diff() > 0).all()),
            "row_offsets",
        )
        require(int(offsets[-1]) == len(self.values) == len(self.column), "row_offsets")
        require(bool((self.column.long() < self.width).all()), "column")
        rising = self.column.long().diff() > 0
        rising[offsets[1:-1] - 1] = True
        require(bool(rising.all()), "column")


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
        bits = np.packbits(used[used.any(1)], axis=1, bitorder="little")
        return {"bits": bits, **_LivingRows.pack_numbers(used, table)}

    @staticmethod
    def counts_of(table, sizes):
        used = table != 0
        living = used.any(1)
        n_living = int(living.sum())
        bits = -(-table.shape[1] // 8) * n_living
        index = bits + _LivingRows.row_bytes(len(living), n_living)
        return per_table(used.sum(1), sizes), per_table(living, sizes), index

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

    def few_numbers(self, arrays, rows, fields):
        out = np.zeros((*rows.shape, self.width), np.float32)
        number, living, _, where = self.few_runs(arrays, rows.ravel())
        if len(where):
            bits = arrays["bits"].take(number, 0, mode="clip")
            used = np.unpackbits(bits, axis=-1, count=self.width, bitorder="little")
            used &= living[:, None]
            out.reshape(-1)[used.view(bool).reshape(-1)] = arrays["values"].take(where)
        return out

    def check(self):
        n = self.n_living()
        bits = np.unpackbits(self.bits.numpy(), axis=1, bitorder="little")
        require(
            self.bits.shape == (n, -(-self.width // 8)) and not bits[:, self.width :].any(), "bits"
        )
        counts = bits.sum(1, dtype=np.int64)
        offsets = self.row_offsets.numpy().astype(np.int64)
        require(bool((counts > 0).all()), "bits")
        require(np.array_equal(offsets, np.concatenate([[0], np.cumsum(counts)])), "row_offsets")
        require(int(offsets[-1]) == len(self.values), "values")
