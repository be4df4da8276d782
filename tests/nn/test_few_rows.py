"""A few rows as a prediction reads them, against the same rows as training reads them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from packed_cases import N_IDS, ROWS, TABLES, context, inputs_of, numeric_weight

from sklearn_autorec.nn import FORMS, Inputs, MixedEmbedding, SizedRows, pack_table
from sklearn_autorec.nn import _few_rows as few_rows
from sklearn_autorec.nn._anchored_rows import AnchoredRows
from sklearn_autorec.nn._projected_sizes import ProjectedSizes
from sklearn_autorec.nn._row_groups import GroupedRows

WIDTH = 8
MODULES = {
    f"{form}, {name}": (
        lambda form=form, name=name: pack_table(
            TABLES[name](WIDTH), context(WIDTH), numeric_weight(WIDTH), [form]
        )
    )
    for form in FORMS
    for name in ("density 0", "density 0.2", "dead fields", "columns", "prefixes", "one number")
}


def random(seed=0):
    return np.random.default_rng(seed)


def grouped(kept):
    sizes = [*N_IDS, 30, 8]
    return GroupedRows(context(WIDTH), [[n // 3, n // 2, n] for n in sizes], kept)


MODULES |= {
    "sizes, mixed": lambda: SizedRows(context(WIDTH), random().integers(0, WIDTH + 1, ROWS)),
    "sizes, runs": lambda: SizedRows(context(WIDTH), np.arange(ROWS) // 20 % (WIDTH + 1)),
    "sizes, none": lambda: SizedRows(context(WIDTH), np.zeros(ROWS, int)),
    "sizes, projected": lambda: SizedRows(
        context(WIDTH), random().integers(1, WIDTH + 1, ROWS), projected=True
    ),
    "sizes by maps": lambda: ProjectedSizes(context(WIDTH), random().integers(1, 4, ROWS)),
    "anchors": lambda: AnchoredRows(context(WIDTH), random().random((ROWS, 9)) < 0.3),
    "no anchors": lambda: AnchoredRows(context(WIDTH), np.zeros((ROWS, 9), bool)),
    "groups": lambda: grouped(random().random((15, WIDTH)) < 0.5),
    "empty groups": lambda: grouped(np.zeros((15, WIDTH), bool)),
    "widths": lambda: MixedEmbedding(context(WIDTH), [8, 4, 2, 4, 0, 8, 2]),
    "widths of ids alone": lambda: MixedEmbedding(context(WIDTH, (*N_IDS, 7), (), 0), [8, 2, 0, 2]),
}


def module_and_inputs(name):
    module = MODULES[name]().eval()
    with torch.no_grad():
        for p in module.parameters():  # initial values may be all too small
            if name.split(",")[0] not in FORMS:
                p.copy_(torch.from_numpy(random(5).normal(size=p.shape).astype(np.float32)))
    n_ids, lists = ((*N_IDS, 7), ()) if name == "widths of ids alone" else (N_IDS, None)
    c = context(WIDTH, n_ids, lists, 0) if lists == () else context(WIDTH)
    return module, inputs_of(c)


def some(x, rows):
    return Inputs(*(t[rows] for t in x[:3]))


def filled_up(x, n):
    """Rows of zeros behind, as a prediction adds them."""
    return Inputs(*(torch.cat([t, t.new_zeros(n, t.shape[1])]) for t in x[:3]))


def agree(name, found, expected):
    """To the bit; maps of fields are products, whose bits depend on how many rows there are."""
    close = 1e-6 if name == "sizes by maps" else 0
    torch.testing.assert_close(found, expected, rtol=0, atol=close)


@pytest.mark.parametrize("name", MODULES)
def test_few_rows_are_those_of_many(name):
    module, x = module_and_inputs(name)
    with torch.no_grad():
        expected = module(x)
        nothing = module(filled_up(some(x, slice(0, 0)), 16))
    with torch.inference_mode():
        for n in (0, 1, 2, 3, 16, 40):
            agree(name, module(some(x, slice(n))), expected[:n])
        for row in (0, 3, 50):
            alone = some(x, slice(row, row + 1))
            found = module(filled_up(alone, 15))
            agree(name, found[:1], expected[row : row + 1])
            agree(name, found[1:], nothing[1:])
            repeated = Inputs(*(t.repeat(9, 1) for t in alone[:3]))
            agree(name, module(repeated), expected[[row] * 9])
        agree(name, module(x), expected)


@pytest.mark.parametrize(
    "name", ["columns, columns", "bits, density 0.2", "sparse, density 0.2", "sizes, mixed"]
)
def test_few_rows_read_what_the_tensors_hold_now(name):
    module, x = module_and_inputs(name)
    x = some(x, slice(4))
    with torch.inference_mode():
        before = module(x).clone()
    other, size = copy.deepcopy(module), len(pickle.dumps(module))
    with torch.inference_mode():
        assert torch.equal(other(x), before)
    assert size == len(pickle.dumps(MODULES[name]()))  # no array is kept in a pickle
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2)
        for p in other.parameters():
            p.data = p.data * 3  # another place, as after a move
    with torch.inference_mode():
        torch.testing.assert_close(module(x), 2 * before, rtol=1e-6, atol=0)
        torch.testing.assert_close(other(x), 3 * before, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["bits, density 0.2", "sizes, mixed", "anchors", "groups"])
def test_numpy_reads_few_rows_of_predictions_alone(name, monkeypatch):
    module, x = module_and_inputs(name)
    read = []
    own = few_rows.read_distinct_end

    def noted(rows, reader):
        read.append(len(rows))
        return own(rows, reader)

    import sklearn_autorec.nn._number_rows as numbers
    import sklearn_autorec.nn._sized_rows as sized

    for place in (numbers, sized):
        monkeypatch.setattr(place, "read_distinct_end", noted)
    module(some(x, slice(4)))
    with torch.no_grad():
        module(some(x, slice(4)))
    many = some(x, torch.arange(200).repeat(2))
    with torch.inference_mode():
        module(Inputs(many.ids, many.numeric, many.sequences))
        n_lists = sum(n * 400 <= few_rows.FEW for n in (4, 1))
        assert len(read) == n_lists
        module(some(x, slice(4)))
    assert read[n_lists:] == [4, 4, 4]  # fields, and two lists


@pytest.mark.parametrize("n", [1, 2, 3, 7, 16])
def test_equal_rows_at_the_end_are_read_once(n):
    seen = []

    def read(rows):
        seen.append(len(rows))
        return rows[..., None] * np.array([1, -1])

    for n_other in range(n + 1):
        rows = np.zeros((n, 3), np.int32)
        rows[:n_other] = np.arange(1, n_other + 1)[:, None] * [1, 0, 0]
        found = few_rows.read_distinct_end(rows, read)
        np.testing.assert_array_equal(found, rows[..., None] * np.array([1, -1]))
        assert seen.pop() == (min(n_other + 1, n) if n > 2 else n)
