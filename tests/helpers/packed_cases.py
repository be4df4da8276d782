"""What the tests of packed tables share."""

import copy

import numpy as np
import torch

from sklearn_autorec.nn import FORMS, BuildContext, Inputs, PackedEmbedding

N_IDS, SEQUENCES, N_NUMERIC = (40, 3, 90), ((30, 4), (8, 1)), 2


ROWS = sum(N_IDS) + sum(n for n, _ in SEQUENCES)


class EqualRows(PackedEmbedding):
    """Rows that are the same are stored once.

    Buffers: ``number`` int32 (V,), of the stored row of each row, counted as they appear."""

    form = "equal rows, of a test"
    buffer_types = {"number": torch.int32}

    @classmethod
    def fits(cls, context, arrays):
        return len(arrays["number"]) == context.n_rows

    @staticmethod
    def pack(table, sizes):
        number, first = EqualRows._numbered(table)
        return {"values": table[first].ravel(), "number": number.astype(np.int32)}

    @staticmethod
    def counts_of(table, sizes):
        first, width = EqualRows._numbered(table)[1], table.shape[1]
        stored = np.searchsorted(np.cumsum(sizes), first, side="right")
        rows = np.bincount(stored, minlength=len(sizes))
        return rows * width, rows, 4 * len(table)

    @staticmethod
    def _numbered(table):
        """Number of the stored row of each row, and the first row of each."""
        _, first, number = np.unique(table, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        return np.argsort(order)[number.ravel()], first[order]

    def locate(self, ids, rows, fields):
        where = self.number[rows].long().unsqueeze(-1) * self.width + self.columns
        return where, torch.ones_like(where, dtype=torch.bool)

    def check(self):
        number = self.number.numpy().astype(np.int64)
        new = np.diff(np.maximum.accumulate(np.r_[-1, number]))
        n = number.max(initial=-1) + 1
        if (number < 0).any() or (new > 1).any() or n * self.width != len(self.values):
            raise ValueError("the packed table's 'number' does not fit what is stored.")


TRIED = {**FORMS, EqualRows.form: EqualRows}


def context(width, n_ids=N_IDS, sequences=SEQUENCES, n_numeric=N_NUMERIC):
    n = len(n_ids) + len(sequences) + n_numeric
    return BuildContext(
        tuple(f"f{i}" for i in range(n)), n_ids, n_numeric, sequences, embedding_dim=width
    )


def numeric_weight(width, n_numeric=N_NUMERIC):
    return np.random.default_rng(1).normal(size=(3, n_numeric, width)).astype(np.float32)


def inputs_of(c, n=200, seed=2):
    rng = np.random.default_rng(seed)
    ids = np.column_stack([rng.integers(0, k, n) for k in c.n_ids]) if c.n_ids else np.zeros((n, 0))
    items = [rng.integers(0, k, (n, length)) for k, length in c.sequences]
    for array, k in zip(items, (k for k, _ in c.sequences), strict=True):
        array[:3] = 0  # nothing but padding
        array[3] = k - 1
    numbers = np.hstack([rng.normal(size=(n, c.n_numeric)), rng.integers(0, 2, (n, c.n_numeric))])
    return Inputs(
        torch.from_numpy(ids.astype(np.int32)),
        torch.from_numpy(numbers.astype(np.float32)),
        torch.from_numpy(np.hstack([np.zeros((n, 0)), *items]).astype(np.int32)),
    )


def random_table(rows, width, density, seed=0):
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(rows, width)).astype(np.float32)
    return table * (rng.random((rows, width)) < density)


def dead_field(width):
    table = random_table(ROWS, width, 0.7)
    table[N_IDS[0] : N_IDS[0] + N_IDS[1]] = 0
    table[-SEQUENCES[1][0] :] = 0
    return table


def by_columns(width):
    """Every field has its own columns, some none."""
    rng = np.random.default_rng(3)
    field = np.repeat(np.arange(5), [*N_IDS, *(n for n, _ in SEQUENCES)])
    used = rng.random((5, width)) < 0.5
    used[1] = False
    return random_table(ROWS, width, 1.0) * used[field]


def by_prefixes(width):
    """Frequent values are wide, rare ones narrow."""
    number = np.concatenate([np.arange(n) for n in (*N_IDS, *(n for n, _ in SEQUENCES))])
    return random_table(ROWS, width, 1.0) * (
        np.arange(width) < width - np.ceil(np.log2(number + 1))[:, None]
    )


TABLES = {
    **{
        f"density {p}": (lambda width, p=p: random_table(ROWS, width, p))
        for p in (0, 0.02, 0.2, 0.6, 1)
    },
    "dead fields": dead_field,
    "columns": by_columns,
    "prefixes": by_prefixes,
    "equal rows": lambda width: random_table(7, width, 1.0)[np.arange(ROWS) ** 2 % 7],
    "one number": lambda width: np.eye(ROWS, width, -ROWS + 1, dtype=np.float32),
}


def all_rows(module):
    """The whole table as the module reads it, one field after the other."""
    out, start = [np.zeros((0, module.width), np.float32)], 0
    with torch.no_grad():
        for f, n in enumerate(module.field_sizes):
            ids = torch.arange(n, dtype=torch.int32)
            out.append(module.lookup(ids, ids + start, f).numpy())
            start += n
    return np.concatenate(out)


def places(module):
    """Number of the stored number that each element of the table reads, -1 where it reads none."""
    numbered = copy.deepcopy(module).eval()
    with torch.no_grad():
        numbered.values.copy_(torch.arange(1, len(module.values) + 1))
    return all_rows(numbered).astype(np.int64) - 1
