"""Vectors of several sizes, brought to one width and scale by a batch, and mixed, in one step."""

import torch

from ._fast_tanh import tanh


class _NormedMixture(torch.autograd.Function):
    """The batch is the last axis of all that is worked out, so that statistics, weights and sums
    go along the memory; every candidate has a product of its own, without the zeros of others.
    """

    @staticmethod
    def forward(ctx, e, w, projection, sizes, mean, variance, momentum, eps):
        e, n_rows = e.transpose(1, 2).contiguous(), e.shape[1]
        out, kept, start = None, [], 0
        for k, size in enumerate(sizes):
            own = slice(start, start + size)
            x = torch.bmm(projection[:, own, k].transpose(1, 2), e[:, own])
            middle = x.mean(-1, keepdim=True)
            x -= middle
            spread = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / n_rows
            x *= (factor := torch.rsqrt(spread + eps))
            z = tanh(x)
            weighted = w[:, k].unsqueeze(1)
            out = z * weighted if out is None else out.addcmul_(z, weighted)
            mean[:, k].lerp_(middle.squeeze(-1), momentum)
            variance[:, k].lerp_(spread.squeeze(-1) * (n_rows / (n_rows - 1)), momentum)
            kept += [x, z, factor]
            start += size
        ctx.sizes = sizes
        ctx.save_for_backward(e, w, projection, *kept)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        e, w, projection, *kept = ctx.saved_tensors
        grad = grad.contiguous()
        wants_e, wants_w, wants_projection = ctx.needs_input_grad[:3]
        of_e = torch.empty_like(e) if wants_e else None
        of_w = torch.empty_like(w) if wants_w else None
        of_projection = torch.zeros_like(projection) if wants_projection else None
        start = 0
        for k, size in enumerate(ctx.sizes):
            own = slice(start, start + size)
            start += size
            x, z, factor = kept[3 * k : 3 * k + 3]
            if wants_w:
                torch.sum(grad * z, 1, out=of_w[:, k])
            if not (wants_e or wants_projection):
                continue
            g = torch.ops.aten.tanh_backward(grad * w[:, k].unsqueeze(1), z)
            along = (g * x).mean(-1, keepdim=True)
            g -= g.mean(-1, keepdim=True)
            g = g.addcmul_(x, along, value=-1).mul_(factor)
            if wants_e:
                of_e[:, own] = torch.bmm(projection[:, own, k], g)
            if wants_projection:
                of_projection[:, own, k] = torch.bmm(e[:, own], g.transpose(1, 2))
        of_e = of_e.transpose(1, 2) if wants_e else None
        return of_e, of_w, of_projection, None, None, None, None, None


def normed_mixture(e, w, projection, sizes, mean, variance, momentum, eps):
    r"""Sum over candidates k of :math:`w_k \tanh(BN(e_k P_k))`, with the statistics of the batch.

    The same numbers, to rounding, as of products with all candidates at once, batch norm and a
    sum, in a fraction of the time. It has no second derivative.

    Parameters
    ----------
    e : Tensor (n, B, S)
        Of n fields and B rows (two at least) the pieces of all candidates, one behind the other.
    w : Tensor (n, N, B)
    projection : Tensor (n, S, N, d)
        Of which candidate k reads the rows of its own piece.
    sizes : sequence of int (N,)
        Of the pieces.
    mean, variance : Tensor (n, N, d)
        Running statistics, which are moved in place.
    momentum, eps : float
        As of torch's batch norm.

    Returns
    -------
    Tensor (n, d, B)
    """
    return _NormedMixture.apply(e, w, projection, tuple(sizes), mean, variance, momentum, eps)
