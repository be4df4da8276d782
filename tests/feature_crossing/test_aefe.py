"""AEFE: features of the planted pairs are built and kept, and nothing of the target leaks into
them.
"""

import itertools
import math
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from aefe_cases import CHEAP, PLANTED, clicks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import f1_score, make_scorer, roc_auc_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.feature_crossing import AEFE, FieldCrosser
from sklearn_autorec.feature_crossing._aefe import _cascade
from sklearn_autorec.feature_crossing._aefe._cascade import (
    Cascade,
    Data,
    importances,
    log_likelihood,
)
from sklearn_autorec.feature_crossing._aefe._pair_features import Feature

SEEDS = range(5)


def linear_model():
    """One-hot of text and ids, standardised numbers."""
    return make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="float")),
            (StandardScaler(), make_column_selector(dtype_include="float")),
        ),
        LogisticRegression(max_iter=500),
    )


def auc(train, y_train, test, y_test):
    return roc_auc_score(y_test, linear_model().fit(train, y_train).predict_proba(test)[:, 1])


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_pairs_become_the_features(seed):
    X, y = clicks(seed)
    train, test = slice(0, 3000), slice(3000, None)
    aefe = AEFE(cv=2, random_state=seed)
    new = aefe.fit_transform(X[train], y[train])
    assert set(aefe.pairs_[:2]) == PLANTED == set(aefe.crosses_)
    assert len(aefe.features_) <= 10 and {"mean(y | f1, f2)", "f3 x f4"} <= set(aefe.features_)
    assert (aefe.scores_ > 0).all() and len(aefe.scores_) == aefe.stage_counts_["wrapper"]
    oracle = FieldCrosser([(1, 2), (3, 4)]).fit(X[train])
    plain = auc(X[train], y[train], X[test], y[test])
    best = auc(oracle.transform(X[train]), y[train], oracle.transform(X[test]), y[test])
    ours = auc(new, y[train], aefe.transform(X[test]), y[test])
    assert best > plain + 0.1 and ours - plain > 0.8 * (best - plain)
    # The control: shuffled labels leave nothing.
    assert (
        AEFE(cv=2, random_state=seed).fit(X, np.random.default_rng(seed).permutation(y)).features_
        == []
    )


def test_without_the_machine_that_ranks_pairs_they_are_missed(monkeypatch):
    X, y = clicks(0)
    assert set(AEFE(n_pairs=2, random_state=0).fit(X, y).crosses_) == PLANTED
    monkeypatch.setattr(
        "sklearn_autorec.feature_crossing._aefe._pair_search.pair_strengths",
        lambda ids, *a, **k: np.random.default_rng(0).random((len(ids), len(ids))),
    )
    assert not set(AEFE(n_pairs=2, random_state=0).fit(X, y).crosses_) & PLANTED


def test_noise_scores_half():
    X, y = clicks(0, n=5000)
    y = np.random.default_rng(0).permutation(y)
    model = make_pipeline(AEFE(min_gain=0.0, n_pairs=6, cv=2, random_state=0), linear_model())
    # Features are taken (any gain will do), and are of no use.
    assert model.fit(X, y)[0].features_
    scores = cross_val_score(model, X, y, cv=3, scoring="roc_auc")
    assert abs(scores.mean() - 0.5) < 0.02


