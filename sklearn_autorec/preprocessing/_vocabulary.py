"""Counting the values of a field, and finding their ids."""

import threading
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd

from ._columns import is_missing
from ._values import STRINGS, as_kind, numbers_from_text
from ._weights import as_counts, count_cells

MISSING, UNKNOWN, FIRST = 0, 1, 2  # ids
FEW_ODD = 64  # so many cells that are not in a vocabulary are looked at one by one
_NUMBER_TYPES = (int, float, bool, np.integer, np.floating, np.bool_)
_NO_VALUE = np.iinfo(np.int64).min  # never an id: stands for text that is no whole number

# Held while a look-up table is built, so that threads that need one at the same time build it once.
_building = threading.Lock()


class ValueCounter:
    """Counts of the distinct values of a field over chunks.

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
        self.seen = frozenset()
        self.keys = np.zeros(0, object)
        self.counts = np.zeros(0, np.int64)
        self.n_missing = 0
        self.n_cells = 0
        self.hashed = False

    def add(self, codes, keys, seen, weight=None):
        """Count one chunk: codes (n_cells,) into its distinct ``keys``, -1 where missing; cells may have weights."""
        counts = count_cells(codes + 1, weight, len(keys) + 1)
        self.n_missing += counts[0].item()
        self.n_cells += len(codes) if weight is None else as_counts(weight.sum()).item()
        counts = counts[1:]
        if not counts.all():  # items that only the cut-off parts of sequences hold
            keys, counts = keys[counts > 0], counts[counts > 0]
        if not len(keys):
            return
        self.seen |= seen
        kind = keys.dtype.kind
        if self.kind is None:
            self.kind, self.keys, self.counts = kind, keys, counts
        else:
            wider = max(self.kind, kind, key="ifO".index)
            if self.hashed:
                self.kind = wider
                buckets = self.counts.astype(np.result_type(self.counts, counts))  # a copy: see `twin`
                np.add.at(buckets, hash_buckets(keys, self.n_hash_buckets), counts)
                self.counts = as_counts(buckets)
                return
            both = np.concatenate([as_kind(self.keys, wider), as_kind(keys, wider)])
            where, self.keys = pd.factorize(both)
            both_counts = np.concatenate([self.counts, counts])
            total = np.zeros(len(self.keys), both_counts.dtype)
            np.add.at(total, where, both_counts)
            self.kind, self.counts = wider, as_counts(total)
        if self.hash_threshold is not None and len(self.keys) > self.hash_threshold:
            buckets = np.zeros(self.n_hash_buckets, self.counts.dtype)
            np.add.at(buckets, hash_buckets(self.keys, self.n_hash_buckets), self.counts)
            self.hashed, self.counts, self.keys = True, buckets, np.zeros(0, object)

    def vocabulary(self, min_frequency, max_categories):
        """The ids that follow from the counts so far; equal counts go by value, so not by the order of rows."""
        if self.hashed:
            counts = np.concatenate([[self.n_missing, 0], self.counts])
            return Vocabulary(self.keys, counts, self.kind, self.seen, self.n_hash_buckets)
        least = min_frequency * self.n_cells if isinstance(min_frequency, float) else min_frequency
        if self.counts.dtype.kind == "f":  # sums of weights are rounded; and 1 keeps every value, whatever it weighs
            least = 0 if min_frequency == 1 else least * (1 - 1e-12)
        frequent = np.flatnonzero(self.counts >= least)
        order = frequent[_value_order(self.keys[frequent])]
        order = order[np.argsort(-self.counts[order], kind="stable")][:max_categories]
        counts = self.counts[order]
        rare = (self.counts.sum() - counts.sum()).item() if len(counts) < len(self.counts) else 0
        return Vocabulary(self.keys[order], np.concatenate([[self.n_missing, rare], counts]), self.kind, self.seen)

    def __getstate__(self):
        return {**self.__dict__, "keys": _pack(self.keys)} if self.keys.dtype == object else self.__dict__

    def __setstate__(self, state):
        self.__dict__.update(state)
        if isinstance(self.keys, tuple):
            self.keys = _unpack(*self.keys)


def _value_order(keys):
    if keys.dtype != object:
        return np.argsort(keys, kind="stable")
    # Twice as fast as argsort of an object array.
    return np.fromiter(sorted(range(len(keys)), key=keys.tolist().__getitem__), np.int64, len(keys))


def hash_buckets(keys, n_buckets):
    """Bucket of each value's text, the same in every process and for 1, 1.0 and "1"."""
    return (pd.util.hash_array(as_kind(keys, "O"), categorize=False) % np.uint64(n_buckets)).astype(np.int64)


