"""Which crosses boosted trees get statistics of: the planted ones, and nothing of noise."""

import numpy as np
import pytest

from sklearn_autorec.feature_crossing import _keys as keys
from sklearn_autorec.feature_crossing._keys import choose_keys


def planted(seed, n=4000, n_columns=7, n_targets=1, numbers=False):
    """Codes, and targets in which columns 1 and 4 act together, 0 alone."""
    rng = np.random.default_rng(seed)
    codes = [rng.integers(2, 10, size=n) for _ in range(n_columns)]
    effects = rng.normal(size=(10, 10, n_targets)) * 1.5
    score = effects[codes[1], codes[4]] + 0.7 * rng.normal(size=(10, n_targets))[codes[0]]
    y = (
        score + rng.normal(size=score.shape)
        if numbers
        else (rng.random(score.shape) < 1 / (1 + np.exp(-score)))
    )
    return codes, y.astype(float)


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("n_targets", [1, 3])
def test_the_planted_pair_is_chosen_and_nothing_of_shuffled_targets(numbers, n_targets):
    for seed in range(5):
        codes, y = planted(seed, n_targets=n_targets, numbers=numbers)
        options = {"logistic": not numbers, "max_crosses": 20, "max_order": 2}
        y = y if n_targets > 1 else y[:, 0]
        assert choose_keys(codes, [10] * 7, y, rng=np.random.RandomState(seed), **options) == [
            (1, 4)
        ]
        shuffled = np.random.default_rng(seed).permutation(y)
        assert (
            choose_keys(codes, [10] * 7, shuffled, rng=np.random.RandomState(seed), **options) == []
        )


def test_noise_of_few_values_seldom_passes():
    taken = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        codes = [rng.integers(2, 2 + k, size=[300, 2000][seed % 2]) for k in (2, 2, 3, 3, 4, 400)]
        y = (rng.random(len(codes[0])) < 0.2 + 0.3 * (codes[0] - 2)).astype(float)
        taken += len(choose_keys(codes, [402] * 6, y, logistic=True, rng=np.random.RandomState(0)))
    assert taken <= 3  # of 300 pairs


def test_a_triple_is_reached_through_its_pairs():
    rng = np.random.default_rng(0)
    codes = [rng.integers(2, 5, size=12_000) for _ in range(5)]
    effects = rng.normal(size=(5, 5, 5)) * 3
    y = (rng.random(12_000) < 1 / (1 + np.exp(-effects[codes[0], codes[1], codes[2]]))).astype(
        float
    )
    options = {"logistic": True, "rng": np.random.RandomState(0)}
    assert choose_keys(codes, [5] * 5, y, max_order=3, **options)[0] == (0, 1, 2)
    assert max(map(len, choose_keys(codes, [5] * 5, y, max_order=2, **options))) == 2


def test_crosses_ignore_rows_without_weight_and_columns_of_one_value():
    codes, y = planted(0)
    codes.append(np.full(len(y), 2))
    weight = (np.arange(len(y)) % 3 > 0).astype(float)
    spoiled = np.where(weight > 0, y[:, 0], 1 - y[:, 0])
    kept = [column[weight > 0] for column in codes]
    found = choose_keys(
        codes, [10] * 8, spoiled, logistic=True, weight=weight, rng=np.random.RandomState(0)
    )
    alone = choose_keys(
        kept, [10] * 8, y[weight > 0, 0], logistic=True, rng=np.random.RandomState(0)
    )
    assert found == alone == [(1, 4)]


def test_the_number_of_crosses_is_bounded_and_the_best_come_first():
    rng = np.random.default_rng(0)
    codes = [rng.integers(2, 8, size=8000) for _ in range(6)]
    strong, weak = rng.normal(size=(2, 8, 8))
    y = 3 * strong[codes[0], codes[1]] + weak[codes[2], codes[3]] + rng.normal(size=8000)
    options = {"logistic": False, "max_order": 2}
    both = choose_keys(codes, [8] * 6, y, rng=np.random.RandomState(0), **options)
    assert both == [(0, 1), (2, 3)]
    assert (
        choose_keys(codes, [8] * 6, y, rng=np.random.RandomState(0), max_crosses=1, **options)
        == both[:1]
    )


def test_places_that_are_left_go_to_pairs_of_the_fields_that_matter():
    rng = np.random.default_rng(0)
    codes = [rng.integers(2, 8, size=8000) for _ in range(6)]
    strong = rng.normal(size=(8, 8))
    strong -= strong[2:].mean(0)  # alone, neither field of the pair says much
    strong -= strong[:, 2:].mean(1, keepdims=True)
    y = 3 * strong[codes[4], codes[5]] + 1.5 * (codes[2] > 4) + rng.normal(size=8000)
    options = {"logistic": False, "max_order": 2, "max_crosses": 10, "fill": True}
    chosen = choose_keys(codes, [8] * 6, y, rng=np.random.RandomState(0), **options)
    assert chosen[0] == (4, 5) and len(set(chosen)) == 10
    # After the only pair that gains come those of its two fields, then those of the field that says
    # something alone.
    assert all({4, 5} & set(pair) for pair in chosen[1:9]) and 2 in chosen[9]
    # Each of them first with the one that says something alone.
    assert 2 in chosen[1] and 2 in chosen[5]
    more = {**options, "max_crosses": 40}
    assert len(choose_keys(codes, [8] * 6, y, rng=np.random.RandomState(0), **more)) == 15


def test_more_rows_judge_where_there_are_few_pairs(monkeypatch):
    sizes = []
    true_judge = keys._Judge

    def judge(y, *args):
        sizes.append(len(y))
        return true_judge(y, *args)

    monkeypatch.setattr(keys, "_Judge", judge)
    monkeypatch.setattr(keys, "ROWS_TIMES_PAIRS", 1000)
    monkeypatch.setattr(keys, "KEY_ROWS", 50)
    monkeypatch.setattr(keys, "MOST_KEY_ROWS", 400)
    rng = np.random.default_rng(0)
    for n_fields in (2, 3, 8):
        codes = [rng.integers(2, 4, size=600) for _ in range(n_fields)]
        y = rng.integers(2, size=600).astype(float)
        choose_keys(codes, [4] * n_fields, y, logistic=True, rng=np.random.RandomState(0))
    assert sizes == [400, 333, 50]


def test_groups_do_not_depend_on_how_rows_are_numbered(monkeypatch):
    rng = np.random.RandomState(0)
    columns, sizes = [rng.randint(6, size=500), rng.randint(9, size=500)], [6, 9]
    found = {}
    for per_row in (0, 1):
        monkeypatch.setattr(keys, "SPAN_PER_ROW", per_row)
        found[per_row] = keys._groups(columns, sizes, (0, 1))
    wanted = np.unique(columns[0] * 9 + columns[1], return_inverse=True)[1]
    for groups, n_groups in found.values():
        assert n_groups == wanted.max() + 1 == groups.max() + 1
        assert len({*zip(groups.tolist(), wanted.tolist(), strict=True)}) == n_groups
