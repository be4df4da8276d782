"""Planted truths that several searches for sizes share: ranks on a second make of data, and values
that no training row holds.
"""

import functools

import numpy as np
import pytest
from size_cases import planted
from sklearn.frozen import FrozenEstimator

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_tastes
from sklearn_autorec.embedding import AMTL, ANT, PEP, SSEDS, AutoSrh, MagnitudePruning
from sklearn_autorec.exceptions import UnknownCategoryWarning
from sklearn_autorec.preprocessing import FieldEncoder

OPTIONS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.02,
    "embedding_init": 0.1,
    "device": "cpu",
}


def columns_of_tastes(seed, shuffled=False):
    """Columns that SSEDS leaves two fields of rank 6, two of rank 1, and noise: 16 of 40."""
    X, y, _ = make_tastes(8000, topics=(6, 1), n_values=20, random_state=seed)
    y = np.random.default_rng(seed).permutation(y) if shuffled else y
    options = {**OPTIONS, "max_epochs": 1, "search_epochs": 8, "batch_size": 200}
    model = CTRClassifier(search=SSEDS(0.4), random_state=seed, **options).fit(X, y)
    return list(model.embedding_sizes_.values())


@pytest.mark.parametrize("seed", range(5))
def test_columns_go_where_rank_is_though_rank_one_says_as_much(seed):
    found, nothing = columns_of_tastes(seed), columns_of_tastes(seed, shuffled=True)
    assert found[4] == 0 and sum(found[:2]) > sum(found[2:4]), found
    assert nothing[4] > 0, nothing


PRUNED = {
    type(method).__name__: method
    for method in (PEP(0.6), MagnitudePruning(0.6), AutoSrh(0.4), ANT(), AMTL())
}


@functools.cache
def clicks(seed):
    """Clicks, which of the rows hold one of 30 of the 100 values of "rich", and an encoder that
    knows all values.
    """
    X, y, _, _ = planted(seed, n=3000)
    return X, y, X["rich"].str[-1].isin(["7", "8", "9"]), FieldEncoder().fit(X)


def fitted(method, seed, rows, embedding_init=0.1):
    X, y, _, encoder = clicks(seed)
    options = {**OPTIONS, "max_epochs": 1, "search_epochs": 6, "batch_size": 128}
    return CTRClassifier(
        search=PRUNED[method],
        encoder=FrozenEstimator(encoder),
        random_state=seed,
        **{**options, "embedding_init": embedding_init},
    ).fit(X[rows][:1500], y[rows][:1500])


def of_the_thirty(model):
    """Sizes of the thirty values, and of the others."""
    few = np.array([name[-1] in "789" for name in model.encoder_.categories_[0]])
    sizes = model.embedding_sizes_["rich"][2:]
    return sizes[few], sizes[~few]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", PRUNED)
def test_values_that_no_row_holds_are_as_short_as_can_be(method, seed):
    X, _, away, _ = clicks(seed)
    model = fitted(method, seed, ~away)
    unseen, seen = of_the_thirty(model)
    if method == "AMTL":  # which cuts by counts, to one number at least
        assert unseen.min() == unseen.max() <= seen.min() and seen.mean() > unseen[0] + 2
        assert model.embedding_sizes_["rich"][0] == unseen[0]  # as the missing value
    else:
        assert not unseen.any() and seen.mean() > 2
        assert not model.embedding_sizes_["rich"][0]
    assert np.isfinite(model.predict_proba(X[away])).all()
    # The control: rows hold them.
    held, _ = of_the_thirty(fitted(method, seed, slice(None)))
    assert held.mean() > unseen.mean() + 1.5


@pytest.mark.parametrize("method", [name for name in PRUNED if name != "AMTL"])
def test_long_initial_vectors_are_not_taken_for_trained_ones(method):
    unseen, seen = of_the_thirty(fitted(method, 0, ~clicks(0)[2], embedding_init=1.0))
    assert not unseen.any() and seen.mean() > 2


@pytest.mark.parametrize("method", PRUNED)
def test_all_that_is_unknown_reads_as_one_value(method):
    X, _, _, _ = clicks(0)
    model = fitted(method, 0, slice(None))
    new = X[1500:].assign(rich=[f"new {k}" for k in range(len(X) - 1500)])
    with pytest.warns(UnknownCategoryWarning):
        p = model.predict_proba(new)[:, 1]
    assert np.isfinite(p).all()
    # Rows that differ in nothing else are predicted alike.
    groups = new[["partner", "noise"]].assign(p=p).groupby(["partner", "noise"])["p"]
    assert groups.size().max() > 1 and (groups.max() - groups.min()).max() < 1e-6
