"""AutoEmb: embeddings of several sizes, mixed by how often a value has come."""

import dataclasses
from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..engine import ArchSchedule
from ..nn import (
    FieldEmbedding,
    FieldRows,
    ProjectedSizes,
    annealed,
    projected_state,
    row_batch_norm,
    sizes_from_text,
    sizes_to_text,
)
from ..nn._numeric import initial
from ..nn._read_rows import read_rows
from ..utils._sklearn import Interval, StrOptions
from ._value_counts import LossHistory, ValueCounts, popularity
from ._value_sizes import check_sizes_to_choose, check_value_sizes
from ._widths import check_candidates

# Added to variances, of the size of the square of a tenth of the usual initial embeddings.
EPS = 1e-6
HARD = 0.1  # last temperature of weights that are to become a choice
CHUNK = 4096  # values whose vectors are worked out at once
REPORTED_COUNTS = (0, 1, 4, 16, 64, 256, 1024, 4096, 16384)


class SizeMixture(FieldRows):
    r"""Vectors of every size, brought to one width and mixed by weights of the value; inputs -> (B,
    F, d).

    Every row of the tables holds the pieces :math:`e_1 \dots e_N` of all candidates. Candidate n
    of field f is :math:`z_n = \tanh(BN(e_n P_{fn}))`, and the vector is
    :math:`s_f \sum_n w_n z_n` with the weights that the controller of the field gives the value.

    Parameters
    ----------
    context : BuildContext
    sizes : list of int
        Candidates, rising.
    method : AutoEmb
    """

    def __init__(self, context, sizes, method):
        super().__init__(context)
        d, n_fields, n = context.embedding_dim, context.n_fields, len(sizes)
        std, hidden = context.embedding_init, method.hidden
        self.sizes, self.table_fields = sizes, context.table_fields
        self.starts = context.row_starts.tolist()
        self.arch_schedule = ArchSchedule(
            rows=method.rows, fraction=method.search_fraction, warmup=method.warmup
        )
        self.arch_lr, self.price, self.harden = method.arch_lr, method.price, method.harden
        self.temperature, self.cost = 1.0, []
        self.floor = self.first_floor = method.floor
        self.sparse = context.sparse_gradients
        self.pieces = initial(context, context.n_rows, sum(sizes), std=std)
        self.init_numbers(context, d, std)
        length = torch.repeat_interleave(torch.tensor(sizes), torch.tensor(sizes))
        used = torch.block_diag(*(torch.ones(w, 1) for w in sizes)).unsqueeze(-1)
        self.register_buffer("used", used, persistent=False)  # (S, N, 1)
        # Row k of the map is that of the piece that column k of the table belongs to.
        self.projection = initial(context, n_fields, sum(sizes), n, d, std=1.0)
        with torch.no_grad():
            self.projection *= used / length.view(-1, 1, 1) ** 0.5
        self.scale = nn.Parameter(torch.full((n_fields, 1), d**-0.5))
        self.register_buffer("mean", torch.zeros(n_fields, n * d))
        self.register_buffer("variance", torch.ones(n_fields, n * d))
        n_inputs = 1 + method.use_loss
        self.entry = initial(context, n_fields, n_inputs, hidden, std=1.0)
        self.entry_shift = initial(context, n_fields, 1, hidden, std=1.0)
        self.exit = nn.Parameter(torch.zeros(n_fields, hidden, n))
        self.exit_shift = nn.Parameter(torch.zeros(n_fields, 1, n))
        by_field = ("projection", "scale", "mean", "variance", *self.controllers)
        self.field_axes |= {name: {0: context.axis("F")} for name in by_field}
        self.field_axes["pieces"] = {0: context.axis("V")}
        self.counted = ValueCounts(context)
        self.last_loss = LossHistory(context.axis("V"), 1) if method.use_loss else None
        self.register_buffer("mean_loss", torch.zeros(()))
        self.register_buffer("widths", torch.tensor(sizes, dtype=torch.float32), persistent=False)

    controllers = ("entry", "entry_shift", "exit", "exit_shift")

    def embedding_parameters(self):
        return [self.pieces, *super().embedding_parameters()]

    def sparse_parameters(self):
        """The parameters with row-wise gradients."""
        return [self.pieces] if self.sparse else []

    def arch_parameters(self):
        return [getattr(self, name) for name in self.controllers]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam(self.arch_parameters(), lr=self.arch_lr)

    def set_progress(self, t):
        if self.harden:
            self.temperature = annealed(1.0, HARD, t, warmup=0.5)
            self.floor = annealed(self.first_floor, 0.0, t, warmup=0.5)

    def observe(self, batch, per_row_loss):
        if self.last_loss is not None:
            self.last_loss.push(*self.counted.rows_of(batch), per_row_loss)
            # Losses fall as the training goes on; what tells is by how much a value's is higher.
            self.mean_loss.copy_(self.last_loss.usual())

    def told(self, rows):
        """What controllers know of rows of the tables, (...) -> (..., 1 or 2): the count, and the
        last loss beyond the usual one.
        """
        counts = self.counted(rows)
        if self.last_loss is None:
            return counts
        above = (self.last_loss(rows) - self.mean_loss).nan_to_num(0.0)
        return torch.cat([counts, above.unsqueeze(-1)], -1)

    def weights(self, told, fields, temperature=None):
        """Weights of the candidates.

        Parameters
        ----------
        told : Tensor (n, B, 1 or 2)
            Of n fields.
        fields : slice
            These.
        temperature : float or None
            None is that of the moment.

        Returns
        -------
        Tensor (n, B, N)
        """
        hidden = torch.tanh(torch.bmm(told, self.entry[fields]) + self.entry_shift[fields])
        logits = torch.bmm(hidden, self.exit[fields]) + self.exit_shift[fields]
        w = torch.softmax(logits / (temperature or self.temperature), -1)
        return (1 - self.floor) * w + self.floor / len(self.sizes)

    def candidates(self, e, fields, present):
        """The vectors of every candidate, (B, n, N, d), of pieces (n, B, S); zeros, which count in
        no statistics, where ``present`` (B,) is false.
        """
        maps = (self.projection[fields] * self.used).flatten(2)
        x = torch.bmm(e, maps).transpose(0, 1).flatten(1)
        mean, variance = self.mean[fields].view(-1), self.variance[fields].view(-1)
        out = torch.zeros_like(x)
        out[present] = torch.tanh(
            row_batch_norm(x[present], mean, variance, None, None, self.training, 0.1, EPS)
        )
        return out.view(len(x), len(e), len(self.sizes), -1)

    def lookup(self, ids, rows, fields):
        single = isinstance(fields, int)  # a list of items, of one table
        first = self.table_fields[fields] if single else 0
        e = (
            nn.functional.embedding(rows, self.pieces, sparse=True)
            if self.sparse
            else read_rows(self.pieces, rows)
        )
        rows = rows.long()
        present = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        if single:
            present, rows, e = (ids > 0).flatten(), rows.view(-1, 1), e.flatten(0, 1).unsqueeze(1)
        own = slice(first, first + rows.shape[1])
        w = self.weights(self.told(rows.T), own).transpose(0, 1)
        z = self.candidates(e.transpose(0, 1), own, present)
        if self.training and torch.is_grad_enabled():
            each = (w @ self.widths) / self.counted.counts[rows].clamp(min=1)
            self.cost.append(each[present].sum() / len(ids))
        out = (w.unsqueeze(-1) * z).sum(-2) * self.scale[own]
        return out.view(*ids.shape, -1)

    def unpooled(self, inputs):
        self.cost = []
        return super().unpooled(inputs)

    def penalty(self):
        """The price of the mean size of all values, estimated by those of the batch."""
        cost, self.cost = self.cost, None
        return self.price * sum(cost or [])

    @torch.no_grad()
    def of_all_values(self, what):
        """What a function gives of the rows of each table, one below the other.

        Parameters
        ----------
        what : callable (rows int64 (n,), number of the table) -> Tensor (n, ...)
        """
        parts = []
        for table, (start, stop) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            for first in range(start, stop, CHUNK):
                rows = torch.arange(first, min(first + CHUNK, stop), device=self.pieces.device)
                parts.append(what(rows, table))
        return torch.cat(parts) if parts else None

    def weights_of_values(self):
        """Weights (V, N) of all rows of the tables as they are now, at temperature 1."""

        def of_rows(rows, table):
            field = self.table_fields[table]
            told = self.told(rows).unsqueeze(0)
            return self.weights(told, slice(field, field + 1), 1.0)[0]

        found = self.of_all_values(of_rows)
        return self.pieces.new_zeros(0, len(self.sizes)) if found is None else found

    def vectors(self):
        """The vectors of all rows of the tables, (V, d), as they are served."""

        def of_rows(rows, table):
            own = slice(self.table_fields[table], self.table_fields[table] + 1)
            w = self.weights(self.told(rows).unsqueeze(0), own)[0]
            present = torch.ones_like(rows, dtype=torch.bool)
            z = self.candidates(self.pieces[rows].unsqueeze(0), own, present)[:, 0]
            return (w.unsqueeze(-1) * z).sum(1) * self.scale[own]

        found = self.of_all_values(of_rows)
        return self.pieces.new_zeros(0, self.projection.shape[-1]) if found is None else found

    @torch.no_grad()
    def hard_state(self, sizes):
        """State of a `ProjectedSizes` of given sizes (V,): one piece of each value, with batch norm
        in the maps.
        """
        table = self.pieces.new_zeros(len(self.pieces), self.projection.shape[-1])
        deviation = (self.variance + EPS).sqrt().unflatten(1, (len(self.sizes), -1))  # (F, N, d)
        shift, projections, shifts, start = -self.mean.view_as(deviation) / deviation, {}, {}, 0
        for n, size in enumerate(self.sizes):
            piece, rows = slice(start, start + size), torch.from_numpy(sizes == size)
            table[rows.to(table.device), :size] = self.pieces[rows.to(table.device), piece]
            projections[size] = self.projection[:, piece, n] / deviation[:, n].unsqueeze(1)
            shifts[size] = shift[:, n]
            start += size
        return projected_state(table, sizes, projections, shifts, self.scale)

    def weights_by_count(self):
        """Weights by field with a table and number of rows, for ``REPORTED_COUNTS``: a list of
        lists of lists.
        """
        told = popularity(torch.tensor(REPORTED_COUNTS, device=self.pieces.device))
        told = torch.stack([told, torch.zeros_like(told)][: self.entry.shape[1]], -1).unsqueeze(0)
        with torch.no_grad():
            by_field = [
                self.weights(told, slice(f, f + 1), 1.0)[0].double().cpu().numpy().round(6).tolist()
                for f in self.table_fields
            ]
        return by_field

    def summary(self):
        sizes = self.weights_of_values() @ self.widths
        return {"mean_size": float(sizes.mean()) if len(sizes) else 0.0}


