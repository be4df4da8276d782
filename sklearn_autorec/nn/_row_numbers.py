"""Which rows of a table live, in a bit each, and their numbers among those that do."""

import numpy as np
import torch

BLOCK = 64  # rows that share one count in the map of living rows
_POPCOUNT = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


class RowNumbers:
    """Numbers of the living among rows (S5): a bit a row, and a count every 64 rows.

    Buffers of the module that it is mixed into: ``alive`` uint8 (8 ceil(V / 64),), bits of the
    rows; ``before`` int32 (ceil(V / 64),), living rows before a block; ``popcount`` int64 (256,),
    ones of each byte."""

    alive: torch.Tensor
    before: torch.Tensor
    popcount: torch.Tensor

    def register_popcount(self):
        self.register_buffer(
            "popcount", torch.from_numpy(_POPCOUNT.astype(np.int64)), persistent=False
        )
        # Shifts of bytes do not exist in ONNX exports: bit k, and the bits below it, stand in
        # tables.
        self.register_buffer(
            "bit", torch.tensor([1 << k for k in range(8)], dtype=torch.uint8), persistent=False
        )
        self.register_buffer("below", self.bit - 1, persistent=False)

    @staticmethod
    def pack_rows(living):
        bits = np.zeros(-(-len(living) // BLOCK) * BLOCK, bool)
        bits[: len(living)] = living
        counts = bits.reshape(-1, BLOCK).sum(1)
        return {
            "alive": np.packbits(bits, bitorder="little"),
            "before": (np.cumsum(counts) - counts).astype(np.int32),
        }

    def number(self, rows):
        """Number of each row among the living, and whether it lives; (...) each."""
        byte, k, block = rows // 8, rows % 8, rows // BLOCK
        own = self.alive[byte].int()  # older runtimes of ONNX compare no bytes
        living = torch.bitwise_and(own, self.bit[k].int()) != 0
        at = (block * (BLOCK // 8)).unsqueeze(-1) + torch.arange(BLOCK // 8, device=rows.device)
        earlier = torch.where(at < byte.unsqueeze(-1), self.popcount[self.alive[at].long()], 0).sum(
            -1
        )
        within = self.popcount[torch.bitwise_and(own, self.below[k].int()).long()]
        return self.before[block].long() + earlier + within, living

    @staticmethod
    def few_row_numbers(arrays, rows):
        """In numpy: how many rows live up to each row and it itself, and whether it lives."""
        block = rows >> 6  # of BLOCK rows
        last = (~rows & (BLOCK - 1)).astype(np.uint64)
        words = arrays.get("alive, by block")
        if words is None:
            words = arrays["alive, by block"] = arrays["alive"].view("<u8")
        upto = words.take(block) << last
        return arrays["before"].take(block) + np.bitwise_count(upto), upto.view(np.int64) < 0
