"""GLIDER: tables and conventions."""

import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from glider_cases import FAST, TREES, clicks, numbers, of_formula
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec import CTRClassifier
from sklearn_autorec.feature_crossing import GLIDER, FieldCrosser
from sklearn_autorec.feature_crossing._glider._perturbing import GONE, perturbed, typical_rows
from sklearn_autorec.feature_crossing._threads import one_thread

# tables
# ------------------------------------------------------------------------------------------------


def test_cells_are_those_of_the_rows_named():
    frame = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": [0.5, np.nan, 2.5],
            "s": ["a", None, "c"],
            "c": pd.Categorical(["x", "y", "x"]),
            "b": [True, False, True],
            "t": pd.to_datetime(["2020-01-01", "2021-01-01", None]),
            "l": [["p"], [], ["q", "r"]],
        },
        index=[7, 3, 7],
    )
    source = np.array([[0, 1, 2, 0, 1, 2, 0], [2, 2, 1, 1, 0, 0, 2]])
    new = perturbed(frame, source)
    assert new.columns.tolist() == frame.columns.tolist() and (new.dtypes == frame.dtypes).all()
    for i, j in itertools.product(range(2), range(7)):
        a, b = new.iloc[i, j], frame.iloc[source[i, j], j]
        assert a == b or (a is b is None) or (pd.isna(a) and pd.isna(b))
    source[0] = GONE
    new = perturbed(frame, source)
    assert new.iloc[0].isna().all() and new.iloc[1]["i"] == 3 and new["c"].dtype == frame["c"].dtype
    for array in (np.arange(6).reshape(3, 2), np.array([["a", "b"]] * 3), np.ones((3, 2))):
        before = array.copy()
        out = perturbed(array, np.array([[1, GONE]]))
        assert out[0, 0] == array[1, 0] and pd.isna(out[0, 1]) and (array == before).all()
        assert perturbed(array, np.array([[1, 2]])).dtype == array.dtype


def test_typical_cells():
    frame = pd.DataFrame(
        {
            "s": ["a", "b", "b", None],
            "f": [9.0, 1.0, 5.0, np.nan],
            "none": [None] * 4,
            "i": [3, 3, 4, 5],
            "l": [[1], [2], [], [3]],
        }
    )
    assert typical_rows(frame).tolist() == [1, 2, 0, 0, 0]
    assert typical_rows(np.array([[1.0, 5.0], [3.0, 4.0], [2.0, np.nan]])).tolist() == [2, 0]
    assert typical_rows(np.array([["a", "b"], ["c", "b"]], dtype=object)).tolist() == [0, 0]


@pytest.mark.parametrize("container", ["numpy", "list", "objects", "polars", "pyarrow"])
def test_other_tables(container):
    X, y, _ = clicks(0, n=3000)
    X = X.astype("str")
    model = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), DecisionTreeClassifier(max_depth=8, random_state=0)
    )
    expected = GLIDER(model, **FAST).fit(X, y)
    if container in ("polars", "pyarrow"):
        module = pytest.importorskip(container)
        table = (module.DataFrame if container == "polars" else module.table)(X.to_dict("list"))
    else:
        table = {
            "numpy": X.to_numpy(dtype="U"),
            "list": X.to_numpy().tolist(),
            "objects": X.to_numpy(dtype=object),
        }[container]
    glider = GLIDER(model, **FAST).fit(table, y)
    rename = (
        (lambda c: tuple(n.replace("f", "x") for n in c))
        if container in ("numpy", "list", "objects")
        else tuple
    )
    assert glider.crosses_ == [rename(c) for c in expected.crosses_]
    out = glider.transform(table)
    assert type(out) is type(table) or container == "list"
    assert out.shape == (3000, 7 + len(glider.crosses_))


def test_numbers_alone_are_binned():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(5000, 5)), columns=list("abcde"))
    y = (rng.random(5000) < expit(3 * np.sign(X["a"] * X["b"]))).astype(int)
    glider = GLIDER(TREES, max_crosses=1, n_bins={"a": 4, "b": 6}, **FAST).fit(X, y)
    assert glider.crosses_ == [("a", "b")] and glider.n_bins_ == {
        "a": 4,
        "b": 6,
        "c": 10,
        "d": 10,
        "e": 10,
    }
    out = glider.transform(X)
    assert out["a x b"].nunique() == 24
    pd.testing.assert_frame_equal(FieldCrosser.from_estimator(glider).fit_transform(X), out)


