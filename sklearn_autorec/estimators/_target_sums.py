"""Targets of more rows than memory holds: sums by label, moments of ratings."""

import numpy as np

from ._targets import ClassTarget, RatingTarget

__all__ = ["ClassSums", "RatingSums"]


class ClassSums:
    """Numbers and weights of the rows of each label."""

    def __init__(self):
        self.labels, self.sums = None, None

    def see(self, y):
        """Take note of labels, whatever they weigh."""
        if len(y):
            self._know(np.unique(y))

    def _know(self, labels):
        if self.labels is None:
            self.labels, self.sums = labels, np.zeros((4, len(labels)))
        elif not np.isin(labels, self.labels).all():
            known = np.union1d(self.labels, labels)
            wider = np.zeros((4, len(known)))
            wider[:, np.searchsorted(known, self.labels)] = self.sums
            self.labels, self.sums = known, wider

    def count(self, y, weight, judge):
        """Count labels that were seen: rows of them and their weights, of all rows and of those
        that do not judge.
        """
        weight = np.ones(len(y)) if weight is None else weight
        codes, n = np.searchsorted(self.labels, y), len(self.labels)
        for i, rows in ((0, slice(None)), (2, ~judge)):
            self.sums[i] += np.bincount(codes[rows], minlength=n)
            self.sums[i + 1] += np.bincount(codes[rows], weight[rows], minlength=n)

    def target(self):
        """The labels as a `ClassTarget`."""
        return ClassTarget(self.labels)

    def totals(self, target, class_weight):
        """Weights of the classes (or None), numbers and weights (2, n_classes) of all rows, and of
        those that do not judge.

        Raises
        ------
        ValueError
            If there are labels that the target lacks, or ``class_weight`` is wrong.
        """
        places = target.codes(self.labels)
        sums = np.zeros((4, len(target.classes)))
        sums[:, places] = self.sums
        by_class = target.class_weights(class_weight, target.classes, sums[1])
        if by_class is not None:
            sums[[1, 3]] *= by_class
        return by_class, sums[:2], sums[2:]


class RatingSums:
    """Mean, sum of squares around it, and extremes of ratings."""

    def __init__(self):
        self.moments = 0.0, 0.0, 0.0  # sum of weights, mean, sum of squares
        self.extremes = np.inf, -np.inf
        self.sums = np.zeros((4, 1))

    def see(self, y):
        """Take note of ratings."""
        if len(y):
            self.extremes = min(self.extremes[0], y.min()), max(self.extremes[1], y.max())

    def count(self, y, weight, judge):
        """Add ratings to the moments (Chan, Golub and LeVeque, 1983)."""
        weight = np.ones(len(y)) if weight is None else weight
        for i, rows in ((0, slice(None)), (2, ~judge)):
            self.sums[i : i + 2, 0] += len(y[rows]), weight[rows].sum()
        total, mean, squares = self.moments
        own = weight.sum()
        with np.errstate(over="ignore", invalid="ignore"):  # `target` refuses such extremes
            own_mean = np.average(y, weights=weight)
            apart, whole = own_mean - mean, total + own
            squares += (weight * (y - own_mean) ** 2).sum() + apart**2 * total * own / whole
            self.moments = whole, mean + apart * own / whole, squares

    def target(self):
        """The scale as a `RatingTarget`."""
        RatingTarget.learn(np.array(self.extremes))  # refuses too wide a spread
        total, mean, squares = self.moments
        return RatingTarget(float(mean), float(np.sqrt(squares / total)) or 1.0)

    def totals(self, target, class_weight):
        """As of `ClassSums`, with all ratings as one class."""
        return None, self.sums[:2], self.sums[2:]
