"""Gradients of architecture parameters for steps of their own, in which no weight moves."""

from contextlib import contextmanager

import torch

from ..nn import ReLUDropout

EPSILON = 0.01  # of the finite difference, in units of the gradient's norm


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


def _as_it_is(gradients):
    return gradients


def first_order_gradient(objective, batch, arch, total=_as_it_is):
    """Gradient of the objective on ``batch`` with respect to the architecture parameters alone.

    Parameters
    ----------
    objective : callable (batch) -> scalar Tensor
    batch : EncodedTensors
    arch : list of Parameter
    total : callable (list of Tensor) -> list of Tensor
        Makes of gradients of what this process has of a batch those of the whole batch.

    Returns
    -------
    list of Tensor
    """
    return total(_gradients(objective(batch), arch))


def unrolled_gradient(
    objective,
    module,
    train_batch,
    batch,
    arch,
    weights,
    lr,
    train_objective=None,
    total=_as_it_is,
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
    total : callable (list of Tensor) -> list of Tensor
        As of `first_order_gradient`.

    Returns
    -------
    list of Tensor, as ``arch``

    References
    ----------
    Liu, H., Simonyan, K., Yang, Y. "DARTS: Differentiable Architecture Search", ICLR 2019, eq. 7
    and 8."""
    train_objective = objective if train_objective is None else train_objective
    with _undisturbed(module):
        step = total(_gradients(train_objective(train_batch), weights))
        kept = _rows_of(weights, step)
        _move(weights, step, -lr)
        gradients = total(_gradients(objective(batch), [*arch, *weights]))
        direct, direction = gradients[: len(arch)], gradients[len(arch) :]
        _put_back(weights, kept)
        norm = torch.sqrt(sum((_values(g) ** 2).sum() for g in direction))
        if not torch.isfinite(norm) or norm == 0:
            return direct
        epsilon = float(EPSILON / norm)
        kept = _rows_of(weights, direction)
        _move(weights, direction, epsilon)
        above = total(_gradients(train_objective(train_batch), arch))
        _move(weights, direction, -2 * epsilon)
        below = total(_gradients(train_objective(train_batch), arch))
        _put_back(weights, kept)
    return [d - lr * (a - b) / (2 * epsilon) for d, a, b in zip(direct, above, below, strict=True)]


def policy_gradient(policy, network, losses, batch, arch):
    r"""Score-function gradient of a policy: sample, judge, and let the policy say what it learns.

    The policy draws an action by ``sample()``, the network is run on the batch without gradients,
    and ``policy_loss(reward)`` is differentiated, with the reward of row i

    .. math:: R_i = -L_i

    The weights, their gradients and batch statistics are, to the bit, what they were; dropout is
    off.

    Parameters
    ----------
    policy : nn.Module
        Has ``sample()`` and ``policy_loss(reward)``, with the reward (B,), without gradient; what
        it returns is a scalar, or (B,) losses, of which the mean by weights of rows is taken.
    network : nn.Module
        All whose buffers a pass may change.
    losses : callable (batch) -> Tensor (B,)
    batch : EncodedTensors
    arch : list of Parameter

    Returns
    -------
    list of Tensor, as ``arch``

    Raises
    ------
    ValueError
        If the policy's loss has another shape, or does not depend on any parameter.

    References
    ----------
    Williams, R. J. "Simple Statistical Gradient-Following Algorithms for Connectionist
    Reinforcement Learning", Machine Learning 8, 1992."""
    policy.sample()
    with _undisturbed(network), torch.no_grad():
        reward = -losses(batch)
    loss = policy.policy_loss(reward)
    if loss.shape not in ((), reward.shape) or not loss.requires_grad:
        raise ValueError(
            f"policy_loss of {type(policy).__name__} must return a scalar or as many losses as "
            f"the reward has rows ({len(reward)}), which depend on its arch_parameters; got the "
            f"shape {tuple(loss.shape)}, {'with' if loss.requires_grad else 'without'} a gradient."
        )
    if loss.ndim:
        loss = (loss if batch.weight is None else loss * batch.weight).mean()
    return _gradients(loss, arch)


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
