"""The same values encode alike whatever container, dtype or path through the code they take."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.preprocessing import OrdinalEncoder

from sklearn_autorec.preprocessing import FieldEncoder, _columns, _counting, _encoding

WORDS = ["ann", "bob", None, "bob", "", "cyd", "ann", "bob"]
INTS = [3, None, 1, 1, 7, 1, 3, None]


def assert_same(a, b):
    for name in ("ids", "numeric", "sequences"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype and x.flags.c_contiguous and y.flags.c_contiguous


def with_nan(values):
    return [np.nan if v is None else v for v in values]


WORD_COLUMNS = {
    "str": pd.Series(WORDS, dtype="str"),
    "object": pd.Series(WORDS, dtype=object),
    "object with NA": pd.Series([pd.NA if v is None else v for v in WORDS], dtype=object),
    "string[python]": pd.Series(WORDS, dtype="string[python]"),
    "string[pyarrow]": pd.Series(WORDS, dtype="string[pyarrow]"),
    "ArrowDtype": pd.Series(WORDS, dtype=pd.ArrowDtype(pa.string())),
    "category": pd.Series(WORDS, dtype="category"),
    "category of object": pd.Series(WORDS, dtype=object).astype("category"),
    "ndarray": np.array(WORDS, dtype=object)[:, None],
    "lists": [[v] for v in WORDS],
    "tuples": tuple((v,) for v in with_nan(WORDS)),
    "polars": pl.Series("a", WORDS),
    "polars categorical": pl.Series("a", WORDS, dtype=pl.Categorical),
    "polars enum": pl.Series("a", WORDS, dtype=pl.Enum(["", "cyd", "bob", "ann"])),
    "arrow": pa.chunked_array([WORDS[:3], WORDS[3:]]),
    "arrow large": pa.chunked_array([pa.array(WORDS, pa.large_string())]),
    "arrow view": pa.chunked_array([pa.array(WORDS, pa.string_view())]),
    "arrow dictionary": pa.chunked_array([pa.array(WORDS).dictionary_encode()]),
}
INT_COLUMNS = {
    "Int64": pd.Series(INTS, dtype="Int64"),
    "UInt8": pd.Series(INTS, dtype="UInt8"),
    "object": pd.Series(INTS, dtype=object),
    "object with nan": pd.Series(with_nan(INTS), dtype=object),
    "category": pd.Series(INTS, dtype="Int64").astype("category"),
    "ArrowDtype": pd.Series(INTS, dtype=pd.ArrowDtype(pa.int32())),
    "ndarray": np.array(INTS, dtype=object)[:, None],
    "lists": [[v] for v in INTS],
    "polars": pl.Series("a", INTS),
    "polars UInt64": pl.Series("a", INTS, dtype=pl.UInt64),
    "arrow": pa.chunked_array([INTS]),
    "arrow dictionary": pa.chunked_array([pa.array(INTS).dictionary_encode()]),
}


def as_table(column):
    if isinstance(column, pd.Series):
        return pd.DataFrame({"a": column})
    if isinstance(column, pl.Series):
        return pl.DataFrame({"a": column})
    if isinstance(column, pa.ChunkedArray):
        return pa.table({"a": column})
    return column


@pytest.mark.parametrize("few_rows, lookup_rows", [(16, 5000), (0, 5000), (0, 0)])
@pytest.mark.parametrize("name", WORD_COLUMNS)
def test_words(name, few_rows, lookup_rows, monkeypatch):
    monkeypatch.setattr(_encoding, "FEW_ROWS", few_rows)
    monkeypatch.setattr(_encoding, "LOOKUP_ROWS", lookup_rows)
    X = as_table(WORD_COLUMNS[name])
    encoder = FieldEncoder()
    assert encoder.fit_encode(X).ids.ravel().tolist() == [3, 2, 0, 2, 0, 4, 3, 2]
    assert (
        encoder.categories_[0].tolist() == ["bob", "ann", "cyd"]
        and encoder.categories_[0].dtype == object
    )
    assert encoder.counts_[0].tolist() == [2, 0, 3, 2, 1]
    assert_same(encoder.encode(X), encoder.fit_encode(X))
    if not hasattr(encoder, "feature_names_in_"):
        return
    for other in WORD_COLUMNS.values():  # fitted on one container, given another
        if hasattr(as_table(other), "columns"):
            assert_same(encoder.encode(as_table(other)), encoder.encode(X))


@pytest.mark.parametrize("name", INT_COLUMNS)
def test_integers_with_missing_values(name):
    X = as_table(INT_COLUMNS[name])
    encoder = FieldEncoder()
    assert encoder.fit_encode(X).ids.ravel().tolist() == [3, 0, 2, 2, 4, 2, 3, 0]
    assert encoder.categories_[0].tolist() == [1, 3, 7] and encoder.categories_[0].dtype == np.int64
    assert_same(encoder.encode(X), encoder.fit_encode(X))
    if hasattr(encoder, "feature_names_in_"):
        floats = pd.DataFrame({"a": np.array(INTS, dtype=float)})
        assert_same(encoder.encode(floats), encoder.encode(X))


@pytest.mark.parametrize(
    "values", [WORDS, INTS, [0.5, None, 2.0]], ids=["words", "integers", "floats"]
)
def test_polars_without_pyarrow(values, monkeypatch):
    X = pl.DataFrame({"a": values})
    expected = FieldEncoder().fit_encode(X)
    monkeypatch.setattr(_columns, "pa", None)
    assert_same(FieldEncoder().fit_encode(X), expected)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([0.5, 2.0, None]),
        pd.Series([0.5, 2.0, None], dtype="Float32"),
        pd.Series([0.5, 2.0, None], dtype=pd.ArrowDtype(pa.float64())),
        pd.Series([0.5, 2, None], dtype=object),
        pd.Series([Decimal("0.5"), Decimal(2), None], dtype=object),
        pd.arrays.SparseArray([0.5, 2.0, np.nan]),
        np.array([[0.5], [2.0], [np.nan]], dtype=np.float32),
        np.array([[0.5], [2.0], [None]], dtype=object),
        [[0.5], [2], [None]],
        pl.Series("a", [0.5, 2.0, None]),
        pl.Series("a", [0.5, 2.0, float("nan")]),
        pl.Series("a", [Decimal("0.5"), Decimal(2), None]),
        pa.chunked_array([[0.5, 2.0, None]]),
        pa.chunked_array([pa.array([Decimal("0.5"), Decimal(2), None])]),
    ],
    ids=str,
)
def test_numbers(column):
    X = as_table(pd.Series(column) if isinstance(column, pd.arrays.SparseArray) else column)
    encoder = FieldEncoder(numeric=None)
    assert encoder.fit_encode(X).numeric.tolist() == [[0.5, 0], [2, 0], [0, 1]]
    assert_same(encoder.encode(X), encoder.fit_encode(X))


DAYS = [datetime.datetime(1970, 1, 2), None, datetime.datetime(1970, 1, 3)]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(pd.to_datetime(DAYS)),
        pd.Series(pd.to_datetime(DAYS)).astype("datetime64[s]"),
        pd.Series(pd.to_datetime(DAYS)).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        pd.Series(DAYS, dtype=object),
        np.array(DAYS, dtype=object)[:, None],
        pl.Series("a", DAYS),
        pl.Series("a", DAYS).dt.date(),
        pa.chunked_array([DAYS]),
        pa.chunked_array([pa.array(DAYS, pa.timestamp("us", "UTC"))]),
        pa.chunked_array([pa.array(DAYS, pa.date32())]),
        pd.Series([datetime.timedelta(1), None, datetime.timedelta(2)]),
        pl.Series("a", [datetime.timedelta(1), None, datetime.timedelta(2)]),
    ],
    ids=lambda c: f"{type(c).__module__} {getattr(c, 'dtype', getattr(c, 'type', ''))}",
)
def test_times_are_seconds(column):
    X = as_table(column)
    encoder = FieldEncoder(numeric=None, time_features=None)
    assert encoder.fit_encode(X).numeric.tolist() == [[86400, 0], [0, 1], [2 * 86400, 0]]
    assert_same(encoder.encode(X), encoder.fit_encode(X))


LISTS = [["a", "b"], [], None, ["b", None, "", "b"], ["c"]]


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"h": LISTS}),
        pd.DataFrame(
            {"h": [np.array(v, dtype=object) if v is not None else np.nan for v in LISTS]}
        ),
        pd.DataFrame({"h": [tuple(v) if v is not None else pd.NA for v in LISTS]}),
        pd.DataFrame({"h": pd.Series(LISTS, dtype=pd.ArrowDtype(pa.list_(pa.string())))}),
        pl.DataFrame({"h": LISTS}),
        pa.table({"h": LISTS}),
        pa.table(
            {
                "h": pa.chunked_array(
                    [pa.array(LISTS[:2], pa.large_list(pa.string())), LISTS[2:]],
                    pa.large_list(pa.string()),
                )
            }
        ),
        pd.DataFrame({"h": ["a|b", "", None, "b|||b", "c"]}),
    ],
    ids=["lists", "arrays", "tuples", "ArrowDtype", "polars", "arrow", "arrow chunks", "text"],
)
def test_lists(X):
    encoder = FieldEncoder(
        max_length=3, sequence_features={"h": "|"} if isinstance(X["h"][0], str) else "auto"
    )
    expected = [[3, 2, 0], [0, 0, 0], [0, 0, 0], [2, 2, 0], [4, 0, 0]]
    assert encoder.fit_encode(X).sequences.tolist() == expected
    assert encoder.sequence_categories_[0].tolist() == ["b", "a", "c"]
    assert encoder.sequence_counts_[0].tolist() == [0, 0, 3, 1, 1]
    assert_same(encoder.encode(X), encoder.fit_encode(X))


def test_sets_are_sequences_in_a_stable_order():
    X = pd.DataFrame({"h": [{"b", "a", "c"}, frozenset({"a"})]})
    encoder = FieldEncoder(max_length=2).fit(X)
    assert encoder.sequence_categories_[0].tolist() == ["a", "b", "c"]
    # The last two in the order of the values.
    assert encoder.encode(X).sequences.tolist() == [[3, 4], [2, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_random_lists_are_cut_and_padded(seed):
    rng = np.random.default_rng(seed)
    cells = [
        [None if v == 0 else f"i{v}" for v in rng.integers(0, 30, rng.integers(0, 12))]
        for _ in range(200)
    ]
    X = pd.DataFrame({"h": cells})
    encoder = FieldEncoder(max_length=5).fit(X)
    id_of = {value: k + 2 for k, value in enumerate(encoder.sequence_categories_[0])}
    for cell, row in zip(cells, encoder.encode(X).sequences.tolist(), strict=True):
        items = [id_of[v] for v in cell if v is not None][-5:]
        assert row == items + [0] * (5 - len(items))


@pytest.mark.parametrize(
    "cells, options, error, message",
    [
        ([["a", ["b"]]], {}, ValueError, r"items must be strings or numbers, got \['b'\]"),
        ([["a", ("b",)]], {}, ValueError, r"items must be strings or numbers, got \('b',\)"),
        ([[{"b": 1}]], {}, ValueError, r"items must be strings or numbers, got \{'b': 1\}"),
        ([np.zeros((2, 2))], {}, ValueError, "items must be strings or numbers"),
        ([["a"], "a;b"], {}, ValueError, "cells must be lists .*, got 'a;b'"),
        ([["a"], 5], {}, ValueError, "cells must be lists .*, got 5"),
        (
            ["a", ["b"]],
            {},
            ValueError,
            r"Column 'h' is categorical, but holds \['b'\]; name it in sequence_features",
        ),
        (["a", ("b",)], {}, ValueError, r"Column 'h' is categorical, but holds \('b',\)"),
        (
            [["a"]],
            {"sequence_features": None},
            ValueError,
            "holds lists, but sequence_features=None",
        ),
        (["a|b"], {"sequence_features": {"h": ""}}, ValueError, "separator of column 'h' must be"),
        (["a", {"b": 1}], {}, TypeError, "argument must be a string or a number; column 'h'"),
        (["a", {}], {"categorical_features": None}, ValueError, "Column 'h' is numeric, but holds"),
        ([1.5, {}], {"categorical_features": None}, ValueError, "Column 'h' is numeric, but holds"),
        ([1 + 2j, 1j], {}, ValueError, "Complex data not supported"),
        (["a", 1j], {}, ValueError, "Complex data not supported"),
    ],
)
def test_cells_that_no_column_can_hold(cells, options, error, message):
    X = pd.DataFrame({"h": pd.Series(cells, dtype=object)})
    with pytest.raises(error, match=message):
        FieldEncoder(**options).fit(X)


@pytest.mark.parametrize(
    "X, error, message",
    [
        ([1, 2, 3], ValueError, "Reshape your data"),
        (np.array(["a", "b"]), ValueError, "Reshape your data"),
        (pd.Series([1, 2]), ValueError, "Expected a 2-dimensional container"),
        (np.zeros((2, 2, 2)), ValueError, "Found array with dim 3"),
        (np.array([[1j]]), ValueError, "Complex data not supported"),
        (sparse.eye_array(3).tocsr(), TypeError, "Sparse data was passed"),
        (
            np.zeros((0, 2)),
            ValueError,
            r"Found array with 0 sample\(s\) \(shape=\(0, 2\)\) while a minimum of 1 is required "
            r"by FieldEncoder",
        ),
        (
            pd.DataFrame({"a": []}),
            ValueError,
            r"0 sample\(s\) \(shape=\(0, 1\)\) while a minimum of 1 is required by FieldEncoder",
        ),
        (
            pa.table({"a": pa.array([], pa.int64())}),
            ValueError,
            r"0 sample\(s\) \(shape=\(0, 1\)\)",
        ),
        (pl.DataFrame(), ValueError, r"0 sample\(s\)"),
        (pd.DataFrame(index=[0, 1]), ValueError, r"0 feature\(s\) \(shape=\(2, 0\)\)"),
        (
            pa.table([[1], [2]], names=["a", "a"]),
            ValueError,
            r"unique, got more than one of \['a'\]",
        ),
    ],
)
def test_what_is_no_table(X, error, message):
    with pytest.raises(error, match=message):
        FieldEncoder().fit(X)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.uint64, bool, "U3", "S3"])
def test_integer_and_text_arrays_are_categorical(dtype):
    X = np.array([[1, 0], [0, 0], [1, 1]]).astype(dtype)
    encoder = FieldEncoder().fit(X)
    assert encoder.categorical_.tolist() == [0, 1] and encoder.encode(X).ids.tolist() == [
        [2, 2],
        [3, 2],
        [2, 3],
    ]


def test_large_unsigned_integers_keep_apart():
    X = pd.DataFrame({"a": np.array([2**64 - 1, 5, 2**63, 2**64 - 1], dtype=np.uint64)})
    encoder = FieldEncoder().fit(X)
    assert encoder.encode(X).ids.ravel().tolist() == encoder.fit_encode(X).ids.ravel().tolist()
    assert encoder.n_ids_ == [5] and encoder.encode(X).ids.ravel().tolist()[0] == 2
    # Small ones alone, without a warning.
    assert encoder.encode(X.iloc[1:2]).ids.item() == encoder.encode(X).ids[1, 0]


def test_integers_far_apart_and_beyond_the_range_of_the_table():
    few = pd.DataFrame({"a": [-5, 3, 3, 10]})
    encoder = FieldEncoder().fit(few)
    extremes = pd.DataFrame(
        {"a": np.tile([np.iinfo(np.int64).min, np.iinfo(np.int64).max, 3, 11, -6, 10], 10)}
    )
    assert encoder.encode(extremes).ids[:6, 0].tolist() == [1, 1, 2, 1, 1, 4]
    wide = FieldEncoder().fit(extremes)
    id_of = {value: k + 2 for k, value in enumerate(wide.categories_[0].tolist())}
    assert len(id_of) == 6
    assert wide.encode(extremes).ids[:, 0].tolist() == [id_of[v] for v in extremes["a"]]
    assert wide.encode(pd.DataFrame({"a": np.arange(-10, 30)})).ids[:, 0].tolist() == [
        id_of.get(v, 1) for v in range(-10, 30)
    ]


def test_long_tables_are_read_in_threads_to_the_same_result(monkeypatch):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({f"c{j}": rng.integers(0, 50, 300) for j in range(4)}).astype(
        {"c1": str, "c2": float}
    )
    alone = FieldEncoder().fit(X)
    monkeypatch.setattr(_counting, "THREAD_ROWS", 1)
    monkeypatch.setattr(_counting, "cpu_count", lambda: 3)
    together = FieldEncoder()
    assert_same(together.fit_encode(X), alone.encode(X))
    assert_same(together.encode(X), alone.encode(X))


def test_unseen_and_missing_as_ordinal_encoder_has_them():
    rng = np.random.default_rng(0)
    train, test = (
        pd.DataFrame({"a": rng.choice([*"abcdefgh"[:k]], 300).astype(object)}) for k in (5, 8)
    )
    train.iloc[::7, 0] = test.iloc[::5, 0] = np.nan
    ours = FieldEncoder(unknown_warning=None).fit(train).encode(test).ids[:, 0]
    oracle = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    theirs = oracle.fit(train).transform(test)[:, 0]
    assert ((ours == 1) == (theirs == -1)).all() and ((ours == 0) == (theirs == -2)).all()
    assert len(set(zip(ours, theirs, strict=True))) == 7


def test_items_that_are_cut_off_are_not_counted():
    X = pd.DataFrame({"h": [[f"i{k}" for k in range(100_000)], ["a"]]})
    encoder = FieldEncoder(max_length=4, hash_threshold=10).fit(X)
    assert encoder.sequence_categories_[0].tolist() == ["a", "i99996", "i99997", "i99998", "i99999"]
    assert encoder.encode(X).sequences.tolist() == [[3, 4, 5, 6], [2, 0, 0, 0]]


def test_whole_floats_and_integers_are_one_kind_of_id():
    for values in (
        [1.0, 2.0, np.nan],
        np.array([1.0, 2, None], dtype=object),
        pd.array([1.0, 2.0, None], dtype="Float64"),
    ):
        encoder = FieldEncoder(categorical_features=["a"]).fit(pd.DataFrame({"a": values}))
        assert (
            encoder.categories_[0].tolist() == [1, 2] and encoder.categories_[0].dtype == np.int64
        )


def test_columns_without_a_value_go_by_their_type():
    table = pa.table(
        {"d": pa.nulls(2, pa.decimal128(5, 2)), "s": pa.nulls(2, pa.string()), "n": pa.nulls(2)}
    )
    encoder = FieldEncoder().fit(table)
    assert encoder.numeric_.tolist() == [0] and encoder.categorical_.tolist() == [1, 2]
    assert encoder.transform(table).tolist() == [[0, 0, 0, 1]] * 2
