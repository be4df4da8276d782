"""FieldCrosser: containers, odd columns, and what is refused."""

import pickle
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.preprocessing import FieldEncoder


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "array", "list"])
def test_tables_come_out_as_they_came_in(X, kind):
    table = X[["user", "shop"]].iloc[1:].reset_index(drop=True)
    given = {
        "pandas": lambda: table,
        "polars": lambda: pytest.importorskip("polars").DataFrame(table.to_dict("list")),
        "pyarrow": lambda: pytest.importorskip("pyarrow").table(table.to_dict("list")),
        "array": lambda: table.to_numpy(dtype=object),
        "list": lambda: table.to_numpy(dtype=object).tolist(),
    }[kind]()
    expected = FieldCrosser([(0, 1)]).fit_transform(table)
    crosser = FieldCrosser([(0, 1)]).fit(given)
    for out in (crosser.transform(given), FieldCrosser([(0, 1)]).fit_transform(given)):
        if kind in ("array", "list"):
            assert (
                isinstance(out, np.ndarray)
                and isinstance(out[0, 2], int)
                and out[0, 0] == table["user"][0]
            )
            out = pd.DataFrame(out, columns=expected.columns)
        else:
            assert type(out) is type(given)
            out = out.to_pandas() if kind != "pandas" else out
        assert_array_equal(
            out["user x shop" if kind not in ("array", "list") else out.columns[2]],
            expected.iloc[:, 2],
        )
        assert out.shape == (len(table), 3)
    alone = FieldCrosser([(0, 1)], append=False).fit(given).transform(given)
    assert alone.shape == (len(table), 1)


def test_set_output_and_names(X):
    crosser = FieldCrosser([(0, 3)]).set_output(transform="pandas").fit(X.to_numpy(dtype=object))
    assert crosser.transform(X.to_numpy(dtype=object)).columns.tolist() == [
        "x0",
        "x1",
        "x2",
        "x3",
        "x0 x x3",
    ]
    assert crosser.crosses_ == [("x0", "x3")]
    names = crosser.get_feature_names_out(["a", "b", "c", "d"])
    assert names.tolist() == ["a", "b", "c", "d", "a x d"]
    with pytest.raises(ValueError, match="input_features should have length"):
        crosser.get_feature_names_out(["a"])


def test_only_the_columns_of_the_crosses_are_read(X):
    table = X.assign(odd=[{"no": "category"}] * len(X))
    out = FieldCrosser([("user", "day")]).fit(table).transform(table)
    assert out.shape == (len(X), 6)
    with pytest.raises(TypeError, match="odd"):
        FieldCrosser([("user", "day")], output="onehot").fit(table)


def test_the_encoder_tells_how_columns_are_read(X):
    encoder = FieldEncoder(categorical_features=["shop", "age"], sequence_features={"user": "n"})
    crosser = FieldCrosser([("shop", "age")], encoder=encoder, n_bins=3, min_count=1).fit(
        X.drop(columns="day")
    )
    assert crosser.n_ids_[0] > 300 and not hasattr(encoder, "categories_")
    for bad in (FieldEncoder(numeric="standard"), make_pipeline(FieldEncoder(), FieldEncoder())):
        with pytest.raises(ValueError, match="encoder|numeric"):
            FieldCrosser([("shop", "age")], encoder=bad).fit(X)


def test_pickle_gives_the_same_ids_and_leaves_look_up_tables_out(X):
    for output in ("ids", "onehot"):
        crosser = FieldCrosser([("user", "day"), ("age", "shop")], output=output).fit(X)
        before = len(pickle.dumps(crosser))
        expected = crosser.transform(X)
        crosser.transform(X[:1])
        assert len(pickle.dumps(crosser)) == before
        again = pickle.loads(pickle.dumps(crosser)).transform(X)
        if output == "ids":
            pd.testing.assert_frame_equal(again, expected)
        else:
            assert (again != expected).nnz == 0


