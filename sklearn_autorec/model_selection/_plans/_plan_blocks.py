"""The blocks that a plan is written in, and how they become nodes that work."""

from fnmatch import fnmatchcase
from numbers import Integral

import numpy as np

from .._optuna_samplers import POINT_SAMPLERS
from .._spaces import as_dicts, dimension, same
from ._plan_nodes import Arms, Leaf, Turns

# Random candidates of each sampler where there are several: ten of each would leave nothing for the
# models.
SHORT_STARTUP = 4


class Block:
    """Part of a plan. Blocks are values: equal if they say the same, and never changed by a
    search.
    """

    def __eq__(self, other):
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # as of a list


def _check_window(block, window):
    if not isinstance(window, Integral) or isinstance(window, bool) or window < 2:
        raise ValueError(f"window of {block} must be an integer >= 2, got {window!r}.")


class Joint(Block):
    """Parameters that one sampler searches together.

    Parameters
    ----------
    *patterns : str
        Names of parameters, with ``*`` for any part of a name ("select__*"). None at all: those of
        no other block.
    sampler : {"tpe", "gp", "random"}, default=None
        None is the one of the search.
    """

    def __init__(self, *patterns, sampler=None):
        if not all(isinstance(p, str) for p in patterns):
            raise ValueError(
                f"Joint takes names of parameters such as 'select__*', got {patterns!r}."
            )
        if sampler is not None and sampler not in POINT_SAMPLERS:
            raise ValueError(
                f"sampler of Joint must be None or one of {sorted(POINT_SAMPLERS)}, got "
                f"{sampler!r}."
            )
        self.patterns = patterns
        self.sampler = sampler

    def __repr__(self):
        sampler = [] if self.sampler is None else [f"sampler={self.sampler!r}"]
        return f"Joint({', '.join([*map(repr, self.patterns), *sampler])})"

    def _blocks(self):
        return [self]

    def _takes(self, name):
        return any(fnmatchcase(name, p) for p in self.patterns)

    def _node(self, dicts, build, path):
        return build.leaf(self, dicts, f"{path}/Joint({', '.join(self.patterns)})".lstrip("/"))


class Conditioning(Block):
    """A bandit over the values of one parameter, each with a block of its own for the rest.

    The values (arms) are pulled in turn. After each round an arm is dropped if it cannot catch up:
    if its best score plus its mean gain in the last ``window`` pulls times the pulls that are left
    is below the best score of another.

    Parameters
    ----------
    name : str
        A parameter with a list of values. In a list of dicts all dicts with a value belong to its
        arm, so that each choice may have parameters of its own.
    block : Joint, Conditioning or Alternating
        What each arm does, over the other parameters.
    window : int, default=4
        Pulls of each arm before one can be dropped.
    """

    def __init__(self, name, block, *, window=4):
        if not isinstance(name, str):
            raise ValueError(f"name of Conditioning must be the name of a parameter, got {name!r}.")
        _check_block("block of Conditioning", block)
        _check_window("Conditioning", window)
        self.name = name
        self.block = block
        self.window = window

    def __repr__(self):
        window = "" if self.window == 4 else f", window={self.window}"
        return f"Conditioning({self.name!r}, {self.block!r}{window})"

    def _blocks(self):
        return [self, *self.block._blocks()]

    def _takes(self, name):
        return name == self.name

    def _node(self, dicts, build, path):
        values, rests = [], []
        for d in dicts:
            if self.name not in d:
                raise ValueError(
                    f"Conditioning({self.name!r}, ...) needs {self.name!r} in every dict of "
                    f"param_distributions; one has "
                    f"only {sorted(d)}."
                )
            if hasattr(d[self.name], "ppf"):
                raise ValueError(
                    f"Conditioning({self.name!r}, ...) needs a list of values, but "
                    f"param_distributions[{self.name!r}] is "
                    f"a distribution, {d[self.name]!r}."
                )
            rest = {k: v for k, v in d.items() if k != self.name}
            for value in dimension(self.name, d[self.name]).values:
                known = [k for k, v in enumerate(values) if same(v, value)]
                if known:
                    rests[known[0]].append(rest)
                else:
                    values.append(value)
                    rests.append([rest])
        arms = []
        for k, (value, rest) in enumerate(zip(values, rests, strict=True)):
            label = (
                str(value)
                if isinstance(value, (str, int, float, type(None)))
                else f"{type(value).__name__}#{k}"
            )
            arms.append(
                (value, self.block._node(rest, build, f"{path}/{self.name}={label}".lstrip("/")))
            )
        return build.arms(path, self.name, arms, self.window)


