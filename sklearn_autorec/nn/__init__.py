"""Tensor-only building blocks: embeddings, gates, interactions, blocks, losses.

Symbols used in every docstring here: B rows of a batch, F fields, d embedding dimension, P pairs of
fields, C outputs (1 for binary clicks and ratings, the number of classes otherwise).
"""

from ._blocks import MLP, ReLUDropout, linear
from ._context import BuildContext, Inputs
from ._embeddings import FieldEmbedding, FieldLinear
from ._interactions import (
    BiInteraction,
    FieldAttention,
    MatrixCross,
    PairDots,
    PairProducts,
    VectorCross,
    WeightedPairs,
    pair_index,
)
from ._losses import BinaryLogLoss, MulticlassLogLoss, SquaredError
from ._network import FieldNetwork, SumPool

__all__ = [
    "MLP",
    "BiInteraction",
    "BinaryLogLoss",
    "BuildContext",
    "FieldAttention",
    "FieldEmbedding",
    "FieldLinear",
    "FieldNetwork",
    "Inputs",
    "MatrixCross",
    "MulticlassLogLoss",
    "PairDots",
    "PairProducts",
    "ReLUDropout",
    "SquaredError",
    "SumPool",
    "VectorCross",
    "WeightedPairs",
    "linear",
    "pair_index",
]
