"""What the tests of PEP share."""

import numpy as np
import torch

from sklearn_autorec.nn import BuildContext, Inputs

GRANULARITIES = ["value_dim", "value", "field_dim", "field", "dim", "global"]


def context(n_ids=(5, 7), sequences=((4, 3),), n_numeric=1, d=3, **changes):
    names = tuple(f"f{i}" for i in range(len(n_ids) + n_numeric + len(sequences)))
    options = {
        "generator": torch.Generator().manual_seed(0),
        "embedding_init": 1.0,
        "embedding_dim": d,
        **changes,
    }
    return BuildContext(
        names, tuple(n_ids), n_numeric=n_numeric, sequences=tuple(sequences), **options
    )


def random_inputs(c, n=6, seed=1, most=None):
    """A batch; ids stay below ``most``."""
    generator = torch.Generator().manual_seed(seed)

    def ids(size, length):
        return torch.randint(0, min(size, most or size), (n, length), generator=generator)

    columns = [ids(size, 1) for size in c.n_ids]
    items = [ids(size, length) for size, length in c.sequences]
    numeric = torch.randn(n, 2 * c.n_numeric, generator=generator)
    none = [torch.zeros(n, 0)]
    return Inputs(torch.cat(columns or none, 1).int(), numeric, torch.cat(items or none, 1).int())


def sigmoid(s):
    return 1 / (1 + np.exp(-s))
