"""Searches that only ask how good an architecture is: a generator's candidates, evaluated in
parallel.
"""

import copy
import dataclasses
import json
import math
import warnings
from contextlib import ExitStack, contextmanager
from traceback import format_exc

import numpy as np
import torch
from joblib import Parallel, delayed, effective_n_jobs
from sklearn.exceptions import FitFailedWarning

from ._batches import EncodedTensors
from ._policies import text_of
from ._time_limit import earliest, has_passed, now

__all__ = ["Evaluations", "HeldOutScore", "evaluate"]

STALLED = 1000  # batches in a row without a new candidate: the generator goes in circles


@dataclasses.dataclass
class Evaluations:
    """What an evaluation of candidates has learned.

    Parameters
    ----------
    architectures : list of dict
        Each candidate once, in the order in which the generator asked for it.
    scores : list of float
        Higher is better; NaN if it failed.
    stopped : {"finished", "max_evaluations", "max_time", "callback", "interrupted"}
        What ended it.
    """

    architectures: list
    scores: list
    stopped: str = "finished"

    @property
    def best(self):
        """The architecture of the highest score; of several the first.

        Raises
        ------
        ValueError
            If there is none: nothing was evaluated, or all candidates failed.
        """
        if np.isnan(self.scores).all():
            raise ValueError(f"no score among {len(self.scores)} candidates: none can be the best.")
        return self.architectures[int(np.nanargmax(self.scores))]


@dataclasses.dataclass
class _Outcome:
    """What comes back of one candidate: the states only where its score exceeds those that were
    known when it began.
    """

    score: float
    error: str = ""
    states: tuple | None = None
    interrupted: bool = False


class HeldOutScore:
    """Minus the mean reference loss on rows of their own, of the network trained around a
    candidate.

    All candidates start from the same generator and see the same rows in the same order, so that
    their scores differ by little but what the candidates are.

    Parameters
    ----------
    realise : callable (architecture, context) -> nn.Module, or dict of them by slot
        As `SearchMethod.realise`, whose bound method it may be.
    fraction : float in (0, 1), default=0.2
        Share of the training rows that judge.
    train_share : float in (0, 1], default=1.0
        Share of the other rows that train, so that a candidate costs less.
    start : dict of str to ndarray, or None
        Weights with which the networks of all candidates begin, by name, as in
        `SearchProblem.train`; arrays, which worker processes share. The rows that judge must not
        have trained them.
    **changes
        Fields of the training plan to change, such as ``epochs``.
    """

    def __init__(self, realise, fraction=0.2, train_share=1.0, start=None, **changes):
        self.realise = realise
        self.fraction = fraction
        self.train_share = train_share
        self.start = start
        self.changes = changes

    def rows(self, problem):
        """Positions of the rows that train and of those that judge, disjoint."""
        trained, judging = problem.split(self.fraction)
        # Those of a split are shuffled.
        return trained[: max(round(self.train_share * len(trained)), 1)], judging

    def __call__(self, problem, architecture):
        modules = self.realise(architecture, problem.context)
        trained, judging = self.rows(problem)
        start = self.start
        if start is not None:
            start = {name: torch.tensor(array) for name, array in start.items()}
        by_slot = modules if isinstance(modules, dict) else {problem.slots[0]: modules}
        result = problem.train(
            *(by_slot[slot] for slot in problem.slots),
            start=start,
            rows=trained,
            **self.changes,
        )
        return -problem.score(result, judging)


def evaluate(problem, policy, score, n_jobs=None, max_time=None, max_evaluations=None):
    """Ask a generator for candidates, score each, tell it the scores; see `SearchProblem.evaluate`.

    Returns
    -------
    Evaluations
    """
    run = _Run(problem, score, n_jobs, max_time, max_evaluations)
    said, idle = None, 0
    try:
        with ExitStack() as stack:
            run.open_workers(stack)
            while run.stopped == "finished":
                try:
                    batch = list(policy.send(said))
                except StopIteration:
                    break
                fresh, said = run.batch(batch)
                idle = 0 if fresh else idle + 1
                if idle == STALLED:
                    raise RuntimeError(
                        f"The policy has asked for nothing new in {STALLED} batches; a policy has "
                        f"to end when it has no new candidate."
                    )
    except KeyboardInterrupt:
        run.stopped = "interrupted"
    finally:
        policy.close()
    return run.conclude()


