"""Several independent members of one network, folded into the batch dimension.

A packed network takes batches of M * B rows, those of one member after those of another, so that
parts without weights need to know nothing of it. Tables hold the members' vectors side by side, (V
* M, d); layers with weights have one set a member."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from ._axes import FieldAxis
from ._statistics import norm_across, of_one_member, rows_elsewhere


def own_rows(rows, members):
    """Rows of a table as rows of one that holds the members' side by side, (V * M, d); int (M * B,
    ...) to the same.
    """
    number = torch.arange(members, dtype=rows.dtype, device=rows.device).view(-1, *[1] * rows.ndim)
    return (rows.unflatten(0, (members, -1)) * members + number).flatten(0, 1)


class MemberLinear(nn.Module):
    """A fully connected layer a member; (M * B, ..., n_in) -> (M * B, ..., n_out).

    Weights (M, n_out, n_in) are Glorot-normal, biases (M, n_out) zero, as those of `linear`.
    """

    def __init__(self, n_in, n_out, generator, members, bias=True):
        super().__init__()
        std = (2 / (n_in + n_out)) ** 0.5
        self.weight = nn.Parameter(
            torch.empty(members, n_out, n_in).normal_(0, std, generator=generator)
        )
        self.bias = nn.Parameter(torch.zeros(members, n_out)) if bias else None
        self.members = members

    def forward(self, x):
        # The number of rows is told, since of no rows torch cannot tell it.
        n_rows = math.prod(x.shape[:-1]) // self.members
        rows = x.reshape(self.members, n_rows, x.shape[-1])
        if not self.training:
            # Small batched products sum in another order than large ones; one by one a row has the
            # same bits in any batch.
            biases = [None] * self.members if self.bias is None else self.bias
            out = torch.cat(
                [F.linear(r, w, b) for r, w, b in zip(rows, self.weight, biases, strict=True)]
            )
        elif self.bias is None:
            out = torch.bmm(rows, self.weight.transpose(1, 2))
        else:
            out = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight.transpose(1, 2))
        return out.view(*x.shape[:-1], self.weight.shape[1])

    def extra_repr(self):
        return f"{self.weight.shape[2]}, {self.weight.shape[1]}, members={self.members}"


def row_batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps):
    """Batch norm that takes a batch of one row; (B, n), all else (n,) or None -> (B, n).

    A single row is its own mean and has no variance: nothing of it would be left. It is normalised
    by the running statistics, as in prediction, and leaves them as they are. Of a batch in several
    processes the statistics are those of all its rows."""
    if training and (rows := rows_elsewhere()) is not None and rows.n_rows > 1:
        return norm_across(x, running_mean, running_var, weight, bias, momentum, eps, rows)
    return F.batch_norm(
        x, running_mean, running_var, weight, bias, training and len(x) > 1, momentum, eps
    )


def member_batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps):
    """Batch norm with the statistics of each member's own rows; (M * B, n), all else (M, n) or None
    -> (M * B, n).

    One row of each is normalised as by `row_batch_norm`.
    """
    members = len(running_mean)
    nothing = [None] * members
    # Member by member: to torch all channels lie in one row, which would take two copies of all
    # rows.
    return torch.cat(
        [
            row_batch_norm(r, mean, var, w, b, training, momentum, eps)
            for r, mean, var, w, b in zip(
                x.unflatten(0, (members, -1)),
                running_mean,
                running_var,
                nothing if weight is None else weight,
                nothing if bias is None else bias,
                strict=True,
            )
        ]
    )


class BatchNorm(nn.BatchNorm1d):
    """Torch's batch norm, but for a batch of one row, which is normalised by the running
    statistics; (B, n) -> (B, n).

    See `row_batch_norm`. ``n_rows`` says of how many rows x is made, where one row of the table
    gives several of x."""

    def forward(self, x, n_rows=None):
        rows = rows_elsewhere()
        if self.training and rows is not None and rows.n_rows > 1:
            self.num_batches_tracked += 1
            state = self.running_mean, self.running_var, self.weight, self.bias
            return row_batch_norm(x, *state, True, self.momentum, self.eps)
        if self.training and (len(x) if n_rows is None else n_rows) == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class MemberBatchNorm(nn.Module):
    """Batch norm of each member's own rows; (M * B, n) -> (M * B, n)."""

    def __init__(self, n, members):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, n))
        self.bias = nn.Parameter(torch.zeros(members, n))
        self.register_buffer("running_mean", torch.zeros(members, n))
        self.register_buffer("running_var", torch.ones(members, n))
        # As torch's layer, whose state this is M times.
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        # Else one row of each, which moves no statistics.
        if self.training and len(x) > len(self.weight):
            self.num_batches_tracked.add_(1)
        return member_batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, 1e-5
        )

    def extra_repr(self):
        return f"{self.weight.shape[1]}, members={len(self.weight)}"


