"""Counting the values of a field, and finding their ids."""

import numpy as np
import pandas as pd

from ._columns import _text

MISSING, UNKNOWN, FIRST = 0, 1, 2  # ids
KINDS = {"i": "integers", "f": "floating-point numbers", "O": "strings"}


def _as_kind(keys, kind):
    """Distinct values as int64 ("i"), float64 ("f") or strings ("O")."""
    if kind == "O" and keys.dtype.kind != "O":
        return np.array([_text(v) for v in keys.tolist()], dtype=object)
    return keys.astype({"i": np.int64, "f": np.float64, "O": object}[kind], copy=False)


class ValueCounter:
    """Counts of the distinct values of a field over chunks, in order of first appearance.

    Parameters
    ----------
    hash_threshold : int or None
        With more distinct values than this, the field counts hash buckets instead.
    n_hash_buckets : int
    """

    def __init__(self, hash_threshold=None, n_hash_buckets=2**16):
        self.hash_threshold = hash_threshold
        self.n_hash_buckets = n_hash_buckets
        self.kind = None
        self.index = pd.Index([], dtype=object)
        self.counts = np.zeros(0, np.int64)
        self.n_missing = 0
        self.n_cells = 0
        self.hashed = False

    def add(self, codes, keys):
        """Count one chunk: codes (n_cells,) into its distinct ``keys``, -1 where missing."""
        counts = np.bincount(codes + 1, minlength=len(keys) + 1)
        self.n_missing += int(counts[0])
        self.n_cells += len(codes)
        counts = counts[1:]
        if not len(keys):
            return
        kind = keys.dtype.kind
        if self.kind is None:
            self.kind, self.index, self.counts = kind, pd.Index(keys), counts.astype(np.int64)
        elif self.hashed:
            np.add.at(self.counts, hash_buckets(_as_kind(keys, self.kind), self.n_hash_buckets), counts)
            return
        else:
            wider = max(self.kind, kind, key="ifO".index)
            if wider != self.kind:
                self.kind, self.index = wider, pd.Index(_as_kind(self.index.to_numpy(), wider))
            keys = _as_kind(keys, wider)
            where = self.index.get_indexer(keys)
            known = where >= 0
            np.add.at(self.counts, where[known], counts[known])
            self.index = self.index.append(pd.Index(keys[~known]))
            self.counts = np.append(self.counts, counts[~known])
        if self.hash_threshold is not None and len(self.index) > self.hash_threshold:
            buckets = np.zeros(self.n_hash_buckets, np.int64)
            np.add.at(buckets, hash_buckets(self.index.to_numpy(), self.n_hash_buckets), self.counts)
            self.hashed, self.counts, self.index = True, buckets, pd.Index([], dtype=object)

    def vocabulary(self, min_frequency, max_categories):
        """The ids that follow from the counts so far."""
        if self.hashed:
            counts = np.concatenate([[self.n_missing, 0], self.counts])
            return Vocabulary(np.zeros(0, object), counts, self.kind, self.n_hash_buckets)
        least = min_frequency * self.n_cells if isinstance(min_frequency, float) else min_frequency
        order = np.argsort(-self.counts, kind="stable")
        kept = order[: int((self.counts >= least).sum())][:max_categories]
        rare = int(self.counts.sum() - self.counts[kept].sum())
        return Vocabulary(
            self.index.to_numpy()[kept], np.concatenate([[self.n_missing, rare], self.counts[kept]]), self.kind
        )


def hash_buckets(keys, n_buckets):
    """Bucket of each value, the same in every process."""
    return (pd.util.hash_array(keys) % np.uint64(n_buckets)).astype(np.int64)


class Vocabulary:
    """Values of a field and their ids: 0 missing, 1 unknown or rare, 2.. by frequency.

    Parameters
    ----------
    categories : ndarray (n_categories,)
        Most frequent first; int64, float64 or object (strings).
    counts : int64 ndarray (n_ids,)
        Training cells per id.
    kind : {"i", "f", "O"} or None
        Kind of the values; None if there was none.
    n_hash_buckets : int, default=0
        Ids are 2 + hash bucket, if not 0.
    """

    def __init__(self, categories, counts, kind, n_hash_buckets=0):
        self.categories = categories
        self.counts = counts
        self.kind = kind
        self.n_hash_buckets = n_hash_buckets
        self._index = self._dict = None

    @property
    def n_ids(self):
        return FIRST + (self.n_hash_buckets or len(self.categories))

    def ids(self, codes, keys):
        """Ids int32 (n_cells,) of codes into distinct values of this vocabulary's kind; -1 is missing."""
        table = np.empty(len(keys) + 1, np.int32)
        if self.n_hash_buckets:
            table[:-1] = FIRST + hash_buckets(keys, self.n_hash_buckets)
        else:
            if self._index is None:
                self._index = pd.Index(self.categories)
            found = self._index.get_indexer(keys)
            table[:-1] = np.where(found >= 0, found + FIRST, UNKNOWN)
        table[-1] = MISSING  # where code -1 points
        return table[codes]

    def convert(self, keys):
        """Distinct values as this vocabulary's kind; also the kind they had, if another than expected."""
        kind = keys.dtype.kind
        if self.kind is None or kind == self.kind or not len(keys):
            return keys, None
        if self.kind == "O":
            return _as_kind(keys, "O"), kind
        if kind == "O":
            numbers = pd.to_numeric(pd.Series(keys, dtype=object), errors="coerce").to_numpy(np.float64)
            if self.kind == "i":
                # A value that is no whole number cannot be in the vocabulary; the least integer is never an id either.
                whole = np.isfinite(numbers) & (np.mod(numbers, 1) == 0) & (np.abs(numbers) < 2.0**62)
                return np.where(whole, np.where(whole, numbers, 0).astype(np.int64), np.iinfo(np.int64).min), kind
            return numbers, kind
        if self.kind == "i":  # floating-point values, not all whole
            whole = np.mod(keys, 1) == 0
            return np.where(whole, np.where(whole, keys, 0).astype(np.int64), np.iinfo(np.int64).min), None
        return keys.astype(np.float64), None

    def ids_of_few(self, values):
        """Ids of a few Python values, one dictionary look-up each; None where a value is of another kind."""
        if self.n_hash_buckets:
            return None
        if self._dict is None:
            self._dict = {key: FIRST + i for i, key in enumerate(self.categories.tolist())}
        find, ids = self._dict.get, []
        for value in values:
            if isinstance(value, str):
                if value and self.kind != "O":
                    return None
                ids.append(find(value, UNKNOWN) if value else MISSING)
            elif value is None or value is pd.NA or value != value:
                ids.append(MISSING)
            elif self.kind == "O":
                return None
            else:
                ids.append(find(value, UNKNOWN))
        return ids

    def values(self, ids):
        """The values of ids, object (n,): None where missing, "<rare>" for unknown, "<hash k>" for bucket k."""
        table = np.empty(self.n_ids, object)
        table[MISSING], table[UNKNOWN] = None, "<rare>"
        table[FIRST:] = [f"<hash {k}>" for k in range(self.n_hash_buckets)] or self.categories.tolist()
        return table[ids]

    def __getstate__(self):
        # The look-up tables are larger than the values and quick to build again.
        return {**self.__dict__, "_index": None, "_dict": None}
