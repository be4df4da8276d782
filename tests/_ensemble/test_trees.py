"""Sums of trees and boosting over statistics: the bits of scikit-learn's trees, nothing learned
from noise.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score

from sklearn_autorec._ensemble._boosted import StatisticsBoosting
from sklearn_autorec._ensemble._codes import FieldCodes
from sklearn_autorec._ensemble._trees import FEW_ROWS, TreeSum
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._table import EncodedTable


def numbers_with_gaps(n=2000):
    """Features of which NaN means much in one and little in another (so that it goes both ways),
    and a target.
    """
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 4)).round(2)
    y = X[:, 0] * X[:, 1] + np.sin(3 * X[:, 2])
    gone = rng.random(X.shape) < 0.15
    y += np.where(gone[:, 0], 2, 0) - np.where(gone[:, 1], 2, 0)
    X[gone] = np.nan
    return X, y


@pytest.mark.parametrize("logistic", [False, True])
def test_the_sum_is_that_of_scikit_learn(logistic):
    X, y = numbers_with_gaps()
    if logistic:
        boosting = HistGradientBoostingClassifier(max_iter=50, early_stopping=False).fit(X, y > 0)
        expected = boosting.decision_function(X)
    else:
        boosting = HistGradientBoostingRegressor(max_iter=50, early_stopping=False).fit(X, y)
        expected = boosting.predict(X)
    trees = TreeSum.of(boosting)
    assert len(trees) == 50 and trees.n_features == 4
    gaps = np.isnan(X[np.arange(len(X)), 0])
    assert (
        gaps.any()
        and trees.missing_left.any()
        and not trees.missing_left[trees.left != trees.right].all()
    )
    whole = trees.predict(X)
    assert_allclose(whole, expected, rtol=1e-12, atol=1e-12)
    assert len(np.unique(whole)) > 500


def test_few_rows_have_the_bits_of_many():
    X, y = numbers_with_gaps()
    trees = TreeSum.of(HistGradientBoostingRegressor(max_iter=60, early_stopping=False).fit(X, y))
    X = np.vstack([X, np.full((1, 4), np.nan), np.full((1, 4), np.inf), np.full((1, 4), -np.inf)])
    # A row on a threshold goes left on both ways.
    inner = np.flatnonzero(trees.left != np.arange(len(trees.left)))[:40]
    on_threshold = np.zeros((len(inner), 4))
    on_threshold[np.arange(len(inner)), trees.feature[inner]] = trees.threshold[inner]
    X = np.vstack([X, on_threshold])
    whole = trees.predict(X)
    for n in (1, 2, FEW_ROWS, FEW_ROWS + 1):
        for start in (*range(0, 40, n), len(X) - 60, len(X) - n, 2000):
            assert_array_equal(trees.predict(X[start : start + n]), whole[start : start + n])
    narrow = X.astype(np.float32)
    whole = trees.predict(narrow)
    assert_array_equal(
        np.concatenate([trees.predict(narrow[i : i + 1]) for i in range(2000, len(X))]),
        whole[2000:],
    )


def test_the_first_trees_are_those_of_a_shorter_boosting():
    X, y = numbers_with_gaps()
    fitted = [
        HistGradientBoostingRegressor(max_iter=n, early_stopping=False).fit(X, y) for n in (30, 12)
    ]
    long, short = map(TreeSum.of, fitted)
    assert_array_equal(long.first(12).predict(X), short.predict(X))
    assert long.first(12).nbytes == short.nbytes < long.nbytes
    assert_array_equal(long.first(99).predict(X), long.predict(X))
    assert_array_equal(long.first(0).predict(X), np.full(len(X), y.mean()))
    assert_array_equal(long.first(0).predict(X[:3]), np.full(3, y.mean()))


def test_trees_pickle_as_arrays():
    X, y = numbers_with_gaps()
    boosting = HistGradientBoostingRegressor(max_iter=60, early_stopping=False).fit(X, y)
    trees = TreeSum.of(boosting)
    whole = trees.predict(X)  # makes walkers
    stored = pickle.dumps(trees)
    assert len(stored) < trees.nbytes + 2000 < len(pickle.dumps(boosting)) / 2
    assert_array_equal(pickle.loads(stored).predict(X), whole)
    assert_array_equal(TreeSum(**trees.state()).predict(X[:5]), whole[:5])


def test_a_tree_of_one_leaf():
    trees = TreeSum.of(
        HistGradientBoostingRegressor(max_iter=3).fit(np.ones((40, 1)), np.arange(40.0))
    )
    assert trees.depth == 0
    assert_array_equal(
        trees.predict(np.zeros((20, 1))), np.repeat(trees.predict(np.zeros((1, 1))), 20)
    )


# codes
# -----------------------------------------------------------------------------------------------


def test_codes_are_ids_and_bins_of_equal_rows():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.choice(list("xyz"), 2000), "n": rng.normal(size=2000)})
    X.loc[::10, "n"] = np.nan
    encoder = FieldEncoder().fit(X)
    table = encoder.encode(X)
    codes = FieldCodes.learned(table, encoder.n_ids_)
    ids, bins = codes.columns(table)
    assert_array_equal(ids, table.ids[:, 0])
    assert_array_equal(bins == 0, X["n"].isna())
    counts = np.bincount(bins)[2:]
    assert len(counts) == 16 and counts.min() > 0.8 * counts.max()
    order = np.argsort(X["n"].to_numpy())[:1800]
    assert (np.diff(bins[order]) >= 0).all()
    assert codes.sizes == [encoder.n_ids_[0], bins.max() + 1]


def test_a_value_on_an_edge_is_in_the_bin_above():
    codes = FieldCodes.of_edges([np.array([1.0, 2.0], np.float32)], [])
    numeric = np.array([[0.5, 0], [1, 0], [1.5, 0], [2, 0], [3, 0], [0, 1]], np.float32)
    table = EncodedTable(np.zeros((6, 0), np.int32), numeric, np.zeros((6, 0), np.int32))
    assert codes.columns(table)[0].tolist() == [2, 3, 3, 4, 4, 0]
    assert codes.sizes == [5]


# boosting
# --------------------------------------------------------------------------------------------


def ids_and_number(seed, n=5000, cardinality=400):
    """Two ids that act together, an id of noise, a number with a step."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "a": rng.integers(30, size=n).astype(str),
            "b": rng.integers(30, size=n).astype(str),
            "noise": rng.integers(cardinality, size=n).astype(str),
            "price": rng.normal(size=n),
        }
    )
    effects = np.random.default_rng(9).normal(size=(30, 30)) * 2
    score = effects[X["a"].astype(int), X["b"].astype(int)] + 2 * (X["price"] > 0.5) - 0.5
    y = (rng.random(n) < 1 / (1 + np.exp(-score))).astype(float)
    return X, y.to_numpy(), score.to_numpy()


