"""Packed tables against the dense masked table that they stand for.

What is asked of every form holds for those that leave out zeros and for others alike; one that does
something else, storing equal rows once, is tried beside those of the package."""

import pickle

import numpy as np
import pytest
import torch
from packed_cases import (
    N_IDS,
    SEQUENCES,
    TABLES,
    TRIED,
    EqualRows,
    all_rows,
    by_prefixes,
    context,
    inputs_of,
    numeric_weight,
    places,
    random_table,
)

from sklearn_autorec.nn import FORMS, PACKED_PARTS, BuildContext, Inputs, PackedPart, pack_table

pytestmark = pytest.mark.usefixtures("equal_rows")


def reference(c, table, numeric, x):
    """Embeddings (B, F, d) looked up in the whole table, float64."""
    parts, start = [], 0
    for f, n in enumerate(c.n_ids):
        parts.append(table[start + x.ids[:, f].numpy()])
        start += n
    values, missing = np.split(x.numeric.numpy().astype(np.float64), 2, axis=1)
    parts += [
        values[:, [j]] * numeric[0, j] + missing[:, [j]] * numeric[1, j] + numeric[2, j]
        for j in range(c.n_numeric)
    ]
    first = 0
    for n, length in c.sequences:
        items = x.sequences[:, first : first + length].numpy()
        present = (items > 0)[..., None]
        total = (table[start + items].astype(np.float64) * present).sum(1)
        parts.append(total / np.maximum(present.sum(1), 1))
        start, first = start + n, first + length
    return np.stack(parts, 1)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("width", [1, 7, 8, 16, 20])
@pytest.mark.parametrize("form", TRIED)
def test_every_form_reads_as_the_dense_table(form, width, name):
    c, table, numeric = context(width), TABLES[name](width), numeric_weight(width)
    module = pack_table(table, c, numeric, [form])
    module.check()
    assert type(module) is FORMS[form] and module.form == form
    np.testing.assert_array_equal(all_rows(module), table)
    np.testing.assert_array_equal(module.mask(), table != 0)
    dense = pack_table(table, c, numeric, ["dense"])
    x = inputs_of(c)
    for mode in (True, False):
        found = module.train(mode)(x)
        assert torch.equal(found, dense.train(mode)(x)) and found.dtype == torch.float32
    np.testing.assert_allclose(
        found.detach().numpy(), reference(c, table, numeric, x), rtol=0, atol=1e-6
    )
    for n in (0, 1):
        assert torch.equal(module(Inputs(*(None if t is None else t[:n] for t in x))), found[:n])


@pytest.mark.parametrize(
    "n_ids, sequences, n_numeric",
    [
        ((), (), 2),
        ((1,), (), 0),
        ((1,), ((1, 1),), 1),
        ((63,), (), 0),
        ((64,), (), 0),
        ((65,), (), 0),
        ((), ((5, 2),), 0),
    ],
)
@pytest.mark.parametrize("form", TRIED)
def test_tables_of_few_rows(form, n_ids, sequences, n_numeric):
    c = context(3, n_ids, sequences, n_numeric)
    rows, numeric = (
        sum(n_ids) + sum(n for n, _ in sequences),
        numeric_weight(3, n_numeric) if n_numeric else None,
    )
    for density in (0, 0.5, 1):
        table = random_table(rows, 3, density)
        module = pack_table(table, c, numeric, [form])
        module.check()
        np.testing.assert_array_equal(all_rows(module), table)
        assert module.mask().shape == (rows, 3) and module.mask().dtype == bool
        x = inputs_of(c, n=8)
        expected = reference(c, table, numeric, x)
        np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", TRIED)
@pytest.mark.parametrize("name", ["density 0.2", "prefixes", "density 0", "equal rows"])
def test_training_leaves_zeros_at_zero(form, name):
    c, table, numeric = context(8), TABLES[name](8), numeric_weight(8)
    module, x = pack_table(table, c, numeric, [form]), inputs_of(c)
    weight = torch.from_numpy(np.random.default_rng(4).normal(size=(200, 7, 8)).astype(np.float32))
    assert [p.shape for p in module.embedding_parameters()] == [module.values.shape, (3, 2, 8)]
    optimizer = torch.optim.Adam(module.embedding_parameters(), lr=0.1, weight_decay=0.01)
    for step in range(3):
        optimizer.zero_grad()
        (module(x) * weight).sum().backward()
        if not step:
            dense = pack_table(table, c, numeric, ["dense"])
            (dense(x) * weight).sum().backward()
            # What several elements read has the sum of their gradients.
            gradient = dense.values.grad.numpy().reshape(table.shape)
            expected, n = np.zeros(0), len(module.values)
            if n:
                at = places(module)
                read = (at >= 0) & (table != 0)
                expected = np.bincount(at[read], gradient[read], minlength=n)
                np.testing.assert_allclose(module.values.grad, expected, rtol=1e-4, atol=1e-5)
        optimizer.step()
    now = all_rows(module)
    np.testing.assert_array_equal(now[table == 0], 0)
    changed = (now != table).any(1)
    assert changed.any() == bool(table.any())
    # Ids that the rows hold have moved, those that they do not hold only decayed.
    first = table[: N_IDS[0]]
    seen = np.isin(np.arange(N_IDS[0]), x.ids[:, 0].numpy())
    np.testing.assert_array_equal(changed[: N_IDS[0]][seen], (first[seen] != 0).any(1))
    module.check()


