"""What a fitted encoder depends on: not the order or chunks of the rows, not the process, not the
thread.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from encoder_state_cases import CHOSEN, assert_same, assert_same_fit, mixed_table

from sklearn_autorec.exceptions import DataTypeDriftWarning, UnknownCategoryWarning
from sklearn_autorec.preprocessing import FieldEncoder, _numeric


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


VALUES = {
    "integers": [12, 7, 12],
    "floats": [12.0, 7.0, 12.0],
    "int strings": ["12", "7", "12"],
    "float strings": ["12.0", "7.0", "12.0"],
    "nullable": pd.array([12, 7, 12], dtype="Int64"),
    "category": pd.Categorical(["12", "7", "12"]),
    "objects": np.array([12, 7, 12], dtype=object),
}

# drift
# --------------------------------------------------------------------------------------------------


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
