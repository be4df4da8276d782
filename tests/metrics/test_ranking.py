"""Grouped metrics against loops over groups, and against scikit-learn's where it has them."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import ndcg_score, roc_auc_score

from sklearn_autorec.metrics import grouped_hit_rate, grouped_ndcg_score, grouped_roc_auc_score

METRICS = [grouped_roc_auc_score, grouped_ndcg_score, grouped_hit_rate]


@pytest.fixture(params=range(5))
def rows(request):
    """Labels, scores with many ties, users of 1 to 40 rows, weights."""
    rng = np.random.default_rng(request.param)
    users = rng.permutation(np.repeat([f"u{i}" for i in range(30)], rng.integers(1, 40, 30)))
    n = len(users)
    return (
        rng.integers(0, 2, n) * (users != "u3"),
        rng.integers(0, 6, n) / 4,
        users,
        rng.uniform(0, 2, n),
    )


def weight_of(average, y, weight):
    return {"rows": weight.sum(), "positives": weight @ (y > 0), "groups": weight.mean()}[average]


@pytest.mark.parametrize("average", ["rows", "positives", "groups"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_grouped_auc_is_the_mean_of_those_of_the_groups(rows, average, weighted):
    y, score, users, weight = rows
    weight = weight if weighted else np.ones(len(y))
    of_group, group_weight = [], []
    for user in np.unique(users):
        own = users == user
        if len(np.unique(y[own])) == 2:
            of_group.append(roc_auc_score(y[own], score[own], sample_weight=weight[own]))
            group_weight.append(weight_of(average, y[own], weight[own]))
    assert 20 < len(of_group) < 30  # some have one class
    found = grouped_roc_auc_score(
        y, score, groups=users, average=average, sample_weight=weight if weighted else None
    )
    assert found == pytest.approx(np.average(of_group, weights=group_weight), abs=1e-12)


@pytest.mark.parametrize("average", ["rows", "positives", "groups"])
@pytest.mark.parametrize("k", [None, 1, 3, 100])
def test_the_grouped_ndcg_is_the_mean_of_scikit_learns(rows, average, k):
    y, score, users, weight = rows
    y = y * np.arange(len(y)) % 4  # graded
    of_group, group_weight = [], []
    for user in np.unique(users):
        own = users == user
        if y[own].any():
            # Scikit-learn refuses a single row, whose score is 1.
            single = own.sum() == 1
            of_group.append(1.0 if single else ndcg_score(y[own][None], score[own][None], k=k))
            group_weight.append(weight_of(average, y[own], weight[own]))
    found = grouped_ndcg_score(y, score, groups=users, k=k, average=average, sample_weight=weight)
    assert found == pytest.approx(np.average(of_group, weights=group_weight), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_hit_rate_is_the_mean_over_orders_of_equal_scores(rows, k):
    y, score, users, _ = rows
    rng = np.random.default_rng(0)
    n_draws, hits = 4000, []
    for user in np.unique(users)[:12]:
        own = users == user
        if y[own].any():
            noise = rng.uniform(0, 0.1, (n_draws, own.sum()))  # below the steps of the scores
            first = np.argsort(-(score[own] + noise), axis=1)[:, :k]
            hits.append(y[own][first].any(1).mean())
    some = np.isin(users, np.unique(users)[:12])
    found = grouped_hit_rate(y[some], score[some], groups=users[some], k=k)
    assert found == pytest.approx(np.mean(hits), abs=4 / np.sqrt(n_draws * len(hits)))


def test_scores_of_users_alone_say_nothing_within_them():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(200), 20)
    rate = rng.uniform(0.05, 0.95, 200)[users]
    y = rng.uniform(size=len(users)) < rate
    assert roc_auc_score(y, rate) > 0.75
    assert grouped_roc_auc_score(y, rate, groups=users) == 0.5


def test_the_order_of_rows_and_the_kind_of_labels_do_not_matter(rows):
    y, score, users, weight = rows
    order = np.random.default_rng(1).permutation(len(y))
    number = pd.factorize(users)[0]
    for metric in METRICS:
        usual = metric(y, score, groups=users, sample_weight=weight)
        assert metric(
            y[order], score[order], groups=users[order], sample_weight=weight[order]
        ) == pytest.approx(usual, abs=1e-12)
        assert metric(y, score, groups=pd.Series(number), sample_weight=weight) == pytest.approx(
            usual, abs=1e-12
        )
        mixed = [int(n) if n % 2 else f"user {n}" for n in number]
        assert metric(y, score, groups=mixed, sample_weight=weight) == pytest.approx(
            usual, abs=1e-12
        )
    text = np.where(y == 1, "click", "none")
    assert grouped_roc_auc_score(
        text, score, groups=users, pos_label="click"
    ) == grouped_roc_auc_score(y, score, groups=users)


@pytest.mark.parametrize("metric", METRICS)
def test_what_is_not_defined_is_nan_with_a_warning(metric):
    with pytest.warns(UndefinedMetricWarning, match="No group"):
        assert np.isnan(metric([0, 0, 0], [0.1, 0.2, 0.3], groups=[1, 1, 2]))
    with pytest.warns(UndefinedMetricWarning, match=r"No group has rows of both|have the weight 0"):
        found = metric([0, 1, 0], [0.1, 0.2, 0.3], groups=[1, 1, 2], sample_weight=[0, 0, 1])
        assert np.isnan(found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"groups": None}, "groups must be given"),
        ({"groups": ["a", "b"]}, "groups has 2 labels for 3 rows"),
        ({"groups": ["a", None, "b"]}, "groups has 1 missing labels, the first in row 1"),
        ({"average": "users"}, "average must be one of .*, got 'users'"),
        ({"y_score": [[0.1, 0.9]] * 3}, r"y_score must have one number a row.*\[:, 1\]"),
        ({"y_score": [0.1, np.nan, 0.3]}, "y_score contains NaN"),
        ({"y_score": [0.1, 0.2]}, "inconsistent numbers of samples"),
        ({"sample_weight": [1, -1, 1]}, "sample_weight must not be negative, got -1"),
        ({"sample_weight": [0, 0, 0]}, "no weight above 0"),
    ],
)
def test_bad_input_is_refused_by_name(metric, changed, message):
    given = {"y_true": [0, 1, 1], "y_score": [0.1, 0.2, 0.3], "groups": ["a", "a", "b"]} | changed
    with pytest.raises(ValueError, match=message):
        metric(given.pop("y_true"), given.pop("y_score"), **given)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "all"])
@pytest.mark.parametrize("metric", [grouped_ndcg_score, grouped_hit_rate])
def test_k_is_a_number_of_rows(metric, k):
    with pytest.raises(ValueError, match="k must be an int of at least 1, got"):
        metric([0, 1], [0.1, 0.2], groups=["a", "a"], k=k)


def test_labels_of_several_classes_or_unknown_names_are_refused():
    with pytest.raises(ValueError, match="two classes, got 3"):
        grouped_roc_auc_score([0, 1, 2], [0.1, 0.2, 0.3], groups=[1, 1, 1])
    with pytest.raises(ValueError, match="say by pos_label"):
        grouped_roc_auc_score(["no", "yes"], [0.1, 0.2], groups=[1, 1])
    with pytest.raises(ValueError, match="pos_label='maybe' is not in y_true"):
        grouped_roc_auc_score(["no", "yes"], [0.1, 0.2], groups=[1, 1], pos_label="maybe")
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        grouped_ndcg_score([0, -1], [0.1, 0.2], groups=[1, 1])
