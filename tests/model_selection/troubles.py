"""Estimators that kill or hang the process they are in, in a module that workers can import."""

import os
import signal
import time

import numpy as np
from known_curves import Curve
from sklearn.base import BaseEstimator, TransformerMixin

ENDS = {
    "exit": lambda: os._exit(3),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "out of memory": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(1000),
}


class Deadly(Curve):
    """A curve that ends as ``end`` says if ``b`` is 3 and it is to have ``age`` epochs."""

    def __init__(self, a=1.0, b=1.0, c=0, epochs=1, warm_start=False, end="exit", age=None):
        super().__init__(a=a, b=b, c=c, epochs=epochs, warm_start=warm_start)
        self.end = end
        self.age = age

    def fit(self, X, y, sample_weight=None):
        if self.b == 3 and self.age in (None, self.epochs):
            ENDS[self.end]()
        return super().fit(X, y, sample_weight)


class DeadlyStep(TransformerMixin, BaseEstimator):
    """Ends its process if its factor is 3."""

    def __init__(self, factor=1):
        self.factor = factor

    def fit(self, X, y=None):
        if self.factor == 3:
            os._exit(3)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.asarray(X) * self.factor
