"""When, on which rows and by which gradient the architecture parameters of a module are trained."""

import math
from dataclasses import dataclass
from numbers import Integral

import torch

ROWS = ("held_out", "same", "previous", "next")
GRADIENTS = ("direct", "unrolled", "policy")
OBJECTIVES = ("reference", "trained")
# What the short names of a schedule stand for: its rows and its gradient.
LEVELS = {
    "one_level": ("same", "direct"),
    "first_order": ("held_out", "direct"),
    "unrolled": ("held_out", "unrolled"),
}


@dataclass(frozen=True)
class ArchSchedule:
    """When, on which rows and by which gradient architecture parameters are trained.

    Without ``rows`` and ``gradient`` they are trained with the weights, by the same backward pass.
    With one of them or both (the other is then "held_out" or "direct") they have steps of their
    own, in which nothing else moves.

    Parameters
    ----------
    level : {"one_level", "first_order", "unrolled"} or None, default=None
        Short for frequent choices. "one_level": with the weights, by the same backward pass.
        "first_order": ``rows="held_out", gradient="direct"``. "unrolled": ``rows="held_out",
        gradient="unrolled"``. None is "one_level" if there are neither rows nor gradient.
    every : int, default=1
        Weight steps per architecture step (steps of their own only).
    fraction : float in (0, 1), default=0.2
        Share of the training rows that only the architecture sees (held-out rows only).
    warmup : float in [0, 1), default=0.0
        Share of the planned steps before the first architecture step.
    objective : {"reference", "trained"}, default="reference"
        By which loss a step of its own judges the architecture: the estimator's, or that of the
        loss slot, which trains the weights. They differ where a search method stands in the loss
        slot.
    rows : {"held_out", "same", "previous", "next"} or None, default=None
        "held_out": a part of the training rows that the weights never see (bi-level), one batch
        of it after the step of the weights. "same": the batch that the weights have just been
        trained on, in a second pass. "previous": the batch before that of the weights' step, and
        before this step; there is none before the first one. "next": the batch on which the
        weights will be trained right after this step; in a first pass over the rows, as in a
        stream, they have not seen it yet.
    gradient : {"direct", "unrolled", "policy"} or None, default=None
        "direct": that of the loss, with the weights taken as they are. "unrolled": after one more
        gradient step of the weights on their batch, whose dependence on the architecture enters
        by a finite difference. "policy": that of the module's own ``policy_loss(reward)`` after
        ``sample()``, without any gradient through the network; see
        `sklearn_autorec.base.SearchMethod`.

    Attributes
    ----------
    own_step : bool
        Whether the architecture moves in steps of its own.
    bilevel : bool
        Whether it has rows of its own.

    Raises
    ------
    ValueError
        If a parameter has another value, or ``level`` stands beside rows or a gradient that it is
        not short for.

    Examples
    --------
    >>> from sklearn_autorec.engine import ArchSchedule
    >>> ArchSchedule("first_order") == ArchSchedule(rows="held_out", gradient="direct")
    True
    >>> ArchSchedule(rows="previous", gradient="policy").bilevel
    False
    """

    level: str | None = None
    every: int = 1
    fraction: float = 0.2
    warmup: float = 0.0
    objective: str = "reference"
    rows: str | None = None
    gradient: str | None = None

    def __post_init__(self):
        for name, allowed in (
            ("level", (*LEVELS, None)),
            ("objective", OBJECTIVES),
            ("rows", (*ROWS, None)),
            ("gradient", (*GRADIENTS, None)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} of an ArchSchedule must be one of {allowed}."
                )
        for name, fits, allowed in (
            ("every", isinstance(self.every, Integral) and self.every >= 1, "an int from 1"),
            ("fraction", 0 < self.fraction < 1, "between 0 and 1, both excluded"),
            ("warmup", 0 <= self.warmup < 1, "at least 0 and less than 1"),
        ):
            if not fits:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} of an ArchSchedule must be {allowed}."
                )
        self._resolve()

    def _resolve(self):
        """Set level, rows and gradient to what they stand for."""
        level = self.level
        if level is None and self.rows is None and self.gradient is None:
            level = "one_level"
        if level is None:
            rows, gradient = self.rows or "held_out", self.gradient or "direct"
            names = [name for name in LEVELS if name != "one_level"]
            level = next((name for name in names if LEVELS[name] == (rows, gradient)), None)
        else:
            rows, gradient = LEVELS[level]
            if self.rows not in (None, rows) or self.gradient not in (None, gradient):
                raise ValueError(
                    f"level={level!r} of an ArchSchedule is short for rows={rows!r} and "
                    f"gradient={gradient!r}, got rows={self.rows!r} and "
                    f"gradient={self.gradient!r}; leave level out."
                )
        for name, value in (("level", level), ("rows", rows), ("gradient", gradient)):
            object.__setattr__(self, name, value)

    @property
    def own_step(self):
        return self.level != "one_level"

    @property
    def bilevel(self):
        return self.rows == "held_out"

    @property
    def before_weights(self):
        """Whether an architecture step stands before the step of the weights, not after it."""
        return self.rows in ("previous", "next")

    def first_step(self, weight_steps):
        """The first weight step (from 0) with which the architecture may move: whose share of steps
        done, as ``set_progress`` is told it, ends the warm-up, and that has the rows for it.
        """
        # The margin is for products like 0.55 * 100, which rounding puts above a whole number.
        first = math.ceil(self.warmup * max(weight_steps - 1, 1) - 1e-9)
        return max(first, 1) if self.rows == "previous" else first

    def n_steps(self, weight_steps):
        """Architecture steps during so many weight steps, at least 1 for those who divide by it."""
        left = weight_steps - self.first_step(weight_steps)
        return max(left // (self.every if self.own_step else 1), 1)

    def due(self, step, weight_steps):
        """Whether the architecture moves with weight step ``step`` (from 0)."""
        done = step - self.first_step(weight_steps)
        return done >= 0 and (not self.own_step or (done + 1) % self.every == 0)


class MovedByAdam:
    """Mixin of searchable modules whose ``arch_parameters`` Adam moves at the rate ``arch_lr``."""

    arch_lr: float

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam(self.arch_parameters(), lr=self.arch_lr)
