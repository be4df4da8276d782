"""What all selectors share that score subsets of columns."""

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.feature_selection import SelectorMixin
from sklearn.metrics import check_scoring, get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import Bunch, check_random_state, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ...datasets._table_blocks import drawn_rows, is_dataset, takes_datasets
from ...preprocessing._columns import read_columns
from ...preprocessing._dicts import frame_of_dicts, is_dicts, kept_columns
from ...preprocessing._names import check_columns, compare_names
from ...utils._progress import FitProgress
from ...utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    check_y,
    raise_for_params,
    routing_enabled,
    safe_indexing,
    validate_parameters,
    with_callbacks,
)
from ...utils._state import all_or_nothing, reads_once
from ...utils._typing import ArrayLike, Table
from ._subset_scorer import StopSearch, SubsetScorer, equal_columns, unpack


class SubsetSelector(CallbackSupportMixin, SelectorMixin, MetaEstimatorMixin, BaseEstimator):
    """Base of the selectors that score subsets; a subclass makes the search (``_begin``) and may
    choose (``_choose``).

    Parameters
    ----------
    estimator : estimator
        What scores a subset; cloned for every fit.
    scoring : str, callable or None, default=None
        scikit-learn's scorer; None is the estimator's own ``score``.
    cv : int, splitter or iterable, default=3
        Folds, the same for every subset.
    max_evaluations : int or None, default=200
        Subsets to fit at most, each on all folds. Subsets met again are remembered and cost
        nothing.
    max_time : float or None, default=None
        Seconds, after which the search ends with a warning.
    random_state : int, RandomState or None, default=None
    n_jobs : int or None, default=None
        Processes for the fits: subsets of a step times folds.

    Attributes
    ----------
    support_ : bool ndarray of shape (``n_features_in_``,)
        The kept columns.
    scores_ : ndarray of shape (``n_features_in_``,)
        Mean score of the fitted subsets with a column less that of those without.
    ranking_ : int ndarray of shape (``n_features_in_``,)
        1 for kept columns, then 2, 3, ... by falling score.
    search_history_ : list of dict
        "evaluation", "subset" (positions) and "score" of every fitted subset; the first is that of
        all columns.
    n_evaluations_ : int
        Their number.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, where they all are strings.
    """

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

    _scorer_class = SubsetScorer

    # What a subclass supplies
    # ------------------------------------------------------------------------

    def _begin(self, X, y, scorer, size, rng):
        """An object with ``run()``, which may end by `StopSearch`, and ``results()``, the fitted
        attributes it leaves.

        ``results()`` holds "scores_", and answers at any time.
        """
        raise NotImplementedError

    def _choose(self, scorer, scores, size):
        """Bitmask of the selected fields: the best subset seen; without one of ``size``, the best
        smaller one filled up.
        """
        best = scorer.best(size)
        return self._fill_up(scorer, scores, size) if best is None else best

    @staticmethod
    def _fill_up(scorer, scores, size):
        """The best fitted subset of fewer fields than ``size``, and of the others those with the
        highest scores.
        """
        smaller = [found for k in range(1, size) if (found := scorer.best(k)) is not None]
        return scorer.top(scores, size, max(smaller, key=scorer.known, default=0))

    # fit
    # ---------------------------------------------------------------------------------------------

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit(self, X: Table, y: ArrayLike, **params: Any) -> Self:
        """Search.

        Parameters
        ----------
        X : DataFrame or array of shape (n_rows, n_fields)
            What the estimator takes: columns may hold strings and missing values if it (a pipeline,
            say) can do with them. Of a data set (see `ParquetDataset`) about ``sample_rows`` rows
            are drawn and searched, as a DataFrame.
        y : array-like of shape (n_rows,), or str
            Of a data set the name of its column.
        **params
            Metadata such as ``sample_weight`` or ``groups``, where scikit-learn's metadata routing
            is enabled.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For parameters and tables that are refused, if all columns have a single value, and
            whatever the estimator raises in the first fit.
        TypeError
            For metadata beside a data set, which has no such rows.
        OSError
            If a block of a data set cannot be read.

        Warns
        -----
        UserWarning
            If ``max_time``, a callback or a KeyboardInterrupt ended the search; the best subset so
            far is kept.
        FitFailedWarning
            If some subsets could not be fitted or scored. They count as bad as no columns.
        """
        raise_for_params(params, self, "fit")
        validate_parameters(self)
        if is_dataset(X):
            if params:
                raise TypeError(
                    f"{sorted(params)} cannot be given with a data set, of which the search draws "
                    f"rows; draw them yourself, by X.sample(n_rows), and give these in memory."
                )
            X, y = drawn_rows(X, y)
        X, y, columns = self._check_table(X, y)
        size = self._size(len(columns))
        scorer = self._scorer(X, y, columns, params)
        reason, progress = None, FitProgress(self, X, y)
        with progress.within(n_tasks=1), progress.task("search", self.max_evaluations):
            scorer.on_evaluation = lambda: progress.step("evaluation")
            search = self._begin(X, y, scorer, size, check_random_state(self.random_state))
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
        if scorer.failures:
            warnings.warn(
                f"{type(self).__name__}: {len(scorer.failures)} of {len(scorer.history)} subsets "
                f"could not be scored and count "
                f"as bad as no columns. The first of them: {scorer.failures[0]}",
                FitFailedWarning,
                stacklevel=3,
            )
        if reason is not None:
            warnings.warn(
                f"{type(self).__name__}: {reason} after {len(scorer.history)} evaluations; the "
                f"best subset so far is kept.",
                UserWarning,
                stacklevel=3,
            )
        return self

    def _check_table(self, X, y):
        """The table, the target as an array (as it is without an estimator), and the columns as a
        list.
        """
        if hasattr(X, "columns"):
            # Refuses empty tables and columns of one name.
            self._names, columns = read_columns(X, self)
            validate_data(self, X, skip_check_array=True)
            self._all_finite = False
        else:
            X = validate_data(self, X, dtype=None, ensure_all_finite=False)
            self._names, columns = None, list(X.T)
            # Arrays without missing values in fit are checked in transform, as scikit-learn's
            # selectors do.
            self._all_finite = X.dtype.kind == "f" and bool(np.isfinite(X).all())
        if self.estimator is not None:
            y = check_y(y, self)
            if is_classifier(self.estimator):
                check_classification_targets(y)
            check_consistent_length(columns[0], y)
        return X, y, columns

    def _size(self, n_fields):
        """The number of fields asked for, None for "auto"."""
        wanted = self.n_features_to_select
        if isinstance(wanted, str):
            return None
        if isinstance(wanted, Integral):
            if wanted > n_fields:
                raise ValueError(
                    f"n_features_to_select={wanted} is more than the {n_fields} columns of X."
                )
            return int(wanted)
        return max(1, round(wanted * n_fields))

    def _scorer(self, X, y, columns, params):
        metric = check_scoring(self.estimator, scoring=self.scoring)
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        routed = Bunch(fit={}, score={}, split={})
        if routing_enabled():
            done = process_routing(self, "fit", **params)
            routed = Bunch(
                fit=done.estimator.fit, score=done.scorer.score, split=done.splitter.split
            )
        splits = list(cv.split(np.zeros(len(y)), y, **routed.split))
        twins = equal_columns(columns)
        if (twins < 0).all():
            raise ValueError(
                f"All {len(twins)} columns of X have a single value (missing counts as one): "
                f"there is nothing to select."
            )
        return self._scorer_class(
            self.estimator,
            metric,
            X,
            y,
            splits,
            twins,
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
        self.no_fields_score_ = scorer.no_fields
        self.search_history_ = scorer.history
        self.n_evaluations_ = len(scorer.history)

    # transform
    # ---------------------------------------------------------------------------------------

    def _get_support_mask(self):
        check_is_fitted(self)
        return self.support_

    @reads_once
    def transform(self, X: Table) -> Any:
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
        if is_dicts(X):
            X = frame_of_dicts(X, self._names, self)
        kept = kept_columns(X, self, self._names, mask)
        if kept is not None:
            return kept
        if hasattr(X, "columns"):
            check_columns(self, X, self._names)
        else:
            strict = self._all_finite and not get_tags(self).input_tags.allow_nan
            X = validate_data(self, X, dtype=None, ensure_all_finite=strict, reset=False)
            compare_names(self, None, self._names)
        return safe_indexing(X, np.flatnonzero(mask), axis=1)

    # scikit-learn
    # --------------------------------------------------------------------------------------

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
            .add(
                scorer=check_scoring(self.estimator, scoring=self.scoring), method_mapping=to_score
            )
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
