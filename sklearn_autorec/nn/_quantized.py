"""Tables in their storage: codes of vectors with scales or centroids, read row by row."""

import numpy as np
import torch
from torch import nn

from ._product import ProductRows, codes_and_centroids
from ._storage import DTYPES, LARGEST_HALF, Runs, codes_of, kinds_of, runs_of, scales_of


class StoredRows(Runs):
    """Rows of one or several kinds, each kind in a tensor of its own; read as float32.

    Parameters
    ----------
    shape : tuple of int
        (n, ...).
    runs : tuple of (str, int)
        Of n rows together.
    books : tuple of (int, int)
        As of `ProductRows`, which has the rows of kind "pq".
    """

    def __init__(self, shape, runs, books=()):
        super().__init__(runs)
        self.row_shape = tuple(shape[1:])
        if books:
            self.pq = ProductRows(*self.row_shape, books)
        for kind, n in self.lengths.items():
            if DTYPES[kind] is not None:
                empty = torch.zeros(n, *self.row_shape, dtype=DTYPES[kind])
                setattr(self, kind, nn.Parameter(empty, requires_grad=False))

    @torch.no_grad()
    def fill(self, make):
        """Store what ``make(kind, rows)`` gives for a slice of neighbouring rows."""
        start, placed = 0, dict.fromkeys(self.kinds, 0)
        for kind, n in self.runs:
            if DTYPES[kind] is not None:
                own = getattr(self, kind)[placed[kind] : placed[kind] + n]
                own.copy_(make(kind, slice(start, start + n)))
            placed[kind], start = placed[kind] + n, start + n

    def forward(self, rows):
        """Rows by number, (...) -> (..., *row shape), float32."""
        return self.chosen(rows, self._of_kind)

    def _of_kind(self, kind, places):
        if kind == "one":
            return torch.ones_like(places, dtype=torch.float32)
        if kind == "pq":
            return self.pq(places)
        stored = getattr(self, kind)
        found = stored.index_select(0, places.reshape(-1)).to(torch.float32)
        return found.view(*places.shape, *self.row_shape)


class QuantizedTable(nn.Module):
    """A table that is stored in fewer bytes and read row by row; it takes the place of the
    parameter on the module that has it.

    Parameters
    ----------
    shape : tuple of int
        Of the table: vectors along its last axis, or single numbers (n,).
    codes, scales : tuple of (str, int)
        Kinds of neighbouring rows, and of the scales of neighbouring vectors: "float16" where these
        are int8, else "one". No scales at all where nothing is int8.
    books : tuple of (int, int)
        Centroids and rows of each column of kind "pq".

    Notes
    -----
    The number x of a vector v is stored as round(x / s) with s = max\\|v\\| / 127, so that it reads
    back with an error of at most s / 2. Scales are float16: they are rounded up, by less than a
    thousandth, which costs less than two more bytes for each vector would.
    """

    def __init__(self, shape, codes, scales=(), books=()):
        super().__init__()
        self.shape = tuple(int(n) for n in shape)
        flat = (int(np.prod(self.shape[:-1])), self.shape[-1]) if len(shape) > 1 else self.shape
        self.codes = StoredRows(flat, codes, books)
        self.scales = StoredRows((sum(n for _, n in scales),), scales) if scales else None

    def __len__(self):
        return self.shape[0]

    def __bool__(self):
        return True

    def read(self, rows):
        """Vectors by number, leading axes of the table as one: (...) -> (..., d), float32."""
        found = self.codes(rows)
        return found if self.scales is None else found * self.scales(rows).unsqueeze(-1)

    def elements(self, places):
        """Numbers of a table (n,) before they are multiplied by the scales of their vectors."""
        return self.codes(places)

    def scaled(self, vectors, numbers):
        """Vectors (..., d) of such elements, times the scales of the vectors of these numbers."""
        return vectors if self.scales is None else vectors * self.scales(numbers).unsqueeze(-1)

    def dense(self, vectors=None):
        """The whole table, float32; of single numbers (n,) with the vector that each belongs to."""
        device = next(self.parameters()).device
        n = sum(n for _, n in self.codes.runs)
        rows = torch.arange(n, device=device)
        if vectors is None or self.scales is None:
            found = self.codes(rows) if len(self.shape) == 1 else self.read(rows)
        else:
            found = self.codes(rows) * self.scales(torch.from_numpy(vectors).to(device))
        return found.view(self.shape)

    def describe(self):
        """What the constructor needs, in plain values."""
        runs = {"codes": self.codes.runs, "scales": () if self.scales is None else self.scales.runs}
        if "pq" in self.codes.kinds:
            runs["books"] = self.codes.pq.books
        return {
            "shape": list(self.shape),
            **{name: [[kind, n] for kind, n in own] for name, own in runs.items()},
        }


