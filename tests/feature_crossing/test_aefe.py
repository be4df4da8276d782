"""AEFE: features of the planted pairs are built and kept, and nothing of the target leaks into
them.
"""

import itertools
import math
import pickle
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import f1_score, make_scorer, roc_auc_score
from sklearn.model_selection import KFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from small_tables import planted_crosses

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
CHEAP = {"n_pairs": 4, "cv": 2, "max_epochs": 12, "random_state": 0}
PLANTED = {("f1", "f2"), ("f3", "f4")}


def clicks(seed, n=4000, **options):
    X, y, _ = planted_crosses(n, seed, **{"pair_effect": 2.0, **options})
    return X, y


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


# tables
# ------------------------------------------------------------------------------------------------


def test_odd_columns_are_survived():
    X, y = clicks(4)
    X["constant"], X["none"], X["nan"] = "a", None, np.nan
    X["key"] = np.arange(len(X)).astype(str)
    X["f7"] = X["f7"].mask(np.arange(len(X)) % 3 > 0)
    X["f1"] = X["f1"].mask(X["f1"] == "v0")
    aefe = AEFE(random_state=0)
    new = aefe.fit_transform(X, y)
    assert PLANTED <= set(aefe.crosses_) and np.isfinite(new[aefe.features_].to_numpy()).all()
    assert not {"constant", "none", "nan"} & {name for pair in aefe.pair_scores_ for name in pair}
    other = X[:40].copy()
    other["f3"], other["f2"] = "never seen", None
    out = aefe.transform(other)
    assert np.isfinite(out[aefe.features_].to_numpy()).all()
    assert out["f3 x f4"].le(1).all()
    assert_allclose(out["mean(y | f3, f4)"], out["mean(y | f3, f4)"].iloc[0])
    one = pd.concat([aefe.transform(X.iloc[i : i + 1]) for i in range(20)])
    pd.testing.assert_frame_equal(one, aefe.transform(X[:20]))


def test_of_two_equal_columns_one_is_used():
    X, y = clicks(3)
    X["copy"] = "v" + X["f1"]
    aefe = AEFE(random_state=0).fit(X, y)
    assert set(aefe.crosses_) == PLANTED
    assert not any("copy" in pair for pair in aefe.pair_scores_)


def test_numbers_alone():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 4))
    X[rng.random(X.shape) < 0.05] = np.nan
    signs = np.sign(X[:, 0] * X[:, 1])
    y = (rng.random(6000) < np.where(signs > 0, 0.8, 0.2)).astype(int)
    aefe = AEFE(random_state=0)
    new = aefe.fit_transform(X, y)
    assert aefe.crosses_ == [("x0", "x1")] and new.shape == (6000, 4 + len(aefe.features_))
    assert_array_equal(new[:, :4], X)
    assert aefe.n_bins_ == dict.fromkeys(["x0", "x1", "x2", "x3"], 10)
    few = AEFE(n_bins={"x0": 2, "x1": 2}, random_state=0)
    with pytest.raises(ValueError, match="n_bins"):
        few.set_params(n_bins={"z": 2}).fit(X, y)
    few.set_params(n_bins={0: 2, 1: 2}, paradigms=("target",)).fit(X, y)
    full = ~np.isnan(X[:, :2]).any(1)
    assert len(np.unique(few.transform(X)[full, 4])) == 4


def test_nothing_to_pair():
    y = [0, 1] * 20
    one = AEFE().fit(pd.DataFrame({"a": list("ab") * 20}), y)
    assert one.features_ == [] and one.transform(pd.DataFrame({"a": ["c"]})).shape == (1, 1)
    lists = AEFE().fit(pd.DataFrame({"a": [["x", "y"], []] * 20, "b": [["x"]] * 40}), y)
    assert lists.features_ == []
    empty = pd.DataFrame({"a": [np.nan] * 40, "b": [None] * 40})
    assert AEFE().fit(empty, y).features_ == [] and AEFE().fit_transform(empty, y).shape == (40, 2)


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.integers(2, size=(100, 110)).astype(str)).add_prefix("c")
    y = (X["c7"] != X["c70"]).to_numpy()
    aefe = AEFE(random_state=0)
    new = aefe.fit_transform(X, y)
    assert (
        new.shape == (100, 110 + len(aefe.features_)) and len(aefe.pair_scores_) == 110 * 109 // 2
    )
    assert np.isfinite(new[aefe.features_].to_numpy()).all()


def test_few_rows():
    X = pd.DataFrame({"a": list("xxyy"), "b": list("xyxy")})
    out = AEFE(min_count=1).fit_transform(X, [0, 1, 1, 0])
    assert len(out) == 4 and out[["a", "b"]].equals(X)
    assert len(AEFE().fit_transform(X, [0.5, 1.5, 1.0, 0.0])) == 4


