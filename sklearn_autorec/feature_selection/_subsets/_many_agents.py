"""A search by many agents, each of which decides on its field or group of fields."""

import numpy as np
from sklearn.base import is_classifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from ._agents import STATES, Agents, Standardised, group_fields
from ._association import Association, field_codes, target_codes
from ._subset_scorer import bitmask, mean_difference

# Parameters of `Agents` that the selectors have by the same names.
AS_OF_SELECTOR = ("lr", "gamma", "memory_size", "batch_size", "target_update", "replay")


class Search:
    """What the search with many agents and the scan with one share: the reward, the state, the
    exploration.
    """

    def __init__(self, selector, X, y, scorer, rng):
        self.p, self.scorer, self.rng = selector, scorer, rng
        self.n_fields = scorer.n_fields
        self.discrete = is_classifier(selector.estimator)
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
            rng=self.rng,
            **{name: getattr(p, name) for name in AS_OF_SELECTOR},
        )

    def reward(self, mask, score):
        relevance, redundancy = self.association.of_subset(mask)
        return score + self.p.relevance_weight * relevance - self.p.redundancy_weight * redundancy

    def epsilon(self):
        """Probability of a random action: from 1 down to ``epsilon`` over the share ``exploration``
        of the search.
        """
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
        n_groups = (
            self.n_fields if selector.n_groups is None else min(selector.n_groups, self.n_fields)
        )
        self.group = group_fields(self.association, n_groups)
        self.n_agents = n_groups
        self.bank = self.agents(n_groups, self.state.size)

    def run(self):
        everything = self.scorer.distinct
        self.scorer([self.scorer.everything])
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
                heard = now | before if self.p.credit == "participants" else np.ones(self.n_agents)
                self.bank.remember(states[w], now, reward * heard, following)
                for _ in range(self.p.n_updates):
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
        advised = (
            self.p.advisor is not None and self.step % 2 == 0 and self.step < self.p.n_steps // 2
        )
        if advised:
            kept = advise(mask, previous, self.importance(mask))
            mask = (
                kept
                if self.size is None
                else self.of_size(np.where(mask & ~kept, -np.inf, advantage))
            )
        return mask

    def of_size(self, advantage):
        """Fields whose agent prefers yes; with a number asked for, those with the largest
        advantages.
        """
        if self.size is None:
            return advantage > 0
        # Columns that no fit would see come last; relevance decides within a group.
        order = np.lexsort([-self.association.relevance, -advantage, ~self.scorer.distinct])
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
        importance[mask] = tree.fit(
            self.association.codes[:, mask], self.association.target
        ).feature_importances_
        return importance


def advise(mask, previous, importance):
    """Advice to the agents that newly chose their field.

    Those that chose it before as well keep it. With s of these and h new ones, a new one keeps its
    field if it is among the floor(s / 2) + h most important of the subset."""
    assertive, hesitant = mask & previous, mask & ~previous
    k = int(assertive.sum()) // 2 + int(hesitant.sum())
    order = [f for f in np.argsort(-importance, kind="stable") if mask[f]]
    return assertive | (hesitant & np.isin(np.arange(len(mask)), order[:k]))
