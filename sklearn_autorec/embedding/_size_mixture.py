"""Vectors of several sizes, mixed by weights that depend on the count of the value."""

import torch
from torch import nn

from ..engine import ArchSchedule, MovedByAdam
from ..nn import FieldRows, annealed, projected_state, row_batch_norm
from ..nn._fast_tanh import tanh
from ..nn._normed_mixture import normed_mixture
from ..nn._numeric import initial
from ..nn._read_rows import read_rows
from ..nn._statistics import rows_elsewhere
from ._controllers import by_perceptrons
from ._value_counts import LossHistory, ValueCounts, popularity

# Added to variances, of the size of the square of a tenth of the usual initial embeddings.
EPS = 1e-6
MOMENTUM = 0.1  # of running statistics
HARD = 0.1  # last temperature of weights that are to become a choice
CHUNK = 4096  # values whose vectors are worked out at once
REPORTED_COUNTS = (0, 1, 4, 16, 64, 256, 1024, 4096, 16384)


class SizeMixture(MovedByAdam, FieldRows):
    r"""Vectors of every size, brought to one width and mixed by weights of the value; inputs -> (B,
    F, d).

    Every row of the tables holds the pieces :math:`e_1 \ldots e_N` of all candidates. Candidate n
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
        self.some_share_ids = bool(context.shared_ids)
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

    observes_all_rows = True
    controllers = ("entry", "entry_shift", "exit", "exit_shift")

    def embedding_parameters(self):
        return [self.pieces, *super().embedding_parameters()]

    def sparse_parameters(self):
        """The parameters with row-wise gradients."""
        return [self.pieces] if self.sparse else []

    def arch_parameters(self):
        return [getattr(self, name) for name in self.controllers]

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
            With the batch along its memory.
        """
        own = (getattr(self, name)[fields] for name in self.controllers)
        logits = by_perceptrons(told, *own)
        w = torch.softmax(logits / (temperature or self.temperature), 1)
        return ((1 - self.floor) * w + self.floor / len(self.sizes)).transpose(1, 2)

    def candidates(self, e, fields, present):
        """The vectors of every candidate, (B, n, N, d), of pieces (n, B, S); zeros, which count in
        no statistics, where ``present`` (B,) is false.
        """
        maps = (self.projection[fields] * self.used).flatten(2)
        x = torch.bmm(e, maps).transpose(0, 1).flatten(1)
        mean, variance = (t[fields].view(-1) for t in (self.mean, self.variance))
        out = torch.zeros_like(x)
        out[present] = tanh(
            row_batch_norm(x[present], mean, variance, None, None, self.training, MOMENTUM, EPS)
        )
        return out.view(len(x), len(e), len(self.sizes), -1)

    def lookup(self, ids, rows, fields):
        single = isinstance(fields, int)  # a list of items, of one table
        if not single and self.some_share_ids:
            # Each by the maps and statistics of the field whose table it reads.
            columns = zip(ids.split(1, 1), rows.split(1, 1), self.id_tables, strict=True)
            return torch.cat(
                [self._mixed(*own, self.table_fields[table], False) for *own, table in columns], 1
            )
        first = self.table_fields[fields] if single else 0
        return self._mixed(ids, rows, first, single)

    def _mixed(self, ids, rows, first, single):
        """Vectors of rows, of fields from the first on, or of the items of a single one."""
        rows = rows.long()
        present = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
        if single:
            present, rows = (ids > 0).flatten(), rows.view(-1, 1)
        e = read_rows(self.pieces, rows.T, self.sparse)
        own = slice(first, first + rows.shape[1])
        w = self.weights(self.told(rows.T), own)
        if self.training and torch.is_grad_enabled():
            size = (w.transpose(1, 2) * self.widths.unsqueeze(1)).sum(1).T
            each = size / self.counted.counts[rows].clamp(min=1)
            self.cost.append((each[present] if single else each).sum() / len(ids))
        if self.training and not single and len(ids) > 1 and rows_elsewhere() is None:
            n = len(self.sizes)
            statistics = (t[own].unflatten(1, (n, -1)) for t in (self.mean, self.variance))
            out = normed_mixture(
                e, w.transpose(1, 2), self.projection[own], self.sizes, *statistics, MOMENTUM, EPS
            )
            return (out * self.scale[own].unsqueeze(-1)).permute(2, 0, 1)
        z = self.candidates(e, own, present)
        out = (w.transpose(0, 1).unsqueeze(-1) * z).sum(-2) * self.scale[own]
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
