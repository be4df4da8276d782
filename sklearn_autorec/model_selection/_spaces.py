"""What a search may choose from: parameters of lists and distributions, as points that a sampler
can model.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

# Distributions without bounds are cut where 1e-6 of their mass lies beyond.
TAIL = 1e-6


@dataclass(frozen=True)
class Choice:
    """A list, by index: values need no order, and may be anything (None, tuples, estimators)."""

    values: list

    @property
    def size(self):
        return len(self.values)

    def decode(self, index):
        return self.values[int(index)]

    def encode(self, value):
        for k, candidate in enumerate(self.values):
            if same(candidate, value):
                return k
        raise ValueError(f"{value!r} is none of {self.values!r}.")


@dataclass(frozen=True)
class Integers:
    """Integers of equal probability: low to high, both included."""

    low: int
    high: int

    @property
    def size(self):
        return self.high - self.low + 1

    def decode(self, value):
        return int(value)

    encode = decode


@dataclass(frozen=True)
class Quantile:
    """Any other distribution, as its quantile in [0, 1].

    On this scale every distribution is uniform, so a log-uniform learning rate is modelled on its
    logarithm."""

    distribution: Any

    size = math.inf

    def decode(self, u):
        value = self.distribution.ppf(u)
        if not np.isfinite(value):
            value = self.distribution.ppf(min(max(u, TAIL), 1 - TAIL))
        return value.item()

    def encode(self, value):
        u = self.distribution.cdf(value)
        # All quantiles of a step give its value: the one in the middle.
        if hasattr(self.distribution, "pmf"):
            u -= self.distribution.pmf(value) / 2
        return float(np.clip(u, 0.0, 1.0))


def same(a, b):
    """Whether two parameter values are the same: identical, or equal and of one type (True is not
    1).
    """
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    try:
        return bool(a == b)
    except ValueError:  # arrays
        return bool(np.array_equal(a, b))


def dimension(name, given):
    """The parameter ``name``.

    Parameters
    ----------
    name : str
    given : list, tuple, 1-D ndarray, or distribution of scipy.stats

    Raises
    ------
    ValueError
        ``given`` is none of these, or is empty.
    """
    allowed = "a non-empty list of values or a distribution of scipy.stats"
    if hasattr(given, "ppf"):
        try:
            values = [given.ppf(u) for u in (TAIL, 0.5, 1 - TAIL)]
            usable = bool(np.isfinite(values).all())
        except TypeError:  # not frozen: its shape parameters are missing
            usable = False
        if not usable:
            raise ValueError(
                f"param_distributions[{name!r}] must be {allowed} with finite quantiles, got "
                f"{given!r}."
            )
        if getattr(getattr(given, "dist", None), "name", None) == "randint":
            low, high = given.support()
            return Integers(int(low), int(high))
        return Quantile(given)
    one_axis = isinstance(given, np.ndarray) and given.ndim == 1
    if not (one_axis or isinstance(given, (list, tuple))) or len(given) == 0:
        raise ValueError(f"param_distributions[{name!r}] must be {allowed}, got {given!r}.")
    return Choice(list(given))


def as_dicts(param_distributions):
    """``param_distributions`` as a list of dicts.

    Raises
    ------
    ValueError
    """
    dicts = (
        param_distributions
        if isinstance(param_distributions, (list, tuple))
        else [param_distributions]
    )
    if not dicts or not all(
        isinstance(d, dict) and all(isinstance(n, str) for n in d) for d in dicts
    ):
        raise ValueError(
            "param_distributions must be a dict of parameter names to lists or distributions, or "
            "a non-empty list of "
            f"such dicts, got {param_distributions!r}."
        )
    return list(dicts)


class Space:
    """A search space: one dict of parameters, or several of which a candidate takes one.

    Parameters
    ----------
    param_distributions : dict or list of dict

    Attributes
    ----------
    branches : list of dict of str to dimension
    size : int or float
        Number of candidates; infinite with a continuous parameter.
    """

    def __init__(self, param_distributions):
        dicts = as_dicts(param_distributions)
        self.branches = [
            {name: dimension(name, given) for name, given in sorted(d.items())} for d in dicts
        ]
        self.sizes = [math.prod(d.size for d in branch.values()) for branch in self.branches]
        self.size = sum(self.sizes)

    def random(self, random_state):
        """A point: (number of its branch, dict of coordinates)."""
        b = random_state.randint(len(self.branches)) if len(self.branches) > 1 else 0
        point = {}
        for name, d in self.branches[b].items():
            if isinstance(d, Quantile):
                point[name] = random_state.uniform()
            else:
                low = d.low if isinstance(d, Integers) else 0
                point[name] = low + random_state.randint(d.size)
        return b, point

    def decode(self, b, point):
        """Parameters of a point."""
        return {name: d.decode(point[name]) for name, d in self.branches[b].items()}

    def encode(self, params):
        """The point of parameters, which may come from elsewhere."""
        for b, branch in enumerate(self.branches):
            if branch.keys() == params.keys():
                try:
                    return b, {name: d.encode(params[name]) for name, d in branch.items()}
                except ValueError:  # another branch of the same names may have these values
                    continue
        raise ValueError(f"no candidate of the search space has the parameters {params!r}.")

    def number(self, b, point):
        """A number of its own for each point of a finite space, from 0 to size - 1."""
        n = 0
        for name, d in self.branches[b].items():
            n = n * d.size + point[name] - (d.low if isinstance(d, Integers) else 0)
        return sum(self.sizes[:b]) + n

    def numbered(self, n):
        """Inverse of `number`."""
        b = 0
        while n >= self.sizes[b]:
            n -= self.sizes[b]
            b += 1
        point = {}
        for name, d in reversed(self.branches[b].items()):
            n, k = divmod(n, d.size)
            point[name] = k + (d.low if isinstance(d, Integers) else 0)
        return b, point
