"""Losses to choose from, logits (B, C), y (B,) -> (B,), by the kind of target."""

import math

import torch
from torch.nn import functional as F

from ..nn import BinaryLogLoss, MulticlassLogLoss, SquaredError

GAMMA = 2.0  # of the focal loss
SMOOTHING = 0.1  # share of a label that goes to all classes alike


def _binary_cross_entropy(logits, y):
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")


def _binary_focal(logits, y):
    loss = _binary_cross_entropy(logits, y)  # -log of the probability of the label
    return (-torch.expm1(-loss)).pow(GAMMA) * loss


def _binary_hinge(logits, y):
    return torch.relu(1 - (2 * y - 1) * logits.squeeze(1))


def _binary_smoothed(logits, y):
    return _binary_cross_entropy(logits, y * (1 - SMOOTHING) + SMOOTHING / 2)


def _binary_squared(logits, y):
    return (torch.sigmoid(logits.squeeze(1)) - y).square()


def _cross_entropy(logits, y):
    return F.cross_entropy(logits, y, reduction="none")


def _focal(logits, y):
    loss = _cross_entropy(logits, y)
    return (-torch.expm1(-loss)).pow(GAMMA) * loss


def _hinge(logits, y):
    own = logits.gather(1, y.unsqueeze(1))
    others = logits.scatter(1, y.unsqueeze(1), -torch.inf)
    return torch.relu(1 + others.amax(1) - own.squeeze(1))


def _smoothed(logits, y):
    return F.cross_entropy(logits, y, reduction="none", label_smoothing=SMOOTHING)


def _squared_probabilities(logits, y):
    marks = F.one_hot(y, logits.shape[1]).to(logits.dtype)
    return (torch.softmax(logits, 1) - marks).square().sum(1)


def _squared(logits, y):
    return (logits.squeeze(1) - y).square()


def _absolute(logits, y):
    return (logits.squeeze(1) - y).abs()


def _huber(logits, y):
    return F.huber_loss(logits.squeeze(1), y, reduction="none")


def _log_cosh(logits, y):
    error = (logits.squeeze(1) - y).abs()
    return error + F.softplus(-2 * error) - math.log(2)


CANDIDATES: dict = {
    BinaryLogLoss: {
        "cross_entropy": _binary_cross_entropy,
        "focal": _binary_focal,
        "hinge": _binary_hinge,
        "smoothed": _binary_smoothed,
        "squared": _binary_squared,
    },
    MulticlassLogLoss: {
        "cross_entropy": _cross_entropy,
        "focal": _focal,
        "hinge": _hinge,
        "smoothed": _smoothed,
        "squared": _squared_probabilities,
    },
    SquaredError: {
        "squared": _squared,
        "absolute": _absolute,
        "huber": _huber,
        "log_cosh": _log_cosh,
    },
}
# What is chosen from where nothing is said.
USUAL: dict = {
    BinaryLogLoss: ("cross_entropy", "focal", "hinge", "smoothed"),
    MulticlassLogLoss: ("cross_entropy", "focal", "hinge", "smoothed"),
    SquaredError: ("squared", "absolute", "huber"),
}


def candidate_losses(names, reference):
    """The losses of these names.

    Parameters
    ----------
    names : "auto" or sequence of str
    reference : nn.Module
        The estimator's own loss, which says what the target is.

    Returns
    -------
    dict of str to callable

    Raises
    ------
    ValueError
        If there are fewer than two, the same twice, or one that is not known for this target.
    """
    known = CANDIDATES.get(type(reference))
    if known is None:
        raise ValueError(
            f"no candidate losses are known beside the loss {type(reference).__name__}; it must be "
            f"one of {[kind.__name__ for kind in CANDIDATES]}."
        )
    names = USUAL[type(reference)] if names == "auto" else tuple(names)
    if len(names) < 2 or len({*names}) < len(names) or not {*names} <= known.keys():
        raise ValueError(
            f"candidates={names!r} must be two or more different names of {list(known)}."
        )
    return {name: known[name] for name in names}


def controller_inputs(logits, y, reference):
    """What a row says of itself: label and prediction side by side, (B, 2 C).

    Classes as 0 or 1 and probabilities, ratings in standard deviations from their mean.
    """
    if isinstance(reference, MulticlassLogLoss):
        marks = F.one_hot(y, logits.shape[1]).to(logits.dtype)
        return torch.cat([marks, torch.softmax(logits, 1)], 1)
    predicted = torch.sigmoid(logits) if isinstance(reference, BinaryLogLoss) else logits
    return torch.cat([y.unsqueeze(1).to(logits.dtype), predicted], 1)
