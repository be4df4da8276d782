"""DAIRS: one agent chooses fields, another one the rows to train on."""

from numbers import Integral, Real
from typing import Unpack

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.ensemble import IsolationForest

from ...utils._docs import inherits_entries
from ...utils._parameters import stores_own_and_common
from ...utils._sklearn import Interval, StrOptions, safe_indexing
from ._agent_selector import AgentOptions, AgentSelector
from ._association import field_codes
from ._scan import Scan, Scanner
from ._subset_scorer import SubsetScorer, bitmask, rows_of, unpack


class DualScorer(SubsetScorer):
    """Scores subsets of fields and of blocks of training rows; bits from ``n_fields`` on are
    blocks.

    Test rows are scored all of them, whatever their block.
    """

    # Set by the search: block of every row, of the training rows of every fold, and the number of
    # blocks.
    blocks: np.ndarray
    fold_blocks: list
    n_blocks = 0

    def canonical(self, bits):
        rows = bits >> self.n_fields
        fields = super().canonical(bits & (1 << self.n_fields) - 1)
        return fields | rows << self.n_fields if fields else 0

    def kept(self, bits, blocks):
        """Which rows' blocks are chosen, bool (n_rows,)."""
        return unpack(bits >> self.n_fields, self.n_blocks)[blocks]

    def _tasks(self, bits):
        return [
            (*task[:4], task[4][self.kept(bits, blocks)], *task[5:])
            for task, blocks in zip(super()._tasks(bits), self.fold_blocks, strict=True)
        ]

    def _record(self, bits):
        return {**super()._record(bits), "n_rows": int(self.kept(bits, self.blocks).sum())}


class DualScan(Scan):
    """Two agents take turns: one decides on the next field, the other one on the next block of
    rows.
    """

    n_more = 1  # the share of rows kept

    def __init__(self, selector, X, y, scorer, size, rng):
        super().__init__(selector, X, y, scorer, size, rng)
        self.suspicion, of_folds = suspicion(selector.rows_by, X, y, scorer, rng)
        labels = y if self.discrete else np.zeros(len(y))
        n_blocks = min([selector.n_blocks, *map(len, of_folds)])
        scorer.blocks, scorer.n_blocks = blocks_of(self.suspicion, labels, n_blocks), n_blocks
        scorer.fold_blocks = [
            blocks_of(found, labels[train], n_blocks)
            for found, (train, _) in zip(of_folds, scorer.splits, strict=True)
        ]
        self.least = (1 - selector.max_dropped) * n_blocks
        self.row_agent = Scanner(self, 5)

    def look_at_rows(self, mask, rows, place):
        """State of a block: its place, whether it is in, share and mean place of the blocks in use,
        share of the fields.
        """
        n = len(rows)
        return np.array(
            [place / n, rows[place], rows.mean(), np.flatnonzero(rows).mean() / n, mask.mean()]
        )

    def run(self):
        mask, rows = self.scorer.distinct.copy(), np.ones(self.scorer.n_blocks, bool)
        reward = self.reward(mask, self.score(mask, rows))
        while self.step < self.p.n_steps:
            turn = self.step // 2
            if self.step % 2 == 0:
                place = turn % len(self.order)
                state = self.look(mask, place, rows.mean())
                mask = self.decided(mask, place, self.agent.act(state))
            else:
                place = turn % len(rows)
                state = self.look_at_rows(mask, rows, place)
                rows = rows.copy()
                # The trainer's advice where the agent explores: to keep a block the likelier, the
                # less suspicious it is.
                rows[place] = self.row_agent.act(state, (place + 0.5) / len(rows))
                rows[place] |= rows.sum() < self.least
            before, reward = reward, self.reward(mask, self.score(mask, rows))
            self.count(mask)
            if self.step % 2 == 0:
                following = self.look(mask, (place + 1) % len(self.order), rows.mean())
                self.agent.learn(state, mask[self.order[place]], reward - before, following)
            else:
                following = self.look_at_rows(mask, rows, (place + 1) % len(rows))
                self.row_agent.learn(state, rows[place], reward - before, following)
            self.step += 1

    def score(self, mask, rows):
        return float(self.scorer([bitmask(mask) | bitmask(rows) << self.n_fields])[0])

    def results(self):
        return {**super().results(), "suspicion_": self.suspicion}


