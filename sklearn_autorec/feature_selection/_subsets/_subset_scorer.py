"""Scoring subsets of columns by cross-validation, no subset twice."""

import hashlib
import time

import numpy as np
import pandas as pd
from sklearn.base import clone, is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.utils import Bunch
from sklearn.utils.parallel import Parallel, delayed

from ...utils._sklearn import safe_indexing


class StopSearch(Exception):
    """A search must end now; ``reason`` is what to warn of, or None where its evaluations are
    simply used up.
    """

    def __init__(self, reason=None):
        super().__init__(reason)
        self.reason = reason


def bitmask(mask):
    """A bool array (n_fields,) as a Python int whose bit f is field f."""
    return int.from_bytes(
        np.packbits(np.asarray(mask, bool), bitorder="little").tobytes(), "little"
    )


def bits_of(fields):
    """The `bitmask` of some positions."""
    return sum(1 << int(f) for f in fields)


def unpack(bits, n_fields):
    """The bool array of the lowest ``n_fields`` bits of a `bitmask`."""
    raw = np.frombuffer(
        (bits & (1 << n_fields) - 1).to_bytes((n_fields + 7) // 8, "little"), np.uint8
    )
    return np.unpackbits(raw, count=n_fields, bitorder="little").astype(bool)


def equal_columns(columns):
    """What each column repeats, int64 (n_fields,): the first one equal to it in all rows, -1 if it
    has a single value.

    Missing counts as a value. Columns of lists are taken to be like no other.
    """
    twins, seen = np.arange(len(columns)), {}
    for f, column in enumerate(columns):
        try:
            codes, values = pd.factorize(column, use_na_sentinel=False)
        except (TypeError, NotImplementedError):  # lists have no hash
            continue
        if len(values) < 2:
            twins[f] = -1
            continue
        alike = seen.setdefault(hashlib.blake2b(codes.tobytes()).digest(), [])
        same = [g for g in alike if pd.Series(columns[g]).equals(pd.Series(column))]
        if same:
            twins[f] = same[0]
        else:
            alike.append(f)
    return twins


def score_fold(estimator, scorer, X, y, train, test, fit_params, score_params):
    """Fit a clone on the rows ``train`` and score it on the rows ``test``."""
    model = clone(estimator)
    model.fit(safe_indexing(X, train), y[train], **rows_of(fit_params, train, len(y)))
    return float(
        scorer(model, safe_indexing(X, test), y[test], **rows_of(score_params, test, len(y)))
    )


def try_fold(*task):
    """(score, None) of `score_fold`, or (NaN, what went wrong)."""
    try:
        score = score_fold(*task)
    except Exception as error:
        return np.nan, f"{type(error).__name__}: {error}"
    return score, "the score is NaN" if np.isnan(score) else None


def rows_of(params, rows, n):
    """Metadata of the given rows; what is not one entry per row is handed on as it is."""
    per_row = {k: v is not None and np.ndim(v) > 0 and len(v) == n for k, v in params.items()}
    return {k: safe_indexing(v, rows) if per_row[k] else v for k, v in params.items()}


class SubsetScorer:
    """Mean score over fixed folds of an estimator that sees some columns only; no subset is fitted
    twice.

    A column of a single value, and one that equals a chosen one in all rows, is left out of what is
    fitted: subsets that differ in such columns only are one.

    Parameters
    ----------
    estimator : estimator
        Cloned for every fit.
    scorer : callable
    X : table (n_rows, n_fields)
    y : ndarray (n_rows,)
    splits : list of (train, test)
        Row positions of the folds, the same for all subsets.
    twins : int ndarray (n_fields,)
        See `equal_columns`.
    max_evaluations : int or None
    max_time : float or None
        Seconds, counted from here.
    n_jobs : int or None
        Processes that share the fits of a call, subsets times folds.
    params : Bunch of dict
        Metadata for "fit" and "score"; arrays with one entry per row are cut to the rows of each
        fit.

    Attributes
    ----------
    distinct : bool ndarray (n_fields,)
        Columns that are neither of a single value nor equal to an earlier one.
    no_fields : float
        Score of a constant prediction, of a dummy estimator; it counts as no evaluation.
    history : list of dict
        One record per subset that was fitted, in order: "evaluation" (from 1), "subset" (tuple of
        positions), "score".
    failures : list of str
        What went wrong in subsets that could not be fitted; their score in ``history`` is NaN.
    on_evaluation : callable () -> bool
        Called after each subset; the search ends if it is true.
    """

    def __init__(
        self,
        estimator,
        scorer,
        X,
        y,
        splits,
        twins,
        *,
        max_evaluations=None,
        max_time=None,
        n_jobs=None,
        params=None,
    ):
        self.estimator, self.scorer, self.X, self.y, self.splits, self.twins = (
            estimator,
            scorer,
            X,
            y,
            splits,
            twins,
        )
        self.max_evaluations, self.n_jobs = max_evaluations, n_jobs
        self.max_time, self._start = max_time, time.monotonic()
        self.params = params or Bunch(fit={}, score={})
        self.n_fields = len(twins)
        self.distinct = twins == np.arange(self.n_fields)
        self.everything = bitmask(self.distinct)
        self.history: list[dict] = []
        self.failures: list[str] = []
        self._fitted: list[int] = []
        self.no_fields = self._no_fields()
        self._scores = {0: self.no_fields}
        self.on_evaluation = lambda: False

    def _no_fields(self):
        dummy = DummyClassifier() if is_classifier(self.estimator) else DummyRegressor()
        nothing = np.zeros((len(self.y), 1))
        folds = [
            score_fold(dummy, self.scorer, nothing, self.y, train, test, {}, self.params.score)
            for train, test in self.splits
        ]
        return float(np.mean(folds))

    def canonical(self, bits):
        """The subset that is fitted for this one."""
        if bits | self.everything == self.everything:
            return bits
        firsts = self.twins[unpack(bits, self.n_fields)]
        return bits_of(set(firsts[firsts >= 0].tolist()))

    def known(self, bits):
        """The score of a subset, or NaN if it was never fitted."""
        return self._scores.get(self.canonical(bits), np.nan)

    def __call__(self, subsets):
        """Scores of subsets given as bitmasks, ndarray (n_subsets,); of one that cannot be fitted
        that of no columns.

        Raises
        ------
        StopSearch
            If the budget does not reach for all of them; those it reaches for are in ``history``.
        ValueError
            If the first score of all is not a number. What is raised by the first fit is not caught
            either.
        """
        subsets = [self.canonical(bits) for bits in subsets]
        new = [bits for bits in dict.fromkeys(subsets) if bits not in self._scores]
        room = (
            len(new) if self.max_evaluations is None else self.max_evaluations - len(self.history)
        )
        # On its own each subset is kept as soon as it is there.
        together = 1 if self.n_jobs in (None, 1) else len(new)
        self._check_time()
        for start in range(0, min(room, len(new)), max(together, 1)):
            self._check_time()
            self._evaluate(new[start : min(start + together, room)])
        if room < len(new):
            raise StopSearch()
        return np.array([self._scores[bits] for bits in subsets])

    def _check_time(self):
        if (
            self.history
            and self.max_time is not None
            and time.monotonic() - self._start > self.max_time
        ):
            raise StopSearch(f"max_time={self.max_time} seconds were used up")

    def _tasks(self, bits):
        """Arguments of `score_fold` for every fold of a subset."""
        table = safe_indexing(self.X, np.flatnonzero(unpack(bits, self.n_fields)), axis=1)
        fit, score = self.params.fit, self.params.score
        return [
            (self.estimator, self.scorer, table, self.y, train, test, fit, score)
            for train, test in self.splits
        ]

    def _record(self, bits):
        """What the history tells of a subset."""
        return {"subset": tuple(np.flatnonzero(unpack(bits, self.n_fields)).tolist())}

    def _evaluate(self, subsets):
        tasks = [task for bits in subsets for task in self._tasks(bits)]
        if not self.history:
            # What fails on the first subset is the caller's to see, not one bad subset among many.
            first = len(self.splits)
            found = [(score_fold(*task), None) for task in tasks[:first]]
            if np.isnan([score for score, _ in found]).any():
                raise ValueError(
                    "The score of the first subset is not a number: scoring must be defined on "
                    "the test rows of every "
                    f"fold, got {[score for score, _ in found]}."
                )
            tasks = tasks[first:]
        else:
            found = []
        found += Parallel(n_jobs=self.n_jobs)(delayed(try_fold)(*task) for task in tasks)
        stop = False
        for k, bits in enumerate(subsets):
            folds = found[k * len(self.splits) : (k + 1) * len(self.splits)]
            score = float(np.mean([score for score, _ in folds]))
            self._scores[bits] = self.no_fields if np.isnan(score) else score
            self._fitted.append(bits)
            self.history.append(
                {"evaluation": len(self.history) + 1, **self._record(bits), "score": score}
            )
            self.failures += [error for _, error in folds if error is not None][:1]
            stop |= bool(self.on_evaluation())
        if stop:
            raise StopSearch("a callback stopped the search")

    def best(self, size=None):
        """The best fitted subset (of ``size`` fields), None without one; of equals the smaller,
        then the earlier.
        """
        found = [
            (record["score"], -len(record["subset"]), bits)
            for bits, record in zip(self._fitted, self.history, strict=True)
            if not np.isnan(record["score"]) and (size is None or len(record["subset"]) == size)
        ]
        return max(found, key=lambda entry: entry[:2])[2] if found else None

    def top(self, scores, size, chosen=0):
        """``chosen`` and the fields of the highest scores, ``size`` in all.

        Of equal columns the first stands for all; what would be left out of a fit comes last.
        """
        order = np.argsort(-scores, kind="stable")
        firsts = self.twins[order]
        for f in [*firsts[firsts >= 0].tolist(), *order.tolist()]:
            if chosen.bit_count() == size:
                break
            chosen |= 1 << f
        return chosen


def mean_difference(history, n_fields):
    """Mean score of the subsets that hold a field less that of those that do not, (n_fields,); 0 if
    either is missing.
    """
    history = [record for record in history if not np.isnan(record["score"])]
    held = np.zeros((len(history), n_fields))
    for row, record in zip(held, history, strict=True):
        row[list(record["subset"])] = 1
    scores = np.array([r["score"] for r in history])
    n = held.sum(0)
    tried = (n > 0) & (n < len(history))
    with_it = np.divide(scores @ held, n, where=n > 0, out=np.zeros(n_fields))
    without = np.divide(
        scores @ (1 - held), len(scores) - n, where=n < len(scores), out=np.zeros(n_fields)
    )
    return np.where(tried, with_it - without, 0.0)
