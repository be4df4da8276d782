"""The crossed linear model on encoded tables."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from ..feature_crossing._autocross._fieldwise import AdditiveModel, row_loss
from ..feature_crossing._autocross._preparing import MIN_ROWS, split_rows
from ..feature_crossing._reading import bins_of
from ._search import ScreenedSearch
from ._terms import (
    FEW_ROWS,
    CategoricalTerm,
    CrossTerm,
    NumericTerm,
    SequenceTerm,
    Terms,
    score_edges,
)

N_PARTS = 5  # in which rows are held out in turn
WEIGHTED_TOL = 1e-7  # change of the loss a unit of weight at which the last fit ends
SWEEPS = 200


@dataclass(frozen=True)
class CrossedLinearOptions:
    """What the search and the fit are asked for; see `CrossedLinearClassifier`."""

    max_crosses: int = 10
    max_order: int = 4
    n_bins: tuple = (5, 20, 100)
    min_count: float = 2
    l2: object = "auto"
    min_gain: object = "auto"
    n_folds: object = "auto"


class CrossedLinear:
    """A linear model of the fields of an `EncodedTable` and of crosses of them.

    ``logits = bias + weights[:, term_ids(table)].sum(-1)``: one weight for each value, bin of a
    number, item of a sequence and combination of a cross.

    Parameters
    ----------
    options : CrossedLinearOptions

    Attributes
    ----------
    crosses : list of tuple of int
        Fields of each cross: positions among categorical fields, then numeric ones.
    gains : list of float
        What each gained in the loss of held-out rows when it came in.
    terms : Terms
    weights : float64 ndarray of shape (n_outputs, n_weights)
        In the unit of the logits, or of the target.
    bias : float64 ndarray of shape (n_outputs,)
    rows : ndarray of shape (n_weights,)
        Training rows (sums of their weights) of each weight.
    penalties : float64 ndarray of shape (n_outputs, n_terms)
        Of the squared weights; estimated ones are one over the variance of the weights of a term.
        Numbers have one for each granularity, of which here stands the least.
    n_outputs : int
    """

    def __init__(self, options=None):
        self.options = options or CrossedLinearOptions()

    # fit
    # ----------------------------------------------------------------------------------------------

    def fit(self, table, encoder, y, weight=None, logistic=True, random_state=None):
        """Search for crosses and fit the weights.

        Parameters
        ----------
        table : EncodedTable
        encoder : FieldEncoder
            Which encoded the table; only sizes are read.
        y : float64 ndarray of shape (n_rows,) or (n_rows, n_outputs)
            0/1 (several columns: one of them against the rest) or numbers.
        weight : float64 ndarray of shape (n_rows,), default=None
            How often each row counts; 0 is the same as leaving it out.
        logistic : bool, default=True
        random_state : int, RandomState or None, default=None

        Returns
        -------
        self
        """
        if weight is not None:
            kept = weight > 0
            if not kept.all():
                table, y, weight = table.take(kept), y[kept], weight[kept]
            if (weight == 1).all():
                weight = None
        targets = y.reshape(len(y), -1).astype(np.float64)
        self.logistic, self.n_outputs = logistic, targets.shape[1]
        targets, centres, units = self._standardised(targets, weight)
        self._learn_fields(table, encoder, weight)
        found = [self._search(table, target, weight, random_state) for target in targets.T]
        self._learn_crosses(found, table, weight)
        self._fit_weights(table, targets, weight)
        self.weights *= units[:, None]
        self.bias = self.bias * units + centres
        return self

    def _standardised(self, targets, weight):
        """Targets of mean 0 and variance 1, if they are numbers, and what they were."""
        n = targets.shape[1]
        if self.logistic:
            return targets, np.zeros(n), np.ones(n)
        centres = np.average(targets, axis=0, weights=weight)
        with np.errstate(over="ignore"):
            units = np.sqrt(np.average(np.square(targets - centres), axis=0, weights=weight))
        if not np.isfinite(units).all():
            raise ValueError(
                f"y must have a finite variance in float64, got values up to "
                f"{np.abs(targets).max():.3g}."
            )
        units[units == 0] = 1.0
        return (targets - centres) / units, centres, units

    def _learn_fields(self, table, encoder, weight):
        """Terms of the single fields and the granularities of numbers."""
        m = table.numeric.shape[1] // 2
        self.n_categorical, self.n_numeric = table.ids.shape[1], m
        self.sizes = [int(size) for size in encoder.n_ids_]
        self.sequence_sizes = [int(size) for size in encoder.sequence_n_ids_]
        self.max_length = table.sequences.shape[1] // max(len(self.sequence_sizes), 1)
        # Of each number, coarse to fine; all of their edges together are those of its term.
        self.granularities = [
            [
                score_edges(table.numeric[:, j], table.numeric[:, m + j] > 0, weight, n)
                for n in self.options.n_bins
            ]
            for j in range(m)
        ]

    def _single_terms(self, numeric_edges):
        fields = [CategoricalTerm(j, size) for j, size in enumerate(self.sizes)]
        fields += [NumericTerm(j, self.n_numeric, edges) for j, edges in enumerate(numeric_edges)]
        return fields

    def _levels(self, table):
        """Ids and sizes of all fields of the model that is fitted, numbers once for each
        granularity: list of lists by term.
        """
        found = [[(table.ids[:, j].astype(np.intp), size)] for j, size in enumerate(self.sizes)]
        for j, options in enumerate(self.granularities):
            scores, missing = table.numeric[:, j], table.numeric[:, self.n_numeric + j] > 0
            found.append(
                [
                    (bins_of(scores, missing, edges).astype(np.intp), NumericTerm(j, 1, edges).size)
                    for edges in _distinct(options)
                ]
            )
        for j, size in enumerate(self.sequence_sizes):
            term = SequenceTerm(j, self.max_length, size)
            found.append([(term.ids(table).astype(np.intp), term.size)])
        return found

    def _search(self, table, y, weight, random_state):
        """Crosses and their gains, and the number's granularity in crosses, for one target."""
        options = self.options
        edges = [granularity[0] for granularity in self.granularities]
        smallest = min(int((y > 0).sum()), int((y <= 0).sum())) if self.logistic else len(y)
        if smallest < MIN_ROWS or not options.max_crosses:
            return [], [], edges
        rows, folds = split_rows(y, self.logistic, options.n_folds, 1 / N_PARTS, random_state)
        table, y = table.take(rows), y[rows]
        weight = None if weight is None else weight[rows]
        n_train = folds[0].start
        edges = [self._best_edges(j, table, y, weight, n_train) for j in range(self.n_numeric)]
        base = [level for levels in self._levels(table) for level in levels]
        fields = self._single_terms(edges)
        ids = {i: term.ids(table).astype(np.int64) for i, term in enumerate(fields)}
        ids = {i: column for i, column in ids.items() if (column != column[0]).any()}
        sizes = {i: fields[i].size for i in ids}
        asked = SimpleNamespace(
            **{
                name: getattr(options, name)
                for name in ("max_crosses", "max_order", "l2", "min_gain")
            },
            beam_width=1,
            scoring="log_loss",
            n_blocks="auto",
        )
        best, _ = ScreenedSearch(
            base, ids, sizes, y, folds, asked, self.logistic, weight=weight
        ).run()
        return list(best.crosses), list(best.gains), edges

    def _best_edges(self, j, table, y, weight, n_train):
        """Edges of the granularity of a number that predicts held-out rows best by itself."""
        options = _distinct(self.granularities[j])
        if len(options) == 1:
            return options[0]
        scores, missing = table.numeric[:, j], table.numeric[:, self.n_numeric + j] > 0
        losses = []
        for edges in options:
            ids = bins_of(scores, missing, edges).astype(np.intp)
            model = AdditiveModel(y, n_train, self.logistic, self.options.l2, weight)
            model = model.extended(ids, NumericTerm(j, 1, edges).size).fit()
            held_out = row_loss(y[n_train:], model.eta[n_train:], self.logistic)
            losses.append(
                np.average(held_out, weights=None if weight is None else weight[n_train:])
            )
        return options[int(np.argmin(losses))]

    def _learn_crosses(self, found, table, weight):
        """Terms of the crosses of all targets: those that gain most, each once."""
        gains, edges_of = {}, {}
        for crosses, cross_gains, edges in found:
            for cross, gain in zip(crosses, cross_gains, strict=True):
                gains[cross] = gains.get(cross, 0.0) + gain
                edges_of.setdefault(cross, edges)
        self.crosses = sorted(gains, key=lambda cross: -gains[cross])[: self.options.max_crosses]
        if self.n_outputs == 1:  # in the order found
            self.crosses = [cross for cross in found[0][0] if cross in self.crosses]
        self.gains = [gains[cross] for cross in self.crosses]
        fine = [np.unique(np.concatenate(options)) for options in self.granularities]
        terms = self._single_terms(fine)
        terms += [
            SequenceTerm(j, self.max_length, size) for j, size in enumerate(self.sequence_sizes)
        ]
        for cross in self.crosses:
            parts = tuple(self._single_terms(edges_of[cross])[i] for i in cross)
            terms.append(CrossTerm.learned(parts, cross, table, weight, self.options.min_count))
        self.terms = Terms(terms)

    def _design(self, table):
        """Ids and sizes of all fields that are fitted, by term."""
        n_single = len(self.terms.terms) - len(self.crosses)
        crosses = [
            [(term.ids(table).astype(np.intp), term.size)] for term in self.terms.terms[n_single:]
        ]
        return [*self._levels(table), *crosses]

    def _additive(self, design, y, weight, n_train=None, tol=None):
        """The fitted `AdditiveModel` of one target."""
        model = AdditiveModel(y, n_train or len(y), self.logistic, self.options.l2, weight)
        # A fold without one of the classes.
        if self.logistic and not 0 < y[: model.n_train].mean() < 1:
            return model
        for levels in design:
            for ids, size in levels:
                model = model.extended(ids, size)
        return model.fit(tol, SWEEPS)

    def _fit_weights(self, table, targets, weight):
        design = self._design(table)
        total = len(targets) if weight is None else weight.sum()
        self.weights = np.zeros((self.n_outputs, self.terms.n_weights))
        self.bias = np.zeros(self.n_outputs)
        self.penalties = np.zeros((self.n_outputs, len(self.terms.terms)))
        etas = []
        for k, y in enumerate(targets.T):
            model = self._additive(design, y, weight, tol=WEIGHTED_TOL * total)
            self._take_over(k, design, model)
            etas.append(model.eta)
        self.rows = np.zeros(self.terms.n_weights)
        columns = self.terms.columns(table)
        for column in columns:
            self.rows += np.bincount(column, weight, self.terms.n_weights)
        self.rows[0] = 0
        # A weight without any row is that of what training has not seen: such values say nothing.
        self.weights[:, self.rows == 0] = 0.0
        if weight is None and len(targets) * self.max_length < 2**31:
            self.rows = self.rows.astype(np.uint32)
        self._place_bias(columns, etas)

    def _take_over(self, k, design, model):
        """Weights of a fitted `AdditiveModel` in the one vector; those of the granularities of a
        number add up.
        """
        at = 0
        for t, (levels, term) in enumerate(zip(design, self.terms.terms, strict=True)):
            start = self.terms.offsets[t]
            for level in range(len(levels)):
                weights = model.weights[at]
                if isinstance(term, NumericTerm):
                    edges = _distinct(self.granularities[t - self.n_categorical])[level]
                    weights = weights[_coarse_ids(term.edges, edges)]
                self.weights[k, start : start + len(weights)] += weights
                at += 1
            self.penalties[k, t] = min(model.penalties[at - len(levels) : at])

    def _place_bias(self, columns, etas):
        """The intercept is what the sums of the weights leave of the logits that the fit
        has kept.
        """
        for k, eta in enumerate(etas):
            logits = np.zeros(len(eta))
            for column in columns:
                logits += self.weights[k].take(column)
            self.bias[k] = float((eta - logits).mean())

    # predict
    # -------------------------------------------------------------------------------------------

    def term_ids(self, table):
        """int32 ndarray of shape (n_rows, n_places): positions in the vectors of weights; 0 is an
        empty place of a sequence.
        """
        return self.terms.term_ids(table)

    def logits(self, table):
        """float64 ndarray of shape (n_rows,), or (n_rows, n_outputs) if there are several; of
        numbers: predictions.

        A row has the same bits alone and in any batch.
        """
        out = np.empty((self.n_outputs, len(table)))
        # Calls of numpy would take longer than the sums, which are the same.
        if len(table) <= FEW_ROWS:
            for i in range(len(table)):
                ids = self.terms.of_row(table, i)
                for k in range(self.n_outputs):
                    total, weight_of = float(self.bias[k]), self.weights[k].item
                    for place in ids:
                        total += weight_of(place)
                    out[k, i] = total
            return out[0] if self.n_outputs == 1 else np.ascontiguousarray(out.T)
        columns = self.terms.columns(table)
        for weights, bias, row in zip(self.weights, self.bias, out, strict=True):
            row[:] = bias
            for column in columns:
                row += weights.take(column)
        return out[0] if self.n_outputs == 1 else np.ascontiguousarray(out.T)

    def held_out_logits(self, table, y, parts, weight=None):
        """Logits of each row by a model fitted without the rows of its part.

        Bins and crosses are those found on all rows; weights and penalties are fitted anew for each
        part.

        Parameters
        ----------
        table, y, weight : as of ``fit``
        parts : int ndarray of shape (n_rows,)
            Rows of the same number are held out together. Contiguous parts are wrong for ordered
            tables: shuffle, or let a single later part be held out (negative numbers are in all
            fits and get NaN).

        Returns
        -------
        float64 ndarray of shape (n_rows,) or (n_rows, n_outputs)
        """
        weight = np.ones(len(table)) if weight is None else weight
        targets = y.reshape(len(y), -1).astype(np.float64)
        out = np.full(targets.shape, np.nan)
        design = self._design(table)
        for part in np.unique(parts[parts >= 0]):
            order = np.concatenate(
                [np.flatnonzero((parts != part) & (weight > 0)), np.flatnonzero(parts == part)]
            )
            n_train = int(((parts != part) & (weight > 0)).sum())
            if not n_train:
                raise ValueError(
                    f"parts must leave rows of positive weight outside part {part}, got none."
                )
            arranged = [[(ids[order], size) for ids, size in levels] for levels in design]
            known, centres, units = self._standardised(
                targets[order][:n_train], weight[order][:n_train]
            )
            for k in range(targets.shape[1]):
                y_k = np.concatenate([known[:, k], np.zeros(len(order) - n_train)])
                model = self._additive(arranged, y_k, weight[order], n_train)
                out[order[n_train:], k] = model.eta[n_train:] * units[k] + centres[k]
        return out[:, 0] if self.n_outputs == 1 else out


def _distinct(options):
    """Lists of edges, each once."""
    found = []
    for edges in options:
        if not any(len(edges) == len(other) and (edges == other).all() for other in found):
            found.append(edges)
    return found


def _coarse_ids(fine, coarse):
    """For each id of bins between fine edges the id of the bin between coarse edges that
    holds it.
    """
    inside = np.searchsorted(coarse, np.concatenate([[-math.inf], fine]), side="right")
    return np.concatenate([[0, 1], inside + 2])