def suspicion(rows_by, X, y, scorer, rng):
    """How little each row fits the others, (n_rows,), and the same for the training rows of every
    fold.

    Larger is more suspicious. Where it depends on the target, that of a fold's training rows is
    found without its test rows: leaving out rows that contradict them would make noise look right.
    """
    if rows_by == "loss":
        of_all = held_out_loss(scorer, X, y, np.arange(len(y)))
        return of_all, [held_out_loss(scorer, X, y, train) for train, _ in scorer.splits]
    of_all = rng.random_sample(len(y))
    if rows_by == "isolation":
        codes, rows = field_codes(X, rng)
        forest = IsolationForest(random_state=rng.randint(2**31 - 1))
        of_all[rows] = -forest.fit(codes).score_samples(codes)
        # Of large tables some rows only are read.
        unread = np.isin(np.arange(len(y)), rows, invert=True)
        of_all[unread] = np.median(of_all[rows])
    return of_all, [of_all[train] for train, _ in scorer.splits]


def held_out_loss(scorer, X, y, rows):
    """Loss of some rows, each under a model of all columns that was fitted on other rows of these,
    (len(rows),).

    One minus the probability of the row's own class; 0 or 1 without probabilities; the absolute
    error of numbers."""
    part = np.empty(len(rows), np.int64)
    # Every class, or range of y, in every part.
    part[np.argsort(y[rows], kind="stable")] = np.arange(len(rows)) % 3
    loss = np.empty(len(rows))
    for k in range(3):
        train, test = rows[part != k], rows[part == k]
        model = clone(scorer.estimator)
        model.fit(safe_indexing(X, train), y[train], **rows_of(scorer.params.fit, train, len(y)))
        table = safe_indexing(X, test)
        if is_classifier(model) and hasattr(model, "predict_proba"):
            found = 1 - (model.predict_proba(table) * (y[test][:, None] == model.classes_)).sum(1)
        elif is_classifier(model):
            found = model.predict(table) != y[test]
        else:
            found = np.abs(model.predict(table) - y[test])
        loss[part == k] = found
    return loss


def blocks_of(found, y, n_blocks):
    """Rows cut by falling suspicion into blocks of about equal size, each with the classes of all
    rows, int (n_rows,).

    Parameters
    ----------
    found : ndarray (n_rows,)
        Suspicion.
    y : ndarray (n_rows,)
        Classes.
    n_blocks : int
    """
    place = np.empty(len(found))
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        place[rows[np.argsort(-found[rows], kind="stable")]] = (np.arange(len(rows)) + 0.5) / len(
            rows
        )
    blocks = np.empty(len(found), np.int64)
    blocks[np.argsort(place, kind="stable")] = np.arange(len(found)) * n_blocks // len(found)
    return blocks