def test_a_column_of_a_new_name_is_refused():
    X, y = clicks(0, n=1200)
    X = X.rename(columns={"f7": "f1 x f2"})
    with pytest.raises(ValueError, match="already has a column 'f1 x f2'"):
        AEFE(random_state=0).fit(X, y)
    assert (
        AEFE(append=False, random_state=0).fit(X, y).transform(X).columns.tolist().count("f1 x f2")
        == 1
    )


@pytest.mark.parametrize("container", ["numpy", "list", "polars", "pyarrow"])
def test_other_tables(container):
    X, y = clicks(0, n=1200)
    expected = AEFE(**CHEAP, append=False).fit_transform(X, y)
    if container in ("polars", "pyarrow"):
        module = pytest.importorskip(container)
        table = (module.DataFrame if container == "polars" else module.table)(X.to_dict("list"))
    else:
        table = X.to_numpy(dtype="U") if container == "numpy" else X.to_numpy().tolist()
    aefe = AEFE(**CHEAP)
    out = aefe.fit_transform(table, y)
    alone = aefe.set_params(append=False).transform(table)
    if container in ("polars", "pyarrow"):
        assert type(out) is type(alone) is type(table)
        out = out.to_pandas()
    new = np.asarray(out)[:, 8:].astype(float)
    assert_allclose(new, expected.to_numpy(), rtol=1e-9)
    assert np.asarray(alone).shape == new.shape


# conventions
# -------------------------------------------------------------------------------------------


def test_one_and_two_processes_agree():
    X, y = clicks(0, n=1000)
    one, two = (AEFE(n_jobs=n, patience=1, **CHEAP).fit(X, y) for n in (1, 2))
    assert one.features_ == two.features_ and one.search_history_ == two.search_history_
    assert one.base_score_ == two.base_score_ and one.pair_scores_ == two.pair_scores_


def test_pickle_clone_text_labels_and_global_state():
    X, y = clicks(0, n=1200)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    before, states = X.copy(), (state, torch.get_rng_state())
    aefe = AEFE(**CHEAP).fit(X, np.where(y == 1, "yes", "no"))
    assert X.equals(before) and (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])
    assert clone(aefe).fit(X, y).features_ == aefe.features_
    data = pickle.dumps(aefe)
    assert len(data) < 40_000  # no rows
    pd.testing.assert_frame_equal(pickle.loads(data).transform(X), aefe.transform(X))
    assert clone(aefe).get_params() == aefe.get_params()


def test_set_output_names_and_from_estimator():
    X, y = clicks(0, n=1200)
    aefe = AEFE(**CHEAP)
    new = aefe.fit_transform(X, y)
    assert (
        aefe.get_feature_names_out().tolist()
        == new.columns.tolist()
        == [*X.columns, *aefe.features_]
    )
    codes = OrdinalEncoder().fit_transform(X)
    out = AEFE(**CHEAP, append=False).set_output(transform="pandas").fit_transform(codes, y)
    assert isinstance(out, pd.DataFrame) and "mean(y | x1, x2)" in out.columns
    crosser = FieldCrosser.from_estimator(aefe).fit(X)
    assert set(crosser.crosses_) == PLANTED
    assert_array_equal(crosser.transform(X)["f1 x f2"], aefe.transform(X)["f1 x f2"])
    # Training rows have target means of others; all else is as in transform.
    again = aefe.transform(X)
    for name in aefe.features_:
        assert (new[name].to_numpy() == again[name].to_numpy()).all() == ("mean" not in name)
    index = X.set_index(np.arange(1200) * 2)
    assert aefe.transform(index).index.equals(index.index)


@pytest.mark.parametrize(
    "params, y, message",
    [
        ({}, [1] * 40, r"got 1 class\(es\)"),
        ({}, [0] * 39 + [1], "two classes with two rows"),
        ({}, None, "requires y"),
        ({}, [0, 1] * 19, "inconsistent numbers of samples"),
        ({}, [np.nan] * 40, "NaN"),
        ({"paradigms": ("count", "median")}, [0, 1] * 20, "paradigms must be some of"),
        ({"paradigms": ()}, [0, 1] * 20, "paradigms must be some of"),
        ({"estimator": StandardScaler()}, [0, 1] * 20, "estimator"),
        ({"estimator": LogisticRegression()}, [0.5, 1.5] * 20, "continuous"),
        ({"cv": 1}, [0, 1] * 20, "cv"),
        ({"importance_quantile": 1.0}, [0, 1] * 20, "importance_quantile"),
        ({"n_bins": {"z": 3}}, [0, 1] * 20, "n_bins has 'z'"),
        ({"encoder": LogisticRegression()}, [0, 1] * 20, "encoder"),
    ],
)
def test_what_makes_no_sense_is_refused(params, y, message):
    with pytest.raises(ValueError, match=message):
        AEFE(**params).fit(np.arange(80).reshape(40, 2) % 5, y)
