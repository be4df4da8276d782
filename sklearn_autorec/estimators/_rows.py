"""The rows that a fit is given, as it sees them: those that count, encoded and weighted."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_consistent_length

from .._ensemble._mixing import as_rows
from ..engine import EncodedTensors
from ..preprocessing._growing import grown
from ..utils._sklearn import check_sample_weight, safe_indexing
from ._initial_embeddings import add_frozen_values, check_embeddings
from ._targets import target_of
from ._times import check_time_column, times_of
from ._vocabularies import encoder_to_keep, wanted_encoder

__all__ = ["Rows", "encoded_rows", "validation_rows", "weighs_nothing"]

HIGHEST_RATE = 3.0  # of a chunk of heavy rows, times lr


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
    groups : int64 ndarray (n_rows,) or None
        Codes of the groups that the user gave.
    times : int64 ndarray (n_rows,) or None
        Ranks of the times by which rows are old or new.
    totals : float64 ndarray of shape (2, n_classes) or None
        Where the rows were drawn from a data set: numbers of all its rows in each class (of
        ratings: in one), and their weights.
    """

    encoder: Any
    target: Any
    class_weights: Any
    table: Any
    y: np.ndarray
    weight: np.ndarray | None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    totals: np.ndarray | None = None

    def __len__(self):
        return len(self.y)

    @property
    def has_single_class(self):
        """Whether there is nothing to learn."""
        return self.target.n_outputs == 0

    def take(self, rows):
        """Rows by position."""
        weight = None if self.weight is None else self.weight[rows]
        groups = None if self.groups is None else self.groups[rows]
        times = None if self.times is None else self.times[rows]
        table, y = self.table.take(rows), self.y[rows]
        return replace(self, table=table, y=y, weight=weight, groups=groups, times=times)

    def tensors(self, device):
        """The rows on a device; their weights have mean 1."""
        weight = self.weight
        if weight is not None:
            weight = (weight / weight.mean()).astype(np.float32)
        own = self.y, weight, self.groups, self.times
        return EncodedTensors.from_table(self.table, device, *own)

    def weight_seen(self, before=(0.0, 0)):
        """Sum of weights and number of rows, with those of earlier chunks."""
        if self.totals is not None:
            n_rows, weight = self.totals.sum(1)
            return before[0] + float(weight), before[1] + int(n_rows)
        own = float(len(self)) if self.weight is None else float(self.weight.sum())
        return before[0] + own, before[1] + len(self)

    def output_bias(self):
        """Initial bias of the outputs of a network."""
        if self.totals is not None and self.target.is_class:
            n_rows, weight = self.totals
            weight = weight / min(weight.sum() / n_rows.sum(), 1.0)  # as `as_rows` has it
            return self.target.output_bias(np.arange(len(weight)), weight)
        return self.target.output_bias(self.y, as_rows(self.weight))

    def rate(self, seen):
        """Learning rate of these rows in units of that of the others: their mean weight over that
        of all ``seen``.

        Adam is blind to the scale of a loss, so that a factor of the loss would not do. At most 3,
        since a rate that is many times higher would destroy what was learned."""
        own = self.weight_seen()
        return min((own[0] / own[1]) / (seen[0] / seen[1]), HIGHEST_RATE)


def encoded_rows(
    estimator, X, y, sample_weight, fitted=None, classes=None, groups=None, grow=False
):
    """The rows that count, as `Rows`.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
        Whose parameters say how rows are read; it stays as it is.
    X, y, sample_weight
        As the user gave them. Rows of weight zero are gone before anything is learned, as if they
        had not been given.
    fitted : estimator or None
        Which goes on, with its encoder and its labels or scale; None where these are learned from
        the rows.
    classes : array-like or None
        All labels that there will be.
    groups : array-like or None
        A label a row.
    grow : bool
        Whether new values get ids in the vocabularies of the fitted encoder, of which then a copy
        is what the rows have.

    Raises
    ------
    ValueError
        For wrong targets, weights and groups, and if no row counts.
    """
    kind = estimator._target_kind
    check_time_column(estimator)
    y = kind.check(y, estimator)
    weight = _checked_weight(y, sample_weight)
    groups = None if groups is None else _group_codes(groups, len(y))
    if weight is not None and not weight.all():
        check_consistent_length(X, y)
        groups = None if groups is None else groups[weight > 0]
        X, y, weight = _drop(X, y, weight, weight > 0)
    target = kind.learn(y, weight, classes) if fitted is None else target_of(fitted)
    target = target.sampled(estimator, fitted).with_loss(estimator.loss)
    encoded = target.encode(y)
    class_weight = getattr(estimator, "class_weight", None)
    by_class = target.class_weights(class_weight, y, weight)
    counts = weight  # what the encoder counts: class weights are about the loss, not about rows
    if by_class is not None:
        of_rows = by_class[target.codes(y)]
        if not of_rows.any():
            raise ValueError(f"class_weight={class_weight!r} gives all rows the weight zero.")
        if not of_rows.all():
            check_consistent_length(X, y)
            X, encoded, counts = _drop(X, encoded, weight, of_rows > 0)
            groups = None if groups is None else groups[of_rows > 0]
            of_rows = of_rows[of_rows > 0]
        weight = of_rows if counts is None else of_rows * counts
    times = None
    if estimator.validation == "time":
        times = times_of(X, estimator.time_column, estimator)
    if fitted is None:
        check_embeddings(estimator)
        encoder, table = _learned_encoder(wanted_encoder(estimator), X, encoded, counts)
        if add_frozen_values(estimator, encoder):
            table = encoder.encode(X)
        encoder = encoder_to_keep(estimator, encoder)
    elif grow:
        encoder, table = grown(fitted.encoder_, X, counts)
    else:
        encoder, table = fitted.encoder_, fitted.encoder_.encode(X)
    check_consistent_length(encoded, table.ids)
    return Rows(encoder, target, by_class, table, encoded, weight, groups, times)


