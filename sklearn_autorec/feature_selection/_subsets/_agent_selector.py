"""What the selectors share whose agents learn by deep Q-networks: their parameters."""

from numbers import Integral, Real
from typing import Any, TypedDict

from ...utils._parameters import stores_parameters
from ...utils._sklearn import Interval, StrOptions
from ._agents import STATES
from ._subset_selector import SubsetSelector


class AgentOptions(TypedDict, total=False):
    """Parameters that all such selectors have, for type checkers; `AgentSelector` has their
    defaults.
    """

    state: Any
    relevance_weight: Any
    redundancy_weight: Any
    scoring: Any
    cv: Any
    n_steps: Any
    max_evaluations: Any
    max_time: Any
    epsilon: Any
    exploration: Any
    hidden_units: Any
    lr: Any
    gamma: Any
    memory_size: Any
    batch_size: Any
    n_updates: Any
    target_update: Any
    replay: Any
    random_state: Any
    n_jobs: Any


class AgentSelector(SubsetSelector):
    """Base of `MARLFS` and `DualAgent`.

    Parameters
    ----------
    relevance_weight, redundancy_weight : float, default=1.0
        Weights in the reward of the mean mutual information with the target, and of the mean
        between the columns, beside the score.
    epsilon : float in [0, 1], default=0.05
        Probability that an agent acts at random, once exploration is over.
    exploration : float in [0, 1], default=0.4
        Share of the search (of evaluations or steps, whichever is further) over which that
        probability falls from 1.
    hidden_units : int, default=32
    lr : float, default=0.01
        Learning rate of Adam.
    gamma : float in [0, 1), default=0.9
        Discount.
    target_update : int, default=20
        Updates between two copies of the networks that give the targets.
    replay : {"uniform", "rank"}, default="uniform"
        "rank" learns more often from transitions of high reward.

    Attributes
    ----------
    selection_frequency_ : ndarray of shape (``n_features_in_``,)
        Share of the steps in which a column was in the subset.
    relevance_ : ndarray of shape (``n_features_in_``,)
        Mutual information with the target, in nats.
    """

    _parameter_constraints = {
        **SubsetSelector._parameter_constraints,
        "state": [StrOptions(set(STATES))],
        "relevance_weight": [Interval(Real, 0, None, closed="left")],
        "redundancy_weight": [Interval(Real, 0, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "epsilon": [Interval(Real, 0, 1, closed="both")],
        "exploration": [Interval(Real, 0, 1, closed="both")],
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, 1, closed="left")],
        "memory_size": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_updates": [Interval(Integral, 1, None, closed="left")],
        "target_update": [Interval(Integral, 1, None, closed="left")],
        "replay": [StrOptions({"uniform", "rank"})],
    }

    @stores_parameters
    def __init__(
        self,
        estimator,
        *,
        state="statistics",
        relevance_weight=1.0,
        redundancy_weight=1.0,
        scoring=None,
        cv=3,
        n_steps=600,
        max_evaluations=200,
        max_time=None,
        epsilon=0.05,
        exploration=0.4,
        hidden_units=32,
        lr=0.01,
        gamma=0.9,
        memory_size=200,
        batch_size=32,
        n_updates=2,
        target_update=20,
        replay="uniform",
        random_state=None,
        n_jobs=None,
    ):
        """Store the parameters."""

    def _check_memory(self):
        """Refuse batches that the memory cannot hold."""
        if self.batch_size > self.memory_size:
            raise ValueError(
                f"batch_size={self.batch_size} is more than memory_size={self.memory_size} holds."
            )
