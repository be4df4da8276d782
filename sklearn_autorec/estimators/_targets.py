"""Targets as the networks see them: labels and their weights, ratings and their scale."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.utils.multiclass import check_classification_targets

from ..nn import BinaryLogLoss, MulticlassLogLoss, OwnLoss, SquaredError
from ..utils._sklearn import check_y
from ._monitoring import ScorerMonitor

__all__ = ["ClassTarget", "RatingTarget", "target_of"]

LARGEST_SPREAD = 1e150  # of ratings: their variance is finite


@dataclass(frozen=True, eq=False)
class ClassTarget:
    """Labels.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        In order.
    negative_rate : float in (0, 1]
        Share of the negatives (rows of the first of two classes) that were kept for training.
    own_loss : callable or None
        The parameter ``loss`` of an estimator.
    """

    classes: np.ndarray
    negative_rate: float = 1.0
    own_loss: Callable | None = None
    is_class = True

    @staticmethod
    def check(y, estimator):
        """Labels as an ndarray (n_rows,), refused if they are none."""
        y = check_y(y, estimator)
        check_classification_targets(y)
        return y

    @classmethod
    def learn(cls, y, weight=None, classes=None):
        """From labels (n_rows,), or from all labels that there will be."""
        return cls(np.unique(y if classes is None else np.asarray(classes)))

    @classmethod
    def of(cls, fitted):
        """The labels of a fitted estimator."""
        return cls(fitted.classes_, fitted.__dict__.get("negative_sampling_rate_", 1.0))

    def sampled(self, estimator, fitted):
        """These labels with the share of the negatives that the parameters tell.

        Raises
        ------
        ValueError
            If there are more than two classes, or a fitted estimator goes on whose rows were
            sampled at another rate.
        """
        rate = estimator.negative_sampling_rate
        if fitted is None:
            if rate is not None and len(self.classes) > 2:
                raise ValueError(
                    f"negative_sampling_rate={rate!r} needs two classes, y has "
                    f"{len(self.classes)}; set negative_sampling_rate=None."
                )
            return replace(self, negative_rate=1.0 if rate is None else float(rate))
        if (1.0 if rate is None else rate) != self.negative_rate:
            raise ValueError(
                f"negative_sampling_rate={rate!r} is not that of the rows trained on before, "
                f"{self.negative_rate:g}: one correction cannot hold for both. Fit anew, or "
                f"sample further rows as the first."
            )
        return self

    @property
    def attributes(self):
        """Fitted attributes of an estimator."""
        return {"classes_": self.classes, "negative_sampling_rate_": self.negative_rate}

    def encode(self, y):
        """Labels (n_rows,) as the loss wants them."""
        codes = self.codes(y)
        return codes.astype(np.float32 if len(self.classes) <= 2 else np.int64)

    def codes(self, y):
        """Positions of labels in ``classes``, int64 (n_rows,)."""
        known = np.isin(y, self.classes)
        if not known.all():
            raise ValueError(
                f"y has labels {np.unique(y[~known]).tolist()}, which are not in classes "
                f"{self.classes.tolist()}."
            )
        return np.searchsorted(self.classes, y)

    def class_weights(self, class_weight, y, weight=None):
        """Weight of each class, float64 (n_classes,), or None.

        "balanced" divides the mean weight of a class by its own: a row that weighs 2 counts as two
        rows."""
        if class_weight is None:
            return None
        if class_weight == "balanced":
            own = np.bincount(self.codes(y), weight, minlength=len(self.classes))
            there = own > 0
            return np.divide(own.sum() / there.sum(), own, out=np.ones(len(own)), where=there)
        unknown = [label for label in class_weight if not np.isin(label, self.classes)]
        if unknown:
            raise ValueError(
                f"class_weight has {unknown}, which are not in classes {self.classes.tolist()}."
            )
        weights = np.array(
            [class_weight.get(label, 1.0) for label in self.classes.tolist()], dtype=np.float64
        )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(
                f"class_weight must hold finite numbers of at least 0, got {class_weight!r}."
            )
        return weights

    @property
    def n_outputs(self):
        """Width of the logits; 0 where there is a single class."""
        return {1: 0, 2: 1}.get(len(self.classes), len(self.classes))

    def with_loss(self, own_loss):
        """The same with another loss of the user's, or None."""
        return replace(self, own_loss=own_loss)

    def loss(self):
        """What trains and judges, logits (B, C), y (B,) -> (B,)."""
        plain = self.plain_loss()
        return plain if self.own_loss is None else OwnLoss(self.own_loss, plain)

    def plain_loss(self):
        """The loss where the user has none."""
        return BinaryLogLoss() if len(self.classes) == 2 else MulticlassLogLoss()

    def output_bias(self, target, weight):
        """Initial bias of the outputs, from encoded labels."""
        # Weights are numbers of rows. One imaginary row of each class keeps the logits finite.
        share = 1 + np.bincount(target.astype(np.int64), weight, minlength=len(self.classes))
        logits = np.log(share / share.sum())
        return [logits[1] - logits[0]] if len(self.classes) == 2 else logits

    def stratify(self, target):
        return target

    def monitor(self, name):
        """The score by which early stopping judges, see `TrainingPlan`; None is the loss.

        Parameters
        ----------
        name : {"loss", "auc"} or callable (estimator, X, y) -> float

        Raises
        ------
        ValueError
            If it is the AUC of several classes.
        """
        if not isinstance(name, str):
            return ScorerMonitor(name, self)
        if name == "auc" and len(self.classes) > 2:
            raise ValueError(
                f"monitor='auc' needs two classes, y has {len(self.classes)}; use monitor='loss'."
            )
        return _auc if name == "auc" else None


