"""Batch statistics over rows that lie in several processes."""

from contextlib import contextmanager
from contextvars import ContextVar

import torch

_rows = ContextVar("rows_of_several_processes", default=None)


def rows_elsewhere():
    """What knows the rows that other processes have of the batch of this one; None in the training
    of a single process, and where nothing trains.
    """
    return _rows.get()


@contextmanager
def statistics_across(rows):
    """Let batch norms of this thread take statistics of all rows of a batch, wherever they are.

    Parameters
    ----------
    rows : object
        ``gathered(values)`` gives the vectors of all processes, (n_processes, n), ``total(values)``
        their sum; ``n_rows`` is the number of rows of the whole batch, ``has_rows`` whether this
        process has some of them.
    """
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


class _NormAcross(torch.autograd.Function):
    """(x - mean) / std by given statistics, differentiated as what depends on all rows."""

    @staticmethod
    def forward(ctx, x, mean, inverse_std, n, rows):
        normed = (x - mean) * inverse_std
        ctx.save_for_backward(normed, inverse_std)
        ctx.n, ctx.rows = n, rows
        return normed

    @staticmethod
    def backward(ctx, gradient):
        normed, inverse_std = ctx.saved_tensors
        both = torch.cat([gradient.sum(0), (gradient * normed).sum(0)])
        plain, along = ctx.rows.total(both).chunk(2)
        of_x = inverse_std * (gradient - plain / ctx.n - normed * (along / ctx.n))
        # A row that stands in for none is not among those of the statistics.
        return of_x if ctx.rows.has_rows else torch.zeros_like(of_x), None, None, None, None


def norm_across(x, running_mean, running_var, weight, bias, momentum, eps, rows):
    """Batch norm of a training, with the statistics of the rows of all processes; (B, n), all else
    (n,) or None -> (B, n).

    Means and squares of each process are put together by those of the others, not by sums of
    squares, which lose digits where a mean is large."""
    own = x.detach()
    n_own = len(x) if rows.has_rows else 0
    mean = own.mean(0) if n_own else own.new_zeros(own.shape[1])
    squares = (own - mean).square().sum(0) if n_own else torch.zeros_like(mean)
    each = rows.gathered(torch.cat([mean, squares, mean.new_tensor([float(n_own)])]))
    counts = each[:, -1:]
    n = float(counts.sum())
    if n == 0:  # of no rows there is nothing to normalise by, nor to normalise
        return torch.nn.functional.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
    means, squares = each[:, : len(mean)], each[:, len(mean) : -1]
    mean = (means * counts).sum(0) / n
    square = squares.sum(0) + ((means - mean).square() * counts).sum(0)
    if running_mean is not None:
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(square / max(n - 1, 1), momentum)
    normed = _NormAcross.apply(x, mean, torch.rsqrt(square / n + eps), n, rows)
    if weight is not None:
        normed = normed * weight
    return normed if bias is None else normed + bias
