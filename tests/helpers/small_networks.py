"""Contexts and networks of a few weights."""

import torch

from sklearn_autorec.base import known_networks, resolve_network
from sklearn_autorec.nn import BuildContext


def small_context(seed=0, **changes):
    """Of two columns of ids, a number and a list."""
    options = {
        "field_names": ("a", "b", "n", "s"),
        "n_ids": (5, 7),
        "n_numeric": 1,
        "sequences": ((4, 3),),
        "embedding_dim": 4,
        "generator": torch.Generator().manual_seed(seed),
    }
    return BuildContext(**{**options, **changes})


def told(name, attention, **params):
    """The network of a name, told which column is the target of a list where it has to be."""
    network = resolve_network(name)
    if "attention" in network.get_params():
        params["attention"] = attention
    return network.set_params(**params)


def told_small(name, attention, units=8):
    """`told`, with one hidden layer where the network has some. Wide layers take most of the time
    of a small fit, and say nothing of what is put around a network.
    """
    hidden = {"hidden_units": (units,)} if hasattr(resolve_network(name), "hidden_units") else {}
    return told(name, attention, **hidden)


def small_networks():
    """All networks by name, with one hidden layer of five units where they have some."""
    return {
        name: cls(**({"hidden_units": (5,)} if hasattr(cls(), "hidden_units") else {}))
        for name, cls in sorted(known_networks().items())
    }
