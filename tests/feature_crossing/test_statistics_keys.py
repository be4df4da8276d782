"""Which combinations get a statistic."""

import time

import numpy as np
import pytest

from sklearn_autorec.feature_crossing._statistics_keys import _Judge, choose_keys


def planted(kind, n=8000, seed=0):
    """Six columns; what the target depends on."""
    rng = np.random.RandomState(seed)
    codes = [rng.randint(2, 10, n) for _ in range(6)]
    effects = rng.normal(size=(8, 8)) * 1.5
    single = rng.normal(size=8)
    eta = single[codes[5] - 2]
    if kind != "noise":
        eta = eta + effects[codes[1] - 2, codes[4] - 2]
    if kind == "triple":
        eta = eta + rng.normal(size=(8, 8, 8))[codes[1] - 2, codes[4] - 2, codes[2] - 2] * 1.5
    if kind == "numbers":
        return codes, eta + rng.normal(size=n)
    return codes, (rng.random_sample(n) < 1 / (1 + np.exp(-eta))).astype(float)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["pair", "triple", "numbers"])
def test_planted_combinations_are_found(kind, seed):
    codes, y = planted(kind, seed=seed)
    keys, gains = choose_keys(codes, y, logistic=kind != "numbers", rng=np.random.RandomState(seed))
    assert keys[0] == (1, 4) and gains[0] > 0.01
    if kind == "triple":
        assert keys[1] == (1, 2, 4) and gains[1] > gains[0] / 5
    else:  # what smoothing left of the pair
        assert all(set(key) > {1, 4} for key in keys[1:]) and max(gains[1:], default=0) < gains[0] / 20


def test_noise_gives_nothing():
    found = [choose_keys(*planted("noise", seed=seed), rng=np.random.RandomState(0))[0] for seed in range(10)]
    assert sum(map(bool, found)) <= 1


def test_shuffled_targets_give_nothing():
    codes, y = planted("pair")
    assert choose_keys(codes, np.random.RandomState(0).permutation(y), rng=np.random.RandomState(0)) == ([], [])


def test_given_combinations_and_options_are_kept():
    codes, y = planted("triple")
    rng = np.random.RandomState
    assert (1, 4) not in choose_keys(codes, y, given=[(4, 1)], rng=rng(0))[0]
    assert all(len(key) == 2 for key in choose_keys(codes, y, max_order=2, rng=rng(0))[0])
    assert len(choose_keys(codes, y, max_crosses=1, rng=rng(0))[0]) == 1
    assert not {1, 4} <= {i for key in choose_keys(codes, y, fields=[0, 1, 2], rng=rng(0))[0] for i in key}
    targets = np.column_stack([y, 1 - y])
    assert choose_keys(codes, targets, rng=rng(0))[0][0] == (1, 4)


def test_rows_without_weight_do_not_judge():
    codes, y = planted("pair")
    more = [np.r_[c, c] for c in codes]
    target = np.r_[y, np.random.RandomState(5).permutation(y)]
    weights = np.r_[np.ones(len(y)), np.zeros(len(y))]
    found = choose_keys(more, target, weights, rng=np.random.RandomState(0))
    assert found == choose_keys(codes, y, rng=np.random.RandomState(0))


def test_judging_rows_do_not_fit():
    codes, y = planted("pair", n=1000)

    def predictors(flip):
        judge = _Judge(codes, [10] * 6, y[:, None], np.ones(1000), 20.0, True, None, np.random.RandomState(0))
        judge.parts = [(t, judges, np.where(judges & flip, 1 - y, y), eta) for t, judges, y, eta in judge.parts]
        judge.fit_columns(range(6))
        judge.take((1, 4))
        return [eta for *_, eta in judge.parts]

    np.testing.assert_array_equal(predictors(flip=0), predictors(flip=1))


def test_with_an_order_late_rows_judge():
    """A pair whose effect ends is taken by shuffled rows, and not by those that come later."""
    codes, y = planted("pair")
    late = np.arange(len(y)) > 0.6 * len(y)
    y[late] = np.random.RandomState(1).permutation(y[late])
    assert (1, 4) in choose_keys(codes, y, rng=np.random.RandomState(0))[0]
    assert (1, 4) not in choose_keys(codes, y, order=np.arange(len(y)), rng=np.random.RandomState(0))[0]


def test_cost_is_bounded():
    rng = np.random.RandomState(0)
    codes = [rng.randint(2, 52, 20_000) for _ in range(20)]
    y = rng.randint(0, 2, 20_000).astype(float)
    began = time.process_time()
    choose_keys(codes, y, rng=rng)
    assert time.process_time() - began < 6  # 1.3 s on an idle processor
    wide = [rng.randint(2, 8, 2000) for _ in range(300)]
    began = time.process_time()
    choose_keys(wide, y[:2000], rng=rng)
    assert time.process_time() - began < 6


def test_degenerate_tables():
    rng = np.random.RandomState(0)
    y = np.array([0.0, 1.0] * 20)
    assert choose_keys([np.zeros(40, int), np.ones(40, int)], y, rng=rng) == ([], [])
    assert choose_keys([np.arange(40)], y, rng=rng) == ([], [])
    assert choose_keys([np.arange(3), np.arange(3)], y[:3], rng=rng) == ([], [])
