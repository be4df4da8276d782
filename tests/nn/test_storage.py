"""Tables in float16 and int8: against numpy, in every form, by every method of embeddings."""

import copy

import numpy as np
import pytest
import torch
from packed_cases import FORMS, ROWS, TRIED, all_rows, by_columns, inputs_of, random_table
from packed_cases import context as packed_context
from small_networks import small_context

from sklearn_autorec.nn import (
    BuildContext,
    FieldEmbedding,
    FieldLinear,
    Inputs,
    MixedEmbedding,
    NumberVectors,
    SizedRows,
    check_storage,
    element_bytes,
    in_float32,
    limit_of,
    pack_table,
    read_exactly,
    round_in_training,
    store_tables,
    table_bytes,
)
from sklearn_autorec.nn._anchored_rows import AnchoredRows
from sklearn_autorec.nn._budget import stored_bytes
from sklearn_autorec.nn._quantized import quantized
from sklearn_autorec.nn._storage import TableRows, runs_of, scales_of


def numpy_int8(table):
    """What rows read as, and their scales: float16 at or above max / 127."""
    wanted = (np.abs(table).max(1) / np.float32(127)).astype(np.float32)
    scales = wanted.astype(np.float16)
    low = scales.astype(np.float32) < wanted
    scales[low] = np.nextafter(scales[low], np.float16(np.inf))
    scales = scales.astype(np.float32)[:, None]
    codes = np.rint(table / np.where(scales > 0, scales, 1))
    assert np.abs(codes).max(initial=0) <= 127
    return codes * scales, scales


