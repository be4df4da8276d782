"""Statistics of combinations against plain loops; which crosses are chosen."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from sklearn_autorec.feature_crossing._keys import choose_keys
from sklearn_autorec.feature_crossing._statistics import FEW_ROWS, Statistics, spread_folds

KEYS = [(0,), (1,), (0, 1), (0, 1, 2)]
SIZES = [9, 6, 5]
SMOOTHING = 3.0


def coded_rows(seed=0, n=300, n_targets=1):
    """Codes of three columns, targets that depend on them, and weights of which some are 0."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(size, size=n) for size in SIZES]
    y = codes[0][:, None] * np.arange(1, n_targets + 1) + rng.normal(size=(n, n_targets))
    return codes, (y[:, 0] if n_targets == 1 else y), rng.integers(3, size=n).astype(float)


def plain(codes, y, weight, seen, row, key, scale=1.0):
    """Means and log count of a row's combination from the rows of a mask, by a loop."""
    y = y.reshape(len(y), -1)
    prior = np.average(y, axis=0, weights=weight)
    count, total = 0.0, np.zeros(y.shape[1])
    for other in np.flatnonzero(seen):
        if all(codes[i][other] == codes[i][row] for i in key):
            count += weight[other]
            total += weight[other] * y[other]
    return (total + SMOOTHING * prior) / (count + SMOOTHING), np.log1p(count * scale)


def expected(codes, y, weight, seen_by, rows, scale=1.0):
    found = [[plain(codes, y, weight, seen_by(row), row, key, scale) for key in KEYS] for row in rows]
    return np.array([[*np.concatenate([m for m, _ in row]), *(c for _, c in row)] for row in found])


