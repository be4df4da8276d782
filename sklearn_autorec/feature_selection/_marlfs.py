"""MARLFS: one reinforcement-learning agent per field, and its follow-ups."""

from numbers import Integral, Real

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils.multiclass import type_of_target

from ..utils._sklearn import Interval, StrOptions
from ._agents import STATES, Agents, Standardised, group_fields
from ._association import Association, field_codes, target_codes
from ._subset_scorer import SubsetSelector, bitmask, mean_difference


class Search:
    """What the search with many agents and the scan with one share: the reward, the state, the exploration."""

    def __init__(self, selector, X, y, scorer, rng):
        self.p, self.scorer, self.rng = selector, scorer, rng
        self.n_fields = scorer.n_fields
        self.discrete = type_of_target(y) in ("binary", "multiclass")
        codes, rows = field_codes(X, rng)
        self.association = Association(codes, target_codes(y[rows], self.discrete))
        self.state = STATES[selector.state](self.association, rng)
        self.step = 0
        self.selected = np.zeros(self.n_fields)  # how often each field was in the subset
        self.n_subsets = 0

    def agents(self, n_agents, n_state):
        p = self.p
        return Agents(
            n_agents,
            n_state,
            n_hidden=p.hidden_units,
            lr=p.lr,
            gamma=p.gamma,
            memory_size=p.memory_size,
            batch_size=p.batch_size,
            target_update=p.target_update,
            replay=p.replay,
            rng=self.rng,
        )

    def reward(self, mask, score):
        relevance, redundancy = self.association.of_subset(mask)
        return score + self.p.relevance_weight * relevance - self.p.redundancy_weight * redundancy

    def epsilon(self):
        """Probability of a random action: from 1 down to ``epsilon`` over the share ``exploration`` of the search."""
        budget = self.scorer.max_evaluations
        done = self.step / self.p.n_steps
        if budget is not None:
            done = max(done, len(self.scorer.history) / budget)
        rest = max(1 - done / self.p.exploration, 0.0) if self.p.exploration else 0.0
        return self.p.epsilon + (1 - self.p.epsilon) * rest

    def count(self, mask):
        self.selected += mask
        self.n_subsets += 1

    def results(self):
        return {
            "scores_": mean_difference(self.scorer.history, self.n_fields),
            "selection_frequency_": self.selected / max(self.n_subsets, 1),
            "relevance_": self.association.relevance,
        }


class ManyAgents(Search):
    """Every agent says yes or no to its field (or group of fields) at once; one subset a step."""

    def __init__(self, selector, X, y, scorer, size, rng):
        super().__init__(selector, X, y, scorer, rng)
        self.size = size
        n_groups = self.n_fields if selector.n_groups is None else min(selector.n_groups, self.n_fields)
        self.group = group_fields(self.association, n_groups)
        self.n_agents = n_groups
        self.bank = self.agents(n_groups, self.state.size)

    def run(self):
        everything = np.ones(self.n_fields, bool)
        self.scorer([bitmask(everything)])
        standardise = Standardised()
        masks = [everything] * self.p.n_walks
        states = [self.state(mask) for mask in masks]
        while self.step < self.p.n_steps:
            chosen = [self.act(mask, state) for mask, state in zip(masks, states, strict=True)]
            scores = self.scorer([bitmask(mask) for mask in chosen])
            for w, (mask, score) in enumerate(zip(chosen, scores.tolist(), strict=True)):
                self.count(mask)
                reward = standardise(self.reward(mask, score))
                now, before = self.actions_of(mask), self.actions_of(masks[w])
                following = self.state(mask)
                # Only agents that took part, now or in the step before, hear the reward.
                self.bank.remember(states[w], now, reward * (now | before), following)
                self.bank.learn()
                masks[w], states[w] = mask, following
            self.step += 1

    def actions_of(self, mask):
        """Which agents have a field in the subset, bool (n_agents,)."""
        return np.bincount(self.group[mask], minlength=self.n_agents) > 0

    def act(self, previous, state):
        """The next subset: every agent's better action, or a random one, then the advice."""
        values = self.bank.values(state)
        advantage = values[:, 1] - values[:, 0]
        explore = self.rng.random_sample(self.n_agents) < self.epsilon()
        bound = np.abs(advantage).max() or 1.0
        advantage = np.where(explore, self.rng.uniform(-bound, bound, self.n_agents), advantage)
        if not (advantage > 0).any():
            advantage[self.rng.randint(self.n_agents)] = bound  # one at least
        advantage = advantage[self.group]
        mask = self.of_size(advantage)
        advised = self.p.advisor is not None and self.step % 2 == 0 and self.step < self.p.n_steps // 2
        if advised:
            kept = advise(mask, previous, self.importance(mask))
            mask = kept if self.size is None else self.of_size(np.where(mask & ~kept, -np.inf, advantage))
        return mask

    def of_size(self, advantage):
        """Fields whose agent prefers yes; with a number asked for, those with the largest advantages."""
        if self.size is None:
            return advantage > 0
        order = np.lexsort([-self.association.relevance, -advantage])  # relevance decides within a group
        return np.isin(np.arange(self.n_fields), order[: self.size])

    def importance(self, mask):
        """What the advisor thinks of the fields of a subset, (n_fields,)."""
        first_half = self.step < self.p.n_steps // 4
        if self.p.advisor == "kbest" or (self.p.advisor == "hybrid" and first_half):
            return self.association.relevance
        tree = (DecisionTreeClassifier if self.discrete else DecisionTreeRegressor)(
            min_samples_leaf=10, random_state=self.rng.randint(2**31 - 1)
        )
        importance = np.zeros(self.n_fields)
        importance[mask] = tree.fit(self.association.codes[:, mask], self.association.target).feature_importances_
        return importance


