"""Counting the values of a field over chunks."""

import numpy as np
import pandas as pd

from ._hashing import hash_buckets
from ._spelling import WORDS
from ._values import BOOLEANS, as_kind, wider_kind
from ._vocabulary import Vocabulary, pack, unpack
from ._weights import as_counts, count_cells


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
        """Count one chunk: codes (n_cells,) into its distinct ``keys``, -1 where missing; cells may
        have weights.
        """
        counts = count_cells(codes + 1, weight, len(keys) + 1)
        self.n_missing += counts[0].item()
        self.n_cells += len(codes) if weight is None else as_counts(weight.sum()).item()
        counts = counts[1:]
        if not counts.all():  # items that only the cut-off parts of sequences hold
            keys, counts = keys[counts > 0], counts[counts > 0]
        if not len(keys):
            return
        self.seen |= seen
        if self.kind is None:
            self.kind = keys.dtype.kind
            self.keys, self.counts = as_kind(keys, self.kind), counts
        else:
            if self.hashed:
                self.kind = max(self.kind, keys.dtype.kind, key="ifO".index)
                # A copy: see `twins`.
                buckets = self.counts.astype(np.result_type(self.counts, counts))
                np.add.at(buckets, hash_buckets(keys, self.n_hash_buckets), counts)
                self.counts = as_counts(buckets)
                return
            wider = wider_kind(self.keys, keys)
            both = np.concatenate([as_kind(self.keys, wider), as_kind(keys, wider)])
            where, self.keys = pd.factorize(both)
            both_counts = np.concatenate([self.counts, counts])
            total = np.zeros(len(self.keys), both_counts.dtype)
            np.add.at(total, where, both_counts)
            self.kind, self.counts = wider, as_counts(total)
        if self.hash_threshold is not None and len(self.keys) > self.hash_threshold:
            self._hash()

    def _hash(self):
        """Count buckets from here on."""
        buckets = np.zeros(self.n_hash_buckets, self.counts.dtype)
        if len(self.keys):
            np.add.at(buckets, hash_buckets(self.keys, self.n_hash_buckets), self.counts)
        self.hashed, self.counts, self.keys = True, buckets, np.zeros(0, object)

    def twin(self):
        """A counter that counts on without changing this one: arrays are replaced, not written."""
        twin = object.__new__(type(self))
        twin.__dict__ = dict(vars(self))
        return twin

    def merge(self, other):
        """Count what another counter has counted, but for its missing cells."""
        if not other.hashed:
            self.add(np.arange(len(other.keys)), other.keys, other.seen, other.counts)
            return
        if not self.hashed:
            self._hash()
        kinds = [kind for kind in (self.kind, other.kind) if kind is not None]
        self.kind = max(kinds, key="ifO".index)
        self.seen |= other.seen
        self.counts = as_counts(self.counts + other.counts)
        self.n_cells += other.n_cells - other.n_missing

    def _distinct(self):
        """Values and counts with every spelling of true and false as one, where the column held
        booleans.
        """
        if self.keys.dtype != object or not len(self.keys):
            return self.keys, self.counts
        if self.seen & BOOLEANS:
            names = {True: "1", False: "0"}
        elif (
            len(self.keys) <= len(WORDS)
            and all(key in WORDS for key in self.keys)
            and len(self.keys) > 1
        ):
            if len({WORDS[key] for key in self.keys}) == len(self.keys):
                return self.keys, self.counts
            names = {True: "True", False: "False"}
        else:
            return self.keys, self.counts
        keys = self.keys.copy()
        for k in np.flatnonzero(pd.Index(keys, dtype=object).isin(list(WORDS))):
            keys[k] = names[WORDS[keys[k]]]
        where, keys = pd.factorize(keys)
        total = np.zeros(len(keys), self.counts.dtype)
        np.add.at(total, where, self.counts)
        return keys, total

    def vocabulary(self, min_frequency, max_categories):
        """The ids that follow from the counts so far; equal counts go by value, so not by the order
        of rows.
        """
        if self.hashed:
            counts = np.concatenate([[self.n_missing, 0], self.counts])
            return Vocabulary(self.keys, counts, self.kind, self.seen, self.n_hash_buckets)
        least = min_frequency * self.n_cells if isinstance(min_frequency, float) else min_frequency
        keys, all_counts = self._distinct()
        # Sums of weights are rounded; and 1 keeps every value, whatever it weighs.
        if all_counts.dtype.kind == "f":
            least = 0 if min_frequency == 1 else least * (1 - 1e-12)
        frequent = np.flatnonzero(all_counts >= least)
        order = frequent[_value_order(keys[frequent])]
        order = order[np.argsort(-all_counts[order], kind="stable")][:max_categories]
        counts = all_counts[order]
        rare = (all_counts.sum() - counts.sum()).item() if len(counts) < len(all_counts) else 0
        return Vocabulary(
            keys[order], np.concatenate([[self.n_missing, rare], counts]), self.kind, self.seen
        )

    def __getstate__(self):
        return (
            {**self.__dict__, "keys": pack(self.keys)}
            if self.keys.dtype == object
            else self.__dict__
        )

    def __setstate__(self, state):
        self.__dict__.update(state)
        if isinstance(self.keys, tuple):
            self.keys = unpack(*self.keys)


def _value_order(keys):
    if keys.dtype != object:
        return np.argsort(keys, kind="stable")
    # Twice as fast as argsort of an object array.
    return np.fromiter(sorted(range(len(keys)), key=keys.tolist().__getitem__), np.int64, len(keys))
