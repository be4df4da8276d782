"""Beam search over sets of crosses, each candidate scored by a field-wise model on growing blocks of rows."""

import math
import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.stats import t as student

from ._fieldwise import AdditiveModel, derivatives, fit_field, placements, row_loss

ALPHA = 0.01  # chance that a step without any true cross takes one, min_gain="auto"
FIRST_ROWS = 20_000  # training rows of the first round at least, n_blocks="auto"
FINAL_STEPS = 4  # Newton steps of a candidate in the last round; one in the rounds before


@dataclass(eq=False)
class State:
    """A set of crosses and its model; ``gains`` are those of each cross when it came in."""

    model: AdditiveModel
    score: float
    crosses: tuple = ()
    gains: tuple = ()
    records: tuple = ()


@dataclass(eq=False)
class Scored:
    """A candidate after a round: gain in the score of the held-out rows, and that gain's standard error."""

    cross: tuple
    gain: float
    error: float


@dataclass(eq=False)
class Pool:
    """Distinct combinations of each cross (or single field) as dense codes of all rows: made when first asked for.

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
        """Unions of two members of the pool (the fields and the crosses of one state) that are no members themselves."""
        fields = [member for member in self.codes if len(member) == 1]
        members = [*fields, *crosses]
        found = {}
        for i, a in enumerate(members):
            for b in members[i + 1 :]:
                union = tuple(sorted({*a, *b}))
                if len(union) > max_order or union in members:
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
        Ids by column; the training rows come first.
    sizes : dict of int to int
        Numbers of ids.
    y : float64 ndarray of shape (n_rows,)
        0/1, or numbers of mean 0 and variance 1.
    n_train : int
    options : AutoCross
        Holds the parameters.
    logistic : bool
    unit : float, default=1.0
        Scores are given in these units: the variance that numbers had.
    deadline : float
        `time.monotonic` after which nothing new is tried.
    """

    def __init__(self, fields, sizes, y, n_train, options, logistic, unit=1.0, deadline=math.inf):
        self.pool = Pool({(i,): ids for i, ids in fields.items()}, {(i,): size for i, size in sizes.items()})
        self.y, self.n_train, self.options, self.logistic = y, n_train, options, logistic
        self.unit, self.deadline = unit, deadline
        self.held_out = slice(n_train, len(y))

    def in_time(self):
        return time.monotonic() < self.deadline

    def run(self):
        """The best state found, and the score without crosses.

        Returns
        -------
        State, float
        """
        model = AdditiveModel(self.y, self.n_train, self.logistic, self.options.l2)
        for member, ids in self.pool.codes.items():
            model = model.extended(ids, self.pool.sizes[member])
        model.fit(within=self.in_time)
        start = State(model, self.score(model.eta))
        beam, best = [start], start
        for _ in range(self.options.max_crosses):
            beam = self._expand(beam)
            if not beam:
                break
            best = max([best, *beam], key=lambda state: state.score)
        return best, start.score

    def score(self, eta):
        """AUC, or minus the mean loss, of the held-out rows."""
        y, eta = self.y[self.held_out], eta[self.held_out]
        if self.options.scoring == "roc_auc":
            return float(placements(y, eta).mean() if 0 < y.mean() < 1 else 0.5)
        return -self.unit * float(row_loss(y, eta, self.logistic).mean())

    def _expand(self, beam):
        """Children of the states in the beam, the best ``beam_width`` of them."""
        proposals = {}
        for state in beam:
            began = time.perf_counter()
            candidates = self.pool.candidates(state.crosses, self.options.max_order)
            if not candidates:
                continue
            finalists, rounds = self._halve(state, candidates)
            least = self._least_gain(len(candidates))
            passed = [s for s in finalists if s.gain > 0 and s.gain >= least(s)]
            record = {"n_candidates": len(candidates), "rounds": rounds, "seconds": time.perf_counter() - began}
            for scored in sorted(passed, key=lambda s: -s.gain)[: self.options.beam_width]:
                crosses = frozenset([*state.crosses, scored.cross])
                expected = state.score + scored.gain
                if crosses not in proposals or expected > proposals[crosses][0]:
                    proposals[crosses] = expected, state, scored, {**record, "min_gain": float(least(scored))}
        children = []
        for _, state, scored, record in sorted(proposals.values(), key=lambda p: -p[0])[: self.options.beam_width]:
            if not self.in_time():
                break
            child = self._child(state, scored, record)
            if child.score > state.score:
                children.append(child)
        return children

    def _least_gain(self, n_candidates):
        """What a candidate must gain, as a function of its `Scored`."""
        if self.options.min_gain != "auto":
            return lambda scored: self.options.min_gain
        # Gains of few rows, or of few rows of one class, have heavier tails than the normal distribution.
        y = self.y[self.held_out]
        freedom = (min(int((y > 0).sum()), int((y <= 0).sum())) if self.logistic else len(y)) - 1
        # The best of so many candidates: a one-sided test of each at a share of the level.
        quantile = student.isf(ALPHA / n_candidates, freedom) if freedom > 0 else math.inf
        return lambda scored: quantile * scored.error if math.isfinite(quantile) else math.inf

    def _child(self, state, scored, record):
        began = time.perf_counter()
        self.pool.add(scored.cross)
        model = state.model.extended(self.pool.codes[scored.cross], self.pool.sizes[scored.cross])
        model.fit(within=self.in_time)
        score = self.score(model.eta)
        seconds = record["seconds"] + time.perf_counter() - began
        step = len(state.crosses) + 1
        record = {"epoch": step, "cross": scored.cross, "score": score, "gain": score - state.score} | record
        return State(
            model,
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
            The candidates that have seen all rows; none if time is up.
        list of (int, int)
            Candidates and training rows of each round.
        """
        n_blocks = self.options.n_blocks
        if n_blocks == "auto":
            n_blocks = 2 ** max(math.ceil(math.log2(len(candidates))) - 1, 0)
            n_blocks = min(n_blocks, 2 ** int(math.log2(max(self.n_train / FIRST_ROWS, 1))))
        rows = max(self.n_train // n_blocks, 1)
        n, y = self.n_train, self.y
        g, h = derivatives(y[:n], state.model.eta[:n], self.logistic)
        rounds = []
        while True:
            rows = self.n_train if 2 * rows > self.n_train else rows
            last = rows == self.n_train
            n_valid = len(self.y) - n if last else min(rows, len(self.y) - n)
            base = self._row_scores(state.model.eta[n : n + n_valid])
            scored = []
            for cross in candidates:
                if not self.in_time():
                    return [], rounds
                scored.append(self._score_candidate(cross, state.model.eta, rows, (g, h), base, last))
            rounds.append((len(candidates), rows))
            if last:
                return scored, rounds
            keep = sorted(scored, key=lambda s: -s.gain)[: math.ceil(len(scored) / 2)]
            candidates, rows = sorted(s.cross for s in keep), 2 * rows

    def _row_scores(self, eta):
        """What is averaged over the first held-out rows, whose logits these are; larger is better."""
        y = self.y[self.n_train : self.n_train + len(eta)]
        if self.options.scoring == "roc_auc" and 0 < y.sum() < len(y):
            return placements(y, eta)
        return -self.unit * row_loss(y, eta, self.logistic)

    def _score_candidate(self, cross, eta, rows, start, base, last):
        """Train the weights of a candidate on the first rows, and judge them by as many held-out rows as ``base`` has."""
        n, stop = self.n_train, self.n_train + len(base)
        a, b = self.pool.parents[cross]
        (train, valid), size = self.pool.pair(a, b, [slice(0, rows), slice(n, stop)])
        g, h = start
        weights = fit_field(
            train,
            size,
            self.y[:rows],
            eta[:rows],
            self.logistic,
            self.options.l2,
            FINAL_STEPS if last else 1,
            (g[:rows], h[:rows]),
        )
        if not weights.any():
            return Scored(cross, 0.0, 0.0)
        difference = self._row_scores(eta[n:stop] + weights[valid]) - base
        return Scored(cross, *self._mean_and_error(difference, self.y[n:stop]))

    def _mean_and_error(self, difference, y):
        if self.options.scoring == "roc_auc" and 0 < y.sum() < len(y):  # DeLong's variance of a difference of two AUCs
            classes = [difference[y > 0], difference[y <= 0]]
            return float(classes[0].mean()), math.sqrt(sum(d.var() / len(d) for d in classes))
        return float(difference.mean()), float(difference.std() / math.sqrt(len(difference)))
