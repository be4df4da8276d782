"""The order of fields, rows and columns, against what is written out by hand."""

import dataclasses
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.nn import BuildContext, FieldLayout, Inputs, InputSelection
from sklearn_autorec.preprocessing import FieldEncoder

# Two categorical fields, three numbers, two lists of 3 and 2 items.
LAYOUT = FieldLayout(("a", "b", "x", "y", "z", "s", "t"), (5, 7), 3, ((4, 3), (6, 2)))


def test_positions_rows_and_columns():
    assert LAYOUT.n_fields == 7 and LAYOUT.n_categorical == 2
    assert LAYOUT.table_fields == [0, 1, 5, 6]
    assert LAYOUT.table_sizes == [5, 7, 4, 6] and LAYOUT.n_rows == 22
    assert LAYOUT.row_starts.tolist() == [0, 5, 12, 16, 22]
    assert LAYOUT.row_starts.dtype == np.int64
    assert LAYOUT.sequence_lengths == [3, 2]
    assert LAYOUT.by_kind([1, 2, 4, 6]) == ([1], [0, 2], [1])
    assert LAYOUT.columns([1, 2, 4, 6]) == ([1], [0, 2, 3, 5], [3, 4])
    assert LAYOUT.columns(range(7)) == ([0, 1], [*range(6)], [*range(5)])
    assert LAYOUT.columns([]) == ([], [], [])


@pytest.mark.parametrize(
    "layout, table_fields, starts",
    [
        (FieldLayout(("x",), (), 1), [], [0]),
        (FieldLayout(("s",), (), 0, ((4, 2),)), [0], [0, 4]),
        (FieldLayout(("x", "s"), (), 1, ((4, 2),)), [1], [0, 4]),
        (FieldLayout(("a",), (3,)), [0], [0, 3]),
        (FieldLayout((), ()), [], [0]),
    ],
)
def test_layouts_without_some_kinds(layout, table_fields, starts):
    assert layout.n_fields == len(layout.field_names)
    assert layout.table_fields == table_fields and layout.row_starts.tolist() == starts
    assert layout.of_fields(range(layout.n_fields)) == layout


def test_layout_of_some_fields():
    part = LAYOUT.of_fields([1, 2, 4, 6])
    assert part == FieldLayout(("b", "x", "z", "t"), (7,), 2, ((6, 2),))
    assert LAYOUT.of_fields([0], n_ids=(3,)) == FieldLayout(("a",), (3,))


def test_context_is_a_layout_and_keeps_the_rest():
    context = BuildContext(**dataclasses.asdict(LAYOUT), embedding_dim=3, members=2)
    part = context.of_fields([0, 5], embedding_dim=2)
    assert isinstance(part, BuildContext) and part.members == 2 and part.embedding_dim == 2
    assert (part.field_names, part.n_ids, part.n_numeric) == (("a", "s"), (5,), 0)
    assert part.sequences == ((4, 3),) and part.generator is context.generator
    assert context.n_rows == 22 == context.axis("V") and context.axis("N") == 3
    assert pickle.loads(pickle.dumps(LAYOUT)) == LAYOUT


def test_layout_agrees_with_what_the_encoder_gives():
    X, y, _ = make_ctr(200, n_fields=3, n_numeric=2, n_sequences=1, pairs=1, random_state=0)
    encoder = FieldEncoder().fit(X, y)
    layout = FieldLayout.of_encoder(encoder)
    table = encoder.encode(X)
    everything = range(layout.n_fields)
    ids, numbers, items = layout.columns(everything)
    assert list(layout.field_names) == list(map(str, encoder.field_names_))
    assert len(ids) == table.ids.shape[1] and (table.ids.max(0) < layout.n_ids).all()
    assert len(numbers) == table.numeric.shape[1] and len(items) == table.sequences.shape[1]
    order = np.concatenate([encoder.categorical_, encoder.numeric_, encoder.sequence_])
    assert [X.columns[c] for c in order] == list(layout.field_names)
    context = BuildContext.of_encoder(encoder, embedding_dim=5)
    assert context.embedding_dim == 5 and context.n_ids == layout.n_ids
    assert all(type(n) is int for n in (*layout.n_ids, *layout.sequences[0]))
    fake = SimpleNamespace(field_names_=np.array(["a", "n"]), n_ids_=[3], numeric_=[1])
    fake.sequence_n_ids_, fake.max_length = [], 9
    assert FieldLayout.of_encoder(fake) == FieldLayout(("a", "n"), (3,), 1)


def test_a_selection_reads_the_columns_and_rows_of_the_layout():
    context = BuildContext(*dataclasses.astuple(LAYOUT))
    inputs = Inputs(
        torch.arange(2).expand(4, 2), torch.arange(6.0).expand(4, 6), torch.arange(5).expand(4, 5)
    )
    selection = InputSelection(context, [1, 3, 5])
    kept = selection(inputs)
    assert kept.ids[0].tolist() == [1]
    assert kept.numeric[0].tolist() == [1, 4] and kept.sequences[0].tolist() == [0, 1, 2]
    assert selection.table_rows(context).tolist() == [*range(5, 12), *range(12, 16)]
    assert selection.narrow(context) == context.of_fields([1, 3, 5])
