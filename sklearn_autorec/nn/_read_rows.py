"""Reading rows of a dense table, with a gradient that costs what it adds up."""

import numpy as np
import torch
from scipy.sparse import csc_array
from torch import nn

from ._quantized import QuantizedTable


def add_by_row(rows, values, n_rows):
    """Sums of the values of each row of a table, in the order of the values.

    Parameters
    ----------
    rows : int32 or int64 Tensor of shape (N,)
    values : float Tensor of shape (N, d), on the CPU
    n_rows : int

    Returns
    -------
    Tensor of shape (n_rows, d)
        The same bits as of torch's own gradient of a look-up, which calls a general routine for
        each of the N vectors.
    """
    if values.shape[1] == 1:
        sums = torch.bincount(rows, values.squeeze(1), minlength=n_rows)
        return sums.to(values.dtype).unsqueeze(1)
    indices = rows.numpy()
    one_each = np.ones(len(indices), values.numpy().dtype)
    chosen = csc_array(
        (one_each, indices, np.arange(len(indices) + 1, dtype=indices.dtype)),
        shape=(n_rows, len(indices)),
    )
    return torch.from_numpy(chosen @ values.numpy())


class _ReadRows(torch.autograd.Function):
    """Rows of a table; the gradient is a dense one."""

    @staticmethod
    def forward(ctx, weight, rows):
        ctx.save_for_backward(rows)
        ctx.n_rows = len(weight)
        return nn.functional.embedding(rows, weight)

    @staticmethod
    def backward(ctx, grad):
        (rows,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient of the gradient is wanted
            return torch.ops.aten.embedding_dense_backward(grad, rows, ctx.n_rows, -1, False), None
        return add_by_row(rows.reshape(-1), grad.reshape(-1, grad.shape[-1]), ctx.n_rows), None


def read_rows(weight, rows, sparse=False, rounding=None):
    """Rows of a table (V, d) by number, (...) -> (..., d).

    Parameters
    ----------
    weight : Tensor or QuantizedTable
        Of the latter only these rows are brought to float32.
    rows : int Tensor
    sparse : bool, default=False
        Whether the gradient is row-wise, else it is a dense one.
    rounding : Rounding or None, default=None
        How the rows will read when they are stored, if training is to see that.
    """
    if isinstance(weight, QuantizedTable):
        return weight.read(rows)
    found = _from_tensor(weight, rows, sparse)
    return found if rounding is None else rounding(found, rows)


def _from_tensor(weight, rows, sparse):
    if sparse:
        return nn.functional.embedding(rows, weight, sparse=True)
    if weight.device.type == "cpu" and weight.requires_grad and torch.is_grad_enabled():
        return _ReadRows.apply(weight, rows)
    return nn.functional.embedding(rows, weight)
