"""The search estimator that all searches of this folder are: a policy, and the engine that
evaluates what it asks for.
"""

import copy
import os
import time
from numbers import Integral, Real
from typing import Any, Self, TypedDict

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, get_tags, indexable
from sklearn.utils.multiclass import check_classification_targets

from ..utils._frames import takes_frames
from ..utils._parameters import stores_parameters
from ..utils._sklearn import (
    BaseSearchCV,
    CallbackSupportMixin,
    Interval,
    check_method_params,
    plain_labels,
    validate_parameters,
    with_callbacks,
)
from ..utils._state import all_or_nothing
from ..utils._typing import Column
from ._running._checkpoint import Checkpoint, NoCheckpoint, identity
from ._running._evaluate import way_to_continue
from ._running._run import Run
from ._running._trial import Outcome, Trial

__all__ = ["Outcome", "SearchOptions", "Trial", "TrialSearchCV", "check_warm"]


class SearchOptions(TypedDict, total=False):
    """Parameters that all searches have, for type checkers; `TrialSearchCV` has their defaults."""

    scoring: Any
    n_jobs: Any
    cv: Any
    max_time: Any
    checkpoint: Any
    candidate_timeout: Any
    random_state: Any
    error_score: Any
    return_train_score: Any
    verbose: Any
    pre_dispatch: Any


