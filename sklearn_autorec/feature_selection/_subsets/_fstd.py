"""FSTD: temporal-difference walks from the empty set of fields."""

import math
from numbers import Integral, Real

import numpy as np

from ...utils._docs import inherits_entries
from ...utils._parameters import stores_parameters
from ...utils._sklearn import Interval, StrOptions
from ._subset_scorer import unpack
from ._subset_selector import SubsetSelector


class Walks:
    """Episodes that add one field at a time, several side by side.

    Values, visits and average rewards are updated in the order of the walks, after all of a step
    are scored, so that the result does not depend on who computes the scores."""

    def __init__(self, selector, scorer, size, rng):
        self.p, self.scorer, self.size, self.rng = selector, scorer, size, rng
        self.n_fields = scorer.n_fields
        self.aor = np.zeros(self.n_fields)
        self.visits = np.zeros(self.n_fields, np.int64)
        self.values = {}
        # The largest gain or loss seen: UCB's bonus is meant for rewards of size 1.
        self.scale = 0.0
        self.n_distinct = int(scorer.distinct.sum())
        self.patience = max(1, round(math.sqrt(self.n_distinct)))

    def run(self):
        self.scorer([self.scorer.everything])
        empty = self.scorer.no_fields
        begun, walks = 0, []
        while True:
            # A walk is [state, its score, best score of the episode, steps without a better one].
            while len(walks) < self.p.n_walks and begun < self.p.n_episodes:
                walks.append([0, empty, empty, 0])
                begun += 1
            if not walks:
                return
            pending = np.zeros(self.n_fields, np.int64)
            actions = []
            for state, *_ in walks:
                field = self.propose(state, pending)
                pending[field] += 1
                actions.append(field)
            reached = [walk[0] | 1 << f for walk, f in zip(walks, actions, strict=True)]
            scores = self.scorer(reached)
            for walk, field, state, score in zip(
                walks, actions, reached, scores.tolist(), strict=True
            ):
                self.learn(walk[0], field, state, walk[1], score)
                better = score > walk[2]
                walk[:] = state, score, max(score, walk[2]), 0 if better else walk[3] + 1
            walks = [walk for walk in walks if not self.ended(walk)]

    def propose(self, state, pending):
        """The field to add: a random one with probability epsilon, else the largest upper
        confidence bound.
        """
        absent = np.flatnonzero(self.scorer.distinct & ~unpack(state, self.n_fields))
        if self.rng.random_sample() < self.p.epsilon:
            return int(self.rng.choice(absent))
        n = (self.visits + pending)[absent]  # walks of the same step spread out
        ahead = np.array([self.values.get(state | 1 << f, 0.0) for f in absent.tolist()])
        bonus = np.full(len(absent), np.inf)
        tried = n > 0
        bonus[tried] = self.p.ucb * self.scale * np.sqrt(2 * np.log(max(n.sum(), 1)) / n[tried])
        index = self.aor[absent] + self.p.gamma * ahead + bonus
        return int(absent[self.rng.choice(np.flatnonzero(index == index.max()))])

    def learn(self, state, field, reached, before, after):
        gain = after - before
        self.scale = max(self.scale, abs(gain))
        value, ahead = self.values.get(state, 0.0), self.values.get(reached, 0.0)
        self.values[state] = value + self.p.alpha * (gain + self.p.gamma * ahead - value)
        self.visits[field] += 1
        reward = gain if self.p.aor == "difference" else after
        self.aor[field] += (reward - self.aor[field]) / self.visits[field]

    def ended(self, walk):
        n = walk[0].bit_count()
        if self.size is None and walk[3] >= self.patience:
            return True
        return n >= min(self.size or self.n_distinct, self.n_distinct)

    def results(self):
        return {
            "scores_": self.aor.copy(),
            "visits_": self.visits.copy(),
            "state_values_": dict(self.values),
        }


