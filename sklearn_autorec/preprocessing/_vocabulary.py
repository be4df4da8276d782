"""Finding the ids of the values of a field."""

import threading
from itertools import accumulate, pairwise

import numpy as np
import pandas as pd

from ._columns import is_missing
from ._hashing import hash_buckets
from ._spelling import (
    EXACT,
    WORDS,
    as_float,
    as_integer,
    fewest_digits,
    number_of_text,
    whole_and_exact,
)
from ._values import BOOLEANS, NUMBERS, STRINGS, as_kind

MISSING, UNKNOWN, FIRST = 0, 1, 2  # ids
FEW_ODD = 64  # so many cells that are not in a vocabulary are looked at one by one
# Types of cells that equal those values, and only those, that they are.
PLAIN_TYPES = {str, int, float, bool, type(None), type(pd.NA), type(pd.NaT)}

# Held while a look-up table is built, so that threads that need one at the same time build it once.
_building = threading.Lock()


def pack(words):
    """An object array of strings as UTF-8 bytes and lengths, a third smaller in a pickle."""
    words = words.tolist()
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    text = "".join(words).encode("utf-8", "surrogatepass")
    return text, lengths.astype(np.min_scalar_type(int(lengths.max(initial=0))))


def unpack(text, lengths):
    text = text.decode("utf-8", "surrogatepass")
    ends = accumulate(lengths.tolist(), initial=0)
    return np.fromiter((text[a:b] for a, b in pairwise(ends)), object, len(lengths))


def _sorts(seen):
    """What the values are, where a boolean is a number."""
    return (seen - BOOLEANS) | NUMBERS if seen & BOOLEANS else seen


def _first(keys, mask):
    """The first value of a mask as a Python number, None if there is none."""
    return keys[int(np.argmax(mask))].item() if mask.any() else None


def _equal_as_they_are(values):
    """Whether values of numbers can be looked up as they are: none of an odd type, no float beyond
    its exact integers.
    """
    kinds = set(map(type, values))
    if not kinds <= PLAIN_TYPES:
        return False
    return float not in kinds or not any(type(v) is float and abs(v) >= EXACT for v in values)


