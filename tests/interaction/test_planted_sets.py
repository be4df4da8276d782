"""Planted truth that several searches share: agreeing tastes as pairs, and sets of four fields."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from tuple_searches import fit

from sklearn_autorec.datasets import make_tastes
from sklearn_autorec.interaction import (
    BPFIS,
    FIVES,
    L0SIGN,
    PROFIT,
    SIF,
    AOANet,
    AutoFeature,
    AutoFIS,
    AutoGroup,
    InteractionGain,
)

SEARCHES = {
    "AOANet": AOANet(),
    "AutoFIS": AutoFIS(),
    "AutoFeature": AutoFeature(max_evaluations=60, price=0.003),
    "AutoGroup": AutoGroup(max_order=2),
    "BPFIS": BPFIS(user_column="who0"),
    "FIVES": FIVES(max_order=2),
    "InteractionGain": InteractionGain(n_interactions=2),
    "L0SIGN": L0SIGN(),
    "PROFIT": PROFIT(max_order=2),
    "SIF": SIF(),
}
LONGER = {"search_epochs": 6}
OPTIONS = {"AutoFeature": {"lr": 0.02}, "BPFIS": LONGER, "FIVES": LONGER}
TASTES = {("who0", "what0"), ("who1", "what1")}


def of_tastes(name, seed, shuffled=False):
    """What a search makes of two pairs of agreeing tastes beside two columns of noise, and the AUC
    with which its scores rank these pairs.
    """
    X, y, _ = make_tastes(6000, topics=(2, 1), n_values=12, n_noise_fields=2, random_state=seed)
    if shuffled:
        y = np.random.default_rng(seed).permutation(y)
    model = fit(SEARCHES[name], X, y, seed, **{"batch_size": 128} | OPTIONS.get(name, {}))
    scores = {frozenset(t): s for t, s in model.interaction_scores_.items()}
    truth = [t in {frozenset(p) for p in TASTES} for t in scores]
    assert sum(truth) == 2 < len(scores) == 15
    return model, roc_auc_score(truth, [*scores.values()])


@pytest.mark.parametrize("name", [*SEARCHES])
def test_pairs_of_agreeing_tastes_are_ranked_first(name):
    kept = []
    for seed in range(5):
        model, auc = of_tastes(name, seed)
        assert auc >= 0.95
        kept.append(len(TASTES & {*model.interactions_}))
    assert sum(kept) >= 9  # of 10


@pytest.mark.parametrize("name", ["AutoFeature", "BPFIS", "SIF"])
def test_of_shuffled_labels_they_are_not(name):
    assert np.mean([of_tastes(name, seed, shuffled=True)[1] for seed in range(4)]) < 0.85


def fours(seed):
    """Clicks that depend on four of six columns together, and on no fewer of them: X, y, these."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, (5000, 6))
    planted = np.sort(rng.choice(6, 4, replace=False))
    logits = 2 * (1 - 2.0 * (ids[:, planted] % 2)).prod(1)
    y = (rng.random(len(ids)) < 1 / (1 + np.exp(-logits))).astype(int)
    X = pd.DataFrame({f"f{i}": [f"v{v}" for v in column] for i, column in enumerate(ids.T)})
    return X, y, tuple(f"f{i}" for i in planted)


def search_fours(X, y, seed, max_order=4):
    search = PROFIT(max_order=max_order, n_interactions=1, patience=None)
    return fit(search, X, y, seed, lr=0.02, search_epochs=4)


def test_a_planted_set_of_four_is_found_and_nothing_less():
    for seed in range(5):
        X, y, planted = fours(seed)
        model = search_fours(X, y, seed)
        assert planted in model.interactions_
        scores = {t: s for t, s in model.interaction_scores_.items() if len(t) == 4}
        assert len(scores) == 15 and max(scores, key=scores.get) == planted
        assert model.architecture_["interaction"]["evidence"]["4"] > 10


def test_without_the_order_or_the_labels_there_is_no_set_of_four():
    kept = []
    for seed in range(2):
        X, y, _ = fours(seed)
        kept += search_fours(X, y, seed, max_order=3).interactions_
        shuffled = np.random.default_rng(seed).permutation(y)
        kept += [t for t in search_fours(X, shuffled, seed).interactions_ if len(t) == 4]
    assert len(kept) <= 1  # six tests at 1 %
