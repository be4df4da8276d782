"""Tables of fewer rows than there are values: places of values, and embeddings that read them."""

import math
from functools import partial

import numpy as np
import torch

from ..nn import TableRows, limit_of
from ..nn._budget import vector_bytes
from ..nn._embeddings import FieldRows
from ..nn._numeric import initial
from ..nn._read_rows import read_rows
from ._blocks import RESERVED

PRIME = 2**31 - 1  # the numbers of universal hashing; there are fewer ids


def largest_cap(rows_of, budget, context):
    """The largest number of rows a table at which all tables fit.

    Parameters
    ----------
    rows_of : callable (size, cap) -> int
        Rows of a table of so many values, never falling with the cap.
    budget : float or int
        Share of the bytes of the whole tables, or bytes.
    context : BuildContext

    Raises
    ------
    ValueError
        If the smallest tables do not fit.
    """
    sizes, limit = context.table_sizes, limit_of(budget, context)
    of_a_row = vector_bytes(context)[context.table_fields]

    def n_bytes(cap):
        own = zip(of_a_row, sizes, strict=True)
        return int(sum(each * rows_of(n, cap) for each, n in own))

    low, high = 1, max(sizes, default=1)
    if n_bytes(low) > limit:
        raise ValueError(
            f"budget={budget!r} is {limit} bytes, but the smallest tables take {n_bytes(low)}; "
            f"raise it (a float is a share of the whole tables, an int is bytes)."
        )
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if n_bytes(middle) <= limit else (low, middle - 1)
    return low


def check_list(architecture, name, context, fits, told):
    """Refuse a list of one value for each table that has another length or wrong values.

    Raises
    ------
    ValueError
    """
    values, sizes = architecture.get(name), context.table_sizes
    good = isinstance(values, list) and len(values) == len(sizes)
    if not good or not all(fits(value, n) for value, n in zip(values, sizes, strict=True)):
        raise ValueError(
            f"{name} must hold {told} for each of {len(sizes)} tables of {sizes} ids, got "
            f"{values!r:.200}."
        )


class _FewRows(FieldRows):
    """Base of tables whose rows are found by arithmetic; vectors of numbers are those of plain
    tables.
    """

    def __init__(self, context):
        super().__init__(context)
        self.sparse, self.dim = context.sparse_gradients, context.embedding_dim
        self.n_fields = context.n_fields

    def whole_numbers(self, name, values):
        """One int64 a table, as a buffer that is made of the architecture again."""
        self.register_buffer(name, torch.tensor(values, dtype=torch.int64), persistent=False)

    def read(self, name, rows):
        return read_rows(getattr(self, name), rows, self.sparse, self.rounding.get(name))

    # Rows of each table in the parameters that hold vectors of values, by their names.
    rows_in: dict[str, list[int]]

    def tables(self):
        """The parameters that hold vectors of values."""
        return [getattr(self, name) for name in self.rows_in]

    def stored_tables(self):
        own = {name: partial(self._rows_of, name) for name in self.rows_in}
        return {**own, **super().stored_tables()}

    def _rows_of(self, name):
        fields = np.array(self.table_fields, np.int64)
        return TableRows(np.repeat(fields, np.array(self.rows_in[name], np.int64)))

    def embedding_parameters(self):
        return [*self.tables(), *super().embedding_parameters()]

    def sparse_parameters(self):
        return self.tables() if self.sparse else []

    def sizes(self):
        """Columns of each field, list of int."""
        return [self.dim] * self.n_fields


class HashedEmbedding(_FewRows):
    """Values of a field share rows; inputs -> (B, F, d).

    Id v of a table of R rows and n > R ids has row 2 + ((a (v - 2) + b) mod p) mod (R - 2), where p
    is 2^31 - 1. The missing and the unknown id have rows of their own, as all ids have if n = R.

    Parameters
    ----------
    context : BuildContext
    rows : list of int
        R of each table.
    hashes : list of [int, int]
        a and b of each table.
    """

    def __init__(self, context, rows, hashes):
        super().__init__(context)
        self.weight = initial(context, sum(rows), context.embedding_dim, std=context.embedding_init)
        self.init_numbers(context, context.embedding_dim, context.embedding_init)
        sizes = context.table_sizes
        self.whole_numbers("start", [sum(rows[:t]) for t in range(len(rows))])
        self.whole_numbers("buckets", [max(r - RESERVED, 1) for r in rows])
        self.whole_numbers("factor", [a for a, _ in hashes])
        self.whole_numbers("shift", [b for _, b in hashes])
        own = [n if r == n else RESERVED for r, n in zip(rows, sizes, strict=True)]
        self.whole_numbers("own", own)
        self.rows_in = {"weight": list(rows)}

    def rows_of(self, ids, fields):
        """Rows of ids of tables, int64 (...)."""
        ids = ids.long()
        hashed = (self.factor[fields] * (ids - RESERVED) + self.shift[fields]) % PRIME
        place = torch.where(ids < self.own[fields], ids, RESERVED + hashed % self.buckets[fields])
        return self.start[fields] + place

    def lookup(self, ids, rows, fields):
        return self.read("weight", self.rows_of(ids, fields))


