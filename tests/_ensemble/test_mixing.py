"""Weights of several models' outputs, and the companions of a network that are fitted and
weighed.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_autorec._ensemble._boosted import StatisticsBoosting
from sklearn_autorec._ensemble._companions import (
    NETWORK,
    STATISTICS,
    WIDE,
    Mixture,
    _fit_statistics,
    fit_mixture,
    possible_companions,
)
from sklearn_autorec._ensemble._mixing import as_rows, mixing_weights
from sklearn_autorec.linear_model._core import CrossedLinear, CrossedLinearOptions
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._table import EncodedTable


def outputs_of_two(n, logistic, seed=0):
    """One model that knows the truth, one that guesses; their outputs and targets."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=n) * 2
    y = (
        (rng.random(n) < 1 / (1 + np.exp(-truth))).astype(float)
        if logistic
        else truth + rng.normal(size=n) / 2
    )
    return np.column_stack([truth, rng.normal(size=n)]), y


@pytest.mark.parametrize("logistic", [True, False])
def test_many_rows_take_the_better_model_and_few_both(logistic):
    outputs, y = outputs_of_two(5000, logistic)
    assert_allclose(mixing_weights(outputs, y, logistic=logistic), [1, 0])
    few = mixing_weights(outputs[:3], y[:3], logistic=logistic)
    assert_allclose(few, [0.5, 0.5], atol=0.15 if logistic else 0.3)
    # What the rows alone would say.
    assert mixing_weights(outputs[:3], y[:3], logistic=logistic, pull=0.0).max() > 0.9
    medium = mixing_weights(outputs[:15], y[:15], logistic=logistic)
    assert few[0] < medium[0] and medium.sum() == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_numbers_of_any_scale_and_a_perfect_model(scale):
    outputs, y = outputs_of_two(40, False)
    found = mixing_weights(outputs * scale, y * scale, logistic=False)
    assert_allclose(found, mixing_weights(outputs, y, logistic=False), atol=1e-4)
    assert (
        mixing_weights(np.column_stack([y, outputs[:, 1], -y]) * scale, y * scale, logistic=False)[
            0
        ]
        > 0.95
    )
    assert_allclose(mixing_weights(np.column_stack([y, y]), y, logistic=False), [0.5, 0.5])


@pytest.mark.parametrize("logistic", [True, False])
def test_weights_minimise_what_they_say(logistic):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    outputs = truth[:, None] + rng.normal(size=(400, 3)) * [0.5, 0.7, 0.9]
    y = (rng.random(400) < 1 / (1 + np.exp(-truth))).astype(float) if logistic else truth
    weight = rng.random(400)
    rows = weight / weight.mean()

    def objective(w):
        mean = outputs @ w
        if logistic:
            loss = np.logaddexp(0, mean) - y * mean
        else:
            best = min(np.average((o - y) ** 2, weights=rows) for o in outputs.T)
            loss = (mean - y) ** 2 / (2 * best)
        return rows @ loss + 5 * 3 * w @ w

    found = mixing_weights(outputs, y, weight, logistic=logistic, least=0.0)
    assert (found >= 0).all() and found.sum() == pytest.approx(1)
    simplex = [
        np.array([a, b, 1 - a - b])
        for a in np.linspace(0, 1, 41)
        for b in np.linspace(0, 1 - a, 41)
    ]
    assert objective(found) <= min(map(objective, simplex)) + 1e-6
    assert found[0] > found[1] > found[2] > 0


@pytest.mark.parametrize("logistic", [True, False])
def test_rows_of_no_weight_do_not_judge(logistic):
    outputs, y = outputs_of_two(400, logistic)
    spoiled = np.vstack([outputs, outputs[:, ::-1] * 3])
    weight = np.r_[np.ones(400), np.zeros(400)]
    found = mixing_weights(spoiled, np.r_[y, 1 - y], weight, logistic=logistic)
    # Weights are of mean 1, so that the pull is as strong as over twice as many rows.
    assert_allclose(found, mixing_weights(outputs, y, logistic=logistic, pull=2.5), atol=1e-3)


def test_equal_models_and_single_ones():
    outputs, y = outputs_of_two(300, True)
    assert_allclose(mixing_weights(outputs[:, [0, 0]], y, logistic=True), [0.5, 0.5], atol=1e-6)
    assert_array_equal(mixing_weights(outputs[:, :1], y, logistic=True), [1.0])
    assert mixing_weights(outputs, y, logistic=True, least=0.6)[1] == 0