def test_odd_columns():
    X = pd.DataFrame(
        {
            "none": [None] * 6,
            "nan": [np.nan] * 6,
            "one": ["a"] * 6,
            "two": list("ababab"),
            "big": [10**30] * 6,
        }
    )
    crosser = FieldCrosser([("none", "nan"), ("none", "two"), ("one", "two"), ("nan", "big")]).fit(
        X
    )
    out = crosser.transform(X)
    assert out["none x nan"].tolist() == [0] * 6
    assert out["none x two"].tolist() == out["one x two"].tolist() == [2, 3] * 3
    assert crosser.n_ids_ == [2, 4, 4, 3]
    assert crosser.transform(X[:1])["none x nan"].tolist() == [0]
    assert FieldCrosser([]).fit(X).transform(X).equals(X)
    assert FieldCrosser([], append=False).fit(X).transform(X).shape == (6, 0)
    assert FieldCrosser([], append=False, output="onehot").fit(X).transform(X).shape == (6, 0)


@pytest.mark.parametrize(
    "crosses, message",
    [
        ([("user", "nobody")], "'nobody'.*neither one of the columns"),
        ([("user", 9)], "has 9, which is neither"),
        ([("user", True)], "has True"),
        ([("user", "user")], "names a column twice"),
        ([("user", 0)], "names a column twice"),
        ([("user", "day"), ("day", "user")], "more than once"),
        ([("user",)], "two or more columns"),
        (["user"], "two or more columns"),
        ([3], "two or more columns"),
        ("user", "must be an instance"),
    ],
)
def test_bad_crosses_are_refused(X, crosses, message):
    with pytest.raises(ValueError, match=message):
        FieldCrosser(crosses).fit(X)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"min_count": 0}, "min_count"),
        ({"max_ids": 0}, "max_ids"),
        ({"n_bins": 0}, "n_bins"),
        ({"n_bins": {"age": 0}}, "n_bins must be an int.*got 0 for 'age'"),
        ({"n_bins": {"no": 3}}, "n_bins has 'no'"),
        ({"output": "dense"}, "output"),
        ({"scales": {"nobody": 1.0}}, "scales has 'nobody', which is neither a column nor a cross"),
        (
            {"scales": {"user": -1.0}},
            "scales must be finite numbers of at least 0, got -1.0 for 'user'",
        ),
        ({"scales": {"user": np.inf}}, "scales must be finite"),
    ],
)
def test_bad_parameters_are_refused(X, params, message):
    with pytest.raises(ValueError, match=message):
        FieldCrosser([("user", "age")], **params).fit(X)


def test_bad_tables_are_refused(X):
    crosser = FieldCrosser([("user", "day")]).fit(X)
    with pytest.raises(ValueError, match="feature names should match"):
        crosser.transform(X[["day", "user", "age", "shop"]])
    with pytest.raises(ValueError, match="already has a column 'user x day'"):
        crosser.fit(crosser.transform(X))
    with pytest.raises(ValueError, match="0 sample"):
        crosser.transform(X[:0])


def test_what_a_search_found_becomes_columns():
    X, y, _ = make_ctr(3000, n_fields=4, cardinality=6, pairs=[(0, 1)], random_state=0)
    model = CTRClassifier(
        network="fm",
        search=AutoFIS(max_interactions=1),
        lr=0.01,
        max_epochs=2,
        random_state=0,
        device="cpu",
    ).fit(X, y)
    crosser = FieldCrosser.from_estimator(model, output="onehot", min_count=3)
    assert crosser.crosses == [("f0", "f1")] and crosser.min_count == 3
    plain = LogisticRegression().fit(FieldCrosser([], output="onehot").fit_transform(X), y)
    crossed = make_pipeline(crosser, LogisticRegression()).fit(X, y)
    assert crossed[-1].n_features_in_ > plain.n_features_in_
    with pytest.raises(ValueError, match="interactions_ or crosses_"):
        FieldCrosser.from_estimator(LogisticRegression())
    with pytest.raises(ValueError, match="interactions_ or crosses_"):
        FieldCrosser.from_estimator(CTRClassifier())
    carrier = SimpleNamespace(crosses_=[("f0", "f2")], n_bins_={"f2": 7})
    assert FieldCrosser.from_estimator(carrier).n_bins == {"f2": 7}
