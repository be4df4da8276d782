"""Tensor-only building blocks: embeddings, gates, interactions, blocks, losses.

Symbols used in every docstring here: B rows of a batch, F fields, d embedding dimension, P pairs of
fields, C outputs (1 for binary clicks and ratings, the number of classes otherwise).
"""

from ._anchored_rows import MAX_ANCHORS, AnchoredRows
from ._axes import FieldAxis
from ._blocks import MLP, PlainDropout, ReLUDropout, linear
from ._budget import budget_bytes, element_bytes, field_rows, limit_of, table_bytes
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
from ._layer_norm import LayerNorm
from ._layout import FieldLayout
from ._losses import (
    BinaryLogLoss,
    MemberLosses,
    MulticlassLogLoss,
    OwnLoss,
    SquaredError,
    plain_loss,
)
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
from ._operators import OPERATORS, PairOperator
from ._packed import FORMS, pack_table, packed_bytes
from ._packed_table import PackedEmbedding
from ._parts import PACKED_PARTS, PackedPart, own_bytes, tensor_bytes
from ._projected_sizes import ProjectedSizes, projected_state
from ._quantized import QuantizedTable, whole
from ._relaxed import (
    GumbelSoftmax,
    HardConcreteGates,
    OperationMixture,
    annealed,
    check_temperatures,
    gumbel_noise,
    gumbel_softmax,
    hard_concrete,
    logistic_noise,
    one_hot_of_largest,
    own_generator,
    probability_of_one,
    probability_of_open,
    straight_through,
)
from ._select import InputSelection
from ._separate import PairEnds, SeparateLinear
from ._sized_rows import (
    SizedRows,
    rows_by_size,
    sizes_from_text,
    sizes_to_text,
    tables_by_size,
)
from ._storage import TableRows, check_storage, is_product, storage_of
from ._storing import in_float32, read_exactly, round_in_training, store_tables
from ._vectors import VectorEmbedding

__all__ = [
    "FORMS",
    "MAX_ANCHORS",
    "MLP",
    "NUMERIC_EMBEDDINGS",
    "OPERATORS",
    "PACKED_PARTS",
    "AnchoredRows",
    "BatchNorm",
    "BiInteraction",
    "BinaryLogLoss",
    "BuildContext",
    "FieldAssembly",
    "FieldAttention",
    "FieldAxis",
    "FieldEmbedding",
    "FieldLayout",
    "FieldLinear",
    "FieldNetwork",
    "FieldRows",
    "GumbelSoftmax",
    "HardConcreteGates",
    "InputSelection",
    "Inputs",
    "LayerNorm",
    "MaskedEmbedding",
    "MatrixCross",
    "MemberBatchNorm",
    "MemberLinear",
    "MemberLosses",
    "Members",
    "MixedEmbedding",
    "MulticlassLogLoss",
    "NumberVectors",
    "NumericEmbedding",
    "OperationMixture",
    "OwnLoss",
    "PackedEmbedding",
    "PackedPart",
    "PairDots",
    "PairEnds",
    "PairOperator",
    "PairProducts",
    "PlainDropout",
    "ProjectedSizes",
    "QuantizedTable",
    "ReLUDropout",
    "SizedRows",
    "SeparateLinear",
    "SquaredError",
    "SumPool",
    "TableRows",
    "VectorCross",
    "VectorEmbedding",
    "WeightedPairs",
    "add_bias",
    "annealed",
    "batch_norm",
    "budget_bytes",
    "check_parts",
    "check_storage",
    "check_temperatures",
    "element_bytes",
    "gumbel_noise",
    "gumbel_softmax",
    "hard_concrete",
    "field_rows",
    "head_part",
    "in_float32",
    "is_product",
    "limit_of",
    "linear",
    "logistic_noise",
    "mask_from_text",
    "mask_to_text",
    "member_batch_norm",
    "numeric_rows",
    "one_hot_of_largest",
    "own_generator",
    "output_bias",
    "own_bytes",
    "pack_table",
    "packed_bytes",
    "pair_index",
    "plain_loss",
    "probability_of_one",
    "probability_of_open",
    "projected_state",
    "read_exactly",
    "round_in_training",
    "row_batch_norm",
    "rows_by_size",
    "sizes_from_text",
    "sizes_to_text",
    "storage_of",
    "store_tables",
    "straight_through",
    "table_bytes",
    "tables_by_size",
    "tensor_bytes",
    "whole",
]
