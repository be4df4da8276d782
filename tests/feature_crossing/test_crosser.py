"""FieldCrosser: ids of combinations."""

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from crosser_cases import crossed
from numpy.testing import assert_array_equal
from scipy import sparse

from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.feature_crossing._combinations import Combinations, combine, scramble
from sklearn_autorec.feature_crossing._reading import (
    bin_names,
    bins_of,
    checked_encoder,
    column_edges,
)


def test_ids_are_those_of_counted_tuples(X):
    crosser = FieldCrosser([("user", "day"), ("day", "shop", "user")], min_count=12).fit(X)
    out = crosser.transform(X)
    assert out.columns.tolist() == [*X.columns, "user x day", "user x day x shop"]
    pd.testing.assert_frame_equal(out[X.columns], X)
    for columns, name in (
        (["user", "day"], "user x day"),
        (["user", "day", "shop"], "user x day x shop"),
    ):
        rows, ids = crossed(X, columns), out[name].to_numpy()
        counts = Counter(row for row in rows if row is not None)
        kept = {row for row, count in counts.items() if count >= 12}
        assert [k == 0 for k in ids] == [row is None for row in rows]
        assert [k == 1 for k in ids] == [row is not None and row not in kept for row in rows]
        known = {row: k for row, k in zip(rows, ids.tolist(), strict=True) if k > 1}
        assert len(set(known.values())) == len(known) == len(kept)
        assert all(known[row] == k for row, k in zip(rows, ids.tolist(), strict=True) if k > 1)
        by_id = [counts[row] for row in sorted(known, key=known.get)]
        assert by_id == sorted(by_id, reverse=True) and set(known.values()) == set(
            range(2, 2 + len(kept))
        )
        assert 1 in ids or name == "user x day"


def test_what_was_not_seen_has_an_id_of_its_own_and_missing_is_a_value(X):
    train = pd.DataFrame({"user": ["ann", "bob", None, None], "day": ["mon", "tue", "tue", None]})
    new = pd.DataFrame(
        {"user": ["ann", "zoe", None, None, "bob"], "day": ["tue", "mon", "tue", None, None]}
    )
    crosser = FieldCrosser([(0, 1)], min_count=1, append=False).fit(train)
    ids = crosser.transform(new)["user x day"].tolist()
    assert ids[:2] == [1, 1] and ids[2] > 1 and ids[3] == 0 and ids[4] == 1
    assert crosser.n_ids_ == [5]


def test_one_row_has_the_ids_of_many(X):
    crosser = FieldCrosser([("user", "day"), ("user", "age"), ("day", "age", "shop")]).fit(X)
    whole = crosser.transform(X)
    parts = pd.concat([crosser.transform(X.iloc[i : i + 1]) for i in range(25)])
    pd.testing.assert_frame_equal(whole[:25], parts)


def test_radix_and_hash_keys_tell_combinations_apart():
    rng = np.random.default_rng(0)
    ids = [rng.integers(40, size=5000) for _ in range(3)]
    truth = pd.factorize(pd.MultiIndex.from_arrays(ids))[0]
    for sizes in ([40, 40, 40], [2**31, 2**31, 40]):
        assert_array_equal(pd.factorize(combine(ids, sizes))[0], truth)
    assert combine([np.array([3]), np.array([5])], [4, 10])[0] == 35
    assert len(np.unique(scramble(np.arange(100_000, dtype=np.uint64)))) == 100_000
    # The order of columns is part of the key.
    assert combine([np.array([1]), np.array([2])], [2**40, 2**40]) != combine(
        [np.array([2]), np.array([1])], [2**40, 2**40]
    )


def test_hashed_keys_give_the_ids_of_exact_ones():
    rng = np.random.default_rng(0)
    ids = [rng.integers(30, size=3000) for _ in range(3)]
    exact, hashed = Combinations(ids, [30] * 3, 1, 2**20), Combinations(ids, [2**40] * 3, 1, 2**20)
    a, b = exact.ids(ids), hashed.ids(ids)
    assert_array_equal(pd.factorize(a)[0], pd.factorize(b)[0])
    assert_array_equal(a == 0, b == 0)
    few = [column[:7] for column in ids]
    assert_array_equal(hashed.ids(few), b[:7])


