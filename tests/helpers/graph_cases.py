"""What the tests of graphs of blocks share."""

import torch

from sklearn_autorec.nn import BuildContext


def context_of(n_categorical=3, n_numeric=2, d=3, **options):
    n = n_categorical + n_numeric + 1
    options = {"output_bias": (-0.5,), "sequences": ((4, 2),), **options}
    return BuildContext(
        tuple("abcdefgh"[:n]),
        (5,) * n_categorical,
        n_numeric,
        embedding_dim=d,
        generator=torch.Generator().manual_seed(0),
        **options,
    )


def block(kind, *inputs, width=4):
    return {"type": kind, "inputs": list(inputs)} | ({"width": width} if kind == "mlp" else {})


GRAPH = [
    block("mlp", "dense", "sparse"),
    block("dp", "dense", "sparse", 0),
    block("fm", "sparse", 1, 0),
    block("mlp", 2, "dense", width=2),
]
