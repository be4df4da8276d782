"""The search estimator that all searches of this folder are: a policy, and the engine that evaluates what it asks for."""

import copy
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import joblib
import numpy as np
from joblib import Parallel, delayed
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, indexable
from sklearn.utils.multiclass import type_of_target

from ..utils._sklearn import (
    BaseSearchCV,
    Interval,
    StrOptions,
    check_method_params,
    insert_error_scores,
    safe_split,
    validate_parameters,
    warn_or_raise_about_fit_failures,
    with_callbacks,
)
from ._checkpoint import Checkpoint, NoCheckpoint
from ._evaluate import can_continue, evaluate, evaluate_warm, stratified_order


@dataclass
class Trial:
    """What a policy asks for: one row of ``cv_results_``.

    Parameters
    ----------
    params : dict
        Without the resource.
    resource : int or None
        Total units of the resource that the model has had when it is scored; None for a plain fit.
    parent : int or None
        Row of ``cv_results_`` whose models this one continues (warm searches); it must be of the policy's last batch.
    edits : dict
        Parameters that change when it goes on.
    columns : dict
        More columns of ``cv_results_``, the same names in all trials of a search.
    """

    params: dict[str, Any]
    resource: int | None = None
    parent: int | None = None
    edits: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a policy hears of a trial: its row, and its mean score (minus infinity if it failed)."""

    trial: Trial
    row: int
    score: float


class _Stop(Exception):
    """No further evaluation is to start."""


class TrialSearchCV(BaseSearchCV):
    """Base of the searches.

    A subclass gives ``_policy(random_state)``, a generator: it yields lists of `Trial`, receives for each list the list
    of `Outcome`, and ends when the search ends. It must depend on nothing but the outcomes and its random numbers:
    a search that resumes runs it again over the stored results, and two workers must find what one finds.

    ``resource`` (if the subclass has it) is a parameter of the estimator, or "n_samples"; ``warm`` whether models go on
    from rung to rung.
    """

    _parameter_constraints: dict[str, list] = {
        "n_jobs": [Integral, None],
        "refit": ["boolean", str, callable],
        "cv": ["cv_object"],
        "verbose": ["verbose"],
        "pre_dispatch": [Integral, str],
        "random_state": ["random_state"],
        "error_score": [StrOptions({"raise"}), Real],
        "return_train_score": ["boolean"],
        "max_time": [Interval(Real, 0, None, closed="neither"), None],
    }

    resource: str | None = None
    warm = False

    def _policy(self, random_state):
        raise NotImplementedError

    def _prepare(self, X, y, splits):
        """Hook: the subclass may look at the data's size before the policy starts."""

    @with_callbacks
    def fit(self, X, y=None, **params):
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
            A parameter is not allowed; the checkpoint belongs to another search; nothing was evaluated.
        """
        validate_parameters(self)
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        weights = params.get("sample_weight")
        metadata = None if weights is None else {"sample_weight": weights}
        context = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        context = context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)

        self._checked_cv_orig = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        keep = self._open_checkpoint(X, y)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        splits = list(self._checked_cv_orig.split(X, y, **routed.splitter.split))
        settings = keep.settings({"seed": seed, "splits": splits})
        self.n_splits_ = len(settings["splits"])
        self._prepare(X, y, settings["splits"])

        run = _Run(self, X, y, scorers, refit_metric, routed, settings, keep)
        search = context.subcontext(task_name="search", max_subtasks=None).call_on_fit_task_begin(estimator=self)
        run.all_batches(self._policy(np.random.RandomState(settings["seed"])), search)
        search.call_on_fit_task_end(estimator=self)
        if not run.rows:
            raise ValueError(f"{type(self).__name__} has evaluated nothing before it was stopped ({run.stopped}).")
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
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata)
        return self

    def _refit(self, X, y, fit_params, metadata, context, run):
        self.best_estimator_ = clone(self.estimator).set_params(**clone(self.best_params_, safe=False))
        context = context.subcontext(task_name="refit-with-best-params")
        with context.propagate_callback_context(self.best_estimator_):
            context.call_on_fit_task_begin(estimator=self, X=X, y=y, metadata=metadata)
            start = time.time()
            self.best_estimator_.fit(X, *(() if y is None else (y,)), **fit_params)
            self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=metadata)

    def _publish(self, run):
        """Hook: fitted attributes of the subclass."""

    def _open_checkpoint(self, X, y):
        if self.checkpoint is None:
            return NoCheckpoint()
        # What may change between the runs of one search is left out.
        free = {"n_jobs", "pre_dispatch", "verbose", "max_time", "checkpoint", "refit"}
        parameters = {k: v for k, v in self.get_params(deep=False).items() if k not in free}
        return Checkpoint(self.checkpoint, joblib.hash([type(self).__name__, parameters, X, y]))


class _Run:
    """The engine: evaluates the batches of a policy and keeps their results."""

    def __init__(self, search, X, y, scorers, refit_metric, routed, settings, keep):
        self.search, self.X, self.y = search, X, y
        self.metric = refit_metric
        self.keep = keep
        self.splits = settings["splits"]
        self.rows: list[Trial] = []
        self.out: list[dict] = []
        self.spent: list[int] = []
        self.states: dict[tuple[int, int], Any] = {}
        self.stopped = "finished"
        self.deadline = None if search.max_time is None else time.monotonic() + search.max_time
        self.options = {
            "scorer": scorers,
            "fit_params": routed.estimator.fit,
            "score_params": routed.scorer.score,
            "return_train_score": search.return_train_score,
            "error_score": search.error_score,
        }
        self.folds: dict[tuple[str, int], tuple] = {}
        self.orders: list[np.ndarray] = []
        if search.resource == "n_samples":
            strata = y if is_classifier(search.estimator) else None
            random_state = np.random.RandomState(settings["seed"])
            self.orders = [stratified_order(strata, train, random_state) for train, _ in self.splits]
        self.classes = None
        if search.warm:
            if is_classifier(search.estimator) and y is not None and type_of_target(y) in ("binary", "multiclass"):
                self.classes = np.unique(y)

    def all_batches(self, policy, context):
        """Ask, evaluate, tell; until the policy ends, the time is over or the user interrupts."""
        said = None
        with Parallel(
            n_jobs=self.search.n_jobs, pre_dispatch=self.search.pre_dispatch, return_as="generator_unordered"
        ) as parallel:
            while True:
                try:
                    batch = policy.send(said)
                except StopIteration:
                    return
                try:
                    said = self.evaluate(list(batch), parallel, context)
                except _Stop as stop:
                    self.stopped = str(stop)
                    return
                finally:
                    if self.stopped != "finished":
                        policy.close()

    def evaluate(self, batch, parallel, context):
        """Evaluate a batch; returns its outcomes. What has finished stays if it is stopped."""
        n_splits, first = len(self.splits), len(self.rows)
        done: dict[tuple[int, int], dict] = {}
        for k in range(len(batch)):
            for s in range(n_splits):
                stored = self.keep.load(first + k, s)
                if stored is not None:
                    done[k, s] = stored
        todo = [(k, s) for k in range(len(batch)) for s in range(n_splits) if (k, s) not in done]
        context = context.subcontext(
            task_name="batch", max_subtasks=len(batch) * n_splits, sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self.search)
        contexts = [
            context.subcontext(task_name="candidate-split-evaluation", task_id=k * n_splits + s) for k, s in todo
        ]
        stop = None
        try:
            tasks = self._tasks(batch, todo, contexts)
            for k, s, result in parallel(tasks):
                self.keep.save(first + k, s, result)
                done[k, s] = result
            if len(done) < len(batch) * n_splits:
                stop = "max_time"
        except KeyboardInterrupt:
            stop = "interrupted"
            warnings.warn("The search was interrupted; it goes on with what has finished.", stacklevel=4)
        context.call_on_fit_task_end(estimator=self.search)
        outcomes = self._record(batch, done)
        if stop:
            raise _Stop(stop)
        return outcomes

    def _tasks(self, batch, todo, contexts):
        for (k, s), context in zip(todo, contexts, strict=True):
            if self.deadline is not None and time.monotonic() > self.deadline:
                return
            trial, (train, test) = batch[k], self.splits[s]
            if self.search.warm:
                yield delayed(_warm_task)(k, s, **self._warm_arguments(trial, s, train, test))
                continue
            parameters = dict(trial.params)
            if self.orders:
                train = np.sort(self.orders[s][: trial.resource])
            elif trial.resource is not None:
                parameters[self.search.resource] = trial.resource
            yield delayed(_cold_task)(
                k,
                s,
                estimator=self.search.estimator,
                X=self.X,
                y=self.y,
                train=train,
                test=test,
                parameters=parameters,
                caller=self.search,
                callback_ctx=context,
                verbose=self.search.verbose,
                **self.options,
            )

    def _warm_arguments(self, trial, s, train, test):
        estimator, parameters, edits, transformed = self.search.estimator, trial.params, trial.edits, None
        resource = self.search.resource
        if isinstance(estimator, Pipeline):
            name, estimator = estimator.steps[-1]
            inner = {k: v for k, v in parameters.items() if k.startswith(name + "__")}
            outer = {k: v for k, v in parameters.items() if k not in inner}
            if set(edits) & set(outer):
                raise ValueError(f"a fitted pipeline goes on in its last step {name!r} alone, not in {sorted(edits)}.")
            transformed = self._transformed(outer, s, train, test)
            cut = len(name) + 2
            parameters, resource = {k[cut:]: v for k, v in inner.items()}, resource[cut:]
            edits = {k[cut:]: v for k, v in edits.items()}
        state, before = None, 0
        if trial.parent is not None and self.states[trial.parent, s] is not None:
            # A copy: without workers the model itself would go on, and a parent may have several children.
            state, before = copy.deepcopy(self.states[trial.parent, s]), self.rows[trial.parent].resource
        return {
            "estimator": estimator,
            "X": self.X,
            "y": self.y,
            "state": state,
            "parameters": parameters,
            "edits": edits,
            "units": trial.resource - before,
            "total": trial.resource,
            "resource": resource,
            "train": train,
            "test": test,
            "transformed": transformed,
            "classes": self.classes,
            **self.options,
        }

    def _transformed(self, parameters, s, train, test):
        """What the steps before the last make of a fold; once for each set of their parameters."""
        key = joblib.hash(parameters), s
        if key not in self.folds:
            pipeline = clone(self.search.estimator).set_params(**clone(parameters, safe=False))
            X_train, y_train = safe_split(pipeline, self.X, self.y, train)
            X_test, _ = safe_split(pipeline, self.X, self.y, test, train)
            head = pipeline[:-1]
            self.folds[key] = head.fit_transform(X_train, y_train), head.transform(X_test)
        return self.folds[key]

    def _record(self, batch, done):
        """Rows of the trials whose every split has finished; the outcomes of the batch."""
        n_splits = len(self.splits)
        states = {}
        outcomes = []
        new = []
        for k, trial in enumerate(batch):
            results = [done.get((k, s)) for s in range(n_splits)]
            if any(r is None for r in results):
                continue
            row = len(self.rows)  # less than first + k only in the last batch of a search that was stopped
            self.rows.append(trial)
            before = 0 if trial.parent is None else (self.rows[trial.parent].resource or 0)
            self.spent.append((trial.resource or 0) - before)
            for s, result in enumerate(results):
                if "state" in result:
                    states[row, s] = result["state"]
            new += [{k: v for k, v in r.items() if k != "state"} for r in results]
            outcomes.append(Outcome(trial, row, self._score(results)))
        self.states = states
        if new:
            warn_or_raise_about_fit_failures(new, self.search.error_score)
            if callable(self.search.scoring):
                insert_error_scores(new, self.search.error_score)
        self.out += new
        return outcomes

    def _score(self, results):
        scores = [r["test_scores"] for r in results]
        if isinstance(scores[0], dict):
            metric = self.search.refit if isinstance(self.search.refit, str) else next(iter(scores[0]))
            scores = [s[metric] for s in scores]
        mean = float(np.mean(scores))
        return mean if np.isfinite(mean) else -np.inf

    def results(self):
        """``cv_results_``."""
        more = defaultdict(list)
        parameters = []
        for trial, spent in zip(self.rows, self.spent, strict=True):
            named = dict(trial.params)
            if trial.resource is not None:
                more["n_resources"].append(trial.resource)
                more["n_resources_spent"].append(spent)
                if self.search.resource != "n_samples":
                    named[self.search.resource] = trial.resource
            for name, value in trial.columns.items():
                more[name].append(value)
            parameters.append(named)
        return self.search._format_results(parameters, len(self.splits), self.out, more)


def _cold_task(k, s, **arguments):
    return k, s, evaluate(**arguments)


def _warm_task(k, s, **arguments):
    return k, s, evaluate_warm(**arguments)


def check_warm(search):
    """Refuse a warm search whose estimator cannot go on.

    Raises
    ------
    ValueError
    """
    estimator, resource = search.estimator, search.resource
    if resource == "n_samples":
        raise ValueError(
            'warm=True goes on with fitted models, resource="n_samples" changes their rows; use warm=False.'
        )
    if isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        if not resource.startswith(name + "__"):
            raise ValueError(
                f"warm=True in a Pipeline needs a resource of its last step, {name}__..., got {resource!r}."
            )
        resource = resource[len(name) + 2 :]
    if not can_continue(estimator, resource):
        raise ValueError(
            f"warm=True needs an estimator with partial_fit, or with warm_start and {resource!r}; "
            f"{type(estimator).__name__} has neither. Use warm=False."
        )
