"""Blocks of rows and columns of embedding tables: the choices among them, and their bytes."""

from numbers import Integral

import numpy as np
import torch

RESERVED = 2  # the missing and the unknown id, which stand before the values
NUMBER_BYTES = 4  # of a float32


def row_bounds(n_ids, n_blocks):
    """How many ids of a field its first 0, 1, ... blocks hold, rising from 0 to ``n_ids``.

    Blocks have equal numbers of values, sorted by frequency as ids are. A field of fewer values
    than blocks has one block a value.
    """
    reserved = min(RESERVED, n_ids)
    steps = np.ceil(np.linspace(0, n_ids - reserved, n_blocks + 1)[1:]).astype(int)
    return [0, *sorted({reserved + int(step) for step in steps})]


class BlockChoices:
    """The choices of all fields with a table, and what they cost.

    Parameters
    ----------
    sizes : list of int
        Ids of each field with a table; F of them.
    embedding_dim : int
        d.
    mode : {"single", "multi"}
    n_row_blocks, n_col_blocks : int
        S and T, at most; T is no more than d.

    Attributes
    ----------
    bounds : int64 Tensor (G, N, T)
        Ids that have column block t under choice n of group g, from the first id. A group is a
        field ("single"), or a column block of a field ("multi"), which says nothing of the others.
    field : int64 Tensor (G,)
        Field of each group.
    valid : bool Tensor (G, N)
        Whether a choice exists and is another one than those before it.
    numbers : float64 Tensor (G, N)
        Numbers in the table under each choice.
    column_block : int64 Tensor (d,)
        Block of each column.
    """

    def __init__(self, sizes, embedding_dim, mode, n_row_blocks, n_col_blocks):
        edges = np.linspace(0, embedding_dim, min(n_col_blocks, embedding_dim) + 1).round()
        widths = np.diff(edges).astype(int)
        n_cols = len(widths)
        self.n_fields, self.n_cols = len(sizes), n_cols
        groups, fields = [], []
        for f, n_ids in enumerate(sizes):
            kept = row_bounds(n_ids, n_row_blocks)
            if mode == "single":
                nothing = [[0] * n_cols]
                some = [
                    [bound] * t + [0] * (n_cols - t)
                    for bound in kept[1:]
                    for t in range(1, n_cols + 1)
                ]
                groups.append(nothing + some)
                fields.append(f)
            else:
                for t in range(n_cols):
                    groups.append([[bound * (k == t) for k in range(n_cols)] for bound in kept])
                    fields.append(f)
        most = max((len(choices) for choices in groups), default=1)
        self.bounds = torch.zeros(len(groups), most, n_cols, dtype=torch.int64)
        self.valid = torch.zeros(len(groups), most, dtype=torch.bool)
        for g, choices in enumerate(groups):
            self.bounds[g, : len(choices)] = torch.tensor(choices)
            self.valid[g, : len(choices)] = True
        self.field = torch.tensor(fields, dtype=torch.int64)
        self.numbers = (self.bounds * torch.from_numpy(widths)).sum(2).double()
        self.column_block = torch.repeat_interleave(torch.arange(n_cols), torch.from_numpy(widths))

    def bounds_of(self, actions):
        """Ids of each field that have each column block, (K, F, T), of choices (K, G)."""
        own = torch.arange(len(self.field))
        out = torch.zeros(len(actions), self.n_fields, self.n_cols, dtype=torch.int64)
        return out.index_add_(1, self.field, self.bounds[own, actions])

    def bytes_of(self, actions):
        """Bytes of the tables under choices (K, G), float64 (K,)."""
        return self.numbers[torch.arange(len(self.field)), actions].sum(1) * NUMBER_BYTES

    def full(self):
        """The choice of everything in each group, (G,)."""
        return self.numbers.argmax(1)

    def within(self, log_p, budget):
        """The most likely choice of each group, exchanged for smaller ones until the tables fit.

        Exchanges go by the log probability that they lose per byte that they save, the cheapest
        first.

        Parameters
        ----------
        log_p : Tensor (G, N)
        budget : float
            Bytes.

        Returns
        -------
        int64 Tensor (G,)
        """
        log_p = log_p.double().masked_fill(~self.valid, -torch.inf)
        choice = log_p.argmax(1)
        own = torch.arange(len(choice))
        while float(self.bytes_of(choice.unsqueeze(0))[0]) > budget:
            saved = self.numbers[own, choice].unsqueeze(1) - self.numbers
            lost = log_p[own, choice].unsqueeze(1) - log_p
            price = torch.where(self.valid & (saved > 0), lost / saved.clamp(min=1), torch.inf)
            g, n = divmod(int(price.argmin()), price.shape[1])
            choice[g] = n
        while True:  # the last exchange may have left room
            room = budget / NUMBER_BYTES - float(self.numbers[own, choice].sum())
            fits = self.valid & (self.numbers - self.numbers[own, choice].unsqueeze(1) <= room)
            gain = torch.where(fits, log_p - log_p[own, choice].unsqueeze(1), -torch.inf)
            if not gain.numel() or float(gain.max()) <= 0:
                return choice
            g, n = divmod(int(gain.argmax()), gain.shape[1])
            choice[g] = n

    def mask(self, choice, sizes):
        """Elements that a choice (G,) keeps, bool ndarray (V, d), rows of all fields."""
        bounds = self.bounds_of(choice.unsqueeze(0))[0][:, self.column_block].numpy()
        rows = [np.arange(n)[:, None] < bounds[f] for f, n in enumerate(sizes)]
        return np.concatenate(rows) if rows else np.zeros((0, len(self.column_block)), bool)


def budget_bytes(budget, choices):
    """A budget as bytes: an int is bytes, a float a share of the bytes of whole tables.

    Raises
    ------
    ValueError
        If it holds none of the choices but that of nothing.
    """
    sizes = choices.numbers * NUMBER_BYTES
    in_bytes = float(budget)
    if not isinstance(budget, Integral):
        in_bytes *= float(choices.bytes_of(choices.full().unsqueeze(0))[0])
    least = float(sizes[sizes > 0].min()) if len(sizes) else 0.0
    if in_bytes < least:
        raise ValueError(
            f"budget={budget!r} is {in_bytes:.0f} bytes, but the smallest block of the embedding "
            f"tables takes {least:.0f}; raise it (a float is a share of the whole tables, an int "
            "is bytes), or take more blocks."
        )
    return max(in_bytes, 1.0)
