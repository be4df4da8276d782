import pytest
from scipy.stats import rankdata


def fast_auc(model, X, y):
    """AUC of the second class by ranks, without the checks that take longer than the fits of these
    tests.
    """
    ranks, n = rankdata(model.predict_proba(X)[:, 1]), y.sum()
    return (ranks[y == 1].sum() - n * (n + 1) / 2) / (n * (len(y) - n))


@pytest.fixture(scope="session")
def auc():
    return fast_auc
