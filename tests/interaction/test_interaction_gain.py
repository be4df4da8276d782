"""Interaction gain: information against scikit-learn's, planted pairs, noise of many values."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.interaction import InteractionGain
from sklearn_autorec.interaction._interaction_gain import (
    EXACT_ROWS,
    chance_information,
    in_bins,
    information,
    interaction_gains,
)

OPTIONS = {"network": "fm", "embedding_dim": 4, "max_epochs": 1, "device": "cpu"}


def fit(search, X, y, estimator=CTRClassifier, **options):
    return estimator(search=search, **{"random_state": 0, **OPTIONS, **options}).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_information_is_that_of_scikit_learn_less_what_chance_gives(n_classes):
    rng = np.random.default_rng(0)
    cells, y = rng.integers(0, 60, 500), rng.integers(0, n_classes, 500)
    cells = np.unique(cells, return_inverse=True)[1]
    table = contingency_matrix(cells, y)
    expected = mutual_info_score(cells, y) - expected_mutual_information(table, 500)
    found = information(cells, y, n_classes, chance_information(np.bincount(y)))
    assert found == pytest.approx(expected, abs=1e-10)


def test_large_cells_take_the_expansion():
    rng = np.random.default_rng(0)
    cells, y = rng.integers(0, 3, 3000), rng.integers(0, 2, 3000)
    assert np.bincount(cells).min() > EXACT_ROWS
    table = contingency_matrix(cells, y)
    expected = mutual_info_score(cells, y) - expected_mutual_information(table, 3000)
    found = information(cells, y, 2, chance_information(np.bincount(y)))
    assert found == pytest.approx(expected, abs=2e-6)
    assert expected_mutual_information(table, 3000) > 3e-4


def test_gains_of_exclusive_or_copies_and_noise():
    rng = np.random.default_rng(0)
    a, b, c = rng.integers(0, 2, (3, 4000))
    many = rng.integers(0, 2000, 4000)  # most pairs with it are of one row
    gains = interaction_gains(
        np.column_stack([a, b, c, c, many]), a ^ b, [*combinations(range(5), 2)]
    )
    by_pair = dict(zip(combinations(range(5), 2), gains, strict=True))
    assert by_pair[0, 1] == pytest.approx(np.log(2), abs=1e-3)
    assert max(abs(gain) for pair, gain in by_pair.items() if pair != (0, 1)) < 0.02
    copies = interaction_gains(np.column_stack([a, a]), a, [(0, 1)])
    assert copies[0] == pytest.approx(-np.log(2), abs=1e-3)


def test_planted_pairs_are_found_and_not_with_shuffled_labels():
    shuffled, pairs = [], [*combinations(range(10), 2)]
    for seed in range(5):
        X, y, truth = make_ctr(
            20_000, cardinality=10, pairs=5, informative_fields=3, random_state=seed, ids="int"
        )
        gains = interaction_gains(X.to_numpy(), y, pairs)
        assert {pairs[i] for i in np.argsort(-gains)[:5]} == {*truth.pairs}
        y = np.random.default_rng(seed).permutation(y)
        gains = interaction_gains(X.to_numpy(), y, pairs)
        shuffled.append(roc_auc_score([pair in truth.pairs for pair in pairs], gains))
    assert 0.25 < np.mean(shuffled) < 0.75
    X, y, truth = make_ctr(5000, n_fields=5, cardinality=10, pairs=2, random_state=0)
    model = fit(InteractionGain(n_interactions=2), X, y)
    assert model.interactions_ == [(f"f{i}", f"f{j}") for i, j in truth.pairs]


def test_numbers_lists_and_ratings_count():
    rng = np.random.default_rng(0)
    X, _, _ = make_ctr(4000, n_fields=2, cardinality=4, pairs=0, n_numeric=1, n_sequences=1,
                       random_state=0)  # fmt: skip
    X.loc[::50, "x0"] = None
    sign = np.where(X["f0"].isin(["v0", "v1"]), 1, -1)
    y = sign * np.sign(X["x0"].fillna(0)) + 0.1 * rng.normal(size=len(X))
    model = fit(InteractionGain(n_interactions=1), X, y, RatingRegressor)
    assert model.interactions_ == [("f0", "x0")] and len(model.interaction_scores_) == 6
    first = np.array([cell[0] if len(cell) else "" for cell in X["s0"]])
    click = ((first > "i15") ^ (sign > 0)).astype(int)
    assert fit(InteractionGain(n_interactions=1), X, click).interactions_ == [("f0", "s0")]


def test_bins_have_equal_rows():
    assert np.bincount(in_bins(np.arange(100.0), 10)).tolist() == [10] * 10
    assert np.unique(in_bins(np.zeros(5), 10)).size == 1


def test_odd_tables_and_sizes():
    X, y, _ = make_ctr(300, n_fields=4, pairs=1, missing_rate=0.1, random_state=0)
    X["constant"] = "c"
    model = fit(InteractionGain(n_interactions=0.2), X, y, batch_size=299, members=2)
    assert len(model.interactions_) == 2
    odd = X[:3].assign(f0="new")
    assert np.isfinite(model.predict_proba(odd)).all()
    assert fit(InteractionGain(n_interactions=0), X, y).interactions_ == []
    with pytest.raises(ValueError, match="n_interactions=11 is more than the 10 pairs"):
        fit(InteractionGain(n_interactions=11), X, y)
    with pytest.raises(ValueError, match="'n_bins' parameter of InteractionGain"):
        fit(InteractionGain(n_bins=1), X, y)
    with pytest.raises(ValueError, match="at least 2 fields, the table has 1"):
        fit(InteractionGain(), X[["f0"]], y)
