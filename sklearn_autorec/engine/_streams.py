"""Rows that come in blocks: shuffled batches of more rows than memory holds."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..utils._row_draws import uniform_by_label, uniform_by_row
from ._batches import EncodedTensors, TrainingBatches
from ._group_parts import group_threshold

__all__ = ["RowStream", "RowsBeside", "StreamBatches", "read_ahead"]


@dataclass(frozen=True, eq=False)
class RowStream:
    """Training rows that are read block by block, in place of `EncodedTensors`.

    Parameters
    ----------
    read : callable (int) -> EncodedTensors
        The rows of a block, on the CPU; called in another thread, one block at a time.
    sizes : int64 ndarray of shape (n_blocks,)
        How many rows each block has.
    buffer_rows : int
        Rows that are shuffled together, at least; whole blocks.
    device : torch.device
    constant : int64 Tensor
        Columns of ids that hold one value in all rows, as `TrainingBatches` wants them.
    beside : tuple of RowsBeside
        What takes rows out of the blocks, one after the other; ``sizes`` is what they leave.
    groups : callable (int) -> int64 ndarray, or None
        Labels of the groups of the rows of a block, those that ``sizes`` counts, without reading
        all of them. The rows of ``read`` have theirs as well.
    """

    read: Any
    sizes: np.ndarray
    buffer_rows: int
    device: Any
    constant: torch.Tensor
    beside: tuple = ()
    groups: Any = None

    def __len__(self):
        return int(self.sizes.sum())

    def blocks(self):
        """The rows of each block, on the CPU, in order."""
        yield from read_ahead(self.read, np.flatnonzero(self.sizes).tolist())

    def mapped(self, change):
        """The same rows, each block changed: a callable EncodedTensors -> EncodedTensors. No column
        counts as constant.
        """
        read, none = self.read, self.constant[:0]
        return dataclasses.replace(self, read=lambda i: change(read(i)), constant=none)

    def without(self, share, seed, *, pooled):
        """The stream without a share of its rows, drawn by a hash of their numbers, and that share
        as `RowsBeside`, which the batches of the stream fill. Of several groups each is on one
        side, by a hash of its label, which takes a pass over the labels.

        Raises
        ------
        ValueError
            If no row is left on one side.
        """
        starts, of_blocks = np.cumsum(self.sizes) - self.sizes, self.sizes
        numbers, threshold, labels = range(len(of_blocks)), None, self.groups
        if labels is not None:
            threshold = group_threshold(map(labels, numbers), share, seed)

        def drawn(number, groups=None):
            # Anew each time: the masks of all rows would grow with the data set.
            if threshold is not None:
                return uniform_by_label(groups, seed) < threshold
            return uniform_by_row(int(starts[number]), int(of_blocks[number]), seed) < share

        def drawn_of(number):
            return drawn(number, labels(number)) if threshold is not None else drawn(number)

        sizes = of_blocks - [int(drawn_of(number).sum()) for number in numbers]
        if not 0 < sizes.sum() < len(self):
            raise ValueError(f"a share of {share} of {len(self)} rows leaves none on one side")
        apart = RowsBeside(drawn, self.device, pooled)
        rest = None if labels is None else lambda number: labels(number)[~drawn_of(number)]
        beside = (*self.beside, apart)
        return dataclasses.replace(self, sizes=sizes, beside=beside, groups=rest), apart

    def batches(self, batch_size, **options):
        """Shuffled batches; see `StreamBatches`."""
        return StreamBatches(self, batch_size, **options)


class RowsBeside:
    """Rows of a stream that its batches do not have.

    Parameters
    ----------
    drawn : callable (int, int64 ndarray or None) -> bool ndarray
        Which rows of a block of this number, whose rows have these groups.
    device : torch.device
    pooled : bool
        Keep those of the buffer that is trained on, to draw batches from. Otherwise all are kept,
        as they come by for the first time.
    """

    def __init__(self, drawn, device, pooled):
        self.drawn, self.device, self.pooled = drawn, device, pooled
        self.data, self._gathered, self._seen = None, [], set()

    def take(self, number, block):
        """The other rows of a block."""
        groups = None if block.groups is None else block.groups.numpy()
        drawn = torch.from_numpy(self.drawn(number, groups))
        if self.pooled or number not in self._seen:
            self._seen.add(number)
            self._gathered.append(block.select(drawn.nonzero().flatten()))
        return block.select((~drawn).nonzero().flatten())

    def turn(self):
        """Put together what was taken since the last buffer."""
        parts = [part for part in self._gathered if len(part)]
        if parts:
            before = [] if self.pooled or self.data is None else [self.data]
            self.data = joined([*before, *(moved(part, self.device) for part in parts)])
        self._gathered = []

    def forever(self, batch_size, seed):
        """Batches without end of the rows of the present buffer, shuffled anew in each pass."""
        rng, none = np.random.Generator(np.random.PCG64(seed)), torch.zeros(0, dtype=torch.int64)
        while True:
            present = self.data
            if present is None:
                raise ValueError(
                    "search_fraction leaves the first buffer of the data set without a row for the "
                    "architecture; raise buffer_rows."
                )
            for batch in TrainingBatches(present, batch_size, rng=rng, constant=none):
                yield batch
                if self.data is not present:
                    break


class StreamBatches:
    """Shuffled batches of one epoch per iteration, as `TrainingBatches`, of a `RowStream`.

    The order of the blocks is drawn anew in each epoch; as many as make a buffer are put together,
    and their rows are drawn in random order. If all rows fit into one buffer, batches are those of
    `TrainingBatches`, to the bit. Otherwise each buffer leaves its last one to two batches to the
    next, so that all batches but the last of the epoch are full.

    Parameters
    ----------
    stream : RowStream
    batch_size, id_dropout, seed, members
        See `TrainingBatches`.
    """

    def __init__(self, stream, batch_size, *, id_dropout=0.0, seed=0, members=1):
        self.stream, self.batch_size, self.members = stream, batch_size, members
        self.options = {"id_dropout": id_dropout, "members": members}
        self._rng = np.random.Generator(np.random.PCG64(seed))
        # Of the order of blocks alone: rows are drawn as if there were no blocks.
        self._block_rng = np.random.Generator(np.random.PCG64([seed, 1]))
        self._running = None

    def __len__(self):
        n = len(self.stream)
        return max(-(-n // self.batch_size) - (n % self.batch_size == 1 < n), 0)

    def __iter__(self):
        self.close()
        self._running = self._epoch()
        return self._running

    def close(self):
        """End an epoch that was broken off, and the thread that reads for it."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def forever(self):
        """Batches without end, shuffled anew in each pass."""
        while True:
            yield from self

    def _buffers(self):
        """Numbers of blocks, buffer after buffer; in a buffer as they come in the data set."""
        stream, buffer, n_rows = self.stream, [], 0
        for block in self._block_rng.permutation(len(stream.sizes)):
            if not stream.sizes[block] and not stream.beside:
                continue
            buffer.append(int(block))
            n_rows += int(stream.sizes[block])
            if n_rows >= stream.buffer_rows:
                yield sorted(buffer)
                buffer, n_rows = [], 0
        if buffer:
            yield sorted(buffer)

    def _epoch(self):
        buffers = list(self._buffers())
        numbers = [number for buffer in buffers for number in buffer]
        blocks = read_ahead(self.stream.read, numbers)
        try:
            rest = []
            for i, buffer in enumerate(buffers):
                parts = rest + [self._without(number, next(blocks)) for number in buffer]
                data = joined(parts)
                del parts
                rest = []
                if i + 1 < len(buffers):
                    whole = (len(data) // self.batch_size - 1) * self.batch_size
                    if whole <= 0:
                        rest = [data]
                        continue
                    rest = [copied(data.select(slice(whole, None)))]
                    data = data.select(slice(0, whole))
                yield from self._shuffled(data)
                data = None  # before the next buffer is made
        finally:
            blocks.close()

    def _without(self, number, block):
        for apart in self.stream.beside:
            block = apart.take(number, block)
        return block

    def _shuffled(self, data):
        for apart in self.stream.beside:
            apart.turn()
        device = self.stream.device
        data = moved(data, device)
        yield from TrainingBatches(
            data,
            self.batch_size,
            **self.options,
            rng=self._rng,
            constant=self.stream.constant.to(device),
        )


def read_ahead(read, numbers):
    """``read(number)`` for each number, in order, with the next one under way in a thread.

    The thread ends with the generator, however that ends: the last call is waited for, no other
    begins.

    Yields
    ------
    object
    """
    numbers = iter(numbers)
    with ThreadPoolExecutor(1, thread_name_prefix="sklearn_autorec-blocks") as reader:
        ahead = [reader.submit(read, number) for number in islice(numbers, 1)]
        while ahead:
            done = ahead.pop().result()
            ahead = [reader.submit(read, number) for number in islice(numbers, 1)]
            yield done
            done = None  # memory is short


def _each(data, change):
    values = (getattr(data, field.name) for field in fields(data))
    return EncodedTensors(*(None if t is None else change(t) for t in values))


def moved(data, device):
    """The rows on a device."""
    return _each(data, lambda tensor: tensor.to(device))


def copied(data):
    """The rows in memory of their own: a view would hold on to all of the buffer."""
    return _each(data, torch.clone)


def joined(parts):
    """Blocks one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = ([getattr(part, field.name) for part in parts] for field in fields(EncodedTensors))
    return EncodedTensors(*(None if ts[0] is None else torch.cat(ts) for ts in columns))
