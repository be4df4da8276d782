"""Where a training starts, on which rows, and which weights it moves."""

from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["begin_with", "held_still", "network_state", "positions_of", "state_of"]


def network_state(module, loss=None):
    """All tensors of a network by name, and under "loss." those of a part in the loss slot."""
    of_loss = {} if loss is None else loss.state_dict(prefix="loss.")
    return {name: t.detach() for name, t in {**module.state_dict(), **of_loss}.items()}


def state_of(start):
    """The weights that a training is to begin with, by name.

    Parameters
    ----------
    start : TrainingResult, or dict of str to Tensor

    Raises
    ------
    TypeError
        If it is neither.
    """
    if isinstance(start, dict):
        return start
    net = getattr(start, "net", None)
    if net is None:
        raise TypeError(
            f"start must be what train returned, or a dict of names to tensors, got {start!r:.200}."
        )
    return network_state(net.module_, None if net.reference is None else net.criterion_)


@torch.no_grad()
def begin_with(state, module, loss=None):
    """Write weights into a network, and those under "loss." into a part of the loss slot.

    What only one of the two sides has is left alone: a searchable part that comes or goes brings or
    takes names of its own.

    Raises
    ------
    ValueError
        If a name stands for different shapes, or if no name agrees.
    """
    own = network_state(module, loss)
    shared = [name for name in state if name in own]
    for name in shared:
        if own[name].shape != state[name].shape:
            raise ValueError(
                f"start has {name!r} of shape {tuple(state[name].shape)}, the network of shape "
                f"{tuple(own[name].shape)}; leave it out of start, or bring it to that shape."
            )
    if not shared:
        raise ValueError(
            f"start has none of the network's weights: it holds {sorted(state)[:5]}, the network "
            f"{sorted(own)[:5]}."
        )
    for name in shared:
        own[name].copy_(state[name])


def positions_of(rows, n_rows, device):
    """Positions of rows as an int64 Tensor.

    Raises
    ------
    ValueError
        If they are no whole numbers (masks are none), none at all, or not between 0 and ``n_rows``.
    """
    rows = torch.as_tensor(rows)
    whole = rows.dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    if rows.ndim != 1 or not whole or not len(rows):
        raise ValueError(
            f"rows must be positions of rows, a vector of at least one int64, got shape "
            f"{tuple(rows.shape)} of {rows.dtype}."
        )
    low, high = int(rows.min()), int(rows.max())
    if low < 0 or high >= n_rows:
        raise ValueError(
            f"rows must lie between 0 and {n_rows - 1}, got positions from {low} to {high}."
        )
    return rows.to(device, torch.int64)


@contextmanager
def held_still(net, only=None, rests=None):
    """Hold parameters of a net still while it trains.

    Parameters
    ----------
    net : FieldNet
        Not initialised yet.
    only : callable (str, Parameter) -> bool, or None
        What may move; None is everything. The modules of what may not move still train as far as
        batch statistics and dropout go.
    rests : callable (str) -> bool, or None
        Names, those of a part in the loss slot beginning with "loss.", of what rests: its
        parameters do not move, and its modules stay in eval mode, so that it gives what it will
        give when it serves.

    Raises
    ------
    ValueError
        If nothing may move.
    """
    parts = [("", net.module)] + ([] if net.reference is None else [("loss.", net.criterion)])
    named = [(prefix + name, p) for prefix, part in parts for name, p in part.named_parameters()]
    moving = [(name, p) for name, p in named if p.requires_grad]
    still = [
        p
        for name, p in moving
        if (rests is not None and rests(name)) or (only is not None and not only(name, p))
    ]
    if len(still) == len(moving):
        raise ValueError(
            f"only={only!r} lets none of the {len(moving)} parameters move; their names begin with "
            f"{sorted({name.split('.')[0] for name, _ in named})}."
        )
    net.resting = [
        m
        for prefix, part in parts
        for name, m in part.named_modules()
        if rests is not None and rests(f"{prefix}{name}.")
    ]
    for p in still:
        p.requires_grad_(False)
        p.grad = None
    try:
        yield
    finally:
        for p in still:
            p.requires_grad_(True)


def check_distinct(rows, reason):
    """Refuse positions that repeat where rows are held out.

    Raises
    ------
    ValueError
        The same row would be trained on and judge.
    """
    if len(np.unique(rows.cpu().numpy())) < len(rows):
        raise ValueError(f"rows must be distinct where {reason}: some positions repeat.")
