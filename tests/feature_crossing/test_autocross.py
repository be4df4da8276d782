"""AutoCross: planted crosses are found, and nothing else."""

import itertools
import math
import pickle
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import small_tables
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_autorec import CTRClassifier
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


def planted_crosses(seed, n=16_000, **options):
    """Field 0 adds; (1, 2), (3, 4) and (3, 4, 5) act together; (3, 4) leads to the triple. The rest
    is noise.
    """
    return small_tables.planted_crosses(n, seed, **{"triples": [(3, 4, 5)], **options})


PLANTED = {("f1", "f2"), ("f3", "f4"), ("f3", "f4", "f5")}


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
    assert AutoCross(time_limit=0, random_state=0).fit(X, y).crosses_ == []


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
        cross = AutoCross(random_state=0, time_limit=60).fit(X, y)
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


def test_a_table_of_numbers_alone():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(8000, 4))
    y = (rng.random(8000) < expit(3 * np.sign(X[:, 0] * X[:, 1]))).astype(int)
    cross = AutoCross(random_state=0).fit(X, y)
    assert cross.crosses_ == [("x0", "x1")]
    assert cross.transform(X).shape == (8000, 5)
    assert cross.get_feature_names_out().tolist() == ["x0", "x1", "x2", "x3", "x0 x x1"]


def test_of_two_equal_columns_one_is_crossed():
    X, y, _ = planted_crosses(3)
    X["copy"] = "v" + X["f1"]
    found = AutoCross(random_state=0).fit(X, y).crosses_
    assert len(found) == 3 and len({("f1", "f2"), ("f2", "copy")} & set(found)) == 1


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.integers(2, size=(60, 70)).astype(str)).add_prefix("c")
    y = (X["c7"] != X["c60"]).to_numpy()
    assert AutoCross(random_state=0).fit(X, y).crosses_ == [("c7", "c60")]
    assert AutoCross(random_state=0).fit(X, rng.permutation(y)).crosses_ == []


@pytest.mark.parametrize("rate", [0.5, 0.02])
@pytest.mark.parametrize("scoring", ["log_loss", "roc_auc"])
def test_few_rows_of_a_class_do_not_make_crosses(rate, scoring):
    # With normal quantiles (of the AUC's error, besides) a third of the tables of rare clicks had a
    # cross.
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n = 60 if rate == 0.5 else 1000
        X, y = rng.integers(3, size=(n, 12)), rng.random(n) < rate
        found += bool(
            AutoCross(random_state=seed, scoring=scoring, max_crosses=1, n_folds=1)
            .fit(X, y)
            .crosses_
        )
    assert found <= 2


def test_a_table_of_all_combinations():
    # Every row gains the same: no spread at all.
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 50)
    assert AutoCross(random_state=0).fit(X, X[:, 0] ^ X[:, 1]).crosses_ == [("x0", "x1")]


def test_tables_without_candidates():
    y = [0, 1] * 20
    one = AutoCross().fit(pd.DataFrame({"a": list("ab") * 20}), y)
    assert one.crosses_ == [] and one.transform(pd.DataFrame({"a": ["c"]})).shape == (1, 1)
    lists = AutoCross().fit(pd.DataFrame({"a": [["x", "y"], []] * 20, "b": [["x"]] * 40}), y)
    assert lists.crosses_ == []
    assert AutoCross().fit(pd.DataFrame({"a": ["x"] * 40, "b": [1.5] * 40}), y).crosses_ == []


def test_sequence_columns_are_passed_on():
    X, y, _ = planted_crosses(0, n_sequences=1)
    cross = AutoCross(random_state=0).fit(X, y)
    assert set(cross.crosses_) == PLANTED
    assert cross.transform(X)["s0"].tolist() == X["s0"].tolist()


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_tables(library):
    X, y, _ = planted_crosses(0)
    module = pytest.importorskip(library)
    table = (module.DataFrame if library == "polars" else module.table)(X.to_dict("list"))
    cross = AutoCross(random_state=0).fit(table, y)
    assert set(cross.crosses_) == PLANTED
    out = cross.transform(table)
    assert type(out) is type(table)
    pd.testing.assert_frame_equal(
        out.to_pandas().iloc[:, 8:], AutoCross(random_state=0).fit_transform(X, y).iloc[:, 8:]
    )


