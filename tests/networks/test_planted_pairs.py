"""The newer networks find planted pairs, which no field tells of alone."""

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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PLANTED)
def test_it_finds_planted_pairs(name, seed):
    """Of pairs without main effects; the first-order term alone cannot, nor can any network with
    the labels of other rows.
    """
    problem = CTRProblem(
        n_fields=5, cardinality=5, zipf=0, pairs=[(0, 3), (1, 2)], pair_effect=2, random_state=seed
    )
    X, y, _ = problem.sample(3000, random_state=0)
    X_test, y_test, truth = problem.sample(3000, random_state=1)

    def auc(network, labels):
        options = {"embedding_dim": 8, "embedding_init": 0.1, "lr": 0.01, "batch_size": 128}
        options |= {"max_epochs": 6, "early_stopping": False, "random_state": 0, "device": "cpu"}
        model = CTRClassifier(network=network, **options).fit(X, labels)
        return roc_auc_score(y_test, model.predict_proba(X_test)[:, 1])

    best = roc_auc_score(y_test, truth.probabilities)
    assert best - 0.05 < auc(PLANTED[name], y) <= best + 0.01
    assert auc(LR(), y) < 0.65
    if seed == 0:
        mixed = np.random.default_rng(0).permutation(y)
        assert auc(PLANTED[name], mixed) < 0.65
