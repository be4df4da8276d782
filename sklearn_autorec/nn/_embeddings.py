"""From ids and numbers to vectors: the embedding slot and the first-order term."""

import numpy as np
import torch
from torch import nn

from ._context import BuildContext, Inputs
from ._members import own_rows
from ._numeric import NumericEmbedding, initial
from ._parts import own_bytes
from ._read_rows import read_rows
from ._storage import TableRows
from ._vectors import vector_embedding


class FieldRows(NumericEmbedding):
    """Every field's rows in one numbering; (B, ...) inputs to (B, F, width). A subclass looks the
    rows up. A field that shares the vocabulary of another one reads its rows.

    With M members a batch holds rows of each, and (M * B, ...) goes to (M * B, F, width).

    Numeric fields are embedded by `NumericEmbedding`; a sequence field gives the mean over its
    items (zeros where there is none). A subclass may have ``dense``, a `VectorEmbedding`; else it
    has no vector fields."""

    offsets: torch.Tensor

    def __init__(self, context: BuildContext):
        super().__init__(context)
        starts, self.list_tables = context.row_starts, context.list_tables
        self.id_tables = context.id_tables
        offsets = torch.tensor(starts[self.id_tables], dtype=torch.int32)
        self.register_buffer("offsets", offsets, persistent=False)
        fields = torch.tensor(self.id_tables, dtype=torch.int64)
        self.register_buffer("fields", fields, persistent=False)
        self.sequence_offsets = starts[self.list_tables].tolist()
        self.sequence_lengths = context.sequence_lengths
        self.n_rows = context.n_rows
        self.field_sizes = context.table_sizes
        self.table_fields = context.table_fields
        self.dense = None

    def lookup(self, ids, rows, fields):
        """Vectors of rows; all three arguments broadcast, (...) -> (..., width).

        Parameters
        ----------
        ids : int Tensor
            Ids within their field.
        rows : int Tensor
            The same in the numbering over all fields.
        fields : int Tensor or int
            Number of the table: of the categorical fields, then of the sequence fields, with tables
            of their own.
        """
        raise NotImplementedError

    def unpooled(self, inputs: Inputs):
        """Vectors of the fields, and of the single items of the sequence fields.

        Returns
        -------
        list of Tensor (B, n, width)
            Of the categorical and of the numeric fields, where there are such.
        list of Tensor (B, L, width)
            Of each sequence field; what stands where there is no item has no meaning.
        """
        parts = []
        if self.offsets.numel():
            parts.append(self.lookup(inputs.ids, inputs.ids + self.offsets, self.fields))
        if self.n_numeric:
            made = next((v for module, v in inputs.numbers if module is self), None)
            parts.append(self.embed_numbers(inputs.numeric) if made is None else made)
        lists = zip(self.list_items(inputs), self.sequence_offsets, self.list_tables, strict=True)
        return parts, [self.lookup(items, items + start, table) for items, start, table in lists]

    def by_field(self, of_rows, of_number):
        """Something of every row of the tables as a list with an entry for each field.

        Parameters
        ----------
        of_rows : ndarray (V, ...)
        of_number : object
            The entry of a numeric field, which has no table.

        Returns
        -------
        list
            In the order of the F axis; a field that shares a table has the rows of that.
        """
        bounds = np.cumsum(self.field_sizes)[:-1]
        tables = np.split(of_rows, bounds) if self.field_sizes else []
        ids, lists = (
            [tables[table] for table in numbers] for numbers in (self.id_tables, self.list_tables)
        )
        return [*ids, *[of_number] * self.n_numeric, *lists]

    def row_columns(self):
        """Field of every row of all tables, int ndarray (V,), as a position on the F axis."""
        return np.repeat(
            np.array(self.table_fields, np.int64), np.array(self.field_sizes, np.int64)
        )

    def row_ids(self):
        """Id of every row of all tables within its field, int ndarray (V,)."""
        return np.concatenate([np.zeros(0, np.int64), *map(np.arange, self.field_sizes)])

    def list_items(self, inputs):
        """Ids of the items of each sequence field, tuple of (B, L)."""
        if not self.sequence_lengths:
            return ()
        return inputs.sequences.split(self.sequence_lengths, 1)

    def forward(self, inputs: Inputs):
        parts, lists = self.unpooled(inputs)
        for items, vectors in zip(self.list_items(inputs), lists, strict=True):
            present = (items > 0).unsqueeze(-1).to(vectors.dtype)
            total = (vectors * present).sum(1)
            parts.append((total / present.sum(1).clamp(min=1)).unsqueeze(1))
        if self.dense is not None:
            parts.append(self.dense(inputs.numeric))
        e = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return e if inputs.gates is None else e * inputs.gates.unsqueeze(-1)


