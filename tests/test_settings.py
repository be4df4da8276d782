"""What parameters that are left at None mean, by the number of rows and the size of a batch."""

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec._ensemble import _boosted
from sklearn_autorec.estimators import _settings as settings
from sklearn_autorec.estimators._settings import (
    batch_size,
    embedding_l2,
    learning_rate,
    most_epochs,
)
from sklearn_autorec.preprocessing import FieldEncoder


@pytest.mark.parametrize("make", [CTRClassifier, RatingRegressor])
def test_l2_falls_with_larger_batches_of_the_default_recipe_alone(make):
    assert embedding_l2(make(), 32) == embedding_l2(make(), 512) == 0.3
    assert embedding_l2(make(), 4096) == pytest.approx(0.0375)
    assert embedding_l2(make(embedding_l2=0.3), 4096) == 0.3
    assert embedding_l2(make(network="fm"), 4096) == 0.0


@pytest.mark.parametrize("make", [CTRClassifier, RatingRegressor])
def test_epochs_follow_the_rows_with_the_default_network_alone(make):
    assert most_epochs(make(), 99_999) == 10 and most_epochs(make(), 100_000) == 20
    assert most_epochs(make(network="fm"), 100) == 20
    assert most_epochs(make(max_epochs=7), 100) == most_epochs(make(max_epochs=7), 10**6) == 7


@pytest.mark.parametrize("make", [CTRClassifier, RatingRegressor])
def test_batches_follow_the_rows(make):
    assert [batch_size(make(), n) for n in (10, 2000, 20_000, 10**7)] == [32, 64, 1024, 4096]
    assert [batch_size(make(network="fm"), n) for n in (10, 5000, 20_000)] == [32, 128, 512]
    assert batch_size(make(batch_size=7), 10**6) == 7


@pytest.mark.parametrize("make", [CTRClassifier, RatingRegressor])
def test_the_rate_follows_the_rows_with_the_default_network_alone(make):
    assert learning_rate(make(), 99_999) == 5e-3 and learning_rate(make(), 100_000) == 4e-3
    assert learning_rate(make(network="fm"), 100) == 1e-3
    assert learning_rate(make(lr=0.1), 100) == learning_rate(make(lr=0.1), 10**6) == 0.1


def test_a_fit_takes_the_values_that_none_stands_for(monkeypatch):
    monkeypatch.setattr(settings, "EPOCHS_OF_FEW", 3)
    monkeypatch.setattr(settings, "MOST_EPOCHS", 5)
    monkeypatch.setattr(settings, "MANY_ROWS", 150)
    rng = np.random.default_rng(0)
    X, y = pd.DataFrame({"a": rng.integers(9, size=160).astype(str)}), rng.integers(2, size=160)
    plain = {"early_stopping": False, "wide": None, "target_statistics": False, "random_state": 0}
    assert len(CTRClassifier(**plain).fit(X[:140], y[:140]).history_) == 3
    assert len(CTRClassifier(**plain).fit(X, y).history_) == 5


def test_trees_and_statistics_follow_the_rows(monkeypatch):
    monkeypatch.setattr(_boosted, "MANY_ROWS", 1500)
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"c{i}": rng.integers(40, size=3000).astype(str) for i in range(3)})
    y = (rng.random(3000) < 0.3 + 0.4 * (X["c0"].astype(int) % 2 ^ X["c1"].astype(int) % 2)).astype(
        float
    )

    def grown(n, **options):
        encoder = FieldEncoder()
        table = encoder.fit_encode(X[:n])
        boosting = _boosted.StatisticsBoosting(True, n_bags=1, min_samples_leaf=5, **options)
        return boosting.fit(table, encoder.n_ids_, y[:n], rng=np.random.RandomState(0), n_trees=3)

    def leaves(boosting):
        trees = boosting.trees[0]
        return (trees.left == trees.right).sum() / len(trees.roots)

    few, many = grown(1400), grown(3000)
    assert (few.statistics.n_folds, few.statistics.smoothing) == (5, 10.0)
    assert (many.statistics.n_folds, many.statistics.smoothing) == (20, 2.0)
    assert leaves(few) <= 8 < leaves(many) <= 31
    own = grown(3000, max_leaf_nodes=4, n_folds=3, smoothing=7.0)
    assert (own.statistics.n_folds, own.statistics.smoothing) == (3, 7.0) and leaves(own) <= 4
