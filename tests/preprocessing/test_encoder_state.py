"""What a fitted encoder depends on: not the order or chunks of the rows, not the process, not the
thread.
"""

import pickle
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from sklearn_autorec.exceptions import DataTypeDriftWarning, UnknownCategoryWarning
from sklearn_autorec.preprocessing import FieldEncoder, _encoder, _encoding, _numeric


def assert_same(a, b):
    for name in ("ids", "numeric", "sequences"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def assert_same_fit(a, b):
    for name in ("categories_", "counts_", "sequence_categories_", "sequence_counts_"):
        for x, y in zip(getattr(a, name), getattr(b, name), strict=True):
            assert x.dtype == y.dtype and x.tolist() == y.tolist()
    assert a.n_ids_ == b.n_ids_ and a.sequence_n_ids_ == b.sequence_n_ids_


def mixed_table(n=400, seed=0):
    """Strings, integers that turn into text halfway, floats that are whole at first, lists and
    numbers.
    """
    rng = np.random.default_rng(seed)
    late = np.arange(n) >= n // 2
    numbers = rng.integers(0, 30, n)
    return pd.DataFrame(
        {
            "word": pd.Series(
                [f"w{k}" if k else None for k in rng.integers(0, 30, n)], dtype="str"
            ),
            "number": rng.integers(0, 30, n),
            "mixed": pd.Series(
                [str(k) if flag else int(k) for k, flag in zip(numbers, late, strict=True)],
                dtype=object,
            ),
            "halves": np.where(late, 0.5, 1.0) * rng.integers(0, 20, n),
            "items": [
                [int(v) for v in rng.integers(0, 9, k)] if k else None
                for k in rng.integers(0, 6, n)
            ],
            "price": np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n) * 1e3),
        }
    )


CHOSEN = ["word", "number", "mixed", "halves"]


@pytest.mark.parametrize(
    "bounds", [[0, 400], [0, 200, 400], [0, 10, 11, 150, 399, 400], [*range(0, 401, 20)]], ids=len
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_frequency": 12, "numeric": "standard"},
        {"min_frequency": 0.03, "numeric": "log_square", "max_length": 2},
        {"max_categories": 6, "n_quantiles": 7},
        {"hash_threshold": 8, "n_hash_buckets": 13},
    ],
    ids=str,
)
def test_chunks_give_what_the_whole_gives(bounds, options):
    X = mixed_table()
    whole, parts = (FieldEncoder(categorical_features=CHOSEN, **options) for _ in range(2))
    encoded = whole.fit_encode(X)
    for start, stop in zip(bounds, bounds[1:], strict=False):
        parts.partial_fit(X.iloc[start:stop])
    assert_same_fit(parts, whole)
    assert_same(parts.encode(X), encoded)
    assert_same(whole.encode(X), encoded)


def test_the_order_of_rows_does_not_matter():
    X = mixed_table()
    shuffled = X.sample(frac=1, random_state=1)
    a, b = (FieldEncoder(categorical_features=CHOSEN).fit(table) for table in (X, shuffled))
    assert_same_fit(a, b)
    assert_same(a.encode(X), b.encode(X))
    ties = FieldEncoder().fit(
        pd.DataFrame({"a": ["é", "b", "a", "Z", "b"], "k": [3, -2, 10, 7, 7]})
    )
    assert ties.categories_[0].tolist() == ["b", "Z", "a", "é"]
    assert ties.categories_[1].tolist() == [7, -2, 3, 10]


def test_partial_fit_continues_fit_and_ids_follow():
    X = mixed_table()
    part = (
        FieldEncoder(categorical_features=CHOSEN, min_frequency=5).fit(X[:200]).partial_fit(X[200:])
    )
    assert_same_fit(part, FieldEncoder(categorical_features=CHOSEN, min_frequency=5).fit(X))
    with pytest.raises(ValueError, match="feature names"):
        part.partial_fit(X.drop(columns="word"))
    with pytest.raises(ValueError, match="counts were discarded"):
        part.discard_counts().partial_fit(X)
    assert_same_fit(part.fit(X), part.partial_fit(X).fit(X))


