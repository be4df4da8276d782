"""AutoCross: tables of all kinds, what it refuses, and before models."""

import pickle

import numpy as np
import pandas as pd
import pytest
from autocross_cases import PLANTED, planted_crosses
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sklearn_autorec import CTRClassifier
from sklearn_autorec.feature_crossing import AutoCross


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