def _pack(words):
    """An object array of strings as UTF-8 bytes and lengths, a third smaller in a pickle."""
    words = words.tolist()
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    text = "".join(words).encode("utf-8", "surrogatepass")
    return text, lengths.astype(np.min_scalar_type(int(lengths.max(initial=0))))


def _unpack(text, lengths):
    text = text.decode("utf-8", "surrogatepass")
    ends = accumulate(lengths.tolist(), initial=0)
    return np.fromiter((text[a:b] for a, b in pairwise(ends)), object, len(lengths))


class _LookUp(dict):
    def __missing__(self, key):
        return -1


class Vocabulary:
    """Values of a field and their ids: 0 missing, 1 unknown or rare, 2.. by frequency.

    Parameters
    ----------
    categories : ndarray (n_categories,)
        Most frequent first; int64, float64 or object (strings).
    counts : int64 ndarray (n_ids,)
        Training cells per id; float64 with weights that are not whole.
    kind : {"i", "f", "O"} or None
        Kind of the values; None if there was none.
    seen : frozenset
        What the values were in the training table: "numbers", "strings" or both.
    n_hash_buckets : int, default=0
        Ids are 2 + hash bucket, if not 0.
    """

    def __init__(self, categories, counts, kind, seen, n_hash_buckets=0):
        self.categories = categories
        self.counts = counts
        self.kind = kind
        self.seen = seen
        self.n_hash_buckets = n_hash_buckets
        self._index = self._look_up = self._dense = None

    @property
    def n_ids(self):
        """Number of ids, missing and unknown included."""
        return FIRST + (self.n_hash_buckets or len(self.categories))

    def ids(self, codes, keys, seen):
        """Ids of codes into distinct values.

        Returns
        -------
        ids : int32 ndarray (n_cells,)
        drift : tuple (was, now, example) of str, or None
            Set if the values are of another sort than in training.
        """
        found, drift = self._find(keys, seen)
        table = np.empty(len(keys) + 1, np.int32)
        table[:-1] = found
        table[-1] = MISSING  # where code -1 points
        return table[codes], drift

    def _find(self, keys, seen):
        if self.kind is None or not len(keys):
            return np.full(len(keys), UNKNOWN, np.int32), None
        drift = None
        if not seen <= self.seen:
            drift = (" and ".join(sorted(self.seen)), " and ".join(sorted(seen)))
        if self.n_hash_buckets:
            found = FIRST + hash_buckets(keys, self.n_hash_buckets)
            return found, drift and (*drift, f"{keys[0]!r} is hashed like {as_kind(keys[:1], 'O')[0]!r}")
        converted = self._convert(keys)
        found = self._positions(converted)
        if self.kind == "O" and keys.dtype.kind == "i":
            # Strings that were floats once: 1 is not among them, but "1.0" is.
            again = self._positions(np.array([f"{key}.0" for key in converted[found < 0]], dtype=object))
            found = found.copy()
            found[found < 0] = again
        found = np.where(found >= 0, found + FIRST, UNKNOWN)
        if drift is not None:
            one = int(np.argmax(found != UNKNOWN))
            now = self.categories[found[one] - FIRST : found[one] - FIRST + 1].tolist() if found[one] > UNKNOWN else []
            drift = (*drift, f"{keys[one : one + 1].tolist()[0]!r} is {f'taken as {now[0]!r}' if now else 'unknown'}")
        return found, drift

    def _convert(self, keys):
        """Distinct values as this vocabulary's kind."""
        kind = keys.dtype.kind
        if kind == self.kind:
            return keys
        if self.kind == "O":
            return as_kind(keys, "O")
        numbers = numbers_from_text(keys) if kind == "O" else keys.astype(np.float64)
        if self.kind == "f":
            return numbers
        with np.errstate(invalid="ignore"):
            whole = (np.mod(numbers, 1) == 0) & (np.abs(numbers) < 2.0**62)
        return np.where(whole, np.where(whole, numbers, 0).astype(np.int64), _NO_VALUE)

    def _positions(self, keys):
        """Positions in ``categories``, -1 where not there."""
        if self._index is None:
            with _building:
                if self._index is None:
                    index = pd.Index(self.categories, dtype=self.categories.dtype)
                    index.get_indexer(index[:1])  # fills the hash table before another thread can see it
                    self._index = index
        return self._index.get_indexer(pd.Index(keys, dtype=keys.dtype))

    def ids_of_integers(self, values):
        """Ids int32 (n_cells,) of an integer array; None if the vocabulary holds other values."""
        if self.kind != "i" or self.n_hash_buckets or values.dtype == np.uint64 or not len(self.categories):
            return None
        if self._dense is None:
            with _building:
                self._dense = self._dense_table()
        low, table = self._dense
        values = values.astype(np.int64, copy=False)
        if not len(table):
            found = self._positions(values)
            return np.where(found >= 0, found + FIRST, UNKNOWN).astype(np.int32)
        outside = len(table) - 1
        if values.min() >= low and values.max() - low < outside:
            return table[values - low]
        inside = (values >= low) & (values < low + outside)
        return table[np.where(inside, values - np.where(inside, low, values), outside)]

    def _dense_table(self):
        """Least category and ids of all integers from there on, unknown at the end; empty if they are far apart."""
        low, high = int(self.categories.min()), int(self.categories.max())
        if high - low > 4 * len(self.categories) + 1000:
            return low, np.zeros(0, np.int32)
        table = np.full(high - low + 2, UNKNOWN, np.int32)
        table[self.categories - low] = np.arange(FIRST, self.n_ids, dtype=np.int32)
        return low, table

    def ids_of_few(self, values):
        """Ids int32 of a list of Python values, one dictionary look-up each; None if a value needs conversion."""
        if self.n_hash_buckets:
            return self._hash_few(values)
        if self._look_up is None:
            with _building:
                if self._look_up is None:
                    table = _LookUp(zip(self.categories.tolist(), range(FIRST, self.n_ids), strict=True))
                    table.update({None: MISSING, "": MISSING, np.nan: MISSING, pd.NA: MISSING, pd.NaT: MISSING})
                    self._look_up = table
        try:
            ids = np.fromiter(map(self._look_up.__getitem__, values), np.int32, len(values))
        except TypeError:  # a list or dict: the general path says what is wrong
            return None
        if ids.min() >= 0:
            return ids
        odd = np.flatnonzero(ids < 0)
        if len(odd) > FEW_ODD:
            return None
        for k in odd:
            value = values[k]
            if isinstance(value, str):
                if STRINGS - self.seen and self.seen:
                    return None
                ids[k] = UNKNOWN
            elif value != value:
                ids[k] = MISSING
            elif isinstance(value, _NUMBER_TYPES) and self.kind in ("i", "f", None):
                ids[k] = UNKNOWN
            else:
                return None
        return ids

    def _hash_few(self, values):
        missing = [is_missing(value) or value == "" for value in values]
        present = [value for value, gone in zip(values, missing, strict=True) if not gone]
        if STRINGS - self.seen or not all(isinstance(value, str) for value in present):
            return None
        ids = np.full(len(values), MISSING, np.int32)
        if present:
            ids[~np.array(missing)] = FIRST + hash_buckets(np.array(present, dtype=object), self.n_hash_buckets)
        return ids

    def values(self, ids):
        """The values of ids, object (n,): None where missing, "<rare>" for unknown, "<hash k>" for bucket k."""
        table = np.empty(self.n_ids, object)
        table[MISSING], table[UNKNOWN] = None, "<rare>"
        table[FIRST:] = [f"<hash {k}>" for k in range(self.n_hash_buckets)] or self.categories.tolist()
        return table[ids]

    def __getstate__(self):
        # Look-up tables are larger than the values and quick to build again; strings are joined and counts narrowed.
        state = {**self.__dict__, "_index": None, "_look_up": None, "_dense": None}
        if self.counts.dtype.kind == "i":
            state["counts"] = self.counts.astype(np.min_scalar_type(int(self.counts.max())))
        if self.categories.dtype == object:
            state["categories"] = _pack(self.categories)
        elif self.categories.dtype == np.int64 and len(self.categories):
            low, high = int(self.categories.min()), int(self.categories.max())
            if low >= 0:
                state["categories"] = self.categories.astype(np.min_scalar_type(high))
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.counts.dtype.kind != "f":
            self.counts = self.counts.astype(np.int64)
        if isinstance(self.categories, tuple):
            self.categories = _unpack(*self.categories)
        elif self.categories.dtype.kind == "u":
            self.categories = self.categories.astype(np.int64)
