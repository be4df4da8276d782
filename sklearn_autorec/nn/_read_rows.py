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


def distinct_rows(rows, n_rows):
    """What ``torch.unique(rows, return_inverse=True)`` gives of rows of a table.

    Parameters
    ----------
    rows : int Tensor
    n_rows : int
        Of the table. On a CPU nothing is sorted if it is no more than some times those that are
        read.

    Returns
    -------
    distinct : int64 Tensor (n,)
        Rising.
    where : int64 Tensor
        Of the shape of ``rows``.
    """
    if not rows.is_cpu:
        distinct, where = torch.unique(rows, return_inverse=True)
        return distinct.long(), where
    flat = rows.numpy().ravel()
    if n_rows <= 8 * len(flat):
        there = np.zeros(n_rows, bool)
        there[flat] = True
        distinct = np.flatnonzero(there)
        number = np.empty(n_rows, np.int64)
        number[distinct] = np.arange(len(distinct))
        where = number[flat]
    else:
        distinct, where = np.unique(flat, return_inverse=True)
    distinct = torch.from_numpy(distinct.astype(np.int64, copy=False))
    return distinct, torch.from_numpy(where).view(rows.shape)


def _row_wise(rows, values, weight_shape):
    """A row-wise gradient of distinct rows, rising."""
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, weight_shape, is_coalesced=True, check_invariants=False
    )


class _ReadRowWise(torch.autograd.Function):
    """Rows of a table; the gradient is a row-wise one that is added up already."""

    @staticmethod
    def forward(ctx, weight, rows):
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return nn.functional.embedding(rows, weight)

    @staticmethod
    def backward(ctx, grad):
        (rows,) = ctx.saved_tensors
        n_rows = ctx.shape[0]
        if torch.is_grad_enabled():  # as of dense ones
            return torch.ops.aten.embedding_sparse_backward(grad, rows, n_rows, -1, False), None
        distinct, where = distinct_rows(rows, n_rows)
        sums = add_by_row(where.reshape(-1), grad.reshape(-1, ctx.shape[1]), len(distinct))
        return _row_wise(distinct, sums, ctx.shape), None


class _ReadDistinct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight, rows):
        ctx.save_for_backward(rows)
        ctx.shape = weight.shape
        return weight.index_select(0, rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return _row_wise(ctx.saved_tensors[0], grad, ctx.shape), None


def read_distinct(weight, rows):
    """Rows (n,) of a table, rising and without repetitions; the gradient is row-wise."""
    return _ReadDistinct.apply(weight, rows)


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
    if weight.device.type == "cpu" and weight.requires_grad and torch.is_grad_enabled():
        return (_ReadRowWise if sparse else _ReadRows).apply(weight, rows)
    return nn.functional.embedding(rows, weight, sparse=sparse)
