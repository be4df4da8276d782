"""What the tests of NIS share."""

import torch

from sklearn_autorec.nn import BuildContext


def context(n_ids=(12, 4), sequences=((7, 3),), n_numeric=1, d=5, **changes):
    names = tuple(f"f{k}" for k in range(len(n_ids) + n_numeric + len(sequences)))
    return BuildContext(
        names,
        n_ids,
        n_numeric,
        sequences,
        embedding_dim=d,
        generator=torch.Generator().manual_seed(0),
        embedding_init=1.0,
        **changes,
    )
