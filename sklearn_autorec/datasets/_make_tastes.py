"""Clicks of people on things, by tastes for topics: planted data of another make than
`make_ctr`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from sklearn.utils import check_random_state

from ..utils._typing import Array, RandomState


@dataclass(frozen=True)
class TasteTruth:
    """What `make_tastes` planted; fields are positions of columns.

    Parameters
    ----------
    pairs : tuple of tuple of int
        The two columns of each group, in the order of ``topics``.
    ranks : dict of int to int
        Topics of the group of a field: the rank of its pair table. 0 for noise.
    noise_fields : tuple of int
    tables : tuple of ndarray (n_values, n_values)
        Log odds by the values of each group's two columns.
    popular : tuple of ndarray
        Numbers of the values of each group's second column that are clicked more often.
    probabilities : ndarray (n_rows,)
        True probability of a click.
    bayes_auc : float
        ROC AUC that they reach on the drawn labels.
    """

    pairs: tuple
    ranks: dict
    noise_fields: tuple
    tables: tuple = field(repr=False)
    popular: tuple = field(repr=False)
    probabilities: np.ndarray = field(repr=False)
    bayes_auc: float = np.nan


def make_tastes(
    n_rows: int = 10_000,
    *,
    topics: Sequence[int] = (6, 1),
    n_values: int = 60,
    n_noise_fields: int = 1,
    effect: float = 1.5,
    popularity: float = 0.0,
    popular_share: float = 0.1,
    base_rate: float = 0.3,
    random_state: RandomState = None,
) -> tuple[pd.DataFrame, Array, TasteTruth]:
    """Draw clicks that depend on whether someone and something agree on topics.

    For every group there are two columns, "who" and "what". Each of their values likes or dislikes
    each of the group's topics (+1 or -1, half of the values each). The log odds of a click are the
    number of topics on which both agree less that on which they differ, brought to the same
    standard deviation in every group whatever its number of topics; beyond a threshold of
    popularity things are clicked more often by everyone. Values are of equal frequency.

    Unlike `make_ctr`, effects are two-valued rather than normal, and a group of one topic carries
    as much variance as one of six.

    Parameters
    ----------
    n_rows : int, default=10_000
    topics : sequence of int, default=(6, 1)
        Topics of each group: the rank of its pair table.
    n_values : int, default=60
        Values of every column.
    n_noise_fields : int, default=1
        Further columns, on which nothing depends.
    effect : float, default=1.5
        Standard deviation of the log odds by one group.
    popularity : float, default=0
        Log odds that a popular thing has more than others.
    popular_share : float in (0, 1), default=0.1
        Share of the things of each group that are popular.
    base_rate : float in (0, 1), default=0.3
        Mean probability of a click.
    random_state : int, RandomState or None, default=None

    Returns
    -------
    X : DataFrame (n_rows, 2 * len(topics) + n_noise_fields)
        Text columns "who0", "what0", "who1", ..., then "noise0", ...
    y : ndarray (n_rows,)
        0 or 1.
    truth : TasteTruth

    Raises
    ------
    ValueError
        For values out of range, naming the parameter.

    Examples
    --------
    >>> X, y, truth = make_tastes(1000, topics=(2,), random_state=0)
    >>> X.columns.tolist(), truth.ranks
    (['who0', 'what0', 'noise0'], {0: 2, 1: 2, 2: 0})
    """
    value: Any
    for name, value, low in (
        ("n_rows", n_rows, 1),
        ("n_values", n_values, 2),
        ("n_noise_fields", n_noise_fields, 0),
    ):
        if not isinstance(value, Integral) or value < low:
            raise ValueError(f"{name} must be an int of at least {low}, got {value!r}.")
    topics = tuple(topics)
    if not all(isinstance(k, Integral) and int(k) >= 1 for k in topics):
        raise ValueError(f"topics must hold ints of at least 1, got {topics!r}.")
    for name, value in (("effect", effect), ("popularity", popularity)):
        if not isinstance(value, Real) or not float(value) >= 0:
            raise ValueError(f"{name} must be a number of at least 0, got {value!r}.")
    for name, value in (("popular_share", popular_share), ("base_rate", base_rate)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be in (0, 1), got {value!r}.")
    rng = check_random_state(random_state)
    names, columns, ranks, tables, popular = [], [], {}, [], []
    latent = np.zeros(n_rows)
    for g, k in enumerate(topics):
        who, what = (np.stack([_halves(n_values, rng) for _ in range(k)], 1) for _ in range(2))
        agreement = who @ what.T
        table = effect * agreement / (agreement.std() or 1.0)
        favourites = rng.choice(n_values, max(round(popular_share * n_values), 1), replace=False)
        table[:, favourites] += popularity
        values = rng.randint(n_values, size=(2, n_rows))
        latent += table[values[0], values[1]]
        ranks.update({2 * g: k, 2 * g + 1: k})
        names += [f"who{g}", f"what{g}"]
        columns += [*values]
        tables.append(table)
        popular.append(np.sort(favourites))
    for j in range(n_noise_fields):
        ranks[len(names)] = 0
        names.append(f"noise{j}")
        columns.append(rng.randint(n_values, size=n_rows))
    bound = np.abs(latent).max() + 40
    p = expit(latent + brentq(lambda b: expit(latent + b).mean() - base_rate, -bound, bound))
    y = (rng.random_sample(n_rows) < p).astype(np.int64)
    X = pd.DataFrame(
        {name: [f"v{i}" for i in column] for name, column in zip(names, columns, strict=True)},
        dtype="str",
    )
    n = 2 * len(topics)
    return (
        X,
        y,
        TasteTruth(
            pairs=tuple((2 * g, 2 * g + 1) for g in range(len(topics))),
            ranks=ranks,
            noise_fields=tuple(range(n, n + n_noise_fields)),
            tables=tuple(tables),
            popular=tuple(popular),
            probabilities=p,
            bayes_auc=float(roc_auc_score(y, p)) if 0 < y.mean() < 1 else np.nan,
        ),
    )


def _halves(n: int, rng: np.random.RandomState) -> Array:
    """+1 and -1 for one half of n values each; a value left over is 0."""
    signs = np.zeros(n)
    order = rng.permutation(n)
    signs[order[: n // 2]], signs[order[n // 2 : 2 * (n // 2)]] = 1.0, -1.0
    return signs
