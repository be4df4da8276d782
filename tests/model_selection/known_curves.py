"""Estimators whose score is a known function of their parameters and of what they were given."""

import os
import signal
import time
from pathlib import Path

import numpy as np
from scipy.stats import loguniform, uniform
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin

from sklearn_autorec.model_selection import HyperbandSearchCV

X, Y = np.random.RandomState(0).normal(size=(40, 3)), np.tile([0, 1], 20)
CURVES = {"a": uniform(0.2, 0.8), "b": loguniform(0.01, 2)}
TRAINED = []  # (a, b, units) of every training in this process
FITTED = []  # parameters of every fitted transformer in this process


class Curve(ClassifierMixin, BaseEstimator):
    """Scores a (1 - exp(-b r)) after r epochs; ``c`` slows the start: r is then max(r - c, 0)."""

    warm_start_until = ("epochs",)

    def __init__(self, a=1.0, b=1.0, c=0, epochs=1, warm_start=False):
        self.a = a
        self.b = b
        self.c = c
        self.epochs = epochs
        self.warm_start = warm_start

    def fit(self, X, y, sample_weight=None):
        before = getattr(self, "r_", 0) if self.warm_start else 0
        self.r_ = self.epochs
        self.weight_ = None if sample_weight is None else float(np.sum(sample_weight))
        self.n_rows_ = len(X)
        self.classes_ = np.unique(y)
        TRAINED.append((self.a, self.b, self.epochs - before))
        return self

    def score(self, X, y, sample_weight=None):
        return self.a * (1 - np.exp(-self.b * max(self.r_ - self.c, 0)))

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


class StepCurve(Curve):
    """The same, an epoch a call of ``partial_fit``."""

    warm_start_until = ()

    def __init__(self, a=1.0, b=1.0, c=0, epochs=1):
        super().__init__(a=a, b=b, c=c, epochs=epochs)

    def fit(self, X, y, sample_weight=None):
        self.warm_start = False
        return super().fit(X, y, sample_weight)

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        self.r_ = getattr(self, "r_", 0) + 1
        self.classes_ = classes
        TRAINED.append((self.a, self.b, 1))
        return self


class Rows(ClassifierMixin, BaseEstimator):
    """Scores its number of training rows times ``a``; keeps the share of the first class."""

    def __init__(self, a=1.0):
        self.a = a

    def fit(self, X, y):
        self.classes_, counts = np.unique(y, return_counts=True)
        self.n_rows_, self.share_ = len(y), counts[0] / len(y)
        TRAINED.append((self.n_rows_, self.share_, None))
        return self

    def score(self, X, y):
        return self.a * self.n_rows_ + 1e-6 * len(y)


class Troubled(Curve):
    """A curve with a trouble: "raise", "nan", "interrupt", "swallow", "die" (once, if ``folder``
    has no mark yet).
    """

    def __init__(
        self, a=1.0, b=1.0, c=0, epochs=1, warm_start=False, trouble=None, folder=None, seconds=0.0
    ):
        super().__init__(a=a, b=b, c=c, epochs=epochs, warm_start=warm_start)
        self.trouble = trouble
        self.folder = folder
        self.seconds = seconds

    def fit(self, X, y, sample_weight=None):
        time.sleep(self.seconds)
        if self.trouble == "raise" and self.a > 0.5:
            raise ArithmeticError(f"a is {self.a}")
        if self.trouble in ("interrupt", "swallow") and len(TRAINED) == 10:
            TRAINED.append(None)
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                if self.trouble == "interrupt":
                    raise
        if self.trouble == "die" and self.a > 0.5:
            mark = Path(self.folder) / "died"
            if not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(X, y, sample_weight)

    def score(self, X, y, sample_weight=None):
        return np.nan if self.trouble == "nan" and self.a > 0.5 else super().score(X, y)


class Counted(TransformerMixin, BaseEstimator):
    """Multiplies by ``factor`` and counts its fits; training rows are marked by a last column of
    ones.
    """

    def __init__(self, factor=1.0, trouble=False):
        self.factor = factor
        self.trouble = trouble

    def fit(self, X, y=None):
        if self.trouble:
            raise ArithmeticError("no transformation")
        FITTED.append(self.factor)
        self.n_features_in_ = X.shape[1]
        return self

    def fit_transform(self, X, y=None):
        self.fit(X, y)
        return np.column_stack([X * self.factor, np.ones(len(X))])

    def transform(self, X):
        return np.column_stack([X * self.factor, np.zeros(len(X))])


def columns(search):
    """``cv_results_`` as comparable lists, without times."""
    return {k: np.asarray(v).tolist() for k, v in search.cv_results_.items() if "_time" not in k}


def search(estimator=None, space=None, **options):
    """Hyperband over curves, up to nine epochs."""
    options = {
        "resource": "epochs",
        "max_resources": 9,
        "cv": 2,
        "random_state": 0,
        "refit": False,
        **options,
    }
    return HyperbandSearchCV(estimator or Curve(), space or CURVES, **options)
