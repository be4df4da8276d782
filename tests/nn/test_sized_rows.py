"""Tables by size of row: against the masked dense table that they stand for, and numpy."""

import io
import json
import pickle

import numpy as np
import pytest
import torch

from sklearn_autorec.engine import EncodedTensors, FieldNet
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import (
    BinaryLogLoss,
    BuildContext,
    Inputs,
    MaskedEmbedding,
    SizedRows,
    mask_to_text,
    rows_by_size,
    sizes_from_text,
    sizes_to_text,
    tables_by_size,
)

N_IDS, N_NUMERIC, LISTS, D = (20, 9), 1, ((12, 3), (9, 2)), 6
V = sum(N_IDS) + LISTS[0][0]  # the second list reads the table of the second categorical field


def context(sparse=False, members=1, d=D, seed=0):
    return BuildContext(
        ("a", "b", "n", "s", "t"),
        N_IDS,
        N_NUMERIC,
        LISTS,
        embedding_dim=d,
        generator=torch.Generator().manual_seed(seed),
        sparse_gradients=sparse,
        embedding_init=0.5,
        members=members,
        shared=(None, 1),
    )


def falling():
    """Sizes that fall with the id within each field, as they do with frequency."""
    return np.concatenate([np.sort(s)[::-1] for s in np.split(mixed(), [20, 29])])


def mixed(seed=0):
    return np.random.default_rng(seed).integers(0, D + 1, V)


SIZES = {
    "mixed": mixed(),
    "falling": falling(),
    "nothing": np.zeros(V, int),
    "everything": np.full(V, D),
    "one size": np.full(V, 2),
    "one row": np.arange(V) // (V - 1) * 3,
    "two sizes": np.where(np.arange(V) % 2, 4, 0),
}


def batch(n=60, seed=1):
    rng = np.random.default_rng(seed)
    ids = np.column_stack([rng.integers(0, k, n) for k in N_IDS])
    numbers = np.column_stack([rng.normal(size=n), rng.integers(0, 2, n)])
    items = np.hstack([rng.integers(0, k, (n, length)) for k, length in LISTS])
    items[:2] = 0
    return EncodedTensors(
        torch.from_numpy(ids.astype(np.int32)),
        torch.from_numpy(numbers.astype(np.float32)),
        torch.from_numpy(items.astype(np.int32)),
        torch.from_numpy(rng.integers(0, 2, n).astype(np.float32)),
    )


def inputs(n=60, seed=1):
    return Inputs(*batch(n, seed).inputs.values())


def masked_and_sized(sizes, sparse=False):
    """The dense table with zeros behind each prefix, and the tables by size of the same numbers."""
    masked = MaskedEmbedding(context(sparse), np.arange(D) < sizes[:, None])
    sized = SizedRows(context(sparse, seed=5), sizes)
    give(sized, masked, sizes)
    return masked, sized


def give(sized, masked, sizes):
    state = tables_by_size(masked.weight.detach(), sizes)
    state["numeric_weight"] = masked.numeric_weight.detach()
    assert sized.state_dict().keys() == state.keys()
    sized.load_state_dict(state)


def whole(module):
    """Every row as the module reads it, ndarray (V, d)."""
    with torch.no_grad():
        return module.lookup(None, torch.arange(V, dtype=torch.int32), None).numpy()


# text
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[], [0], [0, 0, 0], [1, 0, 1], [7, 8, 0, 255, 256], [2**30, 1]])
def test_sizes_survive_text(sizes):
    text = json.loads(json.dumps(sizes_to_text(sizes)))
    found = sizes_from_text(text)
    assert found.dtype == np.int64 and found.tolist() == sizes
    n_digits = max([0, *sizes]).bit_length()
    assert text["shape"] == [len(sizes), n_digits]  # as many digits as the largest needs


@pytest.mark.parametrize("text", [None, [3], {"shape": [3, 2]}, {"shape": [3, 2], "bits": ""}])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="mask"):
        sizes_from_text(text)
    with pytest.raises(ValueError, match="31 binary digits at most, got 40"):
        sizes_from_text(mask_to_text(np.ones((2, 40))))