class QuotientRemainderEmbedding(_FewRows):
    """A vector of the quotient and one of the remainder of an id, put together; inputs -> (B, F,
    d).

    Id v of a table with m remainders is read as R[v mod m] * Q[v // m] or R[v mod m] + Q[v // m]. A
    table with as many remainders as ids has no quotients.

    Parameters
    ----------
    context : BuildContext
    remainders : list of int
        m of each table.
    combine : {"multiply", "add"}
    """

    def __init__(self, context, remainders, combine):
        super().__init__(context)
        sizes, d, std = context.table_sizes, context.embedding_dim, context.embedding_init
        quotients = [n_quotients(n, m) for n, m in zip(sizes, remainders, strict=True)]
        self.multiply = combine == "multiply"
        # Vectors of values are to start as those of a plain table do.
        std_of_each = math.sqrt(std) if self.multiply else std / math.sqrt(2)
        self.weight = initial(context, sum(remainders), d, std=std)
        self.quotient_weight = initial(context, sum(quotients), d, std=std_of_each)
        self.init_numbers(context, d, std)
        first = 0
        for m, q in zip(remainders, quotients, strict=True):
            if q:
                self.weight.data[first : first + m] *= std_of_each / std
            first += m
        self.whole_numbers("start", [sum(remainders[:t]) for t in range(len(sizes))])
        self.whole_numbers("quotient_start", [sum(quotients[:t]) for t in range(len(sizes))])
        self.whole_numbers("remainders", remainders)
        self.register_buffer("is_split", torch.tensor(quotients) > 0, persistent=False)
        self.n_quotients = sum(quotients)
        self.rows_in = {"weight": list(remainders), "quotient_weight": quotients}

    def lookup(self, ids, rows, fields):
        ids, m = ids.long(), self.remainders[fields]
        e = self.read("weight", self.start[fields] + ids % m)
        if not self.n_quotients:
            return e
        split = self.is_split[fields]
        at = torch.where(split, self.quotient_start[fields] + ids // m, 0)
        q = self.read("quotient_weight", at)
        split = split.unsqueeze(-1)
        return e * torch.where(split, q, 1.0) if self.multiply else e + torch.where(split, q, 0.0)


def n_quotients(n_ids, remainders):
    """Rows of the table of quotients; none where every id has a remainder of its own."""
    return 0 if remainders >= n_ids else -(-n_ids // remainders)


def remainders_within(n_ids, cap):
    """The most remainders for which both tables of a field have at most ``cap`` rows together; of
    the fewest rows where that cannot be; all ids where two tables save nothing.
    """
    q = np.arange(2, math.isqrt(max(n_ids - 1, 0)) + 2)
    m = -(-n_ids // q)
    rows = m + -(-n_ids // m)
    if n_ids <= cap or rows.min() >= n_ids:
        return n_ids
    fitting = np.flatnonzero(rows <= cap)
    return int(m[fitting[0] if len(fitting) else rows.argmin()])


def rows_of_both(n_ids, cap):
    m = remainders_within(n_ids, cap)
    return m + n_quotients(n_ids, m)


def hashed_rows(n_ids, cap):
    return min(n_ids, max(cap, RESERVED + 1))


def hashed_places(ids, n_ids, n_rows, hash_numbers):
    """Rows of the ids of one table, as `HashedEmbedding` has them; int64 ndarray."""
    if n_rows == n_ids:
        return ids
    a, b = hash_numbers
    hashed = RESERVED + (a * (ids - RESERVED) + b) % PRIME % (n_rows - RESERVED)
    return np.where(ids < RESERVED, ids, hashed)


def n_sharing(places):
    """How many of some values have another one at their place."""
    _, which, count = np.unique(places, return_inverse=True, return_counts=True)
    return int((count[which] > 1).sum())
