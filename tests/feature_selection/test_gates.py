"""What all gate searches must do: every network, odd tables, files, other searches beside them."""

import json
import pickle
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from onnx_graphs import exported
from small_networks import told_small
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import networks_with_slot
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField, OptFS
from sklearn_autorec.feature_selection._gates._fields import usable_fields
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, DeepFM, MLPNetwork
from sklearn_autorec.nn import BuildContext
from sklearn_autorec.serving import load, save

METHODS = {
    "AutoField": AutoField(),
    "AdaFS": AdaFS(),
    "AdaFS-hard": AdaFS("hard"),
    "LPFS": LPFS(plus=False),
    "LPFS++": LPFS(),
    "OptFS": OptFS(),
}
DROPPING = [name for name in METHODS if "AdaFS" not in name]
OPTIONS = {
    "network": "fm",
    "embedding_dim": 4,
    "lr": 0.01,
    "max_epochs": 2,
    "search_epochs": 4,
    "batch_size": 128,
    "early_stopping": False,
    "random_state": 0,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def clicks():
    return mixed_clicks(1500, cardinality=8, informative_fields=[0, 2], pairs=[(0, 1)])


def fit(name, X, y, estimator=CTRClassifier, **options):
    search = METHODS[name] if isinstance(name, str) else name
    return estimator(**{**OPTIONS, "search": search, **options}).fit(X, y)


@pytest.mark.parametrize("network", networks_with_slot("gate"))
@pytest.mark.parametrize("name", METHODS)
def test_every_network_with_embeddings(name, network, clicks):
    X, y = clicks
    network = told_small(network, {"s0": "f0"})
    model = fit(name, X[:400], y[:400], network=network, max_epochs=1, search_epochs=1)
    p = model.predict_proba(X)
    assert np.isfinite(p).all() and p.std(0).min() > 1e-6
    if name in DROPPING:  # what is dropped is not read any more
        odd = X.assign(
            **{
                column: X[column].iloc[0]
                for column in set(X) - set(model.selected_fields_) - {"s0"}
            }
        )
        np.testing.assert_array_equal(model.predict_proba(odd), p)


@pytest.mark.parametrize("name", METHODS)
def test_ratings_and_classes(name, clicks):
    X, y = clicks
    rating = fit(name, X, y + 0.5 * X["x0"].to_numpy(), RatingRegressor)
    assert np.isfinite(rating.predict(X)).all() and set(rating.field_scores_) == {*X}
    classes = fit(name, X, np.where(y == 1, "yes", np.where(X["x0"] > 0, "no", "never")))
    assert classes.predict_proba(X).shape == (len(X), 3) and set(classes.field_scores_) == {*X}


def test_columns_that_can_only_mislead():
    rng = np.random.default_rng(0)
    a, items = rng.integers(2, 9, 50), rng.integers(2, 9, (50, 3))
    renamed = rng.permutation(20)[a]  # another name for every value
    ids = np.column_stack(
        [np.full(50, 3), a, renamed, rng.integers(2, 9, 50), np.zeros(50)]
    ).astype(np.int32)
    numbers = np.column_stack(
        [x := rng.normal(size=50), np.full(50, 0.5), x, x, *np.zeros((3, 50)), x > 0]
    ).astype(np.float32)
    lists = np.column_stack([items, np.full((50, 3), 4), items]).astype(np.int32)
    data = EncodedTensors(torch.from_numpy(ids), torch.from_numpy(numbers), torch.from_numpy(lists))
    context = BuildContext(tuple("abcdefghijkl"), (9, 9, 20, 9, 9), 4, ((9, 3),) * 3)
    # A constant, two copies (the second renamed), another, all missing | a number, constant, copy,
    # other gaps | lists.
    expected = [False, True, False, True, False, True, False, False, True, True, False, False]
    assert usable_fields(data, context).tolist() == expected


@pytest.mark.parametrize("name", DROPPING)
def test_constants_gaps_and_copies_are_dropped(name):
    X, y, _ = make_ctr(
        2000,
        n_fields=2,
        cardinality=6,
        informative_fields=[0],
        pairs=[],
        main_effect=2,
        random_state=0,
    )
    X = X.assign(
        constant="a",
        empty=None,
        seven=7.0,
        gaps=np.nan,
        copy=X["f0"],
        renamed=X["f0"].map(lambda v: "other " + str(v)),
        lists=[["a", "b"]] * len(X),
    )
    model = fit(name, X, y)
    assert set(model.selected_fields_) <= {"f0", "f1"} and "f0" in model.selected_fields_
    scores = model.field_scores_
    assert len(scores) == 9 and all(np.isfinite(list(scores.values())))
    assert max(scores[c] for c in set(X) - {"f0", "f1"}) < scores["f0"]
    rows = X[:20].assign(
        constant="b", empty="c", seven=1.0, gaps=3.0, copy=None, lists=[["c"]] * 20
    )
    np.testing.assert_array_equal(model.predict_proba(rows), model.predict_proba(X[:20]))


@pytest.mark.parametrize("name", METHODS)
def test_nothing_but_constants(name):
    X = pd.DataFrame({"a": ["x"] * 60, "b": [1.0] * 60, "c": [None] * 60})
    y = np.arange(60) % 2
    model = fit(name, X, y)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], 0.5, atol=0.1)
    if name in DROPPING:
        assert len(model.selected_fields_) == 1


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_one_class(name, clicks):
    X, _ = clicks
    model = fit(name, X, np.ones(len(X), int))
    assert (model.predict(X) == 1).all()
    with pytest.raises(AttributeError, match="seen a single class"):
        _ = model.field_scores_