# values and gradients
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_values_and_gradients_have_the_bits_of_the_masked_table(name, sparse):
    sizes, x = SIZES[name], inputs()
    masked, sized = masked_and_sized(sizes, sparse)
    weight = torch.randn(60, 5, D, generator=torch.Generator().manual_seed(3))
    for mode in (True, False):
        e = sized.train(mode)(x)
        assert torch.equal(e, masked.train(mode)(x)) and e.shape == (60, 5, D)
        for n in (0, 1):
            few = Inputs(*(t[:n] for t in x[:3]))
            assert torch.equal(sized(few), e[:n])
    np.testing.assert_array_equal(whole(sized) != 0, np.arange(D) < sizes[:, None])
    for module in (masked, sized):
        (module(x) * weight).sum().backward()
    gradient = masked.weight.grad.to_dense() if sparse else masked.weight.grad
    for size, rows in rows_by_size(sizes).items():
        own = getattr(sized, f"table_{size}").grad
        assert own.is_sparse == sparse
        own = own.to_dense() if sparse else own
        expected = gradient[torch.from_numpy(rows), :size]
        # Entries of row-wise gradients are added in whatever order torch has sorted them.
        torch.testing.assert_close(own, expected, rtol=0, atol=1e-5 if sparse else 0)
    assert torch.equal(sized.numeric_weight.grad, masked.numeric_weight.grad)
    assert [id(p) for p in sized.sparse_parameters()] == [
        id(p) for p in (sized.tables() if sparse else [])
    ]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", ["mixed", "falling", "two sizes"])
def test_training_moves_both_alike(name, sparse):
    sizes, data = SIZES[name], batch(64)
    masked, sized = masked_and_sized(sizes, sparse)
    nets = []
    for module in (masked, sized):
        network = FM().build(context(sparse), {"embedding": module})
        # The penalty of a masked table reaches what is masked as well, which nobody reads.
        net = FieldNet(network, BinaryLogLoss(), lr=0.05, embedding_l2=0.01)
        net.n_steps = 6
        nets.append(net.initialize())
        nets[-1].module_.train()
    for step in range(6):
        rows = data.select(torch.arange(64)[step::6])
        losses = [net.train_step(rows)["loss"].item() for net in nets]
        assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert not np.array_equal(whole(sized), whole(masked_and_sized(sizes)[1]))
    torch.testing.assert_close(sized(inputs()), masked(inputs()), rtol=0, atol=1e-6)


def reference(module, sizes, x, d):
    """Embeddings (B, F, d) in float64, value by value."""
    state = {name: t.numpy().astype(np.float64) for name, t in module.state_dict().items()}
    table = np.zeros((V, d))
    for row, size in enumerate(sizes):
        if size:
            own = state[f"table_{size}"][int((sizes[:row] == size).sum())]
            projection = state.get(f"projection_{size}", np.eye(size, d))
            table[row] = own @ projection
    ids, numbers, items = (t.numpy() for t in x[:3])
    out = np.zeros((len(ids), 5, d))
    out[:, 0], out[:, 1] = table[ids[:, 0]], table[20 + ids[:, 1]]
    by_value, by_missing, constant = state["numeric_weight"][:, 0]
    out[:, 2] = numbers[:, :1] * by_value + numbers[:, 1:] * by_missing + constant
    for f, own, start in ((3, items[:, :3], 29), (4, items[:, 3:], 20)):
        present = (own > 0)[..., None]
        out[:, f] = (table[start + own] * present).sum(1) / np.maximum(present.sum(1), 1)
    return out


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_values_agree_with_numpy(name, projected):
    sizes, x = SIZES[name], inputs()
    module = SizedRows(context(), sizes, projected)
    expected = reference(module, sizes, x, D)
    for mode in (True, False):
        found = module.train(mode)(x)
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-6)
    own = {f"projection_{s}" for s in set(sizes) - {0, D}} if projected else set()
    assert {n for n in module.state_dict() if "projection" in n} == own
    found.square().sum().backward()
    assert all((p.grad != 0).any() for p in module.parameters())


def test_projected_rows_have_their_bits_in_any_batch():
    module = SizedRows(context(d=48), mixed() * 7, projected=True).eval()
    x = inputs(256)
    with torch.inference_mode():
        together = module(x)
        for n in (8, 16, 40):  # a prediction has whole blocks of rows
            assert torch.equal(module(Inputs(*(t[:n] for t in x[:3]))), together[:n])


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("name", ["mixed", "falling", "two sizes"])
def test_each_member_is_a_module_of_its_own(name, sparse, projected):
    sizes, n_members, n = SIZES[name], 3, 10
    module = SizedRows(context(sparse, n_members), sizes, projected)
    single, x = SizedRows(context(sparse, seed=9), sizes, projected), inputs(n_members * n)
    weight = torch.randn(n_members * n, 5, D, generator=torch.Generator().manual_seed(3))
    (module(x) * weight).sum().backward()
    for mode in (True, False):
        e = module.train(mode)(x)
        for m in range(n_members):
            own = slice(m * n, (m + 1) * n)
            views = {
                name: t.unflatten(0, (-1, n_members))[:, m] if name.startswith("table") else t[m]
                for name, t in module.state_dict().items()
            }
            single.load_state_dict(views)
            found = single.train(mode)(Inputs(*(t[own] for t in x[:3])))
            torch.testing.assert_close(found, e[own], rtol=0, atol=1e-6)
            single.zero_grad()
            (found * weight[own]).sum().backward()
            for p, q in zip(single.tables(), module.tables(), strict=True):
                p, q = (t.grad.to_dense() if sparse else t.grad for t in (p, q))
                torch.testing.assert_close(p, q.unflatten(0, (-1, n_members))[:, m])