@inherits_entries
class DualAgent(AgentSelector):
    """Selection of columns and of training rows by two agents that take turns (DAIRS).

    One agent goes over the columns by falling relevance, the other over blocks of rows by falling
    suspicion; each decides on one at a time, sees what the other has left, and learns from the
    change of the cross-validated score. Rows are left out of training folds only: every row of a
    test fold is scored. ``transform`` selects columns and never drops a row; train the final model
    on ``X[selector.sample_support_]``.

    Parameters
    ----------
    {estimator}
    rows_by : {"loss", "isolation", "random"}, default="loss"
        What makes a row suspicious: its loss under models of all columns fitted without it, within
        its class; an isolation forest on the coded columns, which does not see the target; or
        nothing, as a control.
    n_blocks : int, default=20
        Blocks of rows, of about equal size.
    max_dropped : float in [0, 1), default=0.5
        Share of the blocks that may be left out at most.
    state : {"statistics", "autoencoder", "graph"}, default="statistics"
        What agents see of a subset of columns; see `MARLFS`.
    {relevance_weight}
    {scoring, cv}
    n_steps : int, default=600
        Decisions of both agents together.
    max_evaluations : int or None, default=200
        Subsets to fit at most, each on all folds. Subsets met again are remembered and cost
        nothing. The fits behind ``rows_by="loss"``, three for each fold and three for the whole,
        are not counted.
    {max_time}
    {epsilon to gamma}
    memory_size, batch_size : int, default=200, 32
        Transitions kept by each agent and transitions of an update.
    n_updates : int, default=2
        Updates of the network after a decision.
    {target_update, replay}
    random_state : int, RandomState or None, default=None
    n_jobs : int or None, default=None
        Processes for the folds of a subset.

    Attributes
    ----------
    {support_}
    sample_support_ : bool ndarray of shape (n_rows,)
        The rows of ``fit`` to train on.
    suspicion_ : ndarray of shape (n_rows,)
        What rows were put into blocks by.
    {scores_, ranking_}
    {selection_frequency_, relevance_}
    best_score_, no_fields_score_ : float
        Score of what was kept and of a constant prediction.
    search_history_ : list of dict
        "evaluation", "subset" (positions), "n_rows" (rows of X left to train on) and "score" of
        every fitted subset; the first is that of all columns and rows.
    {n_evaluations_ to feature_names_in_}

    Notes
    -----
    ``best_score_`` is the largest of many scores on the same folds and therefore too good; score
    the result on rows that ``fit`` never saw. Blocks are cut anew in the training rows of each
    fold, by the suspicion among these alone: rows left out because they contradict the test rows
    would make noise look right.

    Departures from the paper, whose full text leaves much open. Rows are decided on in blocks, for
    a fit per row is too much; a block has the classes of the whole, so that the base rate stays.
    The paper's trainer for rows, an isolation forest, is ``rows_by="isolation"``; wrong labels are
    no outliers among the columns, so the held-out loss is the default. The agents take turns and
    each hears the change that its own decision made.

    References
    ----------
    .. [1] W. Fan et al. Feature and instance joint selection: a reinforcement learning perspective.
       IJCAI 2022. https://arxiv.org/abs/2205.07867

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn_autorec.feature_selection import DualAgent
    >>> X = np.random.default_rng(0).random((400, 5))
    >>> y = (X[:, 1] + X[:, 3] > 1).astype(int)
    >>> y[:80] = 1 - y[:80]  # wrong labels
    >>> selector = DualAgent(KNeighborsClassifier(1), max_evaluations=80, random_state=0).fit(X, y)
    >>> selector.get_support(indices=True)
    array([1, 3])
    >>> bool((~selector.sample_support_[:80]).mean() > 2 * (~selector.sample_support_[80:]).mean())
    True
    """

    n_features_to_select = "auto"  # not a parameter: the agents choose the number
    n_walks = 1

    _parameter_constraints = {
        name: constraint
        for name, constraint in AgentSelector._parameter_constraints.items()
        if name != "n_features_to_select"
    } | {
        "rows_by": [StrOptions({"loss", "isolation", "random"})],
        "n_blocks": [Interval(Integral, 2, None, closed="left")],
        "max_dropped": [Interval(Real, 0, 1, closed="left")],
    }

    @stores_own_and_common(AgentSelector)
    def __init__(
        self,
        estimator,
        *,
        rows_by="loss",
        n_blocks=20,
        max_dropped=0.5,
        **common: Unpack[AgentOptions],
    ):
        """Store the parameters."""

    _scorer_class = DualScorer

    def _begin(self, X, y, scorer, size, rng):
        self._check_memory()
        return DualScan(self, X, y, scorer, size, rng)

    def _publish(self, scorer, results, chosen):
        super()._publish(scorer, results, chosen)
        self.sample_support_ = scorer.kept(chosen, scorer.blocks)
