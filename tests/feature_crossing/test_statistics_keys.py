"""Which combinations get a statistic."""

import time

import numpy as np
import pytest

from sklearn_autorec.feature_crossing._target_statistics._statistics_keys import _Judge, choose_keys


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
        assert (
            all(set(key) > {1, 4} for key in keys[1:]) and max(gains[1:], default=0) < gains[0] / 20
        )


def test_noise_gives_nothing():
    found = [
        choose_keys(*planted("noise", seed=seed), rng=np.random.RandomState(0))[0]
        for seed in range(10)
    ]
    assert sum(map(bool, found)) <= 1


def test_shuffled_targets_give_nothing():
    codes, y = planted("pair")
    assert choose_keys(
        codes, np.random.RandomState(0).permutation(y), rng=np.random.RandomState(0)
    ) == ([], [])


def test_many_pairs_of_few_values_have_no_lucky_ones():
    """With four cells a pair, chance gains often: only what stands out among all candidates
    counts.
    """
    found = []
    for seed in range(10):
        rng = np.random.RandomState(seed)
        codes, y = (
            [rng.randint(2, 4, 1000) for _ in range(12)],
            rng.randint(0, 2, 1000).astype(float),
        )
        found += choose_keys(codes, y, rng=rng)[0]
    assert len(found) <= 1


def test_what_a_taken_combination_says_is_not_taken_again():
    codes, y = planted("pair")
    # A relabelled copy of column 1.
    keys, _ = choose_keys([*codes, 11 - codes[1]], y, rng=np.random.RandomState(0))
    assert len({(1, 4), (4, 6)} & set(keys)) == 1


def test_the_gain_of_numbers_is_that_of_the_squared_error_on_rows_that_judge():
    codes, y = planted("numbers", n=600)
    smoothing = 7.0
    judge = _Judge(
        codes, [10] * 6, y[:, None], np.ones(600), smoothing, False, None, np.random.RandomState(0)
    )
    cells, gain = codes[1] * 10 + codes[4], 0.0
    for _, judges, target, eta in judge.parts:
        left, out = target - eta, judges == 1
        for cell in np.unique(cells):
            own = cells == cell
            step = np.clip(left[own & ~out].sum() / ((own & ~out).sum() + smoothing), -2, 2)
            gain += (left[own & out] ** 2 - (left[own & out] - step) ** 2).sum() / 2
    assert judge.score((1, 4))[0] == pytest.approx(gain, rel=1e-6)


def test_given_combinations_and_options_are_kept():
    codes, y = planted("triple")
    rng = np.random.RandomState
    assert (1, 4) not in choose_keys(codes, y, given=[(4, 1)], rng=rng(0))[0]
    assert all(len(key) == 2 for key in choose_keys(codes, y, max_order=2, rng=rng(0))[0])
    assert len(choose_keys(codes, y, max_crosses=1, rng=rng(0))[0]) == 1
    assert not {1, 4} <= {
        i for key in choose_keys(codes, y, fields=[0, 1, 2], rng=rng(0))[0] for i in key
    }
    targets = np.column_stack([y, 1 - y])
    assert choose_keys(codes, targets, rng=rng(0))[0][0] == (1, 4)


@pytest.mark.parametrize("first", [False, True])
def test_rows_without_weight_do_not_judge(first):
    codes, y = planted("pair")
    rng = np.random.RandomState(5)
    parts = [
        [*codes, y, np.ones(len(y))],
        [*(rng.permutation(c) for c in (*codes, y)), np.zeros(len(y))],
    ]
    *more, target, weights = [
        np.concatenate(two) for two in zip(*(parts[::-1] if first else parts), strict=True)
    ]
    found = choose_keys(more, target, weights, rng=np.random.RandomState(0))
    assert found == choose_keys(codes, y, rng=np.random.RandomState(0))


def test_judging_rows_do_not_fit():
    codes, y = planted("pair", n=1000)

    def predictors(flip):
        judge = _Judge(
            codes, [10] * 6, y[:, None], np.ones(1000), 20.0, True, None, np.random.RandomState(0)
        )
        judge.parts = [
            (t, judges, np.where(judges & flip, 1 - y, y), eta) for t, judges, y, eta in judge.parts
        ]
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
    assert (1, 4) not in choose_keys(
        codes, y, order=np.arange(len(y)), rng=np.random.RandomState(0)
    )[0]


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
