"""What the tests of packed tables share."""

import numpy as np
import torch

from sklearn_autorec.nn import BuildContext, Inputs

N_IDS, SEQUENCES, N_NUMERIC = (40, 3, 90), ((30, 4), (8, 1)), 2

ROWS = sum(N_IDS) + sum(n for n, _ in SEQUENCES)


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
