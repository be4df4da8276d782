"""Architecture steps on rows that the weights do not train on."""

import math
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from ..nn import ReLUDropout

EPSILON = 0.01  # of the finite difference, in units of the gradient's norm


@dataclass(frozen=True)
class ArchSchedule:
    """When and on which rows the architecture parameters of a searchable module are trained.

    Parameters
    ----------
    level : {"one_level", "first_order", "unrolled"}
        "one_level" trains them with the weights, on the same batches. The others are bi-level: on a
        split of the training rows that the weights do not see, with the weights taken as they are
        ("first_order") or after one more gradient step, whose dependence on the architecture enters
        by a finite difference ("unrolled").
    every : int
        Weight steps per architecture step (bi-level only).
    fraction : float in (0, 1)
        Share of the training rows that only the architecture sees (bi-level only).
    warmup : float in [0, 1)
        Share of the planned steps before the first architecture step.
    objective : {"reference", "trained"}
        By which loss the rows of their own judge the architecture (bi-level only): the estimator's,
        or that of the loss slot, which trains the weights. They differ where a search method stands
        in the loss slot.

    Raises
    ------
    ValueError
        If level or objective has another value.
    """

    level: str = "one_level"
    every: int = 1
    fraction: float = 0.2
    warmup: float = 0.0
    objective: str = "reference"

    def __post_init__(self):
        for name, allowed in (
            ("level", ("one_level", "first_order", "unrolled")),
            ("objective", ("reference", "trained")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} of an ArchSchedule must be one of {allowed}."
                )

    @property
    def bilevel(self):
        return self.level != "one_level"

    def first_step(self, weight_steps):
        """The first weight step (from 0) whose share of steps done, as ``set_progress`` is told it,
        ends the warm-up.
        """
        # The margin is for products like 0.55 * 100, which rounding puts above a whole number.
        return math.ceil(self.warmup * max(weight_steps - 1, 1) - 1e-9)

    def n_steps(self, weight_steps):
        """Architecture steps during so many weight steps."""
        left = weight_steps - self.first_step(weight_steps)
        return max(left // (self.every if self.bilevel else 1), 1)

    def due(self, step, weight_steps):
        """Whether the architecture moves after weight step ``step`` (from 0)."""
        done = step - self.first_step(weight_steps)
        return done >= 0 and (not self.bilevel or (done + 1) % self.every == 0)


@contextmanager
def _undisturbed(module):
    """Dropout off and batch statistics put back: probes at moved weights leave no trace and share
    no noise.
    """
    dropouts = [
        m for m in module.modules() if isinstance(m, ReLUDropout | torch.nn.Dropout) and m.training
    ]
    # Batch norm counts its batches in an integer; large integer buffers are positions, which no
    # forward pass moves.
    buffers = [(b, b.clone()) for b in module.buffers() if b.is_floating_point() or b.numel() == 1]
    for m in dropouts:
        m.eval()
    try:
        yield
    finally:
        for m in dropouts:
            m.train()
        with torch.no_grad():
            for buffer, kept in buffers:
                buffer.copy_(kept)


def first_order_gradient(objective, batch, arch):
    """Gradient of the objective on ``batch`` with respect to the architecture parameters alone.

    Parameters
    ----------
    objective : callable (batch) -> scalar Tensor
    batch : EncodedTensors
    arch : list of Parameter

    Returns
    -------
    list of Tensor
    """
    return _gradients(objective(batch), arch)


def unrolled_gradient(
    objective, module, train_batch, batch, arch, weights, lr, train_objective=None
):
    r"""Architecture gradient through one gradient step of the weights, by a central finite
    difference.

    With w' = w - lr * grad_w L_train(w, a), v = grad_w' L(w', a) and e = 0.01 / ||v||:

    .. math:: \nabla_a L(w', a) - \frac{lr}{2 e} \left( \nabla_a L_{train}(w + e v, a)
              - \nabla_a L_{train}(w - e v, a) \right)

    The weights and batch statistics are, to the bit, what they were.

    Parameters
    ----------
    objective : callable (batch) -> scalar Tensor
        L.
    module : nn.Module
        All whose buffers a pass may change.
    train_batch, batch : EncodedTensors
        Rows of the weights' training and of the architecture's.
    arch, weights : list of Parameter
    lr : float
    train_objective : callable (batch) -> scalar Tensor, or None
        L_train; None is ``objective``.

    Returns
    -------
    list of Tensor, as ``arch``

    References
    ----------
    Liu, H., Simonyan, K., Yang, Y. "DARTS: Differentiable Architecture Search", ICLR 2019, eq. 7
    and 8."""
    train_objective = objective if train_objective is None else train_objective
    with _undisturbed(module):
        step = _gradients(train_objective(train_batch), weights)
        kept = _rows_of(weights, step)
        _move(weights, step, -lr)
        gradients = _gradients(objective(batch), [*arch, *weights])
        direct, direction = gradients[: len(arch)], gradients[len(arch) :]
        _put_back(weights, kept)
        norm = torch.sqrt(sum((_values(g) ** 2).sum() for g in direction))
        if not torch.isfinite(norm) or norm == 0:
            return direct
        epsilon = float(EPSILON / norm)
        kept = _rows_of(weights, direction)
        _move(weights, direction, epsilon)
        above = _gradients(train_objective(train_batch), arch)
        _move(weights, direction, -2 * epsilon)
        below = _gradients(train_objective(train_batch), arch)
        _put_back(weights, kept)
    return [d - lr * (a - b) / (2 * epsilon) for d, a, b in zip(direct, above, below, strict=True)]


def _gradients(loss, parameters):
    """Gradients; zero where the loss does not depend on a parameter, coalesced where they are
    row-wise.
    """
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g.coalesce() if g.is_sparse else g
        for g, p in zip(found, parameters, strict=True)
    ]


def _values(g):
    return g.values() if g.is_sparse else g


@torch.no_grad()
def _rows_of(weights, gradients):
    """Copies of what a move along the gradients will change: touched rows of row-wise ones, else
    everything.
    """
    return [
        (g.indices()[0], w.index_select(0, g.indices()[0])) if g.is_sparse else (None, w.clone())
        for w, g in zip(weights, gradients, strict=True)
    ]


@torch.no_grad()
def _move(weights, gradients, scale):
    for w, g in zip(weights, gradients, strict=True):
        if g.is_sparse:
            w.index_add_(0, g.indices()[0], g.values(), alpha=scale)
        else:
            w.add_(g, alpha=scale)


@torch.no_grad()
def _put_back(weights, kept):
    for w, (rows, values) in zip(weights, kept, strict=True):
        if rows is None:
            w.copy_(values)
        else:
            w.index_copy_(0, rows, values)
