"""What asks for the rows of other processes finds with some of them what one process finds."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import batch_norm

from sklearn_autorec.nn import ReLUDropout, row_batch_norm
from sklearn_autorec.nn._statistics import (
    distinct_over_rows,
    drawn_by_row,
    mean_over_rows,
    of_one_member,
    row_numbers,
    rows_in_batch,
    statistics_across,
    total_over_rows,
    var_mean_over_rows,
)

N_PROCESSES = 3
SHARES = {5: (0, 1, 3, 5), 2: (0, 0, 1, 2)}  # of two rows the first process has none


class Exchange:
    """Threads in place of processes: each waits for what the others hand over."""

    def __init__(self):
        self.barrier = threading.Barrier(N_PROCESSES, timeout=60)
        self.given = [None] * N_PROCESSES

    def gathered(self, rank, t):
        self.given[rank] = t.detach().clone()
        self.barrier.wait()
        each = torch.stack(self.given)
        self.barrier.wait()
        return each


def in_processes(function, n_rows, members=1):
    """What a function of (slice of rows) gives in each of three processes."""
    exchange, results = Exchange(), [None] * N_PROCESSES
    bounds = SHARES[n_rows]

    def process(rank):
        start, stop = bounds[rank], bounds[rank + 1]
        own = stop - start
        first, passed = (start, own) if own else (0, 1)
        rows = SimpleNamespace(n_rows=n_rows, n_own=own, n_passed=passed, first=first)
        rows.members = members
        rows.gathered = lambda t: exchange.gathered(rank, t)
        rows.total = lambda t: exchange.gathered(rank, t).sum(0)
        try:
            with statistics_across(rows):
                results[rank] = function(slice(first, first + passed), own / n_rows)
        except BaseException as error:
            exchange.barrier.abort()
            results[rank] = error

    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(N_PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def numbers(n_rows, *shape):
    return torch.from_numpy(np.random.default_rng(0).normal(5.0, 1.0, (n_rows, *shape)))


def variance(x):
    return var_mean_over_rows(x)[0]


@pytest.mark.parametrize("n_rows", SHARES)
@pytest.mark.parametrize(
    "of_rows", [mean_over_rows, variance, lambda x: total_over_rows(x.T @ x)], ids=["m", "v", "t"]
)
def test_statistics_and_their_gradients_are_those_of_all_rows(n_rows, of_rows):
    """The loss of a process is its part of a mean, to which what all share counts once."""
    x, direction = numbers(n_rows, 4), numbers(4)[:4]

    def alone(own=slice(None), part=1.0):
        rows = x[own].clone().requires_grad_()
        found = of_rows(rows)
        (part * (found * direction).sum()).backward()
        return found.detach(), rows.grad

    expected, gradient = alone()
    found = in_processes(alone, n_rows)
    gradients = [g for (_, g), n in zip(found, np.diff(SHARES[n_rows]), strict=True) if n]
    for own, _ in found:
        torch.testing.assert_close(own, expected)
    torch.testing.assert_close(torch.cat(gradients), gradient)


@pytest.mark.parametrize("n_rows", SHARES)
def test_batch_norms_are_those_of_all_rows(n_rows):
    x, direction = numbers(n_rows, 4), numbers(n_rows, 4).flip(1).square()

    def normed(norm, own, running):
        rows = x[own].clone().requires_grad_()
        out = norm(rows, *running)
        (out * direction[own]).sum().backward()
        return out.detach(), rows.grad, *running

    def running():
        return torch.zeros(4, dtype=x.dtype), torch.ones(4, dtype=x.dtype)

    def of_share(own, part):
        def norm(rows, mean, var):
            out = row_batch_norm(rows, mean, var, None, None, True, 0.1, 1e-5)
            return out * float(part > 0)  # a row that stands in counts nothing

        return normed(norm, own, running())

    def whole(rows, mean, var):
        return batch_norm(rows, mean, var, training=True)

    expected = normed(whole, slice(None), running())
    found = in_processes(of_share, n_rows)
    kept = [each for each, n in zip(found, np.diff(SHARES[n_rows]), strict=True) if n]
    for k in range(2):
        torch.testing.assert_close(torch.cat([each[k] for each in kept]), expected[k])
    for each in found:
        torch.testing.assert_close(each[2:], expected[2:])


@pytest.mark.parametrize("n_rows", SHARES)
@pytest.mark.parametrize("members", [1, 2])
def test_random_numbers_of_rows_are_those_of_one_process(n_rows, members):
    """Two numbers a row, of which each has three."""

    def draw(shape):
        return torch.rand(shape, generator=torch.Generator().manual_seed(1))

    whole = draw((members * n_rows * 2, 3)).view(members, n_rows, 2, 3)

    def of_share(own, part):
        n = own.stop - own.start
        drawn = drawn_by_row(draw, (members * n * 2, 3)).view(members, n, 2, 3)
        torch.testing.assert_close(drawn, whole[:, own])
        assert row_numbers(n).tolist() == list(range(own.start, own.stop))
        assert rows_in_batch(drawn[0]) == n_rows
        with of_one_member():
            one = drawn_by_row(draw, (n, 3))
        torch.testing.assert_close(one, draw((n_rows, 3))[own])

    in_processes(of_share, n_rows, members)


def test_dropout_is_that_of_one_process():
    def layer():
        return ReLUDropout(0.5, torch.Generator().manual_seed(0))

    x = numbers(5, 16).float()
    whole = layer()(x)
    found = in_processes(lambda own, part: layer()(x[own]), 5)
    torch.testing.assert_close(torch.cat(found), whole)
    assert (whole == 0).any()


def test_distinct_values_are_counted_once():
    values = [torch.tensor(own) for own in ([1, 4], [4], [2, 4, 9])]
    shares = [[1.0, 1 / 3], [1 / 3], [1.0, 1 / 3, 1.0]]
    starts = {start: k for k, start in enumerate(SHARES[5][:-1])}
    found = in_processes(lambda own, part: distinct_over_rows(values[starts[own.start]]), 5)
    for (of_all, share), expected in zip(found, shares, strict=True):
        assert of_all.tolist() == [1, 2, 4, 9]
        np.testing.assert_allclose(share, expected)
