"""The crossed linear model on encoded tables: one weight per value, bin and combination of values."""

from types import SimpleNamespace

import numpy as np

from ..feature_crossing._combinations import combine
from ..feature_crossing._cross_search import CrossSearch
from ..feature_crossing._fieldwise import AdditiveModel, row_loss
from ..feature_crossing._preparing import split_rows
from ._codes import FieldCodes

GRANULARITIES = (5, 20, 100)  # of the bins of numbers, the best by itself is taken
MIN_COUNT = 2  # rows of a combination that has a weight


class Lookup:
    """Places of the combinations of some fields: 0 unseen, 1.. known ones.

    Parameters
    ----------
    key : tuple of int
        Positions of the fields.
    sizes : list of int
        Numbers of codes of these fields.
    known : int64 ndarray of shape (n_known,)
        Rising; see `combine`.
    """

    DENSE = 2**16  # so many possible combinations are looked up in an array

    def __init__(self, key, sizes, known):
        self.key, self.sizes, self.known = tuple(key), list(sizes), known
        self._dense = self._few = None

    @classmethod
    def learned(cls, key, sizes, columns, min_count=1):
        """Of the combinations with so many rows, and the places of these rows."""
        distinct, groups, counts = np.unique(
            combine([columns[i] for i in key], sizes), return_inverse=True, return_counts=True
        )
        kept = counts >= min_count
        return cls(key, sizes, distinct[kept]), np.where(kept, np.cumsum(kept), 0)[groups]

    def places(self, columns):
        """Place of each row, int ndarray (n_rows,)."""
        keys = combine([columns[i] for i in self.key], self.sizes)
        if self._dense is None:
            span = int(np.prod([float(s) for s in self.sizes]))
            dense = np.zeros(span if span <= self.DENSE else 0, np.int64)
            if len(dense):
                dense[self.known] = np.arange(1, len(self.known) + 1)
            self._dense = dense
        if len(self._dense):
            return self._dense[keys]
        if not len(self.known):
            return np.zeros(len(keys), np.int64)
        at = np.searchsorted(self.known, keys)
        at[at == len(self.known)] = 0
        return np.where(self.known[at] == keys, at + 1, 0)

    def __getstate__(self):
        return {**self.__dict__, "_dense": None, "_few": None}


class CrossedLinear:
    """Logistic or linear regression on single fields and on crosses that AutoCross' search finds.

    Weights are fitted field by field with penalties estimated from the spread of their gradients.

    Parameters
    ----------
    logistic : bool
    max_crosses, max_order : int
    n_folds : int or "auto"
        See `AutoCross`.

    Attributes
    ----------
    codes : FieldCodes
    lookups : list of Lookup
        One a term: fields, then crosses.
    weights : list of float64 ndarray
        Of the places of each term.
    bias : float
    """

    def __init__(self, logistic, *, max_crosses=10, max_order=4, n_folds="auto"):
        self.logistic, self.max_crosses, self.max_order, self.n_folds = logistic, max_crosses, max_order, n_folds

    def fit(self, table, n_ids, y, weight=None, *, rng, valid=None, like=None):
        """Search crosses, fit weights; with ``like``, a model of fewer rows, its bins and crosses are taken over."""
        y = np.asarray(y, dtype=np.float64)
        if like is None:
            self.codes, crosses = self._search(table, n_ids, y, rng)
        else:
            self.codes, crosses = like.codes, [lookup.key for lookup in like.lookups if len(lookup.key) > 1]
        columns, sizes = self.codes.columns(table), self.codes.sizes
        keys = [*((i,) for i in range(len(columns))), *crosses]
        model, self.lookups = AdditiveModel(y, len(y), self.logistic), []
        for key in keys:
            lookup, places = Lookup.learned(key, [sizes[i] for i in key], columns, MIN_COUNT if len(key) > 1 else 1)
            self.lookups.append(lookup)
            model = model.extended(places, 1 + len(lookup.known))
        model.fit()
        self.weights = [np.array(w) for w in model.weights]
        self.bias = float(model.eta[0] - sum(w[f[0]] for w, f in zip(model.weights, model.fields, strict=True)))
        for w in self.weights:
            w[0] = 0.0
        return self

    def _search(self, table, n_ids, y, rng):
        rows, folds = split_rows(y, self.logistic, self.n_folds, 0.2, rng)
        n_train, target = folds[0].start, y[rows]
        options = [FieldCodes.learned(table, n_ids, n) for n in GRANULARITIES]
        columns = [codes.columns(table) for codes in options]
        edges = []
        for j in range(len(options[0].edges)):
            at = len(n_ids) + j
            losses = []
            for codes, found in zip(options, columns, strict=True):
                model = AdditiveModel(target, n_train, self.logistic).extended(found[at][rows], codes.sizes[at]).fit()
                losses.append(row_loss(target[n_train:], model.eta[n_train:], self.logistic).mean())
            edges.append(options[int(np.argmin(losses))].edges[j])
        codes = FieldCodes.of_edges(edges, n_ids)
        ids = {j: column[rows] for j, column in enumerate(codes.columns(table)) if (column != column[0]).any()}
        search = CrossSearch(
            ids,
            {j: codes.sizes[j] for j in ids},
            target,
            folds,
            SimpleNamespace(
                max_crosses=self.max_crosses, max_order=self.max_order, beam_width=1, scoring="log_loss",
                min_gain="auto", l2="auto", n_blocks="auto",
            ),
            self.logistic,
        )
        best, _ = search.run()
        return codes, list(best.crosses)

    def logits(self, table):
        """Logits (or numbers) of the rows, float64 (n_rows,)."""
        columns = self.codes.columns(table)
        total = np.full(len(table), self.bias)
        for lookup, weights in zip(self.lookups, self.weights, strict=True):
            total += weights[lookup.places(columns)]
        return total
