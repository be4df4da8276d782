"""No row sees its own target; ids of few rows say what they know; rows of no weight and large
numbers change nothing.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from sklearn_autorec.feature_crossing import AutoCross, TargetStatistics
from sklearn_autorec.feature_crossing._target_statistics._statistics import Statistics
from sklearn_autorec.serving import load, save


def test_what_was_never_seen_has_the_mean_of_all_rows():
    statistics = Statistics([(0,), (0, 1)]).fit(
        [np.array([2, 3, 3]), np.array([2, 2, 3])], np.array([0.0, 1, 1])
    )
    new = [np.array([2, 9, 1, 0]), np.array([3, 2, 1, 7])]  # 9 and 7 are beyond the known codes
    out = statistics.transform(new)
    assert_allclose(out[1:, :2], 2 / 3, rtol=1e-6)
    assert_array_equal(out[1:, 2:], 0)
    assert_allclose(out[0], [20 * 2 / 3 / 21, 2 / 3, np.log(2), 0], rtol=1e-6)


def noise(seed, n=6000, n_columns=4, cardinality=2500):
    rng = np.random.default_rng(seed)
    return [rng.integers(2, 2 + cardinality, size=n) for _ in range(n_columns)], rng.integers(
        2, size=n
    ).astype(float)


def auc_on_new_rows(features, y, new, y_new):
    trees = HistGradientBoostingClassifier(max_iter=40, early_stopping=False).fit(features, y)
    return roc_auc_score(y, trees.predict_proba(features)[:, 1]), roc_auc_score(
        y_new, trees.predict_proba(new)[:, 1]
    )


@pytest.mark.parametrize("method", ["folds", "ordered"])
def test_noise_stays_noise(method):
    keys = [(0,), (1,), (2,), (3,), (0, 1), (2, 3)]
    leaks, own = [], []
    for seed in range(3):
        codes, y = noise(seed)
        statistics = Statistics(keys, method=method, smoothing=1.0)
        features = statistics.fit_transform(codes, y, rng=np.random.RandomState(seed))
        # A feature that knows the target orders the rows by it; trees would find any that knows it
        # in part.
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
    before = Statistics([(0,), (0, 1)], method=method, smoothing=0.5).fit_transform(
        codes, y, **given
    )
    for row in (0, 123, 399):
        changed = y.copy()
        changed[row] = 1 - y[row]
        after = Statistics([(0,), (0, 1)], method=method, smoothing=0.5).fit_transform(
            codes, changed, **given
        )
        # The mean of all rows moves a little, and that of every row with it.
        assert_allclose(after[row], before[row], atol=2 / 400)
        assert np.abs(after - before).max() > 0.05 or row == 399


@pytest.mark.parametrize("rows_a_value", [1, 2, 3])
def test_an_id_of_few_rows_says_what_it_knows(rows_a_value):
    """Targets that repeat within an id are found from two rows up; ids of one row say nothing, and
    are not believed.
    """
    rng = np.random.default_rng(0)
    n_values = 3000
    ids = np.repeat(np.arange(2, 2 + n_values), rows_a_value)
    own = rng.random(n_values) < 0.5
    y = np.where(
        rng.random(len(ids)) < 0.9, np.repeat(own, rows_a_value), rng.random(len(ids)) < 0.5
    ).astype(float)
    features = Statistics([(0,)], smoothing=1.0, method="folds", n_folds=10).fit_transform(
        [ids], y, rng=np.random.RandomState(0)
    )
    auc = roc_auc_score(y, features[:, 0])
    if rows_a_value == 1:
        assert_array_equal(features[:, 0], features[0, 0])
    else:
        assert auc > {2: 0.85, 3: 0.9}[rows_a_value]
    shuffled = rng.permutation(y)
    control = Statistics([(0,)], smoothing=1.0, method="folds", n_folds=10).fit_transform(
        [ids], shuffled, rng=np.random.RandomState(0)
    )
    assert abs(roc_auc_score(shuffled, control[:, 0]) - 0.5) < 0.03


def test_names_say_what_the_columns_are():
    statistics = Statistics([(0,), (1, 2)]).fit([np.array([2, 3])] * 3, np.array([0.0, 1]))
    assert statistics.names("abc") == [
        "mean(y | a)",
        "mean(y | b, c)",
        "log_count(a)",
        "log_count(b, c)",
    ]
    assert statistics.names("abc", [5, 7])[:3] == [
        "mean(y=5 | a)",
        "mean(y=7 | a)",
        "mean(y=5 | b, c)",
    ]


# the transformer
# -------------------------------------------------------------------------------------


def users(n=2000):
    """Two ids that act together, and 0/1 targets."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"user": rng.integers(6, size=n).astype(str), "shop": rng.integers(6, size=n).astype(str)}
    )
    odd = (X["user"].astype(int) + X["shop"].astype(int)) % 2 == 1
    return X, (rng.random(n) < np.where(odd, 0.8, 0.2)).astype(int)


