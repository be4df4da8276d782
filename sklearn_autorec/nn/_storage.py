"""Embedding tables stored in float16, or in int8 with a scale for each vector."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

STORAGES = ("float16", "int8")
LARGEST_CODE = 127  # symmetric: -127 to 127
LARGEST_HALF = 65504.0  # a float16 holds no larger number
# "one" stands for numbers that are all 1 and take no bytes: scales of what is not int8.
DTYPES = {"int8": torch.int8, "float16": torch.float16, "float32": torch.float32, "one": None}
ELEMENT_BYTES = {"int8": 1, "float16": 2, "float32": 4}


def storage_of(storage, name):
    """How the table of a column is to be stored: "float32", "float16" or "int8".

    Parameters
    ----------
    storage : str, dict of column name to str, or None
        The estimator's parameter. None, and columns that the dict leaves out, are "float32".
    name : str
        Of the column.
    """
    if isinstance(storage, Mapping):
        storage = storage.get(name)
    return storage or "float32"


def check_storage(storage, layout):
    """Refuse a storage that names no kind, or columns that have no table.

    Parameters
    ----------
    storage : object
    layout : FieldLayout

    Raises
    ------
    ValueError
    """
    named = storage if isinstance(storage, Mapping) else {None: storage}
    for name, kind in named.items():
        told = "storage" if name is None else f"storage[{name!r}]"
        if kind is not None and (not isinstance(kind, str) or kind not in STORAGES):
            raise ValueError(f"{told} must be one of {STORAGES} or None (float32), got {kind!r}.")
        if name is not None and name not in layout.field_names:
            raise ValueError(
                f"storage names {name!r}, which is no column with embeddings; there are "
                f"{list(layout.field_names)!r:.300}."
            )
    for f, owner in layout.sharers if isinstance(storage, Mapping) else ():
        own, others = layout.field_names[f], layout.field_names[owner]
        if own in storage and storage_of(storage, own) != storage_of(storage, others):
            raise ValueError(
                f"storage[{own!r}]={storage[own]!r}, but {own!r} reads the table of {others!r}, "
                f"which is stored as {storage_of(storage, others)}: name {others!r} alone."
            )


@dataclass
class TableRows:
    """Whose the stored rows of a table are.

    Parameters
    ----------
    columns : int ndarray (n,)
        Field of each stored row, as a position on the F axis of the part.
    vectors : int ndarray (n,) or None
        Where the stored rows are single numbers: the vector that each belongs to. None: every row
        is a vector.
    vector_columns : int ndarray (n_vectors,) or None
        Field of each of these vectors.
    read_columns : int ndarray or None
        Field of each row that is read, where it is not a stored one.
    shares : bool
        Whether a stored number may stand in several vectors, which then have no scales of their
        own.
    """

    columns: np.ndarray
    vectors: np.ndarray | None = None
    vector_columns: np.ndarray | None = None
    read_columns: np.ndarray | None = None
    shares: bool = False


def kinds_of(rows, width, storage, names, largest=None):
    """The kind of every column that occurs in a table, dict of position to str.

    "int8" becomes "float16" where codes and scales would take no fewer bytes (vectors of one or two
    numbers), and all becomes "float32" where a number is too large for a float16.

    Parameters
    ----------
    rows : TableRows
    width : int
        Numbers of a stored row.
    storage : str, dict or None
    names : sequence of str
        Of the fields.
    largest : ndarray (n,) or None
        Largest absolute number of each stored row, where it is known.
    """
    of_vectors = rows.columns if rows.vector_columns is None else rows.vector_columns
    n_rows = np.bincount(rows.columns, minlength=len(names))
    n_vectors = np.bincount(of_vectors, minlength=len(names))
    kinds = {}
    for column in np.flatnonzero(n_rows + n_vectors).tolist():
        kind = storage_of(storage, names[column])
        if kind == "int8" and (rows.shares or n_rows[column] * width <= 2 * n_vectors[column]):
            kind = "float16"
        if kind != "float32" and largest is not None:
            own = largest[rows.columns == column]
            kind = "float32" if own.max(initial=0.0) > LARGEST_HALF else kind
        kinds[column] = kind
    return kinds


def runs_of(columns, kinds):
    """Neighbouring rows of one kind, tuple of (kind, number of rows)."""
    names = sorted({*kinds.values()})
    number = np.zeros(max(kinds, default=0) + 1, np.int8)
    for column, kind in kinds.items():
        number[column] = names.index(kind)
    of_rows = number[columns]
    last = np.flatnonzero(np.append(of_rows[1:] != of_rows[:-1], len(of_rows) > 0))
    lengths = np.diff(last, prepend=-1)
    return tuple((names[of_rows[at]], int(n)) for at, n in zip(last, lengths, strict=True))


def scales_of(largest):
    """Scales of vectors, float16: the largest absolute number over 127, rounded up, so that no code
    exceeds 127; (...) float32 to the same.
    """
    wanted = largest / LARGEST_CODE
    half = wanted.half()
    above = (half.view(torch.int16) + 1).view(torch.float16)  # the next of the positive ones
    return torch.where(half.float() < wanted, above, half)


def codes_of(numbers, scales):
    """Whole numbers from -127 to 127, float32, nearest to numbers over their scales."""
    scales = scales.float()
    divisors = torch.where(scales > 0, scales, torch.ones_like(scales))
    return (numbers / divisors).round().clamp(-LARGEST_CODE, LARGEST_CODE)


class _Runs(nn.Module):
    """Which of some kinds every row has, and its place among the rows of that kind.

    Parameters
    ----------
    runs : tuple of (str, int)
        Neighbouring rows of one kind.
    """

    def __init__(self, runs):
        super().__init__()
        self.runs = tuple((kind, int(n)) for kind, n in runs)
        self.kinds = [kind for kind in DTYPES if any(kind == own for own, _ in self.runs)]
        self.lengths = {kind: sum(n for own, n in self.runs if own == kind) for kind in self.kinds}
        if len(self.kinds) > 1:
            placed, ends, shifts, start = dict.fromkeys(self.kinds, 0), [], [], 0
            for kind, n in self.runs:
                shifts.append(placed[kind] - start)
                placed[kind], start = placed[kind] + n, start + n
                ends.append(start)
            numbers = [self.kinds.index(kind) for kind, _ in self.runs]
            for name, values in (("ends", ends), ("shifts", shifts), ("numbers", numbers)):
                self.register_buffer(
                    f"run_{name}", torch.tensor(values, dtype=torch.int64), persistent=False
                )

    def by_kind(self, rows):
        """Each kind, whether a row has it (None: all have), and the places of the rows, which are
        within bounds for others as well.
        """
        if len(self.kinds) == 1:
            yield self.kinds[0], None, rows
            return
        rows = rows.long()
        run = torch.bucketize(rows, self.run_ends, right=True)
        number, place = self.run_numbers[run], rows + self.run_shifts[run]
        for k, kind in enumerate(self.kinds):
            yield kind, number == k, place.clamp(0, self.lengths[kind] - 1)

    def chosen(self, rows, make):
        """What ``make(kind, places)`` gives each row of its kind."""
        out = None
        for kind, own, places in self.by_kind(rows):
            found = make(kind, places)
            if out is not None:
                own = own.view(*own.shape, *[1] * (found.ndim - own.ndim))
                found = torch.where(own, found, out)
            out = found
        return out


class StoredRows(_Runs):
    """Rows of one or several kinds, each kind in a tensor of its own; read as float32.

    Parameters
    ----------
    shape : tuple of int
        (n, ...).
    runs : tuple of (str, int)
        Of n rows together.
    """

    def __init__(self, shape, runs):
        super().__init__(runs)
        self.row_shape = tuple(shape[1:])
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

    Notes
    -----
    The number x of a vector v is stored as round(x / s) with s = max\\|v\\| / 127, so that it reads
    back with an error of at most s / 2. Scales are float16: they are rounded up, by less than a
    thousandth, which costs less than two more bytes for each vector would.
    """

    def __init__(self, shape, codes, scales=()):
        super().__init__()
        self.shape = tuple(int(n) for n in shape)
        flat = (int(np.prod(self.shape[:-1])), self.shape[-1]) if len(shape) > 1 else self.shape
        self.codes = StoredRows(flat, codes)
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
        return {
            "shape": list(self.shape),
            **{name: [[kind, n] for kind, n in own] for name, own in runs.items()},
        }