@pytest.mark.parametrize("n_targets", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_folds_are_those_of_a_loop(n_targets, weighted):
    codes, y, weight = coded_rows(n_targets=n_targets)
    weight = weight if weighted else np.ones(len(y))
    folds = np.random.default_rng(1).integers(4, size=len(y))
    statistics = Statistics(KEYS, smoothing=SMOOTHING)
    out = statistics.fit_transform(codes, y, weight if weighted else None, SIZES, folds=folds)
    rows = range(0, len(y), 7)
    assert_allclose(out[rows], expected(codes, y, weight, lambda row: folds != folds[row], rows, 4 / 3), rtol=1e-5)
    every = expected(codes, y, weight, lambda row: np.ones(len(y), bool), rows)
    assert_allclose(statistics.transform(codes)[rows], every, rtol=1e-5)
    assert_array_equal(
        statistics.transform(codes), Statistics(KEYS, smoothing=3).fit(codes, y, weight).transform(codes)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_orders_are_those_of_a_loop(weighted):
    codes, y, weight = coded_rows()
    weight = weight if weighted else np.ones(len(y))
    times = np.random.default_rng(1).integers(40, size=len(y)).astype(float)  # with ties
    statistics = Statistics(KEYS, smoothing=SMOOTHING, method="ordered")
    out = statistics.fit_transform(codes, y, weight if weighted else None, SIZES, order=times)
    rows = range(0, len(y), 5)
    assert_allclose(out[rows], expected(codes, y, weight, lambda row: times < times[row], rows), rtol=1e-5)


def test_drawn_features_are_the_mean_of_their_draws():
    codes, y, _ = coded_rows()
    for method, given in (("folds", "folds"), ("ordered", "order")):
        twice = Statistics(KEYS, method=method, n_repeats=2)
        out = twice.fit_transform(codes, y, None, SIZES, rng=np.random.RandomState(3))
        draws = twice._draws(y[:, None], None, np.random.RandomState(3), None, None)
        once = [Statistics(KEYS, method=method).fit_transform(codes, y, None, SIZES, **{given: d}) for d in draws]
        assert_allclose(out[:, :4], (once[0] + once[1])[:, :4] / 2, rtol=1e-5)
        assert (draws[0] != draws[1]).any()


def test_folds_spread_evenly_over_the_targets():
    rng = np.random.RandomState(0)
    y = rng.random_sample(1003)
    folds = spread_folds(y, 5, rng)
    assert set(np.bincount(folds)) == {200, 201}
    means = [y[folds == k].mean() for k in range(5)]
    assert np.ptp(means) < 0.005 < np.ptp([y[k * 200 : k * 200 + 200].mean() for k in range(5)])
    labels = np.r_[np.zeros(20), np.ones(980)]
    assert_array_equal(np.bincount(spread_folds(labels, 5, rng)[:20]), 4)


@pytest.mark.parametrize("method", ["folds", "ordered"])
def test_rows_of_no_weight_are_as_good_as_absent(method):
    codes, y, weight = coded_rows(n=400)
    there = weight > 0
    whole, part = Statistics(KEYS, method=method), Statistics(KEYS, method=method)
    of_all = whole.fit_transform(codes, y * np.where(there, 1, 99), weight, SIZES, rng=np.random.RandomState(0))
    kept = [column[there] for column in codes]
    of_kept = part.fit_transform(kept, y[there], weight[there], SIZES, rng=np.random.RandomState(0))
    assert_allclose(of_all[there], of_kept, rtol=1e-6)
    for a, b in zip(whole.combinations + whole.counts, part.combinations + part.counts, strict=True):
        assert_array_equal(a, b)
    assert_allclose(whole.transform(codes), part.transform(codes), rtol=1e-6)


@pytest.mark.parametrize("method", ["folds", "ordered"])
def test_equal_weights_change_nothing(method):
    codes, y, _ = coded_rows()
    plain_out, weighted = (
        Statistics(KEYS, method=method).fit_transform(codes, y, w, SIZES, rng=np.random.RandomState(0))
        for w in (None, np.ones(len(y)))
    )
    assert_array_equal(plain_out, weighted)


def test_the_look_up_is_a_group_by():
    codes, y, _ = coded_rows()
    table = pd.DataFrame({f"c{i}": column for i, column in enumerate(codes)} | {"y": y})
    statistics = Statistics(KEYS, smoothing=0).fit(codes, y, None, SIZES)
    out = statistics.transform(codes)
    for j, key in enumerate(KEYS):
        by = table.groupby([f"c{i}" for i in key])["y"]
        assert_allclose(out[:, j], by.transform("mean"), rtol=1e-5, atol=1e-6)
        assert_allclose(out[:, len(KEYS) + j], np.log1p(by.transform("size")), rtol=1e-6)
        assert len(statistics.combinations[j]) == by.ngroups


def test_what_was_never_seen_has_the_mean_of_all_rows():
    statistics = Statistics([(0,), (0, 1)]).fit([np.array([2, 3, 3]), np.array([2, 2, 3])], np.array([0.0, 1, 1]))
    new = [np.array([2, 9, 1, 0]), np.array([3, 2, 1, 7])]  # 9 and 7 are beyond the known codes
    out = statistics.transform(new)
    assert_allclose(out[1:, :2], 2 / 3, rtol=1e-6)
    assert_array_equal(out[1:, 2:], 0)
    assert_allclose(out[0], [20 * 2 / 3 / 21, 2 / 3, np.log(2), 0], rtol=1e-6)


@pytest.mark.parametrize("sizes", [SIZES, [2000, 3000, 5000], [2**31, 2**31, 2**20]], ids=["dense", "sorted", "hashed"])
def test_one_row_has_the_bits_of_many(sizes):
    rng = np.random.default_rng(0)
    codes = [np.r_[0, 1, rng.integers(min(size, 50), size=500)] for size in sizes]
    statistics = Statistics(KEYS).fit([column[:400] for column in codes], rng.normal(size=400), None, sizes)
    codes[1][[3, 9, 450]] = sizes[1] + 3  # beyond the known codes
    whole = statistics.transform(codes)
    assert len(np.unique(whole[:, 3])) > 100
    for n in (1, FEW_ROWS, FEW_ROWS + 1):
        for start in (0, 1, 450):
            rows = slice(start, start + n)
            assert_array_equal(statistics.transform([column[rows] for column in codes]), whole[rows])
    assert_array_equal(statistics.transform(np.column_stack(codes)), whole)
    again = Statistics.restored(statistics.state())
    assert_array_equal(again.transform(codes), whole)


def test_pickles_hold_the_tables_alone():
    rng = np.random.default_rng(0)
    codes = [rng.integers(2, 20_000, size=50_000)]
    statistics = Statistics([(0,)]).fit(codes, rng.normal(size=50_000))
    statistics.transform(codes)  # makes look-up tables
    statistics.transform([column[:1] for column in codes])
    stored = pickle.dumps(statistics)
    assert len(stored) < 20_000 * (2 + 4 + 4) + 2000
    assert_array_equal(pickle.loads(stored).transform(codes), statistics.transform(codes))


def test_names_say_what_the_columns_are():
    statistics = Statistics([(0,), (1, 2)]).fit([np.array([2, 3])] * 3, np.array([0.0, 1]))
    assert statistics.names("abc") == ["mean(y | a)", "mean(y | b, c)", "log_count(a)", "log_count(b, c)"]
    assert statistics.names("abc", [5, 7])[:3] == ["mean(y=5 | a)", "mean(y=7 | a)", "mean(y=5 | b, c)"]


# no row sees its own target --------------------------------------------------------------------------


def noise(seed, n=6000, n_columns=4, cardinality=2500):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 2 + cardinality, size=n) for _ in range(n_columns)], rng.integers(2, size=n).astype(float)


