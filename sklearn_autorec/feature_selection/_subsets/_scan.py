"""Searches by agents that go over fields, or blocks of rows, and decide on one after the other."""

import numpy as np

from ._agents import Scaled
from ._many_agents import Search
from ._subset_scorer import bitmask


class Scanner:
    """One agent that decides on one thing after another and learns from the change that each
    decision made.
    """

    def __init__(self, search, n_state):
        self.search = search
        self.bank = search.agents(1, n_state)
        self.scale = Scaled()

    def act(self, state, advice=0.5):
        """Yes or no; with the probability of exploration at random, yes as probable as advised."""
        if self.search.rng.random_sample() < self.search.epsilon():
            return bool(self.search.rng.random_sample() < advice)
        no, yes = self.bank.values(state)[0]
        return bool(yes > no)

    def learn(self, state, action, gain, following):
        self.bank.remember(state, [action], [self.scale(gain)], following)
        for _ in range(self.search.p.n_updates):
            self.bank.learn()


class Scan(Search):
    """A single agent goes over the fields by falling relevance, again and again, and says yes or no
    to each.
    """

    n_more = 0  # numbers that a subclass adds to what the agent sees

    def __init__(self, selector, X, y, scorer, size, rng):
        super().__init__(selector, X, y, scorer, rng)
        self.order = [
            f
            for f in np.argsort(-self.association.relevance, kind="stable").tolist()
            if scorer.distinct[f]
        ]
        self.likeness = self.association.similarity()
        self.rank = self.association.relevance / (self.association.relevance.max() or 1.0)
        self.agent = Scanner(self, self.state.size + 4 + self.n_more)

    def look(self, mask, place, *more):
        """State of the subset and of the field at a place: the place, relevance, whether it is in,
        what it repeats.
        """
        f = self.order[place]
        others = mask.copy()
        others[f] = False
        repeated = self.likeness[f, others].max() if others.any() else 0.0
        return np.r_[
            self.state(mask), place / len(self.order), self.rank[f], mask[f], repeated, more
        ]

    def decided(self, mask, place, keep):
        """The subset with or without the field at a place; the last field stays."""
        mask = mask.copy()
        mask[self.order[place]] = keep
        mask[self.order[place]] |= not mask.any()
        return mask

    def run(self):
        n, n_walks = len(self.order), self.p.n_walks
        self.scorer([self.scorer.everything])
        # Walks start at different places, each with the field of its place.
        places = [w % n for w in range(n_walks)]
        masks = [np.arange(self.n_fields) == self.order[place] for place in places]
        scores = self.scorer([bitmask(mask) for mask in masks]).tolist()
        rewards = [self.reward(mask, score) for mask, score in zip(masks, scores, strict=True)]
        while self.step < self.p.n_steps:
            places = [(place + 1) % n for place in places]
            states = [self.look(mask, place) for mask, place in zip(masks, places, strict=True)]
            reached = [
                self.decided(mask, place, self.agent.act(state))
                for mask, place, state in zip(masks, places, states, strict=True)
            ]
            scores = self.scorer([bitmask(mask) for mask in reached]).tolist()
            for w, (mask, place, score) in enumerate(zip(reached, places, scores, strict=True)):
                self.count(mask)
                reward = self.reward(mask, score)
                following = self.look(mask, (place + 1) % n)
                self.agent.learn(states[w], mask[self.order[place]], reward - rewards[w], following)
                masks[w], rewards[w] = mask, reward
            self.step += 1
