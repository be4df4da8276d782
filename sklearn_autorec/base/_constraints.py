"""What the parameters may be that several search methods have."""

from numbers import Integral, Real
from typing import Any

from ..utils._sklearn import Interval, StrOptions
from ._slots import RETRAIN

__all__ = ["BUDGET", "N_INTERACTIONS", "RETRAIN_OR_NOT", "at_least_one", "constraints_of"]

# A number of bytes, or a share.
BUDGET = [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="right")]
# How many tuples of fields are kept, or which share of the candidates.
N_INTERACTIONS = [Interval(Integral, 0, None, closed="left"), Interval(Real, 0, 1, closed="both")]
RETRAIN_OR_NOT = [StrOptions({*RETRAIN})]

AT_LEAST_ONE = [Interval(Integral, 1, None, closed="left")]

SHARED: dict[str, list[Any]] = {
    # Of gradient searches.
    "level": [StrOptions({"first_order", "unrolled", "one_level"})],
    "arch_lr": [Interval(Real, 0, None, closed="neither")],
    "arch_every": AT_LEAST_ONE,
    "warmup": [Interval(Real, 0, 1, closed="left")],
    "temperature": [tuple, list],  # the first and the last one
    # Of searches that try candidates.
    "max_evaluations": AT_LEAST_ONE,
    "epochs": AT_LEAST_ONE,
    "train_share": [Interval(Real, 0, 1, closed="right")],
    "n_jobs": [None, Integral],
    "max_time": [None, Interval(Real, 0, None, closed="left")],
    # Of both.
    "search_fraction": [Interval(Real, 0, 1, closed="neither")],
    "max_interactions": [None, Interval(Integral, 0, None, closed="left")],
    "retrain": [StrOptions({*RETRAIN} - {"none"})],
}


def constraints_of(*names: str) -> dict[str, list[Any]]:
    """Constraints of parameters that mean the same in all methods that have them.

    Parameters
    ----------
    *names : str
        Keys of `SHARED`. What a method takes for another thing it constrains itself.

    Returns
    -------
    dict of str to list
        For ``_parameter_constraints``.

    Examples
    --------
    >>> constraints_of("temperature")
    {'temperature': [<class 'tuple'>, <class 'list'>]}
    """
    return {name: SHARED[name] for name in names}


def at_least_one(*names: str) -> dict[str, list[Any]]:
    """Constraints of parameters that are whole numbers of at least 1."""
    return dict.fromkeys(names, AT_LEAST_ONE)