def output_bias(context):
    """The base rate's logits as a parameter, (C,), or (M, C) for M members."""
    bias = torch.tensor(context.output_bias or (0.0,) * context.n_outputs, dtype=torch.float32)
    return nn.Parameter(bias if context.members == 1 else bias.repeat(context.members, 1))


def add_bias(logits, bias):
    """Logits (B, C) plus (C,), or of M members (M * B, C) plus (M, C)."""
    if bias.ndim == 1:
        return logits + bias
    return (logits.unflatten(0, (len(bias), -1)) + bias.unsqueeze(1)).flatten(0, 1)


class _FieldTable(FieldRows):
    """One dense table for all fields, found through field offsets."""

    def __init__(self, context: BuildContext, width: int, std: float):
        super().__init__(context)
        self.sparse = context.sparse_gradients
        self.weight = initial(context, self.n_rows * self.members, width, std=std)
        self.init_numbers(context, width, std)
        self.field_axes["weight"] = {0: context.axis("V", self.members)}
        self.dense = vector_embedding(context, width, std)

    def lookup(self, ids, rows, fields):
        if self.members > 1:
            rows = own_rows(rows, self.members)
        return read_rows(self.weight, rows, self.sparse, self.rounding.get("weight"))

    def embedding_parameters(self):
        """The parameters that the embedding's L2 decay applies to."""
        return [self.weight, *super().embedding_parameters()]

    def sparse_parameters(self):
        """The parameters with row-wise gradients."""
        return [self.weight] if self.sparse else []

    def nbytes(self):
        """Bytes by kind; projections of vectors are a part of the network."""
        found = super().nbytes()
        if self.dense is not None:
            found["network"] = self.dense.nbytes()["network"]
            found["embedding"] -= found["network"]
        return found

    def stored_tables(self):
        def rows():
            ids = np.repeat(self.row_ids(), self.members)
            return TableRows(np.repeat(self.row_columns(), self.members), ids=ids)

        return {"weight": rows, **super().stored_tables()}


class FieldEmbedding(_FieldTable):
    """The plain embedding slot: every field has d dimensions; (B, ...) inputs to (B, F, d)."""

    def __init__(self, context: BuildContext):
        super().__init__(context, context.embedding_dim, context.embedding_init)
        self.n_fields = context.n_fields

    def sizes(self):
        """Length of the embeddings by field, list of F."""
        return [self.weight.shape[1]] * self.n_fields


class FieldLinear(_FieldTable):
    """First-order term, one weight per value and output; inputs to logits (B, C), bias included.

    The bias starts at the base rate's logit, so that training does not spend its first steps on it.
    """

    rectified = False  # a logit may fall, and weights that start at zero would never leave it

    def __init__(self, context: BuildContext):
        super().__init__(context, context.n_outputs, 0.0)
        self.bias = output_bias(context)

    def stored_tables(self):
        """None: a scale would take as much as the single number of a value."""
        return {}

    def nbytes(self):
        """Bytes by kind: a first-order term is a part of the network, not a table of embeddings."""
        return own_bytes(self, "network")

    def forward(self, inputs: Inputs):
        logits = super().forward(inputs).sum(1)
        return add_bias(logits, self.bias)
