"""PEP: plug-in embedding pruning by learned thresholds."""

import math
from numbers import Real

import torch
from torch import nn

from ..base import SearchMethod
from ..engine import RowAdam
from ..nn import FieldEmbedding, mask_to_text
from ..nn._read_rows import distinct_rows, read_distinct, read_rows
from ..nn._statistics import distinct_over_rows
from ..utils._docs import inherits_entries
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._masks import PrunedShare

PAPER_INIT = -15.0  # of the public code on MovieLens
PAPER_DECAY = 1e-5
# How far s would come in a search if nothing but its decay moved it: twice the way from PAPER_INIT
# to a threshold of one half, so that thresholds reach the size of embeddings about half-way.
RISE = 30.0
# Share of the search without pressure: embeddings near their small initial values would all be
# pruned.
WARMUP = 0.3


class AllRowsAdam(torch.optim.Adam):
    """Adam for sparse gradients that moves all rows: those that the batch lacks by decay alone."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.grad.is_sparse:
                    p.grad = p.grad.to_dense()
        return super().step(closure)


class _SoftThreshold(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v, s):
        threshold = torch.sigmoid(s)
        out = torch.sign(v) * torch.relu(v.abs() - threshold)
        ctx.save_for_backward(out, threshold)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        out, threshold = ctx.saved_tensors
        of_v = of_s = None
        if ctx.needs_input_grad[0]:
            of_v = torch.where(out != 0, grad, 0.0)
        if ctx.needs_input_grad[1]:
            along = (grad * torch.sign(out)).sum_to_size(threshold.shape)
            of_s = along.mul_(threshold * (threshold - 1))
        return of_v, of_s


def soft_threshold(v, s):
    """sign(v) max(|v| - sigmoid(s), 0), with its gradient in a few passes; (n, d) and what
    broadcasts with it -> (n, d).
    """
    return _SoftThreshold.apply(v, s)


class ThresholdedEmbedding(FieldEmbedding):
    """A table read through soft thresholds, sign(v) max(|v| - sigmoid(s), 0); inputs -> (B, F, d).

    Thresholds are applied to the distinct rows of a batch, and both tables have row-wise gradients:
    a step reads and writes nothing of other rows, but for thresholds that rise together.

    Parameters
    ----------
    context : BuildContext
    granularity, threshold_init, threshold_lr, threshold_decay, pressure : as in `PEP`
    rise : float, default=0
        Where it is not 0, all thresholds move in every step, at this learning rate divided by the
        number of steps.
    """

    def __init__(
        self,
        context,
        granularity,
        threshold_init,
        threshold_lr,
        threshold_decay,
        pressure,
        rise=0.0,
    ):
        super().__init__(context)
        self.sparse = True
        sizes = torch.tensor(context.table_sizes)
        unit = granularity.split("_")[0]
        shape = (
            {"value": self.n_rows, "field": len(sizes)}.get(unit, 1),
            context.embedding_dim if granularity.endswith("dim") else 1,
        )
        self.threshold = nn.Parameter(torch.full(shape, float(threshold_init)))
        if unit == "value":
            self.field_axes["threshold"] = {0: context.axis("V")}
        self.unit, self.pressure, self.rise = unit, pressure, rise
        self.threshold_lr, self.threshold_decay = threshold_lr, threshold_decay
        self.register_buffer("ends", sizes.cumsum(0), persistent=False)
        # Elements of each row that are not zero; -1 as long as no batch held the row.
        self.register_buffer("kept", torch.full((self.n_rows,), -1), persistent=False)
        self.n_kept, self.n_seen, self.ramp = 0, 0, 0.0
        self.read_rows: list[torch.Tensor] = []
        self.read_vectors: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.trained_rows: list[torch.Tensor] = []

    observes_all_rows = True

    def sparse_parameters(self):
        return [self.weight]

    def arch_parameters(self):
        return [self.threshold]

    def arch_optimizer(self, n_steps):
        if self.rise:
            lr = self.rise / n_steps
            return AllRowsAdam([self.threshold], lr=lr, weight_decay=self.threshold_decay)
        optimizer = RowAdam if self.unit == "value" else torch.optim.Adam
        return optimizer([self.threshold], lr=self.threshold_lr, weight_decay=self.threshold_decay)

    def thresholded(self, rows):
        """Vectors of distinct rows, (n, d)."""
        return soft_threshold(*self._read(rows))

    def _read(self, rows):
        """Values and s of distinct rows."""
        v = read_distinct(self.weight, rows)
        if self.unit == "value":
            s = read_distinct(self.threshold, rows)
        elif self.unit == "field":
            s = self.threshold[torch.bucketize(rows, self.ends, right=True)]
        else:
            s = self.threshold
        return v, s

    def lookup(self, ids, rows, fields):
        distinct, where = distinct_rows(rows, self.n_rows)
        vectors = self.thresholded(distinct)
        if self.training:
            of_all, share = distinct_over_rows(distinct)
            self.read_rows.append(of_all)
            self.read_vectors.append((vectors, share))
        return read_rows(vectors, where)

    def unpooled(self, inputs):
        self.read_rows, self.read_vectors = [], []
        self.n_in_batch = len(inputs.ids)
        return super().unpooled(inputs)

    def set_progress(self, t):
        self.ramp = float(t >= WARMUP)

    def penalty(self):
        """L1 norm of the distinct vectors that the batch read, per row of the batch."""
        return (
            self.ramp
            * self.pressure
            / self.n_in_batch
            * sum((v.abs() * share.unsqueeze(1)).sum() for v, share in self.read_vectors)
        )

    def observe(self, inputs, per_row_loss):
        """Note the rows of the batch that the weights train on; batches of other architectures pass
        through as well.
        """
        self.trained_rows = self.read_rows

    @torch.no_grad()
    def after_step(self):
        """Count what is left in the rows of this batch."""
        for rows in self.trained_rows:
            v, s = self._read(rows)
            now = (v.abs() > torch.sigmoid(s)).sum(1)
            before = self.kept[rows]
            self.n_kept += int((now - before.clamp(min=0)).sum())
            self.n_seen += int((before < 0).sum())
            self.kept[rows] = now
        self.read_rows, self.read_vectors, self.trained_rows = [], [], []

    def sparsity(self):
        """Share of zeros among the elements of rows that were trained."""
        return 1 - self.n_kept / max(self.n_seen * self.weight.shape[1], 1)

    @torch.no_grad()
    def margins(self):
        """|v| - sigmoid(s) of every element, ndarray (V, d); minus infinity in rows that no batch
        held.
        """
        s = self.threshold
        if self.unit == "field":
            rows = torch.arange(self.n_rows, device=self.weight.device)
            s = s[torch.bucketize(rows, self.ends, right=True)]
        margin = self.weight.abs() - torch.sigmoid(s)
        return torch.where((self.kept >= 0).unsqueeze(1), margin, -torch.inf).cpu().numpy()

    def summary(self):
        return {
            "sparsity": self.sparsity(),
            "mean_threshold": float(torch.sigmoid(self.threshold.detach()).mean()),
        }


@inherits_entries
class PEP(PrunedShare, SearchMethod):
    r"""Prune single elements of embeddings by thresholds that are learned with them.

    During the search the table is read as

    .. math:: V' = \mathrm{sign}(V) \max(|V| - \mathrm{sigmoid}(s), 0)

    The elements of largest margin :math:`|V| - \mathrm{sigmoid}(s)` are kept, as many as
    ``budget`` or ``target_sparsity`` leaves. The network is then trained anew from the *same*
    initial weights with all others held at zero (a lottery ticket), and served in a packed form
    that stores no zeros.

    Parameters
    ----------
    {target_sparsity, budget}
    granularity : {"value_dim", "value", "field_dim", "field", "dim", "global"}, default="value_dim"
        What has a threshold of its own: each element, each value, each dimension of a field, and so
        on.
    schedule : {"pressure", "rise", "paper"}, default="pressure"
        "pressure" adds an L1 norm of the vectors read to the loss, which shrinks what is not
        needed; the thresholds hardly move, see Notes. "paper" is the public code: the thresholds
        start far below, at -15 whatever ``threshold_init``, and are moved by their L2 decay
        (``threshold_decay``, then 1e-5) at a learning rate of 0.001, with no other pressure. "rise"
        is the same for searches of any length: a learning rate at which the thresholds reach the
        size of the embeddings within the search, those of values that a batch lacks as well.
    pressure : float, default=0.01
        Weight of the L1 norm of the distinct vectors of a batch, per row of the batch.
    threshold_init : float or None, default=None
        First s. None is where the sigmoid is a thirtieth of ``embedding_init``: thresholds above
        the initial embeddings would prune them before they are trained.
    threshold_lr : float, default=0.01
        Adam's learning rate of s.
    threshold_decay : float, default=0.0
        L2 decay of s, which pulls it towards 0, a threshold of one half.
    retrain : {"rewind", "scratch", "keep"}, default="rewind"
        Weights with which the final training starts: those with which the search started, new, or
        searched ones.

    Notes
    -----
    In the public code nothing but weight decay moves thresholds that start at -15 or -150 (the
    gradient of the sigmoid vanishes), which makes it one slow global threshold; and it stores the
    table when the sparsity first passes its target, chosen on the test set. Here the margin ranks
    the elements at the end, so that the target is met exactly.

    The gradient of a threshold is :math:`-\mathrm{sigmoid}'(s)\,\mathrm{sign}(v)` times that of
    its element: what makes an element grow lowers its threshold, by a fraction of it. So margins
    rank as sizes do, and with "pressure" the result is magnitude pruning of a network trained under
    an L1 norm. Only thresholds as large as the embeddings ("rise") change what is learned in the
    search. The user guide has figures.

    The reference implementation thresholds the whole table in each step; here a step touches the
    rows of its batch alone.

    References
    ----------
    .. [1] Liu, S. et al. "Learnable Embedding Sizes for Recommender Systems", ICLR 2021.
       https://arxiv.org/abs/2101.07577

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.PEP(target_sparsity=0.5)
    >>> model = CTRClassifier(network="fm", search=search, max_epochs=2, random_state=0).fit(X, y)
    >>> round(model.compression_ratio_, 1)
    1.7
    """

    slot = "embedding"
    distributes = True
    _parameter_constraints = {
        **PrunedShare._parameter_constraints,
        "granularity": [StrOptions({"value_dim", "value", "field_dim", "field", "dim", "global"})],
        "schedule": [StrOptions({"pressure", "rise", "paper"})],
        "pressure": [Interval(Real, 0, None, closed="left")],
        "threshold_init": [Real, None],
        "threshold_lr": [Interval(Real, 0, None, closed="left")],
        "threshold_decay": [Interval(Real, 0, None, closed="left")],
        "retrain": [StrOptions({"scratch", "rewind", "keep"})],
    }

    @stores_parameters
    def __init__(
        self,
        target_sparsity=None,
        budget=None,
        granularity="value_dim",
        schedule="pressure",
        pressure=0.01,
        threshold_init=None,
        threshold_lr=0.01,
        threshold_decay=0.0,
        retrain="rewind",
    ):
        """Store the parameters."""

    def build(self, context):
        self.check_budget(context)
        first = self.threshold_init
        if first is None:
            share = min(context.embedding_init / 30, 0.5)
            first = math.log(share / (1 - share))
        options = (first, self.threshold_lr, self.threshold_decay, self.pressure)
        if self.schedule != "pressure":
            options = (PAPER_INIT, 1e-3, self.threshold_decay or PAPER_DECAY, 0.0)
        rise = RISE if self.schedule == "rise" else 0.0
        return ThresholdedEmbedding(context, self.granularity, *options, rise)

    def derive(self, module, context):
        return {"mask": mask_to_text(self.mask_of(module.margins(), context))}
