"""The core of target statistics: codes to smoothed means and counts."""

import pickle

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec.feature_crossing._target_statistics._statistics import Statistics, spread_folds

KEYS = [(0,), (1,), (2,), (0, 1), (1, 2), (2, 0), (0, 1, 2)]


def rows(n=400, seed=0):
    rng = np.random.RandomState(seed)
    return [rng.randint(0, size, n) for size in (40, 7, 3)], rng.randint(0, 2, n).astype(float)


def naive(codes, y, weights, key, smoothing, seen_by):
    """Mean and count of each row from the rows that it sees, one by one."""
    prior = (weights * y).sum() / weights.sum()
    means, counts = np.empty(len(y)), np.empty(len(y))
    for row in range(len(y)):
        same = seen_by(row) & np.logical_and.reduce([codes[i] == codes[i][row] for i in key])
        total, size = (weights * y)[same].sum(), weights[same].sum()
        means[row] = (total + smoothing * prior) / (size + smoothing) if size + smoothing else prior
        counts[row] = size
    return means, counts


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 20.0])
@pytest.mark.parametrize("method", ["folds", "ordered", "times"])
def test_training_features_equal_a_loop_over_rows(method, smoothing, weighted):
    codes, y = rows()
    rng = np.random.RandomState(1)
    y = y + rng.normal(size=len(y))
    weights = rng.randint(0, 4, len(y)).astype(float) if weighted else np.ones(len(y))
    folds, times = spread_folds(y, 4, rng), rng.randint(0, 50, len(y))
    order = times if method == "times" else rng.permutation(len(y))
    if method == "folds":
        s = Statistics(KEYS, smoothing=smoothing, method="folds", n_folds=4)
        found = s.fit_transform(codes, y, weights if weighted else None, folds=folds)
    else:
        s = Statistics(KEYS, smoothing=smoothing, method="ordered")
        found = s.fit_transform(codes, y, weights if weighted else None, order=order)
    assert found.dtype == np.float32 and found.shape == (len(y), 2 * len(KEYS))
    for j, key in enumerate(KEYS):
        if method == "folds":
            means, counts = naive(
                codes, y, weights, key, smoothing, lambda row: folds != folds[row]
            )
            counts = counts * 4 / 3
        else:
            means, counts = naive(codes, y, weights, key, smoothing, lambda row: order < order[row])
        np.testing.assert_allclose(found[:, j], means, atol=2e-6)
        np.testing.assert_allclose(found[:, len(KEYS) + j], np.log1p(counts), atol=2e-6)


def test_new_rows_equal_a_groupby():
    codes, y = rows()
    s = Statistics(KEYS, smoothing=3.0).fit(codes, y)
    new, _ = rows(300, seed=5)
    new[0][:5] = [1000, 41, 999_999, 40, 12]  # codes beyond those of fit
    found = s.transform(new)
    np.testing.assert_array_equal(s.transform([c[:5] for c in new]), found[:5])
    for j, key in enumerate(KEYS):
        grouped = (
            pd.DataFrame({i: codes[i] for i in key})
            .assign(y=y)
            .groupby(list(key))["y"]
            .agg(["sum", "count"])
        )
        at = pd.MultiIndex.from_arrays([new[i] for i in key]) if len(key) > 1 else new[key[0]]
        of = grouped.reindex(at).fillna(0).to_numpy()
        if 0 in key:  # codes that fit did not know are unknown, like 1
            known = new[0] < 40
            of[~known] = 0
            if key == (0,):
                of[~known] = grouped.loc[1].to_numpy()
        else:
            known = np.ones(len(at), bool)
        check = known if len(key) > 1 else slice(None)
        np.testing.assert_allclose(
            found[check, j], ((of[:, 0] + 3 * y.mean()) / (of[:, 1] + 3))[check], rtol=1e-6
        )
        np.testing.assert_allclose(
            found[check, len(KEYS) + j], np.log1p(of[:, 1])[check], rtol=1e-6
        )


@pytest.mark.parametrize("sizes", ["small", "large", "hashed"])
def test_a_row_alone_has_the_bits_of_the_batch(sizes):
    rng = np.random.RandomState(0)
    if sizes == "hashed":  # more combinations than 62 bits hold
        codes = [rng.permutation(9000)[:2000] for _ in range(5)]
        keys = [(0,), (0, 1), (0, 1, 2, 3, 4), (4, 3, 2, 1, 0)]
    else:
        codes = [rng.randint(0, 5 if sizes == "small" else 1500, 2000) for _ in range(4)]
        keys = [(0,), (3, 1), (0, 1, 2), (0, 1, 2, 3)]
    y = rng.normal(size=2000)
    s = Statistics(keys).fit([c[:1500] for c in codes], y[:1500])
    found = s.transform(codes)
    assert (found[1500:, -1] == 0).any() and (found[:1500, -len(keys) :] > 0).all()
    for n in (1, 3, 16, 17):
        for start in (0, 700, 1700):
            part = s.transform([c[start : start + n] for c in codes])
            np.testing.assert_array_equal(part, found[start : start + n])
    again = pickle.loads(pickle.dumps(s))
    np.testing.assert_array_equal(again.transform(codes), found)
    np.testing.assert_array_equal(
        Statistics.restored(s.state()).transform(np.column_stack(codes)), found
    )


