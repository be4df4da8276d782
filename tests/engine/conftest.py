import numpy as np
import pytest

from sklearn_autorec.datasets import make_ctr


@pytest.fixture(scope="module")
def clicks():
    X, y, _ = make_ctr(200, n_fields=3, cardinality=5, pairs=[(0, 1)], n_numeric=1, random_state=0)
    items = np.random.default_rng(0).integers(0, 4, 300).tolist()
    X["tags"] = [items[i : i + n] for i, n in enumerate(np.arange(len(X)) % 4)]
    return X, y
