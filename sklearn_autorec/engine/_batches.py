"""The encoded table as tensors, and batches that are slices of it."""

from dataclasses import dataclass, fields

import numpy as np
import torch


@dataclass
class EncodedTensors:
    """Encoded rows on one device; N rows.

    ids int32 (N, F_cat), numeric float32 (N, 2 F_num + numbers of vectors), sequences int32 (N, L),
    y (N,) float32 or int64, weight float32 (N,) with mean 1, groups int64 (N,), codes of the groups
    of rows, and times int64 (N,), the larger the newer; the last four may be None.
    """

    ids: torch.Tensor
    numeric: torch.Tensor
    sequences: torch.Tensor
    y: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    groups: torch.Tensor | None = None
    times: torch.Tensor | None = None

    @classmethod
    def from_table(cls, table, device, y=None, weight=None, groups=None, times=None):
        """Wrap the arrays of an ``EncodedTable`` (no copy on the CPU) and move them to the
        device.
        """

        def tensor(array):
            return (
                None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(device)
            )

        numbers = table.numeric
        if table.vectors.shape[1]:  # beside the numbers, so that networks take no further input
            numbers = np.hstack([numbers, table.vectors])
        return cls(
            tensor(table.ids),
            tensor(numbers),
            tensor(table.sequences),
            tensor(y),
            tensor(weight),
            tensor(groups),
            tensor(times),
        )

    def __len__(self):
        return len(self.ids)

    def select(self, rows):
        """Rows by position; ``rows`` is an int64 tensor or a slice."""
        parts = (getattr(self, f.name) for f in fields(self))
        if isinstance(rows, slice):
            return EncodedTensors(*(None if t is None else t[rows] for t in parts))
        return EncodedTensors(*(None if t is None else t.index_select(0, rows) for t in parts))

    def batches(self, batch_size, **options):
        """Shuffled batches of these rows; see `TrainingBatches`."""
        return TrainingBatches(self, batch_size, **options)

    @property
    def inputs(self):
        """The module's keyword arguments."""
        return {"ids": self.ids, "numeric": self.numeric, "sequences": self.sequences}


def batches_of(data, batch_size):
    """Consecutive slices of ``data``, views where possible."""
    for start in range(0, len(data), batch_size):
        yield data.select(slice(start, start + batch_size))


class TrainingBatches:
    """Shuffled batches of one epoch per iteration; iterate again for the next epoch.

    Parameters
    ----------
    data : EncodedTensors
    batch_size : int
        Rows. A last batch of one row joins the one before it: it has no batch statistics of its
        own.
    id_dropout : float in [0, 1)
        Share of ids (and sequence items) replaced by the field's unknown id, so that its embedding
        is trained although the training vocabulary is complete. Missing values and padding stay. Of
        a column that holds one id throughout it is half of the cells.
    seed : int
        Of the order and the replaced ids; the same on every device.
    members : int
        M orders at once: a batch then has ``batch_size`` rows of each, one after the other. Most of
        what makes independent networks better together is that they meet the rows in orders of
        their own, not that they start differently.
    rng : numpy Generator or None, default=None
        Instead of a seed: one that goes on from data to data.
    constant : int64 Tensor or None, default=None
        Columns of one id; None looks for them in the data.
    """

    def __init__(
        self, data, batch_size, *, id_dropout=0.0, seed=0, members=1, rng=None, constant=None
    ):
        self.data = data
        self.batch_size = batch_size
        self.id_dropout = id_dropout
        self.members = members
        self._rng = np.random.Generator(np.random.PCG64(seed)) if rng is None else rng
        n = len(data)
        # A column of one value says nothing, and its embedding takes part in the bias all the same.
        # What comes instead of that value later must be worth as much: the unknown id stands in
        # half of the rows.
        self.constant = torch.zeros(0, dtype=torch.int64, device=data.ids.device)
        if constant is not None:
            self.constant = constant
        elif id_dropout and n > 1:
            self.constant = (
                ((data.ids == data.ids[:1]).all(0) & (data.ids[0] > 1)).nonzero().flatten()
            )
        self.bounds = list(range(0, n, batch_size))
        if len(self.bounds) > 1 and n - self.bounds[-1] == 1:
            self.bounds.pop()
        self.bounds.append(n)

    def __len__(self):
        return len(self.bounds) - 1

    def __iter__(self):
        n = len(self.data)
        orders = [self._rng.permutation(n) for _ in range(self.members)]
        order = torch.from_numpy(np.stack(orders)).to(self.data.ids.device)
        for start, stop in zip(self.bounds[:-1], self.bounds[1:], strict=True):
            batch = self.data.select(order[:, start:stop].flatten())
            if self.id_dropout:
                if len(self.constant):
                    batch.ids[::2, self.constant] = 1
                self._forget(batch.ids)
                self._forget(batch.sequences)
            yield batch

    def order_state(self):
        """The random numbers that are still to come, as plain values."""
        return self._rng.bit_generator.state

    def set_order_state(self, state):
        """Go on with the random numbers where `order_state` was taken."""
        self._rng.bit_generator.state = state

    def forever(self):
        """Batches without end, shuffled anew in each pass."""
        while True:
            yield from self

    def close(self):
        """Nothing is open; batches of streams have a thread that ends here."""

    def _forget(self, ids):
        """Replace random entries of a batch (a fresh copy) by 1, the unknown id; 0 stays 0."""
        n = ids.numel()
        if n:
            where = torch.from_numpy(
                self._rng.integers(0, n, self._rng.binomial(n, self.id_dropout))
            ).to(ids.device)
            flat = ids.view(-1)
            flat[where] = flat[where].clamp_(max=1)
