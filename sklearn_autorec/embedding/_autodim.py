"""AutoDim: one embedding width per field."""

from numbers import Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import BUDGET, constraints_of
from ..engine import ArchSchedule, MovedByAdam
from ..nn import FieldEmbedding, GumbelSoftmax, MixedEmbedding, check_temperatures
from ..nn._statistics import mean_over_rows, over_rows
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._budgets import warn_if_nothing_is_kept
from ._widths import bytes_for_widths, check_candidates, check_widths, likeliest_within

# Added to variances, of the size of the square of a tenth of the usual initial embeddings.
EPS = 1e-6


class WidthMixture(MovedByAdam, nn.Module):
    """Every field's candidates mixed by sampled weights; inputs -> (B, F, d).

    Candidate n of a field is the first d_n columns of its embedding times a matrix W_n that all
    fields share. The mixture is linear in the embedding, so that it takes one d x d matrix per
    field: e_f sum_n p_fn W_n. Batch norm of a linear map needs nothing but the covariance of its
    input: with ``normalize`` that matrix is sum_n p_fn W_n / sigma_fn, column-wise."""

    def __init__(
        self, context, candidates, schedule, arch_lr, temperature, size_penalty, normalize, nested
    ):
        super().__init__()
        n_fields, d = context.n_fields, context.embedding_dim
        self.table = FieldEmbedding(context)
        widths = torch.tensor(candidates)
        used = torch.arange(d) < widths.unsqueeze(1)
        # Candidates start as prefixes of the embedding, which do not stand in each other's way.
        self.projection = nn.Parameter(torch.eye(d) * used.unsqueeze(-1))
        self.alpha = nn.Parameter(torch.zeros(n_fields, len(candidates)))
        self.register_buffer("used", used.float().unsqueeze(-1), persistent=False)
        self.register_buffer("share", widths / d, persistent=False)
        self.nested = nested
        self.normalize = normalize
        if normalize:
            self.scale = nn.Parameter(torch.full((n_fields, 1, 1), d**-0.5))
            self.register_buffer("mean", torch.zeros(n_fields, 1, d))
            self.register_buffer("covariance", torch.zeros(n_fields, d, d))
        names = ("alpha", "scale", "mean", "covariance") if normalize else ("alpha",)
        self.field_axes = {name: {0: context.axis("F")} for name in names}
        # A field that shares the table of another one has the width of that.
        sharers = dict(context.sharers)
        owner = [sharers.get(f, f) for f in range(n_fields)]
        self.register_buffer("owner", torch.tensor(owner), persistent=False)
        self.arch_schedule = schedule
        self.arch_lr, self.size_penalty = arch_lr, size_penalty
        self.choice = GumbelSoftmax(
            self.alpha.shape, context.generator, temperature, warmup=schedule.warmup
        )

    def arch_parameters(self):
        return [self.alpha]

    def mixture(self):
        """Weights of the candidates, (F, N): sampled in training, without noise otherwise; even
        odds of all during the warm-up.
        """
        choice = self.choice
        if choice.warming:
            scale = self.training * self.nested / choice.temperatures[1]
            return torch.softmax(choice.noise * scale, 1)[self.owner]
        return choice(self.alpha)[self.owner]

    def odds(self):
        """Weights of the candidates by alpha alone, (F, N)."""
        return torch.softmax(self.alpha, 1)[self.owner]

    def penalty(self):
        return self.size_penalty * (self.odds() @ self.share).mean()

    def unpooled(self, inputs):
        """As `FieldRows` has it."""
        if self.normalize:
            raise ValueError(
                "AutoDim(normalize=True) cannot stand beside a part in the sequence slot: it "
                "normalises the mean of a list, not its items; use normalize=False."
            )
        vectors, lists = self.table.unpooled(inputs)
        matrix = torch.einsum("fn,nik->fik", self.mixture(), self.projection * self.used)
        first = len(matrix) - len(lists)
        if vectors:
            e = torch.bmm(torch.cat(vectors, 1).transpose(0, 1), matrix[:first])
            vectors = [e.transpose(0, 1)]
        return vectors, [rows @ own for rows, own in zip(lists, matrix[first:], strict=True)]

    def forward(self, inputs):
        e = self.table(inputs).transpose(0, 1)  # (F, B, d)
        maps = self.projection * self.used  # (N, d, d)
        if self.normalize:
            e, maps = self._normalised(e, maps)
            matrix = torch.einsum("fn,fnik->fik", self.mixture(), maps) * self.scale
        else:
            matrix = torch.einsum("fn,nik->fik", self.mixture(), maps)
        return torch.bmm(e, matrix).transpose(0, 1)

    def _normalised(self, e, maps):
        """Centred embeddings, and maps (F, N, d, d) whose every column has unit variance over the
        batch.
        """
        if self.training:
            mean = mean_over_rows(e, 1).unsqueeze(1)
            e = e - mean
            covariance = over_rows(torch.bmm(e.transpose(1, 2), e), e.shape[1])
            with torch.no_grad():
                self.mean.lerp_(mean, 0.1)
                self.covariance.lerp_(covariance, 0.1)
        else:
            e, covariance = e - self.mean, self.covariance
        # Of column k: w' C w.
        variance = (torch.einsum("fij,njk->fnik", covariance, maps) * maps).sum(2)
        return e, maps / torch.sqrt(variance.clamp(min=0) + EPS).unsqueeze(2)

    def summary(self):
        p = self.odds().detach()
        return {
            "temperature": self.choice.temperature,
            "mean_width": float((p @ self.share).mean() * self.used.shape[1]),
        }


