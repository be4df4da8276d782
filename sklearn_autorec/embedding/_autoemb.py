"""AutoEmb: embedding sizes of values by controllers that see how popular a value is."""

from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..engine import ArchSchedule
from ..nn import FieldRows, MaskedEmbedding, mask_from_text, mask_to_text
from ..nn._numeric import initial
from ..nn._read_rows import read_rows
from ..utils._sklearn import Interval, StrOptions
from ._masks import check_mask
from ._widths import check_candidates

N_OCTAVES = 32  # doublings of a count that controllers tell apart


class SizeMixture(FieldRows):
    """Each value mixes embeddings of several sizes by weights that its count decides; inputs -> (B,
    F, d).

    A row of the table has a piece of each size s_n side by side. Matrix W_n brings piece n to d
    columns and begins as its first s_n columns; all fields share it. The vector of value v of field
    f is sum_n w_n(f, c_v) W_n e_vn, where the weights are a softmax of the controller of the field.
    Items of lists have no counts: all of a field are mixed alike."""

    counts: torch.Tensor

    def __init__(self, context, sizes, hidden):
        super().__init__(context)
        self.sparse, self.sizes, d = context.sparse_gradients, list(sizes), context.embedding_dim
        self.weight = initial(context, self.n_rows, sum(sizes), std=context.embedding_init)
        self.init_numbers(context, d, context.embedding_init)
        starts = [torch.eye(d)[:size] for size in sizes]
        self.projection = nn.Parameter(torch.cat(starts))
        n_fields, n = context.n_fields, len(sizes)
        self.popularity = initial(context, n_fields, N_OCTAVES + 1, hidden, std=1.0)
        with torch.no_grad():
            self.popularity[:, 1:] = 0.0  # all counts start alike
        self.output = nn.Parameter(torch.zeros(n_fields, hidden, n))
        self.output_bias = nn.Parameter(torch.zeros(n_fields, n))
        counted = [torch.as_tensor(np.rint(own).astype(np.int64)) for own in context.counts]
        n_categorical = sum(context.n_ids)
        counts = torch.zeros(self.n_rows, dtype=torch.int64)
        if counted:
            counts[:n_categorical] = torch.cat(counted)
        self.register_buffer("counts", counts)
        self.register_buffer("octaves", torch.arange(N_OCTAVES).float(), persistent=False)
        self.register_buffer(
            "of_table", torch.tensor(context.table_fields, dtype=torch.int64), persistent=False
        )
        self.register_buffer("share", torch.tensor(self.sizes) / d, persistent=False)
        self.field_axes |= {
            "weight": {0: context.axis("V")},
            "counts": {0: context.axis("V")},
            **{name: {0: context.axis("F")} for name in ("popularity", "output", "output_bias")},
        }

    def embedding_parameters(self):
        """The parameters that the embedding's L2 decay applies to."""
        return [self.weight, self.numeric_weight] if self.n_numeric else [self.weight]

    def sparse_parameters(self):
        """The parameters with row-wise gradients."""
        return [self.weight] if self.sparse else []

    def begin_chunk(self, data):
        """Count the ids of rows that come."""
        rows = (data.ids + self.offsets).flatten().long()
        self.counts += torch.bincount(rows, minlength=self.n_rows)

    def size_weights(self, rows, fields):
        r"""Weights of the sizes, (...) -> (..., N).

        With x = log2(1 + count), clipped to 32, hidden vector and weights are

        .. math:: h = \tanh \left( u_0 + \sum_{k=0}^{31} \mathrm{clip}(x - k, 0, 1) u_{k+1} \right),
                  \quad w = \mathrm{softmax}(V h + b)

        The u of all doublings begin at zero, so that a count beyond those that trained has the
        weights of the largest of them.
        """
        x = torch.log2(1.0 + self.counts[rows.long()].float()).unsqueeze(-1)
        steps = (x - self.octaves).clamp(0, 1)
        fields = self.of_table[fields]
        # The first vector is where a count of zero stands, the others what a doubling adds.
        first, more = self.popularity[:, 0], self.popularity[:, 1:]
        if fields.ndim:  # one column of ids a field
            hidden = torch.einsum("bfk,fkh->bfh", steps, more[fields]) + first[fields]
            logits = torch.einsum("bfh,fhn->bfn", torch.tanh(hidden), self.output[fields])
        else:
            hidden = steps @ more[fields] + first[fields]
            logits = torch.tanh(hidden) @ self.output[fields]
        return torch.softmax(logits + self.output_bias[fields], -1)

    def lookup(self, ids, rows, fields):
        if self.sparse:
            pieces = nn.functional.embedding(rows, self.weight, sparse=True)
        else:
            pieces = read_rows(self.weight, rows)
        fields = torch.as_tensor(fields, device=rows.device)
        # Items of a list have no counts: one stands for all.
        weights = self.size_weights(rows if fields.ndim else rows[:1, :1], fields)
        self.note(weights)
        sizes = torch.tensor(self.sizes, device=rows.device)
        return (pieces * weights.repeat_interleave(sizes, -1)) @ self.projection

    def note(self, weights):
        """Told the weights of each look-up."""

    @torch.no_grad()
    def weights_of_values(self):
        """Weights of the sizes of every row of the tables, (V, N)."""
        ends = [*self.offsets.tolist(), *self.sequence_offsets, self.n_rows]
        parts = []
        for table, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
            rows = torch.arange(start, end, device=self.counts.device)
            field = torch.tensor(table, device=rows.device)
            parts.append(self.size_weights(rows, field))
        return torch.cat(parts) if parts else self.weight.new_zeros(0, len(self.sizes))

    def expected_sizes(self):
        """Mean size of every row of the tables by its weights, (V,)."""
        return self.weights_of_values() @ self.weight.new_tensor(self.sizes)


