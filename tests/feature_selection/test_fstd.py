import numpy as np
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import FSTD

MAINS, PAIR = [0, 1, 2], (3, 4)


def planted(seed, n=2000):
    X, y, truth = make_ctr(
        n,
        n_fields=9,
        cardinality=4,
        zipf=0,
        informative_fields=MAINS,
        pairs=[PAIR],
        rank=1,
        main_effect=0.9,
        pair_effect=1.5,
        ids="int",
        random_state=seed,
    )
    assert truth.pairs == (PAIR,)
    return X.to_numpy(), y


def fstd(seed, **options):
    tree = DecisionTreeClassifier(min_samples_leaf=10, random_state=0)
    options = {"scoring": "roc_auc", "cv": 2, "max_evaluations": 90, "random_state": seed} | options
    return FSTD(tree, **options)


def top(scores, k):
    return sorted(np.argsort(-scores)[:k].tolist())


def test_planted_fields_and_the_pair():
    """Average gains rank the main fields, or those of the pair, before all noise; the wrapper's subset holds all five."""
    pairs, levels = [], []
    for seed in range(5):
        X, y = planted(seed)
        found = fstd(seed).fit(X, y)
        assert top(found.scores_, 5) == [*MAINS, *PAIR]
        assert set(PAIR) <= set(found.get_support(indices=True))
        pairs.append(set(MAINS) | set(PAIR) <= set(found.get_support(indices=True)))
        assert found.n_evaluations_ < 2**9 / 2
        assert found.best_score_ > found.search_history_[0]["score"]
        level = fstd(seed, aor="level").fit(X, y)
        levels.append(top(level.scores_, 5) == [*MAINS, *PAIR])
        shuffled = fstd(seed, max_evaluations=40).fit(X, np.random.default_rng(seed).permutation(y))
        assert shuffled.scores_.max() < 0.5 * found.scores_[MAINS].min()
    assert sum(pairs) >= 4
    assert sum(levels) <= 2