def batch_norm(n, members=1):
    """Batch norm of n columns, with statistics, scale and shift of its own for each member."""
    norm = BatchNorm(n) if members == 1 else MemberBatchNorm(n, members)
    if isinstance(n, FieldAxis):
        norm.field_axes = {
            name: {-1: n} for name in ("weight", "bias", "running_mean", "running_var")
        }
    return norm


class Members(nn.Module):
    """Independent networks that are trained together and predict together.

    In training mode each member has rows of its own: encoded batches of M * B rows, member after
    member, go to as many logits, (M * B, C). Otherwise all members see the same rows: (B, ...) goes
    to the mean of their logits, (B, C).

    Parameters
    ----------
    networks : list of nn.Module
        Either one network of M members (which takes and gives M * B rows), or M networks of one.
    packed : int
        Members in each of ``networks``.
    """

    def __init__(self, networks, packed):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.packed = packed
        self.members = packed * len(self.networks)

    def forward(self, ids, numeric, sequences):
        if not self.training:
            return self.member_logits(ids, numeric, sequences).mean(0)
        if len(self.networks) == 1:
            return self.networks[0](ids, numeric, sequences)
        rows = zip(*(t.chunk(self.members) for t in (ids, numeric, sequences)), strict=True)
        with of_one_member():
            each = [network(*own) for network, own in zip(self.networks, rows, strict=True)]
        return torch.cat(each)

    def member_logits(self, ids, numeric, sequences):
        """Logits of every member for the same rows, (B, ...) to (M, B, C)."""
        return self._of_all(ids, numeric, sequences, nn.Module.__call__)

    def gates(self, ids, numeric, sequences):
        """Factors of the fields, the mean of the members', (B, F)."""
        return self._of_all(
            ids, numeric, sequences, lambda network, *rows: network.gates(*rows)
        ).mean(0)

    def _of_all(self, ids, numeric, sequences, call):
        rows = [t.repeat(self.packed, 1) for t in (ids, numeric, sequences)]
        parts = [call(network, *rows).unflatten(0, (self.packed, -1)) for network in self.networks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @property
    def embedding(self):
        """The embedding part of the first network: what a search found is the same in all."""
        return self.networks[0].embedding

    @property
    def selection(self):
        """The input selection, which all members share, or None."""
        return getattr(self.networks[0], "selection", None)

    def weights_of(self, member, shapes):
        """Views of the weights and statistics of one member under the names that a single network
        has.

        Parameters
        ----------
        member : int
        shapes : dict of str to tuple of int
            Of the single network. Names and shapes that a member does not have are left out.

        Returns
        -------
        dict of str to Tensor
        """
        number, k = divmod(member, self.packed)
        own = self.networks[number].state_dict()
        views = {
            name: _member_view(own[name], tuple(s), k, self.packed)
            for name, s in shapes.items()
            if name in own
        }
        return {name: view for name, view in views.items() if view is not None}


def _member_view(tensor, shape, member, members):
    """The part of a packed tensor that belongs to a member, or None if no part of it has this
    shape.
    """
    if tensor.shape == shape:  # M = 1, or a counter
        return tensor
    if tensor.shape == (members, *shape):
        return tensor[member]
    if shape and tensor.shape == (members * shape[0], *shape[1:]):  # a table
        return tensor.unflatten(0, (-1, members))[:, member]
    return None