class SearchableSizeMixture(SizeMixture):
    """A `SizeMixture` whose controllers are an architecture."""

    def __init__(self, context, sizes, hidden, schedule, arch_lr, size_penalty):
        super().__init__(context, sizes, hidden)
        self.arch_schedule, self.arch_lr, self.size_penalty = schedule, arch_lr, size_penalty
        self.noted = []

    def arch_parameters(self):
        return [self.popularity, self.output, self.output_bias]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam(self.arch_parameters(), lr=self.arch_lr)

    def note(self, weights):
        if self.training and self.size_penalty:
            self.noted.append((weights @ self.share).mean())

    def penalty(self):
        noted, self.noted = self.noted, []
        return self.size_penalty * sum(noted) / max(len(noted), 1)

    def summary(self):
        return {"mean_size": float(self.expected_sizes().mean()) if self.n_rows else 0.0}


class AutoEmb(SearchMethod):
    r"""Embedding sizes by value: controllers mix or choose them by how popular a value is.

    The table of a field holds an embedding of each candidate size for each value. A controller a
    field looks at how often value v has come, :math:`c_v`, and gives the weights of the sizes:

    .. math:: w = \mathrm{softmax} \left( V_f \tanh(u_f(\log_2(1 + c_v))) + b_f \right),
              \quad
              e_v = \sum_n w_n W_n e_{vn}

    The controllers are trained in steps of their own, on rows that the weights do not see or have
    not seen yet, with the weights as they are. So a value that has come a few times can lean on a
    small embedding, which needs few rows, and on larger ones as it becomes popular. In
    ``partial_fit`` the search goes on with the stream, and counts grow with it.

    Without ``harden`` the mixture itself serves, as it was searched. It saves no memory: the
    pieces of a value are as long as all candidates together. With ``harden=True`` each value gets
    the size of its largest weight, and the network is trained anew with embeddings of these sizes
    (shorter ones are padded with zeros), which are stored packed.

    Parameters
    ----------
    candidates : tuple of int or "auto", default="auto"
        Sizes to choose from, from 1 to ``embedding_dim``. "auto" is 1, 2, 4, ... and
        ``embedding_dim``.
    harden : bool, default=False
        Choose a size for each value, and train the network anew. Only ``fit`` can: in
        ``partial_fit`` what is searched serves.
    rows : {"held_out", "next", "previous"}, default="held_out"
        What the controllers are trained on: a part of the training rows (of each chunk), the batch
        on which the weights will be trained next, or the batch before. "next" is for streams and
        searches of one epoch: later on the weights have seen that batch as well.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which the controllers are trained (held-out rows only).
    arch_lr : float, default=0.01
        Adam's learning rate of the controllers.
    arch_every : int, default=1
        Weight steps per step of the controllers.
    hidden : int, default=16
        Width of the hidden layer of a controller.
    size_penalty : float, default=0.0
        Loss of a mean size of ``embedding_dim``, which decides between sizes that predict equally
        well. 0 is the paper.

    Notes
    -----
    The paper gives the controllers the weights and losses that a value had last as well; here its
    count alone decides, so that a prediction depends on nothing but what was counted. Counts are
    told apart by their octaves, with straight lines between. Candidates are linear maps of their
    pieces that begin as the identity, in place of batch norm and tanh, whose batch statistics mix
    rare values with frequent ones and which make values without effect as loud as the others.

    Values of list columns are not counted; each list column has one mixture for all its items.
    Numeric columns are not searched. Counts are those of the rows of ``fit``, and grow in
    ``partial_fit``. They are whole numbers of rows; sums of ``sample_weight`` are rounded.

    References
    ----------
    Zhao, X. et al. "AutoEmb: Automated Embedding Dimensionality Search in Streaming
    Recommendations", ICDM 2021.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(network="fm", search=AutoEmb(rows="next"), random_state=0)
    >>> for start in range(0, 2000, 500):
    ...     rows = slice(start, start + 500)
    ...     model = model.partial_fit(X.iloc[rows], y[rows], classes=[0, 1])
    >>> ["prequential_loss" in record for record in model.history_]
    [False, True, True, True]
    """

    slot = "embedding"
    _parameter_constraints = {
        "candidates": [tuple, list, StrOptions({"auto"})],
        "harden": ["boolean"],
        "rows": [StrOptions({"held_out", "next", "previous"})],
        "search_fraction": [Interval(Real, 0, 1, closed="neither")],
        "arch_lr": [Interval(Real, 0, None, closed="neither")],
        "arch_every": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "size_penalty": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        candidates="auto",
        harden=False,
        rows="held_out",
        search_fraction=0.2,
        arch_lr=0.01,
        arch_every=1,
        hidden=16,
        size_penalty=0.0,
    ):
        self.candidates = candidates
        self.harden = harden
        self.rows = rows
        self.search_fraction = search_fraction
        self.arch_lr = arch_lr
        self.arch_every = arch_every
        self.hidden = hidden
        self.size_penalty = size_penalty

    @property
    def retrain(self):
        """Soft sizes serve as they were searched; hard ones are trained anew."""
        return "scratch" if self.harden else "none"

    @property
    def streams(self):
        """Hard sizes need a training of their own, which a stream has no rows for."""
        return not self.harden

    def build(self, context):
        schedule = ArchSchedule(
            every=self.arch_every,
            fraction=self.search_fraction,
            rows=self.rows,
            gradient="direct",
        )
        return SearchableSizeMixture(
            context,
            self._sizes(context),
            self.hidden,
            schedule,
            self.arch_lr,
            self.size_penalty,
        )

    def _sizes(self, context):
        sizes = check_candidates(self.candidates, context.embedding_dim)
        if not sizes[0]:
            raise ValueError(
                f"candidates must be whole numbers from 1 to embedding_dim="
                f"{context.embedding_dim}, got {self.candidates!r}."
            )
        return sizes

    def derive(self, module, context):
        sizes = self._sizes(context)
        if not self.harden:
            return {"sizes": sizes, "n_values": list(context.table_sizes)}
        of_values = np.array(sizes)[module.weights_of_values().argmax(1).cpu().numpy()]
        mask = np.arange(context.embedding_dim) < of_values[:, None]
        return {"mask": mask_to_text(mask)}

    def check(self, architecture, context):
        if self.harden:
            check_mask(architecture, context)
            return
        sizes = architecture.get("sizes")
        whole = isinstance(sizes, list) and all(type(size) is int for size in sizes)
        if not whole or sizes != self._sizes(context):
            raise ValueError(
                f"sizes must be the candidates {self._sizes(context)}, got {sizes!r:.200}."
            )
        if architecture.get("n_values") != list(context.table_sizes):
            raise ValueError(
                f"n_values must be the numbers of values {list(context.table_sizes)}, got "
                f"{architecture.get('n_values')!r:.200}."
            )

    def realise(self, architecture, context):
        if self.harden:
            return MaskedEmbedding(context, mask_from_text(architecture["mask"]))
        return SizeMixture(context, architecture["sizes"], self.hidden)
