"""Loss slot: logits and targets to a loss per row, (B, C), (B,) -> (B,)."""

import copy

import torch
from torch import nn
from torch.nn import functional as F


class BinaryLogLoss(nn.Module):
    """-log p(y); logits (B, 1), y float (B,) of 0 and 1 -> (B,)."""

    def forward(self, logits, y):
        return F.binary_cross_entropy_with_logits(logits.squeeze(1), y, reduction="none")


class MulticlassLogLoss(nn.Module):
    """-log softmax(logits)[y]; logits (B, C), y int64 (B,) -> (B,)."""

    def forward(self, logits, y):
        return F.cross_entropy(logits, y, reduction="none")


class SquaredError(nn.Module):
    """(prediction - y)^2; (B, 1), y float (B,) -> (B,)."""

    def forward(self, logits, y):
        return (logits.squeeze(1) - y).square()


class MemberLosses(nn.Module):
    """A loss of its own for each of M members; logits (M * B, C), y (M * B,), member after member
    -> (M * B,).
    """

    def __init__(self, losses):
        super().__init__()
        self.losses = nn.ModuleList(losses)

    def forward(self, logits, y):
        rows = zip(
            self.losses, logits.chunk(len(self.losses)), y.chunk(len(self.losses)), strict=True
        )
        return torch.cat([loss(own_logits, own_y) for loss, own_logits, own_y in rows])


class OwnLoss(nn.Module):
    """A loss of the user's; logits (B, C), y (B,) -> (B,).

    Parameters
    ----------
    function : callable (predicted, target) -> Tensor (B,)
        Given what the network predicts: logits (B,) of the second of two classes, logits (B, C) of
        more, ratings (B,) in their own units; and the target: float 0 and 1 (B,), int64 (B,),
        ratings (B,). It is copied if it is a module.
    plain : nn.Module
        The loss in whose place it stands, which says what the target is.
    mean, scale : float
        Of ratings: those that the network knows are (rating - mean) / scale.

    Raises
    ------
    ValueError
        In the first pass over rows, if it has parameters, or its losses are not finite; in any if
        it does not give one loss a row, or none that depends on what is predicted.
    """

    def __init__(self, function, plain, mean=0.0, scale=1.0):
        super().__init__()
        is_module = isinstance(function, nn.Module)
        if is_module and any(p.requires_grad for p in function.parameters()):
            raise ValueError(
                f"loss={function!r:.200} has parameters that are trained; a loss must have none: "
                f"register tensors that do not move as buffers, or search the loss slot."
            )
        self.function = copy.deepcopy(function) if is_module else function
        self.plain, self.mean, self.scale = plain, mean, scale
        self.tried = False

    def forward(self, logits, y):
        if not self.tried and isinstance(self.function, nn.Module):
            self.function.to(logits.device)  # the loss that judges beside another is no part of it
        predicted = logits.squeeze(1) if logits.shape[1] == 1 else logits
        if (self.mean, self.scale) != (0.0, 1.0):
            predicted, y = predicted * self.scale + self.mean, y * self.scale + self.mean
        losses = self.function(predicted, y)
        self._check(losses, predicted)
        return losses

    def _check(self, losses, predicted):
        n_rows, told = len(predicted), f"loss={self.function!r:.200} must return"
        if not isinstance(losses, torch.Tensor) or losses.shape != (n_rows,):
            got = (
                f"one of the shape {tuple(losses.shape)}"
                if isinstance(losses, torch.Tensor)
                else f"{losses!r:.100}"
            )
            raise ValueError(
                f"{told} a loss for each row, a tensor of the shape ({n_rows},), got {got} for "
                f"predictions of the shape {tuple(predicted.shape)}; do not take the mean "
                f"(reduction='none'), else weights of rows could not act."
            )
        if not losses.is_floating_point() or (predicted.requires_grad and not losses.requires_grad):
            raise ValueError(
                f"{told} losses that torch can differentiate by the predictions, got "
                f"{losses.dtype} {'with' if losses.requires_grad else 'without'} a gradient."
            )
        if not self.tried:
            odd = torch.nonzero(~torch.isfinite(losses.detach()))
            if len(odd):
                row = int(odd[0, 0])
                raise ValueError(
                    f"{told} finite losses, got {float(losses[row].detach())} for {len(odd)} of "
                    f"the {n_rows} rows of the first batch, at first where "
                    f"{predicted[row].tolist()} is predicted."
                )
            self.tried = True


def plain_loss(loss):
    """The loss in whose place a loss of the user's stands, else the loss itself: its type says
    what the target is.
    """
    return loss.plain if isinstance(loss, OwnLoss) else loss
