"""Embedding tables whose rows have sizes of their own: one dense table for each distinct size."""

from functools import partial

import numpy as np
import torch
from torch.nn.functional import pad

from ._budget import kinds_of_tables, stored_bytes
from ._embeddings import FieldRows
from ._few_rows import arrays_of, read_distinct_end, reads_few
from ._masked import mask_from_text, mask_to_text
from ._members import own_rows
from ._numeric import initial
from ._parts import tensor_bytes
from ._read_rows import read_rows
from ._storage import TableRows

EIGHT = 8  # rows of a block, within which a row of a matrix product has the same bits anywhere


def sizes_to_text(sizes):
    """Sizes of rows, whole numbers of at least 0 (V,), as plain values: their binary digits, as
    `mask_to_text` writes them.
    """
    sizes = np.asarray(sizes, np.int64)
    n_digits = int(sizes.max(initial=0)).bit_length()
    return mask_to_text((sizes[:, None] >> np.arange(n_digits)) & 1)


def sizes_from_text(text):
    """The sizes that `sizes_to_text` wrote, int64 ndarray (V,).

    Raises
    ------
    ValueError
        If it is not such a text, or a size has more than 31 binary digits.
    """
    digits = mask_from_text(text)
    if digits.shape[1] > 31:
        raise ValueError(f"sizes must have 31 binary digits at most, got {digits.shape[1]}.")
    return digits @ (1 << np.arange(digits.shape[1], dtype=np.int64))


def rows_by_size(sizes):
    """The stored rows of each distinct size: dict of size, rising and without 0, to int64 ndarray
    of rows, rising.
    """
    return {int(s): np.flatnonzero(sizes == s) for s in np.unique(sizes) if s}


def tables_by_size(table, sizes):
    """The tables of a `SizedRows` that pads, cut out of a whole one.

    Parameters
    ----------
    table : Tensor (V, d)
    sizes : ndarray of int (V,)

    Returns
    -------
    dict of str to Tensor
        Under the names that they have in the module's ``state_dict``; none shares memory with
        ``table``.
    """
    return {
        f"table_{size}": table[torch.from_numpy(rows).to(table.device), :size].clone()
        for size, rows in rows_by_size(np.asarray(sizes)).items()
    }


def sized_bytes(sizes, context):
    """Bytes of the tables of a `SizedRows` that pads, in one member, as they will be stored: scales
    of int8 and what leads from a row to its number included.

    Parameters
    ----------
    sizes : int ndarray (V,)
    context : BuildContext
    """
    sizes = np.asarray(sizes, np.int64)
    tables = np.repeat(np.arange(len(context.table_sizes)), context.table_sizes)
    n_of_size = np.zeros((int(sizes.max(initial=0)) + 1, len(context.table_sizes)), np.int64)
    np.add.at(n_of_size, (sizes, tables), 1)
    numbers = n_of_size * np.arange(len(n_of_size))[:, None]
    of_tables = stored_bytes(numbers, n_of_size, kinds_of_tables(context))[1:].sum()
    return int(of_tables) + sum(
        array.nbytes for array in _index(np.zeros_like(sizes), sizes).values()
    )


def _index(numbers, sizes):
    """What leads from a row to its number, in the form of fewer bytes: dict of str to int32
    ndarray.
    """
    last = np.append(sizes[1:] != sizes[:-1], True)[: len(sizes)]  # row of its run
    ends = np.flatnonzero(last).astype(np.int32) + 1
    if 2 * len(ends) >= len(numbers):
        return {"row_numbers": numbers.astype(np.int32)}
    # What is not stored comes out below zero.
    shifts = np.where(numbers[last] < 0, -len(numbers), numbers[last] - ends + 1)
    return {"run_ends": ends, "run_shifts": shifts.astype(np.int32)}