class TrialSearchCV(BaseSearchCV, CallbackSupportMixin):
    """Base of the searches.

    A subclass gives ``_policy(random_state)``, a generator: it yields lists of `Trial`, receives
    for each list the list of `Outcome`, and ends when the search ends. It must depend on nothing
    but the outcomes and its random numbers: a search that resumes runs it again over the stored
    results, and two workers must find what one finds.

    ``resource`` (if the subclass has it) is a parameter of the estimator, or "n_samples"; ``warm``
    whether models go on from rung to rung.

    Parameters
    ----------
    candidate_timeout : float or None, default=None
        Seconds that one evaluation (a fit on one split and its scores) may take. If given, each
        runs in a process of its own, also with ``n_jobs=1``: one that takes longer, or kills its
        process, scores ``error_score`` and is named in a warning. ``float("inf")`` guards against
        crashes alone.

    Attributes
    ----------
    stopped_ : str
        "finished", "max_time" or "interrupted".
    """

    _parameter_constraints: dict[str, list] = {
        **BaseSearchCV._parameter_constraints,
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
        "checkpoint": [str, os.PathLike, None],
        "candidate_timeout": [Interval(Real, 0, None, closed="right"), None],
    }

    resource: str | None = None
    warm = False

    @stores_parameters
    def __init__(
        self,
        estimator,
        *,
        scoring=None,
        n_jobs=None,
        refit=True,
        cv=None,
        max_time=None,
        checkpoint=None,
        candidate_timeout=None,
        random_state=None,
        error_score=np.nan,
        return_train_score=False,
        verbose=0,
        pre_dispatch="2*n_jobs",
    ):
        """Store the parameters."""

    def _policy(self, random_state):
        raise NotImplementedError

    def _check_search(self):
        """Hook: refuse parameters that do not go together, before a folder is made."""

    def _prepare(self, X, y, splits):
        """Hook: the subclass may look at the data's size before the policy starts."""

    @all_or_nothing
    @takes_frames
    @with_callbacks
    def fit(self, X: Any, y: Column = None, **params: Any) -> Self:
        """Search, then fit the best candidate on all rows.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
        y : array-like of shape (n_samples,), default=None
        **params : dict
            For ``fit`` of the estimator, the scorer and the splitter.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            A parameter is not allowed; the checkpoint belongs to another search; nothing was
            evaluated.
        """
        validate_parameters(self)
        self._check_search()
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        if y is None and get_tags(self.estimator).target_tags.required:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        weights = params.get("sample_weight")
        metadata = None if weights is None else {"sample_weight": weights}
        context = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        context = context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
        try:
            return self._check_and_search(
                X, y, params, routed, scorers, refit_metric, metadata, context
            )
        finally:
            context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata)

    def _check_and_search(self, X, y, params, *args):
        with np.errstate(invalid="ignore"):  # y that is not finite is refused in words
            self._checked_cv_orig = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
            if is_classifier(self.estimator) and y is not None:
                check_classification_targets(plain_labels(y))
        keep = self._open_checkpoint(X, y, params)
        try:
            return self._search(X, y, keep, *args)
        finally:
            keep.close()

    def _search(self, X, y, keep, routed, scorers, refit_metric, metadata, context):
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        splits = list(self._checked_cv_orig.split(X, y, **routed.splitter.split))
        if not splits:
            raise ValueError(f"No fits were performed: cv={self.cv!r} gives no splits.")
        settings = keep.settings({"seed": seed, "splits": splits})
        self.n_splits_ = len(settings["splits"])
        self._prepare(X, y, settings["splits"])

        run = Run(self, X, y, scorers, refit_metric, routed, settings, keep)
        search = context.subcontext(task_name="search", max_subtasks=None).call_on_fit_task_begin(
            estimator=self
        )
        try:
            run.all_batches(self._policy(np.random.RandomState(settings["seed"])), search)
        finally:
            search.call_on_fit_task_end(estimator=self)
        if not run.rows:
            raise ValueError(
                f"{type(self).__name__} has evaluated nothing before it was stopped "
                f"({run.stopped})."
            )
        self.stopped_ = run.stopped
        results = run.results()

        first = run.out[0]["test_scores"]
        self.multimetric_ = isinstance(first, dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(first)
            refit_metric = self.refit
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        if self.refit:
            self._refit(X, y, routed.estimator.fit, metadata, context, run)
        self.scorer_ = getattr(scorers, "_scorers", scorers)
        self.cv_results_ = results
        self._publish(run)
        return self

    def _refit(self, X, y, fit_params, metadata, context, run):
        self.best_estimator_ = clone(self.estimator).set_params(
            **clone(self.best_params_, safe=False)
        )
        context = context.subcontext(task_name="refit-with-best-params")
        told = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        with context.propagate_callback_context(self.best_estimator_):
            context.call_on_fit_task_begin(**told)
            start = time.time()
            try:
                self.best_estimator_.fit(X, *(() if y is None else (y,)), **fit_params)
            finally:
                context.call_on_fit_task_end(**told)
            self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def _publish(self, run):
        """Hook: fitted attributes of the subclass."""

    def _open_checkpoint(self, X, y, params):
        if self.checkpoint is None:
            return NoCheckpoint()
        # What may change between the runs of one search is left out, and cv where it is only good
        # for one run.
        free = {
            "n_jobs",
            "pre_dispatch",
            "verbose",
            "max_time",
            "checkpoint",
            "refit",
            "candidate_timeout",
        }
        free |= {"cv"} if hasattr(self.cv, "__next__") else set()
        free |= {"random_state"} if isinstance(self.random_state, np.random.RandomState) else set()
        parameters = {k: v for k, v in self.get_params(deep=False).items() if k not in free}
        named = {
            "class": type(self).__name__,
            **parameters,
            "X": X,
            "y": y,
            "parameters of fit": params,
        }
        return Checkpoint(self.checkpoint, {name: identity(value) for name, value in named.items()})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        tags.target_tags = copy.deepcopy(get_tags(self.estimator).target_tags)
        return tags


def check_warm(search):
    """Refuse a warm search whose estimator cannot go on.

    Raises
    ------
    ValueError
    """
    estimator, resource = search.estimator, search.resource
    if resource == "n_samples":
        raise ValueError(
            'warm=True goes on with fitted models, resource="n_samples" changes their rows; use '
            "warm=False."
        )
    estimator, resource = in_last_step(
        estimator, resource, "warm=True in a Pipeline needs a resource"
    )
    if way_to_continue(estimator, resource) is None:
        raise ValueError(
            f"warm=True needs an estimator with a parameter {resource!r} and partial_fit or "
            f"warm_start; "
            f"{type(estimator).__name__} has not. Use warm=False."
        )


def in_last_step(estimator, resource, what):
    """An estimator and its resource, or the last step of a pipeline and the name of the resource
    there.

    Parameters
    ----------
    estimator : estimator
    resource : str
    what : str
        What must be "of its last step", for the message.

    Raises
    ------
    ValueError
        If the resource is of another step.
    """
    if not isinstance(estimator, Pipeline):
        return estimator, resource
    name, last = estimator.steps[-1]
    if not resource.startswith(name + "__"):
        raise ValueError(f"{what} of its last step, {name}__..., got {resource!r}.")
    return last, resource[len(name) + 2 :]
