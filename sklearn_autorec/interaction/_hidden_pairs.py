"""A hidden layer over the elementwise products of pairs of fields, a few rows at a time."""

import torch
from torch import nn

CHUNK_CELLS = 2**18  # hidden units computed at a time; more do not stay in a processor's caches
ROW_BLOCK = 16  # a row has the same bits in whole blocks of so many, as in predictions
mask = torch.ops.aten.threshold_backward.grad_input


def chunks_of(n_rows, n_cells):
    """Slices of rows, of each of which ``n_cells`` hidden units are computed."""
    step = max(CHUNK_CELLS // max(n_cells, 1) // ROW_BLOCK, 1) * ROW_BLOCK
    return [slice(start, start + step) for start in range(0, n_rows, step)] or [slice(0, 0)]


def hidden_units(e, left, right, weight, bias):
    """Products (n, K, d) of pairs, and ReLU(W product + b), (n, K, H)."""
    products = e.index_select(1, left) * e.index_select(1, right)
    hidden = torch.addmm(bias, products.flatten(0, 1), weight.T).clamp_min_(0)
    return products, hidden.view(*products.shape[:2], -1)


def gradients_of_layer(of_hidden, of_products, products, hidden, e, left, right, weight):
    """What `hidden_units` hands back: gradients of e, W and b.

    Parameters
    ----------
    of_hidden : Tensor (n, K, H)
        Gradient of the hidden units; it is overwritten.
    of_products : Tensor (n, K, d) or None
        Of the products themselves.
    """
    mask(of_hidden, hidden, 0, grad_input=of_hidden)
    of_hidden = of_hidden.flatten(0, 1)
    # Each product of matrices in the order in which its longest side is that of the columns: the
    # other way round it takes two to five times as long.
    of_weight = torch.mm(products.flatten(0, 1).T, of_hidden).T
    through = torch.mm(weight.T, of_hidden.T).T.contiguous().view_as(products)
    if of_products is not None:
        through += of_products
    of_e = torch.zeros_like(e)
    of_e.index_add_(1, left, through * e.index_select(1, right))
    of_e.index_add_(1, right, through * e.index_select(1, left))
    return of_e, of_weight, of_hidden.sum(0)


class _GatedSums(torch.autograd.Function):
    """Sums over pairs of gates times products, (B, d), and times hidden units, (B, H), side by
    side.
    """

    @staticmethod
    def forward(ctx, e, gates, weight, bias, left, right):
        ctx.save_for_backward(e, gates, weight, left, right)
        ctx.made, sums = [], []
        for rows in chunks_of(len(e), len(left) * len(weight)):
            products, hidden = hidden_units(e[rows], left, right, weight, bias)
            sums.append(_gated(gates[rows], products, hidden))
            ctx.made.append((rows, products, hidden))
        return torch.cat(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        e, gates, weight, left, right = ctx.saved_tensors
        d = e.shape[2]
        # Contiguous: a slice that is broadcast is multiplied number by number.
        of_sums = grad[:, :d].contiguous().unsqueeze(1), grad[:, d:].contiguous().unsqueeze(1)
        of_e, of_gates, of_weight, of_bias = [], [], 0.0, 0.0
        for rows, products, hidden in ctx.made:
            gate = gates[rows].unsqueeze(2)
            plain, through = (t[rows] for t in of_sums)
            of_gates.append(
                torch.bmm(products, plain.transpose(1, 2))
                .add_(torch.bmm(hidden, through.transpose(1, 2)))
                .squeeze(2)
            )
            found = gradients_of_layer(
                gate * through, gate * plain, products, hidden, e[rows], left, right, weight
            )
            of_e.append(found[0])
            of_weight, of_bias = of_weight + found[1], of_bias + found[2]
        return torch.cat(of_e), torch.cat(of_gates), of_weight, of_bias, None, None


class _HiddenScores(torch.autograd.Function):
    """A number for each pair, w (hidden units) + c, (B, K)."""

    @staticmethod
    def forward(ctx, e, weight, bias, read, shift, left, right):
        ctx.save_for_backward(e, weight, read, left, right)
        ctx.made, scores = [], []
        for rows in chunks_of(len(e), len(left) * len(weight)):
            products, hidden = hidden_units(e[rows], left, right, weight, bias)
            scores.append((hidden @ read[0]).add_(shift))
            ctx.made.append((rows, products, hidden))
        return torch.cat(scores)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        e, weight, read, left, right = ctx.saved_tensors
        of_e, of_weight, of_bias, of_read = [], 0.0, 0.0, 0.0
        for rows, products, hidden in ctx.made:
            own = grad[rows]
            of_read = of_read + torch.mm(own.reshape(1, -1), hidden.flatten(0, 1))
            found = gradients_of_layer(
                own.unsqueeze(2) * read[0], None, products, hidden, e[rows], left, right, weight
            )
            of_e.append(found[0])
            of_weight, of_bias = of_weight + found[1], of_bias + found[2]
        return torch.cat(of_e), of_weight, of_bias, of_read, grad.sum().view(1), None, None


def _gated(gates, products, hidden):
    gates = gates.unsqueeze(1)
    return torch.cat([torch.bmm(gates, products), torch.bmm(gates, hidden)], 2).squeeze(1)


def _plain(e, left, right, layer):
    """As `hidden_units`, in one piece and of what an exporter knows."""
    products = e.index_select(1, left) * e.index_select(1, right)
    return products, torch.relu(layer(products))


def gated_sums(e, gates, left, right, layer):
    """Sums over pairs of gates times their products and hidden units; -> (B, d + H).

    Parameters
    ----------
    e : Tensor (B, F, d)
    gates : Tensor (B, K)
    left, right : int64 Tensor (K,)
    layer : nn.Linear
        From d to H.
    """
    if torch.compiler.is_exporting():
        return _gated(gates, *_plain(e, left, right, layer))
    if torch.is_grad_enabled():
        return _GatedSums.apply(e, gates, layer.weight, layer.bias, left, right)
    sums = [
        _gated(gates[rows], *hidden_units(e[rows], left, right, layer.weight, layer.bias))
        for rows in chunks_of(e.shape[0], len(left) * layer.out_features)
    ]
    return sums[0] if len(sums) == 1 else torch.cat(sums)


def hidden_scores(e, left, right, layer, last):
    """What a perceptron with a single output makes of the product of every pair; -> (B, K).

    Parameters are those of `gated_sums`; ``last`` is an nn.Linear from H to 1.
    """
    if torch.compiler.is_exporting():
        return last(_plain(e, left, right, layer)[1]).squeeze(2)
    if torch.is_grad_enabled():
        return _HiddenScores.apply(e, layer.weight, layer.bias, last.weight, last.bias, left, right)
    return read_units(e, left, right, layer, last.weight).squeeze(2) + last.bias


def read_units(e, left, right, layer, of_hidden, of_products=None):
    """Linear maps of the hidden units, and of the products, of every pair; no gradient.

    Parameters are those of `gated_sums`, and the maps (C, H) and (C, d) or None.

    Returns
    -------
    Tensor (B, K, C)
    """
    read = []
    for rows in chunks_of(e.shape[0], len(left) * layer.out_features):
        products, hidden = hidden_units(e[rows], left, right, layer.weight, layer.bias)
        own = nn.functional.linear(hidden, of_hidden)
        read.append(
            own if of_products is None else own + nn.functional.linear(products, of_products)
        )
    return read[0] if len(read) == 1 else torch.cat(read)
