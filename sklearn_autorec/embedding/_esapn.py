"""ESAPN: embeddings that start small and grow where a policy finds it worth while."""

from numbers import Integral, Real
from typing import NamedTuple

import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import constraints_of
from ..engine import ArchSchedule, MovedByAdam
from ..nn import FieldEmbedding, SizedRows, sizes_from_text, sizes_to_text, tables_by_size
from ..nn._numeric import initial
from ..utils._sklearn import Interval, StrOptions
from ._controllers import by_perceptrons
from ._value_counts import LossHistory, ValueCounts
from ._value_sizes import check_sizes_to_choose, check_value_sizes
from ._widths import check_candidates

# Log odds of enlarging at first: chance alone does not make an even bet of them.
START = -1.5


class Reads(NamedTuple):
    """What one pass has read: int64 Tensors (B, n), n columns of ids and of items.

    rows : of the tables
    level : number of their size
    larger : 1 where the next size was read, else 0
    present : bool, whether it is no padding of a list"""

    rows: torch.Tensor
    level: torch.Tensor
    larger: torch.Tensor
    present: torch.Tensor


class Evidence(NamedTuple):
    """What a policy learns from: the reads of its pass, those of the weights' pass on the same rows
    (Tensor (B, n) as ``larger``), by how much less was lost (B, 1) or (B, n), and weights of rows
    (B,) or None.
    """

    drawn: Reads
    other: torch.Tensor
    gain: torch.Tensor
    weight: torch.Tensor | None


