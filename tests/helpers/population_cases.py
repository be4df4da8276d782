"""What the tests of populations share."""

import numpy as np
from scipy.stats import loguniform
from sklearn.base import BaseEstimator
from sklearn.linear_model import SGDClassifier

from sklearn_autorec.model_selection import PopulationSearchCV

ROWS = np.zeros((10, 1))

SGD = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0)

SGD_SPACE = {"eta0": loguniform(1e-3, 1), "alpha": loguniform(1e-6, 1e-2)}


class TwoPhases(BaseEstimator):
    """Descent whose curvature is 10 for 15 epochs and 1000 for the rest, each on weights of its
    own.

    The learning rate has to be near 0.1 at first, else the first weights stay; and then below
    0.002, else the others explode."""

    slopes = np.linspace(0.5, 1, 20)

    def __init__(self, lr=0.1, max_epochs=1):
        self.lr = lr
        self.max_epochs = max_epochs

    def fit(self, X, y=None):
        self.__dict__.pop("w_", None)
        for _ in range(self.max_epochs):
            self.partial_fit(X, y)
        return self

    def partial_fit(self, X, y=None):
        if not hasattr(self, "w_"):
            self.w_, self.t_ = np.ones((2, 20)), 0
        phase = int(self.t_ >= 15)
        for _ in range(2):
            # In place, on purpose.
            self.w_[phase] -= self.lr * (10, 1000)[phase] * self.slopes * self.w_[phase]
        self.t_ += 1
        return self

    def predict(self, X):
        return np.resize(self.w_, len(X))

    def score(self, X, y=None):
        return -np.log10(np.mean(self.w_**2))


def search(estimator=SGD, space=SGD_SPACE, **options):
    return PopulationSearchCV(
        estimator,
        space,
        **{"resource": "max_iter", "population": 4, "n_steps": 4, "random_state": 0, **options},
    )


def same_results(a, b):
    """All columns but times."""
    assert a.keys() == b.keys()
    for name in a:
        if not name.endswith("_time"):
            np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]), err_msg=name)
