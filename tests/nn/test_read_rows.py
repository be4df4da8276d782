"""Rows of dense tables: the gradient is that of torch, bit by bit, and so is a second one."""

import numpy as np
import pytest
import torch

from sklearn_autorec.nn import BiInteraction, BuildContext, FieldEmbedding, FieldLinear, Inputs
from sklearn_autorec.nn._read_rows import (
    add_by_row,
    distinct_rows,
    read_distinct,
    read_rows,
)


@pytest.mark.parametrize("width", [1, 2, 8, 17])
@pytest.mark.parametrize("n_rows", [1, 7, 5_000])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_gradients_have_the_bits_of_torch(width, n_rows, dtype):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(n_rows, (300, 4), generator=generator).to(dtype)
    weight = torch.randn(n_rows, width, generator=generator, requires_grad=True)
    factor = torch.randn(300, 4, width, generator=generator)
    (wanted,) = torch.autograd.grad(
        (torch.nn.functional.embedding(rows, weight) * factor).sum(), weight
    )
    out = read_rows(weight, rows)
    assert torch.equal(out, torch.nn.functional.embedding(rows, weight))
    (got,) = torch.autograd.grad((out * factor).sum(), weight)
    assert torch.equal(got, wanted)


def test_sums_are_those_of_a_loop():
    rows, values = torch.tensor([2, 0, 2]), torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert add_by_row(rows, values, 4).tolist() == [[3.0, 4.0], [0.0, 0.0], [6.0, 8.0], [0.0, 0.0]]


def test_gradients_of_gradients_are_right():
    weight = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([0, 2, 0])

    def cubed(w):
        return read_rows(w, rows) ** 3

    assert torch.autograd.gradcheck(cubed, weight)
    assert torch.autograd.gradgradcheck(cubed, weight)


def test_rows_beyond_the_table_are_refused():
    with pytest.raises(IndexError):
        read_rows(torch.zeros(3, 2, requires_grad=True), torch.tensor([3]))


def test_the_gradient_of_pair_sums_is_right():
    e = torch.randn(4, 5, 3, dtype=torch.float64, requires_grad=True)
    pairs = BiInteraction(BuildContext(field_names=tuple("abcde"), n_ids=(2,) * 5, embedding_dim=3))
    assert torch.autograd.gradcheck(pairs, e)
    with torch.no_grad():
        assert torch.equal(pairs(e), pairs(e.detach()))


@pytest.mark.parametrize("members", [1, 3])
def test_two_modules_read_numbers_in_one_pass(members):
    context = BuildContext(
        field_names=("u", "x", "z"),
        n_ids=(4,),
        n_numeric=2,
        embedding_dim=5,
        members=members,
        numeric_embedding="piecewise",
        embedding_init=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    embedding, linear = FieldEmbedding(context), FieldLinear(context)
    torch.nn.init.normal_(linear.numeric_weight, generator=context.generator)
    numeric = torch.from_numpy(np.random.RandomState(0).normal(size=(6 * members, 4)))
    numeric = torch.cat([numeric[:, :2], (numeric[:, 2:] > 0).double()], 1).float()
    of_embedding, of_linear = embedding.embed_with(linear, numeric)
    assert torch.equal(of_embedding, embedding.embed_numbers(numeric))
    assert torch.equal(of_linear, linear.embed_numbers(numeric))
    ids = torch.randint(4, (6 * members, 1), dtype=torch.int32, generator=context.generator)
    inputs = Inputs(ids, numeric, torch.zeros(6 * members, 0, dtype=torch.int32))
    made = inputs._replace(numbers=((linear, of_linear),))
    assert torch.equal(linear(made), linear(inputs))
    assert torch.equal(embedding(made), embedding(inputs))


def test_modules_that_embed_otherwise_are_read_alone():
    options = {"field_names": ("x",), "n_ids": (), "n_numeric": 1, "embedding_dim": 5}
    numeric = torch.zeros(3, 2)
    made = {
        name: FieldEmbedding(BuildContext(**options, numeric_embedding=name))
        for name in ("piecewise", "periodic", "linear")
    }
    wider = FieldEmbedding(
        BuildContext(**options, numeric_embedding="piecewise", numeric_range=(0.0, 1.0))
    )
    assert made["piecewise"].embed_with(made["piecewise"], numeric) is not None
    assert made["piecewise"].embed_with(wider, numeric) is None
    assert made["periodic"].embed_with(made["linear"], numeric) is None
    assert made["linear"].embed_with(FieldEmbedding(BuildContext(**options)), numeric) is None


@pytest.mark.parametrize("n_rows", [40, 100_000])
def test_distinct_rows_are_those_of_torch(n_rows):
    rows = torch.randint(0, n_rows, (13, 5), generator=torch.Generator().manual_seed(0)).int()
    distinct, where = distinct_rows(rows, n_rows)
    expected, expected_where = torch.unique(rows, return_inverse=True)
    assert distinct.dtype == torch.int64 and torch.equal(distinct, expected.long())
    assert torch.equal(where, expected_where)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("n_rows", [40, 10_000])
def test_row_wise_gradients_come_added_up(width, n_rows):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, n_rows, (30, 5), generator=generator)
    weight = torch.randn(n_rows, width, generator=generator).requires_grad_()
    grad = torch.randn(30, 5, width, generator=generator)
    (got,) = torch.autograd.grad(read_rows(weight, rows, sparse=True), weight, grad)
    (expected,) = torch.autograd.grad(read_rows(weight, rows), weight, grad)
    assert got.is_sparse and got.is_coalesced() and got._nnz() == len(rows.unique())
    assert torch.equal(got.to_dense(), expected)


def test_rows_that_are_distinct_have_their_own_gradient():
    weight = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = torch.tensor([1, 4, 8])
    found = read_distinct(weight, rows)
    assert torch.equal(found, weight[rows])
    (found * found).sum().backward()
    assert weight.grad.is_sparse
    expected = torch.zeros(9, 3).index_copy_(0, rows, 2 * weight.detach()[rows])
    assert torch.equal(weight.grad.to_dense(), expected)
