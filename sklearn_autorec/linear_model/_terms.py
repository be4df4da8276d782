"""Terms of the model: which weight each row has of each field and of each cross."""

from bisect import bisect_right

import numpy as np

from ..feature_crossing._combinations import combine
from ..feature_crossing._reading import bin_edges, bins_of
from ..preprocessing._vocabulary import FIRST, MISSING

TABLE_SIZE = 2**20  # combinations up to so many are looked up in an array
FEW_ROWS = 4  # up to so many rows are read value by value


class _Identity:
    """Edges are wanted on the scale of the scores themselves."""

    @staticmethod
    def scale_values(values):
        return values


def score_edges(scores, missing, weight, n_bins):
    """Scores between which a numeric field is cut, rising, from encoded scores (n_rows,) and their
    weights.

    Works on any scale that keeps the order of the values.
    """
    present = ~missing
    values, where = np.unique(scores[present].astype(np.float64), return_inverse=True)
    counts = np.bincount(where, None if weight is None else weight[present], len(values))
    return bin_edges(values, counts, _Identity, n_bins) if len(values) else np.zeros(0)


class CategoricalTerm:
    """One weight for each id of the categorical field ``field``."""

    def __init__(self, field, size):
        self.field, self.size = field, size

    def ids(self, table):
        return table.ids[:, self.field]

    def id_of_row(self, ids, numeric, sequences):
        return ids[self.field]


class NumericTerm:
    """One weight for each bin of the numeric field ``field`` (of ``n_fields``)."""

    def __init__(self, field, n_fields, edges):
        self.field, self.n_fields, self.edges = field, n_fields, edges
        self.size = FIRST + len(edges) + 1
        self._cuts = edges.tolist()

    def ids(self, table):
        return bins_of(
            table.numeric[:, self.field],
            table.numeric[:, self.n_fields + self.field] > 0,
            self.edges,
        )

    def id_of_row(self, ids, numeric, sequences):
        if numeric[self.n_fields + self.field] > 0:
            return MISSING
        return FIRST + bisect_right(self._cuts, numeric[self.field])


class SequenceTerm:
    """One weight for each item of the sequence field ``field``; id 0 is a row without items, the
    last id an empty place.
    """

    def __init__(self, field, max_length, n_ids):
        self.places = slice(field * max_length, (field + 1) * max_length)
        self.field, self.max_length, self.size = field, max_length, n_ids + 1

    def ids(self, table):
        items = table.sequences[:, self.places]
        found = np.where(items == MISSING, np.int32(self.size - 1), items)
        found[:, 0] = items[:, 0]
        return found

    def ids_of_row(self, sequences):
        items = sequences[self.places]
        return [items[0], *(item if item != MISSING else self.size - 1 for item in items[1:])]


class CrossTerm:
    """One weight for each known combination of the ids of other terms; id 0 is an unseen or rare
    one.

    Parameters
    ----------
    parts : tuple of CategoricalTerm or NumericTerm
    fields : tuple of int
        Their positions among the categorical, then numeric fields.
    keys : int64 ndarray of shape (n_combinations,)
        Rising; see `combine`.
    """

    def __init__(self, parts, fields, keys):
        self.parts, self.fields, self.keys = parts, fields, keys
        self.sizes = [part.size for part in parts]
        self.size = 1 + len(keys)
        self._table = self._dict = None

    @classmethod
    def learned(cls, parts, fields, table, weight, min_count):
        """One of the combinations that have a weight of ``min_count`` rows or more."""
        keys = combine([part.ids(table) for part in parts], [part.size for part in parts])
        distinct, where = np.unique(keys, return_inverse=True)
        counts = np.bincount(where, weight, len(distinct))
        return cls(parts, fields, distinct[counts >= min_count])

    def __getstate__(self):
        return {**self.__dict__, "_table": None, "_dict": None}

    def ids(self, table):
        keys = combine([part.ids(table) for part in self.parts], self.sizes)
        n_keys = int(np.prod([float(size) for size in self.sizes]))
        if n_keys <= TABLE_SIZE:
            if self._table is None:
                by_key = np.zeros(n_keys, np.int32)
                by_key[self.keys] = np.arange(1, self.size, dtype=np.int32)
                self._table = by_key
            return self._table[keys]
        if not len(self.keys):
            return np.zeros(len(keys), np.int32)
        at = np.searchsorted(self.keys, keys)
        at[at == len(self.keys)] = 0
        return np.where(self.keys[at] == keys, at + 1, 0).astype(np.int32)

    def id_of_row(self, ids, numeric, sequences):
        if self._dict is None:
            self._dict = dict(zip(self.keys.tolist(), range(1, self.size), strict=True))
        values = [part.id_of_row(ids, numeric, sequences) for part in self.parts]
        key, n_keys = 0, 1
        for value, size in zip(values, self.sizes, strict=True):
            key, n_keys = key * size + value, n_keys * size
        if n_keys > 2**62:
            key = int(combine([np.array([value]) for value in values], self.sizes)[0])
        return self._dict.get(key, 0)


class Terms:
    """All terms, and where the weights of each begin in the one vector of weights; weight 0 is that
    of an empty place.

    Parameters
    ----------
    terms : list
    """

    def __init__(self, terms):
        self.terms = terms
        self.offsets = np.cumsum([1, *(term.size for term in terms)])
        self.n_weights = int(self.offsets[-1])
        self._starts = self.offsets.tolist()

    def term_ids(self, table):
        """int32 ndarray of shape (n_rows, n_terms), positions in the vector of weights; several
        places for each sequence.
        """
        columns = self.columns(table)
        return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), np.int32)

    def columns(self, table):
        """The columns of `term_ids`, a list of int ndarrays (n_rows,)."""
        if len(table) <= FEW_ROWS:
            return list(self._few(table).T)
        found = []
        for term, start in zip(self.terms, self._starts, strict=False):
            ids = term.ids(table)
            if isinstance(term, SequenceTerm):
                ids = np.where(ids == term.size - 1, np.int32(0), ids + np.int32(start))
                found.extend(ids.T)
            else:
                found.append(ids + np.int32(start))
        return found

    def _few(self, table):
        return np.array([self.of_row(table, k) for k in range(len(table))], np.int32)

    def of_row(self, table, k):
        """Row k of `term_ids`, a list of int."""
        ids, numeric, sequences = (
            table.ids[k].tolist(),
            table.numeric[k].tolist(),
            table.sequences[k].tolist(),
        )
        found = []
        for term, start in zip(self.terms, self._starts, strict=False):
            if isinstance(term, SequenceTerm):
                places = term.ids_of_row(sequences)
                found += [start + item if item != term.size - 1 else 0 for item in places]
            else:
                found.append(start + term.id_of_row(ids, numeric, sequences))
        return found

    def term_of_places(self):
        """For each column of `term_ids` the number of its term, a list."""
        found = []
        for j, term in enumerate(self.terms):
            found += [j] * (term.max_length if isinstance(term, SequenceTerm) else 1)
        return found
