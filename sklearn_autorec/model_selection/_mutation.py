"""Random changes of hyperparameters (draws, factors, steps on the scale of a distribution), and who
copies whom.
"""

import numpy as np

from ._spaces import same


def check_distributions(param_distributions, estimator):
    """Refuse a search space that cannot be drawn from.

    Raises
    ------
    ValueError
    """
    if not isinstance(param_distributions, dict) or not param_distributions:
        raise ValueError(
            f"param_distributions must be a non-empty dict of parameter names, got "
            f"{param_distributions!r}."
        )
    for name, distribution in param_distributions.items():
        if hasattr(distribution, "rvs"):
            continue
        if (
            isinstance(distribution, str)
            or not hasattr(distribution, "__len__")
            or len(distribution) == 0
        ):
            raise ValueError(
                f"param_distributions[{name!r}] must be a non-empty list of values or a "
                f"distribution with rvs "
                f"(such as those of scipy.stats), got {distribution!r}."
            )
    known = estimator.get_params()
    # A parameter of a part that is itself searched for (network__dropout beside network) is not
    # known yet.
    unknown = [
        n
        for n in param_distributions
        if n not in known and n.rpartition("__")[0] not in param_distributions
    ]
    if unknown:
        raise ValueError(
            f"param_distributions names {unknown}, which {type(estimator).__name__} does not "
            f"have; allowed are "
            f"{sorted(known)}."
        )


def is_listed(distribution):
    """Whether the values are listed: categories without an order."""
    return not hasattr(distribution, "rvs")


def has_scale(distribution):
    """Whether values can be taken to [0, 1] and back, by cumulative probability."""
    return all(hasattr(distribution, name) for name in ("support", "cdf", "ppf"))


def _plain(value):
    """numpy numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def draw(distribution, random_state):
    """One value."""
    if is_listed(distribution):
        return distribution[random_state.randint(len(distribution))]
    return _plain(distribution.rvs(random_state=random_state))


def draw_other(values, value, random_state):
    """One of the listed values that is not ``value``, if there is one."""
    others = [v for v in values if not same(v, value)]
    return draw(others or values, random_state)


def multiply(distribution, value, factor):
    """A number times a factor, within the support.

    An integer that rounding would leave where it is moves by one in the factor's direction, so that
    1 is no trap.

    Parameters
    ----------
    distribution : frozen distribution with ``support``
    value : int or float
    factor : float

    Returns
    -------
    int or float
        Of the type of ``value``.
    """
    low, high = distribution.support()
    moved = value * factor
    if isinstance(value, int):
        moved = round(moved)
        if moved == value and factor != 1:
            moved += 1 if (factor > 1) == (value >= 0) else -1
        return int(min(max(moved, low), high))
    return float(min(max(moved, low), high))


def perturb(distribution, value, factors, resample, random_state):
    """Another value: drawn anew for categories, and for numbers with probability ``resample``; else
    times a factor.
    """
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if is_listed(distribution) or not numeric or not hasattr(distribution, "support"):
        return draw(distribution, random_state)
    if random_state.uniform() < resample:
        return draw(distribution, random_state)
    return multiply(distribution, value, factors[random_state.randint(len(factors))])


def to_unit(distribution, value):
    """Cumulative probability of a value, in [0, 1]; of an integer the middle of its step."""
    u = float(distribution.cdf(value))
    if hasattr(distribution, "pmf"):
        u -= float(distribution.pmf(value)) / 2
    return u


def from_unit(distribution, u):
    """The value at cumulative probability u, within the support (without end: within all but 1e-6
    of it).
    """
    value = distribution.ppf(u)
    if not np.isfinite(value):
        value = distribution.ppf(min(max(u, 1e-6), 1 - 1e-6))
    low, high = distribution.support()
    return _plain(type(value)(min(max(value, low), high)))


def walk(distribution, value, scale, random_state):
    """A neighbour of a number: a normal step on the scale of the distribution, reflected at both
    ends.

    An integer that would stay where it is moves by one.
    """
    u = abs(to_unit(distribution, value) + scale * random_state.standard_normal()) % 2
    moved = from_unit(distribution, 2 - u if u > 1 else u)
    if not isinstance(value, int):
        return moved
    if int(moved) != value:
        return int(moved)
    low, high = distribution.support()
    step = 1 if random_state.randint(2) else -1
    return next((v for v in (value + step, value - step) if low <= v <= high), value)


def truncation_sources(scores, quantile, random_state):
    """For each member the one that it goes on from: itself, or for the worst a random one of the
    best.

    Parameters
    ----------
    scores : array-like of shape (n,)
        Higher is better; minus infinity for a member that failed. Of equals the first is better.
    quantile : float in [0, 0.5]
        Share of members that copy, and share that is copied; at least one of each unless it is 0.
    random_state : numpy.random.RandomState

    Returns
    -------
    list of int, of length n
    """
    n = len(scores)
    sources = list(range(n))
    cut = min(max(1, round(quantile * n)), n // 2) if quantile > 0 else 0
    if not cut:
        return sources
    order = np.argsort(-np.asarray(scores), kind="stable")
    best = [k for k in order[:cut] if np.isfinite(scores[k])]
    if best:
        for member in sorted(order[-cut:]):
            sources[member] = int(best[random_state.randint(len(best))])
    return sources