def advise(mask, previous, importance):
    """Advice to the agents that newly chose their field.

    Those that chose it before as well keep it. With s of these and h new ones, a new one keeps its field if it is among the
    floor(s / 2) + h most important of the subset.
    """
    assertive, hesitant = mask & previous, mask & ~previous
    k = int(assertive.sum()) // 2 + int(hesitant.sum())
    order = [f for f in np.argsort(-importance, kind="stable") if mask[f]]
    return assertive | (hesitant & np.isin(np.arange(len(mask)), order[:k]))


class Scan(Search):
    """A single agent that walks over the fields by falling relevance and says yes or no to each."""

    def __init__(self, selector, X, y, scorer, size, rng):
        super().__init__(selector, X, y, scorer, rng)
        self.order = np.argsort(-self.association.relevance, kind="stable")
        self.likeness = self.association.similarity()
        self.rank = self.association.relevance / (self.association.relevance.max() or 1.0)
        self.bank = self.agents(1, self.state.size + 4)

    def look(self, mask, position):
        """State of the subset and of the field at a position: its place, relevance, whether it is in, what it repeats."""
        f = self.order[position]
        others = mask.copy()
        others[f] = False
        repeated = self.likeness[f, others].max() if others.any() else 0.0
        return np.r_[self.state(mask), position / self.n_fields, self.rank[f], mask[f], repeated]

    def run(self):
        everything = np.ones(self.n_fields, bool)
        self.scorer([bitmask(everything)])
        # Walks start at different places, each with the field of its place.
        places = [w % self.n_fields for w in range(self.p.n_walks)]
        masks = [np.arange(self.n_fields) == self.order[place] for place in places]
        scores = self.scorer([bitmask(mask) for mask in masks]).tolist()
        rewards = [self.reward(mask, score) for mask, score in zip(masks, scores, strict=True)]
        gains = Standardised()
        while self.step < self.p.n_steps:
            places = [(place + 1) % self.n_fields for place in places]
            seen = [self.look(mask, place) for mask, place in zip(masks, places, strict=True)]
            actions = [self.act(state) for state in seen]
            reached = []
            for mask, place, action in zip(masks, places, actions, strict=True):
                mask = mask.copy()
                mask[self.order[place]] = action
                reached.append(mask if mask.any() else ~mask & (np.arange(self.n_fields) == self.order[place]))
            scores = self.scorer([bitmask(mask) for mask in reached]).tolist()
            for w, (mask, score) in enumerate(zip(reached, scores, strict=True)):
                self.count(mask)
                reward = self.reward(mask, score)
                gain = reward - rewards[w]
                gains(gain)
                # In units of the usual change, but a gain stays a gain: the mean is not taken off.
                scaled = gain / ((gains.squares / gains.n) ** 0.5 or 1.0)
                following = self.look(mask, (places[w] + 1) % self.n_fields)
                self.bank.remember(seen[w], [mask[self.order[places[w]]]], [scaled], following)
                self.bank.learn()
                masks[w], rewards[w] = mask, reward
            self.step += 1

    def act(self, state):
        if self.rng.random_sample() < self.epsilon():
            return bool(self.rng.randint(2))
        no, yes = self.bank.values(state)[0]
        return bool(yes > no)