class GrowingTable(MovedByAdam, FieldEmbedding):
    """A table of which each value reads the first columns, as many as its size says; inputs -> (B,
    F, d).

    In a training pass of the weights everything that is read reads its next size with probability
    1/2, so that the columns of that size are trained before the policy is to judge them. In a pass
    of the policy it does so by the policy's odds. In eval mode all read their size.

    Parameters
    ----------
    context : BuildContext
    sizes : list of int
        Candidates, rising.
    method : ESAPN
    """

    level: torch.Tensor
    policy = ("entry", "entry_shift", "exit", "exit_shift")

    def __init__(self, context, sizes, method):
        super().__init__(context)
        n_fields, hidden = context.n_fields, method.hidden
        self.sizes = sizes
        self.arch_schedule = ArchSchedule(rows=method.rows, gradient="policy", warmup=method.warmup)
        self.arch_lr, self.price, self.baseline = method.arch_lr, method.price, method.baseline
        self.min_gain = method.min_gain
        self.register_buffer("level", torch.zeros(context.n_rows, dtype=torch.int64))
        self.register_buffer("widths", torch.tensor(sizes), persistent=False)
        columns = torch.arange(context.embedding_dim) < self.widths.unsqueeze(1)
        self.register_buffer("prefixes", columns.float(), persistent=False)
        number = torch.arange(len(sizes)).unsqueeze(1)
        self.register_buffer("number", number, persistent=False)
        tables = [*context.id_tables]
        for table, length in zip(context.list_tables, context.sequence_lengths, strict=True):
            tables += [table] * length
        own = torch.tensor([context.table_fields[t] for t in tables], dtype=torch.int64)
        self.register_buffer("field_of_column", own, persistent=False)
        self.entry = initial(context, n_fields, 1 + len(sizes), hidden, std=1.0)
        self.entry_shift = initial(context, n_fields, 1, hidden, std=1.0)
        self.exit = nn.Parameter(torch.zeros(n_fields, hidden, 1))
        self.exit_shift = nn.Parameter(torch.full((n_fields, 1, 1), START))
        self.field_axes |= {name: {0: context.axis("F")} for name in self.policy}
        self.field_axes["level"] = {0: context.axis("V")}
        self.counted = ValueCounts(context)
        own = method.baseline == "history"
        self.history = LossHistory(context.axis("V"), method.history) if own else None
        self.generator = torch.Generator().manual_seed(
            int(torch.randint(2**62, (), generator=context.generator))
        )
        self.drawing, self.sizes_read = False, []
        # What passes have told the policy; its own passes would put buffers back. The losses of
        # its pass are kept as ``reward`` until the weights' pass on the same rows.
        self.read = self.drawn = self.reward = self.seen = self.evidence = None

    def arch_parameters(self):
        return [getattr(self, name) for name in self.policy]

    def log_odds(self, rows, level):
        """Log odds of enlarging, (B, n), of rows of the tables (B, n) with sizes of that number."""
        size = level.T.unsqueeze(1) == self.number
        counts = self.counted(rows.T).transpose(1, 2)
        told, fields = torch.cat([counts, size.to(counts)], 1).transpose(1, 2), self.field_of_column
        own = (getattr(self, name)[fields] for name in self.policy)
        return by_perceptrons(told, *own)[:, 0].T

    def sample(self):
        """Let the next pass read by the odds of the policy."""
        self.drawing = True

    def unpooled(self, inputs):
        rows, present = self.counted.rows_of(inputs)
        level = self.level[rows]
        larger = torch.zeros_like(level)
        drawing, self.drawing = self.drawing, False
        if self.training and (drawing or torch.is_grad_enabled()):
            chance, odds = torch.rand(rows.shape, generator=self.generator), 0.5
            if drawing:
                with torch.no_grad():
                    odds = torch.sigmoid(self.log_odds(rows, level)).cpu()
            larger = (chance < odds).to(level) * (level < len(self.sizes) - 1)
            if drawing:
                self.drawn = Reads(rows, level, larger, present)
            else:
                self.read = Reads(rows, level, larger, present)
        size, n = level + larger, self.counted.n_categorical
        self.sizes_read = [size[:, :n]] if n else []
        if self.sequence_lengths:
            self.sizes_read += size[:, n:].split(self.sequence_lengths, 1)
        return super().unpooled(inputs)

    def lookup(self, ids, rows, fields):
        kept = nn.functional.embedding(self.sizes_read.pop(0), self.prefixes)
        return super().lookup(ids, rows, fields) * kept

    def observe(self, batch, per_row_loss):
        self.seen = self.read, per_row_loss, batch.weight
        if self.history is not None:
            self.history.push(self.read.rows, self.read.present, per_row_loss)
        if self.reward is not None:
            self.evidence = self._compare(self.drawn, self.reward)
            self.reward = None

    def after_step(self):
        """Enlarge the values of the batch that the policy would rather enlarge than not."""
        rows, _, _, present = self.seen[0]
        with torch.no_grad():
            level = self.level[rows]
            grows = (self.log_odds(rows, level) > 0) & (level < len(self.sizes) - 1) & present
        self.level[rows[grows]] = level[grows] + 1  # a value that comes again is set again

    def policy_loss(self, reward):
        """What moves the policies: the mean over rows of the sum over what they read.

        Of pairs, minus the expected gain; else minus the advantage of what was drawn, times its log
        probability. Where the weights' pass on the same rows comes after the policy's, what the
        step before has drawn is learned from.
        """
        if self.baseline == "history":
            usual = self.history(self.drawn.rows)
            gain = (usual + reward.unsqueeze(1)).nan_to_num(0.0)
            nothing = torch.zeros_like(self.drawn.larger)
            self.evidence = Evidence(self.drawn, nothing, gain, None)
        elif self.arch_schedule.rows == "previous":
            self.evidence = self._compare(self.drawn, reward)
        loss = self._loss_of(self.evidence)
        self.evidence = None
        if self.baseline == "pair" and self.arch_schedule.rows == "next":
            self.reward = reward
        return loss

    def _compare(self, drawn, reward):
        """Evidence of two passes on the same rows; None if they are not the same."""
        other, losses, weight = self.seen
        if not torch.equal(other.rows, drawn.rows):
            return None
        gain = losses + reward
        return Evidence(drawn, other.larger, (gain - gain.mean()).unsqueeze(1), weight)

    def _loss_of(self, evidence):
        if evidence is None:
            return 0.0 * sum(p.sum() for p in self.arch_parameters())
        (rows, level, larger, present), other, gain, weight = evidence
        columns = self.widths.diff(append=self.widths[-1:])[level]
        price = self.price * columns / self.counted.counts[rows].clamp(min=1)
        odds = self.log_odds(rows, level)
        p = torch.sigmoid(odds)
        if self.baseline == "pair":
            # Where both passes have read the same, losses differ by what others have read. Where
            # they have not, the gain of "enlarge" is known whichever of the two has done so.
            each = -2 * (gain * (larger - other) - price * (larger != other)) * p
        else:
            log_p = nn.functional.logsigmoid(torch.where(larger > 0, odds, -odds))
            each = -(gain - price * larger) * log_p
        grows = level < len(self.sizes) - 1
        at_first = odds.new_tensor(START)
        # Of the divergence from the first odds; it settles them where the gain is ``min_gain``.
        away = (
            p * (odds - at_first) + nn.functional.softplus(at_first) - nn.functional.softplus(odds)
        )
        each = each - self.min_gain / START * away
        each = torch.where(grows & present, each, 0.0).sum(1)
        return (each if weight is None else each * weight).mean()

    def summary(self):
        return {
            "mean_size": float(self.widths[self.level].float().mean()) if len(self.level) else 0.0
        }


