"""Symmetric tensors of low rank over fields: every tuple's weight from a few numbers a field."""

import math
from itertools import combinations

import numpy as np
import torch

PASSES = 3  # over the R d numbers of a row, for each pair of which as much is done
LISTED = 20_000  # tuples of one order that are scored, at most


def pairs_are_cheaper(n_pairs, rank, d):
    """Whether to sum up pairs by their inner products, of which there are F^2 / 2, rather than by
    powers, of which there are R d numbers, each passed over several times.
    """
    return n_pairs <= PASSES * rank * d


def summed_pairs(weights, products, pairs):
    """`summed_polynomials` of order two, (B, R).

    Parameters
    ----------
    weights : Tensor (R, F)
    products : Tensor (B, K)
        Inner products of pairs; all others have weight zero.
    pairs : int64 Tensor (2, K)
    """
    return products @ (weights.index_select(1, pairs[0]) * weights.index_select(1, pairs[1])).T


def powers_of(x, order):
    """Powers 1 to p of a tensor, a list."""
    found = [x]
    for _ in range(order - 1):
        found.append(found[-1] * x)
    return found


class _SummedPolynomials(torch.autograd.Function):
    r"""`summed_polynomials` with its gradient, of which the same numbers are a part:

    .. math:: \frac{\partial E_p}{\partial P_k} = \frac{(-1)^{k-1}}{k} E_{p-k}
    """

    @staticmethod
    def forward(ctx, weights, e, order):
        n_rows, n_fields, d = e.shape
        # Fields first: products of matrices whose longest side is that of the rows are quick.
        x = powers_of(e.transpose(0, 1).reshape(n_fields, -1), order)
        w = powers_of(weights.T.contiguous(), order)
        sums = [torch.mm(a.T, b) for a, b in zip(x[:-1], w[:-1], strict=True)]  # (B d, R)
        found: list = [None, *sums[:1]]  # E_1, E_2, ...
        for k in range(2, order):
            own = sums[k - 1] * (-1.0) ** (k - 1)
            for i in range(1, k):
                own.addcmul_(found[k - i], sums[i - 1], value=(-1.0) ** (i - 1))
            found.append(own.div_(k))
        last = x[-1].view(n_fields, n_rows, d).sum(2)
        total = (-1.0) ** (order - 1) * (last.T @ w[-1])
        for i in range(1, order):
            of_power = (found[order - i] * sums[i - 1]).view(n_rows, d, -1).sum(1)
            total.add_(of_power, alpha=(-1.0) ** (i - 1))
        ctx.shape, ctx.made = e.shape, (x, w, found, last)
        return total.div_(order)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        n_rows, n_fields, d = ctx.shape
        x, w, found, last = ctx.made
        order = len(x)
        of_weights = (-1.0) ** (order - 1) * torch.mm(last, grad) * power(w, order - 2)
        of_e = None
        if ctx.needs_input_grad[1]:
            of_e = torch.mm(w[-1], grad.T).mul_((-1.0) ** (order - 1)).unsqueeze(2)
            of_e = (of_e * power(x, order - 2, n_fields, n_rows, d)).view(n_fields, -1)
        for k in range(1, order):
            own = found[order - k].view(n_rows, d, -1) * grad.unsqueeze(1)
            own = own.mul_((-1.0) ** (k - 1)).flatten(0, 1)
            of_weights.addcmul_(torch.mm(x[k - 1], own), power(w, k - 2))
            if of_e is not None:
                of_e.addcmul_(torch.mm(w[k - 1], own.T), power(x, k - 2))
        if of_e is not None:
            of_e = of_e.view(n_fields, n_rows, d).transpose(0, 1)
        return of_weights.T, of_e, None


def power(powers, number, *shape):
    """One of a list of powers, of which the first is the first; of the number -1 it is one."""
    if number < 0:
        return torch.ones((), dtype=powers[0].dtype, device=powers[0].device)
    return powers[number].view(shape) if shape else powers[number]


def summed_polynomials(weights, e, order):
    r"""Sums over all tuples of different fields of their weighted products, and over coordinates.

    .. math:: \sum_f E_p, \quad
              E_p = \sum_{i_1 < \ldots < i_p} \prod_q w_{i_q} e_{i_q}, \qquad
              E_k = \frac{1}{k} \sum_{i=1}^{k} (-1)^{i-1} E_{k-i} P_i, \quad
              P_i = \sum_f w_f^i e_f^i

    Newton's identities need products of matrices alone, and no tuple is made. Of the last power the
    sum is taken over the coordinates first.

    Parameters
    ----------
    weights : Tensor (R, F)
    e : Tensor (B, F, d)
    order : int
        p, at least 2.

    Returns
    -------
    Tensor (B, R)
    """
    return _SummedPolynomials.apply(weights, e, order)


def summed_powers(weights, e, order):
    """(sum_i w_i e_i)^p - sum_i (w_i e_i)^p, summed over the coordinates, (B, R); parameters as of
    `summed_polynomials`.
    """
    x, w = e.transpose(1, 2).contiguous(), weights.T
    return powers_of(x @ w, order)[-1].sum(1) - powers_of(x, order)[-1].sum(1) @ w.pow(order)


def tuple_weights(tuples, factors, head):
    """Entries of the tensor: |sum_r head_rc prod_q factors_{r, i_q}|, the root of the sum of
    squares over c; (K,).

    Parameters
    ----------
    tuples : int ndarray (K, p)
    factors : ndarray (R, F)
    head : ndarray (R, C)
    """
    products = math.prod(factors[:, fields] for fields in tuples.T)  # (R, K)
    return np.sqrt(np.square(products.T @ head).sum(1))


def scored_tuples(order, factors, head, limit=LISTED):
    """Tuples of fields with the size of their entry in a symmetric tensor.

    All of them in lexicographic order, if these are not more than ``limit``. Else those that a beam
    of that width finds: it adds field by field what has the largest products so far.

    Returns
    -------
    tuples : int64 ndarray (K, order)
    scores : float64 ndarray (K,)
    """
    n_fields = factors.shape[1]
    if math.comb(n_fields, order) <= limit:
        tuples = np.array([*combinations(range(n_fields), order)]).reshape(-1, order)
        return tuples, tuple_weights(tuples, factors, head)
    weighted = factors * np.abs(head).sum(1, keepdims=True) ** (1 / order)
    beam = np.arange(n_fields)[:, None]
    for _ in range(order - 1):
        n = len(beam)
        longer = np.column_stack([np.repeat(beam, n_fields, 0), np.tile(np.arange(n_fields), n)])
        longer = longer[(longer[:, :-1] != longer[:, -1:]).all(1)]
        longer = np.unique(np.sort(longer, 1), axis=0)
        reach = np.abs(math.prod(weighted[:, fields] for fields in longer.T)).sum(0)
        beam = longer[np.argsort(-reach, kind="stable")[:limit]]
    beam = beam[np.lexsort(beam.T[::-1])]
    return beam, tuple_weights(beam, factors, head)
