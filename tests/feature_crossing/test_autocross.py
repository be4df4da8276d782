"""AutoCross: planted crosses are found, and nothing else."""

import itertools
import math
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from autocross_cases import PLANTED, planted_crosses
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import AutoCross, FieldCrosser
from sklearn_autorec.feature_crossing._autocross import _cross_search
from sklearn_autorec.feature_crossing._autocross._cross_search import CrossSearch, Fold
from sklearn_autorec.feature_crossing._autocross._fieldwise import (
    AdditiveModel,
    fit_field,
    row_loss,
)
from sklearn_autorec.feature_crossing._autocross._preparing import split_rows
from sklearn_autorec.inspection import SearchHistoryDisplay

SEEDS = range(5)


@pytest.mark.parametrize("seed", SEEDS)
def test_planted_crosses_are_found_and_no_others(seed):
    X, y, _ = planted_crosses(seed)
    cross = AutoCross(random_state=seed).fit(X, y)
    assert set(cross.crosses_) == PLANTED and len(cross.crosses_) == 3
    assert (cross.scores_ > 0.01).all()
    # Of a triple the pair must be there first.
    assert cross.crosses_.index(("f3", "f4")) < cross.crosses_.index(("f3", "f4", "f5"))


@pytest.mark.parametrize("seed", SEEDS)
def test_shuffled_labels_have_no_crosses(seed):
    X, y, _ = planted_crosses(seed)
    y = np.random.default_rng(seed).permutation(y)
    assert AutoCross(random_state=seed).fit(X, y).crosses_ == []


@pytest.mark.parametrize("n_folds", [1, "auto"])
def test_the_auto_level_holds_over_many_noise_tables(n_folds):
    # 28 candidates in each of 60 tables at a level of 5 % for each table: 8 or more would be a
    # chance of 1.5 %.
    rng = np.random.default_rng(0)
    found = {"auto": 0, 0.0: 0}
    for seed in range(60):
        X, y = rng.integers(12, size=(1200, 8)).astype(str), rng.integers(2, size=1200)
        for min_gain in found:
            cross = AutoCross(random_state=seed, max_crosses=1, n_folds=n_folds, min_gain=min_gain)
            found[min_gain] += bool(cross.fit(X, y).crosses_)
    assert found["auto"] <= 4
    assert found[0.0] >= 15  # what keeps them out is the least gain


@pytest.mark.parametrize(
    "options", [{"scoring": "roc_auc"}, {"beam_width": 3}, {"n_blocks": 4}, {"l2": 2.0}]
)
def test_other_ways_of_searching_find_them_too(options):
    X, y, _ = planted_crosses(1)
    assert set(AutoCross(random_state=1, **options).fit(X, y).crosses_) == PLANTED


def test_numbers_are_searched_with_squared_errors():
    X, y, truth = planted_crosses(2, task="rating")
    cross = AutoCross(random_state=0).fit(X, y)
    assert set(cross.crosses_) == PLANTED
    assert (
        truth.bayes_log_loss < -cross.base_score_ - cross.scores_.sum() < 1.1 * truth.bayes_log_loss
    )  # squared errors
    ratings = AutoCross(random_state=0, loss="squared_error").fit(X, np.rint(y).astype(int))
    assert set(ratings.crosses_) == PLANTED
    with pytest.raises(ValueError, match='loss="squared_error"'):
        AutoCross().fit(X, np.rint(y).astype(int))


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_the_unit_of_numbers_does_not_matter(unit):
    X, y, _ = planted_crosses(0, task="rating")
    one, other = (AutoCross(random_state=0).fit(X, target) for target in (y, unit * (y + 5)))
    assert one.crosses_ == other.crosses_
    assert_allclose(other.scores_, unit**2 * one.scores_, rtol=1e-6)
    assert_allclose(other.base_score_, unit**2 * one.base_score_, rtol=1e-6)
    least = 1.01 * one.scores_.max()  # min_gain is in the same unit as the scores
    assert AutoCross(random_state=0, min_gain=least * unit**2).fit(X, unit * y).crosses_ == []
    assert (
        AutoCross(random_state=0, max_crosses=1, min_gain=least * unit**2 / 2)
        .fit(X, unit * y)
        .crosses_
    )


def test_eight_pairs_with_missing_cells():
    X, y, truth = make_ctr(
        20_000, n_fields=9, cardinality=10, pairs=8, missing_rate=0.02, random_state=1
    )
    # (Where a cell is missing, the effects of the others are flatter: pairs that share a field are
    # triples as well.)
    cross = AutoCross(max_order=2, random_state=0).fit(X, y)
    assert {tuple(int(name[1:]) for name in pair) for pair in cross.crosses_} == set(truth.pairs)


