"""Calibration against plain sums over rows."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import UndefinedMetricWarning

from sklearn_autorec.metrics import (
    calibration_by_group,
    calibration_error,
    calibration_ratio,
    normalized_entropy,
)

METRICS = [normalized_entropy, calibration_ratio, calibration_error]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    probability = rng.beta(1, 9, 20_000)
    y = (rng.uniform(size=20_000) < probability).astype(int)
    return y, probability, rng.uniform(0, 2, 20_000)


def test_the_normalised_entropy_compares_with_the_mean_rate(rows):
    y, p, w = rows
    rate = (y * w).sum() / w.sum()
    model = -(w * (y * np.log(p) + (1 - y) * np.log(1 - p))).sum()
    mean = -(w * (y * np.log(rate) + (1 - y) * np.log(1 - rate))).sum()
    found = normalized_entropy(y, p, sample_weight=w)
    assert found == pytest.approx(model / mean, rel=1e-9)
    assert found < 0.95
    assert normalized_entropy(y, np.full(len(y), y.mean())) == pytest.approx(1.0)
    shuffled = np.random.default_rng(1).permutation(p)
    assert normalized_entropy(y, shuffled) > 1


def test_the_ratio_is_of_predicted_to_true_clicks(rows):
    y, p, w = rows
    assert calibration_ratio(y, p, sample_weight=w) == pytest.approx((p @ w) / (y @ w))
    assert calibration_ratio(y, p) == pytest.approx(1, abs=0.05)
    assert calibration_ratio(y, p / 2) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_the_error_is_the_mean_distance_over_buckets(rows, strategy):
    y, p, w = rows
    parts = np.linspace(0, 1, 9)[1:-1]
    edges = np.quantile(p, parts) if strategy == "quantile" else parts
    total = 0.0
    for low, high in zip([-1, *edges], [*edges, 2], strict=True):
        own = (p >= low) & (p < high)
        total += abs((w[own] * (p[own] - y[own])).sum())
    found = calibration_error(y, p, n_bins=8, strategy=strategy, sample_weight=w)
    assert found == pytest.approx(total / w.sum(), abs=1e-12)
    assert found < 0.01 < 0.05 < calibration_error(y, np.sqrt(p), strategy=strategy)


def test_rows_of_equal_probability_share_a_bucket():
    assert calibration_error([0, 1] * 50, [0.5] * 100, n_bins=10) == 0
    assert calibration_error([0, 1], [0.4, 0.4], n_bins=2) == pytest.approx(0.1)


def test_groups_are_told_apart_and_sorted_by_rows(rows):
    y, p, w = rows
    groups = np.random.default_rng(2).choice(["a", "b", "c"], len(y), p=[0.2, 0.7, 0.1])
    off = np.where(groups == "c", np.minimum(2 * p, 1), p)
    table = calibration_by_group(y, off, groups=groups, sample_weight=w)
    assert list(table.index) == ["b", "a", "c"]
    for name, row in table.iterrows():
        own = groups == name
        assert row["n_rows"] == own.sum()
        assert row["rate"] == pytest.approx(np.average(y[own], weights=w[own]))
        assert row["predicted"] == pytest.approx(np.average(off[own], weights=w[own]))
        assert row["ratio"] == pytest.approx(row["predicted"] / row["rate"])
        spread = np.sqrt((w[own] ** 2 * off[own] * (1 - off[own])).sum()) / w[own].sum()
        assert row["standard_error"] == pytest.approx(spread)
        assert (abs(row["error"]) > 3 * row["standard_error"]) == (name == "c")


def test_a_group_without_clicks_has_no_ratio():
    table = calibration_by_group([0, 1], [0.5, 0.5], groups=[("x", 1), ("y", 2)])
    assert np.isnan(table["ratio"].iloc[0])
    assert table["ratio"].iloc[1] == 0.5
    assert table.index[1] == ("y", 2)


def test_one_class_has_no_entropy_and_no_clicks_have_no_ratio():
    with pytest.warns(UndefinedMetricWarning, match="one class"):
        assert np.isnan(normalized_entropy([1, 1], [0.5, 0.6]))
    with pytest.warns(UndefinedMetricWarning, match="No row is of the positive class"):
        assert np.isnan(calibration_ratio([0, 0], [0.5, 0.6]))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_prob": [0.1, 1.2]}, r"y_prob must be probabilities in \[0, 1\], got 1.2 in row 1"),
        ({"y_prob": [0.1, np.nan]}, "y_prob contains NaN"),
        ({"y_prob": [[0.1, 0.9]] * 2}, "y_prob must have one number a row"),
        ({"y_prob": [0.1]}, "inconsistent numbers of samples"),
        ({"y_true": [0, None]}, "y_true has missing values"),
        ({"y_true": ["no", "yes"]}, "say by pos_label"),
        ({"sample_weight": [1, -1]}, "sample_weight must not be negative"),
    ],
)
def test_bad_input_is_refused_by_name(metric, changed, message):
    given = {"y_true": [0, 1], "y_prob": [0.1, 0.2]} | changed
    with pytest.raises(ValueError, match=message):
        metric(given.pop("y_true"), given.pop("y_prob"), **given)


def test_buckets_are_refused_by_name():
    with pytest.raises(ValueError, match="strategy must be one of .*, got 'kmeans'"):
        calibration_error([0, 1], [0.1, 0.2], strategy="kmeans")
    for n_bins in (0, 2.5, True):
        with pytest.raises(ValueError, match="n_bins must be an int of at least 1"):
            calibration_error([0, 1], [0.1, 0.2], n_bins=n_bins)
    with pytest.raises(ValueError, match="groups must be given"):
        calibration_by_group([0, 1], [0.1, 0.2], groups=None)


def test_names_of_classes_are_taken(rows):
    y, p, _ = rows
    text = pd.Series(np.where(y == 1, "yes", "no"))
    for metric in METRICS:
        assert metric(text, p, pos_label="yes") == metric(y, p)