def auc_on_new_rows(features, y, new, y_new):
    trees = HistGradientBoostingClassifier(max_iter=40, early_stopping=False).fit(features, y)
    return roc_auc_score(y, trees.predict_proba(features)[:, 1]), roc_auc_score(y_new, trees.predict_proba(new)[:, 1])


@pytest.mark.parametrize("method", ["folds", "ordered"])
def test_noise_stays_noise(method):
    keys = [(0,), (1,), (2,), (3,), (0, 1), (2, 3)]
    leaks, own = [], []
    for seed in range(3):
        codes, y = noise(seed)
        statistics = Statistics(keys, method=method, smoothing=1.0)
        features = statistics.fit_transform(codes, y, rng=np.random.RandomState(seed))
        # A feature that knows the target orders the rows by it; trees would find any that knows it in part.
        half = np.arange(len(y)) % 2 == 0
        own.append(auc_on_new_rows(features[half], y[half], features[~half], y[~half])[1])
        leaking = statistics.transform(codes)
        leaks.append(auc_on_new_rows(leaking[half], y[half], leaking[~half], y[~half])[1])
    assert abs(np.mean(own) - 0.5) < 0.02
    assert min(leaks) > 0.9


@pytest.mark.parametrize("method", ["folds", "ordered"])
def test_a_row_does_not_move_with_its_own_target(method):
    codes, y = noise(0, n=400, cardinality=40)
    given = {"folds": np.arange(400) % 5} if method == "folds" else {"order": np.arange(400.0)}
    before = Statistics([(0,), (0, 1)], method=method, smoothing=0.5).fit_transform(codes, y, **given)
    for row in (0, 123, 399):
        changed = y.copy()
        changed[row] = 1 - y[row]
        after = Statistics([(0,), (0, 1)], method=method, smoothing=0.5).fit_transform(codes, changed, **given)
        # The mean of all rows moves a little, and that of every row with it.
        assert_allclose(after[row], before[row], atol=2 / 400)
        assert np.abs(after - before).max() > 0.05 or row == 399


@pytest.mark.parametrize("rows_a_value", [1, 2, 3])
def test_an_id_of_few_rows_says_what_it_knows(rows_a_value):
    """Targets that repeat within an id are found from two rows up; ids of one row say nothing, and are not believed."""
    rng = np.random.default_rng(0)
    n_values = 3000
    ids = np.repeat(np.arange(2, 2 + n_values), rows_a_value)
    own = rng.random(n_values) < 0.5
    y = np.where(rng.random(len(ids)) < 0.9, np.repeat(own, rows_a_value), rng.random(len(ids)) < 0.5).astype(float)
    features = Statistics([(0,)], smoothing=1.0, n_folds=10).fit_transform([ids], y, rng=np.random.RandomState(0))
    auc = roc_auc_score(y, features[:, 0])
    if rows_a_value == 1:
        assert_array_equal(features[:, 0], features[0, 0])
    else:
        assert auc > {2: 0.85, 3: 0.9}[rows_a_value]
    shuffled = rng.permutation(y)
    control = Statistics([(0,)], smoothing=1.0, n_folds=10).fit_transform([ids], shuffled, rng=np.random.RandomState(0))
    assert abs(roc_auc_score(shuffled, control[:, 0]) - 0.5) < 0.03


