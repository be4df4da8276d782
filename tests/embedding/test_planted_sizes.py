"""Planted truths that several searches for sizes share: ranks on a second make of data, and values
that no training row holds.
"""

import numpy as np
import pytest
from size_cases import planted

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_tastes
from sklearn_autorec.embedding import AMTL, ANT, PEP, SSEDS, AutoSrh, MagnitudePruning

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


@pytest.mark.parametrize(
    "method",
    [
        PEP(budget=0.4),
        MagnitudePruning(budget=0.4),
        AutoSrh(budget=0.4),
        ANT(),
        AMTL(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_what_no_row_holds_is_as_short_as_can_be_and_reads_as_one(method):
    X, y, new, _ = planted(0, n=1500)
    options = {**OPTIONS, "max_epochs": 2, "search_epochs": 6, "batch_size": 128}
    model = CTRClassifier(search=method, random_state=0, **options).fit(X, y)
    least = 1 if isinstance(method, AMTL) else 0
    for name, sizes in model.embedding_sizes_.items():
        assert sizes[0] == least, (name, sizes)  # the missing value
        assert sizes[1:].max() > least or name == "noise", (name, sizes)
    r = np.random.default_rng(0)
    unseen = r.random(len(new)) < 0.3
    rich = np.where(unseen, [f"new {k}" for k in range(len(new))], new["rich"])
    p = model.predict_proba(new.assign(rich=rich))[:, 1]
    assert np.isfinite(p).all()
    # All of them are the unknown value: rows that differ in nothing else are predicted alike.
    others = new.loc[unseen, ["partner", "noise"]].reset_index(drop=True).assign(p=p[unseen])
    groups = others.groupby(["partner", "noise"])["p"]
    assert groups.size().max() > 1 and (groups.max() - groups.min()).max() < 1e-6
