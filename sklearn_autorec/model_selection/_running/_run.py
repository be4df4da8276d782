"""The engine of the searches: evaluates the batches of a policy, in parallel, and keeps their
results.
"""

import time
import warnings
from collections import defaultdict
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.multiclass import type_of_target

from ...utils._sklearn import check_method_params, insert_error_scores, plain_labels
from ._answers import _answer, _fold_or_error, warn_of
from ._checkpoint import identity
from ._evaluate import (
    evaluate,
    evaluate_warm,
    in_last_step,
    lost_result,
    stratified_order,
)
from ._guard import TRIES, Guard
from ._interrupts import Interrupts, Stopped
from ._trial import Outcome

FOLDS_KEPT = 64  # transformed folds beyond those that the last batch needs


class Run:
    """One run of a search.

    Attributes
    ----------
    rows : list of Trial
        The rows of ``cv_results_`` so far.
    out : list of dict
        Results of their evaluations, splits varying fastest.
    states : dict of (row, split) to estimator
        Warm searches: the models of the last batch; None where the fit failed.
    stopped : {"finished", "max_time", "interrupted"}
    """

    def __init__(self, search, X, y, scorers, refit_metric, routed, settings, keep):
        self.search, self.X, self.y = search, X, y
        self.metric = refit_metric
        self.keep = keep
        self.splits = settings["splits"]
        self.fit_params, self.score_params = routed.estimator.fit, routed.scorer.score
        self.rows: list = []
        self.out: list[dict] = []
        self.spent: list[int] = []
        self.states: dict[tuple[int, int], Any] = {}
        self.stopped = "finished"
        self.interrupts = Interrupts()
        self.deadline = None if search.max_time is None else time.monotonic() + search.max_time
        self.options = {
            "scorer": scorers,
            "return_train_score": search.return_train_score,
            "error_score": search.error_score,
        }
        self.folds: dict[tuple[str, int], tuple | str] = {}
        self.guarded = search.candidate_timeout is not None
        self.guard = self._guard() if self.guarded else None
        # Labels of dtype object are labels; whether the estimator takes them so is for it to say.
        told = plain_labels(y) if is_classifier(search.estimator) and y is not None else None
        labels = told is not None and type_of_target(told) in ("binary", "multiclass")
        self.classes = np.unique(y) if labels else None
        self.orders: list[np.ndarray] = []
        if search.resource == "n_samples":
            random_state = np.random.RandomState(settings["seed"])
            self.orders = [
                stratified_order(y if labels else None, train, random_state)
                for train, _ in self.splits
            ]

    def all_batches(self, policy, context):
        """Ask, evaluate, tell; until the policy ends, the time is over or the user interrupts."""
        said = None
        with self.interrupts, ExitStack() as self.workers:
            self.parallel = self._new_workers()
            try:
                while (batch := self._ask(policy, said)) is not None:
                    said = self.evaluate(batch, context)
            except Stopped as stop:
                self.stopped = str(stop)
            except KeyboardInterrupt:  # in the policy
                self.stopped = "interrupted"
            finally:
                policy.close()
                if self.guard is not None:
                    self.guard.close()
        if self.stopped == "interrupted":
            if not self.rows:
                raise KeyboardInterrupt
            warnings.warn(
                "The search was interrupted; it goes on with what has finished.", stacklevel=4
            )
        if self.rows and all(result["fit_error"] for result in self.out):
            raise ValueError(
                f"All the {len(self.out)} fits failed. The first of "
                f"them:\n{self.out[0]['fit_error']}"
            )

    def _new_workers(self):
        options = {name: getattr(self.search, name) for name in ("n_jobs", "pre_dispatch")}
        return self.workers.enter_context(Parallel(**options, return_as="generator_unordered"))

    @staticmethod
    def _ask(policy, said):
        try:
            return list(policy.send(said))
        except StopIteration:
            return None

    def evaluate(self, batch, context):
        """Evaluate a batch; returns its outcomes. What has finished stays if it is stopped."""
        if self.interrupts.seen:  # while the policy was thinking
            raise Stopped("interrupted")
        n_splits, first = len(self.splits), len(self.rows)
        pairs = [(k, s) for k in range(len(batch)) for s in range(n_splits)]
        stored = {(k, s): self.keep.load(first + k, s) for k, s in pairs}
        done = {pair: result for pair, result in stored.items() if result is not None}
        todo = [pair for pair in pairs if pair not in done]
        context = context.subcontext(
            task_name="batch", max_subtasks=len(pairs), sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self.search)
        leaf = "candidate-split-evaluation"
        contexts = dict.fromkeys(todo)
        if hasattr(self.search, "_skl_callbacks"):
            # Made before any worker starts: a context is pickled with all its relatives, which must
            # not change meanwhile.
            contexts = {
                (k, s): context.subcontext(task_name=leaf, task_id=k * n_splits + s)
                for k, s in todo
            }
        in_pipeline = self.search.warm and isinstance(self.search.estimator, Pipeline)
        stop = None
        try:
            self.interrupts.armed = True
            if not in_pipeline or self._transform(batch, todo):
                for k, s, result in self._evaluations(batch, first, todo, contexts):
                    self.keep.save(first + k, s, result)
                    done[k, s] = result
            if len(done) < len(pairs):
                stop = "max_time"
        except KeyboardInterrupt:
            stop = "interrupted"
        finally:
            self.interrupts.armed = False
            context.call_on_fit_task_end(estimator=self.search)
        outcomes = self._record(batch, done)
        if self.interrupts.seen:
            stop = "interrupted"
        if stop:
            raise Stopped(stop)
        return outcomes

    def _evaluations(self, batch, first, todo, contexts):
        """Results (k, s, result) of a batch. What has ended the process of this search before is
        now kept apart from it.
        """
        here, begun = not self.guarded and effective_n_jobs(self.search.n_jobs) == 1, set()

        def task(k, s):
            return self._task(batch[k], k, s, contexts[k, s])

        def task_here(k, s):
            self.keep.begin(first + k, s)
            begun.add((k, s))
            return task(k, s)

        def lost(k, s, why):
            return k, s, self._lost(batch[k], s, why)

        rows = {k for k, s in todo if self.keep.deaths(first + k, s) >= TRIES}
        dangerous, others = [p for p in todo if p[0] in rows], [p for p in todo if p[0] not in rows]
        try:
            yield from self._work(others, task_here if here else task, lost)
            yield from self._apart(dict.fromkeys(dangerous), task, lost)
        finally:
            for k, s in begun:  # whatever has come, this process lives
                self.keep.alive(first + k, s)

    def _work(self, todo, task, lost):
        """Results (k, s, result) of the tasks as they finish. When a worker dies, those left run in
        processes of their own.
        """
        todo = dict.fromkeys(todo)
        if not self.guarded:
            try:
                for k, s, result in self.parallel(
                    call for _, call in self._until_deadline(todo, task)
                ):
                    if self.interrupts.seen:  # by an estimator that made do with what it had
                        raise KeyboardInterrupt
                    del todo[k, s]
                    yield k, s, result
                return
            except BrokenProcessPool:
                # What waits in the old ones would answer to the calls of the next batch.
                self.parallel = self._new_workers()
        yield from self._apart(todo, task, lost)

    def _apart(self, todo, task, lost):
        """Results of tasks that may kill their process, or hang; ``lost(k, s, why)`` stands for the
        answer of such a one.
        """
        if not todo:
            return
        self.guard = self.guard or self._guard()
        for (k, s), answer, why in self.guard.run(self._until_deadline(todo, task)):
            if self.interrupts.seen:
                raise KeyboardInterrupt
            yield answer if why is None else lost(k, s, why)

    def _guard(self):
        search = self.search
        return Guard(
            search.n_jobs, search.candidate_timeout, (search.estimator, self.options["scorer"])
        )

    def _lost(self, trial, s, why):
        """The result of an evaluation that has not come to its end."""
        result = lost_result(
            f"The candidate {trial.params} on split {s} was given up: {why}.", **self.options
        )
        if not self.search.warm:
            return result | {"n_test_samples": len(self.splits[s][1])}
        before = (
            0
            if trial.parent is None or self.states[trial.parent, s] is None
            else self.rows[trial.parent].resource
        )
        return result | {"state": None, "units": trial.resource - before}

    def _until_deadline(self, todo, task):
        for pair in list(todo):
            if self.deadline is not None and time.monotonic() > self.deadline:
                return
            yield pair, task(*pair)

    def _task(self, trial, k, s, context):
        """One evaluation, as joblib takes it."""
        search, (train, test) = self.search, self.splits[s]
        common = {**self.options, "caller": search, "callback_ctx": context}
        if search.warm:
            arguments, named = self._warm_arguments(trial, s)
            return delayed(_answer)(evaluate_warm, k, s, *arguments, **common, **named)
        parameters = dict(trial.params)
        if self.orders:
            train = np.sort(self.orders[s][: trial.resource])
        elif trial.resource is not None:
            parameters[search.resource] = trial.resource
        return delayed(_answer)(
            evaluate,
            k,
            s,
            search.estimator,
            self.X,
            self.y,
            train=train,
            test=test,
            parameters=parameters,
            fit_params=self.fit_params,
            score_params=self.score_params,
            split_progress=(s, len(self.splits)),
            verbose=search.verbose,
            **common,
        )

    def _warm_arguments(self, trial, s):
        estimator, parameters, edits = self.search.estimator, trial.params, trial.edits
        resource, fold, data = self.search.resource, None, self._data(s)
        if isinstance(estimator, Pipeline):
            resource = resource.removeprefix(estimator.steps[-1][0] + "__")
            outer, estimator, parameters, edits = in_last_step(estimator, parameters, edits)
            fold, data = self.folds[identity(outer), s], ()
        state, before = None, 0
        if trial.parent is not None:
            state, before = self.states[trial.parent, s], self.rows[trial.parent].resource
        named = {
            "fold": fold,
            "state": state,
            "parameters": parameters,
            "edits": edits,
            "before": before,
            "total": trial.resource,
            "resource": resource,
            "classes": self.classes,
            "score_params": [
                check_method_params(self.X, self.score_params, rows) for rows in self.splits[s]
            ],
        }
        return (estimator, *data), named

    def _data(self, s):
        """The arguments of `split_fold` behind the estimator."""
        return self.X, self.y, *self.splits[s], self.fit_params

    def _transform(self, batch, todo):
        """Make the folds that a batch needs: once for each set of parameters of the steps before
        the last.
        """
        pipeline = self.search.estimator
        outer = [in_last_step(pipeline, trial.params, trial.edits)[0] for trial in batch]
        keys = [identity(parameters) for parameters in outer]
        missing = {(keys[k], s): (k, s) for k, s in todo if (keys[k], s) not in self.folds}

        def task(k, s):
            return delayed(_fold_or_error)(
                k, s, self.search.error_score, pipeline, outer[k], *self._data(s)
            )

        def lost(k, s, why):
            error = (
                f"The steps before the last, with {outer[k]} on split {s}, were given up: {why}."
            )
            lost_result(error, **self.options)  # raises if that is wanted
            return k, s, error

        for k, s, fold in self._work(missing.values(), task, lost):
            self.folds[keys[k], s] = fold
        idle = [key for key in self.folds if key[0] not in keys]
        for key in idle[: max(len(idle) - FOLDS_KEPT, 0)]:
            del self.folds[key]
        return all(key in self.folds for key in missing)

    def _record(self, batch, done):
        """Rows of the trials whose every split has finished; the outcomes of the batch."""
        n_splits = len(self.splits)
        states, outcomes, failed = {}, [], []
        for k, trial in enumerate(batch):
            results = [done.get((k, s)) for s in range(n_splits)]
            if any(r is None for r in results):
                continue
            # Less than first + k only in the last batch of a search that was stopped.
            row = len(self.rows)
            self.rows.append(trial)
            self.spent.append(max(r.pop("units", trial.resource or 0) for r in results))
            for s, result in enumerate(results):
                if "state" in result:
                    states[row, s] = result.pop("state")
            self.out += results
            failed += [(row, r["fit_error"]) for r in results if r["fit_error"]]
            outcomes.append(Outcome(trial, row, self._score(results)))
        if len(outcomes) == len(batch):
            for pair in self.states:
                self.keep.forget(*pair)
            self.states = {}
        self.states |= states
        if failed:
            warn_of(failed, len(outcomes) * n_splits, self)
        return outcomes

    def _score(self, results):
        scores = [r["test_scores"] for r in results]
        names = next((list(s) for s in scores if isinstance(s, dict)), None)
        if names:
            metric = self.search.refit if isinstance(self.search.refit, str) else names[0]
            # A scorer that is one function gives a plain number to fits that failed.
            scores = [s[metric] if isinstance(s, dict) else s for s in scores]
        mean = float(np.mean(scores))
        return mean if np.isfinite(mean) else -np.inf

    def results(self):
        """``cv_results_``."""
        if callable(self.search.scoring):
            insert_error_scores(self.out, self.search.error_score)
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
