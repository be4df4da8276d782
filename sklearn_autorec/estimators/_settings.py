"""What parameters that are left at None mean: the default network has values of its own, chosen
together.
"""

import numpy as np

from .._ensemble._boosted import MANY_ROWS

__all__ = [
    "DEFAULT_RECIPE",
    "MOST_EPOCHS",
    "PLAIN",
    "batch_size",
    "embedding_l2",
    "is_default",
    "learning_rate",
    "most_epochs",
    "most_search_epochs",
    "setting",
]

# With network="auto": chosen by an experiment over tables (see "Defaults" in doc/benchmarks.rst),
# together with the sizes of `DefaultNetwork`.
DEFAULT_RECIPE = {
    "embedding_dim": 8,
    "lr": 4e-3,
    "embedding_l2": 0.3,
    "weight_decay": 1e-5,
    "embedding_init": 0.01,
    "averaging": 0.99,
    "lr_schedule": "cosine",
    "patience": 4,
}
# The recipe's L2 was chosen where batches have so many rows. It acts against the mean gradient of a
# batch, in which a row counts one part of the batch: in larger batches the same penalty would hold
# values back the more.
L2_BATCH = 512
# With the default recipe the best epoch of a table that is not large comes early, and a cosine over
# more epochs costs time for nothing.
MOST_EPOCHS = 20
EPOCHS_OF_FEW = 10  # with fewer than MANY_ROWS
# Half as many steps as a network of the user's own takes, each of twice the rows: with a slightly
# larger rate as good, in five sixths of the time.
STEPS, STEPS_OF_OTHERS = 32, 64
LEAST_BATCH, LARGEST_BATCH = 32, 4096  # small tables need steps, wider batches save nothing
RATE_OF_FEW = 5e-3  # with fewer than MANY_ROWS
# With rates and averages of the default network the best epoch of a search comes long before the
# last.
SEARCH_SHARE = 0.4
# With a network of the user's own: nothing that would have to be tuned to it.
PLAIN = {
    "embedding_dim": 16,
    "lr": 1e-3,
    "embedding_l2": 0.0,
    "weight_decay": 0.0,
    "embedding_init": 0.01,
    "averaging": 0.0,
    "lr_schedule": "constant",
    "patience": 2,
}


def is_default(network):
    """Whether the parameter ``network`` asks for the default network, by name or as an object with
    other sizes.
    """
    return (
        network == "auto"
        if isinstance(network, str)
        else getattr(type(network), "is_default", False)
    )


def setting(estimator, name):
    """The value of a parameter, or what None stands for."""
    value = getattr(estimator, name)
    if value is not None:
        return value
    return (DEFAULT_RECIPE if is_default(estimator.network) else PLAIN)[name]


def batch_size(estimator, n_rows):
    """Rows of a training step: ``batch_size``, or a power of two that makes about so many steps an
    epoch as the network is known to need.
    """
    if estimator.batch_size != "auto":
        return estimator.batch_size
    rows = n_rows / (STEPS if is_default(estimator.network) else STEPS_OF_OTHERS)
    return int(np.clip(2 ** np.ceil(np.log2(max(rows, 1))), LEAST_BATCH, LARGEST_BATCH))


def learning_rate(estimator, n_rows):
    """The learning rate, which of the default recipe is larger on tables that are not large."""
    if estimator.lr is None and is_default(estimator.network) and n_rows < MANY_ROWS:
        return RATE_OF_FEW
    return setting(estimator, "lr")


def embedding_l2(estimator, batch_size):
    """The L2 decay of embeddings, which of the default recipe falls with the size of larger
    batches.
    """
    value = setting(estimator, "embedding_l2")
    if estimator.embedding_l2 is None and is_default(estimator.network):
        value *= min(1.0, L2_BATCH / batch_size)
    return value


def most_epochs(estimator, n_rows):
    """Epochs of the training, at most: ``max_epochs``, or what None stands for with so many
    training rows.
    """
    if estimator.max_epochs is not None:
        return estimator.max_epochs
    return EPOCHS_OF_FEW if is_default(estimator.network) and n_rows < MANY_ROWS else MOST_EPOCHS


def most_search_epochs(estimator):
    """Epochs of each search: ``search_epochs``, or what None stands for."""
    if estimator.search_epochs is not None:
        return estimator.search_epochs
    share = SEARCH_SHARE if is_default(estimator.network) else 1.0
    return max(round(share * (estimator.max_epochs or MOST_EPOCHS)), 1)
