"""NIS: vocabulary size and width of embeddings together, by a policy under a budget of bytes."""

from numbers import Integral, Real

import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import BUDGET, RETRAIN_OR_NOT, at_least_one, constraints_of
from ..engine import ArchSchedule, MovedByAdam
from ..nn import FieldEmbedding, limit_of, mask_to_text, table_bytes
from ..nn._budget import kinds_of_tables
from ..nn._statistics import row_numbers
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._blocks import BlockChoices
from ._budgets import warn_if_nothing_is_kept
from ._masks import MaskSearch

BOUND_BYTES = 4  # of how many values of a field have a column, as packed prefixes store it


class PolicyEmbedding(MovedByAdam, FieldEmbedding):
    """A table of which each row of a batch reads the blocks that an action gives it; inputs -> (B,
    F, d).

    ``sample`` draws ``n_actions`` actions; row i is read under action i modulo that number. In eval
    mode the most likely choice within the budget holds for all rows.

    The probabilities are one softmax a group of `BlockChoices`."""

    def __init__(self, context, choices, schedule, budget, method):
        super().__init__(context)
        self.choices, self.arch_schedule, self.budget = choices, schedule, budget
        self.cost_weight, self.entropy = method.cost_weight, method.entropy
        self.arch_lr, self.n_actions = method.arch_lr, method.n_actions
        self.logits = nn.Parameter(torch.zeros(choices.valid.shape))
        self.register_buffer("valid", choices.valid, persistent=False)
        # Whether categorical fields have all tables, each its own, so that nothing is picked.
        self.in_turn = list(context.id_tables) == list(range(len(context.table_sizes)))
        # As many numbers are drawn for it whatever the rest of the network needs.
        self.generator = torch.Generator().manual_seed(
            int(torch.randint(2**62, (), generator=context.generator))
        )
        self.bounds = None  # by column of the actions drawn, (B, F, d), as this pass reads them
        self.sample()

    def arch_parameters(self):
        return [self.logits]

    def log_probabilities(self):
        """Of all choices, (G, N); minus infinity where there is none."""
        return torch.log_softmax(self.logits.masked_fill(~self.valid, -torch.inf), 1)

    def set_progress(self, t):
        """Draw the actions under which the weights train: half of all choices are everything.

        Blocks that the policy has given up would not be trained else, and never be worth taking."""
        self.sample()
        whole = torch.rand(self.actions.shape, generator=self.generator) < 0.5
        self.actions = torch.where(whole, self.choices.full(), self.actions)

    @torch.no_grad()
    def sample(self):
        """Draw the actions from the policy."""
        if not len(self.choices.field):  # multinomial refuses what has no rows
            self.actions = torch.zeros(self.n_actions, 0, dtype=torch.int64)
            return
        p = self.log_probabilities().exp().cpu()
        drawn = torch.multinomial(p, self.n_actions, replacement=True, generator=self.generator)
        self.actions = drawn.T

    def policy_loss(self, reward):
        r"""What moves the probabilities: minus the advantage times the log probability, (B,).

        The reward of row i is that of the network under its action, less the price of the action's
        bytes; the advantage is what it has over the mean of the rows under other actions."""
        device = reward.device
        row = (torch.arange(len(reward)) % self.n_actions).to(device)
        over = (self.choices.bytes_of(self.actions) / self.budget - 1).clamp(min=0)
        reward = reward - self.cost_weight * over.to(reward)[row]
        own = torch.zeros(2, self.n_actions, dtype=reward.dtype, device=device)
        own.index_add_(1, row, torch.stack([reward, torch.ones_like(reward)]))
        total, count = (own.sum(1, keepdim=True) - own)[:, row]
        advantage = torch.where(count > 0, reward - total / count.clamp(min=1), 0.0)
        log_p = self.log_probabilities()
        groups = torch.arange(len(self.choices.field), device=device)
        chosen = log_p[groups, self.actions.to(device)].sum(1)[row]
        spread = -(log_p.exp() * log_p.masked_fill(~self.valid, 0.0)).sum()
        return -advantage * chosen - self.entropy * spread

    def best(self):
        """The most likely choice within the budget, (G,)."""
        return self.choices.within(self.log_probabilities().detach().cpu(), self.budget)

    def unpooled(self, inputs):
        n = len(inputs.ids)
        if self.training:
            bounds = self._by_column(self.actions)
            bounds = bounds.index_select(0, row_numbers(n) % self.n_actions)
        else:
            bounds = self._by_column(self.best().unsqueeze(0)).expand(n, -1, -1)
        self.bounds = bounds.to(inputs.ids.device)
        vectors = super().unpooled(inputs)
        self.bounds = None
        return vectors

    def _by_column(self, actions):
        """Ids of each field that have each column, int32 (K, F, d), of actions (K, G)."""
        return self.choices.bounds_of(actions).int()[..., self.choices.column_block]

    def lookup(self, ids, rows, fields):
        if isinstance(fields, int):  # of a list (B, d)
            bounds = self.bounds[:, fields].unsqueeze(1)
        else:
            bounds = self.bounds if self.in_turn else self.bounds[:, fields]
        kept = ids.unsqueeze(-1) < bounds
        return super().lookup(ids, rows, fields) * kept

    def summary(self):
        p = self.log_probabilities().detach().exp()
        most = p.max(1).values if p.numel() else torch.ones(1)
        return {
            "mean_bytes": float(self.choices.bytes_of(self.actions).mean()),
            "mean_probability": float(most.mean()),
        }