def test_a_wider_beam_sees_past_the_best_first_step():
    # (0, 1) gains more than (2, 3), but (2, 3) leads to the triple, which gains most.
    rng = np.random.default_rng(0)
    X = rng.integers(2, size=(16_000, 6))
    signs = 2 * X - 1
    pair, other, triple = signs[:, :2].prod(1), signs[:, 2:4].prod(1), signs[:, 2:5].prod(1)
    y = (rng.random(16_000) < expit(0.8 * pair + 0.6 * other + 1.2 * triple)).astype(int)
    greedy, wide = (
        AutoCross(max_crosses=2, beam_width=w, random_state=0).fit(X, y) for w in (1, 2)
    )
    assert greedy.crosses_ == [("x0", "x1"), ("x2", "x3")]
    assert wide.crosses_ == [("x2", "x3"), ("x2", "x3", "x4")]
    assert wide.scores_.sum() > greedy.scores_.sum() + 0.02


def test_a_triple_without_a_pair_is_out_of_reach():
    # What the paper's order of priority gives up; the docstring says so.
    rng = np.random.default_rng(0)
    ids = rng.integers(2, size=(8000, 6))
    y = (rng.random(8000) < expit(3 * (ids[:, :3].sum(1) % 2) - 1.5)).astype(int)
    assert AutoCross(random_state=0).fit(ids, y).crosses_ == []


def test_the_search_keeps_its_books():
    X, y, _ = planted_crosses(0)
    cross = AutoCross(random_state=0).fit(X, y)
    assert [r["cross"] for r in cross.search_history_] == cross.crosses_
    assert [r["epoch"] for r in cross.search_history_] == [1, 2, 3]
    assert_allclose([r["gain"] for r in cross.search_history_], cross.scores_)
    assert_allclose(cross.search_history_[-1]["score"], cross.base_score_ + cross.scores_.sum())
    assert all(r["gain"] > 0 and r["t"] > 5 and r["seconds"] > 0 for r in cross.search_history_)
    # 28 pairs; then 6 triples with the found pair, and 27 pairs
    assert [r["n_candidates"] for r in cross.search_history_[:2]] == [28, 33]
    assert all(r["rounds"] == [(r["n_candidates"], 12_799)] for r in cross.search_history_)
    assert SearchHistoryDisplay(cross.search_history_, []).runs() == [("search", 1, 3)]
    again = AutoCross(random_state=0).fit(X, y)
    assert again.crosses_ == cross.crosses_ and (again.scores_ == cross.scores_).all()


def test_halving_doubles_the_rows_and_halves_the_candidates():
    X, y, _ = planted_crosses(0)
    cross = AutoCross(n_blocks=8, max_crosses=1, n_folds=1, random_state=0).fit(X, y)
    assert cross.search_history_[0]["rounds"] == [(28, 1600), (14, 3200), (7, 6400), (4, 12_800)]


def search(seed=0, **options):
    X, y, _ = planted_crosses(seed, n=4000)
    ids = {i: pd.factorize(X[name])[0] for i, name in enumerate(X)}
    return ids, CrossSearch(
        ids, dict.fromkeys(ids, 8), y.astype(float), [Fold(3000, 4000)], AutoCross(**options), True
    )


def test_a_candidate_is_scored_on_the_offset_of_the_others():
    ids, found = search(l2=1.0)
    model = AdditiveModel(found.y, 3000, True, 1.0).extended(ids[0], 8).fit()
    state, _ = found.run()
    keys = ids[1] * 8 + ids[2]
    weights = fit_field(keys[:3000], 64, found.y[:3000], model.eta[:3000], True, 1.0, 4)
    before, after = (
        row_loss(found.y, e, True)[3000:] for e in (model.eta, model.eta + weights[keys])
    )
    state.models, state.crosses = [model], ()
    found.pool.candidates((), 2)
    passed, _ = found._halve(state, [(1, 2), (6, 7)])
    assert [s.cross for s in passed] == [(1, 2)]
    difference = before - after
    assert_allclose(passed[0].gain, difference.mean(), rtol=1e-6)
    assert_allclose(passed[0].t, difference.mean() / difference.std() * np.sqrt(1000), rtol=1e-6)


def test_gains_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    folds = [
        (y := rng.integers(2, size=n).astype(float), rng.normal(size=n), rng.normal(size=n) + y)
        for n in (300, 500)
    ]
    loss, auc = (
        search(scoring=scoring)[1]._scored((1, 2), folds) for scoring in ("log_loss", "roc_auc")
    )
    gains = [roc_auc_score(y, after) - roc_auc_score(y, before) for y, before, after in folds]
    assert_allclose(auc.gain, np.mean(gains))
    y, before, after = (np.concatenate(parts) for parts in zip(*folds, strict=True))
    assert_allclose(loss.gain, log_loss(y, expit(before)) - log_loss(y, expit(after)))
    difference = row_loss(y, before, True) - row_loss(y, after, True)
    assert_allclose([loss.t, auc.t], difference.mean() / difference.std() * np.sqrt(800))