def test_a_chunk_that_fails_leaves_the_counts_alone():
    X = mixed_table()
    encoder = FieldEncoder(categorical_features=CHOSEN).partial_fit(X)
    before = encoder.encode(X)
    with pytest.raises(ValueError, match="infinity"):
        encoder.partial_fit(X.assign(price=np.inf))
    assert_same(encoder.encode(X), before)
    fresh = FieldEncoder(categorical_features=CHOSEN)
    with pytest.raises(ValueError, match="infinity"):
        fresh.partial_fit(X.assign(price=np.inf))
    assert_same(fresh.partial_fit(X).encode(X), before)


def test_beyond_the_exact_limit_figures_stay_close_and_ends_exact(monkeypatch):
    monkeypatch.setattr(_numeric, "EXACT_VALUES", 2000)
    monkeypatch.setattr(_numeric, "SKETCH_VALUES", 500)
    x = np.random.default_rng(0).lognormal(size=20_000) * 100
    X = pd.DataFrame({"x": x})
    for method, tolerance in (("standard", 1e-6), ("log_square", 1e-6), ("quantile", 0.02)):
        whole, parts = FieldEncoder(numeric=method).fit(X), FieldEncoder(numeric=method)
        for chunk in np.split(x, 25):
            parts.partial_fit(pd.DataFrame({"x": chunk}))
        np.testing.assert_allclose(
            parts.encode(X).numeric, whole.encode(X).numeric, atol=tolerance * 10
        )
        ends = pd.DataFrame(
            {"x": [x.min(), x.max(), x.min() - 1, x.max() + 1, x.min() * 1.1, x.max() * 0.9]}
        )
        if method == "quantile":
            scaled = parts.encode(ends).numeric[:, 0]
            assert scaled[0] == scaled[2] < scaled[4] and scaled[1] == scaled[3] > scaled[5]
            assert parts._fields[0].grid[[0, -1]].tolist() == [x.min(), x.max()]


def test_scales_are_centred_and_constant_or_missing_columns_are_zero():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "spread": rng.exponential(size=500),
            "constant": 0.1,
            "none": np.nan,
            "one": [np.nan] * 499 + [3.5],
        }
    )
    for method in ("quantile", "log_square", "standard"):
        numeric = FieldEncoder(numeric=method).fit_encode(X).numeric
        np.testing.assert_allclose([numeric[:, 0].mean(), numeric[:, 0].std()], [0, 1], atol=2e-3)
        assert not numeric[:, 1:4].any()
        assert numeric[:, 4:].sum(0).tolist() == [0, 0, 500, 499]


# drift
# --------------------------------------------------------------------------------------------------


VALUES = {
    "integers": [12, 7, 12],
    "floats": [12.0, 7.0, 12.0],
    "int strings": ["12", "7", "12"],
    "float strings": ["12.0", "7.0", "12.0"],
    "nullable": pd.array([12, 7, 12], dtype="Int64"),
    "category": pd.Categorical(["12", "7", "12"]),
    "objects": np.array([12, 7, 12], dtype=object),
}


