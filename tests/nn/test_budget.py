import numpy as np
import pytest
from small_networks import small_context

from sklearn_autorec.nn import FieldEmbedding, budget_bytes, field_rows, table_bytes


def context(**changes):
    options = {"n_ids": (7, 90), "sequences": ((12, 3),), "n_numeric_bins": 5}
    return small_context(**{"numeric_embedding": "piecewise", **options, **changes})


@pytest.mark.parametrize("kind, of_number", [("piecewise", 7), ("periodic", 12), ("linear", 3)])
def test_whole_tables_are_what_an_embedding_stores(kind, of_number):
    c = context(numeric_embedding=kind)
    assert field_rows(c).tolist() == [7, 90, of_number, 12]
    embedding = FieldEmbedding(c)
    assert table_bytes(c) == 4 * sum(p.numel() for p in embedding.embedding_parameters())
    assert table_bytes(c, numeric=False) == embedding.weight.nbytes
    assert table_bytes(context(n_numeric=0, field_names=("a", "b", "items"))) == 4 * 4 * 109


@pytest.mark.parametrize(
    "budget, expected",
    [
        (1.0, 1000),
        (0.25, 250),
        (0.3, 300),
        (1e-9, 0),
        (4, 4),
        (999, 999),
        (10**9, 1000),
        (np.int32(40), 40),
        (np.float32(0.5), 500),
    ],
)
def test_a_share_and_a_number_of_bytes(budget, expected):
    assert budget_bytes(budget, 1000) == expected


def test_rounding_takes_no_byte():
    assert 0.29 * 100 < 29 and budget_bytes(0.29, 100) == 29


@pytest.mark.parametrize("budget", [0, 0.0, -0.5, 1.5, 1, 3, -8, float("nan"), float("inf")])
def test_other_numbers_are_refused_by_name(budget):
    with pytest.raises(ValueError, match=r"size=.* (share|bytes)"):
        budget_bytes(budget, 1000, "size")


@pytest.mark.parametrize("budget", [True, "0.5", None, np.bool_(True)])
def test_what_is_no_number_is_refused(budget):
    with pytest.raises(TypeError, match="budget must be a share"):
        budget_bytes(budget, 1000)