class SizedRows(FieldRows):
    """S2: every value has a size of its own, and values of one size lie in one dense table; inputs
    -> (B, F, d).

    Vectors of fewer than d numbers are filled up with zeros, or multiplied by a matrix that all
    values of their size share. Values of size 0 are stored nowhere and give zeros. Numeric fields
    have d columns.

    Parameters
    ----------
    context : BuildContext
        M members have their vectors of a value side by side, and a matrix each.
    sizes : ndarray of int (V,)
        Of the rows of all categorical, then of all sequence fields with tables of their own; at
        most d.
    projected : bool, default=False
        Multiply by matrices instead of filling up.

    Notes
    -----
    Stored rows are numbered by size, rows of one size as they stand in the whole table. What leads
    from a row to its number is 4 bytes a row, or, where that is less, 8 bytes for each run of
    neighbours of one size: as ids go by falling frequency, sizes that follow frequency make few
    runs. It follows from the sizes, which the architecture holds, and is in no ``state_dict``.

    A row is read, and gets a gradient, in the table of its size alone: values and gradients have
    the bits of those of a dense table of which the rest is held at zero.
    """

    # One of the two is there: a number for each row, -1 where nothing is stored; or the row behind
    # each run, and what is added to a row of the run.
    row_numbers: torch.Tensor
    run_ends: torch.Tensor
    run_shifts: torch.Tensor

    def __init__(self, context, sizes, projected=False):
        super().__init__(context)
        d, sizes = context.embedding_dim, np.asarray(sizes)
        if sizes.shape != (self.n_rows,) or sizes.min(initial=0) < 0 or sizes.max(initial=0) > d:
            raise ValueError(
                f"sizes must hold {self.n_rows} numbers between 0 and embedding_dim={d}, got "
                f"{sizes.shape} numbers between {sizes.min(initial=0)} and {sizes.max(initial=0)}."
            )
        self.dim, self.sparse = d, context.sparse_gradients
        own = rows_by_size(sizes)
        self.distinct = [*own]
        self.starts = np.cumsum([0, *(len(rows) for rows in own.values())]).tolist()
        for size, rows in own.items():
            shape = len(rows) * self.members, size
            setattr(self, f"table_{size}", initial(context, *shape, std=context.embedding_init))
        self.init_numbers(context, d, context.embedding_init)
        self.projected = [size for size in self.distinct if projected and size < d]
        for size in self.projected:
            shape = (size, d) if self.members == 1 else (self.members, size, d)
            setattr(self, f"projection_{size}", initial(context, *shape, std=size**-0.5))
        numbers = np.full(self.n_rows, -1, np.int32)
        for start, rows in zip(self.starts, own.values(), strict=False):
            numbers[rows] = np.arange(start, start + len(rows))
        self._keep_numbers(numbers, sizes)

    def _keep_numbers(self, numbers, sizes):
        """Store the numbers of the rows in the form of fewer bytes."""
        index = _index(numbers, sizes)
        self.index = [*index]
        for name, array in index.items():
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def tables(self):
        """The table of each distinct size, as ``distinct`` has them; of M members (n M, size)."""
        return [getattr(self, f"table_{size}") for size in self.distinct]

    def embedding_parameters(self):
        return [*self.tables(), *super().embedding_parameters()]

    def sparse_parameters(self):
        """The parameters with row-wise gradients."""
        return self.tables() if self.sparse else []

    def number(self, rows):
        """Number of each row among those that are stored, below 0 where it is not; (...) each."""
        if "row_numbers" in self.index:
            return self.row_numbers[rows.long()]
        run = torch.bucketize(rows, self.run_ends, right=True)
        return rows + self.run_shifts[run]

    def _few(self, rows):
        """Vectors of a few rows (...), of one member, none of which is multiplied: (..., d); None
        where a table is in another storage.
        """
        arrays = arrays_of(self)
        if "by size" not in arrays:
            tables = [arrays.get(f"table_{size}") for size in self.distinct]
            stored = np.arange(self.dim) < np.array([*self.distinct, 0])[:, None]
            arrays["by size"] = tables, np.array(self.starts), stored
        tables, starts, stored = arrays["by size"]
        if any(table is None for table in tables):
            return None

        def read(rows):
            own = rows.ravel()
            if "row_numbers" in arrays:
                numbers = arrays["row_numbers"].take(own)
            else:
                run = arrays["run_ends"].searchsorted(own, "right")
                numbers = own + arrays["run_shifts"].take(run)
            table = starts.searchsorted(numbers, "right") - 1  # -1 of what is not stored
            own = (numbers - starts.take(table, mode="clip")).tolist()
            places = zip(table.tolist(), own, strict=True)
            vectors = [tables[k][number] for k, number in places if k >= 0]
            out = np.zeros((*rows.shape, self.dim), np.float32)
            if vectors:
                mask = stored.take(table, 0, mode="wrap").reshape(-1)
                out.reshape(-1)[mask] = np.concatenate(vectors)
            return out

        return torch.from_numpy(read_distinct_end(rows.numpy(), read))

    def lookup(self, ids, rows, fields):
        if self.members == 1 and not self.projected and reads_few(rows):
            found = self._few(rows)
            if found is not None:
                return found
        numbers = self.number(rows)
        if self.members > 1:
            numbers = own_rows(numbers, self.members)
        # Graphs for other runtimes need shapes that do not depend on the ids.
        read = self._from_every_table if torch.compiler.is_exporting() else self._from_own_table
        return read(numbers.reshape(-1)).view(*rows.shape, self.dim)

    def _from_own_table(self, numbers):
        """Vectors (n, d) of numbered rows, each read from the table of its size."""
        places, vectors = [], []
        for size, first, stop in self._ranges():
            where = ((numbers >= first) & (numbers < stop)).nonzero().squeeze(1)
            found = self._read(size, numbers[where] - first)
            if size in self.projected:
                found = self._projected(found, size, where, len(numbers))
            vectors.append(pad(found, (0, self.dim - found.shape[1])))
            places.append(where)
        where = (numbers < 0).nonzero().squeeze(1)
        vectors.append(self._no_vectors(len(where)))
        order = torch.cat([*places, where])
        number_there = torch.arange(len(order), device=order.device)
        back = torch.empty_like(order).scatter_(0, order, number_there)
        return torch.cat(vectors).index_select(0, back)

    def _from_every_table(self, numbers):
        """The same, with every table read for all rows."""
        out = self._no_vectors(numbers.shape[0])  # its length would be fixed
        for size, first, stop in self._ranges():
            inside = ((numbers >= first) & (numbers < stop)).unsqueeze(1)
            found = self._read(size, (numbers - first).clamp(0, stop - first - 1))
            if size in self.projected:
                each = found.unflatten(0, (self.members, -1))
                found = (each @ getattr(self, f"projection_{size}")).flatten(0, 1)
            out = torch.where(inside, pad(found, (0, self.dim - found.shape[1])), out)
        return out

    def _projected(self, vectors, size, where, n):
        """Vectors (k, size) times the matrix of their size, (k, d).

        ``where`` are their places, rising, among the n of all members, who have n / M each.
        """
        projection = getattr(self, f"projection_{size}")
        if self.members == 1:
            return _product(vectors, projection, self.training)
        firsts = torch.arange(1, self.members, device=where.device) * (n // self.members)
        parts = vectors.tensor_split(torch.searchsorted(where, firsts).tolist())
        own = zip(parts, projection, strict=True)
        return torch.cat([_product(v, p, self.training) for v, p in own])

    def _ranges(self):
        """Each distinct size, its first number and the one behind its last."""
        bounds = [start * self.members for start in self.starts]
        return zip(self.distinct, bounds[:-1], bounds[1:], strict=True)

    def _read(self, size, own):
        """Rows of the table of a size, (n,) -> (n, size)."""
        table = getattr(self, f"table_{size}")
        return read_rows(table, own, self.sparse, self.rounding.get(f"table_{size}"))

    def _no_vectors(self, n):
        return torch.zeros(n, self.dim, device=self.offsets.device)

    def stored_tables(self):
        return {
            **{f"table_{size}": partial(self._rows_of, k) for k, size in enumerate(self.distinct)},
            **super().stored_tables(),
        }

    def _rows_of(self, k):
        """Of the table of the size of this number."""
        numbers = self.number(torch.arange(self.n_rows, device=self.offsets.device)).cpu().numpy()
        first, stop = self.starts[k], self.starts[k + 1]
        own = np.flatnonzero((numbers >= first) & (numbers < stop))  # numbers rise with the rows
        columns, ids = (
            each[own].repeat(self.members) for each in (self.row_columns(), self.row_ids())
        )
        return TableRows(columns, ids=ids)

    def sizes(self):
        """Numbers that are stored of each value, list by field of the context: an int array by id,
        or d of a numeric field. A list that reads the table of another field has its sizes.
        """
        numbers = self.number(torch.arange(self.n_rows, device=self.offsets.device)).cpu().numpy()
        bucket = np.searchsorted(self.starts, numbers, side="right") - 1
        by_row = np.where(numbers < 0, 0, np.append(self.distinct, 0).astype(np.int64)[bucket])
        return self.by_field(by_row, self.dim)

    def nbytes(self):
        """Bytes by kind: dict of "embedding", "projection" and "index"."""
        projections = [getattr(self, f"projection_{size}") for size in self.projected]
        kinds = {"projection": projections, "index": [getattr(self, n) for n in self.index]}
        own = {id(p) for p in projections}
        kinds["embedding"] = [p for p in self.parameters() if id(p) not in own]
        return {kind: tensor_bytes(tensors) for kind, tensors in kinds.items()}


def _product(vectors, matrix, training):
    """(n, size) times (size, d); outside of training with the same bits of a row whatever stands
    beside it.
    """
    n = len(vectors)
    if not training:
        vectors = pad(vectors, (0, 0, 0, -n % EIGHT))
    return (vectors @ matrix)[:n]