def encoded(X, n_train):
    encoder = FieldEncoder().fit(X[:n_train])
    return encoder, encoder.encode(X[:n_train]), encoder.encode(X[n_train:])


@pytest.mark.parametrize("logistic", [True, False])
def test_boosting_finds_the_cross_and_the_step(logistic):
    X, y, score = ids_and_number(0, n=12_000)
    y = y if logistic else score + np.random.default_rng(1).normal(size=len(y))
    encoder, train, test = encoded(X, 8000)
    model = StatisticsBoosting(logistic, max_trees=60)
    model.fit(train, encoder.n_ids_, y[:8000], rng=np.random.RandomState(0), n_trees=60)
    assert model.crosses[0] == (0, 1)
    found = np.corrcoef(model.logits(test), score[8000:])[0, 1]
    without = StatisticsBoosting(logistic)
    without.fit(train, encoder.n_ids_, y[:8000], rng=np.random.RandomState(0), keys=[], n_trees=60)
    assert found > 0.75 and found > np.corrcoef(without.logits(test), score[8000:])[0, 1] + 0.2


def test_boosting_learns_nothing_from_noise_of_many_values():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"c{i}": rng.integers(1500, size=8000).astype(str) for i in range(4)})
    y = rng.integers(2, size=8000).astype(float)
    encoder, train, test = encoded(X, 6000)

    def loss(logits):
        return np.mean(np.logaddexp(0, logits) - y[6000:] * logits)

    for keys, n_crosses in ((None, 6), ([], 0)):  # no pair gains; they are there for their counts
        boosting = StatisticsBoosting(True, smoothing=1.0)
        rng = np.random.RandomState(0)
        boosting.fit(train, encoder.n_ids_, y[:6000], rng=rng, keys=keys, n_trees=30)
        assert len(boosting.crosses) == n_crosses
        assert loss(boosting.logits(test)) < np.log(2) + 0.03
        assert abs(roc_auc_score(y[6000:], boosting.logits(test)) - 0.5) < 0.03
    # The control: trees that were grown over what knows the target are sure of themselves, and
    # wrong.
    control = HistGradientBoostingClassifier(max_iter=60, early_stopping=False)
    control.fit(boosting.features(train), y[:6000])
    assert loss(control.decision_function(boosting.features(test))) > np.log(2) + 0.3