@pytest.mark.parametrize(
    ("scale", "shift"), [(1.0, 0.0), (1e-30, 0.0), (1e200, 0.0), (1.0, 1e9), (-1e6, 1.7e18)]
)
def test_means_of_numbers_keep_their_digits(scale, shift, tmp_path):
    X, y = users()
    targets = y + X["user"].astype(float).to_numpy() / 7
    numbers = targets * scale + shift
    options = {
        "crosses": None,
        "append": False,
        "target_type": "continuous",
        "smoothing": 0.0,
        "random_state": 0,
    }
    statistics = TargetStatistics(["user"], **options).fit(X, numbers)
    found = statistics.transform(X)["mean(y | user)"]
    expected = pd.Series(numbers).groupby(X["user"]).transform("mean")
    assert_allclose(found, expected, rtol=1e-12 if shift else 1e-6)
    assert_allclose(
        (found - shift) / scale, pd.Series(targets).groupby(X["user"]).transform("mean"), rtol=1e-3
    )
    unseen = statistics.transform(pd.DataFrame({"user": ["new"], "shop": ["0"]}))
    assert_allclose(unseen["mean(y | user)"], numbers.mean(), rtol=1e-12)
    assert statistics.target_mean_ == pytest.approx(numbers.mean(), rel=1e-12)
    trained = TargetStatistics(["user"], **options).fit_transform(X, numbers)["mean(y | user)"]
    plain = TargetStatistics(["user"], **options).fit_transform(X, targets)["mean(y | user)"]
    assert_allclose((trained - shift) / scale, plain, rtol=1e-3)
    save(statistics, tmp_path / "model")
    for again in (load(tmp_path / "model"), pickle.loads(pickle.dumps(statistics))):
        pd.testing.assert_frame_equal(again.transform(X), statistics.transform(X))


@pytest.mark.parametrize("crosses", ["auto", "search"])
def test_rows_without_weight_are_as_good_as_absent(crosses):
    X, y = users()
    weight = (np.arange(2000) % 3 > 0).astype(float)
    there = weight > 0
    spoiled = X.copy()
    # Would hide the pair, and change its strength.
    spoiled.loc[~there, "user"] = spoiled.loc[~there, "shop"]
    labels = np.where(there, y, 7)  # a class that no row that counts has
    crosses = AutoCross(random_state=0) if crosses == "search" else crosses
    whole, part = (
        TargetStatistics(crosses=crosses, append=False, random_state=0) for _ in range(2)
    )
    of_all = whole.fit_transform(spoiled, labels, weight)
    of_kept = part.fit_transform(X[there], y[there])
    assert whole.classes_.tolist() == [0, 1] and whole.crosses_ == part.crosses_ == [
        ("user", "shop")
    ]
    assert_array_equal(of_all[there], of_kept)
    pd.testing.assert_frame_equal(whole.transform(X), part.transform(X))
