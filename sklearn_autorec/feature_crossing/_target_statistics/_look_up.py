"""Statistics looked up for new rows."""

import math

import numpy as np

from ...preprocessing._vocabulary import UNKNOWN
from .._combinations import RADIX_LIMIT

FEW_ROWS = 16  # up to so many rows, combinations are looked up in dictionaries


# A table over all possible combinations may be so many times longer than the seen ones.
DENSE_FACTOR = 8


DENSE_LEAST = 4096


class _LookUp:
    """Tables made for speed from fitted `Statistics`: all keys' features in one array, reached by
    places.

    The places of a key begin with that of unseen combinations.
    """

    def __init__(self, statistics):
        s = statistics
        self.sizes = np.array(s.sizes, dtype=np.int64)[:, None]
        prior = s.prior.astype(np.float32)[None]
        means, log_counts, self.starts, start = [], [], [], 0
        for found, counts in zip(s.means, s.counts, strict=True):
            means += [prior, found]
            log_counts += [
                np.zeros(1, np.float32),
                np.log1p(counts.astype(np.float64)).astype(np.float32),
            ]
            self.starts.append(start)
            start += 1 + len(counts)
        self.means = np.concatenate(means) if means else prior
        self.log_counts = np.concatenate(log_counts) if means else np.zeros(1, np.float32)
        self.combinations = [c.astype(np.int64) for c in s.combinations]
        self.spans = [math.prod(s.sizes[i] for i in key) for key in s.keys]
        self.dense = [None] * len(s.keys)
        self.dictionaries = None
        self._prepare_few(s)

    def _prepare_few(self, s):
        """Columns and factors of each key, padded with factors of 0."""
        self.radix = all(span <= RADIX_LIMIT for span in self.spans) and bool(s.keys)
        if not self.radix:
            return
        order = max(map(len, s.keys))
        self.columns = np.zeros((len(s.keys), order), np.int64)
        self.factors = np.zeros((len(s.keys), order, 1), np.int64)
        for j, key in enumerate(s.keys):
            factor = 1
            for at in reversed(range(len(key))):
                self.columns[j, at], self.factors[j, at] = key[at], factor
                factor *= s.sizes[key[at]]

    def places(self, j, combined):
        """Places (n_rows,) of combinations of a key."""
        seen, span = self.combinations[j], self.spans[j]
        if span <= max(DENSE_FACTOR * len(seen), DENSE_LEAST):
            if self.dense[j] is None:
                table = np.full(span, self.starts[j], np.int64)
                table[seen] = self.starts[j] + 1 + np.arange(len(seen))
                self.dense[j] = table
            return self.dense[j][combined]
        at = np.searchsorted(seen, combined)
        at[at == len(seen)] = 0
        return np.where(seen[at] == combined, self.starts[j] + 1 + at, self.starts[j])

    def places_of_few(self, codes):
        """Places (n_rows, n_keys) of a few rows, given codes (n_columns, n_rows); None where hashes
        are needed.
        """
        if not self.radix:
            return None
        if self.dictionaries is None:
            self.dictionaries = [
                dict(zip(seen.tolist(), range(start + 1, start + 1 + len(seen)), strict=True)).get
                for seen, start in zip(self.combinations, self.starts, strict=True)
            ]
        codes = np.where(codes < self.sizes, codes, UNKNOWN)
        combined = (codes[self.columns] * self.factors).sum(1).T
        rows = [
            [
                find(value, start)
                for find, value, start in zip(self.dictionaries, row, self.starts, strict=True)
            ]
            for row in combined.tolist()
        ]
        return np.array(rows, dtype=np.int64).reshape(codes.shape[1], len(self.starts))

    def features(self, places):
        """Means of all keys, then log counts: float32 (n_rows, n_keys * (n_targets + 1))."""
        n, k = places.shape
        return np.hstack(
            [self.means[places].reshape(n, k * self.means.shape[1]), self.log_counts[places]]
        )
