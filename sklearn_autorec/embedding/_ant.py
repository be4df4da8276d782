"""ANT: embeddings as sparse combinations of a few anchors."""

from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import BUDGET, RETRAIN_OR_NOT, constraints_of
from ..engine import RowAdam
from ..engine._optimizers import row_sums
from ..nn import (
    MAX_ANCHORS,
    AnchoredRows,
    FieldRows,
    annealed,
    mask_from_text,
    mask_to_text,
)
from ..nn._anchored_rows import anchored_bytes
from ..nn._numeric import initial
from ..nn._read_rows import read_rows
from ..nn._statistics import read_in_all
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._budgets import bytes_for_tables, warn_if_nothing_is_kept

# Of anchors whose number grows: at first, at a time, and after so many epochs in a row.
FIRST_ANCHORS, STEP, PATIENCE = 2, 2, 2
L1, L1_WITHIN_BUDGETS = 0.3, 0.75
UNSEEN_SHARE = 0.1  # of the training rows, which decide on their number


class ProximalRowAdam(RowAdam):
    r"""Adam for rows of weights of at least 0 with an L1 norm, which reaches exact zeros.

    A step of `RowAdam` on the rows of the batch, and then the proximal step of the norm, with the
    step size that Adam has given each element:

    .. math:: T \leftarrow \max \left( T - \frac{\eta}{\sqrt{\hat v} + \epsilon} \lambda, 0 \right)

    Parameters
    ----------
    params : iterable of Tensor (V, K)
    lr : float
        :math:`\eta`.

    Attributes
    ----------
    weight : float or Tensor (K,)
        :math:`\lambda`, the weight of the norm in the loss, of all columns or of each; columns of
        weight 0 are left alone.
    """

    weight = 0.0

    @torch.no_grad()
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                (rows, _), state = row_sums(p.grad), self.state[p]
                correction = 1 - group["betas"][1] ** state["step"]
                second = state["exp_avg_sq"].index_select(0, rows) / correction
                size = group["lr"] / (second.sqrt() + group["eps"])
                now = p.index_select(0, rows) - size * self.weight
                p.index_copy_(0, rows, now.clamp(min=0))
        return loss


class AnchorMixture(FieldRows):
    """Rows of weights of the anchors in use, times these; inputs -> (B, F, d).

    Rows that no batch has held give zeros in eval mode: nothing is known of them. All anchors are
    in use unless their number grows.

    Parameters
    ----------
    context : BuildContext
    method : ANT
    l1 : float
    """

    def __init__(self, context, method, l1):
        super().__init__(context)
        d, k = context.embedding_dim, method.n_anchors
        # As large as a plain table would be: k weights of mean square 1 / k.
        start = initial(context, self.n_rows, k, std=k**-0.5).detach().abs()
        self.transform = nn.Parameter(start)
        self.anchors = initial(context, k, d, std=context.embedding_init)
        self.init_numbers(context, d, context.embedding_init)
        self.field_axes["transform"] = {0: context.axis("V")}
        self.register_buffer("seen", torch.zeros(self.n_rows, dtype=torch.bool), persistent=False)
        self.l1, self.warmup, self.arch_lr = l1, method.warmup, method.arch_lr
        self.ramp, self.optimizer = 0.0, None
        self.growth, self.course = method.growth, []
        active = torch.arange(k) < (k if self.growth is None else FIRST_ANCHORS)
        self.register_buffer("active", active, persistent=False)
        if self.growth is not None:
            self.judged_share = UNSEEN_SHARE
            # Anchors that wait are not trained, but decay.
            self.register_buffer("fresh", self.anchors.detach().clone(), persistent=False)
        self.read_rows: list[torch.Tensor] = []

    observes_all_rows = True

    def arch_parameters(self):
        return [self.transform]

    def arch_optimizer(self, n_steps):
        self.optimizer = ProximalRowAdam([self.transform], lr=self.arch_lr)
        return self.optimizer

    def set_progress(self, t):
        """Raise the weight of the norm, once the warm-up is over, to its full value."""
        self.ramp = annealed(0.0, 1.0, t, warmup=self.warmup)

    def observe(self, inputs, per_row_loss):
        """Note the rows of the batch; the norm is that of its rows, per row of the batch."""
        for rows in self.read_rows:
            self.seen[rows.long()] = True
        weight = self.ramp * self.l1 / len(per_row_loss)
        self.optimizer.weight = weight if self.growth is None else weight * self.active

    @torch.no_grad()
    def after_epoch(self, loss):
        """Take the loss of unseen rows: two that are lower in a row, with the price of the anchors,
        bring two anchors more, two that are higher take two away.
        """
        if self.growth is None:  # rows that judge another part
            return
        self.course.append(loss + self.growth * int(self.active.sum()))
        falls = np.diff(self.course[-PATIENCE - 1 :]) < 0
        if len(falls) < PATIENCE or falls.any() != falls.all():
            return
        n = int(self.active.sum())
        if falls.all():
            new = torch.nonzero(~self.active)[:STEP, 0]
            self.anchors[new] = self.fresh[new]
            self.active[new] = True
        elif n > STEP:
            worth = torch.from_numpy((self.worth() * self.support()).sum(0))
            worth = worth.to(self.active.device).masked_fill(~self.active, torch.inf)
            self.active[worth.argsort(stable=True)[:STEP]] = False
        if int(self.active.sum()) != n:
            self.course = self.course[-1:]

    def judge(self, network, loss, data):
        """Nothing is left to be judged: the unseen rows were heard of in each epoch."""

    def unpooled(self, inputs):
        self.read_rows = []
        return super().unpooled(inputs)

    def lookup(self, ids, rows, fields):
        weights = read_rows(self.transform, rows, sparse=True)
        if self.training:
            self.read_rows.append(read_in_all(rows))
        else:
            weights = weights * self.seen[rows.long()].unsqueeze(-1)
        if self.growth is not None:
            weights = weights * self.active
        return weights @ self.anchors

    def embedding_parameters(self):
        return [self.anchors, *super().embedding_parameters()]

    @torch.no_grad()
    def worth(self):
        """Length of what each weight adds to the vector of its row, ndarray (V, K)."""
        return (self.transform * self.anchors.norm(dim=1)).cpu().numpy()

    @torch.no_grad()
    def support(self):
        """Anchors of each row that was trained, bool ndarray (V, K)."""
        used = (self.transform > 0) & self.seen.unsqueeze(1) & self.active
        return used.cpu().numpy()

    def summary(self):
        used, seen = self.support(), max(int(self.seen.sum()), 1)
        return {"anchors_a_value": float(used.sum() / seen), "n_anchors": int(used.any(0).sum())}