@pytest.mark.parametrize(
    "n_folds, n, sizes", [(1, 103, [26]), (4, 103, [26, 26, 26, 25]), (50, 40, [5] * 8)]
)
def test_rows_are_held_out_in_turn(n_folds, n, sizes):
    y = np.zeros(n)
    y[: n // 5] = 1
    order, folds = split_rows(y, True, n_folds, 0.25, 0)
    assert sorted(order) == list(range(n)) and folds[0].stop == n
    assert sorted(fold.stop - fold.start for fold in folds) == sorted(sizes)
    rows = np.arange(n)
    for fold in folds:
        arranged = fold.arranged(rows)
        held_out = arranged[n - (fold.stop - fold.start) :]
        assert_array_equal(held_out, rows[fold.start : fold.stop])
        assert sorted(arranged) == list(range(n))
        assert abs(y[order][held_out].mean() - y.mean()) < 0.04  # classes evenly
    if n_folds > 1:
        assert sorted(np.concatenate([rows[f.start : f.stop] for f in folds])) == list(range(n))
    assert (split_rows(y, True, n_folds, 0.25, 0)[0] == order).all()


def test_scales_lead_to_the_weights_of_the_search():
    X, y, _ = planted_crosses(0, cardinality=[8] * 6 + [1000, 3000])
    cross = AutoCross(output="onehot", random_state=0).fit(X[:12_000], y[:12_000])
    assert set(cross.crosses_) == PLANTED
    # Planted with standard deviations of 0.7 and 1 of the rows; rare values have larger effects.
    assert all(0.4 < cross.scales_[name] < 2 for name in ("f0", "f1 x f2", "f3 x f4 x f5"))
    assert all(cross.scales_[f"f{k}"] < 0.1 for k in (1, 2, 6, 7))
    loss = {}
    for scale in (True, False):
        pipe = Pipeline(
            [
                ("cross", cross.set_params(scale=scale)),
                ("clf", LogisticRegression(solver="newton-cg")),
            ]
        )
        pipe.fit(X[:12_000], y[:12_000])
        loss[scale] = log_loss(y[12_000:], pipe.predict_proba(X[12_000:])[:, 1])
        values = set(pipe[0].transform(X[:1]).data.tolist())
        assert values == ({cross.scales_[n] for n in cross.scales_} if scale else {1.0})
    assert loss[True] < loss[False] - 0.01
    cross = AutoCross(output="onehot", random_state=0).fit(X, y)
    alone = FieldCrosser.from_estimator(cross, output="onehot").fit(X)
    assert (alone.transform(X) != cross.transform(X)).nnz == 0


def test_orders_and_numbers_are_bounded():
    X, y, _ = planted_crosses(0)
    assert set(AutoCross(max_order=2, random_state=0).fit(X, y).crosses_) == PLANTED - {
        ("f3", "f4", "f5")
    }
    assert len(AutoCross(max_crosses=1, random_state=0).fit(X, y).crosses_) == 1
    none = AutoCross(max_crosses=0, random_state=0).fit(X, y)
    assert none.crosses_ == [] and len(none.scores_) == 0 and none.transform(X).equals(X)
    assert AutoCross(min_gain=1.0, random_state=0).fit(X, y).crosses_ == []
    assert AutoCross(max_time=0, random_state=0).fit(X, y).crosses_ == []


def test_time_up_leaves_the_crosses_found_so_far(monkeypatch):
    X, y, _ = planted_crosses(0)
    whole = AutoCross(random_state=0).fit(X, y)
    found = []
    for n_calls in (0, 100, 200, 300, 400, 10_000):
        calls = itertools.count()
        clock = SimpleNamespace(
            monotonic=lambda c=calls, n=n_calls: math.inf if next(c) >= n else -math.inf,
            perf_counter=time.perf_counter,
        )
        monkeypatch.setattr(_cross_search, "time", clock)
        cross = AutoCross(random_state=0, max_time=60).fit(X, y)
        assert cross.crosses_ == whole.crosses_[: len(cross.crosses_)]
        assert cross.transform(X).shape[1] == 8 + len(cross.crosses_)
        assert set(cross.scales_.values()) != {0.0}  # of what was not fitted in time, 1
        found.append(len(cross.crosses_))
    assert found[0] == 0 and found[-1] == 3 and found == sorted(found) and {1, 2} & set(found)


def test_numeric_columns_choose_their_granularity():
    rng = np.random.default_rng(0)
    fine, coarse, noise = rng.normal(size=(3, 20_000))
    other = rng.integers(3, size=20_000)
    saw = (np.argsort(np.argsort(fine)) // 500) % 2  # changes 40 times over the range
    eta = 1.5 * saw + 1.5 * (coarse > 0) * (other - 1) - 1
    X = pd.DataFrame({"fine": np.exp(fine), "coarse": coarse, "noise": noise, "other": other})
    y = (rng.random(20_000) < expit(eta)).astype(int)
    cross = AutoCross(n_bins=(2, 10, 40), random_state=0).fit(X, y)
    assert cross.n_bins_["fine"] == 40 and cross.n_bins_["coarse"] == 2
    assert cross.crosses_ == [("coarse", "other")]
    assert cross.crosser_.n_bins == cross.n_bins_ and set(cross.n_bins_) == {
        "fine",
        "coarse",
        "noise",
    }
    alone = FieldCrosser.from_estimator(cross).fit_transform(X)
    pd.testing.assert_frame_equal(alone, cross.transform(X))
    assert AutoCross(n_bins=5, random_state=0).fit(X, y).n_bins_["fine"] == 5