@pytest.mark.parametrize("name", METHODS)
def test_more_fields_than_rows(name):
    X, y, _ = make_ctr(25, n_fields=40, cardinality=5, pairs=[], random_state=0)
    model = fit(name, X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    if name in DROPPING:
        assert 1 <= len(model.selected_fields_) <= 40


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("table", ["numbers", "categories", "lists"])
def test_one_kind_of_column(name, table, clicks):
    y = clicks[1][:800]
    rng = np.random.default_rng(0)
    useful, useless = y + 0.3 * rng.normal(size=len(y)), rng.normal(size=len(y))
    X = pd.DataFrame({"a": useless, "b": useful})
    if table != "numbers":
        X = X.round(1).astype(str)
    if table == "lists":
        X = X.apply(lambda column: [[v, "0"] for v in column])
    options = {"network": MLPNetwork((32,)), "max_epochs": 4, "lr": 0.03, "batch_size": 64}
    if table == "numbers":  # of which a few units learn slowly
        options = {"network": "mlp", "lr": 0.02, "batch_size": 32}
    model = fit(name, X, y, search_epochs=8, **options)
    assert model.score(X, y) > 0.9
    if name in DROPPING:
        assert model.field_scores_["b"] > model.field_scores_["a"] and "b" in model.selected_fields_


@pytest.mark.parametrize("name", METHODS)
def test_gaps_everywhere_and_values_never_seen(name, clicks):
    X, y = clicks
    holes = X.mask(np.random.default_rng(0).random(X.shape) < 0.5)
    holes["x0"] = holes["x0"].astype(float)
    model = fit(name, holes, y)
    assert np.isfinite(model.predict_proba(holes)).all()
    new = X[:10].assign(f0="new", f1=None, x0=1e30, s0=[["new"]] * 10)
    p = model.predict_proba(new)
    assert np.isfinite(p).all()
    np.testing.assert_array_equal(model.predict_proba(new[3:4]), p[3:4])  # a table of one row


@pytest.mark.parametrize("name", METHODS)
def test_tiny_tables_and_odd_batches(name, clicks):
    X, y = clicks
    for n, batch_size in ((4, "auto"), (65, 64), (33, 32)):  # a last batch of one row
        rows = np.r_[np.flatnonzero(y == 0)[: n // 2], np.flatnonzero(y == 1)[: n - n // 2]]
        model = fit(name, X.iloc[rows], y[rows], batch_size=batch_size)
        assert np.isfinite(model.predict_proba(X.iloc[rows])).all()


@pytest.mark.parametrize("name", METHODS)
def test_files_json_and_pickles(name, clicks, tmp_path):
    X, y = clicks
    model = fit(name, X, y, network=DeepFM((8,)))
    expected = model.predict_proba(X)
    save(model, tmp_path / "m")
    for again in (load(tmp_path / "m"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict_proba(X), expected)
        assert (
            again.field_scores_ == model.field_scores_
            and again.architecture_ == model.architecture_
        )
    found = json.loads(json.dumps(model.architecture_))
    assert found == model.architecture_
    same = CTRClassifier.from_architecture(
        found, max_epochs=2, lr=0.01, random_state=0, device="cpu"
    ).fit(X, y)
    assert same.n_parameters_ == model.n_parameters_ and same.architecture_ == model.architecture_
    if getattr(METHODS[name], "retrain", None) == "scratch":
        assert same.search_history_ == []


@pytest.mark.parametrize("name", ["AutoField", "LPFS++", "OptFS", "AdaFS"])
def test_exported_graphs_agree(name, clicks, tmp_path):
    X, y = clicks
    method = (
        AutoField(n_kept=3)
        if name == "AutoField"
        else OptFS(0.5)
        if name == "OptFS"
        else METHODS[name]
    )
    model = fit(method, X, y)
    rows = X[:40].assign(f1="new")
    np.testing.assert_allclose(
        exported(model, tmp_path)(rows), model.predict_proba(rows), atol=1e-5
    )


STACKS = {
    "AutoField + AutoFIS": [AutoField(n_kept=4), AutoFIS(max_interactions=2)],
    "LPFS + AutoFIS": [LPFS(n_kept=3), AutoFIS(max_interactions=2)],
    "OptFS + AutoDim": [OptFS(0.3), AutoDim((0, 2, 4))],
    "OptFS + PEP": [OptFS(0.3), PEP(0.5)],
    "AutoDim + AdaFS": [AutoDim((0, 2, 4)), AdaFS()],
    "AutoField + AutoDim + AutoFIS": [
        AutoField(n_kept=3),
        AutoDim((0, 2, 4)),
        AutoFIS(max_interactions=2),
    ],
}


@pytest.mark.parametrize("name", STACKS)
def test_other_searches_stand_on_what_is_kept(name, clicks, tmp_path):
    X, y = clicks
    model = fit(STACKS[name], X, y, network=DeepFM((8,)), search_epochs=2)
    p = model.predict_proba(X)
    save(model, tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict_proba(X), p)
    found = json.loads(json.dumps(model.architecture_))
    again = CTRClassifier.from_architecture(found, max_epochs=1, random_state=0, device="cpu").fit(
        X, y
    )
    assert (again.n_parameters_, again.nbytes_) == (model.n_parameters_, model.nbytes_)
    if name != "AutoDim + AdaFS":
        kept = set(model.selected_fields_)
        assert kept == set(again.selected_fields_)
        if "interaction" in found:
            assert len(model.interactions_) <= 2
            assert {frozenset(pair) for pair in model.interaction_scores_} == set(
                map(frozenset, combinations(kept, 2))
            )
        if "embedding" in found:
            assert all(
                np.sum(size) == 0
                for column, size in model.embedding_sizes_.items()
                if column not in kept
            )


def test_adafs_searches_jointly_and_the_others_do_not(clicks):
    X, y = clicks
    model = fit([AdaFS(), AutoFIS()], X, y, joint=True)
    assert set(model.field_scores_) == {*X} and {"smallest_weight", "open_gates"} <= set(
        model.search_history_[0]
    )
    with pytest.raises(
        ValueError, match=r"joint=True: LPFS\(\) drops fields and has to search first"
    ):
        fit([LPFS(), AutoFIS()], X, y, joint=True)


@pytest.mark.parametrize("name", METHODS)
def test_sample_weight_zero_is_absence(name, clicks):
    X, y = clicks
    weight = np.r_[np.ones(600), np.zeros(len(X) - 600)]
    a = CTRClassifier(**{**OPTIONS, "search": METHODS[name]}).fit(X, y, sample_weight=weight)
    b = fit(name, X[:600], y[:600], encoder=None)
    assert set(a.field_scores_) == set(b.field_scores_) and np.isfinite(a.predict_proba(X)).all()


def test_the_network_is_smaller_by_what_was_dropped(clicks, tmp_path):
    X, y = clicks
    X = X.assign(wide=[f"w{i % 700}" for i in range(len(X))])
    whole = fit(None, X, y, network=FM(), embedding_dim=16)
    model = fit(AutoField(n_kept=2), X, y, network=FM(), embedding_dim=16)
    for name, fitted in (("whole", whole), ("model", model)):
        save(fitted, tmp_path / name)
    assert model.selected_fields_ != ["wide"] and "wide" not in model.selected_fields_
    assert model.n_parameters_ < 0.1 * whole.n_parameters_
    assert (tmp_path / "model").stat().st_size < (tmp_path / "whole").stat().st_size - 700 * 16 * 4
    assert model.compression_ratio_ > 5
