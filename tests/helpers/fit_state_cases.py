"""What the tests of fits that fail share."""

import numpy as np

from sklearn_autorec.datasets import make_ctr

X, Y, _ = make_ctr(300, n_fields=3, pairs=1, random_state=0)

X = X.assign(z=np.random.default_rng(0).normal(size=300))

OPTIONS = {"network": "fm", "max_epochs": 2, "lr": 0.01, "random_state": 0, "device": "cpu"}


def same_state(model, before):
    """Whether all attributes but parameters are the objects they were."""
    free = set(model.get_params(deep=False))
    return vars(model).keys() == before.keys() and all(
        vars(model)[n] is v for n, v in before.items() if n not in free
    )