def test_modules_survive_pickling_and_their_own_state(tmp_path):
    c, x = context(8), inputs_of(context(8))
    for form, cls in TRIED.items():
        module = pack_table(by_prefixes(8), c, numeric_weight(8), [form]).eval()
        assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))
        arrays = {name: t.numpy() for name, t in module.state_dict().items()}
        again = cls.from_arrays(c, arrays).eval()
        again.check()
        assert torch.equal(again(x), module(x))
        assert again.values.data_ptr() != module.values.data_ptr()


def n_bytes(module):
    return sum(
        t.numel() * t.element_size()
        for name, t in module.state_dict().items()
        if name != "numeric_weight"
    )


def formula(form, table, sizes):
    """Bytes of a form of the package by its definition."""
    used = table != 0
    n_values, (rows, d) = int(used.sum()), table.shape
    living, n_blocks, field = (
        int(used.any(1).sum()),
        -(-rows // 64),
        np.repeat(np.arange(len(sizes)), sizes),
    )
    alive = n_blocks * (8 + 4)  # 0.1875 V
    if form == "dense":
        return 4 * rows * d
    if form == "columns":
        return (
            4 * sum(n * int(used[field == f].any(0).sum()) for f, n in enumerate(sizes))
            + 2 * len(sizes) * d
        )
    if form == "prefixes":
        wide = 0
        for f in range(len(sizes)):
            width = np.where(used[field == f].any(1), d - used[field == f][:, ::-1].argmax(1), 0)
            wide += int(np.maximum.accumulate(width[::-1]).sum())
        return 4 * wide + 4 * len(sizes) * d
    if form == "sparse":
        return 4 * n_values + n_values + 4 * (living + 1) + alive
    return 4 * n_values + -(-d // 8) * living + 4 * (living + 1) + alive


@pytest.mark.parametrize("width", [1, 7, 8, 16, 20])
def test_bytes_follow_their_formulas_and_the_least_wins(width):
    c, numeric = context(width), numeric_weight(width)
    for name, make in TABLES.items():
        table = make(width)
        found = {form: n_bytes(pack_table(table, c, numeric, [form])) for form in FORMS}
        sizes = [*N_IDS, *(n for n, _ in SEQUENCES)]
        assert found == {form: cls.bytes_of(table, sizes) for form, cls in FORMS.items()}, name
        own = {form: n for form, n in found.items() if form != EqualRows.form}
        assert own == {form: formula(form, table, sizes) for form in own}, name
        best = pack_table(table, c, numeric)
        assert n_bytes(best) == min(found.values()) == found[best.form]
        some = pack_table(table, c, numeric, ["dense", "bits"])
        assert n_bytes(some) == min(found["dense"], found["bits"])


def test_each_form_is_the_smallest_of_some_table():
    c = context(16)
    chosen = {
        name: pack_table(make(16), c, numeric_weight(16)).form for name, make in TABLES.items()
    }
    assert (
        chosen["density 1"] == "dense"
        and chosen["density 0.02"] == "sparse"
        and chosen["density 0.6"] == "bits"
    )
    assert chosen["columns"] == "columns" and chosen["prefixes"] == "prefixes"
    assert chosen["equal rows"] == EqualRows.form
    # Near a density of one half sparse tables pay twice what bits cost.
    assert chosen["density 0.2"] == "bits"


def test_wide_tables_leave_out_forms_whose_types_are_too_narrow():
    c = context(300, (50,), (), 0)
    table = random_table(50, 300, 0.001)
    module = pack_table(table, c)
    assert module.form != "sparse" and module.form in FORMS
    np.testing.assert_array_equal(all_rows(module), table)
    # fmt: skip
    arrays = {
        name: t.numpy()
        for name, t in pack_table(table[:, :8], context(8, (50,), (), 0), None, ["sparse"])
        .state_dict()
        .items()
    }
    with pytest.raises(ValueError, match="'shapes'"):
        FORMS["sparse"].from_arrays(c, arrays)


@pytest.mark.parametrize("form", TRIED)
def test_a_table_tells_its_sizes_and_bytes(form):
    c, table, numeric = context(8), TABLES["prefixes"](8), numeric_weight(8)
    module = pack_table(table, c, numeric, [form])
    sizes, own = module.sizes(), np.split(table != 0, c.row_starts[1:-1])
    assert len(sizes) == c.n_fields and sizes[3:5] == [8, 8]  # numbers are whole
    for size, block in zip([*sizes[:3], *sizes[5:]], own, strict=True):
        np.testing.assert_array_equal(size, block.sum(1))
    nbytes = module.nbytes()
    assert nbytes["embedding"] == 4 * (module.values.numel() + numeric.size)
    assert sum(nbytes.values()) == n_bytes(module) + 4 * numeric.size
    assert (nbytes["index"] == 0) == (form == "dense")


def test_a_list_that_shares_a_table_has_the_sizes_of_its_owner():
    c = BuildContext(("a", "tags"), (6,), 0, ((6, 2),), shared=(0,), embedding_dim=4)
    module = pack_table(random_table(6, 4, 0.5), c)
    (own, shared), width = module.sizes(), (module.mask()).sum(1)
    np.testing.assert_array_equal(own, width)
    np.testing.assert_array_equal(shared, width)


def test_a_form_has_one_name_and_a_name_one_form():
    assert PACKED_PARTS.items() >= TRIED.items() and "" not in PACKED_PARTS
    with pytest.raises(ValueError, match="Two classes have the form 'bits'"):

        class Other(PackedPart):
            form = "bits"

    assert PACKED_PARTS["bits"] is FORMS["bits"]
    for call in (lambda: PackedPart.from_arrays(None, {}), PackedPart().check):
        with pytest.raises(NotImplementedError):
            call()