# choose_keys -----------------------------------------------------------------------------------------


def planted(seed, n=4000, n_columns=7, n_targets=1, numbers=False):
    """Codes, and targets in which columns 1 and 4 act together, 0 alone."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(2, 10, size=n) for _ in range(n_columns)]
    effects = rng.normal(size=(10, 10, n_targets)) * 1.5
    score = effects[codes[1], codes[4]] + 0.7 * rng.normal(size=(10, n_targets))[codes[0]]
    y = score + rng.normal(size=score.shape) if numbers else (rng.random(score.shape) < 1 / (1 + np.exp(-score)))
    return codes, y.astype(float)


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("n_targets", [1, 3])
def test_the_planted_pair_is_chosen_and_nothing_of_shuffled_targets(numbers, n_targets):
    for seed in range(5):
        codes, y = planted(seed, n_targets=n_targets, numbers=numbers)
        options = {"logistic": not numbers, "max_crosses": 20, "max_order": 2}
        y = y if n_targets > 1 else y[:, 0]
        assert choose_keys(codes, [10] * 7, y, rng=np.random.RandomState(seed), **options) == [(1, 4)]
        shuffled = np.random.default_rng(seed).permutation(y)
        assert choose_keys(codes, [10] * 7, shuffled, rng=np.random.RandomState(seed), **options) == []


def test_noise_of_few_values_seldom_passes():
    taken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        codes = [rng.integers(2, 2 + k, size=[300, 2000][seed % 2]) for k in (2, 2, 3, 3, 4, 400)]
        y = (rng.random(len(codes[0])) < 0.2 + 0.3 * (codes[0] - 2)).astype(float)
        taken += len(choose_keys(codes, [402] * 6, y, logistic=True, rng=np.random.RandomState(0)))
    assert taken <= 3  # of 300 pairs


def test_a_triple_is_reached_through_its_pairs():
    rng = np.random.default_rng(0)
    codes = [rng.integers(2, 5, size=12_000) for _ in range(5)]
    effects = rng.normal(size=(5, 5, 5)) * 3
    y = (rng.random(12_000) < 1 / (1 + np.exp(-effects[codes[0], codes[1], codes[2]]))).astype(float)
    options = {"logistic": True, "rng": np.random.RandomState(0)}
    assert choose_keys(codes, [5] * 5, y, max_order=3, **options)[0] == (0, 1, 2)
    assert max(map(len, choose_keys(codes, [5] * 5, y, max_order=2, **options))) == 2


def test_crosses_ignore_rows_without_weight_and_columns_of_one_value():
    codes, y = planted(0)
    codes.append(np.full(len(y), 2))
    weight = (np.arange(len(y)) % 3 > 0).astype(float)
    spoiled = np.where(weight > 0, y[:, 0], 1 - y[:, 0])
    kept = [column[weight > 0] for column in codes]
    found = choose_keys(codes, [10] * 8, spoiled, logistic=True, weight=weight, rng=np.random.RandomState(0))
    alone = choose_keys(kept, [10] * 8, y[weight > 0, 0], logistic=True, rng=np.random.RandomState(0))
    assert found == alone == [(1, 4)]


def test_the_number_of_crosses_is_bounded_and_the_best_come_first():
    rng = np.random.default_rng(0)
    codes = [rng.integers(2, 8, size=8000) for _ in range(6)]
    strong, weak = rng.normal(size=(2, 8, 8))
    y = 3 * strong[codes[0], codes[1]] + weak[codes[2], codes[3]] + rng.normal(size=8000)
    options = {"logistic": False, "max_order": 2}
    both = choose_keys(codes, [8] * 6, y, rng=np.random.RandomState(0), **options)
    assert both == [(0, 1), (2, 3)]
    assert choose_keys(codes, [8] * 6, y, rng=np.random.RandomState(0), max_crosses=1, **options) == both[:1]