def rows_of_sizes(n=60, d=7, seed=0):
    """Rows whose sizes differ by six orders of magnitude, one of them zero."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-4, 2, (n, 1))
    table[3] = 0
    return table.astype(np.float32)


def in_storage(table, storage, columns=None, names=("a", "b", "c")):
    columns = np.zeros(len(table), int) if columns is None else columns
    return quantized(torch.from_numpy(table), TableRows(columns), storage, names)


def test_int8_rows_are_those_of_numpy():
    table = rows_of_sizes()
    stored, (expected, scales) = in_storage(table, "int8"), numpy_int8(table)
    rows = torch.tensor([[5, 3], [59, 5]])
    np.testing.assert_array_equal(stored.read(rows).numpy(), expected[rows.numpy()])
    np.testing.assert_array_equal(stored.dense().numpy(), expected)
    assert stored.codes.int8.dtype == torch.int8 and stored.scales.float16.shape == (60,)
    # The bound of the docstring, up to rounding in float32.
    assert (np.abs(table - expected) <= scales / 2 * (1 + 1e-5)).all()


def test_float16_rows_are_those_of_numpy():
    table = rows_of_sizes()
    found = in_storage(table, "float16").dense().numpy()
    np.testing.assert_array_equal(found, table.astype(np.float16).astype(np.float32))


def test_one_scale_for_all_rows_would_be_worse():
    table = rows_of_sizes()
    own = np.abs(in_storage(table, "int8").dense().numpy() - table)
    scale = np.abs(table).max() / 127
    shared = np.abs(np.rint(table / scale) * scale - table)
    size = np.abs(table).max(1, keepdims=True) + 1e-9
    assert (own / size).max() < 0.01 < 0.9 < (shared / size).max()


def test_scales_are_never_below_what_codes_need():
    largest = torch.rand(5000, generator=torch.Generator().manual_seed(0)) ** 8 + 1e-9
    scales = scales_of(largest).float()
    assert (scales >= largest / 127).all()
    assert (scales <= largest / 127 * 1.001 + 6e-8).all()


@pytest.mark.parametrize("width, kind", [(1, "float16"), (2, "float16"), (3, "int8")])
def test_int8_is_taken_where_it_takes_fewer_bytes(width, kind):
    stored = in_storage(rows_of_sizes(d=width), "int8")
    assert stored.codes.kinds == [kind]
    assert sum(p.nbytes for p in stored.parameters()) == 60 * min(2 * width, width + 2)


@pytest.mark.parametrize("storage", ["int8", "float16"])
def test_what_float16_cannot_hold_stays_float32(storage):
    table = rows_of_sizes()
    table[7, 2] = 70_000
    columns = np.repeat([0, 1], 30)
    stored = in_storage(table, storage, columns)
    assert stored.codes.runs == (("float32", 30), (storage, 30))
    np.testing.assert_array_equal(stored.dense().numpy()[:30], table[:30])
    assert in_storage(table, storage) is None


def test_columns_have_storages_of_their_own():
    table, columns = rows_of_sizes(), np.repeat([2, 0, 1, 0], [10, 20, 25, 5])
    stored = in_storage(table, {"a": "int8", "b": "float16"}, columns)
    expected = np.where(columns[:, None] == 0, numpy_int8(table)[0], table)
    half = columns == 1
    expected[half] = table[half].astype(np.float16)
    rows = torch.randint(0, 60, (4, 9), generator=torch.Generator().manual_seed(1)).int()
    np.testing.assert_array_equal(stored.read(rows).numpy(), expected[rows.numpy()])
    assert sum(p.nbytes for p in stored.parameters()) == 25 * (7 + 2) + 25 * 14 + 10 * 28


def test_neighbours_of_one_kind_are_one_run():
    kinds = {0: "int8", 1: "int8", 4: "float16"}
    assert runs_of(np.array([0, 1, 1, 4, 0]), kinds) == (("int8", 3), ("float16", 1), ("int8", 1))


# Modules
# ---------------------------------------------------------------------------------------------


def inputs(c, n=30, seed=2):
    return inputs_of(c, n, seed)


def shared_context(members=1, sparse=False, **changes):
    options = {
        "n_ids": (20, 9),
        "sequences": ((12, 3), (9, 2)),
        "field_names": ("a", "b", "n", "s", "t"),
        "n_numeric": 1,
        "shared": (None, 1),
        "embedding_dim": 6,
        "embedding_init": 0.5,
        "members": members,
        "sparse_gradients": sparse,
        "numeric_embedding": "piecewise",
    }
    return small_context(**{**options, **changes})


def sized(c):
    return SizedRows(c, np.arange(41) * 7 % 7, projected=True)


def anchored(c):
    return AnchoredRows(c, np.random.default_rng(0).random((41, 9)) < 0.7)


MODULES = {
    "plain": FieldEmbedding,
    "by field": lambda c: MixedEmbedding(c, [3, 6, 6, 4, 6]),
    "by value": sized,
    "anchors": anchored,
}


@pytest.mark.parametrize("storage", ["int8", "float16", {"b": "int8", "n": "float16"}])
@pytest.mark.parametrize("members, sparse", [(1, False), (1, True), (2, False)])
@pytest.mark.parametrize("name", MODULES)
def test_stored_modules_read_what_training_sees(name, members, sparse, storage):
    if name == "anchors" and members > 1:
        pytest.skip("anchors are those of one member")
    c = shared_context(members, sparse)
    module = MODULES[name](c)
    batch = inputs(c, 30)
    exact = module(batch)
    n_bytes = sum(module.nbytes().values())
    round_in_training(module, storage)
    rounded = module(batch)
    rounded.square().sum().backward()
    assert all(p.grad is not None for p in module.parameters() if p.numel())
    read_exactly(module)
    assert torch.equal(module(batch), exact)
    tables = store_tables(module, storage)
    with torch.no_grad():
        torch.testing.assert_close(module(batch), rounded, atol=1e-6, rtol=1e-6)
        assert not torch.equal(module(batch), exact)
    assert sum(module.nbytes().values()) < n_bytes
    again = in_float32(copy.deepcopy(module))
    torch.testing.assert_close(again(batch), rounded, atol=1e-6, rtol=1e-6)
    assert torch.equal(in_float32(module, tables)(batch), exact)


def test_gradients_pass_as_if_nothing_were_rounded():
    c = shared_context()
    module, batch = FieldEmbedding(c), inputs(c)
    factor = torch.randn(module(batch).shape, generator=torch.Generator().manual_seed(3))
    found = []
    for storage in (None, "int8"):
        module.zero_grad()
        if storage:
            round_in_training(module, storage)
        (module(batch) * factor).sum().backward()
        found.append([p.grad.clone() for p in module.parameters()])
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(own, other)


def test_only_the_rows_that_are_read_become_float32(monkeypatch):
    c = shared_context(
        n_ids=(5000, 9), sequences=(), shared=(), n_numeric=0, field_names=("a", "b")
    )
    module = FieldEmbedding(c)
    store_tables(module, "int8")
    largest = []
    convert = torch.Tensor.to

    def noted(self, *args, **kwargs):
        largest.append(self.numel())
        return convert(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    module(Inputs(torch.zeros(3, 2).int(), torch.zeros(3, 0), torch.zeros(3, 0).int()))
    assert max(largest) <= 3 * 2 * 6


def test_first_order_terms_stay_as_they_are():
    module = FieldLinear(shared_context())
    assert store_tables(module, "int8") == {} and module.weight.dtype == torch.float32


def test_vectors_of_numbers_are_stored_by_column():
    c = small_context(n_ids=(), sequences=(), n_numeric=2, field_names=("x", "y"), embedding_dim=5)
    module = NumberVectors(c)
    before = module.numeric_weight.detach().clone()
    store_tables(module, {"y": "int8"})
    found = module.numeric_weight.dense()
    assert torch.equal(found[:, 0], before[:, 0])
    expected = numpy_int8(before[:, 1].numpy() if before.ndim == 3 else before)[0]
    np.testing.assert_array_equal(found[:, 1].numpy(), expected)


@pytest.mark.parametrize("form", TRIED)
@pytest.mark.parametrize("make", [lambda w: random_table(ROWS, w, 0.6), by_columns])
def test_packed_forms_share_a_scale_by_row(form, make):
    width = 12
    table, c = make(width), packed_context(width)
    module = TRIED[form](
        c,
        TRIED[form].pack(table, c.table_sizes)
        | {"numeric_weight": np.zeros((3, c.n_numeric, width), np.float32)},
    ).eval()
    mask, before = module.mask(), module.nbytes()["embedding"]
    store_tables(module, "int8")
    # Numbers that several rows read have no scale of one of them.
    kind = "float16" if form not in FORMS and make is by_columns else "int8"
    assert module.values.codes.kinds == [kind]
    expected = numpy_int8(table)[0] if kind == "int8" else table.astype(np.float16)
    np.testing.assert_array_equal(all_rows(module), expected.astype(np.float32))
    assert (module.mask() <= mask).all() and module.nbytes()["embedding"] < 0.6 * before
    np.testing.assert_array_equal(all_rows(in_float32(module)), expected.astype(np.float32))


@pytest.mark.parametrize("form", FORMS)
def test_packed_forms_by_column(form):
    table, c = random_table(ROWS, 12, 0.6), packed_context(12, n_numeric=0)
    module = FORMS[form](c, FORMS[form].pack(table, c.table_sizes)).eval()
    storage = {c.field_names[0]: "int8", c.field_names[2]: "float16"}
    store_tables(module, storage)
    own, (first, second, third) = numpy_int8(table)[0], c.table_sizes[:3]
    expected = table.copy()
    expected[:first] = own[:first]
    half = slice(first + second, first + second + third)
    expected[half] = table[half].astype(np.float16)
    np.testing.assert_array_equal(all_rows(module), expected)


def test_the_form_follows_what_its_numbers_take():
    """In a byte a number dense rows are the smallest form where in four they are not."""
    table = random_table(400, 8, 0.6)
    forms = [
        pack_table(table, packed_context_of(400, 8, storage)).form for storage in (None, "int8")
    ]
    assert forms == ["bits", "dense"]


def packed_context_of(n, width, storage):
    return BuildContext(("a",), (n,), 0, (), embedding_dim=width, storage=storage)


# Budgets, refusals
# ---------------------------------------------------------------------------------------------


def test_budgets_count_what_will_be_stored():
    c = shared_context()
    assert [element_bytes(small_with(c, s)).tolist() for s in (None, "int8", {"b": "float16"})] == [
        [4] * 5,
        [1] * 5,
        [4, 2, 4, 4, 2],
    ]
    whole = table_bytes(c, numeric=False)
    assert whole == 4 * 6 * 41
    assert table_bytes(small_with(c, "int8"), numeric=False) == (6 + 2) * 41  # and a scale
    assert stored_bytes([0, 3, 4, 5], [1, 2, 2, 2], ["int8"] * 4).tolist() == [0, 6, 8, 9]
    assert limit_of(0.5, small_with(c, "float16")) == whole // 4
    assert limit_of(2, small_with(c, "int8")) == 2
    with pytest.raises(ValueError, match="fewer than the 4 of a single"):
        limit_of(2, c)


def small_with(c, storage):
    return shared_context(storage=storage)


@pytest.mark.parametrize(
    "storage, message",
    [
        ("int4", r"storage must be one of \('float16', 'int8', 'pq'\) or None .*, got 'int4'"),
        ({"a": "int4"}, r"storage\['a'\] must be one of .* got 'int4'"),
        ({"z": "int8"}, r"storage names 'z', which is no column with embeddings; there are \['a'"),
        ({"t": "int8"}, r"'t' reads the table of 'b', which is stored as float32: name 'b' alone"),
        ([1], r"storage must be one of .* got \[1\]"),
    ],
)
def test_what_is_no_storage_is_refused(storage, message):
    with pytest.raises(ValueError, match=message):
        check_storage(storage, shared_context())


@pytest.mark.parametrize("storage", [None, "int8", {}, {"a": None, "n": "int8"}])
def test_what_is_a_storage_is_taken(storage):
    check_storage(storage, shared_context())
    check_storage({"t": "int8", "b": "int8"}, shared_context())
