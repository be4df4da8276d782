"""What all packed forms of embedding tables share."""

import numpy as np
import torch
from torch import nn

from ._budget import stored_bytes
from ._number_rows import NumberRows
from ._numeric import numeric_shapes
from ._parts import PackedPart


class PackedEmbedding(PackedPart, NumberRows):
    """Base of the packed forms of tables: one vector ``values`` of stored numbers, and buffers that
    say where they belong.

    What is not stored reads as zero and has no gradient, and neither has a stored zero: what is
    pruned cannot grow back. One stored number may stand for several elements of the table.

    A subclass writes `locate` (or ``lookup``), `fits` and `check`. To be chosen by `pack_table` it
    also has ``pack(table, sizes)``, which gives its arrays, reads as the table does, and declares
    by ``counts_of(table, sizes)`` what they take.

    Parameters
    ----------
    context : BuildContext
    arrays : dict of str to ndarray
        "values" (float32), the buffers of the form, and the parameters of numeric fields where
        there are such.
    """

    buffer_types: dict[str, torch.dtype] = {}
    matrices: tuple[str, ...] = ()  # buffers of two dimensions; the others have one
    max_width = 2**31  # that the type of its buffers can count to

    def __init__(self, context, arrays):
        super().__init__(context)
        self.width = context.embedding_dim
        self.values = nn.Parameter(torch.from_numpy(np.array(arrays["values"], np.float32)))
        for name, dtype in self.buffer_types.items():
            self.register_buffer(name, torch.from_numpy(np.array(arrays[name])).to(dtype))
        for name in numeric_shapes(context):
            setattr(self, name, nn.Parameter(torch.from_numpy(np.array(arrays[name], np.float32))))
        self.register_buffer("columns", torch.arange(self.width), persistent=False)

    def embedding_parameters(self):
        return [self.values, *super().embedding_parameters()]

    def stored_numbers(self, ids, rows, fields):
        where, present = self.locate(ids, rows.long(), fields)
        # An empty table still needs an element to read.
        return self.without_zeros(self.elements(where.clamp(0, max(len(self.values) - 1, 0)))) * (
            present
        )

    def without_zeros(self, found):
        """The same numbers; in training, those that are zero pass no gradient on (some forms have
        to store a few).
        """
        return found * (found.detach() != 0) if self.training else found

    def locate(self, ids, rows, fields):
        """Positions in ``values`` and whether there is one: two Tensors (..., width)."""
        raise NotImplementedError

    def check(self):
        """Raise ValueError where a buffer points outside of what is stored."""
        raise NotImplementedError

    @classmethod
    def from_arrays(cls, context, arrays):
        """The module of its own ``state_dict``, as arrays; contents are left to `check`.

        Raises
        ------
        ValueError
            If an array is missing or has another type or number of dimensions.
        """
        wanted = {"values": (np.dtype("float32"), 1)}
        for name, dtype in cls.buffer_types.items():
            wanted[name] = torch.empty(0, dtype=dtype).numpy().dtype, 1 + (name in cls.matrices)
        numeric = numeric_shapes(context)
        wanted |= {name: (np.dtype("float32"), len(shape)) for name, shape in numeric.items()}
        got = {name: (a.dtype, a.ndim) for name, a in arrays.items()}
        if got != wanted:
            raise ValueError(
                f"a packed table of form {cls.form!r} needs the arrays {wanted}, got {got}."
            )
        for name, shape in numeric.items():
            require(arrays[name].shape == shape, name)
        require(context.embedding_dim <= cls.max_width and cls.fits(context, arrays), "shapes")
        return cls(context, arrays)

    @staticmethod
    def counts_of(table, sizes):
        """What is stored of a table (V, width) of so many rows each: numbers and vectors with a
        scale, int ndarrays (n_tables,), and bytes of everything else.
        """
        raise NotImplementedError

    @classmethod
    def bytes_of(cls, table, sizes, kinds=None):
        """Bytes of a table in this form, numbers in the storage of each field (None: float32)."""
        numbers, vectors, index = cls.counts_of(table, sizes)
        kinds = ["float32"] * len(sizes) if kinds is None else kinds
        return int(stored_bytes(numbers, vectors, kinds).sum()) + index

    @classmethod
    def fits(cls, context, arrays):
        """Whether the shapes of a form's own arrays go with the tables and with each other."""
        return True

    def sizes(self):
        """Elements that are not zero, by field: int ndarray (n_rows,) of a table, all of a
        number.
        """
        return self.by_field(self.mask().sum(1), self.width)

    @torch.no_grad()
    def mask(self):
        """What is not zero, bool ndarray (V, width); made in blocks of rows."""
        out = np.zeros((self.n_rows, self.width), bool)
        for first, rows, table in self._blocks():
            found = self.lookup(rows - first, rows, table) != 0
            out[int(rows[0]) : int(rows[-1]) + 1] = found.cpu().numpy()
        return out


def by_field(table, sizes):
    return np.split(table, np.cumsum(sizes)[:-1]) if sizes else []


def per_table(rows, sizes):
    """Sums over the rows (V,) of each table, int64 ndarray (n_tables,)."""
    return np.array([own.sum(dtype=np.int64) for own in by_field(rows, sizes)], np.int64)


def require(condition, name):
    if not condition:
        raise ValueError(f"the packed table's {name!r} does not fit what is stored.")
