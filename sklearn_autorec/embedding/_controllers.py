"""Small perceptrons, one a field, that decide over its values."""

import torch

from ..nn._fast_tanh import tanh


def by_perceptrons(told, entry, entry_shift, exit, exit_shift):
    """Outputs of a perceptron of one hidden layer (tanh) for each of n fields.

    The batch is the last axis within: along it functions of single numbers, and a softmax over the
    outputs, are several times as fast as across it.

    Parameters
    ----------
    told : Tensor (n, B, i)
    entry, entry_shift, exit, exit_shift : Tensor (n, i, h), (n, 1, h), (n, h, o) and (n, 1, o)

    Returns
    -------
    Tensor (n, o, B)
    """
    entry, entry_shift, exit, exit_shift = (
        t.transpose(1, 2) for t in (entry, entry_shift, exit, exit_shift)
    )
    hidden = tanh(torch.baddbmm(entry_shift, entry, told.transpose(1, 2)))
    return torch.baddbmm(exit_shift, exit, hidden)
