"""Field-wise regression against plain numpy and scikit-learn."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec.feature_crossing._autocross._fieldwise import (
    AdditiveModel,
    fit_field,
    penalty,
    placements,
    row_loss,
    sigmoid,
)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    ids = np.column_stack(
        [rng.integers(5, size=3000), rng.integers(7, size=3000), rng.integers(3, size=3000)]
    )
    ids[:, 2] = np.where(rng.random(3000) < 0.7, ids[:, 0] % 3, ids[:, 2])  # correlated fields
    effects = [rng.normal(size=5), rng.normal(size=7), rng.normal(size=3)]
    eta = sum(e[c] for e, c in zip(effects, ids.T, strict=True)) - 1
    return ids, (rng.random(3000) < expit(eta)).astype(float), eta + rng.normal(size=3000)


def fitted(ids, y, logistic, l2, n_train=None, **options):
    model = AdditiveModel(y, n_train or len(y), logistic, l2)
    for column in ids.T:
        model = model.extended(column, int(column.max()) + 1)
    return model.fit(**options)


def test_logistic_model_is_that_of_sklearn(table):
    ids, y, _ = table
    one_hot = OneHotEncoder().fit_transform(ids)
    reference = LogisticRegression(C=1 / 2.5, tol=1e-10, max_iter=10_000).fit(one_hot, y)
    model = fitted(ids, y, True, 2.5, tol=0.0, max_sweeps=400)
    assert_allclose(expit(model.eta), reference.predict_proba(one_hot)[:, 1], atol=1e-5)
    assert_allclose(np.concatenate(model.weights), reference.coef_[0], atol=1e-4)


def test_linear_model_solves_the_ridge_equations(table):
    ids, _, y = table
    model = fitted(ids, y, False, 2.0, tol=0.0, max_sweeps=400)
    one_hot = OneHotEncoder().fit_transform(ids).toarray()
    variance = np.mean((y - model.eta) ** 2)
    centred = one_hot - one_hot.mean(0)
    gram = centred.T @ centred + 2.0 * variance * np.eye(15)  # the penalty is in units of the noise
    weights = np.linalg.solve(gram, centred.T @ (y - y.mean()))
    assert_allclose(np.concatenate(model.weights), weights, atol=1e-4)


def test_a_field_on_an_offset_is_a_newton_fit_per_id(table):
    ids, y, _ = table
    offset = np.linspace(-1, 1, len(y))
    got = fit_field(ids[:, 1], 7, y, offset, True, l2=0.7, n_steps=50)
    for k in range(7):
        rows = ids[:, 1] == k
        w = 0.0
        for _ in range(50):
            p = expit(offset[rows] + w)
            w += ((y[rows] - p).sum() - 0.7 * w) / ((p * (1 - p)).sum() + 0.7)
        assert_allclose(got[k], w, atol=1e-3)  # where the steps stop


def test_the_offset_at_the_optimum_makes_a_refit_stand_still(table):
    ids, y, _ = table
    model = fitted(ids, y, True, 1.0, tol=0.0, max_sweeps=300)
    offset = model.eta - model.weights[1][ids[:, 1]]
    assert_allclose(fit_field(ids[:, 1], 7, y, offset, True, 1.0, 50), model.weights[1], atol=1e-3)


def test_a_model_that_is_extended_and_fitted_leaves_the_first_as_it_was(table):
    ids, y, _ = table
    first = fitted(ids[:, :1], y, True, 1.0)
    eta, weights = first.eta.copy(), first.weights[0].copy()
    for column in (ids[:, 1], ids[:, 2]):  # two candidates that start from the same model
        second = first.extended(column, 7).fit()
        assert not np.allclose(second.eta, eta)
        assert (first.eta == eta).all() and (first.weights[0] == weights).all()
        assert len(first.fields) == len(first.penalties) == 1


def test_rows_held_out_do_not_move_the_weights(table):
    ids, y, _ = table
    a = fitted(ids, y, True, 1.0, n_train=2000)
    b = fitted(ids, np.concatenate([y[:2000], 1 - y[2000:]]), True, 1.0, n_train=2000)
    assert all((v == w).all() for v, w in zip(a.weights, b.weights, strict=True))
    assert_allclose(b.eta[2000:], a.eta[2000:])
    assert (fitted(ids, y, True, 1.0).weights[0] != a.weights[0]).any()


@pytest.mark.parametrize("variance", [0.1, 1.0])
@pytest.mark.parametrize("zipf", [0.0, 1.0])
def test_the_penalty_is_one_over_the_variance_of_the_weights(variance, zipf):
    rng = np.random.default_rng(1)
    n, k = 60_000, 1000
    shares = 1 / np.arange(1, k + 1) ** zipf
    ids = rng.choice(k, size=n, p=shares / shares.sum())
    y = (rng.random(n) < expit(rng.normal(0, np.sqrt(variance), k)[ids])).astype(float)
    model = AdditiveModel(y, n, True).extended(ids, k).fit()
    assert 0.7 * variance < 1 / model.penalties[0] < 1.3 * variance
    assert_allclose(model.spreads(), np.sqrt(1 / model.penalties[0]))
    noise = AdditiveModel(rng.permutation(y), n, True).extended(ids, k).fit()
    assert 1 / noise.penalties[0] < 0.01


def test_the_penalty_is_the_most_likely_one():
    rng = np.random.default_rng(0)
    h = rng.lognormal(2, 2, size=300)
    g = rng.normal(0, np.sqrt(h + 0.3 * h**2))
    grid = np.geomspace(0.01, 10, 2000)
    likelihood = [-np.log(h + v * h**2).sum() / 2 - (g**2 / (h + v * h**2)).sum() / 2 for v in grid]
    assert_allclose(1 / penalty(g, h, "auto"), grid[np.argmax(likelihood)], rtol=0.05)
    assert penalty(np.zeros(5), np.ones(5), "auto") == np.inf and penalty(g, h, 3.0) == 3.0
    assert penalty(np.zeros(5), np.zeros(5), "auto") == np.inf


@pytest.mark.parametrize("logistic", [True, False])
def test_spreads_as_scales_lead_linear_models_to_the_same_weights(table, logistic):
    ids, clicks, numbers = table
    y = clicks if logistic else (numbers - numbers.mean()) / numbers.std()
    model = fitted(ids, y, logistic, "auto", tol=1e-12, max_sweeps=400)
    scaled = OneHotEncoder().fit_transform(ids) @ np.diag(np.repeat(model.spreads(), [5, 7, 3]))
    if logistic:
        reference = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit(scaled, y)
        assert_allclose(reference.decision_function(scaled), model.eta, atol=1e-3)
    else:
        assert_allclose(Ridge(alpha=1).fit(scaled, y).predict(scaled), model.eta, atol=1e-3)


def test_losses_and_placements_are_those_of_sklearn(table):
    ids, y, _ = table
    eta = np.linspace(-30, 30, len(y)).round()  # ties, and logits at which a plain formula fails
    assert_allclose(
        row_loss(y, eta, True).mean(), log_loss(y, expit(np.clip(eta, -30, 30))), rtol=1e-5
    )
    places = placements(y, eta)
    for value in (0, 1):
        assert_allclose(places[y == value].mean(), roc_auc_score(y, eta))


def test_rare_hits_do_not_overshoot():
    # One Newton step from p = 0.001 would go to w = 333.
    y = np.zeros(3000)
    y[:3] = 1
    ids = np.repeat([0, 1], [3, 2997])
    weights = fit_field(ids, 2, y, np.full(3000, np.log(0.001 / 0.999)), True, l2=1e-3, n_steps=20)
    assert 6 < weights[0] < 20 and abs(weights[1]) < 10


def test_the_sigmoid_is_that_of_scipy_at_all_sizes():
    eta = np.concatenate([np.linspace(-40, 40, 401), [-1e4, -800.0, 800.0, 1e4]])
    assert_allclose(sigmoid(eta), expit(eta), rtol=1e-14, atol=1e-300)
