import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from encoder_cases import ITEM, same, table
from sklearn.preprocessing import OrdinalEncoder

from sklearn_autorec.exceptions import DataTypeDriftWarning, UnknownCategoryWarning
from sklearn_autorec.preprocessing import FieldEncoder

# ids
# --------------------------------------------------------------------------------------------------


def test_ids_are_ordered_by_frequency_after_missing_and_unknown():
    X = pd.DataFrame({"a": ["x", "y", "y", None, "z", "z", "z", ""]})
    encoder = FieldEncoder().fit(X)
    assert encoder.encode(X).ids.ravel().tolist() == [4, 3, 3, 0, 2, 2, 2, 0]
    assert encoder.categories_[0].tolist() == ["z", "y", "x"]
    assert encoder.counts_[0].tolist() == [2, 0, 3, 2, 1] and encoder.n_ids_ == [5]
    assert encoder.encode(pd.DataFrame({"a": ["q", "x"]})).ids.ravel().tolist() == [1, 4]


@pytest.mark.parametrize("dtype", [str, int, object, "category"])
@pytest.mark.parametrize(
    "options", [{}, {"min_frequency": 20}, {"max_categories": 7}, {"min_frequency": 0.02}]
)
def test_partitions_values_as_ordinal_encoder_does(dtype, options):
    rng = np.random.default_rng(0)
    values = np.minimum(rng.geometric(0.08, 1500), 60)
    column = (
        pd.Series(values).astype(str).astype(object)
        if dtype is object
        else pd.Series(values).astype(dtype)
    )
    X = pd.DataFrame({"a": column})
    ours = FieldEncoder(**options).fit_encode(X).ids[:, 0]
    oracle_options = dict(options)
    if "max_categories" in options:
        oracle_options["max_categories"] += 1  # theirs counts the rare one
    theirs = OrdinalEncoder(**oracle_options).fit_transform(X.astype(str))[:, 0]
    pairs = set(zip(ours, theirs, strict=True))
    assert len(pairs) == len(set(ours)) == len(set(theirs)) > 3


def test_rare_values_share_the_unknown_id():
    X = pd.DataFrame({"a": ["x"] * 5 + ["y"] * 2 + ["z"]})
    encoder = FieldEncoder(min_frequency=3).fit(X)
    assert encoder.counts_[0].tolist() == [0, 3, 5]
    assert encoder.encode(X).ids.ravel().tolist() == [2] * 5 + [1] * 3
    assert encoder.encode(X).n_unknown.tolist() == [3]


def containers(X):
    lists = X.astype(object).where(X.notna(), None)
    plain = {name: lists[name].tolist() for name in X.columns}
    return {
        "object": pd.DataFrame({name: pd.Series(v, dtype=object) for name, v in plain.items()}),
        "string": X.astype({"user": "string", "item": "Int64", "price": "Float64"}),
        "category": X.astype({"user": "category", "item": "category"}),
        "polars": pl.DataFrame(plain),
        "arrow": pa.table(plain),
        "ndarray": X.astype(object).to_numpy(),
    }


# containers
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fitted", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize("name", ["object", "string", "category", "polars", "arrow", "ndarray"])
def test_the_same_values_encode_alike_in_all_containers(fitted, name):
    X = table()
    every = {"pandas": X, **containers(X)}
    options = {"categorical_features": {1: "id"}} if name == "ndarray" else ITEM
    encoder = FieldEncoder(**ITEM).fit(every[fitted])
    assert [len(encoder.categorical_), len(encoder.numeric_), len(encoder.sequence_)] == [2, 1, 1]
    fresh = FieldEncoder(**options).fit(every[name])
    same(fresh.encode(every[name]), encoder.encode(X))
    if name != "ndarray":
        same(encoder.encode(every[name]), encoder.encode(X))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, ""])
def test_every_spelling_of_missing_is_one_id(missing):
    X = pd.DataFrame({"a": pd.Series(["x", missing, "y"], dtype=object)})
    for data in (X, X.to_numpy()):
        assert FieldEncoder().fit_encode(data).ids.ravel().tolist() == [2, 0, 3]
    fitted = FieldEncoder().fit(pd.DataFrame({"a": ["x", "y", "y"]}))
    assert fitted.encode(X).ids[1, 0] == 0  # missing is known without having been seen


