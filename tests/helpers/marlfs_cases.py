"""What the tests of MARLFS share."""

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.datasets import make_ctr


def codes_of(n=400, d=5, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, d))
    codes[:, 1] = np.where(rng.random(n) < 0.7, codes[:, 0], codes[:, 1])
    return codes, (codes[:, 0] + rng.integers(0, 2, n)) // 2


def planted(seed, n=600, d=12):
    X, y, _ = make_ctr(
        n,
        n_fields=d,
        cardinality=4,
        zipf=0,
        informative_fields=[0, 1, 2],
        pairs=0,
        main_effect=1.3,
        ids="int",
        random_state=seed,
    )
    return X.to_numpy(), y


def search(cls, seed, X, y, **options):
    tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=0)
    return cls(tree, **{"cv": 2, "max_evaluations": 70, "random_state": seed} | options).fit(X, y)