@pytest.mark.parametrize("logistic", [True, False])
def test_whole_weights_of_rows_that_judge_are_repetitions_and_small_ones_have_no_unit(logistic):
    outputs, y = outputs_of_two(15, logistic)
    weight = np.random.default_rng(0).integers(1, 5, 15)
    rows = np.repeat(np.arange(15), weight)
    found = mixing_weights(outputs, y, weight, logistic=logistic)
    repeated = mixing_weights(outputs[rows], y[rows], logistic=logistic)
    assert_allclose(found, repeated, atol=1e-6)
    relative = mixing_weights(outputs, y, weight / weight.mean(), logistic=logistic)
    tiny = mixing_weights(outputs, y, weight * 1e-9, logistic=logistic)
    assert_allclose(tiny, relative, atol=1e-6)
    assert abs(found - relative).max() > 0.01
    assert as_rows(None) is None


# companions
# ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """What companions read of training rows."""

    table: EncodedTable
    encoder: FieldEncoder
    y: np.ndarray
    weight: np.ndarray | None = None

    def __len__(self):
        return len(self.y)

    def take(self, rows):
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, table=self.table.take(rows), y=self.y[rows], weight=weight)


def rows_of(n, logistic, seed=0):
    """Rows of two ids with effects, and the score that is behind them."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({c: rng.integers(20, size=n).astype(str) for c in "ab"})
    effects = np.random.default_rng(7).normal(size=(2, 20)) * 1.5
    score = effects[0][X["a"].astype(int)] + effects[1][X["b"].astype(int)]
    y = (
        (rng.random(n) < 1 / (1 + np.exp(-score))).astype(float)
        if logistic
        else score + rng.normal(size=n)
    )
    encoder = FieldEncoder()
    return Rows(encoder.fit_encode(X), encoder, y), score


def split(rows, n_train):
    at = np.arange(len(rows))
    return rows.take(at[:n_train]), rows.take(at[n_train:])


@pytest.mark.parametrize("logistic", [True, False])
def test_held_out_rows_leave_out_a_network_that_knows_nothing(logistic):
    rows, score = rows_of(4000, logistic)
    kept, held_out = split(rows, 3000)
    rng = np.random.default_rng(0)
    nothing = rng.normal(size=1000) * 3
    mixture = fit_mixture(
        [WIDE, STATISTICS], kept, held_out, None, nothing, logistic=logistic, seed=0
    )
    assert mixture.weights[NETWORK] == 0 and sum(mixture.weights.values()) == pytest.approx(1)
    mixed = mixture.logits(held_out.table, nothing[:, None])
    assert mixed.shape == (1000, 1) and np.corrcoef(mixed[:, 0], score[3000:])[0, 1] > 0.9
    # The mean of what the parts say, weighed.
    parts = sum(
        mixture.weights[name] * model.logits(held_out.table)
        for name, model in mixture.models.items()
    )
    assert_allclose(mixed[:, 0], parts)


@pytest.mark.parametrize("logistic", [True, False])
def test_a_network_that_knows_all_stands_alone(logistic):
    rows, score = rows_of(4000, logistic)
    # Companions learn noise.
    rows = replace(rows, table=rows.table.take(np.random.default_rng(0).permutation(4000)))
    kept, held_out = split(rows, 2500)
    mixture = fit_mixture(
        [WIDE, STATISTICS], kept, held_out, None, score[2500:], logistic=logistic, seed=0
    )
    assert mixture.weights[NETWORK] > 0.9
    assert set(mixture.models) == set(mixture.weights) - {NETWORK}


def test_members_share_the_companions():
    rows, score = rows_of(1200, True)
    kept, held_out = split(rows, 1000)
    mixture = fit_mixture(
        [STATISTICS], kept, held_out, None, score[1000:] / 2, logistic=True, seed=0
    )
    assert 0 < mixture.weights[NETWORK] < 1
    network = np.random.default_rng(0).normal(size=(3, 200, 1))
    several = mixture.member_logits(held_out.table, network)
    for one, member in zip(several, network, strict=True):
        assert_allclose(one, mixture.logits(held_out.table, member))
    alone = Mixture({NETWORK: 1.0})
    assert_array_equal(alone.logits(held_out.table, network[0]), network[0])


@pytest.mark.parametrize("logistic", [True, False])
def test_parts_that_judge_in_turn_end_in_models_of_all_rows(logistic):
    rows, score = rows_of(900, logistic)
    parts = np.arange(900) % 3
    parts[800:] = -1  # never held out
    network = np.random.default_rng(0).normal(size=800)
    mixture = fit_mixture([WIDE, STATISTICS], rows, None, parts, network, logistic=logistic, seed=0)
    assert mixture.weights[NETWORK] < 0.15
    assert mixture.models[STATISTICS].statistics.counts[0].sum() == 900
    found = mixture.logits(rows.table, np.zeros((900, 1)))[:, 0]
    assert np.corrcoef(found, score)[0, 1] > 0.8
    # The control: targets of other rows leave nothing to learn, and a network that knows something
    # counts.
    shuffled = replace(rows, y=np.random.default_rng(1).permutation(rows.y))
    known = (4 * shuffled.y - 2 if logistic else shuffled.y)[:800]
    control = fit_mixture(
        [WIDE, STATISTICS], shuffled, None, parts, known, logistic=logistic, seed=0
    )
    assert control.weights[NETWORK] > 0.8


def test_trees_of_each_part_have_not_seen_its_rows_and_the_last_are_as_many_as_on_average(
    monkeypatch,
):
    rows, _ = rows_of(240, True)
    parts = np.arange(240) % 3 - 1
    fits, real = [], StatisticsBoosting.fit

    def spy(self, table, n_ids, y, weight=None, **options):
        fits.append((table.ids, y, options))
        real(self, table, n_ids, y, weight, **options)
        fits[-1] += (np.mean([len(trees) for trees in self.trees]),)
        return self

    monkeypatch.setattr(StatisticsBoosting, "fit", spy)
    _, outputs = _fit_statistics(rows, rows.y, None, parts, True, 0)
    assert outputs.shape == (160,) and np.isfinite(outputs).all() and len(fits) == 3
    for part, (ids, y, options, _) in enumerate(fits[:2]):
        assert_array_equal(ids, rows.table.ids[parts != part])
        assert_array_equal(y, rows.y[parts != part])
        assert_array_equal(options["valid"][0].ids, rows.table.ids[parts == part])
    ids, y, options, n_trees = fits[2]
    assert len(y) == 240 and options.get("valid") is None
    assert options["n_trees"] == n_trees == max(round(np.mean([fit[3] for fit in fits[:2]])), 1)


def test_without_rows_that_judge_all_count_alike():
    rows, _ = rows_of(300, True)
    mixture = fit_mixture([WIDE, STATISTICS], rows, None, None, None, logistic=True, seed=0)
    assert mixture.weights == {NETWORK: 1 / 3, WIDE: 1 / 3, STATISTICS: 1 / 3}


def test_companions_need_rows_classes_and_fields():
    rows, _ = rows_of(300, True)
    both = [WIDE, STATISTICS]
    assert possible_companions(both, rows, True) == both
    assert possible_companions(both, rows.take(np.arange(49)), True) == []
    assert possible_companions(both, rows.take(np.arange(49)), False) == []
    rare = replace(rows, y=(np.arange(300) < 4).astype(float))
    assert (
        possible_companions(both, rare, True) == []
        and possible_companions(both, rare, False) == both
    )
    bare = replace(rows, table=replace(rows.table, ids=rows.table.ids[:, :0]))
    assert possible_companions(both, bare, True) == [WIDE]


@pytest.mark.parametrize("logistic", [True, False])
def test_companions_learn_from_weights_of_sum_one(logistic):
    rows, score = rows_of(600, logistic)
    weight = np.random.default_rng(0).random(600)
    tiny, relative = (
        fit_mixture(
            [WIDE, STATISTICS],
            replace(rows, weight=weight / unit),
            None,
            None,
            None,
            logistic=logistic,
            seed=0,
        ).logits(rows.table, np.zeros((600, 1)))[:, 0]
        for unit in (weight.sum(), weight.mean())
    )
    assert_allclose(tiny, relative, atol=1e-4)
    assert np.corrcoef(tiny, score)[0, 1] > 0.8
    # Taken for numbers of rows, they are less than one row.
    model = CrossedLinear(CrossedLinearOptions())
    alone = model.fit(rows.table, rows.encoder, rows.y, weight / weight.sum(), logistic, 0)
    assert np.ptp(alone.logits(rows.table)) < 0.5 * np.ptp(tiny)
