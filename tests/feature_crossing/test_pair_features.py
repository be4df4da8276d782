"""Statistics of pairs and the machine that ranks pairs, against plain numpy and pandas."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from small_tables import planted_crosses

from sklearn_autorec.feature_crossing._aefe._pair_features import (
    Feature,
    Statistic,
    features_of,
    group_means,
    random_folds,
)
from sklearn_autorec.feature_crossing._aefe._pair_strength import (
    FactorizationMachine,
    fit_machine,
    mean_products,
    pair_strengths,
)
from sklearn_autorec.feature_crossing._distinct import distinct_groups


def options(min_count=1, max_ids=2**20, smoothing=0.0):
    return SimpleNamespace(min_count=min_count, max_ids=max_ids, smoothing=smoothing)


@pytest.fixture
def rows():
    """Ids of three columns, 0 missing, and a target."""
    rng = np.random.default_rng(0)
    ids = {i: rng.integers(0, size, 500) for i, size in enumerate((6, 9, 4))}
    # 1 is for unseen values.
    ids = {i: np.where(column == 1, 0, column) for i, column in ids.items()}
    sizes = {0: 6, 1: 9, 2: 4}
    return ids, sizes, rng.integers(2, size=500).astype(float)[:, None]


def test_counts_partners_and_shares(rows):
    ids, sizes, y = rows
    table = pd.DataFrame({"a": ids[0], "b": ids[1]})
    both = table.groupby(["a", "b"])["a"].transform("size")
    known = table["b"].where(table["b"] > 0)
    expected = {
        Feature("count", (0, 1)): np.log1p(both),
        Feature("nunique", (0, 1)): known.groupby(table["a"]).transform("nunique"),
        Feature("nunique", (1, 0)): table["a"]
        .where(table["a"] > 0)
        .groupby(table["b"])
        .transform("nunique"),
        Feature("share", (0, 1)): both / table.groupby("a")["a"].transform("size"),
        Feature("share", (1, 0)): both / table.groupby("b")["b"].transform("size"),
    }
    for feature, column in expected.items():
        statistic = Statistic(feature, options())
        found = statistic.fit_transform(ids, sizes, y, np.zeros(500, int))
        # Rows where the column itself is missing have the id of missing.
        if feature.kind == "nunique":
            assert found.shape == (500, 1)
        assert_allclose(found[:, 0], column, rtol=1e-12)
        assert_array_equal(found, statistic.transform(ids))


def test_what_was_not_seen_counts_nothing(rows):
    ids, sizes, y = rows
    # 1: a value that training did not have.
    new = {0: np.array([5, 1]), 1: np.array([1, 3]), 2: np.array([2, 2])}
    for kind in ("count", "share"):
        assert Statistic(Feature(kind, (0, 1)), options()).fit(ids, sizes, y).transform(
            new
        ).ravel().tolist() == [0, 0]
    assert (
        Statistic(Feature("nunique", (0, 1)), options()).fit(ids, sizes, y).transform(new)[1, 0]
        == 0
    )
    mean = Statistic(Feature("mean", (0, 1)), options()).fit(ids, sizes, y).transform(new)
    assert_allclose(mean, y.mean())


def test_rare_combinations_are_treated_like_new_ones(rows):
    ids, sizes, y = rows
    both = pd.Series(ids[0] * 10 + ids[1])
    rare = (both.groupby(both).transform("size") < 9).to_numpy() & (both > 0).to_numpy()
    assert 0 < rare.sum() < 400
    count = (
        Statistic(Feature("count", (0, 1)), options(min_count=9))
        .fit(ids, sizes, y)
        .transform(ids)[:, 0]
    )
    assert_array_equal(count == 0, rare)
    statistic = Statistic(Feature("mean", (0, 1)), options(min_count=9)).fit(ids, sizes, y)
    assert_allclose(statistic.transform(ids)[rare], y[rare].mean())
    assert_allclose(statistic.transform({0: np.array([1]), 1: np.array([1])}), y[rare].mean())


@pytest.mark.parametrize("smoothing", [0.0, 7.5])
def test_target_means(rows, smoothing):
    ids, sizes, y = rows
    table = pd.DataFrame({"a": ids[0], "b": ids[1], "y": y[:, 0]})
    groups = table.groupby(["a", "b"])["y"]
    expected = (groups.transform("sum") + smoothing * y.mean()) / (
        groups.transform("size") + smoothing
    )
    statistic = Statistic(Feature("mean", (0, 1)), options(smoothing=smoothing)).fit(ids, sizes, y)
    assert_allclose(statistic.transform(ids)[:, 0], expected)


@pytest.mark.parametrize("smoothing", [0.0, 3.0, "auto"])
@pytest.mark.parametrize("columns", [(2,), (0, 1)])
def test_a_training_row_has_the_mean_of_other_folds(rows, smoothing, columns):
    ids, sizes, y = rows
    folds = random_folds(y[:, 0], 5, np.random.RandomState(0), True)
    feature = Feature("mean", columns)
    found = Statistic(feature, options(smoothing=smoothing)).fit_transform(ids, sizes, y, folds)
    for fold in range(5):
        out, inside = folds != fold, folds == fold
        part = Statistic(feature, options(smoothing=smoothing))
        part.fit({i: c[out] for i, c in ids.items()}, sizes, y[out])
        expected = part.transform({i: c[inside] for i, c in ids.items()})
        assert_allclose(found[inside], expected)


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_row_never_sees_its_own_target(rows, kind):
    ids, sizes, y = rows
    rng = np.random.default_rng(1)
    if kind == "numbers":
        y = rng.normal(size=(500, 1))
    folds = random_folds(y[:, 0], 5, np.random.RandomState(0), False)
    statistic = Statistic(Feature("mean", (0, 2)), options(smoothing="auto"))
    before = statistic.fit_transform(ids, sizes, y, folds)
    moved = 0
    for row in rng.choice(500, 40, replace=False):
        other = y.copy()
        other[row] = 1 - y[row] if kind == "classes" else 50.0
        after = statistic.fit_transform(ids, sizes, other, folds)
        assert_allclose(after[row], before[row], rtol=1e-9)
        moved += (np.abs(after - before) > 1e-9).any()
    assert moved == 40  # others do see it


def test_auto_smoothing_by_moments():
    rng = np.random.default_rng(0)
    groups = rng.integers(40, size=4000)
    effect = rng.normal(scale=0.7, size=40)
    y = effect[groups] + rng.normal(scale=2.0, size=4000)
    counts = np.bincount(groups).astype(float)
    sums, squares = np.bincount(groups, y)[:, None], np.bincount(groups, y * y)[:, None]
    found = group_means(counts, sums, squares)[:, 0]
    own, mean = sums[:, 0] / counts, y.mean()
    within = sum(((y[groups == k] - own[k]) ** 2).sum() for k in range(40)) / (4000 - 40)
    between = ((counts * (own - mean) ** 2).sum() - 39 * within) / (4000 - (counts**2).sum() / 4000)
    m = within / between
    assert 4 < m < 16  # truth: 4 / 0.49
    assert_allclose(found, (sums[:, 0] + m * mean) / (counts + m))
    # Groups that differ by chance only have one mean, or nearly so; groups without rows have the
    # mean of all.
    noise = rng.normal(size=4000)
    flat = group_means(
        counts, np.bincount(groups, noise)[:, None], np.bincount(groups, noise**2)[:, None]
    )
    assert flat.std() < 0.3 * (np.bincount(groups, noise) / counts).std()
    assert_allclose(
        group_means(np.array([2.0, 0]), np.array([[2.0], [0]]), np.array([[2.0], [0]]))[1], 1.0
    )
    # Several outputs share one m.
    shares = np.hstack([sums, counts[:, None] - sums])
    two = group_means(counts, shares, np.hstack([squares, counts[:, None] - 2 * sums + squares]))
    assert_allclose(two, np.column_stack([found, 1 - found]))


def test_groups_of_one_row_and_of_one_value():
    ones = np.ones(30)
    y = np.random.default_rng(0).integers(2, size=30).astype(float)[:, None]
    assert_allclose(group_means(ones, y, y), y.mean())  # unique ids: nothing to tell an effect by
    assert np.isfinite(group_means(ones, y, y, 0.0)).all()
    zero = np.zeros((3, 1))
    assert_array_equal(group_means(np.zeros(3), zero, zero), zero)


def test_unique_ids_give_nothing_away():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=2000)
    unique, twice = np.arange(2000) + 2, np.arange(2000) // 2 + 2
    folds = random_folds(y, 5, np.random.RandomState(0), True)
    for ids, smoothing in itertools.product((unique, twice), (0.0, "auto")):
        statistic = Statistic(Feature("mean", (0,)), options(smoothing=smoothing))
        found = statistic.fit_transform({0: ids}, {0: 2002}, y[:, None].astype(float), folds)[:, 0]
        assert abs(roc_auc_score(y, found) - 0.5) < 0.04
    # The control: means that include the row itself.
    leak = Statistic(Feature("mean", (0,)), options()).fit(
        {0: twice}, {0: 2002}, y[:, None].astype(float)
    )
    assert roc_auc_score(y, leak.transform({0: twice})[:, 0]) > 0.8


def test_folds():
    y = np.array([0] * 53 + [1] * 12)
    folds = random_folds(y, 5, np.random.RandomState(0), True)
    assert max(np.bincount(folds)) - min(np.bincount(folds)) <= 1
    for value in (0, 1):
        counts = np.bincount(folds[y == value], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert (folds != random_folds(y, 5, np.random.RandomState(1), True)).any()
    assert sorted(random_folds(np.arange(3.0), 5, np.random.RandomState(0), False)) == [0, 1, 2]


def test_features_and_their_names():
    labels = ["user", "day"]
    features = features_of((1, 0), ("count", "nunique", "ratio", "target"))
    names = [name for feature in features for name in feature.names(labels)]
    assert names == [
        "count(user, day)",
        "nunique(day | user)",
        "nunique(user | day)",
        "share(day | user)",
        "share(user | day)",
        "mean(y | user, day)",
    ]
    assert features_of((0, 1), ("concat",)) == [Feature("mean", (0, 1))]
    assert features[-1].names(labels, ["a", "b", "c"])[2] == "mean(y=c | user, day)"


def test_distinct_groups():
    ids = {
        0: np.array([2, 2, 3]),
        1: np.array([5, 5, 5]),
        2: np.array([9, 9, 0]),
        4: np.array([2, 3, 2]),
    }
    assert distinct_groups(ids) == [[0, 2], [4]]


# the factorization machine
# -----------------------------------------------------------------------------


def test_logits_are_the_formula():
    model = FactorizationMachine(9, 2, 3, torch.Generator().manual_seed(0))
    model.weights.normal_(generator=torch.Generator().manual_seed(1))
    model.bias.copy_(torch.tensor([0.5, -0.5]))
    ids = np.array([[0, 3, 7], [2, 4, 8]])
    logits, norm = model(torch.from_numpy(ids))
    v, w = model.factors.numpy(), model.weights.numpy()
    for n, c in itertools.product(range(2), range(2)):
        pairs = sum(v[i, c] @ v[j, c] for i, j in itertools.combinations(ids[n], 2))
        assert_allclose(logits[n, c], model.bias.numpy()[c] + w[ids[n], c].sum() + pairs, rtol=1e-5)
    assert_allclose(norm, (v[ids] ** 2).sum() / 2, rtol=1e-5)


def test_strengths_are_mean_products_without_main_effects():
    vectors = np.random.default_rng(0).normal(size=(50, 4, 2, 3)) + 3
    found = mean_products(vectors)
    centred = vectors - vectors.mean(0)
    for i, j in itertools.combinations(range(4), 2):
        products = [[centred[n, i, c] @ centred[n, j, c] for c in range(2)] for n in range(50)]
        assert_allclose(found[i, j], np.abs(products).mean())
    assert_array_equal(found, found.T)
    # A field with one vector for all rows interacts with nothing.
    vectors[:, 1] = vectors[0, 1]
    assert_allclose(mean_products(vectors)[1], 0, atol=1e-12)


def fields(seed, n=8000, noise=True, **problem):
    X, y, _ = planted_crosses(n, seed, **problem)
    rng = np.random.default_rng(seed)
    if noise:
        X["many"], X["some"] = rng.integers(300, size=n), rng.integers(50, size=n)
    return [pd.factorize(X[name])[0] for name in X], y


FIT = {"n_factors": 8, "max_epochs": 30, "seed": 0}


def strongest(strengths):
    pairs = itertools.combinations(range(len(strengths)), 2)
    return sorted(pairs, key=lambda pair: -strengths[pair])


@pytest.mark.parametrize("seed", range(5))
def test_planted_pairs_are_the_strongest(seed):
    ids, y = fields(seed)
    found = pair_strengths(ids, y[:, None], True, **FIT)
    assert set(strongest(found)[:2]) == {(1, 2), (3, 4)}
    # The control: shuffled labels.
    shuffled = pair_strengths(ids, np.random.default_rng(seed).permutation(y)[:, None], True, **FIT)
    assert not {(1, 2), (3, 4)} <= set(strongest(shuffled)[:5])
    assert shuffled[1, 2] + shuffled[3, 4] < 0.3 * (found[1, 2] + found[3, 4])


def test_numbers_and_several_outputs():
    ids, y = fields(0, task="rating")
    found = pair_strengths(ids, ((y - y.mean()) / y.std())[:, None], False, **FIT)
    assert set(strongest(found)[:2]) == {(1, 2), (3, 4)}
    ids, y = fields(1, task="multiclass", noise=False)
    found = pair_strengths(ids, (y[:, None] == np.arange(3)).astype(float), True, **FIT)
    assert set(strongest(found)[:2]) == {(1, 2), (3, 4)}


def test_training_stops_and_keeps_the_best_epoch():
    ids, y = fields(0, n=1500)
    table = np.column_stack(ids) + np.cumsum([0, *[int(c.max()) + 1 for c in ids[:-1]]])
    n_ids = int(table.max()) + 1
    state = torch.get_rng_state()
    long, again = (fit_machine(table, n_ids, y[:, None], True, 8, 30, 0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(long.factors, again.factors)
    none = fit_machine(table, n_ids, y[:, None], True, 8, 30, 0, within=lambda: False)
    start = FactorizationMachine(n_ids, 1, 8, torch.Generator().manual_seed(0)).factors
    assert torch.equal(none.factors, start) and not torch.equal(long.factors, start)