@inherits_entries
class FSTD(SubsetSelector):
    """Feature selection by temporal-difference learning over subsets of columns.

    The states are subsets, an action adds a column, the reward is the gain of the cross-validated
    score. Episodes start from no column. Each step takes the column with the largest upper
    confidence bound on its average reward, or a random one; the average rewards rank the columns
    (the filter), the best subset seen is the wrapper's answer.

    Parameters
    ----------
    estimator : estimator
        What scores a subset; cloned for every fit. A cheap one will do, but it must see what is
        looked for: a linear model sees no pairs.
    n_features_to_select : "auto", int or float, default="auto"
        Columns to keep; a float is a share of all. "auto": as many as the best subset seen has.
        With a number, episodes go on until they have so many.
    final : {"wrapper", "filter"}, default="wrapper"
        Keep the best subset seen (of the number asked for), or the columns with the largest average
        rewards.
    {scoring, cv}
    n_episodes : int, default=150
        Walks from the empty set.
    {max_evaluations, max_time}
    epsilon : float in [0, 1], default=0.2
        Probability of a random step.
    ucb : float, default=0.5
        Weight of the confidence bonus, in units of the largest gain seen.
    alpha : float in (0, 1], default=0.3
        Learning rate of the state values.
    gamma : float in [0, 1], default=0.7
        Discount.
    aor : {"difference", "level"}, default="difference"
        What the average reward of a column averages: the gain of adding it, or the score of the
        subset it leads to.
    n_walks : int, default=1
        Episodes side by side, whose fits ``n_jobs`` can share. The result depends on it, on
        ``n_jobs`` it does not.
    {random_state, n_jobs}

    Attributes
    ----------
    {support_}
    scores_ : ndarray of shape (``n_features_in_``,)
        Average reward (AOR) of each column; 0 for columns that were never added.
    {ranking_}
    visits_ : int ndarray of shape (``n_features_in_``,)
        How often each column was added.
    state_values_ : dict of int to float
        Value of each state left: discounted gains that followed. Bit f of a key is column f.
    best_score_ : float
        Score of the kept subset; NaN if just that one was never fitted (``final="filter"``).
    no_fields_score_ : float
        Score of a constant prediction, where every episode starts.
    {search_history_ to feature_names_in_}

    Notes
    -----
    ``best_score_`` is the largest of many scores on the same folds and therefore too good; score
    the kept columns on rows that the search never saw.

    Departures from the paper. The average reward is that of the difference of two scores: the
    printed incremental form averages a level, which does not separate columns (``aor="level"`` is
    there to see it). The difference is of the scores themselves; the learned state values,
    discounted, are added to the index of a step whose next state was visited before. The bonus is
    measured in units of the largest gain. All columns together are the first evaluation, so that
    ``final="wrapper"`` never ends below them. An episode ends when the square root of the number of
    columns was added without a better score.

    References
    ----------
    .. [1] S. M. Hazrati Fard, A. Hamzeh, S. Hashemi. Using reinforcement learning to find an
       optimal set of features. Computers & Mathematics with Applications, 2013.
       https://doi.org/10.1016/j.camwa.2013.06.031

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_autorec.feature_selection import FSTD
    >>> X = np.random.default_rng(0).integers(0, 2, (300, 6))
    >>> y = X[:, 1] ^ X[:, 4]
    >>> FSTD(DecisionTreeClassifier(random_state=0), max_evaluations=40, random_state=0).fit(
    ...     X, y
    ... ).get_support(indices=True)
    array([1, 4])
    """

    _parameter_constraints = {
        **SubsetSelector._parameter_constraints,
        "final": [StrOptions({"wrapper", "filter"})],
        "n_episodes": [Interval(Integral, 1, None, closed="left")],
        "epsilon": [Interval(Real, 0, 1, closed="both")],
        "ucb": [Interval(Real, 0, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="right")],
        "gamma": [Interval(Real, 0, 1, closed="both")],
        "aor": [StrOptions({"difference", "level"})],
        "n_walks": [Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        estimator,
        *,
        n_features_to_select="auto",
        final="wrapper",
        scoring=None,
        cv=3,
        n_episodes=150,
        max_evaluations=200,
        max_time=None,
        epsilon=0.2,
        ucb=0.5,
        alpha=0.3,
        gamma=0.7,
        aor="difference",
        n_walks=1,
        random_state=None,
        n_jobs=None,
    ):
        """Store the parameters."""

    def _begin(self, X, y, scorer, size, rng):
        return Walks(self, scorer, size, rng)

    def _choose(self, scorer, scores, size):
        if self.final == "wrapper":
            return super()._choose(scorer, scores, size)
        size = scorer.best().bit_count() if size is None else size
        return scorer.top(scores, size)
