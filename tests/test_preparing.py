"""What a training is prepared from: rows of tables are counted once, whoever reads them."""

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec import CTRClassifier
from sklearn_autorec.estimators import _context, _memory
from sklearn_autorec.preprocessing import FieldEncoder

N_ROWS, BATCH = 400, 32
ENCODER = FieldEncoder(
    sequence_features=["seen"], shared_vocabularies={"seen": "item"}, max_length=3, min_frequency=1
)
SMALL = {"network": "fm", "batch_size": BATCH, "embedding_dim": 2, "max_epochs": 1}


@pytest.fixture(scope="module")
def visits():
    """Items, and lists of items of the same vocabulary."""
    rng = np.random.default_rng(0)
    items = [f"i{k}" for k in range(200)]
    X = pd.DataFrame(
        {
            "item": rng.choice(items, N_ROWS),
            "seen": [list(rng.choice(items, 3)) for _ in range(N_ROWS)],
        }
    )
    return X, rng.integers(0, 2, N_ROWS)


def fit(X, y):
    return CTRClassifier(encoder=ENCODER, random_state=0, **SMALL).fit(X, y)


def test_rows_that_a_list_shares_count_once_for_row_wise_updates(visits, monkeypatch):
    model = fit(*visits)
    table = model.net_.module_.embedding
    n_rows, ids_of_a_batch = table.n_rows, BATCH * (1 + 3)
    assert n_rows == model.encoder_.n_ids_[0] == model.encoder_.sequence_n_ids_[0]
    for factor, sparse in ((1.5 * n_rows, False), (0.9 * n_rows, True)):
        # Counted for the list as well, the rows would exceed both.
        monkeypatch.setattr(_context, "LAZY_TABLE_FACTOR", factor / ids_of_a_batch)
        assert fit(*visits).net_.module_.embedding.sparse is sparse


def test_rows_that_a_list_shares_count_once_for_the_memory(visits, monkeypatch):
    needed = 5 * 4 * fit(*visits).net_.module_.embedding.n_rows * (2 + 1)
    monkeypatch.setattr(_memory, "available_memory", lambda: needed)
    fit(*visits)
    monkeypatch.setattr(_memory, "available_memory", lambda: needed - 1)
    with pytest.raises(ValueError, match="Column 'item' has most ids"):
        fit(*visits)
