"""The blocks of a plan at work: each asks for candidates and is told their scores.

All of them have the same few methods. ``ask(n)`` gives up to ``n`` pairs of parameters and the name
of the block that chose them, ``tell`` takes pairs of these parameters and their scores. ``moved``
says that the parameters outside of the block have changed, and by how much its best candidate is
better for it."""

import itertools
import math


def slope(curve, window):
    """Mean gain of the last ``window`` pulls; infinite as long as there are fewer, or if the first
    ones failed.
    """
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
    def n_startup(self):
        return self.sampler.n_startup

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
    """A bandit over the values of one parameter: in turn, until an arm cannot become the best any
    more.

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
    def n_startup(self):
        return max(node.n_startup for _, node in self.alive.values())

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
        inner = [
            ({k: v for k, v in params.items() if k != self.name}, score) for params, score in scored
        ]
        self.alive[self.pulled][1].tell(inner, left)
        self._note(scored)
        if not self.turn and left is not None:
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
        self.n_begun = 0

    @property
    def n_startup(self):
        return max(node.n_startup for node in self.nodes)

    @property
    def exhausted(self):
        return (
            self.best is not None
            and self.n_begun >= self.n_startup
            and all(node.exhausted for node in self.nodes)
        )

    def ask(self, n):
        if self.best is None or self.n_begun < self.n_startup:
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
        """All blocks at once: random candidates for all samplers to begin with, until something has
        a score.
        """
        self.active = None
        for node in self.nodes:
            if node.exhausted:
                node.moved(0.0)
        asked = [node.ask(n) for node in self.nodes]
        size = max(map(len, asked))
        columns = [itertools.islice(itertools.cycle(part), size) for part in asked]
        self.parts = [[params for params, _ in row] for row in zip(*columns, strict=True)]
        self.n_begun += size
        name = f"{self.path}/start" if self.path else "start"
        return [({k: v for part in parts for k, v in part.items()}, name) for parts in self.parts]

    def tell(self, scored, left):
        before = self.score
        self._note(scored)
        if self.active is None:
            for k, node in enumerate(self.nodes):
                node.tell(
                    [
                        (parts[k], score)
                        for parts, (_, score) in zip(self.parts, scored, strict=True)
                    ],
                    None,
                )
                if self.n_begun >= self.n_startup:
                    node.moved(0.0)  # what was tried with other partners may be tried with the best
            return
        self.nodes[self.active].tell(
            [(p, score) for p, (_, score) in zip(self.parts, scored, strict=True)], left
        )
        if self.score > before:
            for k, node in enumerate(self.nodes):
                if k != self.active:
                    node.moved(self.score - before)

    def moved(self, gain):
        super().moved(gain)
        for node in self.nodes:
            node.moved(gain)