class _Run:
    """The books of one evaluation."""

    def __init__(self, problem, score, n_jobs, max_time, max_evaluations):
        self.problem, self.score, self.n_jobs = problem, score, n_jobs
        own = None if max_time is None else now() + max_time
        self.deadline = earliest(own, problem.plan.deadline)
        self.allowed = math.inf if max_evaluations is None else max_evaluations
        self.generator_state = problem.context.generator.get_state()
        self.known: dict[str, float] = {}
        self.entries: list = []  # (architecture, score), appended as one: Ctrl-C comes anywhere
        self.best, self.error = (-math.inf, None), ""
        self.stopped = "finished"
        # One worker and two have the same bits only if each computes with the same number of
        # threads. Without workers torch keeps those that it has.
        alone = effective_n_jobs(n_jobs) == 1
        self.threads = None if alone and n_jobs is None else 1
        self.parallel = None if alone else {"n_jobs": n_jobs, "return_as": "generator"}

    def open_workers(self, stack):
        """Keep the worker processes, if there are any, over all batches."""
        if self.parallel is not None:
            self.workers = stack.enter_context(
                Parallel(**self.parallel, pre_dispatch="n_jobs", batch_size=1)
            )

    def batch(self, batch):
        """Evaluate what is new of a batch; how many that are, and the scores of the whole batch.

        The scores are None if it was stopped on the way.
        """
        keys = [text_of(architecture, "a candidate", dict) for architecture in batch]
        new = {}
        for key in keys:
            if key not in self.known:
                new[key] = json.loads(key)  # what a file would give back
        left = self.allowed - len(self.entries)
        wanted = list(new.items())[: None if math.isinf(left) else max(int(left), 0)]
        done = 0
        for (key, architecture), outcome in zip(wanted, self._outcomes(wanted), strict=False):
            if outcome.interrupted:  # half a training says nothing about its candidate
                raise KeyboardInterrupt
            self._record(key, architecture, outcome)
            done += 1
            if self.stopped != "finished":
                break
        if self.stopped == "finished" and done < len(new):
            self.stopped = "max_time" if done < len(wanted) else "max_evaluations"
        if self.stopped != "finished":
            return len(new), None
        return len(new), [self.known[key] for key in keys]

    def _record(self, key, architecture, outcome):
        if outcome.states is not None and outcome.score > self.best[0]:
            self.best = (outcome.score, outcome.states)
        self.entries.append((architecture, outcome.score))
        self.known[key] = outcome.score
        number, problem = len(self.entries), self.problem
        record = {"candidate": number, "score": outcome.score, "architecture": architecture}
        problem.history.append({"slot": "+".join(problem.slots), **record})
        if outcome.error:
            self.error = self.error or outcome.error
            warnings.warn(
                f"Candidate {number}, {key:.200}, failed and has no score: "
                f"{outcome.error.strip().splitlines()[-1]}",
                FitFailedWarning,
                stacklevel=5,
            )
        if problem.on_epoch is not None and problem.on_epoch(number - 1, record):
            self.stopped = "callback"

    def _outcomes(self, wanted):
        """Outcomes in the order of the candidates, fewer if the time is over."""
        bare = _bare(self.problem)
        if self.parallel is None:
            for arguments in self._until_deadline(wanted):
                yield _evaluate_one(bare, self.problem.data, *arguments)
            return
        # As arrays joblib writes the rows to memory that all workers share, once.
        data, bare.data = _arrays(bare.data), None
        yield from self.workers(
            delayed(_evaluate_one)(bare, data, *arguments)
            for arguments in self._until_deadline(wanted)
        )

    def _until_deadline(self, wanted):
        for number, (_, architecture) in enumerate(wanted):
            first = not self.entries and number == 0
            if not first and has_passed(self.deadline):
                return
            yield self.score, architecture, self.generator_state, self.best[0], self.threads

    def conclude(self):
        """The evaluations, with the weights of the best candidate left in the problem."""
        architectures, scores = ([entry[i] for entry in self.entries] for i in (0, 1))
        evaluations, problem = Evaluations(architectures, scores, self.stopped), self.problem
        of_fit = self.stopped == "max_time" and has_passed(problem.plan.deadline)
        problem.stop(self.stopped == "interrupted", of_fit)
        if np.isnan(evaluations.scores).all():
            if self.stopped == "interrupted":
                raise KeyboardInterrupt
            raise ValueError(
                f"All the {len(self.entries)} candidates failed. The first of them:\n{self.error}"
                if self.entries
                else "The policy has asked for no candidate."
            )
        if self.best[1] is not None:
            problem.initial_state, problem.final_state = self.best[1]
        return evaluations


def _bare(problem):
    """The problem as a candidate gets it: with books of its own, and nothing of the estimator."""
    own = copy.copy(problem)
    own.on_epoch, own.history, own.interrupted = None, [], False
    # A candidate that has begun is finished, on whatever machine, with a clock of its own.
    own.plan, own.out_of_time = dataclasses.replace(own.plan, deadline=None), False
    own.stream = None  # candidates are compared on rows at hand
    own.initial_state, own.final_state = {}, {}
    return own


def _arrays(data):
    """Encoded rows as numpy arrays, and the device that they were on."""
    tensors = (getattr(data, field.name) for field in dataclasses.fields(data))
    return [None if t is None else t.cpu().numpy() for t in tensors], data.ids.device


def _evaluate_one(problem, data, score, architecture, generator_state, bound, threads):
    """One candidate, in any process: nothing depends on those before it."""
    own = _bare(problem)
    if not isinstance(data, EncodedTensors):
        arrays, device = data
        data = EncodedTensors(*(None if a is None else torch.tensor(a).to(device) for a in arrays))
    generator = torch.Generator()
    generator.set_state(generator_state)
    own.data, own.context = data, dataclasses.replace(own.context, generator=generator)
    own.network_context = dataclasses.replace(own.network_context, generator=generator)
    with _threads(threads):
        try:
            value, error = float(score(own, copy.deepcopy(architecture))), ""
        except Exception:
            value, error = math.nan, format_exc()
    if not (error or math.isfinite(value)):
        value, error = math.nan, f"its score is {value}"
    states = (own.initial_state, own.final_state)
    keep = value > bound and own.final_state
    return _Outcome(value, error, states if keep else None, own.interrupted)


@contextmanager
def _threads(number):
    """Let torch compute with so many threads; None leaves them."""
    before = torch.get_num_threads()
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