@pytest.mark.parametrize("repeat", [1, 40, 4000])
@pytest.mark.parametrize("given", VALUES)
@pytest.mark.parametrize("fitted", VALUES)
def test_values_of_another_type_are_the_same_values(fitted, given, repeat):
    text = {"int strings", "float strings", "category"}
    encoder = FieldEncoder(categorical_features=["a"]).fit(pd.DataFrame({"a": VALUES[fitted]}))
    X = (
        pd.DataFrame({"a": VALUES[given]})
        .iloc[np.tile(np.arange(3), repeat)]
        .reset_index(drop=True)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids = encoder.encode(X).ids[:, 0]
    drifted = (fitted in text) != (given in text)
    assert [w.category for w in caught if w.category is not UnknownCategoryWarning] == [
        DataTypeDriftWarning
    ] * drifted
    if drifted:
        message = str(next(w.message for w in caught if w.category is DataTypeDriftWarning))
        kinds = ("strings", "numbers") if fitted in text else ("numbers", "strings")
        assert message.startswith(
            "Column 'a' held {} in fit and holds {} now; the values are converted".format(*kinds)
        )
    if (
        {fitted, given} & text == {fitted, given}
        and "float strings" in (fitted, given)
        and fitted != given
    ):
        assert set(ids) == {1}  # "12" and "12.0" are two texts
    else:
        assert ids[:3].tolist() == [2, 3, 2]


def test_a_column_that_was_mixed_in_fit_does_not_drift():
    encoder = FieldEncoder().fit(pd.DataFrame({"a": pd.Series(["x", 1, 2.0, "1"], dtype=object)}))
    assert encoder.categories_[0].tolist() == ["1", "2", "x"]
    for n in (1, 100):
        assert encoder.encode(pd.DataFrame({"a": [1] * n})).ids[0, 0] == 2
        assert encoder.encode(pd.DataFrame({"a": ["2"] * n})).ids[0, 0] == 3


def test_numbers_given_as_text_are_parsed_with_a_warning():
    encoder = FieldEncoder(numeric=None).fit(pd.DataFrame({"price": [1.5, 2.5]}))
    for n in (1, 50):
        with pytest.warns(
            DataTypeDriftWarning, match="Column 'price' held numbers in fit and holds strings now"
        ):
            assert encoder.encode(pd.DataFrame({"price": ["3.5"] * n})).numeric[0].tolist() == [
                3.5,
                0,
            ]
        with pytest.raises(ValueError, match="Column 'price' is numeric.*'cheap'"):
            encoder.encode(pd.DataFrame({"price": ["cheap"] * n}))
    text = FieldEncoder(categorical_features=None).fit(pd.DataFrame({"price": ["1.5", "", None]}))
    # No warning: so in fit.
    assert text.encode(pd.DataFrame({"price": ["1.5", ""]})).numeric[:, 1].tolist() == [0, 1]


def test_hashed_columns_know_drifted_values_too():
    encoder = FieldEncoder(hash_threshold=10, n_hash_buckets=1000).fit(
        pd.DataFrame({"a": np.arange(50)})
    )
    X = pd.DataFrame({"a": [7, 49]})
    with pytest.warns(DataTypeDriftWarning, match="'7' is hashed like '7'"):
        np.testing.assert_array_equal(encoder.encode(X.astype(str)).ids, encoder.encode(X).ids)
    assert encoder.counts_[0].sum() == 50 and len(encoder.counts_[0]) == 1002
    assert (
        encoder.inverse_transform(encoder.encode(X).ids)[0, 0]
        == f"<hash {encoder.encode(X).ids[0, 0] - 2}>"
    )


def test_unknown_values_are_reported_beyond_what_was_rare_in_fit():
    X = pd.DataFrame(
        {"a": ["x"] * 40 + [f"u{k}" for k in range(60)], "b": [f"w{k}" for k in range(100)]}
    )
    encoder = FieldEncoder(min_frequency=2).fit(X)
    encoder.encode(X)  # as rare as in fit: no news
    with pytest.warns(UnknownCategoryWarning, match="100% of column 'a'"):
        FieldEncoder().fit(X).encode(X.assign(a="new"))
    quiet = FieldEncoder(unknown_warning=None).fit(X)
    assert quiet.encode(X.assign(a="new")).n_unknown.tolist() == [100, 0]
    FieldEncoder(unknown_warning=1.0).fit(X).encode(X.assign(a="new"))


# processes, threads, pickles
# -------------------------------------------------------------------------------


def test_ids_and_hashes_are_the_same_in_every_process():
    code = (
        "import pandas as pd; from sklearn_autorec.preprocessing import FieldEncoder\n"
        "X = pd.DataFrame({'a': [f'v{i % 70}' for i in range(300)], 'b': range(300), 's': "
        "[{f'k{i}', 'k'} for i in range(300)]})\n"
        "print(FieldEncoder(hash_threshold=100, n_hash_buckets=50).fit_transform(X).tolist())"
    )
    outputs = []
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        outputs.append(
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env
            ).stdout
        )
    assert outputs[0] == outputs[1] and outputs[0].startswith("[[")


