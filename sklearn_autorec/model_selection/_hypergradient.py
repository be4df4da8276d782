"""Hypergradient mutation: a teacher that learns by which factors to change hyperparameters."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from scipy.optimize import OptimizeResult
from sklearn.utils import check_random_state

from ..utils._typing import Array, RandomState
from ._mutation import truncation_sources

LOWEST = 0.01  # a factor cannot leave zero, so the unit scale ends before it

__all__ = ["HyperMutation", "population_minimize"]


def gradient_step(u, gradient, length):
    """A point of the unit cube after a step of a given length down the gradient, within the cube.

    Parameters
    ----------
    u, gradient : ndarray of shape (n,)
    length : float

    Returns
    -------
    ndarray of shape (n,)
    """
    norm = np.linalg.norm(gradient)
    if not np.isfinite(norm) or norm == 0:
        return u
    return np.clip(u - length * gradient / norm, LOWEST, 1.0)


class HyperMutation:
    r"""The teacher of HPM: factors for a point of hyperparameters.

    .. math:: \alpha(u) = 1 + \tanh(W\, \mathrm{softmax}(V^T u)), \quad u' = \alpha(u) \odot u

    Parameters
    ----------
    n_parameters : int
        N, numbers in a point.
    n_slots : int, default=4
        M: W and V are (N, M).
    step : float, default=0.1
        Length of a step of W and V together, down the normalised gradient.
    random_state : int, RandomState or None, default=None
        Of the initial W (standard deviation 0.1, so that factors start near 1) and V (standard
        deviation 1).

    Attributes
    ----------
    W, V : ndarray of shape (n_parameters, n_slots)

    Notes
    -----
    Points are on the unit scale (cumulative probability in the distribution of each parameter),
    where a factor in (0, 2) can reach everything but zero; the scale ends at 0.01 for that reason.
    The paper's Adam with an unknown rate is replaced by a step of fixed length, since the size of
    validation gradients means nothing across problems.

    References
    ----------
    .. [1] Tao, Z. et al. "Learning to Mutate with Hypergradient Guided Population", NeurIPS 2020.
       https://papers.nips.cc/paper/2020/hash/ccb421d5f36c5a412816d494b15ca9f6-Abstract.html

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_autorec.model_selection import HyperMutation
    >>> teacher = HyperMutation(2, random_state=0)
    >>> point, gradient = np.array([0.5, 0.5]), np.array([1.0, -1.0])
    >>> for _ in range(50):
    ...     _ = teacher.update([(point, gradient)])
    >>> teacher.factors(point).round(1)  # down in the first, up in the second
    array([0., 2.])
    """

    def __init__(self, n_parameters, n_slots=4, step=0.1, random_state=None):
        random_state = check_random_state(random_state)
        self.step = step
        self.W = 0.1 * random_state.standard_normal((n_parameters, n_slots))
        self.V = random_state.standard_normal((n_parameters, n_slots))

    def _attention(self, u):
        z = self.V.T @ u
        s = np.exp(z - z.max())
        return s / s.sum()

    def factors(self, u):
        """Factors in (0, 2) for a point (n_parameters,), of the same shape."""
        return 1 + np.tanh(self.W @ self._attention(u))

    def mutate(self, u):
        """The point times its factors, within [0.01, 1]."""
        return np.clip(self.factors(u) * u, LOWEST, 1.0)

    def gradient(self, u, gradient):
        r"""Derivatives of the validation loss by W and V, through the mutated point.

        With c = W s, s = softmax(V^T u) and g the derivative of the loss at u':

        .. math:: \partial c = g \odot u \odot (1 - \tanh^2 c), \quad
                  \partial W = \partial c\, s^T, \quad
                  \partial V = u\, (s \odot (W^T \partial c - s^T W^T \partial c))^T

        A coordinate that the end of the scale has cut has no derivative.

        Parameters
        ----------
        u : ndarray of shape (n_parameters,)
            The point before its mutation.
        gradient : ndarray of shape (n_parameters,)
            g, at the mutated point.

        Returns
        -------
        tuple (dW, dV) of ndarray of shape (n_parameters, n_slots)
        """
        s = self._attention(u)
        t = np.tanh(self.W @ s)
        moved = (1 + t) * u
        dc = np.where((moved > LOWEST) & (moved < 1.0), gradient * u * (1 - t**2), 0.0)
        ds = self.W.T @ dc
        return np.outer(dc, s), np.outer(u, s * (ds - s @ ds))

    def update(self, seen):
        """Learn from mutations.

        Parameters
        ----------
        seen : list of tuple (point before, gradient at the mutated point)

        Returns
        -------
        self
        """
        dW, dV = np.zeros_like(self.W), np.zeros_like(self.V)
        for u, gradient in seen:
            if np.isfinite(gradient).all():
                one = self.gradient(u, gradient)
                dW, dV = dW + one[0], dV + one[1]
        norm = np.sqrt((dW**2).sum() + (dV**2).sum())
        if norm > 0:
            self.W, self.V = self.W - self.step / norm * dW, self.V - self.step / norm * dV
        return self


def population_minimize(
    function: Callable[[Array], float],
    n_parameters: int,
    gradient: Callable[[Array], Array] | None = None,
    *,
    population: int = 5,
    n_steps: int = 6,
    hyper_step: float = 0.05,
    quantile: float = 0.25,
    explore: Literal["random", "learned"] = "learned",
    factors: tuple[float, ...] = (0.8, 1.2),
    resample: float = 0.25,
    n_slots: int = 4,
    teacher_step: float = 0.1,
    random_state: RandomState = None,
) -> OptimizeResult:
    """Minimise a function on the unit cube by the population and mutations of `PopulationSearchCV`.

    What the search does to hyperparameters, without models: for test functions and cheap
    simulators.

    Parameters
    ----------
    function : callable (ndarray of shape (n_parameters,)) -> float
    n_parameters : int
    gradient : callable (ndarray of shape (n_parameters,)) -> ndarray, default=None
        Derivatives; None moves points by mutation only.
    population, n_steps : int
        Members, and evaluations of each.
    hyper_step : float
        Length of a step down the normalised gradient.
    quantile : float in [0, 0.5]
        Share of members that copy one of the best as large a share and mutate; 0 leaves members
        alone.
    explore : {"learned", "random"}
        Mutation by `HyperMutation` (needs ``gradient``), or by ``factors`` and ``resample``.
    factors : tuple of float
        Of which one is drawn for each parameter.
    resample : float in [0, 1]
        Probability that a parameter is drawn anew instead.
    n_slots, teacher_step
        See `HyperMutation`.
    random_state : int, RandomState or None

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` and ``fun`` of the best point seen, ``nfev``, and ``fun_history`` (n_steps,
        population).

    Raises
    ------
    ValueError
        ``explore="learned"`` without a gradient.

    Examples
    --------
    >>> from sklearn_autorec.model_selection import population_minimize
    >>> result = population_minimize(
    ...     lambda u: ((u - 0.3) ** 2).sum(), 2, lambda u: 2 * (u - 0.3), random_state=0
    ... )
    >>> bool(result.fun < 0.02), result.nfev
    (True, 30)
    """
    if explore == "learned" and gradient is None:
        raise ValueError(
            'explore="learned" learns from gradients; give gradient, or explore="random".'
        )
    random = check_random_state(random_state)
    points = random.uniform(size=(population, n_parameters))
    teacher = HyperMutation(n_parameters, n_slots, teacher_step, random)
    best: Any = None
    values: list[list[float]] = []
    before: dict[int, Array] = {}
    for step in range(n_steps):
        values.append([float(function(u)) for u in points])
        k = int(np.argmin(values[-1]))
        if best is None or values[-1][k] < best[1]:
            best = points[k].copy(), values[-1][k]
        if step == n_steps - 1:
            break
        slopes: Any = (
            None if gradient is None else [np.asarray(gradient(u), dtype=float) for u in points]
        )
        if before:
            teacher.update([(u, slopes[k]) for k, u in before.items()])
        before, moved = {}, []
        for k, source in enumerate(truncation_sources(-np.array(values[-1]), quantile, random)):
            u = (
                points[source]
                if slopes is None
                else gradient_step(points[source], slopes[source], hyper_step)
            )
            if source != k and explore == "learned":
                before[k] = u
                u = teacher.mutate(u)
            elif source != k:
                u = _random_factors(u, factors, resample, random)
            moved.append(u)
        points = np.array(moved)
    return OptimizeResult(
        x=best[0], fun=best[1], nfev=population * n_steps, fun_history=np.array(values)
    )


def _random_factors(u, factors, resample, random_state):
    """A point times drawn factors, some of its coordinates drawn anew."""
    n = len(u)
    multiplied = np.clip(
        u * np.asarray(factors)[random_state.randint(len(factors), size=n)], 0.0, 1.0
    )
    return np.where(
        random_state.uniform(size=n) < resample, random_state.uniform(size=n), multiplied
    )
