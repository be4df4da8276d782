"""Embedding tables stored in float16, in int8 with a scale for each vector, or as codes of
centroids.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ._product import pays

STORAGES = ("float16", "int8", "pq")
LARGEST_CODE = 127  # symmetric: -127 to 127
LARGEST_HALF = 65504.0  # a float16 holds no larger number
# "one" stands for numbers that are all 1 and take no bytes: scales of what is not int8.
# Rows of kind "pq" are those of `ProductRows`.
DTYPES = {
    "pq": None,
    "int8": torch.int8,
    "float16": torch.float16,
    "float32": torch.float32,
    "one": None,
}
ELEMENT_BYTES = {"int8": 1, "float16": 2, "float32": 4}
SCALE = 2  # bytes of the scale of an int8 vector, a float16


def storage_of(storage, name):
    """How the table of a column is to be stored: "float32", "float16", "int8" or "pq".

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
    ids : int ndarray (n,) or None
        Id of the value whose each stored row is, where the rows are those of values.
    """

    columns: np.ndarray
    vectors: np.ndarray | None = None
    vector_columns: np.ndarray | None = None
    read_columns: np.ndarray | None = None
    shares: bool = False
    ids: np.ndarray | None = None


def is_product(storage):
    """Whether a storage, or that of some column, is product quantisation.

    Parameters
    ----------
    storage : str, dict of column name to str, or None

    Returns
    -------
    bool
    """
    return "pq" in (storage.values() if isinstance(storage, Mapping) else (storage,))


def kinds_of(rows, width, storage, names, largest=None):
    """The kind of every column that occurs in a table, dict of position to str.

    "int8" becomes "float16" where codes and scales would take no fewer bytes (vectors of one or two
    numbers), and so does "pq" where codes and centroids would not (columns of few values), and
    where single numbers are stored. All becomes "float32" where a number is too large for a
    float16, and "pq" where one is not finite.

    Parameters
    ----------
    rows : TableRows
    width : int
        Numbers of a stored row.
    storage : str, dict or None
    names : sequence of str
        Of the fields. The position behind the last stands for what belongs to no column.
    largest : ndarray (n,) or None
        Largest absolute number of each stored row, where it is known.
    """
    of_vectors = rows.columns if rows.vector_columns is None else rows.vector_columns
    n_rows = np.bincount(rows.columns, minlength=len(names))
    n_vectors = np.bincount(of_vectors, minlength=len(names))
    kinds, names = {}, (*names, None)
    for column in np.flatnonzero(n_rows + n_vectors).tolist():
        kind = storage_of(storage, names[column])
        if kind == "int8" and (rows.shares or n_rows[column] * width <= 2 * n_vectors[column]):
            kind = "float16"
        if kind == "pq" and not _in_parts(rows, column, width):
            kind = "float16"
        if kind != "float32" and largest is not None:
            own = largest[rows.columns == column]
            kind = "float32" if own.max(initial=0.0) > LARGEST_HALF else kind
            kind = "float32" if kind == "pq" and not np.isfinite(own).all() else kind
        kinds[column] = kind
    return kinds


def _in_parts(rows, column, width):
    """Whether the rows of a column are vectors that follow each other, and codes take less."""
    own = np.flatnonzero(rows.columns == column)
    together = rows.vectors is None and len(own) == own[-1] - own[0] + 1
    return together and not rows.shares and pays(len(own), width)


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


class Runs(nn.Module):
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