@pytest.mark.parametrize(
    "values",
    [
        ["x", "ÿ", "\U0001f600", "nul\0", "\udc80", "long" * 100],
        [1, -5, 2**40],
        [0.5, 1e300],
        [None, None],
        [True, False],
    ],
    ids=["strings", "integers", "floats", "missing", "bools"],
)
@pytest.mark.filterwarnings(
    "ignore:.*lists of floats:sklearn_autorec.exceptions.SuspiciousColumnWarning"
)
def test_pickles_bring_back_everything(values):
    X = pd.DataFrame({"a": pd.Series(values, dtype=object), "h": [[v] for v in values], "x": 0.5})
    for encoder in (
        FieldEncoder(categorical_features=["a"]),
        FieldEncoder(categorical_features=["a"]).partial_fit(X),
    ):
        encoder = encoder if hasattr(encoder, "n_ids_") else encoder.fit(X)
        again = pickle.loads(pickle.dumps(encoder))
        assert_same_fit(again, encoder)
        assert_same(again.encode(X), encoder.encode(X))
        assert_same_fit(again.partial_fit(X), encoder.partial_fit(X))


def test_look_up_tables_are_not_pickled():
    X = pd.DataFrame({"a": [f"user_{k}" for k in range(5000)], "b": np.arange(5000)})
    encoder = FieldEncoder().fit(X).discard_counts()
    before = len(pickle.dumps(encoder))
    encoder.encode(X)
    encoder.encode(X[:1])
    assert len(pickle.dumps(encoder)) == before < sum(map(len, X["a"])) + 5 * 5000 + 3000


def test_many_threads_on_one_fresh_encoder():
    X = pd.DataFrame(
        {
            "a": [f"user_{k}" for k in range(20_000)],
            "b": np.arange(0, 2_000_000, 100),
            "x": np.linspace(0, 1, 20_000),
        }
    )
    encoder = FieldEncoder().partial_fit(X)
    expected = encoder.encode(X)
    data = pickle.dumps(encoder)
    sizes = [1, 10, 100, 6000]
    for _ in range(3):
        fresh, start = pickle.loads(data), threading.Barrier(8)

        def work(k, fresh=fresh, start=start):
            start.wait()
            rows = slice(k * 1000, k * 1000 + sizes[k % 4])
            return fresh.encode(X.iloc[rows]), expected.take(rows)

        with ThreadPoolExecutor(8) as pool:
            for got, wanted in pool.map(work, range(8)):
                assert_same(got, wanted)


