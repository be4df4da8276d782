"""Combinations of the ids of several columns: one integer for each, and its id."""

import math
from numbers import Integral

import numpy as np
import pandas as pd

from ..preprocessing._value_counter import ValueCounter
from ..preprocessing._values import NUMBERS
from ..preprocessing._vocabulary import FIRST, MISSING, UNKNOWN

RADIX_LIMIT = 2**62  # more combinations than this are hashed to 64 bits
FEW_ROWS = 16  # up to so many rows, combinations are looked up one by one


def n_combinations(sizes):
    """Product of positive sizes, or ``RADIX_LIMIT + 1`` if it is greater: of many sizes it would be
    a very long number.
    """
    product = 1
    for size in sizes:
        product *= int(size)
        if product > RADIX_LIMIT:
            return RADIX_LIMIT + 1
    return product


def combine(ids, sizes):
    """One integer for each row's combination of ids; 0 where all are 0, wherever ``sizes`` allow
    it.

    Parameters
    ----------
    ids : list of int ndarray of shape (n_rows,)
        Ids of each column, below its size.
    sizes : list of int

    Returns
    -------
    int64 ndarray of shape (n_rows,)
        Mixed radix, the last column fastest, if their product allows; else a hash of 64 bits, under
        which a million different combinations collide with a probability of 3e-8.
    """
    if math.prod(sizes) <= RADIX_LIMIT:
        keys = ids[0].astype(np.int64)
        for column, size in zip(ids[1:], sizes[1:], strict=True):
            keys *= size
            keys += column
        return keys
    keys = np.zeros(len(ids[0]), np.uint64)
    for column in ids:
        keys += column.astype(np.uint64)
        keys = scramble(keys)
    return keys.view(np.int64)


def scramble(keys):
    """The finaliser of splitmix64: uint64 to uint64, one to one, all bits mixed."""
    keys = keys + np.uint64(0x9E3779B97F4A7C15)
    keys ^= keys >> np.uint64(30)
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    keys ^= keys >> np.uint64(27)
    keys *= np.uint64(0x94D049BB133111EB)
    keys ^= keys >> np.uint64(31)
    return keys


class Combinations:
    """Vocabulary of the combinations of some columns.

    Parameters
    ----------
    ids : list of int ndarray of shape (n_rows,)
        Ids of each column in the training table; 0 is missing.
    sizes : list of int
        Number of ids of each column.
    min_count : int
        Combinations in fewer rows share the id of unseen ones.
    max_ids : int
        With more combinations than this, they are hashed into so many ids and keep no vocabulary.
    """

    def __init__(self, ids, sizes, min_count, max_ids):
        counter = ValueCounter()
        self._count(counter, ids, sizes)
        self._decide(counter, min_count, max_ids)

    @classmethod
    def of_blocks(cls, blocks, sizes, min_count, max_ids):
        """Vocabularies of several crosses, of a table that comes in blocks.

        Parameters
        ----------
        blocks : iterable of list of list of int ndarray
            Of each block, of each cross, the ids of each column.
        sizes : list of list of int
            Of each cross.
        min_count : int, or list of int
            Of all crosses, or of each.
        max_ids : int

        Returns
        -------
        list of Combinations
        """
        made, counters = [object.__new__(cls) for _ in sizes], [ValueCounter() for _ in sizes]
        for combinations, of_columns in zip(made, sizes, strict=True):
            combinations.sizes = list(of_columns)
        for block in blocks:
            for combinations, counter, ids in zip(made, counters, block, strict=True):
                combinations._count(counter, ids, combinations.sizes)
        least = [min_count] * len(made) if isinstance(min_count, Integral) else min_count
        for combinations, counter, own in zip(made, counters, least, strict=True):
            combinations._decide(counter, own, max_ids)
        return made

    def _count(self, counter, ids, sizes):
        self.sizes = list(sizes)
        keys = combine(ids, self.sizes)
        codes, distinct = pd.factorize(keys)
        codes[self._missing(ids, keys)] = -1
        counter.add(codes, distinct, NUMBERS)

    def _decide(self, counter, min_count, max_ids):
        self.vocabulary = counter.vocabulary(min_count, None)
        self.n_buckets = 0
        if len(self.vocabulary.categories) > max_ids:
            self.n_buckets, self.vocabulary = max_ids, None

    @classmethod
    def restored(cls, sizes, vocabulary, n_buckets):
        """One from what another held."""
        found = object.__new__(cls)
        found.sizes, found.vocabulary, found.n_buckets = sizes, vocabulary, n_buckets
        return found

    @property
    def n_ids(self):
        """Number of ids: all missing, unseen, and the combinations or buckets."""
        return FIRST + self.n_buckets if self.n_buckets else self.vocabulary.n_ids

    def _missing(self, ids, keys):
        """Rows where every column is missing."""
        if math.prod(self.sizes) <= RADIX_LIMIT:
            return keys == 0
        return np.logical_and.reduce([column == MISSING for column in ids])

    def ids(self, ids):
        """int32 (n_rows,): 0 all missing, 1 unseen or rare, 2.. combinations, most frequent first
        (or buckets).
        """
        keys = combine(ids, self.sizes)
        if self.n_buckets:
            found = (scramble(keys.view(np.uint64)) % np.uint64(self.n_buckets)).astype(np.int32)
            found += FIRST
        elif not len(self.vocabulary.categories):
            found = np.full(len(keys), UNKNOWN, np.int32)
        elif len(keys) <= FEW_ROWS:
            found = self.vocabulary.ids_of_few(keys.tolist())
        else:
            found = self.vocabulary.ids_of_integers(keys)
        found[self._missing(ids, keys)] = MISSING
        return found

    def names(self, values):
        """Names of all ids, given the names of the columns' ids: list of object ndarray."""
        out = np.empty(self.n_ids, object)
        out[MISSING], out[UNKNOWN] = "<missing>", "<unseen>"
        if self.n_buckets or math.prod(self.sizes) > RADIX_LIMIT:
            out[FIRST:] = [f"<hash {k}>" for k in range(self.n_ids - FIRST)]
            return out
        parts, keys = [], self.vocabulary.categories
        for size, names in zip(self.sizes[::-1], values[::-1], strict=True):
            parts.append(names[keys % size])
            keys = keys // size
        out[FIRST:] = [" x ".join(row) for row in zip(*parts[::-1], strict=True)]
        return out
