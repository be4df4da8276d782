"""FieldEncoder: numbers, lists, options, odd tables and serving."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from encoder_cases import ITEM, same, table
from sklearn.base import clone
from sklearn.preprocessing import QuantileTransformer

from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._encoding import encode_few

# numeric
# --------------------------------------------------------------------------------------------------


def test_quantile_scale_follows_scikit_learns():
    rng = np.random.default_rng(0)
    x = np.exp(rng.normal(size=3000))
    ours = (
        FieldEncoder(numeric="quantile", n_quantiles=200)
        .fit_encode(pd.DataFrame({"x": x}))
        .numeric[:, 0]
    )
    theirs = QuantileTransformer(n_quantiles=200, subsample=None).fit_transform(x[:, None])[:, 0]
    np.testing.assert_allclose(ours / np.sqrt(12) + 0.5, theirs, atol=0.01)
    assert abs(ours.mean()) < 0.01 and ours.std() == pytest.approx(1, abs=0.02)


def test_scales_and_missing_indicators():
    x = np.array([0.0, 1.0, -3.0, np.nan, 8.0])
    X = pd.DataFrame({"x": x})
    present = ~np.isnan(x)
    shaped = np.sign(x) * np.log1p(np.abs(x)) ** 2
    for method, values in (("standard", x), ("log_square", shaped)):
        encoded = FieldEncoder(numeric=method).fit_encode(X).numeric
        expected = (values - np.nanmean(values)) / np.nanstd(values)
        np.testing.assert_allclose(encoded[present, 0], expected[present], atol=1e-6)
        assert encoded[:, 1].tolist() == [0, 0, 0, 1, 0] and encoded[3, 0] == 0
    np.testing.assert_array_equal(
        FieldEncoder(numeric=None).fit_encode(X).numeric[present, 0], x[present].astype(np.float32)
    )


def test_quantile_scale_clips_and_keeps_order_beyond_the_exact_limit():
    rng = np.random.default_rng(0)
    x = rng.normal(size=150_000)
    encoder = FieldEncoder(numeric="quantile")
    for chunk in np.split(x, 3):
        encoder.partial_fit(pd.DataFrame({"x": chunk}))
    exact = np.argsort(np.argsort(x)) / len(x)
    ours = encoder.encode(pd.DataFrame({"x": x})).numeric[:, 0] / np.sqrt(12) + 0.5
    assert np.abs(ours - exact).max() < 0.01
    ends = encoder.encode(pd.DataFrame({"x": [-1e9, 1e9]})).numeric[:, 0]
    np.testing.assert_allclose(ends, [-np.sqrt(3), np.sqrt(3)], rtol=1e-3)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, 1e39])
def test_infinity_names_the_column_in_fit_and_predict(bad):
    good, X = (
        pd.DataFrame({"a": ["x", "y"], "price": [1.0, 2.0]}),
        pd.DataFrame({"a": ["x", "y"], "price": [1.0, bad]}),
    )
    message = "infinity or a value too large .* in column 'price'"
    with pytest.raises(ValueError, match=message):
        FieldEncoder().fit(X)
    with pytest.raises(ValueError, match=message):
        FieldEncoder().fit(good).encode(X)


def test_times_and_decimals_are_numbers():
    X = pd.DataFrame(
        {
            "t": pd.to_datetime(["2026-01-01", None, "2026-01-03"]),
            "d": [Decimal("1.5"), None, Decimal("2.5")],
        }
    )
    encoder = FieldEncoder(numeric=None, time_features=None).fit(X)
    assert encoder.numeric_.tolist() == [0, 1]
    numeric = encoder.encode(X).numeric
    assert numeric[2, 0] - numeric[0, 0] == pytest.approx(2 * 86400, rel=1e-3)
    assert numeric[:, 1].tolist() == [1.5, 0, 2.5] and numeric[:, 2:].tolist() == [
        [0, 0],
        [1, 1],
        [0, 0],
    ]


# sequences
# -------------------------------------------------------------------------------------------------


def test_sequences_are_padded_and_keep_their_last_items():
    X = pd.DataFrame({"h": [["a"], [], None, ["a", "b", "a", "c", "a"], ["b", None, "a"]]})
    encoder = FieldEncoder(max_length=3).fit(X)
    codes = {v: i + 2 for i, v in enumerate(encoder.sequence_categories_[0])}
    a, b, c = codes["a"], codes["b"], codes["c"]
    assert encoder.encode(X).sequences.tolist() == [
        [a, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
        [a, c, a],
        [b, a, 0],
    ]
    assert encoder.encode(pd.DataFrame({"h": [["z", "a"]]})).sequences.tolist() == [[1, a, 0]]


def test_text_is_split_at_its_separator():
    X = pd.DataFrame({"genres": ["War|Drama", "Drama", None, ""]})
    encoder = FieldEncoder(sequence_features={"genres": "|"}, max_length=2).fit(X)
    assert encoder.sequence_categories_[0].tolist() == ["Drama", "War"]
    assert encoder.encode(X).sequences.tolist() == [[3, 2], [2, 0], [0, 0], [0, 0]]
    with pytest.raises(
        ValueError, match=r"'genres' is a sequence column.*got 'War\|Drama'.*sequence_features="
    ):
        FieldEncoder(sequence_features=["genres"]).fit(X)


def test_long_and_deep_cells():
    encoder = FieldEncoder(max_length=4).fit(pd.DataFrame({"h": [[*range(100_000)], [1]]}))
    assert encoder.sequence_n_ids_ == [7]  # 1 and the last four of the long cell
    with pytest.raises(
        ValueError, match=r"Column 'h' is a sequence column: its items must be .* got \[2\]"
    ):
        encoder.fit(pd.DataFrame({"h": [[1, [2]], [3]]}))
    with pytest.raises(ValueError, match="holds lists, but sequence_features=None"):
        FieldEncoder(sequence_features=None).fit(pd.DataFrame({"h": [[1], [3]]}))


# options
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "chosen", [["a", "c"], [0, 2], [True, False, True], np.array([0, -1]), pd.Index(["a", "c"])]
)
def test_categorical_features_by_name_index_and_mask(chosen):
    X = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "c": [5.0, np.nan]})
    encoder = FieldEncoder(categorical_features=chosen).fit(X)
    assert encoder.categorical_.tolist() == [0, 2] and encoder.numeric_.tolist() == [1]
    assert encoder.field_names_ == ["a", "c", "b"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"categorical_features": ["nope"]}, "categorical_features has 'nope'"),
        ({"categorical_features": [7]}, "categorical_features has 7"),
        ({"categorical_features": [True]}, "mask of length 1, the table has 2"),
        ({"min_frequency": 0}, "'min_frequency' parameter of FieldEncoder"),
        ({"numeric": "log"}, "'numeric' parameter of FieldEncoder"),
        ({"max_length": 0}, "'max_length' parameter of FieldEncoder"),
        (
            {"categorical_features": ["b"]},
            "Column 'a' is numeric, but holds values that are not numbers",
        ),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        FieldEncoder(**options).fit(pd.DataFrame({"a": ["x", "y"], "b": [1, 2]}))


# tables of odd shapes
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"a": ["x"]}),
        pd.DataFrame({"a": [None, None]}),
        pd.DataFrame({"a": [np.nan, np.nan], "b": ["c", "c"]}),
        pd.DataFrame({"a": [5.0, 5.0]}),
        np.array([[1.5]]),
        [["x", 1], ["y", 2]],
    ],
)
def test_small_constant_and_missing_columns(X):
    encoder = FieldEncoder().fit(X)
    out = encoder.transform(X)
    assert out.shape == (len(X), len(encoder.get_feature_names_out())) and np.isfinite(out).all()
    same(encoder.encode(X), FieldEncoder().fit_encode(X))


def test_columns_must_be_those_of_fit():
    X = table(20)
    encoder = FieldEncoder().fit(X)
    for bad in (
        X[["item", "user", "price", "history"]],
        X.drop(columns="item"),
        X.assign(extra=1),
        X.rename(columns={"user": "usr"}),
    ):
        with pytest.raises(ValueError, match="feature names"):
            encoder.encode(bad)
        with pytest.raises(ValueError, match="feature names"):
            encoder.encode(bad.iloc[:2])
    twice = pd.concat([X, X[["user"]]], axis=1)
    with pytest.raises(ValueError, match=r"unique, got more than one of \['user'\]"):
        encoder.fit(twice)
    with pytest.raises(ValueError, match="0 sample"):
        encoder.encode(X.iloc[:0])


# serving
# --------------------------------------------------------------------------------------------------


def test_few_rows_take_the_short_path_to_the_same_ids():
    X = table().drop(columns="history")
    encoder = FieldEncoder().fit(X)
    whole = encoder.encode(X)
    for i in range(60):
        same(encoder.encode(X.iloc[i : i + 1]), whole.take(slice(i, i + 1)))
    same(encoder.encode(X.iloc[3:11]), whole.take(slice(3, 11)))


@pytest.mark.parametrize("dtype", ["int64", "float64", object])
@pytest.mark.parametrize("unseen", [70.0, 70, -3.0, 70.5, 2.0**40])
def test_numbers_that_are_new_as_ids_take_the_short_path(dtype, unseen, monkeypatch):
    X = pd.DataFrame({"a": np.random.default_rng(0).integers(0, 50, 400).astype(dtype)})
    encoder = FieldEncoder(categorical_features=["a"]).fit(X)
    row = pd.DataFrame({"a": [unseen]})
    path = "sklearn_autorec.preprocessing._fitted.encode_few"
    short = []
    monkeypatch.setattr(path, lambda *args: short.append(encode_few(*args)) or short[-1])
    same(
        encoder.encode(row),
        encoder.encode(pd.concat([row, X], ignore_index=True)).take(slice(0, 1)),
    )
    assert (short[0] is not None) == float(unseen).is_integer()


def test_pickle_is_small_and_fresh_copies_serve_many_threads():
    X = pd.DataFrame({"a": [f"value-{i}" for i in range(20_000)]})
    encoder = FieldEncoder().fit(X).discard_counts()
    expected = encoder.encode(X).ids
    data = pickle.dumps(encoder)
    assert len(data) < 1.6 * sum(map(len, X["a"])) + 8 * 20_000  # text and counts
    again = pickle.loads(data)
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda i: again.encode(X.iloc[i : i + 1]).ids[0, 0], range(200)))
    assert ids == expected[:200, 0].tolist()


def test_transform_names_inverse_and_output_containers():
    X = table()
    encoder = FieldEncoder(max_length=2, **ITEM).fit(X)
    names = encoder.get_feature_names_out().tolist()
    assert names == ["user", "item", "price", "price_missing", "history_0", "history_1"]
    out = clone(encoder).set_output(transform="pandas").fit_transform(X)
    assert out.columns.tolist() == names and len(out) == len(X)
    np.testing.assert_array_equal(out.to_numpy(), encoder.transform(X))
    back = encoder.inverse_transform(encoder.encode(X))
    assert [None if pd.isna(u) or u == "" else u for u in X["user"]] == back[:, 0].tolist()
    assert X["item"].tolist() == back[:, 1].tolist()
    assert encoder.inverse_transform(np.array([[1, 0]])).tolist() == [["<rare>", None]]
    with pytest.raises(ValueError, match=r"ids of column 'user' must be in \[0, 5\)"):
        encoder.inverse_transform(np.array([[9, 0]]))


def test_the_callers_data_is_not_changed():
    X = table()
    copy = X.copy(deep=True)
    FieldEncoder().fit(X).encode(X)
    pd.testing.assert_frame_equal(X, copy)
