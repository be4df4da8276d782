import numpy as np
import pytest
import torch

from sklearn_autorec.nn import BuildContext, Inputs, InputSelection

SIZES, LENGTHS = (5, 70, 4), ((6, 2), (5, 3))


def context():
    counts = tuple(np.arange(n) + 1 for n in SIZES)
    return BuildContext(tuple("abcdefg"), SIZES, 2, LENGTHS, counts=counts)


def batch(n=50):
    rng = np.random.default_rng(0)
    ids = np.column_stack([rng.integers(0, k, n) for k in SIZES])
    items = np.column_stack([rng.integers(0, k, n) for k, length in LENGTHS for _ in range(length)])
    return Inputs(
        torch.tensor(ids, dtype=torch.int32),
        torch.randn(n, 4),
        torch.tensor(items, dtype=torch.int32),
    )


def test_columns_of_every_kind():
    x, select = batch(), InputSelection(context(), [0, 2, 4, 6])
    kept, small = select(x), select.narrow(context())
    assert torch.equal(kept.ids, x.ids[:, [0, 2]])
    assert torch.equal(kept.numeric, x.numeric[:, [1, 3]])
    assert torch.equal(kept.sequences, x.sequences[:, 2:])
    assert (small.field_names, small.n_ids, small.n_numeric, small.sequences) == (
        tuple("aceg"),
        (5, 4),
        1,
        ((5, 3),),
    )
    assert select.table_rows(context()).tolist() == [*range(5), *range(75, 79), *range(85, 90)]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_values_are_counted_anew_and_others_are_unknown(share):
    x, kept = batch(), np.random.default_rng(1).random(sum(SIZES)) < share
    select = InputSelection(context(), [1, 2, 3], kept)
    out, small, own = select(x), select.narrow(context()), select.kept_ids()
    for j, (f, start) in enumerate(((1, 5), (2, 75))):
        ids = [0, 1, *(i for i in range(2, SIZES[f]) if kept[start + i])]
        assert own[j].tolist() == ids and small.n_ids[j] == len(ids)
        expected = [ids.index(i) if i in ids else 1 for i in x.ids[:, f].tolist()]
        assert out.ids[:, j].tolist() == expected
        assert small.counts[j].sum() == context().counts[f].sum() and small.counts[j][
            2:
        ].tolist() == [i + 1 for i in ids[2:]]
    assert out.ids.dtype == torch.int32 and out.sequences.shape[1] == 0


def test_one_kind_alone():
    select = InputSelection(context(), [3], np.ones(sum(SIZES), bool))
    out = select(batch())
    assert out.ids.shape == (50, 0) and out.numeric.shape == (50, 2)
    assert select.table_rows(context()).shape == (0,)
