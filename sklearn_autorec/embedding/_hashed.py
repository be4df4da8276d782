"""Fewer rows than values: values that share a row, and values that are told apart by two rows."""

import math
from functools import partial
from numbers import Integral, Real

import numpy as np
import torch

from ..base import SearchMethod
from ..nn import TableRows, element_bytes, limit_of
from ..nn._embeddings import FieldRows
from ..nn._numeric import initial
from ..nn._read_rows import read_rows
from ..utils._sklearn import Interval, StrOptions
from ._blocks import RESERVED

PRIME = 2**31 - 1  # the numbers of universal hashing; there are fewer ids


def largest_cap(rows_of, sizes, vector_bytes, limit, told):
    """The largest number of rows a table at which all tables fit.

    Parameters
    ----------
    rows_of : callable (size, cap) -> int
        Rows of a table of so many values, never falling with the cap.
    sizes : list of int
    vector_bytes : list of int
        Bytes of a row of each table.
    limit : int
        Bytes.
    told : str
        What the message says of the budget.

    Raises
    ------
    ValueError
        If the smallest tables do not fit.
    """

    def n_bytes(cap):
        own = zip(vector_bytes, sizes, strict=True)
        return int(sum(each * rows_of(n, cap) for each, n in own))

    low, high = 1, max(sizes, default=1)
    if n_bytes(low) > limit:
        raise ValueError(
            f"{told} is {limit} bytes, but the smallest tables take {n_bytes(low)}; raise it (a "
            f"float is a share of the whole tables, an int is bytes)."
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


def _rows_of_both(n_ids, cap):
    m = remainders_within(n_ids, cap)
    return m + n_quotients(n_ids, m)


def _hashed_rows(n_ids, cap):
    return min(n_ids, max(cap, RESERVED + 1))


BUDGET = [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right")]


class Hashing(SearchMethod):
    r"""Let values of a field share rows, as many as the budget asks: the hashing trick, a baseline.

    All tables of more ids than some number of rows get that number, the largest that fits the
    budget; smaller tables stay whole. Which values share a row is decided by a universal hash
    function

    .. math:: h(v) = ((a v + b) \bmod p) \bmod R

    with random a and b for each table. Values that share a row have one vector: nothing tells them
    apart in the embedding slot. Their first-order weights, where the network has such, are their
    own.

    Parameters
    ----------
    budget : float in (0, 1] or int, default=0.5
        Bytes of the embedding tables (int), or their share of the whole tables' (float). Never
        exceeded.
    hashing : {"universal", "modulo"}, default="universal"
        "modulo" takes the remainder of the id. Ids are sorted by frequency, so that the most
        frequent values then have no row in common; that is more than a hash function of raw values
        can do.

    Notes
    -----
    The missing and the unknown id keep rows of their own. ``architecture_["embedding"]`` has, for
    each table, "rows", a and b ("hashes"), and under "collisions" how many values share a row with
    another one. Fields of numbers are left whole and are not counted.

    References
    ----------
    Weinberger, K. et al. "Feature Hashing for Large Scale Multitask Learning", ICML 2009.

    Carter, J. L., Wegman, M. N. "Universal Classes of Hash Functions", JCSS 1979.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.embedding import Hashing
    >>> X, y, truth = make_ctr(1000, n_fields=3, pairs=1, random_state=0)
    >>> model = CTRClassifier(
    ...     network="fm", search=Hashing(0.5), embedding_dim=4, max_epochs=1, random_state=0
    ... ).fit(X, y)
    >>> rows = model.architecture_["embedding"]["rows"]
    >>> model.nbytes_["embedding"] == 4 * 4 * sum(rows)
    True
    """

    slot = "embedding"
    _parameter_constraints = {
        "budget": BUDGET,
        "hashing": [StrOptions({"universal", "modulo"})],
    }

    def __init__(self, budget=0.5, hashing="universal"):
        self.budget = budget
        self.hashing = hashing

    def search(self, problem):
        context = problem.context
        sizes, limit = context.table_sizes, limit_of(self.budget, context)
        cap = largest_cap(
            _hashed_rows, sizes, _vector_bytes(context), limit, f"budget={self.budget!r}"
        )
        rows = [_hashed_rows(n, cap) for n in sizes]
        hashes = [[1, 0] for _ in sizes]
        if self.hashing == "universal":
            drawn = torch.randint(PRIME - 1, (len(sizes), 2), generator=context.generator)
            hashes = [[int(a) + 1, int(b)] for a, b in drawn]
        places = zip(sizes, rows, hashes, strict=True)
        shared = [_n_sharing(hashed_places(np.arange(n), n, r, h)) for n, r, h in places]
        return {"rows": rows, "hashes": hashes, "collisions": shared}

    def check(self, architecture, context):
        check_list(
            architecture,
            "rows",
            context,
            lambda r, n: type(r) is int and _hashed_rows(n, 1) <= r <= n,
            f"a number of rows, at least {RESERVED + 1} (or all) and no more than there are,",
        )
        check_list(
            architecture,
            "hashes",
            context,
            lambda h, n: (
                isinstance(h, list)
                and [type(x) for x in h] == [int, int]
                and 1 <= h[0] < PRIME
                and 0 <= h[1] < PRIME
            ),
            f"two ints, from 1 and from 0 to {PRIME - 1},",
        )

    def realise(self, architecture, context):
        return HashedEmbedding(context, architecture["rows"], architecture["hashes"])


def _vector_bytes(context):
    """Bytes of a row of each table."""
    return context.embedding_dim * element_bytes(context)[context.table_fields]


def hashed_places(ids, n_ids, n_rows, hash_numbers):
    """Rows of the ids of one table, as `HashedEmbedding` has them; int64 ndarray."""
    if n_rows == n_ids:
        return ids
    a, b = hash_numbers
    hashed = RESERVED + (a * (ids - RESERVED) + b) % PRIME % (n_rows - RESERVED)
    return np.where(ids < RESERVED, ids, hashed)


def _n_sharing(places):
    """How many of some values have another one at their place."""
    _, which, count = np.unique(places, return_inverse=True, return_counts=True)
    return int((count[which] > 1).sum())


class QR(SearchMethod):
    r"""Tell values apart by two small tables, of quotients and of remainders: a baseline.

    Id v of a field with m remainders is read as

    .. math:: e_v = R_{v \bmod m} \odot Q_{\lfloor v / m \rfloor}

    so that every value has a vector of its own, made of rows that it shares with others. All tables
    of more ids than some number of rows are split so that both parts together have no more rows;
    that number is the largest that fits the budget. Smaller tables stay whole.

    Parameters
    ----------
    budget : float in (0, 1] or int, default=0.5
        Bytes of the embedding tables (int), or their share of the whole tables' (float). Never
        exceeded. A field of n ids cannot have fewer than about :math:`2 \sqrt n` rows.
    combine : {"multiply", "add"}, default="multiply"
        How the two rows are put together.

    Notes
    -----
    The paper splits the tables of more than some number of ids with the same number of values a
    remainder for all. Here the rows of a table are what is bounded, which spares small fields in
    the same way as `Hashing` does.

    The public code starts products from positive numbers alone. Here both factors have normal
    initial weights whose product is spread as a plain table's.

    Fields of numbers are left whole and are not counted.

    References
    ----------
    Shi, H.-J. M. et al. "Compositional Embeddings Using Complementary Partitions for
    Memory-Efficient Recommendation Systems", KDD 2020.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.embedding import QR
    >>> X, y, truth = make_ctr(1000, n_fields=3, cardinality=50, pairs=1, random_state=0)
    >>> model = CTRClassifier(
    ...     network="fm", search=QR(0.5), embedding_dim=4, max_epochs=1, random_state=0
    ... ).fit(X, y)
    >>> model.compression_ratio_ > 2
    True
    """

    slot = "embedding"
    _parameter_constraints = {
        "budget": BUDGET,
        "combine": [StrOptions({"multiply", "add"})],
    }

    def __init__(self, budget=0.5, combine="multiply"):
        self.budget = budget
        self.combine = combine

    def search(self, problem):
        context = problem.context
        sizes, limit = context.table_sizes, limit_of(self.budget, context)
        cap = largest_cap(
            _rows_of_both, sizes, _vector_bytes(context), limit, f"budget={self.budget!r}"
        )
        return {"remainders": [remainders_within(n, cap) for n in sizes]}

    def check(self, architecture, context):
        check_list(
            architecture,
            "remainders",
            context,
            lambda m, n: type(m) is int and 1 <= m <= n,
            "a number of remainders, at least 1 and no more than there are ids,",
        )

    def realise(self, architecture, context):
        return QuotientRemainderEmbedding(context, architecture["remainders"], self.combine)