def test_odd_columns_are_survived():
    X, y, _ = clicks(3)
    X = X.astype("str")
    X["constant"], X["none"], X["nan"] = "a", None, np.nan
    X["f6"] = X["f6"].mask(np.arange(len(X)) % 3 > 0)
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    glider = GLIDER(make_pipeline(codes, TREES), max_crosses=30, **FAST).fit(X, y)
    assert set(glider.crosses_[:2]) == {("f1", "f2"), ("f3", "f4")}
    assert not {"constant", "none", "nan"} & {
        name for cross in glider.interaction_scores_ for name in cross
    }
    new = X[:40].copy()
    new["f3"], new["f2"] = "never seen", None
    out = glider.transform(new)
    assert (out["f3 x f4"] <= 1).all() and out.shape == (40, glider.transform(X[:1]).shape[1])


def test_of_two_equal_columns_one_is_crossed():
    X, y, _ = clicks(0)
    X["copy"] = X["f1"].cat.rename_categories(lambda v: "copy of " + v)
    glider = GLIDER(TREES, max_crosses=30, **FAST).fit(X, y)
    assert set(glider.crosses_[:2]) == {("f1", "f2"), ("f3", "f4")}
    assert not any("copy" in cross for cross in glider.interaction_scores_)
    # Both are replaced together: a model that reads either one is seen through.
    Z = numbers()
    twice = of_formula(lambda A: A[:, 0] * A[:, 3], np.column_stack([Z[:, :3], Z[:, 0]]))
    assert twice.crosses_ == []  # a square of one column
    assert of_formula(lambda A: A[:, 3] * A[:, 1], np.column_stack([Z[:, :3], Z[:, 0]])).crosses_[
        0
    ] == ("x0", "x1")


def test_nothing_to_cross():
    y = [0, 1] * 20
    tree = DecisionTreeClassifier()
    one = GLIDER(tree, **FAST).fit(np.arange(40)[:, None], y)
    assert one.crosses_ == [] and one.transform(np.arange(3)[:, None]).shape == (3, 1)
    empty = GLIDER(tree, **FAST).fit(np.full((40, 3), np.nan), y)
    assert empty.crosses_ == [] and empty.transform(np.full((2, 3), np.nan)).shape == (2, 3)
    assert GLIDER(tree, max_crosses=0, **FAST).fit(numbers(40), y).crosses_ == []


def test_more_columns_than_rows():
    rng = np.random.default_rng(0)
    X = rng.choice([-1.0, 1.0], size=(60, 90))
    glider = of_formula(lambda Z: Z[:, :9].sum(1) + 4 * Z[:, 7] * Z[:, 70], X, n_perturbations=600)
    assert glider.crosses_[0] == ("x7", "x70")


def test_sequence_columns_are_left_alone():
    X, y, _ = clicks(0, n=3000, n_sequences=1)
    model = CTRClassifier(network="fm", lr=0.02, max_epochs=6, random_state=0, device="cpu")
    glider = GLIDER(model, **FAST).fit(X, y)
    assert not any("s0" in cross for cross in glider.interaction_scores_)
    assert glider.transform(X)["s0"].tolist() == X["s0"].tolist()


# conventions
# -------------------------------------------------------------------------------------------


def test_one_and_two_processes_agree():
    X, y, _ = clicks(0, n=1000)
    X = X.apply(lambda column: column.cat.codes)
    trees = DecisionTreeClassifier(max_depth=6, random_state=0)
    one, two = (
        GLIDER(trees, n_jobs=n, **{**FAST, "n_instances": 20, "n_perturbations": 60}).fit(X, y)
        for n in (1, 2)
    )
    assert one.crosses_ == two.crosses_ and one.interaction_scores_ == two.interaction_scores_
    assert one.interaction_counts_ == two.interaction_counts_