@torch.no_grad()
def quantized(table, rows, storage, names):
    """A table as `QuantizedTable`, or None where it stays as it is.

    Parameters
    ----------
    table : Tensor
    rows : TableRows
    storage : str, dict or None
    names : sequence of str
        Of the fields.
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
    stored = QuantizedTable(table.shape, runs_of(rows.columns, kinds), scales).to(table.device)
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


class Rounding(_Runs):
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


# Modules that have tables say by ``stored_tables()`` which: dict of the names of attributes to
# `TableRows`; ``column_names`` are the fields of their context.


def _with_tables(module):
    """Every module within that has tables, and the name of it."""
    for name, part in module.named_modules():
        if hasattr(part, "stored_tables"):
            yield name, part


def _full(name, attribute):
    return f"{name}.{attribute}".lstrip(".")


def store_tables(module, storage):
    """Put the tables of a module into the storage, in place.

    Returns
    -------
    dict of str to nn.Parameter
        The tables that were replaced, by their names in the module.
    """
    replaced: dict[str, nn.Parameter] = {}
    if storage is None:
        return replaced
    for name, part in list(_with_tables(module)):
        for attribute, rows in part.stored_tables().items():
            table = getattr(part, attribute)
            stored = quantized(table, rows, storage, part.column_names)
            if stored is not None:
                replaced[_full(name, attribute)] = table
                put_stored(part, attribute, stored)
    return replaced


def put_stored(part, attribute, stored):
    """Let a table in its storage take the place of the parameter."""
    del part._parameters[attribute]
    setattr(part, attribute, stored)


def in_float32(module, tables=None):
    """Put the tables of a module back into float32 parameters, in place; returns the module.

    Parameters
    ----------
    module : nn.Module
    tables : dict of str to Tensor or None, default=None
        What the tables were before, by name, copies of which are taken; others are what they read
        as.
    """
    for name, part in list(_with_tables(module)):
        stored = [a for a, m in part._modules.items() if isinstance(m, QuantizedTable)]
        for attribute in stored:
            own = getattr(part, attribute)
            before = (tables or {}).get(_full(name, attribute))
            if before is None or tuple(before.shape) != own.shape:
                dense = own.dense(part.stored_tables()[attribute].vectors)
            else:
                dense = before.detach().clone().to(next(own.parameters()).device)
            del part._modules[attribute]
            part.register_parameter(attribute, nn.Parameter(dense))
    return module


def round_in_training(module, storage):
    """Let the tables of a module read, until `read_exactly`, as they will in the storage."""
    for _, part in _with_tables(module):
        part.rounding = {}
        for attribute, rows in part.stored_tables().items():
            table = getattr(part, attribute)
            kinds = kinds_of(
                rows, table.shape[-1] if table.ndim > 1 else 1, storage, part.column_names
            )
            if kinds and {*kinds.values()} != {"float32"}:
                read = rows.columns if rows.read_columns is None else rows.read_columns
                kinds = {c: "float32" for c in np.unique(read).tolist()} | kinds
                rounding = Rounding(runs_of(read, kinds))
                part.rounding[attribute] = rounding.to(table.device)


def read_exactly(module):
    """Undo `round_in_training`."""
    for _, part in _with_tables(module):
        part.rounding = {}


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


def stored_tables_of(module):
    """The tables in a storage, by their names in a module: dict of str to `QuantizedTable`."""
    return {n: m for n, m in module.named_modules() if isinstance(m, QuantizedTable)}


def places_of_tables(module):
    """Where tables of a module stand: dict of their names to pairs of the module that has one and
    its attribute.
    """
    return {
        _full(name, attribute): (part, attribute)
        for name, part in _with_tables(module)
        for attribute in part.stored_tables()
    }
