"""From what the user gives to what is trained: rows that count, encoded, split and weighted.
Nothing here sets an attribute.
"""

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_consistent_length

from .._ensemble._order import order_matters
from ..engine import EncodedTensors, TrainingPlan
from ..engine._search_phase import check_slots
from ..nn import BuildContext
from ..preprocessing import N_BINS, FieldEncoder
from ..preprocessing._fitted import UNBOUNDED_RANGE
from ..utils._memory import available_memory
from ..utils._sklearn import check_sample_weight, safe_indexing
from ._blending import Split
from ._progress import mean_one
from ._settings import embedding_l2, is_default, most_epochs, setting

__all__ = ["Preparing", "Rows"]

EARLY_STOPPING_ROWS = 10_000  # early_stopping="auto" needs so many with a network of the user's own
DEFAULT_STOPPING_ROWS = 200  # and so many with network="auto"
FOLDED_ROWS = 5_000  # fewer are all held out in turn then
N_FOLDS = 4
HIGHEST_RATE = 3.0  # of a chunk of heavy rows, times lr
LAZY_TABLE_FACTOR = 8  # tables this many times larger than a batch's ids get row-wise updates


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded rows, none of weight zero.

    Parameters
    ----------
    encoder : FieldEncoder or FrozenEstimator of one
    target : ClassTarget or RatingTarget
    class_weights : float64 ndarray (n_classes,) or None
    table : EncodedTable
    y : ndarray (n_rows,)
        As the loss wants it.
    weight : float64 ndarray (n_rows,) or None
        The user's weights times those of the classes.
    """

    encoder: Any
    target: Any
    class_weights: Any
    table: Any
    y: np.ndarray
    weight: np.ndarray | None

    def __len__(self):
        return len(self.y)

    def take(self, rows):
        """Rows by position."""
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, table=self.table.take(rows), y=self.y[rows], weight=weight)

    def weight_seen(self, before=(0.0, 0)):
        """Sum of weights and number of rows, with those of earlier chunks."""
        own = float(len(self)) if self.weight is None else float(self.weight.sum())
        return before[0] + own, before[1] + len(self)

    def rate(self, seen):
        """Learning rate of these rows in units of that of the others: their mean weight over that
        of all ``seen``.

        Adam is blind to the scale of a loss, so that a factor of the loss would not do. At most 3,
        since a rate that is many times higher would destroy what was learned."""
        own = self.weight_seen()
        return min((own[0] / own[1]) / (seen[0] / seen[1]), HIGHEST_RATE)


def _drop(X, y, weight, counts):
    """The rows where ``counts``."""
    rows = np.flatnonzero(counts)
    return safe_indexing(X, rows), y[rows], None if weight is None else weight[rows]


class Preparing:
    """Mixin of `FieldEstimator`: what comes before a network."""

    def _weight(self, y, sample_weight, name="sample_weight"):
        """The user's weights, float64 (n_rows,), or None."""
        if sample_weight is None:
            return None
        if not np.any(np.asarray(sample_weight)):
            raise ValueError(f"{name} must have at least one positive value, got only zeros.")
        return check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)

    def _prepare(self, X, y, sample_weight, fitted=None, classes=None):
        """The rows that count; ``fitted`` is the estimator that goes on, None where all is learned
        from these rows.

        Rows of weight zero are gone before anything is learned, as if they had not been given.
        """
        y = self._check_target(y)
        weight = self._weight(y, sample_weight)
        if weight is not None and not weight.all():
            check_consistent_length(X, y)
            X, y, weight = _drop(X, y, weight, weight > 0)
        target = self._target_kind.learn(y, weight, classes) if fitted is None else fitted._target()
        encoded = target.encode(y)
        by_class = target.class_weights(getattr(self, "class_weight", None), y, weight)
        counts = weight  # what the encoder counts: class weights are about the loss, not about rows
        if by_class is not None:
            of_rows = by_class[target.codes(y)]
            if not of_rows.any():
                raise ValueError(
                    f"class_weight={self.class_weight!r} gives all rows the weight zero."
                )
            if not of_rows.all():
                check_consistent_length(X, y)
                X, encoded, counts = _drop(X, encoded, weight, of_rows > 0)
                of_rows = of_rows[of_rows > 0]
            weight = of_rows if counts is None else of_rows * counts
        encoder, table = self._encode_rows(X, encoded, counts, fitted)
        check_consistent_length(encoded, table.ids)
        return Rows(encoder, target, by_class, table, encoded, weight)

    def _encode_rows(self, X, y, weight, fitted):
        if fitted is not None:
            return fitted.encoder_, fitted.encoder_.encode(X)
        encoder = FieldEncoder() if self.encoder is None else clone(self.encoder)
        # A frozen encoder was fitted on purpose, for instance on all chunks of a large table.
        if isinstance(encoder, FrozenEstimator):
            return encoder, encoder.encode(X)
        known = {} if weight is None else {"sample_weight": weight}
        if getattr(encoder, "numeric_bins", None) == "target":
            check_consistent_length(X, y)
            # Codes of several classes are no numbers.
            known["y"] = y[:, None] == np.arange(y.max() + 1) if y.dtype.kind == "i" else y
        table = encoder.fit_encode(X, **known)
        return encoder.discard_counts(), table

    def _prepare_validation(self, rows, X, y, sample_weight):
        """The user's rows for early stopping, by what was learned from the training rows."""
        y = self._check_target(y)
        weight = self._weight(y, sample_weight, "sample_weight_val")
        if weight is not None and not weight.all():
            check_consistent_length(X, y)
            X, y, weight = _drop(X, y, weight, weight > 0)
        encoded, table = rows.target.encode(y), rows.encoder.encode(X)
        check_consistent_length(table.ids, encoded)
        if rows.class_weights is not None:
            of_rows = rows.class_weights[rows.target.codes(y)]
            weight = of_rows if weight is None else of_rows * weight
            if not weight.any():
                raise ValueError(
                    "X_val has no row of positive weight; see class_weight and sample_weight_val."
                )
        return replace(rows, table=table, y=encoded, weight=weight)

    def _split_for(self, methods, companions, rows, validation, seeds):
        """`_split` for searched parts that are not trained again: they have seen the rows of the
        search, so that rows that judge must be held out of that for good.
        """
        untrained = [method for method in methods if method.retrain == "none"]
        if untrained and len(untrained) == len(methods) and not companions:
            return Split(rows)  # nothing that rows could judge
        return self._split(rows, validation, seeds, for_good=bool(untrained))

    def _split(self, rows, validation, seeds, for_good=False):
        """Training rows and those that judge, as a `Split`; ``for_good`` if the latter may never be
        trained on.
        """
        wanted, n = self.early_stopping, len(rows)
        if wanted == "auto":
            least = DEFAULT_STOPPING_ROWS if is_default(self.network) else EARLY_STOPPING_ROWS
            wanted = n >= least or validation is not None
        if not wanted:
            return Split(rows)
        if validation is not None:
            return Split(rows, validation, validation)
        if (
            not for_good
            and is_default(self.network)
            and n < FOLDED_ROWS
            and self.early_stopping == "auto"
            and self.validation != "last"
        ):
            order = np.random.RandomState(seeds.split).permutation(n)
            stratify = rows.target.stratify(rows.y)
            if stratify is not None:  # each class spreads evenly over the parts
                order = order[np.argsort(stratify[order], kind="stable")]
            parts = np.empty(n, np.int64)
            parts[order] = np.arange(n) % N_FOLDS
            return Split(rows, None, None, parts, N_FOLDS, refit=True)
        if self._judged_by_last(rows, seeds):
            parts = np.full(n, -1)
            parts[n - max(int(self.validation_fraction * n), 1) :] = 0
            if for_good:
                kept, out = np.flatnonzero(parts != 0), np.flatnonzero(parts == 0)
                return Split(rows.take(kept), rows.take(out), None, parts, 1)
            # What comes last is also the most like what will come: in the end it is trained on,
            # too.
            return Split(rows, None, None, parts, 1, refit=True)
        positions = np.arange(len(rows))
        stratify = rows.target.stratify(rows.y)
        options = {
            "test_size": self.validation_fraction,
            "random_state": seeds.split,
            "shuffle": True,
        }
        try:
            kept, out = train_test_split(positions, stratify=stratify, **options)
        except ValueError as error:
            if stratify is None:
                raise ValueError(
                    f"validation_fraction={self.validation_fraction} leaves no rows to train or "
                    f"to validate on "
                    f"({len(positions)} rows): {error}"
                ) from error
            # A class with a single row cannot be stratified.
            kept, out = train_test_split(positions, **options)
        parts = np.full(n, -1)
        parts[out] = 0
        # In the order of the table, as all who look at the rows of a part see them.
        return Split(rows.take(kept), rows.take(np.flatnonzero(parts == 0)), None, parts, 1)

    def _judged_by_last(self, rows, seeds):
        """Whether the last rows are held out, not rows drawn at random."""
        if self.validation != "auto" or rows.target.n_outputs > 1 or not is_default(self.network):
            return self.validation == "last"
        rng = np.random.RandomState(seeds.split)
        return order_matters(
            rows.table, rows.encoder.n_ids_, rows.y.astype(np.float64), rows.target.is_class, rng
        )

    @staticmethod
    def _tensors(rows, device):
        """Rows on a device; their weights have mean 1."""
        return EncodedTensors.from_table(rows.table, device, rows.y, mean_one(rows.weight))

    def _check_components(self, network, methods):
        """Refuse wrong parameters, slots that do not fit and what could not be saved, before any
        work.
        """
        check_slots(network, methods)
        untrained = [method for method in methods if method.retrain == "none"]
        if untrained and self.members > 1:
            raise ValueError(
                f"members={self.members} needs members that are trained, search={untrained[0]!r} "
                f"has retrain='none', after which the one searched network serves; choose "
                f"members=1 or another retrain."
            )
        for name, value in (("network", network), ("search", methods), ("encoder", self.encoder)):
            try:
                pickle.dumps(value)
            except Exception as error:  # whatever a user's object raises, the advice is the same
                raise ValueError(
                    f"{name}={value!r} cannot be pickled ({error}); the fitted model could not be "
                    f"saved."
                ) from error

    def _plan(self, n_rows, seeds, target):
        batch_size = self.batch_size
        if batch_size == "auto":
            # About 64 steps an epoch, within what is efficient: small tables need steps, large ones
            # wide batches.
            batch_size = int(np.clip(2 ** np.ceil(np.log2(max(n_rows / 64, 1))), 32, 4096))
        return TrainingPlan(
            epochs=most_epochs(self, n_rows),
            batch_size=batch_size,
            lr=setting(self, "lr"),
            embedding_l2=embedding_l2(self, batch_size),
            weight_decay=setting(self, "weight_decay"),
            lr_schedule=setting(self, "lr_schedule"),
            id_dropout=self.id_dropout,
            patience=setting(self, "patience"),
            seed=seeds.order,
            monitor=self._monitor(target),
            averaging=setting(self, "averaging"),
        )

    def _context(self, rows, plan):
        encoder = rows.encoder
        n_ids = tuple(int(n) for n in encoder.n_ids_)
        sequences = tuple((int(n), encoder.max_length) for n in encoder.sequence_n_ids_)
        n_rows = sum(n_ids) + sum(n for n, _ in sequences)
        self._check_memory(encoder, n_rows, rows.target.n_outputs)
        per_batch = plan.batch_size * (len(n_ids) + sum(length for _, length in sequences))
        return BuildContext(
            field_names=tuple(str(name) for name in encoder.field_names_),
            n_ids=n_ids,
            n_numeric=len(encoder.numeric_),
            sequences=sequences,
            shared=tuple(getattr(encoder, "shared_with_", ())),
            embedding_dim=setting(self, "embedding_dim"),
            n_outputs=rows.target.n_outputs,
            counts=tuple(encoder.counts_),
            output_bias=tuple(float(b) for b in rows.target.output_bias(rows.y, rows.weight)),
            sparse_gradients=n_rows > LAZY_TABLE_FACTOR * per_batch,
            embedding_init=setting(self, "embedding_init"),
            members=self.members,
            numeric_embedding=self.numeric_embedding,
            n_numeric_bins=getattr(encoder, "n_bins", N_BINS),
            numeric_range=getattr(encoder, "numeric_range_", UNBOUNDED_RANGE),
            reference_loss=rows.target.loss(),
        )

    def _check_memory(self, encoder, n_rows, n_outputs):
        """Refuse embedding tables that would not fit, before anything is allocated."""
        # The table, its gradient, two moments, and a copy of the best epoch.
        dim = setting(self, "embedding_dim")
        needed = 5 * 4 * n_rows * (dim + n_outputs) * self.members
        available = available_memory()
        if needed > available:
            members = f" and members={self.members}" if self.members > 1 else ""
            largest = int(np.argmax([*encoder.n_ids_, *encoder.sequence_n_ids_]))
            names = [
                *(encoder.field_names_[: len(encoder.n_ids_)]),
                *encoder.field_names_[len(encoder.n_ids_) + len(encoder.numeric_) :],
            ]
            raise ValueError(
                f"The embedding tables of {n_rows:,} ids with embedding_dim={dim}{members} need "
                f"about "
                f"{needed / 2**30:.2f} GiB in training, {available / 2**30:.2f} GiB are "
                f"available. Column "
                f"{names[largest]!r} has most ids: cap it with "
                f"encoder=FieldEncoder(max_categories=..., "
                f"min_frequency=... or hash_threshold=...), or lower "
                f"embedding_dim{' or members' if members else ''}."
            )