# partial_fit
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bounds", [[0, 500], [0, 1, 500], [0, 100, 101, 350, 500], [*range(0, 501, 50)]]
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"min_frequency": 5},
        {"hash_threshold": 20, "n_hash_buckets": 11},
        {"numeric": "standard"},
    ],
)
def test_partial_fit_equals_fit_on_the_whole(bounds, options):
    X = table()
    whole, parts = FieldEncoder(**ITEM, **options).fit(X), FieldEncoder(**ITEM, **options)
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        if start == 0 and stop == 1:
            stop = 1
        parts.partial_fit(X.iloc[start:stop])
    for a, b in zip(
        whole.categories_ + whole.sequence_categories_,
        parts.categories_ + parts.sequence_categories_,
        strict=True,
    ):
        assert a.tolist() == b.tolist()
    for a, b in zip(whole.counts_, parts.counts_, strict=True):
        assert a.tolist() == b.tolist()
    same(whole.encode(X), parts.encode(X))


def test_partial_fit_reconciles_integers_with_strings():
    encoder = (
        FieldEncoder()
        .partial_fit(pd.DataFrame({"a": [1, 2, 2]}))
        .partial_fit(pd.DataFrame({"a": ["2", "b"]}))
    )
    assert encoder.categories_[0].tolist() == ["2", "1", "b"]
    assert encoder.counts_[0].tolist() == [0, 0, 3, 1, 1]


def test_discarding_counts_shrinks_the_pickle_and_ends_partial_fit():
    X = pd.DataFrame({"a": np.arange(5000), "p": np.random.default_rng(0).normal(size=5000)})
    encoder = FieldEncoder(min_frequency=2).fit(X)
    before = len(pickle.dumps(encoder))
    assert len(pickle.dumps(encoder.discard_counts())) < before / 5
    with pytest.raises(ValueError, match="counts were discarded"):
        encoder.partial_fit(X)


# drift and unknown values
# ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fitted, given, expected, drifts",
    [
        ([1, 2, 2], ["2", "1", "x"], [2, 3, 1], True),
        ([1, 2, 2], [2.0, 1.0, np.nan], [2, 3, 0], False),
        ([1, 2, 2], [2.5, 1.0, 2.0], [1, 3, 2], False),
        (["1", "2", "2"], [2, 1, 7], [2, 3, 1], True),
        (["1", "2", "2"], [2.0, 1.0, np.nan], [2, 3, 0], True),
        ([True, False, False], [0, 1, 0], [2, 3, 2], False),
        ([1, 2, 2], [True, True, True], [3, 3, 3], False),
    ],
)
def test_drift_of_types_is_converted_and_warned_about(fitted, given, expected, drifts):
    encoder = FieldEncoder(categorical_features=["user"]).fit(pd.DataFrame({"user": fitted}))
    for rows in (3, 30):  # the path for few rows and the one for many
        X = pd.DataFrame({"user": given * (rows // 3)})
        if drifts:
            with pytest.warns(
                DataTypeDriftWarning, match="Column 'user' held .* in fit and holds .* now"
            ):
                ids = encoder.encode(X).ids
        else:
            ids = encoder.encode(X).ids
        assert ids.ravel().tolist() == expected * (rows // 3)


def test_a_column_of_unknown_values_is_reported():
    encoder = FieldEncoder().fit(pd.DataFrame({"a": ["x", "y"] * 50, "b": [1, 2] * 50}))
    X = pd.DataFrame({"a": ["new"] * 60 + ["x"] * 40, "b": [1] * 100})
    with pytest.warns(UnknownCategoryWarning, match="60% of column 'a'"):
        encoder.encode(X)
    FieldEncoder(unknown_warning=None).fit(X)
    encoder.encode(X.iloc[:99])  # too few rows to speak of a share
    encoder.encode(X.iloc[50:])