def _learned_encoder(encoder, X, y, weight):
    """A copy of the encoder, fitted on the rows unless it is frozen, and their table."""
    encoder = clone(encoder)
    # A frozen encoder was fitted on purpose, for instance on all chunks of a large table.
    if isinstance(encoder, FrozenEstimator):
        return encoder, encoder.encode(X)
    known = {} if weight is None else {"sample_weight": weight}
    if getattr(encoder, "numeric_bins", None) == "target":
        check_consistent_length(X, y)
        # Codes of several classes are no numbers.
        known["y"] = y[:, None] == np.arange(y.max() + 1) if y.dtype.kind == "i" else y
    table = encoder.fit_encode(X, **known)
    return encoder, table


def validation_rows(estimator, rows, X, y, sample_weight):
    """The user's rows for early stopping, by what was learned from the training rows; None where
    there are none, or nothing stops.
    """
    if X is None or not estimator.early_stopping:
        return None
    y = estimator._target_kind.check(y, estimator)
    weight = _checked_weight(y, sample_weight, "sample_weight_val")
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
    return replace(rows, table=table, y=encoded, weight=weight, groups=None, times=None)


def weighs_nothing(estimator, y, sample_weight):
    """Whether all rows have the weight zero; there must be as many weights as rows."""
    if sample_weight is None or np.any(np.asarray(sample_weight)):
        return False
    y = estimator._target_kind.check(y, estimator)
    _checked_weight(y, np.ones(np.shape(np.asarray(sample_weight))))
    return True


def _checked_weight(y, sample_weight, name="sample_weight"):
    """The user's weights, float64 (n_rows,), or None."""
    if sample_weight is None:
        return None
    if not np.any(np.asarray(sample_weight)):
        raise ValueError(f"{name} must have at least one positive value, got only zeros.")
    return check_sample_weight(sample_weight, y, dtype=np.float64, ensure_non_negative=True)


def _group_codes(groups, n_rows):
    """Groups of rows as codes, int64 (n_rows,), numbered as they appear.

    Raises
    ------
    ValueError
        If there are more or fewer labels than rows, or labels are missing.
    TypeError
        If they are no list or array, or have no hash.
    """
    labels = groups.to_numpy() if hasattr(groups, "to_numpy") else groups
    if not isinstance(labels, np.ndarray):
        if isinstance(labels, str) or not hasattr(labels, "__iter__"):
            raise TypeError(f"groups must have a label for each row, got {groups!r:.100}.")
        given = list(labels)
        labels = np.empty(len(given), object)  # tuples are labels, too
        for row, label in enumerate(given):
            labels[row] = label
    if labels.shape != (n_rows,):
        raise ValueError(
            f"groups must have one label for each of the {n_rows} rows, got an array of shape "
            f"{labels.shape}."
        )
    missing = pd.isna(labels)
    if missing.any():
        row = int(missing.argmax())
        raise ValueError(
            f"groups must have a label for each row, that of row {row} is missing "
            f"({labels[row]!r}); rows without a group can have labels of their own."
        )
    try:
        return pd.factorize(labels)[0].astype(np.int64)
    except TypeError as error:
        raise TypeError(f"groups must have labels with a hash: {error}") from error


def _drop(X, y, weight, counts):
    """The rows where ``counts``."""
    rows = np.flatnonzero(counts)
    return safe_indexing(X, rows), y[rows], None if weight is None else weight[rows]