class MixedTable(FieldEmbedding):
    """The mixtures of all values, worked out: a plain table that tells the sizes of which they are
    made for the most part.

    Parameters
    ----------
    context : BuildContext
    sizes : ndarray of int (V,)
    """

    def __init__(self, context, sizes):
        super().__init__(context)
        self.told = sizes.astype(np.uint16)

    def sizes(self):
        """Size of the largest weight by field: int ndarray (n_rows,) of a table, d of a number."""
        return self.by_field(self.told.astype(np.int64), self.weight.shape[1])


class AutoEmb(SearchMethod):
    r"""Mix embeddings of several sizes by weights that depend on how often a value has come.

    Value v of field f has a piece :math:`e_n` of every candidate size, which a matrix, batch norm
    and tanh bring to one width and one scale, so that a small weight cannot be made up for by a
    larger piece:

    .. math:: z_n = \tanh(BN(e_n P_{fn})), \quad w = \mathrm{softmax}(g_f(x_v)), \quad
              \tilde e_v = s_f \sum_n w_n z_n

    The controller :math:`g_f`, a perceptron of one hidden layer, sees the count of the value,
    :math:`x_v = (\log_2(1 + c_v) - 5) / 5`. In each step the controllers move first, on the batch
    before, then the weights on the present one (bi-level, first order).

    It works in ``fit`` and from the first chunk of ``partial_fit`` on, where counts grow with the
    stream and with them the sizes, which are there after every chunk (``embedding_sizes_``: those
    of the largest weight).

    Parameters
    ----------
    sizes : tuple of int or "auto", default="auto"
        Candidates, at most ``embedding_dim``. "auto" is 1, 2, 4, ... and ``embedding_dim``.
    rows : {"previous", "next", "held_out", "same"}, default="previous"
        On which rows the controllers move: on the batch before that of the weights, on that of the
        weights before these have seen it, on a part of the training rows of their own, or on that
        of the weights after their step. See `sklearn_autorec.engine.ArchSchedule`.
    arch_lr : float, default=0.02
        Adam's learning rate of the controllers.
    price : float, default=0.2
        Loss, summed over the rows of a value, that a column of it has to save: the price of
        :math:`\sum_v \sum_n w_n d_n` is added to the total loss. 0 is the paper.
    harden : bool, default=False
        Let the weights become nearly a choice: from the middle of the search on the softmax is
        taken at a falling temperature, and in the end every value keeps the piece of its largest
        weight alone, of which only so many numbers are stored.
    use_loss : bool, default=False
        Tell the controllers the last loss of the value as well, less the usual one.
    hidden : int, default=16
        Hidden units of a controller.
    floor : float in [0, 1), default=0.1
        Share of the mixture that all sizes have alike, whatever their weights. A size that is given
        up is trained by it, and can come back when counts have grown. With ``harden`` it falls to
        zero with the temperature.
    warmup : float in [0, 1), default=0.8
        Share of the steps (in a stream: of the first chunk) before the controllers move. What
        wide pieces are worth shows only once they have learned something.
    search_fraction : float in (0, 1), default=0.2
        Share of the rows that only the controllers see, with ``rows="held_out"``.
    retrain : {"none", "keep"}, default="none"
        Whether what is found serves as it is, as in the paper, or is trained further.

    Notes
    -----
    Without ``harden`` nothing is saved: the mixture of each value is worked out once, and a plain
    table of full width serves.

    On a batch that the weights have just been trained on a wide piece of a rare value looks better
    than it is. Without a price (``price=0``, the paper) rare values therefore do not become
    narrow on ``rows="previous"``, and neither does a field of noise; with it they do.

    Departures from the public code: batch norm has statistics of each candidate and field, not of
    all candidates together, and no scale and shift; a field has one learned factor behind the
    mixture; controllers see the logarithm of a count instead of a learned vector for each count,
    and not their own last weights; mixtures start even.

    Values of lists are counted as those of categorical fields, in a fit during its first epoch.
    Numbers are left at full width.

    References
    ----------
    Zhao, X. et al. "AutoEmb: Automated Embedding Dimensionality Search in Streaming
    Recommendations", ICDM 2021.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(1000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(network="fm", search=AutoEmb((1, 4)), embedding_dim=4, random_state=0)
    >>> for chunk in (slice(0, 500), slice(500, 1000)):
    ...     model = model.partial_fit(X[chunk], y[chunk], classes=[0, 1])
    >>> sorted(model.embedding_sizes_)
    ['f0', 'f1', 'f2']
    >>> "prequential_loss" in model.history_[-1]
    True
    """

    slot = "embedding"
    streams = True
    _parameter_constraints = {
        "sizes": [tuple, list, StrOptions({"auto"})],
        "rows": [StrOptions({"previous", "next", "held_out", "same"})],
        "arch_lr": [Interval(Real, 0, None, closed="neither")],
        "price": [Interval(Real, 0, None, closed="left")],
        "harden": ["boolean"],
        "use_loss": ["boolean"],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "floor": [Interval(Real, 0, 1, closed="left")],
        "warmup": [Interval(Real, 0, 1, closed="left")],
        "search_fraction": [Interval(Real, 0, 1, closed="neither")],
        "retrain": [StrOptions({"none", "keep"})],
    }

    def __init__(
        self,
        sizes="auto",
        rows="previous",
        arch_lr=0.02,
        price=0.2,
        harden=False,
        use_loss=False,
        hidden=16,
        floor=0.1,
        warmup=0.8,
        search_fraction=0.2,
        retrain="none",
    ):
        self.sizes = sizes
        self.rows = rows
        self.arch_lr = arch_lr
        self.price = price
        self.harden = harden
        self.use_loss = use_loss
        self.hidden = hidden
        self.floor = floor
        self.warmup = warmup
        self.search_fraction = search_fraction
        self.retrain = retrain

    def build(self, context):
        sizes = check_candidates(self.sizes, context.embedding_dim)
        return SizeMixture(context, check_sizes_to_choose("AutoEmb", sizes), self)

    def derive(self, module, context):
        best = module.widths[module.weights_of_values().argmax(1)]
        return {
            "sizes": sizes_to_text(best.cpu().numpy()),
            "hard": bool(self.harden),
            "weights": {"counts": list(REPORTED_COUNTS), "by_field": module.weights_by_count()},
        }

    def transfer(self, state, architecture, context):
        """Every value gets the vector that it has, or the numbers of its size and the maps of all
        sizes with batch norm in them.
        """
        own = {
            k.removeprefix("embedding."): t for k, t in state.items() if k.startswith("embedding.")
        }
        state = {k: t for k, t in state.items() if not k.startswith("embedding.")}
        quiet = dataclasses.replace(context, generator=torch.Generator())
        module = self.build(quiet)
        module.load_state_dict(own)
        module.to(own["pieces"].device).eval()
        numbers = {k: t for k, t in own.items() if k.startswith("numeric_")}
        if architecture["hard"]:
            found = module.hard_state(sizes_from_text(architecture["sizes"]))
        else:
            found = {"weight": module.vectors()}
        return state | {f"embedding.{k}": t for k, t in (numbers | found).items()}

    def check(self, architecture, context):
        check_value_sizes(architecture, context)
        if type(architecture.get("hard")) is not bool:
            raise ValueError(f"hard must be True or False, got {architecture.get('hard')!r:.200}.")

    def realise(self, architecture, context):
        sizes = sizes_from_text(architecture["sizes"])
        return (ProjectedSizes if architecture["hard"] else MixedTable)(context, sizes)