_TRUTHS = {*WORDS, "0", "1"}  # what may be a boolean where it is no value of its own


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
        What the values were in the training table: some of "numbers", "strings", "booleans" and
        "times".
    n_hash_buckets : int, default=0
        Ids are 2 + hash bucket, if not 0.
    """

    def __init__(self, categories, counts, kind, seen, n_hash_buckets=0):
        self.categories = categories
        self.counts = counts
        self.kind = kind
        self.seen = seen
        self.n_hash_buckets = n_hash_buckets
        self._index = self._look_up = self._dense = self._words = None

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
        lost : float or None
            A value whose digits are lost, so that it equals no id.
        """
        found, drift, lost = self._find(keys, seen)
        table = np.empty(len(keys) + 1, np.int32)
        table[:-1] = found
        table[-1] = MISSING  # where code -1 points
        return table[codes], drift, lost

    def _find(self, keys, seen):
        if self.kind is None or not len(keys):
            return np.full(len(keys), UNKNOWN, np.int32), None, None
        drift, lost = None, np.zeros(len(keys), bool)
        if not _sorts(seen) <= _sorts(self.seen):
            drift = (" and ".join(sorted(self.seen)), " and ".join(sorted(seen)))
        if keys.dtype.kind == "f":
            _, lost = whole_and_exact(keys)
        if self.n_hash_buckets:
            found = FIRST + hash_buckets(keys, self.n_hash_buckets)
            if self.kind != "f":
                found[lost] = UNKNOWN
            example = None if self.kind == "f" else _first(keys, lost)
            return (
                found,
                drift and (*drift, f"{keys[0]!r} is hashed like {as_kind(keys[:1], 'O')[0]!r}"),
                example,
            )
        converted, certain = self._convert(keys)
        found = self._positions(converted)
        found = np.where(certain, found, -1)
        if self.kind == "O" and keys.dtype.kind == "i":
            # Strings that were floats once: 1 is not among them, but "1.0" is.
            again = [f"{key}.0" if abs(int(key)) < EXACT else "" for key in keys[found < 0]]
            found[found < 0] = self._positions(np.array(again, dtype=object))
        found = np.where(found >= 0, found + FIRST, UNKNOWN)
        for k in self._unfound_words(found, keys, seen):
            found[k] = self.words[self._truth(keys[k], seen)]
        if drift is not None:
            one = int(np.argmax(found != UNKNOWN))
            now = (
                self.categories[found[one] - FIRST : found[one] - FIRST + 1].tolist()
                if found[one] > UNKNOWN
                else []
            )
            drift = (
                *drift,
                f"{keys[one : one + 1].tolist()[0]!r} is "
                f"{f'taken as {now[0]!r}' if now else 'unknown'}",
            )
        return found, drift, _first(keys, lost & (found == UNKNOWN))

    def _convert(self, keys):
        """Distinct values as this vocabulary's kind, and which of them are values of it without
        doubt.
        """
        kind, certain = keys.dtype.kind, np.ones(len(keys), bool)
        if self.kind == "O":
            return as_kind(keys, "O"), certain
        if kind == "O":
            numbers = [None if key in ("", None) else number_of_text(key) for key in keys]
            numbers = list(map(as_integer if self.kind == "i" else as_float, numbers))
            certain = np.array([number is not None for number in numbers], dtype=bool)
            values = [0 if number is None else number for number in numbers]
            return np.array(values, dtype=np.int64 if self.kind == "i" else np.float64), certain
        if kind == self.kind:
            return (keys if kind == "i" else fewest_digits(keys)), certain
        if self.kind == "f":
            return keys.astype(np.float64), (keys <= EXACT) & (keys >= -EXACT)
        certain, _ = whole_and_exact(keys)
        return np.where(certain, keys, 0).astype(np.int64), certain

    @property
    def words(self):
        """Ids of true and false, dict of bool to int: where the values are booleans, or names of
        them, of one spelling.
        """
        if self._words is None:
            words = {}
            if self.kind == "O" and not self.seen & BOOLEANS:
                found = self._positions(np.array(list(WORDS), dtype=object))
                for at, truth in zip(found.tolist(), WORDS.values(), strict=True):
                    if at >= 0:
                        words[truth] = UNKNOWN if truth in words else FIRST + at
            elif self.seen & BOOLEANS or (self.kind == "i" and 0 < len(self.categories) <= 2):
                texts = self.categories.tolist()
                truths = (True, False) if self.seen & BOOLEANS or set(texts) <= {0, 1} else ()
                for truth in truths:
                    value = str(int(truth)) if self.kind == "O" else int(truth)
                    words[truth] = FIRST + texts.index(value) if value in texts else UNKNOWN
            self._words = words
        return self._words

    @property
    def only_words(self):
        """Whether all values are names of booleans."""
        texts = (
            self.categories.tolist()
            if self.kind == "O" and len(self.categories) <= len(WORDS)
            else []
        )
        return bool(texts) and all(text in WORDS for text in texts)

    def _truth(self, key, seen):
        """The truth that a value names here: a word, or 1 and 0 that are booleans or stand among
        names of such; else None.
        """
        if isinstance(key, str) and key in WORDS:
            return WORDS[key]
        if key in (0, 1, "0", "1") and (seen & BOOLEANS or self.only_words):
            return bool(int(key))
        return None

    def _unfound_words(self, found, keys, seen):
        """Positions of values not found that name a boolean which this vocabulary knows."""
        unknown = (
            ()
            if self.n_hash_buckets or keys.dtype.kind == "f"
            else np.flatnonzero(found == UNKNOWN)
        )
        if not len(unknown) or not self.words:
            return []
        return [k for k in unknown if self._truth(keys[k], seen) in self.words]

    def _positions(self, keys):
        """Positions in ``categories``, -1 where not there."""
        if self._index is None:
            with _building:
                if self._index is None:
                    index = pd.Index(self.categories, dtype=self.categories.dtype)
                    # Fills the hash table before another thread can see it.
                    index.get_indexer(index[:1])
                    self._index = index
        return self._index.get_indexer(pd.Index(keys, dtype=keys.dtype))

    def ids_of_integers(self, values):
        """Ids int32 (n_cells,) of an integer array; None if the vocabulary holds other values."""
        if (
            self.kind != "i"
            or self.n_hash_buckets
            or values.dtype == np.uint64
            or not len(self.categories)
        ):
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
        # As Python's integers: the distance of two int64 may be none.
        least, largest = int(values.min()), int(values.max())
        if least >= low and largest - low < outside:
            return table[values - low]
        inside = (values >= low) & (values <= low + outside - 1)
        return table[np.where(inside, values - np.where(inside, low, values), outside)]

    def _dense_table(self):
        """Least category and ids of all integers from there on, unknown at the end; empty if they
        are far apart.
        """
        low, high = int(self.categories.min()), int(self.categories.max())
        if high - low > 4 * len(self.categories) + 1000:
            return low, np.zeros(0, np.int32)
        table = np.full(high - low + 2, UNKNOWN, np.int32)
        table[self.categories - low] = np.arange(FIRST, self.n_ids, dtype=np.int32)
        return low, table

    def ids_of_few(self, values, plain=False):
        """Ids int32 of a list of Python values, one dictionary look-up each; None if a value needs
        conversion.

        ``plain`` says that they are known to be strings, integers and missing values only.
        """
        if self.n_hash_buckets:
            return self._hash_few(values)
        if self._look_up is None:
            with _building:
                if self._look_up is None:
                    table = _LookUp(
                        zip(self.categories.tolist(), range(FIRST, self.n_ids), strict=True)
                    )
                    table.update(
                        {
                            None: MISSING,
                            "": MISSING,
                            np.nan: MISSING,
                            pd.NA: MISSING,
                            pd.NaT: MISSING,
                        }
                    )
                    self._look_up = table
        if not plain and self.kind != "O" and not _equal_as_they_are(values):
            return None
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
                if (STRINGS - self.seen and self.seen) or value in _TRUTHS:
                    return None
                ids[k] = UNKNOWN
            elif value != value:
                ids[k] = MISSING
            elif self._is_new_number(value):
                ids[k] = UNKNOWN
            else:
                return None
        return ids

    def _is_new_number(self, value):
        """Whether a Python number that is no category needs no conversion to be sure of that."""
        if self.kind not in ("i", None) or not self.seen <= NUMBERS:
            return False
        return type(value) is int or (type(value) is float and value.is_integer())

    def _hash_few(self, values):
        missing = [is_missing(value) or value == "" for value in values]
        present = [value for value, gone in zip(values, missing, strict=True) if not gone]
        if STRINGS - self.seen or not all(isinstance(value, str) for value in present):
            return None
        ids = np.full(len(values), MISSING, np.int32)
        if present:
            ids[~np.array(missing)] = FIRST + hash_buckets(
                np.array(present, dtype=object), self.n_hash_buckets
            )
        return ids

    def values(self, ids):
        """The values of ids, object (n,): None where missing, "<rare>" for unknown, "<hash k>" for
        bucket k.
        """
        table = np.empty(self.n_ids, object)
        table[MISSING], table[UNKNOWN] = None, "<rare>"
        table[FIRST:] = [
            f"<hash {k}>" for k in range(self.n_hash_buckets)
        ] or self.categories.tolist()
        return table[ids]

    def __getstate__(self):
        # Look-up tables are larger than the values and quick to build again; strings are joined and
        # counts narrowed.
        state = {**self.__dict__, "_index": None, "_look_up": None, "_dense": None, "_words": None}
        if self.counts.dtype.kind == "i":
            state["counts"] = self.counts.astype(np.min_scalar_type(int(self.counts.max())))
        if self.categories.dtype == object:
            state["categories"] = pack(self.categories)
        elif self.categories.dtype == np.int64 and len(self.categories):
            low, high = int(self.categories.min()), int(self.categories.max())
            if low >= 0:
                state["categories"] = self.categories.astype(np.min_scalar_type(high))
        return state

    def __setstate__(self, state):
        self.__dict__.update({"_words": None, **state})
        if self.counts.dtype.kind != "f":
            self.counts = self.counts.astype(np.int64)
        if isinstance(self.categories, tuple):
            self.categories = unpack(*self.categories)
        elif self.categories.dtype.kind == "u":
            self.categories = self.categories.astype(np.int64)
