"""What the tests of AutoLoss share."""

import numpy as np
import torch
from scipy.special import expit, log_softmax, softmax

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.losses import AutoLoss, _candidates
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, MulticlassLogLoss

OPTIONS = {
    "network": "lr",
    "lr": 0.02,
    "max_epochs": 2,
    "search_epochs": 8,
    "batch_size": 64,
    "early_stopping": False,
    "device": "cpu",
}

cross_entropy = _candidates._binary_cross_entropy


def clicks(seed, n=2000):
    options = {"n_fields": 4, "cardinality": 6, "informative_fields": 4, "pairs": 0}
    return make_ctr(n, main_effect=1.0, base_rate=0.5, random_state=seed, **options)[:2]


def fit(X, y, candidates="auto", seed=0, estimator=CTRClassifier, search=None, **options):
    method = AutoLoss(candidates, **{"arch_lr": 0.05, **(search or {})})
    return estimator(search=method, random_state=seed, **{**OPTIONS, **options}).fit(X, y)


# Formulas
def reference(name, z, y):
    """Losses of one row: z a number and y 0 or 1, or a vector and a class."""
    if np.ndim(z) == 0:
        p = expit(z) if y else expit(-z)
        return {
            "cross_entropy": -np.log(p),
            "focal": -((1 - p) ** 2) * np.log(p),
            "hinge": max(0.0, 1 - (1 if y else -1) * z),
            "smoothed": -0.95 * np.log(p) - 0.05 * np.log(1 - p),
            "squared": (1 - p) ** 2,
        }[name]
    logs = log_softmax(z)
    p, others = np.exp(logs[y]), np.delete(z, y)
    marks = np.eye(len(z))[y]
    return {
        "cross_entropy": -logs[y],
        "focal": -((1 - p) ** 2) * logs[y],
        "hinge": max(0.0, 1 + others.max() - z[y]),
        "smoothed": -0.9 * logs[y] - 0.1 * logs.mean(),
        "squared": ((softmax(z) - marks) ** 2).sum(),
    }[name]


def context(kind=BinaryLogLoss, **changes):
    options = {
        "field_names": ("a",),
        "n_ids": (5,),
        "n_outputs": 3 if kind is MulticlassLogLoss else 1,
        "generator": torch.Generator().manual_seed(0),
        "reference_loss": kind(),
    }
    return BuildContext(**{**options, **changes})
