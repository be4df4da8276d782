"""Batch statistics, and random numbers of rows, where the rows lie in several processes."""

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
        their sum; ``n_rows`` is the number of rows of the whole batch, ``first`` the number of the
        first of those of this process, ``n_own`` how many these are, ``n_passed`` how many pass
        through the network: one that stands in, where a process has none.
    """
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


class _OneMember:
    """Rows of several processes as they are for one of several members."""

    members = 1

    def __init__(self, rows):
        self._rows = rows

    def __getattr__(self, name):
        return getattr(self._rows, name)


@contextmanager
def of_one_member():
    """Within, rows that pass are those of a single member, though the batch has several."""
    token = _rows.set(None if _rows.get() is None else _OneMember(_rows.get()))
    try:
        yield
    finally:
        _rows.reset(token)


class _TotalAcross(torch.autograd.Function):
    """Sum over the processes, each of which has a part of the loss that depends on it."""

    @staticmethod
    def forward(ctx, t, rows):
        ctx.rows = rows
        return rows.total(t)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.rows.total(gradient), None


def mean_over_rows(t, dim=0):
    """Mean along an axis of rows, over those of all processes; differentiable.

    Parameters
    ----------
    t : Tensor
        Along ``dim`` it holds the rows of a batch, or as many numbers of each.
    dim : int, default=0

    Returns
    -------
    Tensor
        Without that axis.
    """
    if rows_elsewhere() is None:
        return t.mean(dim)
    return over_rows(t.sum(dim), t.shape[dim])


def over_rows(total, n):
    """Mean over the rows of all processes of what was added up over ``n`` of this one, or of as
    many numbers of each row; differentiable.
    """
    rows = rows_elsewhere()
    if rows is not None:
        n = n // rows.n_passed * rows.n_rows
    return total_over_rows(total) / n


def total_over_rows(total):
    """Sum over all processes of what each has added up over its rows; differentiable."""
    rows = rows_elsewhere()
    if rows is None:
        return total
    return _TotalAcross.apply(total * float(rows.n_own > 0), rows)


def var_mean_over_rows(x):
    """Variance (without correction) and mean of some of the numbers that the rows of all processes
    have, (n, K) -> (K,) twice, and how many there are; differentiable.
    """
    rows = rows_elsewhere()
    if rows is None:
        var, mean = torch.var_mean(x, 0, correction=0) if len(x) else (x.sum(0), x.sum(0))
        return var, mean, len(x)
    counted = x if rows.n_own else x[:0]
    n = int(rows.total(torch.tensor([float(len(counted))])))
    mean = _TotalAcross.apply(counted.sum(0), rows) / max(n, 1)
    var = _TotalAcross.apply((counted - mean).square().sum(0), rows) / max(n, 1)
    return var, mean, n


def rows_in_batch(x):
    """How many rows the batch has of which x (B, ...) are those that pass here."""
    rows = rows_elsewhere()
    return len(x) if rows is None else len(x) // rows.n_passed * rows.n_rows


def rows_that_pass(batch):
    """Of a batch that an observer is given, the rows that pass through the network here."""
    rows = rows_elsewhere()
    return batch if rows is None else rows.at


def read_in_all(rows):
    """Which rows of a table a batch reads: as they come, or of several processes the distinct ones
    of all, int Tensor.
    """
    return rows if rows_elsewhere() is None else distinct_over_rows(rows.flatten().unique())[0]


def drawn_by_row(draw, shape):
    """Random numbers of rows, of which the whole batch has the same in any number of processes.

    Each process draws those of all rows, so that generators of all stay alike, and takes its own.

    Parameters
    ----------
    draw : callable (tuple of int) -> Tensor
        Draws numbers of a shape.
    shape : tuple of int
        The first axis holds the rows of a batch, or of several members one after the other, or as
        many numbers of each row.

    Returns
    -------
    Tensor of that shape
    """
    rows = rows_elsewhere()
    if rows is None:
        return draw(tuple(shape))
    each = shape[0] // (rows.n_passed * rows.members)
    drawn = draw((rows.members * rows.n_rows * each, *shape[1:]))
    drawn = drawn.unflatten(0, (rows.members, rows.n_rows * each))
    start = rows.first * each
    return drawn[:, start : start + rows.n_passed * each].flatten(0, 1)


def row_numbers(n_rows):
    """Numbers in the whole batch of the rows that pass through the network, int64 (n_rows,)."""
    rows = rows_elsewhere()
    first = 0 if rows is None else rows.first
    return torch.arange(first, first + n_rows)


def distinct_over_rows(values):
    """Which of the values that the rows of a batch have are there, wherever the rows are.

    Parameters
    ----------
    values : int64 Tensor (n,)
        Of the rows of this process, rising and without repetitions.

    Returns
    -------
    all_values : int64 Tensor
        Of all rows, rising and without repetitions.
    share : float Tensor (n,)
        One over the number of processes that have the value.
    """
    rows = rows_elsewhere()
    if rows is None:
        return values, torch.ones(len(values), device=values.device)
    counted = values if rows.n_own else values[:0]
    lengths = rows.gathered(torch.tensor([len(counted)])).flatten().tolist()
    padded = counted.new_zeros(max(lengths))
    padded[: len(counted)] = counted
    each = [own[:n] for own, n in zip(rows.gathered(padded), lengths, strict=True)]
    found, n_having = torch.cat(each).unique(return_counts=True)
    # A row that stands in is one of another process, so that its values are found as well.
    return found, 1 / n_having[torch.searchsorted(found, values)]


class _NormAcross(torch.autograd.Function):
    """(x - mean) / std by given statistics, differentiated as what depends on all rows."""

    @staticmethod
    def forward(ctx, x, mean, inverse_std, n, rows):
        normed = (x - mean) * inverse_std
        ctx.save_for_backward(normed, inverse_std)
        ctx.n, ctx.n_own, ctx.rows = n, rows.n_own, rows
        return normed

    @staticmethod
    def backward(ctx, gradient):
        normed, inverse_std = ctx.saved_tensors
        both = torch.cat([gradient.sum(0), (gradient * normed).sum(0)])
        plain, along = ctx.rows.total(both).chunk(2)
        of_x = inverse_std * (gradient - plain / ctx.n - normed * (along / ctx.n))
        # A row that stands in for none is not among those of the statistics.
        return of_x * float(ctx.n_own > 0), None, None, None, None


def norm_across(x, running_mean, running_var, weight, bias, momentum, eps, rows):
    """Batch norm of a training, with the statistics of the rows of all processes; (B, n), all else
    (n,) or None -> (B, n).

    Means and squares of each process are put together by those of the others, not by sums of
    squares, which lose digits where a mean is large."""
    own = x.detach()
    n_own = len(x) if rows.n_own else 0
    mean = own.mean(0) if n_own else own.new_zeros(own.shape[1])
    squares = (own - mean).square().sum(0) if n_own else torch.zeros_like(mean)
    each = rows.gathered(torch.cat([mean, squares, mean.new_tensor([float(n_own)])]))
    counts = each[:, -1:]
    n = float(counts.sum())
    if n <= 1:  # no other row to normalise by, as in `row_batch_norm`
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
