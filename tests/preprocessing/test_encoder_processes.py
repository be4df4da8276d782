"""Encoders in processes, threads and pickles."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from encoder_state_cases import CHOSEN, assert_same, assert_same_fit, mixed_table
from processes import printed_here_and_afresh
from sklearn.base import clone

from sklearn_autorec.preprocessing import FieldEncoder, _encoding


def test_ids_and_hashes_are_the_same_in_every_process():
    """Of words that are counted and hashed, of hashed numbers and of sets."""
    code = (
        "import pandas as pd; from sklearn_autorec.preprocessing import FieldEncoder\n"
        "X = pd.DataFrame({'a': [f'v{i % 70}' for i in range(300)], 'h': [f'v{i}' for i in "
        "range(300)], 'b': range(300), 's': [{f'k{i}', 'k'} for i in range(300)]})\n"
        "e = FieldEncoder(hash_threshold=100, n_hash_buckets=50).fit(X)\n"
        "print(e.n_ids_[1], len(e.categories_[1]), e.encode(X).ids.ravel().tolist())\n"
        "print(e.transform(X).tolist())"
    )
    here, afresh = printed_here_and_afresh(code)
    assert here == afresh and here.startswith("52 0 [")


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
        monkeypatch.setattr(_encoding, "FEW_ROWS", few)
        monkeypatch.setattr(_encoding, "LOOKUP_ROWS", lookup)
        results.append(encoder.encode(X))
        results.append(encoder.encode(X, validate=False))
    for result in results[1:]:
        assert_same(result, results[0])
    monkeypatch.setattr(_encoding, "FEW_ROWS", 300)
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