def test_beyond_max_ids_combinations_are_hashed(X):
    whole = FieldCrosser([("user", "shop")], min_count=1, append=False).fit(X)
    hashed = FieldCrosser([("user", "shop")], min_count=1, append=False, max_ids=5).fit(X)
    assert whole.n_ids_ == [2 + len(set(crossed(X, ["user", "shop"])))] and hashed.n_ids_ == [7]
    a, b = whole.transform(X).to_numpy().ravel(), hashed.transform(X).to_numpy().ravel()
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    assert len(pairs) == len(set(a)) and set(b) <= set(range(7)) and len(set(b[b > 1])) > 2
    assert len(pickle.dumps(hashed)) < len(pickle.dumps(whole)) + 100
    assert set(b) <= {0, 2, 3, 4, 5, 6} and b.max() == 6  # 1 would be what was not seen
    new = pd.DataFrame({"user": ["zoe"], "day": ["mon"], "age": [1.0], "shop": [9]})
    assert hashed.transform(new).to_numpy()[0, 0] > 1  # shares a bucket


def binned(x, n_bins):
    # Few values would be ids as well.
    encoder = checked_encoder(None).set_params(categorical_features=None)
    table = encoder.fit_encode(x[:, None])
    edges = column_edges(encoder, [0], [n_bins])[0]
    return bins_of(table.numeric[:, 0], table.numeric[:, 1] > 0, edges), bin_names(
        encoder._fields[0], edges
    )


def test_bins_hold_equally_many_rows():
    x = np.random.default_rng(0).lognormal(size=10_000)
    for n_bins in (1, 2, 20):
        counts = np.bincount(binned(x, n_bins)[0])
        assert counts[:2].tolist() == [0, 0] and len(counts) == 2 + n_bins
        assert (np.abs(counts[2:] - 10_000 / n_bins) < 60).all()


@pytest.mark.parametrize("heavy", [0.0, 1.5, 9.0])
def test_a_heavy_value_has_a_bin_of_its_own(heavy):
    # Bins of equal rows would put the last tenth of the rows into one or two of ten bins.
    rng = np.random.default_rng(0)
    x = np.where(rng.random(10_000) < 0.9, heavy, rng.lognormal(size=10_000))
    bins, names = binned(x, 10)
    alone = np.unique(bins[x == heavy])
    assert len(alone) == 1 and (bins[x != heavy] != alone[0]).all()
    counts = np.bincount(bins)
    assert len(counts) == len(names) <= 12 and (counts[2:] > 0).all()
    others = np.delete(counts, [0, 1, alone[0]])
    assert len(others) >= 8 and others.max() < 150
    assert (np.diff(bins[np.argsort(x)]) >= 0).all()


def test_there_are_never_more_bins_than_asked_for():
    rng = np.random.default_rng(0)
    for seed in range(30):
        values = rng.choice(rng.normal(size=rng.integers(2, 60)), size=500, p=None)
        x = np.concatenate([values, np.repeat(rng.normal(size=4), 200)])
        n_bins = int(rng.integers(1, 30))
        bins, names = binned(x, n_bins)
        assert 1 <= bins.max() - 1 <= n_bins and len(names) == 2 + bins.max() - 1, seed
        assert bins.max() - 1 >= min(n_bins, len(np.unique(x))) / 3


def test_few_values_have_a_bin_each():
    x = np.repeat([0.5, 1.0, 2.0, 4.0, np.nan], [50, 1, 200, 3, 7])
    bins, names = binned(x, 10)
    assert bins.tolist() == np.repeat([2, 3, 4, 5, 0], [50, 1, 200, 3, 7]).tolist()
    assert names.tolist() == ["<missing>", "<unused>", "< 0.75", "[0.75, 1.5)", "[1.5, 3)", ">= 3"]
    assert binned(np.full(9, 3.0), 10)[1].tolist() == ["<missing>", "<unused>", "any"]


