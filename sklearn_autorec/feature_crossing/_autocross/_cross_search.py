"""Beam search over sets of crosses, each candidate scored by a field-wise model on growing blocks
of rows.
"""

import math
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ...utils._progress import NoProgress
from ._fieldwise import TINY, AdditiveModel, derivatives, fit_field, placements, row_loss

ALPHA = 0.05  # chance that a step without any true cross takes one, min_gain="auto"
FIRST_ROWS = 20_000  # training rows of the first round at least, n_blocks="auto"
FINAL_STEPS = 4  # Newton steps of a candidate in the last round; one in the rounds before


@dataclass(frozen=True)
class Fold:
    """Rows ``start`` to ``stop`` are held out."""

    start: int
    stop: int

    def arranged(self, rows):
        """An array of all rows with those held out at the end; the same array if they are there."""
        if self.stop == len(rows):
            return rows
        return np.concatenate([rows[: self.start], rows[self.stop :], rows[self.start : self.stop]])


@dataclass(eq=False)
class State:
    """A set of crosses and its models, one for each fold; ``gains`` are those of each cross when it
    came in.
    """

    models: list
    score: float
    crosses: tuple = ()
    gains: tuple = ()
    records: tuple = ()


@dataclass(eq=False)
class Scored:
    """A candidate after a round.

    Parameters
    ----------
    cross : tuple of int
    gain : float
        In the score of the held-out rows.
    t : float
        Mean gain in their loss over its standard error; minus infinity for a candidate without
        weights.
    """

    cross: tuple
    gain: float = 0.0
    t: float = -math.inf


@dataclass(eq=False)
class Pool:
    """Distinct combinations of each cross (or single field) as dense codes of all rows: made when
    first asked for.

    Parameters
    ----------
    codes : dict of tuple to int32 ndarray of shape (n_rows,)
    sizes : dict of tuple to int
    """

    codes: dict
    sizes: dict
    parents: dict = field(default_factory=dict)

    def pair(self, a, b, slices):
        """Codes of the combinations of two members in each slice of rows, and their number."""
        size_a, size_b = self.sizes[a], self.sizes[b]
        lengths = [s.stop - s.start for s in slices]
        keys = [self.codes[a][s].astype(np.int64) * size_b + self.codes[b][s] for s in slices]
        if size_a * size_b <= max(4 * sum(lengths), 2**16):
            return keys, size_a * size_b
        codes, distinct = pd.factorize(np.concatenate(keys))
        return np.split(codes, np.cumsum(lengths)[:-1]), len(distinct)

    def add(self, cross):
        """Make a cross a member."""
        if cross not in self.codes:
            a, b = self.parents[cross]
            keys = self.codes[a].astype(np.int64) * self.sizes[b] + self.codes[b]
            codes, distinct = pd.factorize(keys)
            self.codes[cross], self.sizes[cross] = codes.astype(np.int32), len(distinct)

    def candidates(self, crosses, max_order):
        """Unions of two members of the pool (the fields and the crosses of one state) that are no
        members themselves.
        """
        fields = [member for member in self.codes if len(member) == 1]
        members = [*fields, *crosses]
        known, found = set(members), {}
        for i, a in enumerate(members):
            for b in members[i + 1 :]:
                union = tuple(sorted({*a, *b}))
                if len(union) > max_order or union in known:
                    continue
                size = self.sizes[a] * self.sizes[b]
                if union not in found or size < found[union][0]:
                    found[union] = size, (a, b)
        self.parents.update({union: parents for union, (_, parents) in found.items()})
        return sorted(found)