class MARLFS(SubsetSelector):
    """Feature selection by multi-agent reinforcement learning: one deep Q-network per column.

    In every step each agent, seeing a description of the current subset, keeps its column or leaves it. The subset is scored by
    cross-validation; agents that took part share the reward, score + relevance - redundancy, and learn from a memory
    of transitions. All networks are one module of batched matrices. The best subset seen is kept.

    Parameters
    ----------
    estimator : estimator
        What scores a subset; cloned for every fit.
    n_features_to_select : "auto", int or float, default="auto"
        Columns to keep; a float is a share of all. With a number, every subset has so many: those with the largest
        advantage of "yes" over "no".
    state : {"statistics", "autoencoder", "graph"}, default="statistics"
        What agents see of a subset: seven statistics over its columns of seven statistics of each; the mean of the columns'
        codes by an autoencoder; statistics passed along a graph of similarities.
    relevance_weight, redundancy_weight : float, default=1.0
        Weights in the reward of the mean mutual information with the target, and of the mean between the
        columns, beside the score.
    advisor : {"kbest", "tree", "hybrid"} or None, default=None
        Interactive reinforcement learning (AutoFS): in every other step of the first half, agents that newly chose their
        column give it up if it is not important enough by mutual information, by a decision tree, or by the one and then the
        other. A tree is a fit of its own, on coded columns, which is not counted as an evaluation.
    n_groups : int or None, default=None
        Agents decide on groups of similar columns (AutoGFS), so many at most.
    scan : bool, default=False
        A single agent goes over the columns by falling relevance and decides on each in turn (SADRLFS). Needs
        ``n_features_to_select="auto"``, no advisor and no groups.
    scoring : str, callable or None, default=None
        scikit-learn's scorer; None is the estimator's own ``score``.
    cv : int, splitter or iterable, default=3
        Folds, the same for every subset.
    n_steps : int, default=600
        Steps of the search (of a scan: decisions on one column).
    max_evaluations : int or None, default=200
        Subsets to fit at most, each on all folds. Subsets met again are remembered and cost nothing.
    max_time : float or None, default=None
        Seconds, after which the search ends with a warning.
    epsilon : float in [0, 1], default=0.05
        Probability that an agent acts at random, once exploration is over.
    exploration : float in [0, 1], default=0.4
        Share of the search (of evaluations or steps, whichever is further) over which that probability falls from 1.
    hidden_units : int, default=32
    lr : float, default=0.01
        Learning rate of Adam.
    gamma : float in [0, 1), default=0.9
        Discount.
    memory_size, batch_size : int, default=200, 32
        Transitions kept and transitions of an update.
    target_update : int, default=20
        Updates between two copies of the networks that give the targets.
    replay : {"uniform", "rank"}, default="uniform"
        "rank" learns more often from transitions of high reward.
    n_walks : int, default=1
        Subsets walked side by side, whose fits ``n_jobs`` can share. The result depends on it, on ``n_jobs`` it does not.
    random_state : int, RandomState or None, default=None
    n_jobs : int or None, default=None
        Processes for the fits: subsets of a step times folds.

    Attributes
    ----------
    support_ : bool ndarray of shape (n_features_in_,)
        The kept columns.
    scores_ : ndarray of shape (n_features_in_,)
        Mean score of the fitted subsets with a column less that of those without.
    ranking_ : int ndarray of shape (n_features_in_,)
        1 for kept columns, then 2, 3, ... by falling score.
    selection_frequency_ : ndarray of shape (n_features_in_,)
        Share of the steps in which a column was in the subset.
    relevance_ : ndarray of shape (n_features_in_,)
        Mutual information with the target, in nats.
    best_score_, no_fields_score_ : float
        Score of the kept subset and of a constant prediction.
    search_history_ : list of dict
        "evaluation", "subset" (positions) and "score" of every fitted subset; the first is that of all columns.
    n_evaluations_ : int
        Their number.
    n_features_in_ : int
        Columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (``n_features_in_``,)
        Their names, where they all are strings.

    Notes
    -----
    ``best_score_`` is the largest of many scores on the same folds and therefore too good; score the kept columns on rows
    that the search never saw.

    Departures from the papers, whose full texts leave much open. Rewards are standardised over the search, so that taking part
    in a bad subset is a loss; with plain accuracies, which are never negative, every agent would learn to say yes. A
    participating agent hears the whole reward instead of its share, which differs by a factor. Columns are described by codes (values by frequency, tenths of numbers); mutual information is less what
    independent columns would show, and a column is not redundant with itself. The autoencoder reads columns, is trained
    once, and its codes are averaged. A scan's reward is the change that a decision made.

    References
    ----------
    K. Liu et al. Automating feature subspace exploration via multi-agent reinforcement learning. KDD 2019.

    W. Fan et al. AutoFS: automated feature selection via diversity-aware interactive reinforcement learning. ICDM 2020.

    W. Fan et al. AutoGFS: automated group-based feature selection via interactive reinforcement learning. SDM 2021.

    X. Zhao et al. Simplifying reinforced feature selection via restructured choice strategy of single agent. ICDM 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_autorec.feature_selection import MARLFS
    >>> X = np.random.default_rng(0).integers(0, 2, (300, 6))
    >>> y = X[:, 1] | X[:, 4]
    >>> MARLFS(DecisionTreeClassifier(random_state=0), max_evaluations=40, random_state=0).fit(X, y).get_support(indices=True)
    array([1, 4])
    """

    _parameter_constraints = {
        **SubsetSelector._parameter_constraints,
        "state": [StrOptions(set(STATES))],
        "relevance_weight": [Interval(Real, 0, None, closed="left")],
        "redundancy_weight": [Interval(Real, 0, None, closed="left")],
        "advisor": [None, StrOptions({"kbest", "tree", "hybrid"})],
        "n_groups": [None, Interval(Integral, 1, None, closed="left")],
        "scan": ["boolean"],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "epsilon": [Interval(Real, 0, 1, closed="both")],
        "exploration": [Interval(Real, 0, 1, closed="both")],
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, 1, closed="left")],
        "memory_size": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "target_update": [Interval(Integral, 1, None, closed="left")],
        "replay": [StrOptions({"uniform", "rank"})],
        "n_walks": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator,
        *,
        n_features_to_select="auto",
        state="statistics",
        relevance_weight=1.0,
        redundancy_weight=1.0,
        advisor=None,
        n_groups=None,
        scan=False,
        scoring=None,
        cv=3,
        n_steps=600,
        max_evaluations=200,
        max_time=None,
        epsilon=0.05,
        exploration=0.4,
        hidden_units=32,
        lr=0.01,
        gamma=0.9,
        memory_size=200,
        batch_size=32,
        target_update=20,
        replay="uniform",
        n_walks=1,
        random_state=None,
        n_jobs=None,
    ):
        self.estimator = estimator
        self.n_features_to_select = n_features_to_select
        self.state = state
        self.relevance_weight = relevance_weight
        self.redundancy_weight = redundancy_weight
        self.advisor = advisor
        self.n_groups = n_groups
        self.scan = scan
        self.scoring = scoring
        self.cv = cv
        self.n_steps = n_steps
        self.max_evaluations = max_evaluations
        self.max_time = max_time
        self.epsilon = epsilon
        self.exploration = exploration
        self.hidden_units = hidden_units
        self.lr = lr
        self.gamma = gamma
        self.memory_size = memory_size
        self.batch_size = batch_size
        self.target_update = target_update
        self.replay = replay
        self.n_walks = n_walks
        self.random_state = random_state
        self.n_jobs = n_jobs

    def _begin(self, X, y, scorer, size, rng):
        if self.batch_size > self.memory_size:
            raise ValueError(f"batch_size={self.batch_size} is more than memory_size={self.memory_size} holds.")
        if self.scan:
            others = {"advisor": self.advisor, "n_groups": self.n_groups}
            given = [f"{name}={value!r}" for name, value in others.items() if value is not None]
            if size is not None:
                given.append(f"n_features_to_select={self.n_features_to_select!r}")
            if given:
                raise ValueError(f"scan=True has one agent that chooses the number itself; leave out {', '.join(given)}.")
            return Scan(self, X, y, scorer, size, rng)
        return ManyAgents(self, X, y, scorer, size, rng)
