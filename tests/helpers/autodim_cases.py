"""What the tests of AutoDim share."""

import functools

import numpy as np
from searching import searching
from small_networks import small_context

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import AutoDim


def context(**changes):
    return small_context(**{"embedding_init": 1.0, **changes})


def searched(search, X, y, seed):
    # A nested warm-up orders the widths in a quarter of the steps as well, an even one does not.
    batches = {"batch_size": 2048, "lr": 0.03} if search.nested_warmup else {"batch_size": 512}
    return searching(search, seed, network="fm", search_epochs=20, **batches).fit(X, y)


@functools.cache
def widths(seed, level="first_order", shuffled=False, size_penalty=None, nested=False):
    """Widths of two fields of rank 6, two of rank 1, one of noise; and the numbers in the
    network.
    """
    X, y, _ = make_ctr(
        40_000,
        n_fields=5,
        cardinality=60,
        zipf=0,
        pairs=[(0, 1), (2, 3)],
        rank=[6, 6, 1, 1, 1],
        pair_effect=1.5,
        random_state=seed,
    )
    search = AutoDim(level=level, nested_warmup=nested)
    if size_penalty is not None:
        search.set_params(size_penalty=size_penalty)
    model = searched(search, X, np.random.default_rng(seed).permutation(y) if shuffled else y, seed)
    return [model.embedding_sizes_[f"f{f}"] for f in range(5)], model.n_parameters_
