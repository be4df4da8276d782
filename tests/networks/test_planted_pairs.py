"""The newer networks find planted pairs, which no field tells of alone."""

from functools import cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import CTRProblem
from sklearn_autorec.networks import GDCN, LR, DCNv3, FiBiNET, FinalMLP, MaskNet

PLANTED = {
    "finalmlp": FinalMLP((32,), dropout=0.0),
    "gdcn": GDCN(2, hidden_units=(32,), dropout=0.0),
    "masknet": MaskNet(n_blocks=2, block_units=32, hidden_units=(32,), dropout=0.0),
    "masknet-serial": MaskNet("serial", hidden_units=(32, 32), dropout=0.0),
    "fibinet": FiBiNET(hidden_units=(32,), dropout=0.0),
    "dcnv3": DCNv3(2, 2, dropout=0.0),
}


def auc(network, rows, test, labels=None):
    options = {"embedding_dim": 8, "embedding_init": 0.1, "lr": 0.01, "batch_size": 128}
    options |= {"max_epochs": 6, "early_stopping": False, "random_state": 0, "device": "cpu"}
    X, y, _ = rows
    model = CTRClassifier(network=network, **options).fit(X, y if labels is None else labels)
    return roc_auc_score(test[1], model.predict_proba(test[0])[:, 1])


@cache
def planted(seed):
    """Rows of pairs without main effects, others to judge by, and the AUC of the first-order term
    alone, which all networks are compared with.
    """
    problem = CTRProblem(
        n_fields=5, cardinality=5, zipf=0, pairs=[(0, 3), (1, 2)], pair_effect=2, random_state=seed
    )
    rows, test = (problem.sample(3000, random_state=state) for state in (0, 1))
    return rows, test, auc(LR(), rows, test)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PLANTED)
def test_it_finds_planted_pairs(name, seed):
    """The first-order term alone cannot, nor can any network with the labels of other rows."""
    rows, test, by_fields = planted(seed)
    best = roc_auc_score(test[1], test[2].probabilities)
    assert best - 0.05 < auc(PLANTED[name], rows, test) <= best + 0.01
    assert by_fields < 0.65
    if seed == 0:
        mixed = np.random.default_rng(0).permutation(rows[1])
        assert auc(PLANTED[name], rows, test, mixed) < 0.65