def test_a_column_of_unique_ids_does_not_raise_the_score():
    X, y = clicks(1, n=3000, pairs=[(1, 2)], n_fields=5)
    # Each in two rows.
    key = pd.Series(np.random.default_rng(0).permutation(3000) // 2).astype("str")
    train, test = slice(0, 2200), slice(2200, None)
    forced = {
        "paradigms": ("target",),
        "min_gain": 0.0,
        "patience": 100,
        "cv": 2,
        "importance_quantile": 0.0,
        "smoothing": 0.0,
    }
    scores = {}
    for name, table in (("without", X), ("with", X.assign(key=key))):
        aefe = AEFE(n_pairs=36, **forced, random_state=0)
        new = aefe.fit_transform(table[train], y[train])
        # fmt: skip
        test_score = auc(
            new.drop(columns="key", errors="ignore"),
            y[train],
            aefe.transform(table[test]).drop(columns="key", errors="ignore"),
            y[test],
        )
        scores[name] = test_score
    assert scores["with"] < scores["without"] + 0.005
    # The wrapper sees none of it either: with the key in every pair no feature passes.
    noise = pd.DataFrame({"key": key, "other": X["f3"], "third": X["f4"]})
    aefe = AEFE(random_state=0, smoothing=0.0, min_count=1).fit(noise, y)
    assert aefe.features_ == []


def test_the_wrapper_scores_what_a_pipeline_would_score():
    X, y = clicks(0, n=2000)
    splits = list(KFold(2, shuffle=True, random_state=0).split(X))
    aefe = AEFE(LogisticRegression(max_iter=1000), cv=splits, n_pairs=4, random_state=0).fit(X, y)
    assert set(aefe.crosses_) == PLANTED
    last = [record for record in aefe.search_history_ if record["taken"]][-1]
    assert_allclose(last["score"], aefe.base_score_ + aefe.scores_.sum())
    # From outside: the pairs' target means in a pipeline, whose linear model sees one-hot columns
    # instead of their means.
    pipe = make_pipeline(
        AEFE(n_pairs=4, paradigms=("target",), cv=2, random_state=1), linear_model()
    )
    scores = cross_val_score(pipe, X, y, cv=splits, scoring="neg_log_loss")
    assert abs(scores.mean() - last["score"]) < 0.02 < 0.1 < last["score"] - aefe.base_score_


@pytest.mark.parametrize(
    "estimator, scoring",
    [
        (DecisionTreeClassifier(min_samples_leaf=40, random_state=0), "roc_auc"),
        (HistGradientBoostingClassifier(max_iter=15, random_state=0), "auto"),
        (GaussianNB(), "accuracy"),
        (RidgeClassifier(), None),
        (RidgeClassifier(), "auto"),
        (make_pipeline(StandardScaler(), LogisticRegression()), make_scorer(f1_score)),
        (LinearRegression(), "neg_mean_absolute_error"),
        (LinearRegression(), "auto"),
    ],
)
def test_any_estimator_and_scorer(estimator, scoring):
    X, y = clicks(0, n=1500)
    aefe = AEFE(estimator, scoring=scoring, n_pairs=5, cv=2, random_state=0).fit(X, y)
    assert set(aefe.crosses_) == PLANTED
    assert np.isfinite(aefe.base_score_)


def test_ratings_and_several_classes():
    X, y = clicks(0, task="rating", n=3000)
    aefe = AEFE(**CHEAP).fit(X, y)
    assert set(aefe.crosses_) == PLANTED and "mean(y | f1, f2)" in aefe.features_
    assert set(AEFE(LinearRegression(), **CHEAP).fit(X, np.rint(y).astype(int)).crosses_) == PLANTED
    X, y = clicks(1, task="multiclass", n=3500)
    names = np.array(["low", "mid", "high"])
    aefe = AEFE(**CHEAP).fit(X, names[y])
    assert set(aefe.crosses_) == PLANTED
    of_classes = [f"mean(y={c} | f1, f2)" for c in ("high", "low", "mid")]
    assert set(of_classes) <= set(aefe.features_)
    assert_allclose(aefe.transform(X)[of_classes].sum(axis=1), 1)


# the stages
# --------------------------------------------------------------------------------------------


def test_the_stages_keep_their_books():
    X, y = clicks(0, n=1500)
    aefe = AEFE(n_pairs=6, cv=2, random_state=0).fit(X, y)
    counts = aefe.stage_counts_
    assert counts["pairs"] == 6 and counts["constructed"] == 36
    assert 36 > counts["filter"] > counts["embedded"] > counts["wrapper"] == len(aefe.scores_)
    assert len(aefe.pair_scores_) == 28 and aefe.pairs_ == list(aefe.pair_scores_)[:6]
    tried = [name for record in aefe.search_history_ for name in record["features"]]
    taken = [
        name for record in aefe.search_history_ if record["taken"] for name in record["features"]
    ]
    assert len(set(tried)) == len(tried) <= counts["embedded"]
    assert taken == [name for name in aefe.features_ if " x " not in name]
    assert all(
        record["taken"] == (record["gain"] >= record["min_gain"]) for record in aefe.search_history_
    )
    assert (
        not any(record["taken"] for record in aefe.search_history_[-5:])
        or len(tried) == counts["embedded"]
    )


def test_the_stages_can_be_set():
    X, y = clicks(0, n=1200)
    assert AEFE(paradigms=("count", "ratio"), **CHEAP).fit(X, y).stage_counts_["constructed"] == 12
    counts = [AEFE(importance_quantile=q, **CHEAP).fit(X, y).stage_counts_ for q in (0.0, 0.8)]
    assert counts[0]["embedded"] > 2 * counts[1]["embedded"]
    many = AEFE(variance_threshold=1e9, **CHEAP).fit(X, y)
    assert many.stage_counts_["filter"] == 0 and many.features_ == []
    one = AEFE(max_features=1, paradigms=("target", "count"), **CHEAP).fit(X, y)
    assert len(one.features_) == 1 and len(one.scores_) == 1
    none = AEFE(max_features=0, **CHEAP).fit(X, y)
    assert none.features_ == [] and none.transform(X).equals(X)
    assert AEFE(min_gain=10.0, **CHEAP).fit(X, y).features_ == []
    short = AEFE(min_gain=10.0, patience=2, **CHEAP).fit(X, y)
    assert len(short.search_history_) == 2
    blocks = AEFE(block_size=3, paradigms=("target",), importance_quantile=0.0, **CHEAP).fit(X, y)
    assert [len(r["features"]) for r in blocks.search_history_][0] == 3
    trees = DecisionTreeClassifier(max_depth=6, random_state=0)
    assert set(AEFE(selector=trees, **CHEAP).fit(X, y).crosses_) == PLANTED
    assert (
        set(AEFE(selector=LogisticRegression(max_iter=2000), **CHEAP).fit(X, y).crosses_) == PLANTED
    )
    with pytest.raises(ValueError, match="feature_importances_ or coef_"):
        AEFE(selector=GaussianNB(), **CHEAP).fit(X, y)


def test_filter_drops_constants_and_copies():
    rng = np.random.default_rng(0)
    ids = {0: rng.integers(2, 6, 900), 1: rng.integers(2, 6, 900), 2: np.full(900, 2)}
    y = rng.integers(2, size=900)
    options = AEFE(variance_threshold=0.0, random_state=0)
    data = Data(
        ids,
        {0: 6, 1: 6, 2: 3},
        [Feature("mean", (0,))],
        np.zeros((900, 0), np.float32),
        y,
        y[:, None] * 1.0,
        options,
    )
    rows = np.arange(900)
    cascade = Cascade(
        data, [(rows[:600], rows[600:])], LogisticRegression(), True, np.random.RandomState(0)
    )
    count, share = Feature("count", (0, 1)), Feature("share", (0, 2))
    kept = cascade.filtered(
        [
            count,
            Feature("count", (1, 0)),
            share,
            Feature("nunique", (0, 1)),
            Feature("share", (0, 1)),
        ]
    )
    assert kept == [count, Feature("share", (0, 1))]  # a copy, a constant share, 4 partners each


def test_log_likelihood_knows_unseen_classes():
    model = LogisticRegression().fit(np.arange(6.0)[:, None], list("aabbab"))
    X = np.array([[0.0], [5.0], [2.0]])
    p = model.predict_proba(X)
    expected = np.mean([np.log(p[0, 0]), np.log(p[1, 1]), np.log(1e-15)])
    assert_allclose(log_likelihood(model, X, np.array(["a", "b", "c"])), expected)


def test_importances_of_linear_models_are_averaged_over_classes():
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    model = LogisticRegression().fit(X, y)
    assert_allclose(importances(model, 4), np.abs(model.coef_).mean(0))


def test_time_up_leaves_a_usable_transformer(monkeypatch):
    X, y = clicks(0, n=1200)
    whole = AEFE(**CHEAP).fit(X, y)
    none = AEFE(max_time=0, random_state=0).fit(X, y)
    assert none.features_ == [] and none.transform(X).equals(X)
    found = []
    for n_calls in (5, 45, 50, 10_000):
        calls = itertools.count()
        clock = SimpleNamespace(
            monotonic=lambda c=calls, n=n_calls: math.inf if next(c) >= n else -math.inf
        )
        monkeypatch.setattr(_cascade, "time", clock)
        aefe = AEFE(max_time=60, **CHEAP).fit(X, y)
        taken = [f for f in aefe.features_ if " x " not in f]
        assert taken == [f for f in whole.features_ if " x " not in f][: len(taken)]
        assert aefe.transform(X).shape == (1200, 8 + len(aefe.features_))
        found.append(len(taken))
    assert found == sorted(found) and found[0] == 0 and found[-1] == len(whole.scores_)
    monkeypatch.undo()
    began = time.monotonic()
    AEFE(max_time=0.3, random_state=0).fit(*clicks(0))
    assert time.monotonic() - began < 30  # no part of the search is longer than a few seconds


def test_large_tables_are_searched_on_a_part():
    X, y = clicks(0)
    part = AEFE(max_rows=2000, random_state=0).fit(X, y)
    assert set(part.crosses_) == PLANTED
    # What was chosen is computed from all rows.
    both = X.groupby(["f1", "f2"])["f1"].transform("size")
    ids = part.transform(X)["f1 x f2"]
    assert_array_equal(ids >= 2, both >= part.min_count)
    assert (both[ids == 2] == both.max()).all()