# what is stored
# --------------------------------------------------------------------------------------------------


def pickled(module):
    file = io.BytesIO()
    pickle.dump(module, file)
    return file.tell()


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("name", SIZES)
def test_bytes_are_those_that_are_held(name, projected):
    sizes = SIZES[name]
    module = SizedRows(context(), sizes, projected)
    n_runs = 1 + int((np.diff(sizes) != 0).sum())
    narrow = set(sizes.tolist()) - {0, D}
    assert module.nbytes() == {
        "embedding": 4 * (int(sizes.sum()) + 3 * D),
        "projection": 4 * D * sum(narrow) * projected,
        "index": min(4 * V, 8 * n_runs),
    }
    held = {id(t): t for t in [*module.parameters(), *module.buffers()]}
    others = {"offsets", "fields", "numbers"}
    counted = sum(t.nbytes for n, t in module.named_buffers() if n not in others)
    counted += sum(p.nbytes for p in module.parameters())
    assert counted == sum(module.nbytes().values()) and len(held) < 25
    assert not [n for n in module.state_dict() if n.startswith(("row_numbers", "run_"))]


def test_pickles_shrink_with_the_sizes():
    n = 5000
    c = BuildContext(("a",), (n,), embedding_dim=16, embedding_init=1.0)
    sizes = np.full(n, 16)
    last = pickled(SizedRows(c, sizes))
    for k in (2, 4, 8):
        sizes = np.where(np.arange(n) < n // k, 16, 2)
        module = SizedRows(c, sizes)
        size = pickled(module)
        assert size < last and size <= sum(module.nbytes().values()) + 16_000
        last = size
    state = tables_by_size(torch.randn(n, 16), np.where(np.arange(n) < 10, 16, 0))
    assert [t.untyped_storage().nbytes() for t in state.values()] == [10 * 16 * 4]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_come_back_by_field(name):
    sizes = SIZES[name]
    found = SizedRows(context(), sizes).sizes()
    a, b, s = np.split(sizes, [20, 29])
    assert len(found) == 5 and found[2] == D
    for own, expected in zip([found[0], found[1], found[3], found[4]], [a, b, s, b], strict=True):
        np.testing.assert_array_equal(own, expected)


def test_tables_without_rows_and_numbers_alone():
    c = BuildContext(("n", "m"), (), 2, embedding_dim=3, embedding_init=1.0)
    module = SizedRows(c, np.zeros(0, int))
    x = Inputs(torch.zeros(4, 0).int(), torch.ones(4, 4), torch.zeros(4, 0).int())
    assert module(x).shape == (4, 2, 3) and module.sizes() == [3, 3]
    assert module.nbytes() == {"embedding": 4 * 3 * 6, "projection": 0, "index": 0}


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", SIZES)
def test_reading_every_table_gives_the_same_values(name, members, projected):
    module = SizedRows(context(members=members), SIZES[name], projected).eval()
    numbers = torch.from_numpy(np.random.default_rng(0).integers(-1, module.starts[-1], 40))
    numbers = numbers * members + torch.arange(members).repeat_interleave(40 // members)
    torch.testing.assert_close(
        module._from_every_table(numbers), module._from_own_table(numbers), rtol=0, atol=1e-6
    )


def test_a_graph_gives_the_same_values():
    c = BuildContext(("a",), (9,), embedding_dim=4, embedding_init=1.0)
    module = SizedRows(c, np.array([4, 4, 4, 4, 0, 0, 2, 2, 2]), projected=True).eval()

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = module

        def forward(self, ids):
            return self.embedding(Inputs(ids, ids.new_zeros(0), ids.new_zeros(0)))

    ids = torch.arange(9, dtype=torch.int32).unsqueeze(1)
    n = ({0: torch.export.Dim("n")},)
    graph = torch.export.export(Plain(), (ids,), dynamic_shapes=n, strict=False).module()
    for k in (9, 2, 5):
        torch.testing.assert_close(graph(ids[-k:]), Plain()(ids[-k:]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "sizes", [np.zeros(V - 1, int), np.full(V, D + 1), np.full(V, -1), np.zeros((V, 1), int)]
)
def test_sizes_of_other_tables_are_refused(sizes):
    with pytest.raises(ValueError, match=f"sizes must hold {V} numbers between 0 and embedding_d"):
        SizedRows(context(), sizes)
