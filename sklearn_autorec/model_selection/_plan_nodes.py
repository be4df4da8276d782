"""The blocks of a plan at work: each asks for candidates and is told their scores.

All of them have the same few methods. ``ask(n)`` gives up to ``n`` pairs of parameters and the name of the block that
chose them, ``tell`` takes pairs of these parameters and their scores. ``moved`` says that the parameters outside of the
block have changed, and by how much its best candidate is better for it.
"""

import itertools
import math


def slope(curve, window):
    """Mean gain of the last ``window`` pulls; infinite as long as there are fewer, or if the first ones failed."""
    if len(curve) < window:
        return math.inf
    start, end = curve[-window], curve[-1]
    return 0.0 if start == end else (end - start) / (window - 1)


class Node:
    """What all blocks have in common.

    Parameters
    ----------
    path : str
        Its place in the plan.

    Attributes
    ----------
    best : dict or None
        Its best parameters so far.
    curve : list of float
        Their score after each pull, as if the other parameters had been then what they are now.
    """

    def __init__(self, path):
        self.path = path
        self.best = None
        self.curve = []

    @property
    def score(self):
        return self.curve[-1] if self.curve else -math.inf

    def _note(self, scored):
        params, score = max(scored, key=lambda pair: pair[1])
        if score > self.score:
            self.best = params
        self.curve.append(max(self.score, score))

    def moved(self, gain):
        self.curve = [score + gain for score in self.curve]


class Leaf(Node):
    """A sampler over some of the parameters."""

    def __init__(self, path, sampler):
        super().__init__(path)
        self.sampler = sampler
        self.offset = 0.0

    @property
    def exhausted(self):
        return self.sampler.left <= 0

    def ask(self, n):
        return [(params, self.path) for params in self.sampler.ask(min(n, self.sampler.left))]

    def tell(self, scored, left):
        for params, score in scored:
            self.sampler.tell(params, score - self.offset)
        self._note(scored)

    def moved(self, gain):
        super().moved(gain)
        self.offset += gain
        self.sampler.forget(but=self.best)


class Arms(Node):
    """A bandit over the values of one parameter: in turn, until an arm cannot become the best any more.

    Parameters
    ----------
    arms : list of (value, Node)
    """

    def __init__(self, path, name, arms, window):
        super().__init__(path)
        self.name, self.window = name, window
        self.alive = dict(enumerate(arms))
        self.turn = list(self.alive)
        self.pulled = None
        self.dropped = {}

    @property
    def exhausted(self):
        return all(node.exhausted for _, node in self.alive.values())

    def ask(self, n):
        self.turn = [k for k in self.turn if not self.alive[k][1].exhausted]
        if not self.turn:
            self.turn = [k for k, (_, node) in self.alive.items() if not node.exhausted]
        self.pulled = self.turn.pop(0)
        value, node = self.alive[self.pulled]
        return [({self.name: value, **params}, block) for params, block in node.ask(n)]

    def tell(self, scored, left):
        inner = [({k: v for k, v in params.items() if k != self.name}, score) for params, score in scored]
        self.alive[self.pulled][1].tell(inner, left)
        self._note(scored)
        if not self.turn:
            self._drop(left)

    def _drop(self, left):
        lowest = max(node.score for _, node in self.alive.values())
        for k, (_, node) in list(self.alive.items()):
            gain = 0.0 if node.exhausted else slope(node.curve, self.window)
            if node.score + (gain and gain * left) < lowest:
                self.dropped[node.path] = len(node.curve)
                del self.alive[k]

    def moved(self, gain):
        super().moved(gain)
        for _, node in self.alive.values():
            node.moved(gain)


class Turns(Node):
    """Blocks that improve one at a time, the others standing still at their best.

    Parameters
    ----------
    nodes : list of Node
    """

    def __init__(self, path, nodes, window):
        super().__init__(path)
        self.nodes, self.window = nodes, window
        self.order = list(range(len(nodes)))
        self.active = None
        self.parts = []

    @property
    def exhausted(self):
        return self.best is not None and all(node.exhausted for node in self.nodes)

    def ask(self, n):
        if self.best is None:
            return self._start(n)
        open_ = [k for k in self.order if not self.nodes[k].exhausted]
        # The most promising block; of equals the one that has waited longest (max takes the first).
        self.active = max(open_, key=lambda k: slope(self.nodes[k].curve, self.window))
        self.order.remove(self.active)
        self.order.append(self.active)
        fixed = {}
        for k, node in enumerate(self.nodes):
            if k != self.active:
                fixed |= node.best
        asked = self.nodes[self.active].ask(n)
        self.parts = [params for params, _ in asked]
        return [(fixed | params, block) for params, block in asked]

    def _start(self, n):
        """All blocks at once, until something has a score."""
        for node in self.nodes:
            if node.exhausted:
                node.moved(0.0)
        asked = [node.ask(n) for node in self.nodes]
        size = max(map(len, asked))
        columns = [itertools.islice(itertools.cycle(part), size) for part in asked]
        self.parts = [[params for params, _ in row] for row in zip(*columns, strict=True)]
        name = f"{self.path}/start" if self.path else "start"
        return [({k: v for part in parts for k, v in part.items()}, name) for parts in self.parts]

    def tell(self, scored, left):
        before = self.score
        self._note(scored)
        if self.active is not None:
            self.nodes[self.active].tell([(p, score) for p, (_, score) in zip(self.parts, scored, strict=True)], left)
            others = [node for k, node in enumerate(self.nodes) if k != self.active]
            if self.score > before:
                for node in others:
                    node.moved(self.score - before)
        elif self.best is not None:
            # Only the best start tells of each block with the others as they will be.
            parts = next(parts for parts, (params, _) in zip(self.parts, scored, strict=True) if params is self.best)
            for node, part in zip(self.nodes, parts, strict=True):
                node.tell([(part, self.score)], left)
                node.moved(0.0)

    def moved(self, gain):
        super().moved(gain)
        for node in self.nodes:
            node.moved(gain)