@pytest.mark.parametrize(
    "options", [{}, {"hash_threshold": 5, "n_hash_buckets": 31}, {"max_categories": 3}], ids=str
)
def test_all_paths_agree(options, monkeypatch):
    rng = np.random.default_rng(0)
    words = [*(f"w{k}" for k in range(20)), None, np.nan, pd.NA, ""]
    X = pd.DataFrame(
        {
            "a": pd.Series([words[k] for k in rng.integers(0, len(words), 300)], dtype=object),
            "b": rng.integers(0, 20, 300),
            "c": pd.Series(rng.integers(0, 20, 300)).mask(rng.random(300) < 0.2).astype("Int64"),
            "x": np.where(rng.random(300) < 0.2, np.nan, rng.normal(size=300)),
            "t": pd.Series(pd.date_range("2026-01-01", periods=300, freq="1003us")).mask(
                rng.random(300) < 0.2
            ),
            "d": pd.Series(pd.timedelta_range("1s", periods=300, freq="7us", unit="ns")).mask(
                rng.random(300) < 0.2
            ),
            "h": [
                [words[v] for v in rng.integers(0, len(words), k)] if k else None
                for k in rng.integers(0, 30, 300)
            ],
        }
    )
    encoder = FieldEncoder(**options, unknown_warning=None).fit(X[:150])
    results = []
    for few, lookup in ((300, 300), (0, 300), (0, 0)):
        monkeypatch.setattr(_encoder, "FEW_ROWS", few)
        monkeypatch.setattr(_encoding, "LOOKUP_ROWS", lookup)
        results.append(encoder.encode(X))
        results.append(encoder.encode(X, validate=False))
    for result in results[1:]:
        assert_same(result, results[0])
    monkeypatch.setattr(_encoder, "FEW_ROWS", 300)
    for names in (["b", "a", *"cxtdh"], [*"abcxtd", "u"]):
        with pytest.raises(ValueError, match="feature names"):
            encoder.encode(X.iloc[:1].set_axis(names, axis=1))
    with pytest.raises(ValueError, match="X has 6 features, but FieldEncoder expects 7"):
        encoder.encode(X.drop(columns="t"), validate=False)


@pytest.mark.parametrize("bad", [np.inf, 1e39])
def test_infinity_in_one_row_names_its_column(bad):
    encoder = FieldEncoder().fit(pd.DataFrame({"a": [1.5, 2.5], "price": [1.5, 2.5]}))
    with pytest.raises(ValueError, match="infinity or a value too large .* 'price'"):
        encoder.encode(pd.DataFrame({"a": [1.0], "price": [bad]}))


def test_matrices_names_and_inverse():
    X = mixed_table(50)
    encoder = FieldEncoder(categorical_features=CHOSEN, max_length=2)
    out = encoder.fit_transform(X)
    assert out.dtype == np.float64 and out.shape == (50, 4 + 2 + 2)
    names = encoder.get_feature_names_out().tolist()
    assert names == [*CHOSEN, "price", "price_missing", "items_0", "items_1"]
    framed = clone(encoder).set_output(transform="pandas").fit(X).transform(X)
    assert framed.columns.tolist() == names
    np.testing.assert_array_equal(framed.to_numpy(), out)
    assert clone(encoder).set_output(transform="polars").fit_transform(X).columns == names
    ids_only = FieldEncoder().fit_transform(X[["word", "number"]])
    assert ids_only.dtype == np.int32
    back = encoder.inverse_transform(out)
    assert back[:, 0].tolist() == [None if pd.isna(v) else v for v in X["word"]]
    assert back[:, 3].tolist() == X["halves"].tolist()
    assert encoder.inverse_transform(np.array([[1, 0, 2, 2]]))[0, :2].tolist() == ["<rare>", None]
    for wrong in (
        np.zeros((2, 3), int),
        np.zeros(4, int),
        np.full((1, 4), 99),
        np.full((1, 4), -1),
    ):
        with pytest.raises(ValueError, match="ids "):
            encoder.inverse_transform(wrong)
    with pytest.raises(ValueError, match="input_features is not equal"):
        encoder.get_feature_names_out(["z", *X.columns[1:]])


def test_tables_take_rows_and_count_unknown_cells():
    X = mixed_table(60)
    encoder = FieldEncoder(categorical_features=CHOSEN, min_frequency=3)
    table = encoder.fit_encode(X)
    assert len(table) == 60 and table.n_unknown.tolist() == [
        counts[1] for counts in encoder.counts_
    ]
    rows = np.array([5, 3, 3])
    assert_same(table.take(rows), encoder.encode(X.iloc[rows]))
    part = table.take(slice(0, 60, 2))
    assert part.ids.flags.c_contiguous and len(part) == 30