def test_bins_follow_the_parameter_and_have_readable_names(X):
    crosser = FieldCrosser([("user", "age")], n_bins={"age": 4}, output="onehot", min_count=1).fit(
        X
    )
    names = crosser.get_feature_names_out()
    matrix = pd.DataFrame(crosser.transform(X).toarray(), columns=names)
    ages = [name for name in names if name.startswith(("age=[", "age=< ", "age=>="))]
    assert len(ages) == 4
    edges = [float(part) for part in ages[1][5:-1].split(", ")]
    inside = (X["age"] >= edges[0]) & (X["age"] < edges[1])
    assert (matrix[ages[1]].to_numpy() == inside).mean() > 0.98  # edges are rounded
    assert (matrix["age=<missing>"].to_numpy() == X["age"].isna()).all()
    both = {
        name for name in names if name.startswith("user x age=ann x ") and "missing" not in name
    }
    assert both == {name.replace("age=", "user x age=ann x ") for name in ages}


def test_one_hot_is_the_indicator_of_every_column_and_cross(X):
    ids = FieldCrosser([("user", "day")]).fit(X).transform(X)["user x day"].to_numpy()
    crosser = FieldCrosser([("user", "day")], output="onehot")
    matrix = crosser.fit_transform(X)
    assert sparse.issparse(matrix) and matrix.format == "csr" and matrix.dtype == np.float64
    assert (
        matrix.shape == (len(X), len(crosser.get_feature_names_out())) and matrix.has_sorted_indices
    )
    assert (matrix.toarray().sum(1) == 5).all() and matrix.nnz == 5 * len(X)
    named = pd.DataFrame(matrix.toarray(), columns=crosser.get_feature_names_out())
    assert_array_equal(named["user=ann"], (X["user"] == "ann").to_numpy(float))
    assert_array_equal(
        named["user x day=ann x mon"], ((X["user"] == "ann") & (X["day"] == "mon")).to_numpy(float)
    )
    crosses = FieldCrosser([("user", "day")], output="onehot", append=False).fit(X)
    assert_array_equal(crosses.transform(X).indices, ids)
    assert (crosses.transform(X) != matrix[:, -crosses.n_ids_[0] :]).nnz == 0
    assert_array_equal(matrix.toarray()[:9], crosser.transform(X[:9]).toarray())


def test_scales_multiply_indicators(X):
    scales = {"user": 0.5, "user x day": 3.0, "shop": 0.0}
    crosser = FieldCrosser([("user", "day")], output="onehot", scales=scales)
    matrix, plain = (
        crosser.fit_transform(X),
        FieldCrosser([("user", "day")], output="onehot").fit_transform(X),
    )
    names = [name.split("=")[0] for name in crosser.get_feature_names_out()]
    assert_array_equal(
        matrix.toarray(), plain.toarray() * [scales.get(name, 1.0) for name in names]
    )
    assert (
        FieldCrosser([("user", "day")], scales=scales)
        .fit(X)
        .transform(X)
        .equals(FieldCrosser([("user", "day")]).fit(X).transform(X))
    )
    assert FieldCrosser([(0, 1)], output="onehot", scales={"x0 x x1": 2.0}).fit([[1, 2], [3, 4]])


def test_sequences_become_counts_and_cannot_be_crossed(X):
    table = pd.DataFrame(
        {"user": ["a", "b", "a"], "seen": [["x", "y", "x"], [], None], "day": ["m", "m", "t"]}
    )
    crosser = FieldCrosser([("user", "day")], output="onehot", min_count=1).fit(table)
    named = pd.DataFrame(
        crosser.transform(table).toarray(), columns=crosser.get_feature_names_out()
    )
    assert named["seen=x"].tolist() == [2, 0, 0] and named["seen=y"].tolist() == [1, 0, 0]
    assert named["seen=<missing>"].tolist() == [0, 0, 0]
    out = FieldCrosser([("user", "day")]).fit_transform(table)
    assert out["seen"].tolist()[0] == ["x", "y", "x"]
    with pytest.raises(ValueError, match="'seen', a sequence column"):
        FieldCrosser([("user", "seen")]).fit(table)


def test_each_sequence_column_has_places_of_its_own():
    table = pd.DataFrame(
        {
            "user": ["a", "b"],
            "day": ["m", "t"],
            "seen": [["x"], ["x", "y"]],
            "liked": [["z", "z"], []],
        }
    )
    crosser = FieldCrosser([("user", "day")], output="onehot", min_count=1).fit(table)
    named = pd.DataFrame(
        crosser.transform(table).toarray(), columns=crosser.get_feature_names_out()
    )
    found = named[["seen=x", "seen=y", "liked=z"]].to_numpy().tolist()
    assert found == [[1, 0, 2], [1, 1, 0]]