def test_held_out_rows_stop_the_trees(monkeypatch):
    X, y, _ = ids_and_number(0)
    grown, real = [], TreeSum.of
    monkeypatch.setattr(TreeSum, "of", lambda boosting: grown.append(real(boosting)) or grown[-1])
    encoder, train, valid = encoded(X, 4000)
    held_out = valid, y[4000:], None
    model = StatisticsBoosting(True, learning_rate=0.4, n_bags=2)
    model.fit(train, encoder.n_ids_, y[:4000], rng=np.random.RandomState(0), valid=held_out)
    lengths = [len(trees) for trees in model.trees]
    assert max(lengths) < 100

    def loss(logits):
        return np.mean(np.logaddexp(0, logits) - y[4000:] * logits)

    features = model.features(valid)
    # Of all that were grown no other prefix is better.
    for trees, all_trees in zip(model.trees, grown, strict=True):
        losses = [loss(all_trees.first(n).predict(features)) for n in range(1, len(all_trees) + 1)]
        assert np.argmin(losses) == len(trees) - 1 < len(all_trees) - 1


@pytest.mark.parametrize("n_rows", [FEW_ROWS, 200])
def test_logits_are_the_mean_over_bags_and_missing_numbers_stay_missing(n_rows):
    X, y, _ = ids_and_number(3, n=1500)
    X.loc[::7, "price"] = np.nan
    encoder, train, test = encoded(X, 1300)
    model = StatisticsBoosting(True, n_bags=3, max_crosses=0)
    model.fit(train, encoder.n_ids_, y[:1300], rng=np.random.RandomState(0), n_trees=5)
    test = test.take(np.arange(n_rows))
    features = model.features(test)
    assert_array_equal(np.isnan(features[:, 0]), X["price"].isna()[1300 : 1300 + n_rows])
    bags = [trees.predict(features) for trees in model.trees]
    assert_allclose(model.logits(test), np.mean(bags, axis=0))
    assert not np.allclose(bags[0], bags[1])


def test_boosting_keeps_bits_over_rows_and_pickles():
    X, y, _ = ids_and_number(1, n=3000)
    encoder, train, test = encoded(X, 2500)

    def fitted():
        model = StatisticsBoosting(True)
        return model.fit(train, encoder.n_ids_, y[:2500], rng=np.random.RandomState(0), n_trees=20)

    model = fitted()
    whole = model.logits(test)
    assert_array_equal(fitted().logits(test), whole)
    assert_array_equal(
        np.concatenate([model.logits(test.take(np.array([i]))) for i in range(40)]), whole[:40]
    )
    stored = pickle.dumps(model)
    held = sum(trees.nbytes for trees in model.trees)
    held += (
        sum(a.nbytes for s in (model.statistics.combinations, model.statistics.means) for a in s)
        * 2
    )
    assert len(stored) < held + 10_000
    assert_array_equal(pickle.loads(stored).logits(test), whole)


def test_weights_count_rows_and_zero_leaves_them_out():
    X, y, _ = ids_and_number(2, n=3000)
    encoder, train, test = encoded(X, 2500)
    weight = (np.arange(2500) % 2).astype(float)
    spoiled = np.where(weight > 0, y[:2500], 1 - y[:2500])
    model = StatisticsBoosting(True, n_bags=1)
    model.fit(
        train,
        encoder.n_ids_,
        spoiled,
        weight,
        rng=np.random.RandomState(0),
        n_trees=40,
        keys=[(0, 1)],
    )
    assert roc_auc_score(y[2500:], model.logits(test)) > 0.6


def test_a_table_without_numbers_and_ids_is_refused():
    X = pd.DataFrame({"tags": [["a"], ["b", "a"]] * 20})
    encoder = FieldEncoder().fit(X)
    with pytest.raises(ValueError, match="neither numbers nor categories"):
        StatisticsBoosting(True).fit(
            encoder.encode(X), [], np.arange(40.0) % 2, rng=np.random.RandomState(0)
        )
