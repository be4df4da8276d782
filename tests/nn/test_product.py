"""Tables stored as codes of centroids: against numpy, in every module that has vectors."""

import copy

import numpy as np
import pytest
import torch
from packed_cases import FORMS, ROWS, all_rows, inputs_of, random_table
from packed_cases import context as packed_context
from small_networks import small_context

from sklearn_autorec.nn import (
    FieldEmbedding,
    MixedEmbedding,
    SizedRows,
    _clusters,
    in_float32,
    round_in_training,
    store_tables,
)
from sklearn_autorec.nn._product import ProductRows, codes_and_centroids, pays, product_bytes
from sklearn_autorec.nn._quantized import QuantizedTable, quantized
from sklearn_autorec.nn._storage import TableRows


def vectors(n=300, width=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def rebuilt(codes, centroids):
    """The table that codes and centroids stand for, part by part."""
    parts = [
        centroids[codes[:, p], 4 * p : 4 * p + 4].astype(np.float16) for p in range(codes.shape[1])
    ]
    return np.concatenate(parts, 1).astype(np.float32)


@pytest.mark.parametrize("width", [3, 4, 6, 8])
def test_each_part_has_the_nearest_of_its_centroids(width):
    table = vectors(width=width)
    codes, centroids = codes_and_centroids(table)
    assert codes.dtype == np.uint8 and codes.shape == (300, -(-width // 4))
    assert centroids.shape == (64, width) and codes.max() < 64
    found = rebuilt(codes, centroids)
    for p in range(codes.shape[1]):
        own, means = table[:, 4 * p : 4 * p + 4], centroids[:, 4 * p : 4 * p + 4]
        errors = ((own[:, None] - means) ** 2).sum(2)
        np.testing.assert_allclose(
            ((own - found[:, 4 * p : 4 * p + 4]) ** 2).sum(1), errors.min(1), atol=1e-5
        )
    again = codes_and_centroids(table)
    np.testing.assert_array_equal(again[0], codes)
    np.testing.assert_array_equal(again[1], centroids)


def test_more_centroids_have_a_smaller_error(monkeypatch):
    errors, table = [], vectors()
    for k in (4, 16, 64):
        monkeypatch.setattr("sklearn_autorec.nn._product.MOST_CENTROIDS", k)
        errors.append(((rebuilt(*codes_and_centroids(table)) - table) ** 2).mean())
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2], errors


def test_a_cluster_of_nothing_goes_where_the_error_is_largest(monkeypatch):
    points, starts = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([[0.0], [1.0], [100.0]])
    monkeypatch.setattr(_clusters, "_spread", lambda *args: starts.copy())
    weight, random = np.ones(4), np.random.default_rng(0)
    centroids = _clusters.means_of_clusters(points, weight, 3, random)
    assert len(set(_clusters.nearest(points, centroids))) == 3


def test_few_distinct_vectors_are_kept_as_they_are():
    table = np.repeat(vectors(10).astype(np.float16).astype(np.float32), 30, 0)
    np.testing.assert_array_equal(rebuilt(*codes_and_centroids(table)), table)


def test_frequent_vectors_are_met_better():
    table, weight = vectors(), np.where(np.arange(300) % 3, 1, 1000)
    error = {
        name: ((rebuilt(*codes_and_centroids(table, w)) - table) ** 2)[weight > 1].mean()
        for name, w in (("plain", None), ("weighted", weight))
    }
    assert error["weighted"] < 0.8 * error["plain"]


def test_large_tables_are_clustered_by_a_sample(monkeypatch):
    table, weight = vectors(3000, 4), np.r_[np.full(1000, 50.0), np.ones(2000)]
    whole = ((rebuilt(*codes_and_centroids(table, weight)) - table) ** 2).mean(1) @ weight
    monkeypatch.setattr("sklearn_autorec.nn._product.MOST_ROWS", 1000)
    codes, centroids = codes_and_centroids(table, weight)
    sampled = ((rebuilt(codes, centroids) - table) ** 2).mean(1) @ weight
    assert len(codes) == 3000 and whole < sampled < 1.2 * whole


def test_bytes_of_codes_and_centroids():
    assert product_bytes(1000, 6) == 1000 * 2 + 64 * 6 * 2
    assert [pays(n, 8) for n in (60, 73, 74)] == [False, False, True]
    stored = quantized(torch.from_numpy(vectors(1000)), TableRows(np.zeros(1000, int)), "pq", "a")
    assert sum(p.nbytes for p in stored.parameters()) == 2768


def test_kinds_stand_side_by_side():
    """Two columns in codes, one in each other storage, one too small, in one table."""
    table = vectors(800)
    columns = np.repeat([3, 0, 1, 4, 2], [50, 200, 150, 300, 100])
    storage = {"a": "pq", "b": "int8", "c": "float16", "d": "pq", "e": "pq"}
    stored = quantized(torch.from_numpy(table), TableRows(columns), storage, "abcde")
    assert [kind for kind, _ in stored.codes.runs] == ["float16", "pq", "int8", "pq", "float16"]
    assert stored.codes.pq.books == ((64, 200), (64, 300))
    expected = stored.dense().numpy()
    for column in (0, 4):
        own = columns == column
        np.testing.assert_array_equal(expected[own], rebuilt(*codes_and_centroids(table[own])))
    for column in (3, 2):
        own = columns == column
        np.testing.assert_array_equal(expected[own], table[own].astype(np.float16))
    rows = torch.randint(0, 800, (4, 9), generator=torch.Generator().manual_seed(1)).int()
    np.testing.assert_array_equal(stored.read(rows).numpy(), expected[rows.numpy()])
    told = stored.describe()
    again = QuantizedTable(*(told[name] for name in ("shape", "codes", "scales", "books")))
    again.load_state_dict(stored.state_dict())
    np.testing.assert_array_equal(again.dense().numpy(), expected)


@pytest.mark.parametrize("number", [1e5, np.inf, np.nan])
def test_what_centroids_cannot_hold_stays_float32(number):
    table = vectors(200)
    table[7, 2] = number
    assert quantized(torch.from_numpy(table), TableRows(np.zeros(200, int)), "pq", "a") is None


def test_codes_of_no_centroid_are_refused():
    rows = ProductRows(4, [(2, 3), (64, 70)])
    rows.codes.data[2:] = 1
    rows.check()
    rows.codes.data[2] = 2
    with pytest.raises(ValueError, match="must be below 2"):
        rows.check()


# Modules
# ---------------------------------------------------------------------------------------------


def context(members=1, width=6):
    return small_context(
        n_ids=(200, 120),
        sequences=((150, 3),),
        field_names=("a", "b", "n", "s"),
        n_numeric=1,
        embedding_dim=width,
        embedding_init=0.5,
        members=members,
    )


MODULES = {
    "plain": FieldEmbedding,
    "by field": lambda c: MixedEmbedding(c, [3, 6, 6, 4]),
    "by value": lambda c: SizedRows(c, np.repeat([6, 3, 0, 5], [150, 100, 70, 150])),
}


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", MODULES)
def test_modules_read_what_their_tables_would_be(name, members):
    c = context(members)
    module, batch = MODULES[name](c), inputs_of(c, 30, 2)
    exact, before = module(batch), sum(module.nbytes().values())
    tables = store_tables(module, "pq", {"a": np.arange(200), "s": np.arange(150)})
    with torch.no_grad():
        found = module(batch)
        assert not torch.equal(found, exact)
        dense = in_float32(copy.deepcopy(module))
        torch.testing.assert_close(dense(batch), found, atol=1e-6, rtol=0)
    assert sum(module.nbytes().values()) < 0.6 * before
    assert torch.equal(in_float32(module, tables)(batch), exact)


def test_frequent_values_are_met_better_in_a_module():
    found = {}
    counts = np.where(np.arange(200) < 60, 1000, 0)
    for name, own in (("unknown", None), ("known", counts), ("another vocabulary", counts[1:])):
        module = FieldEmbedding(context())
        table = module.weight.detach().clone()
        store_tables(module, {"a": "pq"}, own if own is None else {"a": own})
        found[name] = float((module.weight.dense() - table)[:60].square().mean())
    assert found["known"] < 0.7 * found["unknown"] == 0.7 * found["another vocabulary"]


@pytest.mark.parametrize("form", FORMS)
def test_numbers_stored_one_by_one_become_float16(form):
    """A model that was pruned before ``storage`` was set."""
    table, c = random_table(ROWS, 12, 0.6), packed_context(12, n_numeric=0)
    module = FORMS[form](c, FORMS[form].pack(table, c.table_sizes)).eval()
    store_tables(module, "pq")
    assert module.values.codes.kinds == ["float16"]
    expected = table.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(all_rows(module), expected)


def test_training_cannot_see_codes():
    with pytest.raises(ValueError, match="quantization_aware=True cannot be combined with"):
        round_in_training(FieldEmbedding(context()), {"a": "pq"})
