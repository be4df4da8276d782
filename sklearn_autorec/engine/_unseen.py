"""A search beside rows that nothing is trained on, which tell when it only fits the others."""

import copy
import warnings

from ..exceptions import ConvergenceWarning
from ._kept_weights import Snapshot
from ._streams import RowsBeside
from ._training import scores_of

MANY_EPOCHS = 5  # a search of fewer is not told that it was too long
MUCH_WORSE = 1.1  # times the least loss of unseen rows


class UnseenLoss:
    """The loss of rows that nothing is trained on, epoch by epoch.

    Parameters
    ----------
    net : FieldNet
    rows : EncodedTensors or RowsBeside
        Of blocks the rows are there once the first epoch is over.
    plan : TrainingPlan
        Its ``patience`` is that of the search.
    loss : nn.Module
        The reference loss.
    modules : list of nn.Module
        The searched ones. If all have a true ``ends_early``, the search ends after ``patience``
        epochs that have not lowered the loss, and goes back to the best one. Those with
        ``after_epoch`` are given the loss.
    """

    def __init__(self, net, rows, plan, loss, modules):
        self.net, self.rows, self.plan, self.loss = net, rows, plan, loss
        self.modules = modules
        self.ends = all(getattr(m, "ends_early", False) for m in modules)
        self.losses = []
        # Weights of the best epoch, and what the optimisers of the architecture held: of `GRDA`
        # that is more than the parameters tell.
        self.best, self.held = Snapshot(), []

    def look(self, record):
        """Add "unseen_loss" to the record of an epoch; whether the search is to end."""
        rows = self.rows.data if isinstance(self.rows, RowsBeside) else self.rows
        own = scores_of(self.net, rows, self.plan, "unseen", self.loss)
        record["unseen_loss"] = own["unseen_loss"]
        self.losses.append(own["unseen_loss"])
        if self.ends and self.best_epoch == len(self.losses):
            self.best.take(self.net.trained)
            self.held = [copy.deepcopy(o.state_dict()) for o in self._optimizers()]
        for m in self.modules:
            if hasattr(m, "after_epoch"):
                m.after_epoch(own["unseen_loss"])
        return self.ends and len(self.losses) - self.best_epoch >= self.plan.patience

    def restore(self):
        """Put back the state of the best epoch, of a search that may end early."""
        if self.best.state is not None and self.best_epoch < len(self.losses):
            self.best.restore(self.net.trained)
            for optimizer, held in zip(self._optimizers(), self.held, strict=True):
                optimizer.load_state_dict(held)

    def _optimizers(self):
        return [optimizer for _, optimizer, _ in self.net.arch_turns_]

    @property
    def best_epoch(self):
        """Number of the epoch of the least loss, from 1."""
        return self.losses.index(min(self.losses)) + 1

    def warn(self, slots):
        """Say so if a search that cannot end early was far too long for its rows."""
        n, least = len(self.losses), min(self.losses, default=0.0)
        if self.ends or n < MANY_EPOCHS or 2 * self.best_epoch > n:
            return
        if self.losses[-1] > MUCH_WORSE * least:
            warnings.warn(
                f"The search of the slot {'+'.join(slots)!r} has fitted its rows by heart: on "
                f"training rows that it has not seen the loss was least after epoch "
                f"{self.best_epoch}, {least:.4f}, and is {self.losses[-1]:.4f} after {n}. Fewer "
                f"search_epochs or a larger embedding_l2 may find more.",
                ConvergenceWarning,
                stacklevel=3,
            )