def strongest_weights(worth, support, n_bytes, context):
    """The support (V, K) without the weights of least worth, as many as the bytes ask."""
    order = np.argsort(-np.where(support, worth, -np.inf), axis=None, kind="stable")
    order = order[: int(support.sum())]
    n_tables = len(context.table_sizes)
    table = np.repeat(np.arange(n_tables), context.table_sizes)
    row, anchor = order // support.shape[1], order % support.shape[1]
    table, first = table[row], np.zeros(len(order), bool)
    first[np.unique(row, return_index=True)[1]] = True  # of its row

    def fits(n):
        weights = np.bincount(table[:n], minlength=n_tables)
        living = np.bincount(table[:n][first[:n]], minlength=n_tables)
        return anchored_bytes(weights, living, len(np.unique(anchor[:n])), context) <= n_bytes

    low, high = 0, len(order) + 1  # more weights never take fewer bytes
    while high - low > 1:
        n = (low + high) // 2
        low, high = (n, high) if fits(n) else (low, n)
    kept = np.zeros(support.size, bool)
    kept[order[:low]] = True
    return kept.reshape(support.shape)


class ANT(SearchMethod):
    r"""Each embedding a combination of a few anchors, with weights of at least 0 (ANT).

    The table of all values is read as

    .. math:: E = T A, \quad T \in \mathbb{R}_{\ge 0}^{V \times K}, \; A \in \mathbb{R}^{K \times d}

    with an L1 norm of T in the loss. After each step of Adam a proximal step, with the step size
    that Adam has given each element, brings weights to exact zero. What is stored is T without its
    zeros, and A; anchors that no value uses are dropped.

    Parameters
    ----------
    n_anchors : int, default=16
        K, between 1 and 256, of all fields together; with ``growth`` the largest number.
    growth : float or None, default=None
        In place of a fixed number (NBANT): the search begins with two anchors, and after each epoch
        it looks at a tenth of the training rows that nothing in it is trained on. Their mean loss
        plus this price of every anchor in use decides: lower twice in a row brings two anchors
        more, higher twice in a row takes the two of least use away. The paper's price is of a sum
        of losses; 0.001 is a beginning. None has all anchors from the start.
    budget : float or int or None, default=None
        Bytes of what is stored, T with its index and A, that are never exceeded: a float in (0, 1]
        is a share of the whole tables, an int a number of bytes. If more is left after the search,
        the weights of T that matter least, times the lengths of their anchors, go first. The
        vectors of numeric fields are left whole and are counted. None keeps what is left.
    l1 : float or None, default=None
        Weight of the L1 norm of the rows of T that a batch reads, per row of the batch. It begins
        with 0 and rises linearly from the end of the warm-up to the end of the search. None is 0.3,
        and 0.75 within a budget: weights that a strong norm leaves are better than those that are
        left when a weak one's are cut.
    warmup : float in [0, 1), default=0.3
        Share of the search without the norm.
    arch_lr : float, default=0.01
        Adam's learning rate of T.
    retrain : {"keep", "none", "scratch", "rewind"}, default="keep"
        Weights with which a final training of what is left of T and A starts, without the norm,
        which has drawn all weights towards zero. "none" is the paper: there is no other training.

    Notes
    -----
    Values that no training row holds have no anchors, and give zeros. In the search T is whole,
    with two moments, which takes more than a plain table where K is more than d; a step touches the
    rows of its batch alone. Fields of numbers are left whole.

    The public code steps by Yogi on all rows, of one T for each field; here by Adam on the rows of
    the batch, of anchors that all fields share, which T may keep apart. Its initial T shrinks with
    the number of values; here embeddings start as large as those of a plain table. Anchors start
    at random. Which number is best for unseen rows is told epoch by epoch, so that ``growth`` adds
    at most an anchor an epoch, whatever is still to be learned by those that are there: give it
    two epochs for every two anchors that may be needed.

    References
    ----------
    .. [1] Liang, P. P. et al. "Anchor & Transform: Learning Sparse Embeddings for Large
       Vocabularies", ICLR 2021. https://arxiv.org/abs/2003.08197

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.ANT(n_anchors=8)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=4, max_epochs=3, random_state=0
    ... ).fit(X, y)
    >>> max(int(sizes.max()) for sizes in model.embedding_sizes_.values()) <= 8
    True
    """

    slot = "embedding"
    distributes = True
    stores_numbers = True
    _parameter_constraints = {
        "n_anchors": [Interval(Integral, 1, MAX_ANCHORS, closed="both")],
        "budget": [*BUDGET, None],
        "l1": [Interval(Real, 0, None, closed="left"), None],
        "growth": [Interval(Real, 0, None, closed="left"), None],
        **constraints_of("warmup", "arch_lr"),
        "retrain": RETRAIN_OR_NOT,
    }

    @stores_parameters
    def __init__(
        self,
        n_anchors=16,
        l1=None,
        warmup=0.3,
        arch_lr=0.01,
        retrain="keep",
        budget=None,
        growth=None,
    ):
        """Store the parameters."""

    def build(self, context):
        if self.budget is not None:
            self._limit(context)
        usual = L1 if self.budget is None else L1_WITHIN_BUDGETS
        return AnchorMixture(context, self, usual if self.l1 is None else self.l1)

    def _limit(self, context):
        """Bytes of T and A, refused if they are too few for a single anchor."""
        one = np.arange(len(context.table_sizes)) == 0
        least = anchored_bytes(one, one, int(one.any()), context)
        return bytes_for_tables(self.budget, least, context)

    def derive(self, module, context):
        support = module.support()
        if self.budget is not None:
            support = strongest_weights(module.worth(), support, self._limit(context), context)
            warn_if_nothing_is_kept(self, support)
        used = np.flatnonzero(support.any(0))
        return {"support": mask_to_text(support[:, used]), "anchors": used.tolist()}

    def transfer(self, state, architecture, context):
        """T without its zeros, and the anchors that are used."""
        state, used = dict(state), torch.tensor(architecture["anchors"], dtype=torch.int64)
        transform, anchors = state.pop("embedding.transform"), state["embedding.anchors"]
        support = torch.from_numpy(mask_from_text(architecture["support"])).to(transform.device)
        used = used.to(transform.device)
        state["embedding.anchors"] = anchors.index_select(0, used)
        state["embedding.values"] = transform.index_select(1, used)[support]
        return state

    def check(self, architecture, context):
        used = architecture.get("anchors")
        whole = isinstance(used, list) and all(type(k) is int for k in used)
        if not whole or used != sorted({*used}) or not {*used} <= {*range(MAX_ANCHORS)}:
            raise ValueError(
                f"anchors must be a rising list of ints below {MAX_ANCHORS}, got {used!r:.200}."
            )
        try:
            shape = mask_from_text(architecture.get("support")).shape
        except ValueError as error:
            raise ValueError(f"support must be a mask of rows and anchors: {error}") from error
        if shape != (context.n_rows, len(used)):
            raise ValueError(
                f"support must have the shape {(context.n_rows, len(used))}, got {shape}."
            )

    def realise(self, architecture, context):
        return AnchoredRows(context, mask_from_text(architecture["support"]))