class NIS(MaskSearch, SearchMethod):
    r"""Which values have an embedding, and how wide, chosen by a policy under a budget of bytes.

    The table of a field, values sorted by frequency, is cut into S blocks of rows and T blocks of
    columns. ``mode="single"`` chooses for each field (s, t), or nothing: its first s row blocks
    have the first t column blocks, all other values have no embedding (zeros). ``mode="multi"``
    chooses for each field and column block t how many row blocks have it at least, so that
    frequent values can be wide and rare ones narrow.

    A policy has a softmax for each of these choices. It is trained on rows of its own, by the score
    function alone, with the reward

    .. math:: R = -L - \lambda \max(C_{used} / C - 1, 0)

    L is the loss of a row under an action, :math:`C_{used}` the bytes of the tables under it, C the
    budget. The weights train under drawn actions as well, but half of the time every choice is
    replaced by that of everything: blocks that the policy has given up would not be trained else.
    In the end the most likely choices are taken; if they exceed the budget, those are exchanged
    for smaller ones whose exchange costs the least probability per byte. The network of these
    blocks is trained anew and served in a packed form.

    Parameters
    ----------
    mode : {"single", "multi"}, default="single"
        One width a field, or one a block of its values.
    budget : float in (0, 1] or int, default=0.5
        C: bytes of the embedding tables (int), or their share of the whole tables' (float). What a
        packed form stores beside the numbers is counted as four bytes a field and column. Never
        exceeded.
    cost_weight : float, default=0.1
        :math:`\lambda`, the price of twice the budget in units of the loss. 0 leaves the policy
        without a price; the final choice fits the budget all the same.
    n_row_blocks : int, default=5
        S, at most: no more than the field has values.
    n_col_blocks : int, default=4
        T, at most: no more than there are columns.
    arch_lr : float, default=0.05
        Adam's learning rate of the policy.
    arch_every : int, default=1
        Weight steps per step of the policy.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which the policy is rewarded.
    warmup : float in [0, 1), default=0.3
        Share of the steps before the policy moves.
    entropy : float, default=0.0
        Reward for the entropy of the policy.
    n_actions : int, default=64
        Actions of a step. Row i of a batch is read under action i modulo this number.
    retrain : {"scratch", "rewind", "keep", "none"}, default="scratch"
        Weights with which the final training starts: new, those with which the search started, or
        searched ones. "none": these serve as they are.

    Notes
    -----
    The paper draws one action for a batch and rewards it by the metric of the batch, with a value
    network as baseline. Here a batch is shared by many actions, rewarded by the losses of their
    rows, and the baseline is the mean reward of the rows under other actions. That is unbiased,
    needs no second network, and hundreds of steps are enough on small tables.

    Bytes below the budget have no price. So a field of noise may keep a block where the budget
    leaves room, as may every field where nothing is to be learned.

    A narrow vector is padded with zeros, not brought to d columns by a matrix of its width: the
    first layer behind the embeddings does that in networks that concatenate them, in others
    narrow fields meet in the first columns. Numeric fields have no rows and are not searched.

    Ids of a field must be sorted by frequency, as those of `FieldEncoder` are. The missing and the
    unknown id belong to the first block.

    References
    ----------
    .. [1] Joglekar, M. R. et al. "Neural Input Search for Large Scale Recommendation Models", KDD
       2020. https://arxiv.org/abs/1907.04471

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> search = embedding.NIS(budget=0.25)
    >>> model = CTRClassifier(network="fm", search=search, max_epochs=2, random_state=0).fit(X, y)
    >>> model.compression_ratio_ > 3
    True
    """

    slot = "embedding"
    distributes = True
    _parameter_constraints = {
        "mode": [StrOptions({"single", "multi"})],
        "budget": BUDGET,
        "cost_weight": [Interval(Real, 0, None, closed="left")],
        **at_least_one("n_row_blocks", "n_col_blocks"),
        **constraints_of("arch_lr", "arch_every", "search_fraction", "warmup"),
        "entropy": [Interval(Real, 0, None, closed="left")],
        "n_actions": [Interval(Integral, 2, None, closed="left")],
        "retrain": RETRAIN_OR_NOT,
    }

    @stores_parameters
    def __init__(
        self,
        mode="single",
        budget=0.5,
        cost_weight=0.1,
        n_row_blocks=5,
        n_col_blocks=4,
        arch_lr=0.05,
        arch_every=1,
        search_fraction=0.2,
        warmup=0.3,
        entropy=0.0,
        n_actions=64,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        choices = BlockChoices(
            context.table_sizes,
            context.embedding_dim,
            self.mode,
            self.n_row_blocks,
            self.n_col_blocks,
            kinds_of_tables(context),
        )
        schedule = ArchSchedule(
            every=self.arch_every,
            fraction=self.search_fraction,
            warmup=self.warmup,
            rows="held_out",
            gradient="policy",
        )
        limit, index = limit_of(self.budget, context), 0
        if limit < table_bytes(context, numeric=False):  # what is whole has no index
            index = BOUND_BYTES * len(context.table_sizes) * context.embedding_dim
        if limit < choices.smallest() + index:
            raise ValueError(
                f"budget={self.budget!r} is {limit} bytes, but the smallest block of the tables "
                f"takes {choices.smallest():.0f}, and {index} what says where it belongs; raise it "
                f"(a float is a share of the whole tables, an int is bytes), or take more blocks."
            )
        return PolicyEmbedding(context, choices, schedule, max(limit - index, 1), self)

    def derive(self, module, context):
        kept = module.choices.mask(module.best(), context.table_sizes)
        warn_if_nothing_is_kept(self, kept)
        return {"mask": mask_to_text(kept)}