def test_pickle_clone_text_labels_and_global_state():
    X, y, _ = clicks(0, n=3000)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    before, states = X.copy(), (state, torch.get_rng_state())
    glider = GLIDER(TREES, **FAST).fit(X, np.where(y == 1, "yes", "no"))
    assert X.equals(before) and (np.random.get_state()[1] == states[0]).all()  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[1])
    again = clone(glider).fit(X, y)
    assert (
        again.crosses_ == glider.crosses_
        and again.interaction_scores_ == glider.interaction_scores_
    )
    assert (
        GLIDER(TREES, **{**FAST, "random_state": 1}).fit(X, y).interaction_scores_
        != glider.interaction_scores_
    )
    pd.testing.assert_frame_equal(
        pickle.loads(pickle.dumps(glider)).transform(X), glider.transform(X)
    )
    pd.testing.assert_frame_equal(clone(glider).fit_transform(X, y), glider.transform(X))


def test_threads_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError), one_thread():
            assert torch.get_num_threads() == 1
            raise RuntimeError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_outputs():
    X, y, _ = clicks(0, n=3000)
    glider = GLIDER(TREES, max_crosses=2, **FAST).fit(X, y)
    assert glider.get_feature_names_out().tolist() == [
        *X.columns,
        *(" x ".join(c) for c in glider.crosses_),
    ]
    onehot = GLIDER(TREES, max_crosses=2, output="onehot", append=False, **FAST).fit(X, y)
    assert (
        onehot.transform(X).shape == (3000, sum(onehot.crosser_.n_ids_))
        and onehot.transform(X).nnz == 6000
    )
    array = GLIDER(
        DecisionTreeClassifier(max_depth=6, random_state=0), max_crosses=2, **FAST
    ).set_output(transform="pandas")
    Z = np.random.default_rng(0).integers(3, size=(500, 4))
    out = array.fit_transform(Z, (Z[:, 0] == Z[:, 1]).astype(int))
    assert isinstance(out, pd.DataFrame) and out.columns[4] == "x0 x x1"


def test_in_a_pipeline_and_a_grid():
    X, y, _ = clicks(0)
    glider = GLIDER(TREES, max_crosses=2, output="onehot", **FAST)
    pipe = make_pipeline(glider, LogisticRegression(max_iter=300))
    train, test = slice(0, 3000), slice(3000, None)
    grid = GridSearchCV(pipe, {"glider__max_crosses": [0, 2]}, cv=2, scoring="roc_auc").fit(
        X[train], y[train]
    )
    assert grid.best_params_ == {"glider__max_crosses": 2}
    plain = pipe.set_params(glider__max_crosses=0).fit(X[train], y[train])
    a, b = (roc_auc_score(y[test], m.predict_proba(X[test])[:, 1]) for m in (grid, plain))
    assert a > b + 0.08


@pytest.mark.parametrize(
    "params, y, message",
    [
        ({}, [1] * 40, r"got 1 class\(es\)"),
        ({}, None, "requires y"),
        ({}, [0, 1] * 19, "inconsistent numbers of samples"),
        ({"estimator": RidgeClassifier()}, [0, 1] * 20, "predict_proba or be a regressor"),
        ({"estimator": None}, [0, 1] * 20, "estimator"),
        ({"detector": "gradient_nid", "max_order": 3}, [0, 1] * 20, "max_order must be 2"),
        ({"hidden_units": ()}, [0, 1] * 20, "hidden_units"),
        ({"hidden_units": (8, 0)}, [0, 1] * 20, "hidden_units"),
        ({"n_perturbations": 1}, [0, 1] * 20, "n_perturbations"),
        ({"background": "mean"}, [0, 1] * 20, "background"),
        ({"n_bins": {"z": 3}}, [0, 1] * 20, "n_bins has 'z'"),
    ],
)
def test_what_makes_no_sense_is_refused(params, y, message):
    with pytest.raises(ValueError, match=message):
        GLIDER(**{"estimator": DecisionTreeClassifier(), **params}).fit(
            np.arange(80).reshape(40, 2) % 5, y
        )
