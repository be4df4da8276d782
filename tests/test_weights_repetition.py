"""Whole weights against repeated rows: what agrees, and what has to differ."""

import numpy as np
import pytest
import torch

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec._ensemble import _companions
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import FieldNet
from sklearn_autorec.estimators._targets import RatingTarget
from sklearn_autorec.linear_model._core import CrossedLinearOptions
from sklearn_autorec.networks import MLPNetwork
from sklearn_autorec.networks._default import DefaultNetwork
from sklearn_autorec.nn import BatchNorm

N = 120
X, Y, _ = make_ctr(N, n_fields=3, cardinality=4, pairs=1, random_state=0)
WEIGHT = np.random.default_rng(0).integers(0, 4, N)
ROWS = np.repeat(np.arange(N), WEIGHT)
# One batch an epoch, rows that all train, nothing that draws by row.
EQUAL = {
    "network": "fm",
    "batch_size": 1000,
    "early_stopping": False,
    "wide": None,
    "target_statistics": False,
    "id_dropout": 0.0,
    "max_epochs": 5,
    "lr": 0.01,
    "random_state": 0,
    "device": "cpu",
}
KINDS = pytest.mark.parametrize("kind", [CTRClassifier, RatingRegressor])


def predicted(model, table):
    if isinstance(model, CTRClassifier):
        return model.predict_proba(table)[:, 1]
    return model.predict(table)


def difference(kind, **options):
    """Largest difference of two predictions, of a fit with weights and one with repeated rows."""
    options = {**EQUAL, **options}
    weighted = kind(**options).fit(X, Y, sample_weight=WEIGHT)
    repeated = kind(**options).fit(X.iloc[ROWS], Y[ROWS])
    return np.abs(predicted(weighted, X) - predicted(repeated, X)).max()


@KINDS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"averaging": 0.99, "lr_schedule": "cosine", "embedding_l2": 0.3, "weight_decay": 1e-5},
        {"network": DefaultNetwork((8,), dropout=0.0, batch_norm=False)},
    ],
    ids=["fm", "schedules and decays", "default network"],
)
def test_whole_weights_are_repetitions_where_nothing_goes_by_row(kind, options):
    assert difference(kind, **options) < 1e-6


@KINDS
def test_a_linear_model_that_holds_no_rows_out_takes_weights_for_repetitions(kind, monkeypatch):
    without = CrossedLinearOptions(max_crosses=0)
    monkeypatch.setattr(_companions, "CrossedLinearOptions", lambda: without)
    assert difference(kind, wide="autocross") < 1e-6


@KINDS
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 32},
        {"id_dropout": 0.05},
        {"network": MLPNetwork((8,), dropout=0.3, batch_norm=False)},
        {"network": MLPNetwork((8,), dropout=0.0, batch_norm=True)},
        {"early_stopping": True, "validation_fraction": 0.3},
        # Copies of a row are on both sides of the folds that judge crosses.
        {"wide": "autocross"},
        {"target_statistics": True},
    ],
    ids=["batches", "forgotten ids", "dropout", "batch norm", "held-out rows", "crosses", "trees"],
)
def test_what_goes_by_row_tells_weights_from_repetitions(kind, options):
    assert difference(kind, **options) > 1e-3


@KINDS
def test_weighted_batch_statistics_would_make_weights_repetitions(kind, monkeypatch):
    # The table of scikit-learn's check.
    random = np.random.RandomState(42)
    table, y, weight = random.rand(15, 30), random.randint(0, 3, 15), random.randint(0, 5, 15)
    rows = np.repeat(np.arange(15), weight)

    def of_check():
        network = DefaultNetwork(dropout=0.0, batch_norm=True)
        models = [kind(network=network, random_state=0, device="cpu") for _ in range(2)]
        models[0].fit(table[rows], y[rows])
        models[1].fit(table, y, sample_weight=weight)
        return np.abs(predicted(models[0], table) - predicted(models[1], table)).max()

    plain, weights = of_check(), []
    infer, forward = FieldNet.infer, BatchNorm.forward

    def noting(self, x, **fit_params):
        weights[:] = [torch.ones(len(x)) if x.weight is None else x.weight]
        return infer(self, x, **fit_params)

    def weighted(self, x, n_rows=None):
        if not self.training:
            return forward(self, x, n_rows)
        share = (weights[0] / weights[0].sum())[:, None]
        mean = (share * x).sum(0)
        variance = (share * (x - mean) ** 2).sum(0)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return (x - mean) / (variance + self.eps).sqrt() * self.weight + self.bias

    monkeypatch.setattr(FieldNet, "infer", noting)
    monkeypatch.setattr(BatchNorm, "forward", weighted)
    assert of_check() < plain / 20


def test_adam_turns_the_rounding_of_a_gradient_that_is_zero_into_steps(monkeypatch):
    # Ratings start at their mean, where the gradient of a linear model's bias is zero.
    numbers = np.random.default_rng(0).random((N, 3))

    def linear_difference():
        options = {**EQUAL, "network": "lr"}
        weighted = RatingRegressor(**options).fit(numbers, Y, sample_weight=WEIGHT)
        repeated = RatingRegressor(**options).fit(numbers[ROWS], Y[ROWS])
        return np.abs(weighted.predict(numbers) - repeated.predict(numbers)).max()

    at_the_mean = linear_difference()
    monkeypatch.setattr(RatingTarget, "output_bias", lambda self, target, weight: [0.1])
    assert linear_difference() < 1e-6 < 1e-5 < at_the_mean


def test_weights_of_any_small_unit_start_at_the_same_rate():
    def start(unit):
        options = {**EQUAL, "max_epochs": 1, "lr": 1e-6}
        return predicted(CTRClassifier(**options).fit(X, Y, sample_weight=WEIGHT * unit), X)

    heavy = np.average(Y, weights=WEIGHT)
    for unit in (1 / WEIGHT.sum(), 1e-9):
        np.testing.assert_allclose(start(unit), heavy, atol=0.02)
