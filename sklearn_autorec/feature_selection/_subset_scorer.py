"""Scoring subsets of columns by cross-validation, and what all selectors that do so share."""

import time
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.feature_selection import SelectorMixin
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch, check_random_state, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ..preprocessing._columns import read_columns
from ..utils._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_y,
    raise_for_params,
    routing_enabled,
    safe_indexing,
    validate_parameters,
)


class StopSearch(Exception):
    """A search must end now; ``reason`` is what to warn of, or None where its evaluations are simply used up."""

    def __init__(self, reason=None):
        super().__init__(reason)
        self.reason = reason


def bitmask(mask):
    """A bool array (n_fields,) as a Python int whose bit f is field f."""
    return int.from_bytes(np.packbits(np.asarray(mask, bool), bitorder="little").tobytes(), "little")


def unpack(bits, n_fields):
    """The bool array of a `bitmask`."""
    raw = np.frombuffer(bits.to_bytes((n_fields + 7) // 8, "little"), np.uint8)
    return np.unpackbits(raw, count=n_fields, bitorder="little").astype(bool)


def score_fold(estimator, scorer, X, y, train, test, fit_params, score_params):
    """Fit a clone on the rows ``train`` and score it on the rows ``test``."""
    model = clone(estimator)
    model.fit(safe_indexing(X, train), y[train], **rows_of(fit_params, train, len(y)))
    return float(scorer(model, safe_indexing(X, test), y[test], **rows_of(score_params, test, len(y))))


def rows_of(params, rows, n):
    """Metadata of the given rows; what is not one entry per row is handed on as it is."""
    per_row = {k: v is not None and np.ndim(v) > 0 and len(v) == n for k, v in params.items()}
    return {k: safe_indexing(v, rows) if per_row[k] else v for k, v in params.items()}


class SubsetScorer:
    """Mean score over fixed folds of an estimator that sees some columns only; no subset is fitted twice.

    Parameters
    ----------
    estimator : estimator
        Cloned for every fit.
    scorer : callable
    X : table (n_rows, n_fields)
    y : ndarray (n_rows,)
    splits : list of (train, test)
        Row positions of the folds, the same for all subsets.
    max_evaluations : int or None
    max_time : float or None
        Seconds, counted from here.
    n_jobs : int or None
        Processes that share the fits of a call, subsets times folds.
    fit_params, score_params : dict
        Metadata; arrays with one entry per row are cut to the rows of each fit.

    Attributes
    ----------
    history : list of dict
        One record per subset that was fitted, in order: "evaluation" (from 1), "subset" (tuple of positions), "score".
    """

    def __init__(
        self, estimator, scorer, X, y, splits, *, max_evaluations=None, max_time=None, n_jobs=None, params=None
    ):
        self.estimator, self.scorer, self.X, self.y, self.splits = estimator, scorer, X, y, splits
        self.max_evaluations, self.n_jobs = max_evaluations, n_jobs
        self.max_time, self._start = max_time, time.monotonic()
        self.params = params or Bunch(fit={}, score={})
        self.n_fields = X.shape[1]
        self.history: list[dict] = []
        self._scores: dict[int, float] = {}

    def known(self, bits):
        """The score of a subset, or NaN if it was never fitted."""
        return self._scores.get(bits, np.nan)

    def no_fields(self):
        """Score of a constant prediction (a dummy estimator), which counts as no evaluation."""
        if 0 not in self._scores:
            dummy = DummyClassifier() if is_classifier(self.estimator) else DummyRegressor()
            nothing = np.zeros((len(self.y), 1))
            folds = [
                score_fold(dummy, self.scorer, nothing, self.y, train, test, {}, self.params.score)
                for train, test in self.splits
            ]
            self._scores[0] = float(np.mean(folds))
        return self._scores[0]

    def __call__(self, subsets):
        """Scores of subsets given as bitmasks, ndarray (n_subsets,).

        Raises
        ------
        StopSearch
            If the budget does not reach for all of them; those it reaches for are in ``history``.
        """
        if 0 in subsets:
            self.no_fields()
        new = [bits for bits in dict.fromkeys(subsets) if bits not in self._scores]
        room = len(new) if self.max_evaluations is None else self.max_evaluations - len(self.history)
        step = 1 if self.n_jobs in (None, 1) else len(new)  # on its own each subset is kept as soon as it is there
        for start in range(0, min(room, len(new)), max(step, 1)):
            if self.history and self.max_time is not None and time.monotonic() - self._start > self.max_time:
                raise StopSearch(f"max_time={self.max_time} seconds were used up")
            self._evaluate(new[start : min(start + step, room)])
        if room < len(new):
            raise StopSearch()
        return np.array([self._scores[bits] for bits in subsets])

    def _evaluate(self, subsets):
        positions = [np.flatnonzero(unpack(bits, self.n_fields)) for bits in subsets]
        tables = [safe_indexing(self.X, columns, axis=1) for columns in positions]
        tasks = [
            (self.estimator, self.scorer, table, self.y, train, test, self.params.fit, self.params.score)
            for table in tables
            for train, test in self.splits
        ]
        try:
            scores = Parallel(n_jobs=self.n_jobs)(delayed(score_fold)(*task) for task in tasks)
        except KeyboardInterrupt:
            if not self.history:
                raise
            raise StopSearch("the search was interrupted") from None
        means = np.reshape(scores, (len(subsets), -1)).mean(1)
        for bits, columns, score in zip(subsets, positions, means.tolist(), strict=True):
            self._scores[bits] = score
            self.history.append(
                {"evaluation": len(self.history) + 1, "subset": tuple(columns.tolist()), "score": score}
            )

    def best(self, size=None):
        """Bitmask of the best fitted subset (of ``size`` fields), None without one; of equals the smaller, then the earlier."""
        fitting = [r for r in self.history if size is None or len(r["subset"]) == size]
        if not fitting:
            return None
        best = max(fitting, key=lambda r: (-np.inf if np.isnan(r["score"]) else r["score"], -len(r["subset"])))
        return sum(1 << f for f in best["subset"])


def mean_difference(history, n_fields):
    """Mean score of the subsets that hold a field less that of those that do not, (n_fields,); 0 if either is missing."""
    held = np.zeros((len(history), n_fields))
    for row, record in zip(held, history, strict=True):
        row[list(record["subset"])] = 1
    scores = np.array([r["score"] for r in history])
    n = held.sum(0)
    tried = (n > 0) & (n < len(history))
    with_it = np.divide(scores @ held, n, where=n > 0, out=np.zeros(n_fields))
    without = np.divide(scores @ (1 - held), len(scores) - n, where=n < len(scores), out=np.zeros(n_fields))
    return np.where(tried, with_it - without, 0.0)


class SubsetSelector(SelectorMixin, MetaEstimatorMixin, BaseEstimator):
    """Base of the selectors that score subsets; a subclass makes the search (``_begin``) and may choose (``_choose``)."""

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit"])],
        "n_features_to_select": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "scoring": [None, StrOptions(set(get_scorer_names())), callable],
        "cv": ["cv_object"],
        "max_evaluations": [None, Interval(Integral, 1, None, closed="left")],
        "max_time": [None, Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
    }

    # What a subclass supplies ------------------------------------------------------------------------

    def _begin(self, X, y, scorer, size, rng):
        """An object with ``run()``, which may end by `StopSearch`, and ``results()``, the fitted attributes it leaves.

        ``results()`` holds "scores_", and answers at any time.
        """
        raise NotImplementedError

    def _choose(self, scorer, scores, size):
        """Bitmask of the selected fields: the best subset seen; without one of ``size``, the best smaller one filled up."""
        best = scorer.best(size)
        return fill_up(scorer, scores, size) if best is None else best

    # fit ---------------------------------------------------------------------------------------------

    def fit(self, X, y, **params):
        """Search.

        Parameters
        ----------
        X : DataFrame or array of shape (n_rows, n_fields)
            What the estimator takes: columns may hold strings and missing values if it (a pipeline, say) can do with them.
        y : array-like of shape (n_rows,)
        **params
            Metadata such as ``sample_weight`` or ``groups``, where scikit-learn's metadata routing is enabled.

        Returns
        -------
        self

        Warns
        -----
        UserWarning
            If ``max_time`` or a KeyboardInterrupt ended the search; the best subset so far is kept.
        """
        raise_for_params(params, self, "fit")
        validate_parameters(self)
        X, y = self._check_table(X, y)
        size = self._size(X.shape[1])
        scorer = self._scorer(X, y, params)
        search = self._begin(X, y, scorer, size, check_random_state(self.random_state))
        reason = None
        try:
            search.run()
        except StopSearch as stop:
            reason = stop.reason
        except KeyboardInterrupt:
            if not scorer.history:
                raise
            reason = "the search was interrupted"
        results = search.results()
        chosen = self._choose(scorer, results["scores_"], size)
        self._publish(scorer, results, chosen)
        if reason is not None:
            warnings.warn(
                f"{type(self).__name__}: {reason} after {len(scorer.history)} evaluations; the best subset so far is kept.",
                UserWarning,
                stacklevel=2,
            )
        return self

    def _check_table(self, X, y):
        if hasattr(X, "columns"):
            read_columns(X, self)  # refuses empty tables and columns of one name
            validate_data(self, X, skip_check_array=True)
            self._all_finite = False
        else:
            X = validate_data(self, X, dtype=None, ensure_all_finite=False)
            # Arrays without missing values in fit are checked in transform, as scikit-learn's selectors do.
            self._all_finite = X.dtype.kind == "f" and bool(np.isfinite(X).all())
        if self.estimator is not None:
            y = check_y(y, self)
            check_consistent_length(X, y)
        return X, y

    def _size(self, n_fields):
        """The number of fields asked for, None for "auto"."""
        wanted = self.n_features_to_select
        if isinstance(wanted, str):
            return None
        if isinstance(wanted, Integral):
            if wanted > n_fields:
                raise ValueError(f"n_features_to_select={wanted} is more than the {n_fields} columns of X.")
            return int(wanted)
        return max(1, round(wanted * n_fields))

    def _scorer(self, X, y, params):
        metric = check_scoring(self.estimator, scoring=self.scoring)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        routed = Bunch(fit={}, score={}, split={})
        if routing_enabled():
            done = process_routing(self, "fit", **params)
            routed = Bunch(fit=done.estimator.fit, score=done.scorer.score, split=done.splitter.split)
        splits = list(cv.split(X, y, **routed.split))
        return SubsetScorer(
            self.estimator,
            metric,
            X,
            y,
            splits,
            max_evaluations=self.max_evaluations,
            max_time=self.max_time,
            n_jobs=self.n_jobs,
            params=routed,
        )

    def _publish(self, scorer, results, chosen):
        for name, value in results.items():
            setattr(self, name, value)
        self.support_ = unpack(chosen, self.n_features_in_)
        self.ranking_ = ranking(self.support_, self.scores_)
        self.best_score_ = scorer.known(chosen)
        self.no_fields_score_ = scorer.no_fields()
        self.search_history_ = scorer.history
        self.n_evaluations_ = len(scorer.history)

    # transform ---------------------------------------------------------------------------------------

    def _get_support_mask(self):
        check_is_fitted(self)
        return self.support_

    def transform(self, X):
        """The selected columns.

        Parameters
        ----------
        X : DataFrame or array of shape (n_rows, n_fields)

        Returns
        -------
        DataFrame or array of shape (n_rows, n_selected)
            Of the container and the dtypes of X.
        """
        mask = self.get_support()
        if hasattr(X, "columns"):
            validate_data(self, X, reset=False, skip_check_array=True)
        else:
            strict = self._all_finite and not get_tags(self).input_tags.allow_nan
            X = validate_data(self, X, dtype=None, ensure_all_finite=strict, reset=False)
        return safe_indexing(X, np.flatnonzero(mask), axis=1)

    # scikit-learn --------------------------------------------------------------------------------------

    def get_metadata_routing(self):
        """Which metadata goes to the estimator, the splitter and the scorer.

        Returns
        -------
        MetadataRouter
        """
        to_fit = MethodMapping().add(caller="fit", callee="fit")
        to_split = MethodMapping().add(caller="fit", callee="split")
        to_score = MethodMapping().add(caller="fit", callee="score")
        return (
            MetadataRouter(owner=self)
            .add(estimator=self.estimator, method_mapping=to_fit)
            .add(
                splitter=check_cv(self.cv, classifier=is_classifier(self.estimator)),
                method_mapping=to_split,
            )
            .add(scorer=check_scoring(self.estimator, scoring=self.scoring), method_mapping=to_score)
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        if self.estimator is None:  # a draw, which reads nothing
            tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
            return tags
        inner = get_tags(self.estimator).input_tags
        tags.input_tags.allow_nan = inner.allow_nan
        tags.input_tags.string = inner.string
        tags.input_tags.categorical = inner.categorical
        tags.target_tags.required = True
        return tags


def ranking(support, scores):
    """1 for selected fields, then 2, 3, ... by falling score; int64 (n_fields,)."""
    ranks = np.ones(len(support), np.int64)
    others = np.flatnonzero(~support)
    ranks[others[np.argsort(-scores[others], kind="stable")]] = np.arange(2, len(others) + 2)
    return ranks


def fill_up(scorer, scores, size):
    """The best fitted subset of fewer fields than ``size``, and of the others those with the highest scores."""
    smaller = [r for r in scorer.history if len(r["subset"]) < size]
    chosen = list(max(smaller, key=lambda r: r["score"])["subset"]) if smaller else []
    order = [f for f in np.argsort(-scores, kind="stable").tolist() if f not in chosen]
    return sum(1 << f for f in [*chosen, *order[: size - len(chosen)]])