def test_odd_columns_are_survived():
    X, y, _ = planted_crosses(4)
    X["constant"], X["none"], X["nan"] = "a", None, np.nan
    X["key"] = np.arange(len(X)).astype(str)
    X["f7"] = X["f7"].mask(np.arange(len(X)) % 3 > 0)
    X["f1"] = X["f1"].mask(X["f1"] == "v0")
    cross = AutoCross(random_state=0, output="onehot").fit(X, y)
    assert set(cross.crosses_) == PLANTED
    new = X[:40].copy()
    new["f3"], new["f2"] = "never seen", None
    assert cross.transform(new).shape == (40, cross.transform(X[:1]).shape[1])
    empty = pd.DataFrame({"a": [np.nan] * 30, "b": [None] * 30})
    assert AutoCross().fit(empty, [0, 1] * 15).crosses_ == []


@pytest.mark.parametrize(
    "y, message",
    [
        ([1] * 40, r"two classes .*got 1 class\(es\)"),
        ([0, 1, 2, 3] * 10, r"got 4 class\(es\)"),
        ([0] * 39 + [1], "rows of class 1"),
        ([0, 1] * 19, "inconsistent numbers of samples"),
        ([np.nan] * 40, "NaN"),
        (None, "requires y"),
    ],
)
def test_bad_targets_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        AutoCross().fit(np.arange(80).reshape(40, 2) % 5, y)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"max_order": 1}, "max_order"),
        ({"n_bins": ()}, "n_bins must be one or more"),
        ({"n_bins": (10, 0)}, "n_bins must be one or more"),
        ({"min_gain": -1.0}, "min_gain"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"encoder": LogisticRegression()}, "encoder"),
        ({"scoring": "roc_auc", "loss": "squared_error"}, 'scoring="roc_auc" needs'),
    ],
)
def test_bad_parameters_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        AutoCross(**params).fit(np.arange(80).reshape(40, 2) % 5, [0, 1] * 20)


def test_text_labels_pickle_and_clone():
    X, y, _ = planted_crosses(0, n=12_000)
    before = X.copy()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    cross = AutoCross(random_state=0).fit(X, np.where(y == 1, "yes", "no"))
    assert (np.random.get_state()[1] == state).all() and X.equals(before)  # noqa: NPY002
    assert cross.crosses_ == AutoCross(random_state=0).fit(X, y).crosses_
    data = pickle.dumps(cross)
    assert len(data) < 40_000  # no rows
    pd.testing.assert_frame_equal(pickle.loads(data).transform(X), cross.transform(X))
    assert clone(cross).get_params() == cross.get_params()
    pd.testing.assert_frame_equal(clone(cross).fit_transform(X, y), cross.transform(X))


def test_in_front_of_logistic_regression():
    X, y, _ = planted_crosses(0)
    pipe = Pipeline(
        [("cross", AutoCross(output="onehot", random_state=0)), ("clf", LogisticRegression())]
    )
    train, test = slice(0, 12_000), slice(12_000, None)
    auc = {}
    for limit in (0, 10):
        pipe.set_params(cross__max_crosses=limit).fit(X[train], y[train])
        auc[limit] = roc_auc_score(y[test], pipe.predict_proba(X[test])[:, 1])
    assert auc[10] > auc[0] + 0.1
    # A row alone has the prediction it has in the table.
    many = pipe.predict_proba(X[test][:20])
    assert_allclose(
        np.vstack([pipe.predict_proba(X[test][i : i + 1]) for i in range(20)]), many, rtol=1e-12
    )
    names = pipe[0].get_feature_names_out()
    assert len(names) == pipe[-1].coef_.shape[1]
    grid = GridSearchCV(pipe, {"cross__max_crosses": [0, 3]}, cv=2, scoring="neg_log_loss").fit(
        X[train], y[train]
    )
    assert grid.best_params_ == {"cross__max_crosses": 3}


def test_in_front_of_a_network():
    X, y, _ = planted_crosses(0)
    model = CTRClassifier(network="lr", lr=0.02, max_epochs=6, random_state=0, device="cpu")
    pipe = Pipeline([("cross", AutoCross(random_state=0)), ("ctr", model)])
    train, test = slice(0, 12_000), slice(12_000, None)
    pipe.fit(X[train], y[train])
    encoder = pipe[-1].encoder_
    assert encoder.field_names_[: len(encoder.categorical_)][-3:] == [
        " x ".join(c) for c in pipe[0].crosses_
    ]
    plain = clone(model).fit(X[train], y[train])
    gain = log_loss(y[test], plain.predict_proba(X[test])) - log_loss(
        y[test], pipe.predict_proba(X[test])
    )
    assert gain > 0.05
    assert_array_equal(pipe[0].transform(X[:5]).columns[: X.shape[1]], X.columns)
