"""Embeddings of several widths against numpy."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_autorec.nn import BuildContext, FieldEmbedding, Inputs, MixedEmbedding

N_IDS, N_NUMERIC, SEQUENCES, DIM = (5, 9, 4), 3, ((7, 3), (6, 1), (8, 2)), 6
WIDTHS = {
    "several": [2, 6, 0, 1, 2, 6, 6, 2, 4],
    "falling": [6, 5, 4, 3, 2, 1, 1, 0, 0],
    "all": [6] * 9,
    "one": [3] * 9,
    "none": [0] * 9,
    "numbers alone": [0, 0, 0, 3, 6, 1, 0, 0, 0],
    "sequences alone": [0, 0, 0, 0, 0, 0, 4, 4, 6],
}


def context(dim=DIM):
    names = tuple("abcnmqstu")
    generator = torch.Generator().manual_seed(0)
    return BuildContext(
        names, N_IDS, N_NUMERIC, SEQUENCES, dim, generator=generator, embedding_init=1.0
    )


def inputs(n=50):
    rng = np.random.default_rng(1)
    ids = np.column_stack([rng.integers(0, k, n) for k in N_IDS])
    items = np.hstack([rng.integers(0, k, (n, length)) for k, length in SEQUENCES])
    items[:2] = 0
    numbers = np.hstack([rng.normal(size=(n, N_NUMERIC)), rng.integers(0, 2, (n, N_NUMERIC))])
    return Inputs(
        *(torch.from_numpy(a.astype(t)) for a, t in ((ids, "i4"), (numbers, "f4"), (items, "i4")))
    )


def reference(module, widths, x):
    """Every field by itself: rows of its own part of the table of its width, and the width's
    projection.
    """
    ids, numbers, items = (t.numpy() for t in x[:3])
    out = np.zeros((len(ids), len(widths), DIM))
    weights = {name: t.numpy().astype(np.float64) for name, t in module.state_dict().items()}
    starts = np.cumsum([0, *(length for _, length in SEQUENCES)])
    n_values = [*N_IDS, *(0,) * N_NUMERIC, *(n for n, _ in SEQUENCES)]
    for k, w in enumerate(sorted(set(widths) - {0})):
        row, number = 0, 0
        for f in [f for f, width in enumerate(widths) if width == w]:
            if f < 3:
                vectors = weights[f"tables.{k}.weight"][row : row + n_values[f]][ids[:, f]]
            elif f < 6:
                value, missing, constant = weights[f"tables.{k}.numeric_weight"][:, number]
                vectors = numbers[:, [f - 3]] * value + numbers[:, [f]] * missing + constant
                number += 1
            else:
                own = items[:, starts[f - 6] : starts[f - 5]]
                present = (own > 0)[..., None]
                found = weights[f"tables.{k}.weight"][row : row + n_values[f]][own] * present
                vectors = found.sum(1) / np.maximum(present.sum(1), 1)
            row += n_values[f]
            assert vectors.shape == (len(ids), w)
            out[:, f] = vectors if w == DIM else vectors @ weights[f"projection_{w}"]
    return out


@pytest.mark.parametrize("name", WIDTHS)
def test_mixed_widths_agree_with_numpy(name):
    widths, x = WIDTHS[name], inputs()
    module = MixedEmbedding(context(), widths)
    found = module(x).detach().numpy()
    assert found.shape == (50, 9, 6) and found.dtype == np.float32
    np.testing.assert_allclose(found, reference(module, widths, x), rtol=0, atol=1e-5)
    # Fields of width 0, and those alone, are zero.
    assert (found.any((0, 2)) == (np.array(widths) > 0)).all()
    assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))


@pytest.mark.parametrize("name", WIDTHS)
def test_only_the_widths_are_stored(name):
    widths = WIDTHS[name]
    module = MixedEmbedding(context(), widths)
    values = [*N_IDS, *(3,) * N_NUMERIC, *(n for n, _ in SEQUENCES)]
    numbers = sum(n * w for n, w in zip(values, widths, strict=True))
    projections = sum(w * DIM for w in set(widths) if 0 < w < DIM)
    assert sum(t.numel() for t in module.state_dict().values()) == numbers + projections
    assert {n for n in module.state_dict() if "projection" in n} == {
        f"projection_{w}" for w in set(widths) - {0, DIM}
    }


def test_full_width_is_the_plain_embedding():
    x = inputs()
    assert torch.equal(MixedEmbedding(context(), [DIM] * 9)(x), FieldEmbedding(context())(x))


def test_each_field_reads_its_own_column_alone():
    module, x = MixedEmbedding(context(), WIDTHS["several"]), inputs()
    before = module(x).detach()
    starts = np.cumsum([0, *(length for _, length in SEQUENCES)])
    for f in range(9):
        ids, numbers, items = (t.clone() for t in x[:3])
        if f < 3:
            ids[:, f] = (ids[:, f] + 1) % N_IDS[f]
        elif f < 6:
            numbers[:, f - 3] += 1
        else:
            own = slice(starts[f - 6], starts[f - 5])
            items[:, own] = (items[:, own] + 1) % SEQUENCES[f - 6][0]
        changed = (module(Inputs(ids, numbers, items)).detach() != before).any(2).any(0)
        assert changed.tolist() == [g == f and WIDTHS["several"][f] > 0 for g in range(9)]


def test_gradients_reach_tables_and_projections():
    module, x = MixedEmbedding(context(), WIDTHS["several"]), inputs()
    module(x).square().sum().backward()
    # Fields of numbers alone leave a table without rows.
    stored = [p for p in module.parameters() if p.numel()]
    assert len(stored) == 9 and all((p.grad != 0).any() for p in stored)


@pytest.mark.parametrize("widths", [[2] * 8, [2] * 10, [7] + [2] * 8, [-1] + [2] * 8])
def test_other_widths_are_refused(widths):
    with pytest.raises(
        ValueError, match="widths must hold 9 numbers between 0 and embedding_dim=6"
    ):
        MixedEmbedding(context(), widths)