@pytest.mark.parametrize("method", ["folds", "ordered"])
def test_rows_without_weight_leave_no_trace(method):
    codes, y = rows()
    weights = np.random.RandomState(2).randint(0, 3, len(y)).astype(float)
    kept = weights > 0
    s = Statistics(KEYS, method=method)
    all_rows = s.fit_transform(
        codes, y, weights, [40, 7, 3], rng=np.random.RandomState(3), n_draws=2
    )
    new = s.transform(codes)
    part = [c[kept] for c in codes]
    without = s.fit_transform(
        part, y[kept], weights[kept], [40, 7, 3], rng=np.random.RandomState(3), n_draws=2
    )
    np.testing.assert_array_equal(all_rows[:, kept], without)
    np.testing.assert_array_equal(new, s.transform(codes))
    # and a row without weight sees the others like any new row does
    assert np.isfinite(all_rows).all()


def test_whole_weights_are_repetitions():
    codes, y = rows()
    weights = np.random.RandomState(2).randint(1, 4, len(y))
    folds = spread_folds(y, 3, np.random.RandomState(0))
    s = Statistics(KEYS, method="folds", n_folds=3)
    once = s.fit_transform(codes, y, weights, folds=folds)
    table = s.transform(codes)
    again = np.repeat(np.arange(len(y)), weights)
    repeated = s.fit_transform([c[again] for c in codes], y[again], folds=folds[again])
    np.testing.assert_allclose(once[again], repeated, rtol=1e-6)
    np.testing.assert_allclose(table, s.transform(codes), rtol=1e-6)


def test_several_targets_are_those_one_by_one():
    codes, y = rows()
    label = np.random.RandomState(1).randint(0, 3, len(y))
    targets = (label[:, None] == np.arange(3)).astype(float)
    folds = spread_folds(label, 5, np.random.RandomState(0))
    s = Statistics(KEYS, method="folds")
    found, k = s.fit_transform(codes, targets, folds=folds), len(KEYS)
    assert found.shape == (len(y), 4 * k)
    for t in range(3):
        one = Statistics(KEYS, method="folds").fit_transform(codes, targets[:, t], folds=folds)
        np.testing.assert_array_equal(found[:, t : 3 * k : 3], one[:, :k])
    np.testing.assert_allclose(found[:, : 3 * k].reshape(-1, k, 3).sum(2), 1, rtol=1e-6)
    names = s.names(["a", "b", "c"], ["x", "y", "z"])
    assert (
        names[:3] == ["mean(y=x | a)", "mean(y=y | a)", "mean(y=z | a)"]
        and names[-1] == "log_count(a, b, c)"
    )
    assert len(names) == s.n_columns == found.shape[1]


@pytest.mark.parametrize("method", ["folds", "ordered"])
def test_draws_are_versions_of_the_rows(method):
    codes, y = rows()
    s = Statistics(KEYS, method=method)
    several = s.fit_transform(codes, y, rng=np.random.RandomState(0), n_draws=3)
    assert several.shape == (3, len(y), 2 * len(KEYS)) and (several[0] != several[1]).any()
    one = s.fit_transform(codes, y, rng=np.random.RandomState(0))
    np.testing.assert_array_equal(one, several[0])


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_folds_are_even_in_size_and_in_the_target(kind):
    rng = np.random.RandomState(0)
    y = rng.randint(0, 2, 1003).astype(float) if kind == "classes" else rng.normal(size=1003)
    means = []
    for seed in range(20):
        folds = spread_folds(y, 5, np.random.RandomState(seed))
        assert np.ptp(np.bincount(folds)) <= 1
        means.append([y[folds == k].mean() for k in range(5)])
    assert np.std(means) < 0.02 * y.std()  # chance alone: .07
    shuffled = [y[rng.permutation(1003) % 5 == k].mean() for k in range(5)]
    assert np.std(shuffled) > np.std(means)


def test_pickles_hold_tables_only():
    codes, y = rows(2000)
    s = Statistics(KEYS).fit(codes, y)
    before = len(pickle.dumps(s))
    s.transform(codes), s.transform([c[:1] for c in codes])
    assert len(pickle.dumps(s)) == before < 12 * sum(map(len, s.combinations)) + 3000
