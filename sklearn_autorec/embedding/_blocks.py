"""Blocks of rows and columns of embedding tables: the choices among them, and their bytes."""

import numpy as np
import torch

from ..nn._storage import ELEMENT_BYTES, SCALE

RESERVED = 2  # the missing and the unknown id, which stand before the values


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

    A vector of a value is always a prefix of columns: where a later column block reaches further
    down than an earlier one, the earlier reaches as far.

    Parameters
    ----------
    sizes : list of int
        Ids of each field with a table; F of them.
    embedding_dim : int
        d.
    mode : {"single", "multi"}
    n_row_blocks, n_col_blocks : int
        S and T, at most; T is no more than d.
    kinds : list of str or None, default=None
        How each field with a table will be stored; None is float32.

    Attributes
    ----------
    bounds : int64 Tensor (G, N, T)
        Ids that have column block t under choice n of group g, from the first id. A group is a
        field ("single"), or a column block of a field ("multi"), which says nothing of the others.
    field : int64 Tensor (G,)
        Field of each group.
    valid : bool Tensor (G, N)
        Whether a choice exists.
    widths : int64 Tensor (T,)
        Columns of each block.
    column_block : int64 Tensor (d,)
        Block of each column.
    """

    def __init__(self, sizes, embedding_dim, mode, n_row_blocks, n_col_blocks, kinds=None):
        kinds = ["float32"] * len(sizes) if kinds is None else kinds
        self.element_bytes = torch.tensor([ELEMENT_BYTES[k] for k in kinds], dtype=torch.float64)
        self.scaled = torch.tensor([kind == "int8" for kind in kinds], dtype=torch.bool)
        self.scale_bytes = SCALE * torch.tensor(sizes, dtype=torch.float64)  # all rows have one
        n_cols = min(n_col_blocks, embedding_dim)
        edges = np.linspace(0, embedding_dim, n_cols + 1).round().astype(int)
        self.widths = torch.from_numpy(np.diff(edges))
        self.column_block = torch.repeat_interleave(torch.arange(n_cols), self.widths)
        self.n_fields = len(sizes)
        groups, fields = [], []
        for f, n_ids in enumerate(sizes):
            kept = row_bounds(n_ids, n_row_blocks)
            if mode == "single":
                choices = [[0] * n_cols]
                for bound in kept[1:]:
                    choices += [[bound] * t + [0] * (n_cols - t) for t in range(1, n_cols + 1)]
                groups.append(choices)
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

    def bounds_of(self, actions):
        """Ids of each field that have each column block, (K, F, T), of choices (K, G)."""
        own = torch.arange(len(self.field))
        out = torch.zeros(len(actions), self.n_fields, len(self.widths), dtype=torch.int64)
        out.index_add_(1, self.field, self.bounds[own, actions])
        return out.flip(2).cummax(2).values.flip(2)

    def bytes_of(self, actions):
        """Bytes of the tables under choices (K, G), scales included, float64 (K,)."""
        numbers = (self.bounds_of(actions) * self.widths).sum(2).double()
        of_numbers = numbers * self.element_bytes
        if self.scaled.any():  # see `stored_bytes`
            of_codes = torch.minimum(numbers + self.scale_bytes, ELEMENT_BYTES["float16"] * numbers)
            of_numbers = torch.where(self.scaled, of_codes, of_numbers)
        return of_numbers.sum(1)

    def full(self):
        """The choice of everything in each group, (G,)."""
        return self.bounds.sum(2).argmax(1)

    def bytes_of_exchanges(self, choice):
        """Bytes of the tables if the choice (G,) of one group is exchanged, float64 (G, N)."""
        n_groups, n = self.valid.shape
        others = choice.repeat(n_groups, n, 1)
        groups = torch.arange(n_groups)
        others[groups, :, groups] = torch.arange(n)
        return self.bytes_of(others.flatten(0, 1)).view(n_groups, n)

    def within(self, log_p, budget):
        """The most likely choice of each group, exchanged for smaller ones until the tables fit.

        Exchanges go by the log probability that they lose per byte that they save, the cheapest
        first. What room the last one leaves is given to likelier choices that fit. If that leaves
        nothing, though something is likelier than nothing, the likeliest block that fits is kept.

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
        wanted = self.keeps_anything(choice)
        while log_p.numel():
            gain = log_p - log_p.gather(1, choice.unsqueeze(1))
            after = self.bytes_of_exchanges(choice)
            saved = float(self.bytes_of(choice.unsqueeze(0))[0]) - after
            if after[0, choice[0]] > budget:  # that of the choice as it is
                worth = torch.where(self.valid & (saved > 0), gain / saved.clamp(min=1), -torch.inf)
            else:
                worth = torch.where(self.valid & (after <= budget), gain, -torch.inf)
                if float(worth.max()) <= 0:
                    break
            g, n = divmod(int(worth.argmax()), worth.shape[1])
            choice[g] = n
        if wanted and not self.keeps_anything(choice):
            after = self.bytes_of_exchanges(choice)
            gain = log_p - log_p.gather(1, choice.unsqueeze(1))
            gain = torch.where(self.valid & (after > 0) & (after <= budget), gain, -torch.inf)
            if float(gain.max()) > -torch.inf:
                g, n = divmod(int(gain.argmax()), gain.shape[1])
                choice[g] = n
        return choice

    def keeps_anything(self, choice):
        """Whether a choice (G,) keeps any block."""
        return bool(self.bounds_of(choice.unsqueeze(0)).any())

    def smallest(self):
        """Bytes of the smallest choice that keeps anything; 0 without tables."""
        nothing = torch.zeros(len(self.field), dtype=torch.int64)
        after = self.bytes_of_exchanges(nothing)
        return float(after[after > 0].min()) if len(after) else 0.0

    def mask(self, choice, sizes):
        """Elements that a choice (G,) keeps, bool ndarray (V, d), rows of all fields."""
        bounds = self.bounds_of(choice.unsqueeze(0))[0][:, self.column_block].numpy()
        rows = [np.arange(n)[:, None] < bounds[f] for f, n in enumerate(sizes)]
        return np.concatenate(rows) if rows else np.zeros((0, len(self.column_block)), bool)