class CrossSearch:
    """The search of `AutoCross`, on ids.

    Parameters
    ----------
    fields : dict of int to int ndarray of shape (n_rows,)
        Ids by column.
    sizes : dict of int to int
        Numbers of ids.
    y : float64 ndarray of shape (n_rows,)
        0/1, or numbers of mean 0 and variance 1.
    folds : list of Fold
        The first, of the last rows, judges in all rounds, the others only in the last round.
    options : AutoCross
        Holds the parameters.
    logistic : bool
    unit : float, default=1.0
        Scores are given in these units: the variance that numbers had.
    deadline : float
        `time.monotonic` after which nothing new is tried.
    weight : float64 ndarray of shape (n_rows,), default=None
        How often each row counts.

    Attributes
    ----------
    progress : FitProgress or NoProgress
        Told of each step, and of each candidate in each of its rounds.
    best : State or None
        The best so far.
    base_score : float
        The score without crosses.
    """

    def __init__(
        self, fields, sizes, y, folds, options, logistic, unit=1.0, deadline=math.inf, weight=None
    ):
        self.pool = Pool(
            {(i,): ids for i, ids in fields.items()}, {(i,): size for i, size in sizes.items()}
        )
        self.y, self.folds, self.options, self.logistic = y, folds, options, logistic
        self.unit, self.deadline, self.weight = unit, deadline, weight
        self.progress, self.best, self.base_score = NoProgress(), None, math.nan

    def in_time(self):
        return not self.progress.stopped and time.monotonic() < self.deadline

    def run(self):
        """Search; what was found is ``best`` at any time.

        Returns
        -------
        State, float
            The best state found, and the score without crosses.
        """
        models = []
        for fold in self.folds:
            n_train = len(self.y) - (fold.stop - fold.start)
            weight = None if self.weight is None else fold.arranged(self.weight)
            model = AdditiveModel(
                fold.arranged(self.y), n_train, self.logistic, self.options.l2, weight
            )
            for ids, size in self._first_fields():
                model = model.extended(fold.arranged(ids), size)
            models.append(model.fit(within=self.in_time))
        start = State(models, self.score(models))
        beam, self.best, self.base_score = [start], start, start.score
        with self.progress.task("search", self.options.max_crosses):
            for _ in range(self.options.max_crosses):
                with self.progress.task("cross"):
                    beam = self._expand(beam)
                if not beam:
                    break
                self.best = max([self.best, *beam], key=lambda state: state.score)
        return self.best, self.base_score

    def _first_fields(self):
        """Ids and their number of each field of the models without crosses."""
        return [(ids, self.pool.sizes[member]) for member, ids in self.pool.codes.items()]

    def score(self, models):
        """AUC (mean of the folds), or minus the mean loss, of the held-out rows."""
        found = [self._row_scores(m.y[m.n_train :], m.eta[m.n_train :]) for m in models]
        if self.options.scoring == "roc_auc":
            return float(np.mean([rows.mean() for rows in found]))
        weight = self._held_out_weight(models)
        return float(np.average(np.concatenate(found), weights=weight))

    def _held_out_weight(self, models):
        return (
            None if self.weight is None else np.concatenate([m.weight[m.n_train :] for m in models])
        )

    def _expand(self, beam):
        """Children of the states in the beam, the best ``beam_width`` of them."""
        proposals = {}
        for state in beam:
            began = time.perf_counter()
            candidates = self.pool.candidates(state.crosses, self.options.max_order)
            if not candidates:
                continue
            passed, rounds = self._halve(state, candidates)
            record = {
                "n_candidates": len(candidates),
                "rounds": rounds,
                "seconds": time.perf_counter() - began,
            }
            for scored in sorted(passed, key=lambda s: -s.gain)[: self.options.beam_width]:
                crosses = frozenset([*state.crosses, scored.cross])
                expected = state.score + scored.gain
                if crosses not in proposals or expected > proposals[crosses][0]:
                    proposals[crosses] = expected, state, scored, {**record, "t": scored.t}
        children = []
        for _, state, scored, record in sorted(proposals.values(), key=lambda p: -p[0])[
            : self.options.beam_width
        ]:
            if not self.in_time():
                break
            child = self._child(state, scored, record)
            if child.score > state.score:
                children.append(child)
        return children

    def _passed(self, finalists, n_tests):
        """Candidates that gain enough, given the number of those that had any weights in
        any round.
        """
        if self.options.min_gain != "auto":
            return [s for s in finalists if s.gain > 0 and s.gain >= self.options.min_gain]
        # Gains of few rows, or of few rows of one class, have heavier tails than the normal
        # distribution.
        y = np.concatenate([self.y[fold.start : fold.stop] for fold in self.folds])
        freedom = (min(int((y > 0).sum()), int((y <= 0).sum())) if self.logistic else len(y)) - 1
        if freedom < 1 or not n_tests:
            return []
        # The best of so many candidates: a one-sided test of each at a share of the level.
        least = student.isf(ALPHA / n_tests, freedom)
        return [s for s in finalists if s.gain > 0 and s.t >= least]

    def _child(self, state, scored, record):
        began = time.perf_counter()
        self.pool.add(scored.cross)
        ids, size = self.pool.codes[scored.cross], self.pool.sizes[scored.cross]
        models = []
        for fold, model in zip(self.folds, state.models, strict=True):
            models.append(model.extended(fold.arranged(ids), size).fit(within=self.in_time))
        score = self.score(models)
        seconds = record["seconds"] + time.perf_counter() - began
        step = len(state.crosses) + 1
        record = {
            "epoch": step,
            "cross": scored.cross,
            "score": score,
            "gain": score - state.score,
        } | record
        return State(
            models,
            score,
            (*state.crosses, scored.cross),
            (*state.gains, score - state.score),
            (*state.records, record | {"seconds": seconds}),
        )

    def _halve(self, state, candidates):
        """Successive halving: after each round the better half goes on, with twice the rows.

        Returns
        -------
        list of Scored
            Candidates that have seen all rows and gain enough; none if time is up.
        list of (int, int)
            Candidates and training rows of each round.
        """
        n_train, n_blocks = state.models[0].n_train, self.options.n_blocks
        if n_blocks == "auto":
            n_blocks = 2 ** max(math.ceil(math.log2(len(candidates))) - 1, 0)
            n_blocks = min(n_blocks, 2 ** int(math.log2(max(n_train / FIRST_ROWS, 1))))
        rows = max(n_train // n_blocks, 1)
        starts = [
            derivatives(m.y[: m.n_train], m.eta[: m.n_train], self.logistic, m.train_weight)
            for m in state.models
        ]
        rounds, tested = [], set()
        while True:
            rows = n_train if 2 * rows > n_train else rows
            last = rows == n_train
            scored = []
            for cross in candidates:
                if not self.in_time():
                    return [], rounds
                if last:
                    scored.append(self._score_fully(cross, state.models, starts))
                else:
                    scored.append(self._score_early(cross, state.models[0], starts[0], rows))
                self.progress.step("candidate")
            rounds.append((len(candidates), rows))
            tested |= {s.cross for s in scored if s.t > -math.inf}
            if last:
                return self._passed(scored, len(tested)), rounds
            keep = sorted(scored, key=lambda s: -s.gain)[: math.ceil(len(scored) / 2)]
            candidates, rows = sorted(s.cross for s in keep), 2 * rows

    def _score_early(self, cross, model, start, rows):
        """Train a candidate on the first rows of the first fold and judge it by no more held-out
        rows.
        """
        slices = [slice(0, rows), slice(model.n_train, min(model.n_train + rows, len(model.y)))]
        (train, valid), size = self.pool.pair(*self.pool.parents[cross], slices)
        weight = None if model.weight is None else model.weight[slices[1]]
        return self._scored(cross, [self._logits(model, start, train, valid, size, 1)], weight)

    def _score_fully(self, cross, models, starts):
        """Train a candidate on all training rows of each fold and judge it by all held-out rows."""
        (ids,), size = self.pool.pair(*self.pool.parents[cross], [slice(0, len(self.y))])
        found = []
        for fold, model, start in zip(self.folds, models, starts, strict=True):
            n, arranged = model.n_train, fold.arranged(ids)
            found.append(self._logits(model, start, arranged[:n], arranged[n:], size, FINAL_STEPS))
        return self._scored(cross, found, self._held_out_weight(models))

    def _logits(self, model, start, train, valid, size, n_steps):
        """Targets of held-out rows, and their logits without and with a field of these ids, all
        (n_valid,).
        """
        rows, held_out = len(train), slice(model.n_train, model.n_train + len(valid))
        y, eta = model.y[held_out], model.eta[held_out]
        start = tuple(d[:rows] for d in start)
        weights = fit_field(
            train,
            size,
            model.y[:rows],
            model.eta[:rows],
            self.logistic,
            self.options.l2,
            n_steps,
            start,
            None if model.weight is None else model.weight[:rows],
        )
        return y, eta, eta + weights[valid]

    def _row_scores(self, y, eta):
        """What is averaged over rows; larger is better."""
        if self.options.scoring == "roc_auc":
            return placements(y, eta) if 0 < y.sum() < len(y) else np.full(len(y), 0.5)
        return -self.unit * row_loss(y, eta, self.logistic)

    def _scored(self, cross, found, weight=None):
        """A candidate, from targets, logits without and logits with it of the held-out rows of each
        fold, and all their weights.
        """
        if all((before == after).all() for _, before, after in found):
            return Scored(cross)
        losses = np.concatenate(
            [row_loss(y, b, self.logistic) - row_loss(y, a, self.logistic) for y, b, a in found]
        )
        if weight is None:
            mean, error = float(losses.mean()), float(losses.std()) / math.sqrt(len(losses))
        else:
            # A row that counts twice is no second witness: the error is that of a weighted mean of
            # single rows.
            mean = float(np.average(losses, weights=weight))
            error = float(np.sqrt(np.square(weight * (losses - mean)).sum())) / float(weight.sum())
        gain = self.unit * mean
        if self.options.scoring == "roc_auc":
            gain = float(
                np.mean(
                    [(self._row_scores(y, a) - self._row_scores(y, b)).mean() for y, b, a in found]
                )
            )
        return Scored(cross, gain, mean / max(error, TINY))