@dataclass(frozen=True, eq=False)
class RatingTarget:
    """Ratings in units of their standard deviation around their mean."""

    mean: float
    scale: float
    own_loss: Callable | None = None
    is_class = False

    @staticmethod
    def check(y, estimator):
        """Ratings as float64 (n_rows,), refused if they are none."""
        return check_y(y, estimator, y_numeric=True).astype(np.float64)

    @classmethod
    def learn(cls, y, weight=None, classes=None):
        """From ratings, float64 (n_rows,)."""
        spread = float(np.ptp(y / 2)) * 2 if np.abs(y).max() < LARGEST_SPREAD else np.inf
        if not (spread == 0 or 1 / LARGEST_SPREAD < spread < LARGEST_SPREAD):
            raise ValueError(
                f"y has ratings from {y.min():g} to {y.max():g}, whose variance float64 cannot "
                f"hold; rescale them to a spread "
                f"between {1 / LARGEST_SPREAD:g} and {LARGEST_SPREAD:g}."
            )
        mean = float(np.average(y, weights=weight))
        return cls(mean, float(np.sqrt(np.average((y - mean) ** 2, weights=weight))) or 1.0)

    @classmethod
    def of(cls, fitted):
        """The scale of a fitted estimator."""
        return cls(fitted.y_mean_, fitted.y_scale_)

    def sampled(self, estimator, fitted):
        return self

    @property
    def attributes(self):
        """Fitted attributes of an estimator."""
        return {"y_mean_": self.mean, "y_scale_": self.scale}

    def encode(self, y):
        """Ratings (n_rows,) as the loss wants them."""
        with np.errstate(over="ignore"):
            scaled = ((y - self.mean) / self.scale).astype(np.float32)
        if not np.isfinite(scaled).all():
            raise ValueError(
                f"y has the rating {y[~np.isfinite(scaled)][0]:g}, too far from those of the "
                f"first fit (mean {self.mean:g}, "
                f"standard deviation {self.scale:g}) to be learned together with them."
            )
        return scaled

    def class_weights(self, class_weight, y, weight=None):
        return None

    n_outputs = 1

    def with_loss(self, own_loss):
        """The same with another loss of the user's, or None."""
        return replace(self, own_loss=own_loss)

    def loss(self):
        """What trains and judges, logits (B, 1), y (B,) -> (B,)."""
        plain = self.plain_loss()
        return (
            plain if self.own_loss is None else OwnLoss(self.own_loss, plain, self.mean, self.scale)
        )

    def plain_loss(self):
        """The loss where the user has none."""
        return SquaredError()

    def output_bias(self, target, weight):
        """Initial bias of the outputs, from encoded ratings."""
        return [np.average(target, weights=weight)]

    def stratify(self, target):
        return None

    def monitor(self, name):
        """As of `ClassTarget`; None is the loss."""
        return None if isinstance(name, str) else ScorerMonitor(name, self)


def target_of(fitted):
    """The labels or the scale of a fitted estimator."""
    return fitted._target_kind.of(fitted)


def _auc(y, logits, weight):
    """ROC AUC of a binary validation set; NaN where it holds one class."""
    return roc_auc_score(y, logits[:, 0], sample_weight=weight) if 0 < y.mean() < 1 else np.nan