class Alternating(Block):
    """Blocks that improve in turn, each with the best parameters that the others have found so far.

    All begin together, with as many random candidates as their samplers need. Then the block with
    the largest mean gain in its last ``window`` pulls is next; of equals, the one that has waited
    longest. For parts that hardly depend on one another it needs fewer candidates than a joint
    search; where only a change of both helps, it is stuck.

    Parameters
    ----------
    *blocks : Joint, Conditioning or Alternating
        Two or more.
    window : int, default=4
    """

    def __init__(self, *blocks, window=4):
        if len(blocks) < 2:
            raise ValueError(f"Alternating takes two blocks or more, got {len(blocks)}.")
        for block in blocks:
            _check_block("each block of Alternating", block)
        _check_window("Alternating", window)
        self.blocks = blocks
        self.window = window

    def __repr__(self):
        window = "" if self.window == 4 else f", window={self.window}"
        return f"Alternating({', '.join(map(repr, self.blocks))}{window})"

    def _blocks(self):
        return [self, *(b for block in self.blocks for b in block._blocks())]

    def _takes(self, name):
        return False

    def _node(self, dicts, build, path):
        if len(dicts) > 1:
            raise ValueError(
                f"{self!r} would mix the {len(dicts)} dicts of param_distributions; allowed is "
                f"one dict, or a Conditioning "
                "around it whose values tell the dicts apart."
            )
        return Turns(path, [block._node(dicts, build, path) for block in self.blocks], self.window)


def _check_block(what, block):
    if not isinstance(block, Block):
        raise ValueError(f"{what} must be Joint, Conditioning or Alternating, got {block!r}.")


class Build:
    """Makes the nodes of a plan over a search space."""

    def __init__(self, plan, param_distributions, sampler, random_state):
        _check_block("plan", plan)
        self.sampler, self.random_state = sampler, random_state
        self.alone = isinstance(plan, Joint)
        self.bandits = []
        dicts = as_dicts(param_distributions)
        self.owner = _owners(plan, sorted({name for d in dicts for name in d}))
        self.root = plan._node(dicts, self, "")

    def leaf(self, block, dicts, path):
        own = []
        for d in dicts:
            part = {name: given for name, given in d.items() if self.owner[name] is block}
            if part not in own:
                own.append(part)
        seed = self.random_state.randint(np.iinfo(np.int32).max)
        sampler = POINT_SAMPLERS[block.sampler or self.sampler](own, seed)
        if not self.alone:
            sampler.n_startup = min(sampler.n_startup, SHORT_STARTUP, sampler.space.size)
        return Leaf(path, sampler)

    def arms(self, path, name, arms, window):
        self.bandits.append(Arms(path, name, arms, window))
        return self.bandits[-1]


def _owners(plan, names):
    """The block that takes each parameter."""
    blocks = plan._blocks()
    for block in blocks:
        wanted = (
            block.patterns
            if isinstance(block, Joint)
            else [block.name]
            if isinstance(block, Conditioning)
            else []
        )
        for pattern in wanted:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"{pattern!r} of {block!r} is no parameter of param_distributions; there are "
                    f"{names}."
                )
    rest = [b for b in blocks if isinstance(b, Joint) and not b.patterns]
    if len(rest) > 1:
        raise ValueError(
            f"only one Joint() without names can take what is left over, got {len(rest)} in "
            f"{plan!r}."
        )
    owners = {}
    for name in names:
        takers = [b for b in blocks if b._takes(name)] or rest
        if len(takers) != 1:
            problem = f"is in {len(takers)} blocks, {takers!r}" if takers else "is in no block"
            raise ValueError(
                f"each parameter must be in one block of the plan, but {name!r} {problem}. "
                f"Joint() takes what is left over."
            )
        owners[name] = takers[0]
    return owners
