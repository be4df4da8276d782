"""What the tests of searches for tuples of fields share."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.networks import FM, IPNN, DeepFM
from sklearn_autorec.nn import BuildContext, Inputs

NETWORKS = {
    "fm": FM(),
    "deepfm": DeepFM(hidden_units=(64, 64)),
    "ipnn": IPNN(hidden_units=(64, 64)),
}


def fit(search, X, y, seed=0, network="fm", **options):
    """A classifier of clicks that searches three epochs and trains one; the seed decides all."""
    options = {
        "embedding_dim": 8,
        "lr": 0.01,
        "max_epochs": 1,
        "search_epochs": 3,
        "batch_size": 256,
        "random_state": seed,
        **options,
    }
    return CTRClassifier(network=NETWORKS[network], search=search, **options).fit(X, y)


def ranking(model, planted):
    """The AUC with which scores of the searched tuples tell the planted ones, all of one order,
    from the others of their order.
    """
    planted = {tuple(f"f{i}" for i in t) for t in planted}
    order = len(next(iter(planted)))
    scores = {t: s for t, s in model.interaction_scores_.items() if len(t) == order}
    return roc_auc_score([t in planted for t in scores], [*scores.values()])


def context(n_fields=5, d=3, embedding_init=1.0, **options):
    """Of columns of five ids each."""
    return BuildContext(
        tuple("abcdefgh"[:n_fields]),
        (5,) * n_fields,
        embedding_dim=d,
        generator=torch.Generator().manual_seed(0),
        embedding_init=embedding_init,
        **options,
    )


def rows(n, n_fields=5):
    """Rows of such a context at random."""
    ids = torch.randint(
        0, 5, (n, n_fields), generator=torch.Generator().manual_seed(1), dtype=torch.int32
    )
    return Inputs(ids, torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.int32))


def odd_table():
    """Clicks on columns of all kinds with gaps and a constant; rows with a new id and no number:
    X, y and these rows.
    """
    X, y = mixed_clicks(400, pairs=1, missing_rate=0.1)
    X["constant"] = "c"
    return X, y, X[:3].assign(f0="new", x0=np.nan)


def check_refusals(search, options, message):
    """Wrong options of a search are named, and so is a table of one column."""
    X, y, _ = make_ctr(100, n_fields=3, pairs=1, random_state=0)
    with pytest.raises(ValueError, match=message):
        fit(search(**options), X, y)
    with pytest.raises(ValueError, match="at least 2 fields, the table has 1"):
        fit(search(), X[["f0"]], y)