class ESAPN(SearchMethod):
    r"""Embeddings that start at the smallest size and grow, value by value, as a policy decides.

    Every value has one of the sizes :math:`d_1 < \ldots < d_N` and reads so many columns; the rest
    is zero. The policy of its field, a perceptron that sees the count of the value and its size,
    gives the probability :math:`\pi` of enlarging it by one step. In each step of the training

    1. for each value that a batch reads "enlarge" or "keep" is drawn by :math:`\pi`, and the batch
       is read accordingly, without gradients and without a trace in the tables;
    2. the weights train on their batch, and the losses of its rows are noted;
    3. values of the batch whose :math:`\pi` is over one half grow by one size. None ever shrinks.

    A policy is rewarded by what "enlarge" saves of the loss of a row, less a price. It starts at
    odds of :math:`e^{-1.5}` and pays for departing from them, by their divergence, so that it comes
    to an even bet where the reward is ``min_gain``.

    It works in ``fit`` and from the first chunk of ``partial_fit`` on. Served tables hold the
    columns in use alone.

    Parameters
    ----------
    sizes : tuple of int or "auto", default="auto"
        Candidates, at most ``embedding_dim``. "auto" is 1, 2, 4, ... and ``embedding_dim``.
    rows : {"next", "previous"}, default="next"
        Whether the policy is rewarded on rows that the weights are about to be trained on, or on
        those of the step before.
    baseline : {"pair", "history"}, default="pair"
        With what the loss of a row is compared: with that of the same row in the weights' own
        pass, or with the mean of the value's last losses (the paper). See Notes.
    arch_lr : float, default=0.02
        Adam's learning rate of the policies.
    price : float, default=0.2
        Loss, summed over the rows of a value, that a column of it has to save. 0 is the paper.
    min_gain : float, default=0.002
        Loss of a row that an enlargement has to save beyond its price. Values of like counts are
        decided alike, so that a field may grow as a whole by chance: with shuffled labels one of
        three did on two of seven streams, and by no more than a column with 0.004.
    history : int, default=5
        Losses of a value that are remembered, for ``baseline="history"``.
    hidden : int, default=16
        Hidden units of a policy.
    warmup : float in [0, 1), default=0.2
        Share of the steps (in a stream: of the first chunk) before the policies move.
    retrain : {"none", "keep"}, default="none"
        Whether what is found serves as it is, as in the paper, or is trained further.

    Notes
    -----
    In the paper an enlarged vector is the image of the small one under the map by which the
    network reads small vectors anyway. So the enlargement as such changes no prediction, the
    reward does not depend on what was drawn, and the expectation of the policy's gradient is
    zero. Here, in a pass of the weights, everything is read at its next size half of the time:
    the columns of that size have been trained before the policy judges them.

    A row's loss says more of its label than of a column more. ``baseline="pair"`` takes the
    difference of two passes on the same rows, in which labels cancel. Of what the two have read
    differently it says what "enlarge" gains, whichever of them has done so; so the gradient is that
    of the expected reward, without the chance of the draw, and where both have read the same there
    is none. With ``rows="next"`` the policy's pass comes first, so that it
    learns from a comparison one step later. ``baseline="history"`` is the score function of the
    paper, :math:`\sum_f R_f \log \pi(a_f)`, and as noisy as labels are: on three planted streams it
    enlarged noise on two and what is frequent on none.

    Sizes are prefixes of one row. A chain of maps between sizes whose images of new columns start
    at zero is then one matrix a field behind the row, which the first layer of most networks is;
    there is none here, and no batch norm and tanh.

    Values of lists are counted as those of categorical fields, in a fit during its first epoch.
    Numbers are left at full width.

    References
    ----------
    .. [1] Liu, H., Zhao, X., Wang, C., Liu, X., Tang, J. "Automated Embedding Size Search in Deep
       Recommender Systems", SIGIR 2020. https://doi.org/10.1145/3397271.3401436

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=3, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(
    ...     network="fm", search=embedding.ESAPN((1, 4)), embedding_dim=4, random_state=0
    ... ).partial_fit(X[:500], y[:500], classes=[0, 1])
    >>> sizes = model.partial_fit(X[500:], y[500:]).embedding_sizes_
    >>> sorted({int(size) for each in sizes.values() for size in each} - {1, 4})
    []
    """

    slot = "embedding"
    streams = True
    _parameter_constraints = {
        "sizes": [tuple, list, StrOptions({"auto"})],
        "rows": [StrOptions({"previous", "next"})],
        "baseline": [StrOptions({"pair", "history"})],
        **constraints_of("arch_lr", "warmup"),
        "price": [Interval(Real, 0, None, closed="left")],
        "min_gain": [Interval(Real, 0, None, closed="left")],
        "history": [Interval(Integral, 1, None, closed="left")],
        "hidden": [Interval(Integral, 1, None, closed="left")],
        "retrain": [StrOptions({"none", "keep"})],
    }

    def __init__(
        self,
        sizes="auto",
        rows="next",
        baseline="pair",
        arch_lr=0.02,
        price=0.2,
        min_gain=0.002,
        history=5,
        hidden=16,
        warmup=0.2,
        retrain="none",
    ):
        self.sizes = sizes
        self.rows = rows
        self.baseline = baseline
        self.arch_lr = arch_lr
        self.price = price
        self.min_gain = min_gain
        self.history = history
        self.hidden = hidden
        self.warmup = warmup
        self.retrain = retrain

    def build(self, context):
        sizes = check_candidates(self.sizes, context.embedding_dim)
        return GrowingTable(context, check_sizes_to_choose("ESAPN", sizes), self)

    def derive(self, module, context):
        return {"sizes": sizes_to_text(module.widths[module.level].cpu().numpy())}

    def transfer(self, state, architecture, context):
        """The columns in use, and the vectors of numbers, are all that is left."""
        numbers = "embedding.numeric_"
        kept = {
            name: t
            for name, t in state.items()
            if name.startswith(numbers) or not name.startswith("embedding.")
        }
        sizes = sizes_from_text(architecture["sizes"])
        tables = tables_by_size(state["embedding.weight"], sizes)
        return kept | {f"embedding.{name}": t for name, t in tables.items()}

    def check(self, architecture, context):
        check_value_sizes(architecture, context)

    def realise(self, architecture, context):
        return SizedRows(context, sizes_from_text(architecture["sizes"]))
