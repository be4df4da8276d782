"""Tensor-only building blocks: embeddings, gates, interactions, blocks, losses.

Symbols used in every docstring here: B rows of a batch, F fields, d embedding dimension, P pairs of
fields, C outputs (1 for binary clicks and ratings, the number of classes otherwise).
"""

from ._axes import FieldAxis
from ._blocks import MLP, ReLUDropout, linear
from ._context import BuildContext, Inputs
from ._embeddings import FieldEmbedding, FieldLinear, FieldRows, add_bias, output_bias
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
from ._losses import BinaryLogLoss, MemberLosses, MulticlassLogLoss, SquaredError
from ._masked import MaskedEmbedding, mask_from_text, mask_to_text
from ._members import (
    BatchNorm,
    MemberBatchNorm,
    MemberLinear,
    Members,
    batch_norm,
    member_batch_norm,
    row_batch_norm,
)
from ._mixed import MixedEmbedding
from ._network import FieldAssembly, FieldNetwork, SumPool, check_parts, head_part
from ._numeric import NUMERIC_EMBEDDINGS, NumberVectors, NumericEmbedding, numeric_rows
from ._packed import FORMS, PackedEmbedding, pack_table
from ._select import InputSelection

__all__ = [
    "FORMS",
    "NUMERIC_EMBEDDINGS",
    "MLP",
    "BatchNorm",
    "BiInteraction",
    "BinaryLogLoss",
    "BuildContext",
    "FieldAssembly",
    "FieldAttention",
    "FieldAxis",
    "FieldEmbedding",
    "FieldLinear",
    "FieldNetwork",
    "FieldRows",
    "InputSelection",
    "Inputs",
    "MaskedEmbedding",
    "MemberBatchNorm",
    "MemberLinear",
    "MemberLosses",
    "Members",
    "MixedEmbedding",
    "MatrixCross",
    "MulticlassLogLoss",
    "NumberVectors",
    "NumericEmbedding",
    "PackedEmbedding",
    "PairDots",
    "PairProducts",
    "ReLUDropout",
    "SquaredError",
    "SumPool",
    "VectorCross",
    "WeightedPairs",
    "add_bias",
    "batch_norm",
    "check_parts",
    "head_part",
    "linear",
    "member_batch_norm",
    "mask_from_text",
    "mask_to_text",
    "output_bias",
    "numeric_rows",
    "pack_table",
    "pair_index",
    "row_batch_norm",
]