class AutoDim(SearchMethod):
    r"""One width for the embedding of every field, chosen by a bi-level search with Gumbel noise.

    Candidate n uses the first d_n columns of an embedding, brought to d columns by a matrix that
    all fields share. The candidates are mixed by

    .. math:: p_n = \mathrm{softmax}_n \left( (\log \mathrm{softmax}(\alpha)_n + g_n) / \tau
              \right),
              \quad
              g_n = -\log(-\log u_n)

    The embeddings train on one part of the training rows, :math:`\alpha` on the other. The widest
    weight wins; the network is trained anew with an embedding table of exactly that width per
    field, and a projection per width.

    Parameters
    ----------
    candidates : tuple of int or "auto", default="auto"
        Widths to choose from, at most ``embedding_dim``; 0 removes a field. "auto" is 1, 2, 4, ...
        and ``embedding_dim``.
    budget : float or int or None, default=None
        Bytes that tables and projections may take: a float in (0, 1] is a share of the whole
        tables, an int a number of bytes. None does not bound them. See Notes.
    level : {"first_order", "unrolled", "one_level"}, default="first_order"
        How :math:`\alpha` is trained: on rows of its own, with the weights as they are or after one
        more step; or on the same rows as the weights.
    arch_lr : float, default=0.05
        Adam's learning rate of :math:`\alpha`.
    arch_every : int, default=2
        Weight steps per step of :math:`\alpha`.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which :math:`\alpha` is trained (bi-level only).
    warmup : float in [0, 1), default=0.4
        Share of the steps before the search begins, in which all candidates are equally likely.
    temperature : tuple of (float, float), default=(1.0, 0.2)
        First and last :math:`\tau`; falls linearly with the share of steps done.
    size_penalty : float, default=0.005
        Loss of a mean width of ``embedding_dim``, which decides between widths that predict equally
        well. 0 is the paper.
    nested_warmup : bool, default=False
        Draw nearly one candidate per field and step in the warm-up, as in nested dropout, instead
        of mixing all evenly. What fits in few columns then settles in the first ones. It needs more
        steps: see Notes.
    normalize : bool, default=False
        Batch-normalise the candidates, as in the paper.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights outside of the embedding with which the final training starts.

    Notes
    -----
    The temperature follows the share of steps done: at the paper's 0.00005 a step a short search
    would end nearly uniform.

    The paper batch-normalises each candidate, since candidates with tables and matrices of their
    own differ in size. Here they are prefixes of one embedding (the matrices start as the
    identity), which do not; and with batch norm the search network of a factorization machine
    learns little: unit variance for every column keeps a field that does not matter as loud as one
    that does. ``normalize=True`` gives the paper's form, followed by one learned factor per field.

    With the even mixture of the warm-up a field that needs one column may learn it in the third,
    and is given four (one planted table of ten). ``nested_warmup=True`` found the right widths in
    ten of ten, but where the search is short (Frappe, 800 steps) the wider candidates have learned
    too little by its end, and nearly all fields get one column.

    Fields of noise are found (the smallest width on every planted table tried, of two makes). The
    order of the widths of the others is not dependable: on `make_tastes`, where rank-1 fields carry
    as much variance as rank-6 ones (40,000 rows, five tables), the default ordered them rightly in
    four and reversed them in one, ``nested_warmup=True`` in five; with half the rows and a weaker
    effect (``effect=1``) neither did in any of three: rank-6 fields got one column like the rest.
    Read a width as "this much was of use with so many rows", not as the rank of a field.

    A field of full width is not projected in the final network.

    Where the likeliest widths exceed ``budget``, the field whose narrower width loses least log
    probability per byte takes it, until all fit; then fields take back likelier widths that still
    fit. The search does not know of the budget, and what its likeliest widths leave of it stays
    free: wider ones would be against its own judgement.

    References
    ----------
    .. [1] Zhao, X. et al. "AutoDim: Field-aware Embedding Dimension Search in Recommender Systems",
       WWW 2021. https://arxiv.org/abs/2006.14827

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.AutoDim((1, 4))
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=4, max_epochs=2, random_state=0
    ... ).fit(X, y)
    >>> sorted(model.embedding_sizes_)
    ['f0', 'f1', 'f2']
    """

    slot = "embedding"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "candidates": [tuple, list, StrOptions({"auto"})],
        "budget": [*BUDGET, None],
        **constraints_of(
            "level", "arch_lr", "arch_every", "search_fraction", "warmup", "temperature", "retrain"
        ),
        "size_penalty": [Interval(Real, 0, None, closed="left")],
        "nested_warmup": ["boolean"],
        "normalize": ["boolean"],
    }

    @stores_parameters
    def __init__(
        self,
        candidates="auto",
        budget=None,
        level="first_order",
        arch_lr=0.05,
        arch_every=2,
        search_fraction=0.2,
        warmup=0.4,
        temperature=(1.0, 0.2),
        size_penalty=0.005,
        nested_warmup=False,
        normalize=False,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        schedule = ArchSchedule(self.level, self.arch_every, self.search_fraction, self.warmup)
        candidates = check_candidates(self.candidates, context.embedding_dim)
        if self.budget is not None:
            bytes_for_widths(self.budget, candidates[0], context)  # refuses it before the search
        return WidthMixture(
            context,
            candidates,
            schedule,
            self.arch_lr,
            check_temperatures(self.temperature),
            self.size_penalty,
            self.normalize,
            self.nested_warmup,
        )

    def derive(self, module, context):
        alpha = module.alpha.detach()[module.owner].cpu().numpy()
        candidates = check_candidates(self.candidates, context.embedding_dim)
        weights = np.exp(alpha) / np.exp(alpha).sum(1, keepdims=True)
        widths = [candidates[n] for n in alpha.argmax(1)]
        if self.budget is not None:
            limit = bytes_for_widths(self.budget, candidates[0], context)
            widths = likeliest_within(np.log(weights), candidates, limit, context)
            warn_if_nothing_is_kept(self, widths)
        return {
            "widths": widths,
            "candidates": candidates,
            "weights": weights.astype(float).tolist(),
        }

    def check(self, architecture, context):
        check_widths(architecture, context)

    def realise(self, architecture, context):
        return MixedEmbedding(context, architecture["widths"])
