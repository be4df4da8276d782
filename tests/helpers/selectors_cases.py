"""What the tests of selectors share."""

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.feature_selection import (
    FSTD,
    MARLFS,
    DualAgent,
    RandomSubset,
    SensitivitySelector,
)

QUICK = {"n_steps": 40, "n_updates": 1, "batch_size": 8}

SELECTORS = {
    "FSTD": (FSTD, {}),
    "FSTD, filter": (FSTD, {"final": "filter"}),
    "MARLFS": (MARLFS, QUICK),
    "MARLFS, groups and advice": (
        MARLFS,
        {**QUICK, "n_groups": 3, "advisor": "hybrid", "state": "graph"},
    ),
    "MARLFS, scan": (MARLFS, {**QUICK, "scan": True, "state": "autoencoder"}),
    "DualAgent": (DualAgent, {**QUICK, "n_blocks": 5}),
    "RandomSubset": (RandomSubset, {}),
    "permutation": (SensitivitySelector, {"method": "permutation"}),
    "forward": (SensitivitySelector, {"method": "forward"}),
}

OF_A_SIZE = [name for name in SELECTORS if name not in ("MARLFS, scan", "DualAgent")]

every = pytest.mark.parametrize("name", SELECTORS)


def make(name, estimator=None, **options):
    cls, more = SELECTORS[name]
    options = {"max_evaluations": 12, "cv": 2, "random_state": 0} | more | options
    return cls(estimator or DecisionTreeClassifier(min_samples_leaf=5, random_state=0), **options)


def table(n=200, d=6, seed=0):
    """Small integers; y follows columns 1 and 2."""
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, (n, d)).astype(float)
    return X, ((X[:, 1] + X[:, 2] + rng.integers(0, 2, n)) > 2).astype(int)


def fitted(selector):
    """Everything a fit leaves that can be compared."""
    state = {k: v for k, v in vars(selector).items() if k.endswith("_") and not k.startswith("_")}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}