@torch.no_grad()
def quantized(table, rows, storage, names, weight=None):
    """A table as `QuantizedTable`, or None where it stays as it is.

    Parameters
    ----------
    table : Tensor
    rows : TableRows
    storage : str, dict or None
    names : sequence of str
        Of the fields.
    weight : ndarray (n,) or None, default=None
        What each stored row counts where centroids are looked for.
    """
    if not table.numel():
        return None
    flat = table.detach().float().reshape(-1, table.shape[-1]) if table.ndim > 1 else table.detach()
    largest = flat.abs().amax(1) if flat.ndim > 1 else flat.abs()
    width = flat.shape[1] if flat.ndim > 1 else 1
    kinds = kinds_of(rows, width, storage, names, largest.cpu().numpy())
    if {*kinds.values()} == {"float32"}:
        return None
    of_vectors = rows.columns if rows.vector_columns is None else rows.vector_columns
    scales = ()
    if "int8" in kinds.values():
        scaled = {c: "float16" if kind == "int8" else "one" for c, kind in kinds.items()}
        scales = runs_of(of_vectors, scaled)
    found = _clustered_columns(flat, rows.columns, kinds, weight)
    books = [(len(centroids), len(codes)) for codes, centroids in found]
    stored = QuantizedTable(table.shape, runs_of(rows.columns, kinds), scales, books)
    if found:
        stored.codes.pq.fill(*zip(*found, strict=True))
    stored = stored.to(table.device)
    if stored.scales is not None:
        if rows.vectors is not None:
            vectors = torch.from_numpy(rows.vectors).to(table.device)
            largest = largest.new_zeros(len(of_vectors)).scatter_reduce(0, vectors, largest, "amax")
        # Those of other kinds are computed and not read; what is too large there may be infinite.
        all_scales = scales_of(largest)
        stored.scales.fill(lambda kind, own: all_scales[own])
        of_rows = all_scales if rows.vectors is None else all_scales[vectors]
        of_rows = of_rows.unsqueeze(1) if flat.ndim > 1 else of_rows

    def codes(kind, own):
        return codes_of(flat[own], of_rows[own]) if kind == "int8" else flat[own]

    stored.codes.fill(codes)
    return stored


def _clustered_columns(flat, columns, kinds, weight):
    """Codes and centroids of each column of kind "pq", in the order of their rows."""
    found = []
    for column in sorted(
        (c for c, kind in kinds.items() if kind == "pq"), key=lambda c: np.argmax(columns == c)
    ):
        own = np.flatnonzero(columns == column)
        vectors = flat[own[0] : own[-1] + 1].cpu().numpy()
        found.append(codes_and_centroids(vectors, None if weight is None else weight[own]))
    return found


class Rounding(Runs):
    """Vectors as they will read once they are stored; gradients pass as if nothing were rounded
    (straight-through).

    Parameters
    ----------
    runs : tuple of (str, int)
        Kinds of the rows that are read.
    """

    def forward(self, vectors, rows):
        """Vectors (..., d) of rows (...) to the same shape."""
        found = vectors.detach()
        rounded = self.chosen(rows, lambda kind, places: _as_stored(found, kind))
        return vectors + (rounded - found)


def _as_stored(vectors, kind):
    """Vectors written and read again."""
    if kind == "float32":
        return vectors
    if kind == "float16":
        return vectors.clamp(-LARGEST_HALF, LARGEST_HALF).half().float()
    scales = scales_of(vectors.abs().amax(-1, keepdim=True))
    return codes_of(vectors, scales) * scales.float()


def whole(table, rounding=None):
    """A table that is used as a whole: in float32 if it is stored otherwise, and as it will read,
    if training is to see that.
    """
    if isinstance(table, QuantizedTable):
        return table.dense()
    if rounding is None:
        return table
    flat = table.reshape(-1, table.shape[-1])
    return rounding(flat, torch.arange(len(flat), device=table.device)).view(table.shape)
