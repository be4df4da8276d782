"""Rows of which only a share of the negatives was kept: predictions are those of all rows."""

import json
import pickle
from functools import partial

import numpy as np
import pytest
from save_refusals_cases import forged
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import CTRProblem, make_ctr
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.metrics import calibration_by_group, calibration_ratio
from sklearn_autorec.serving import load, save
from sklearn_autorec.serving._container import unpack

RATE = 0.1
OPTIONS = {"network": "fm", "embedding_dim": 4, "max_epochs": 2, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def sampled():
    """Rows of which a tenth of the negatives was kept, and a model of them that knows it."""
    X, y, _ = make_ctr(4000, n_fields=4, pairs=1, base_rate=0.1, random_state=0)
    kept = (y == 1) | (np.random.default_rng(0).random(len(y)) < RATE)
    X, y = X[kept].reset_index(drop=True), y[kept]
    return X, y, CTRClassifier(negative_sampling_rate=RATE, **OPTIONS).fit(X, y)


@pytest.mark.parametrize("network", ["lr", "fm"])
def test_probabilities_are_those_of_all_rows(network):
    problem = CTRProblem(n_fields=4, informative_fields=2, pairs=1, base_rate=0.05, random_state=1)
    X, y, _ = problem.sample(12_000, 0)
    X_test, y_test, _ = problem.sample(8_000, 1)
    kept = (y == 1) | (np.random.default_rng(0).random(len(y)) < RATE)
    X, y = X[kept].reset_index(drop=True), y[kept]
    options = {**OPTIONS, "network": network, "max_epochs": 4, "lr": 0.01}
    found = {}
    for rate in (RATE, None):
        model = CTRClassifier(negative_sampling_rate=rate, **options).fit(X, y)
        found[rate] = model.predict_proba(X_test)[:, 1]
    assert calibration_ratio(y_test, found[RATE]) == pytest.approx(1, abs=0.2)
    assert calibration_ratio(y_test, found[None]) > 3
    # Also within the values of a column, not only in the mean.
    groups = X_test["f0"].where(X_test["f0"].isin(X_test["f0"].value_counts().index[:3]), "other")
    for rate, good in ((RATE, True), (None, False)):
        ratios = calibration_by_group(y_test, found[rate], groups=groups)["ratio"]
        assert (np.abs(np.log(ratios)) < 0.6).all() == good
    assert roc_auc_score(y_test, found[RATE]) == pytest.approx(roc_auc_score(y_test, found[None]))


@pytest.mark.parametrize("members", [1, 2])
def test_the_correction_is_that_of_the_formula(sampled, members):
    X, y, _ = sampled
    plain, corrected = (
        CTRClassifier(negative_sampling_rate=rate, members=members, **OPTIONS).fit(X, y)
        for rate in (None, RATE)
    )
    p = plain.predict_proba(X)[:, 1]
    np.testing.assert_allclose(
        corrected.predict_proba(X)[:, 1], p / (p + (1 - p) / RATE), rtol=1e-12
    )
    np.testing.assert_array_equal(
        corrected.decision_function(X), plain.decision_function(X) + np.log(RATE)
    )
    assert corrected.predict(X).mean() < plain.predict(X).mean()
    assert np.array_equal(corrected.predict(X), corrected.predict_proba(X).argmax(1))
    assert corrected.history_ == plain.history_
    assert plain.negative_sampling_rate_ == 1 and corrected.negative_sampling_rate_ == RATE
    if members > 1:
        q = plain.predict_proba(X, return_std=True)[1][:, 1]
        mean, std = corrected.predict_proba(X, return_std=True)
        np.testing.assert_array_equal(mean, corrected.predict_proba(X))
        slope = RATE / (p * RATE + 1 - p) ** 2  # of the formula, for small differences
        assert np.median(std[:, 1] / (q * slope)) == pytest.approx(1, abs=0.1)


def test_a_rate_of_one_changes_no_bit(sampled):
    X, y, _ = sampled
    found = [
        CTRClassifier(negative_sampling_rate=rate, **OPTIONS).fit(X, y).predict_proba(X)
        for rate in (None, 1.0)
    ]
    np.testing.assert_array_equal(*found)


def test_what_was_fitted_stays_whatever_the_parameter_becomes(sampled):
    X, _, model = sampled
    other = pickle.loads(pickle.dumps(model))
    expected = model.predict_proba(X)
    other.set_params(negative_sampling_rate=None)
    np.testing.assert_array_equal(other.predict_proba(X), expected)
    assert clone(model).negative_sampling_rate == RATE


def test_model_files_have_the_rate(sampled, tmp_path):
    X, _, model = sampled
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    assert loaded.negative_sampling_rate_ == RATE
    data = (tmp_path / "model").read_bytes()
    for bad in (0.0, 1.5, True, None, "0.1"):
        change = partial(set_rate, bad)
        (tmp_path / "bad").write_bytes(forged(data, change))
        with pytest.raises(ModelFileError):
            load(tmp_path / "bad")


def set_rate(rate, model, arrays):
    model["state"]["negative_rate"] = rate


def test_models_of_all_rows_have_files_as_before(sampled, tmp_path):
    X, y, _ = sampled
    save(CTRClassifier(**OPTIONS).fit(X, y), tmp_path / "model")
    assert "negative_rate" not in json.dumps(unpack((tmp_path / "model").read_bytes())[0])
    assert load(tmp_path / "model").negative_sampling_rate_ == 1


def test_graphs_have_the_rate(sampled, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    from sklearn_autorec.serving import onnx_inputs, to_onnx

    X, _, model = sampled
    to_onnx(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = onnx_inputs(tmp_path / "model.onnx.vocab.json", X.to_dict("records"))
    found = session.run(None, inputs)[0]
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-6)


def test_training_that_goes_on_needs_rows_sampled_alike(sampled):
    X, y, _ = sampled
    model = CTRClassifier(negative_sampling_rate=RATE, warm_start=True, **OPTIONS).fit(X, y)
    model.set_params(max_epochs=3).fit(X, y)
    assert model.negative_sampling_rate_ == RATE
    model.partial_fit(X[:200], y[:200])
    assert model.negative_sampling_rate_ == RATE
    expected = model.predict_proba(X)
    for rate in (0.5, None):
        model.set_params(negative_sampling_rate=rate)
        for go_on in (model.fit, model.partial_fit):
            with pytest.raises(ValueError, match=rf"negative_sampling_rate={rate}.*before, 0.1"):
                go_on(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    stream = CTRClassifier(negative_sampling_rate=RATE, **OPTIONS)
    stream.partial_fit(X, y, classes=[0, 1])
    assert stream.negative_sampling_rate_ == RATE


@pytest.mark.parametrize("rate", [0, 1.5, -0.1, "auto"])
def test_what_is_no_rate_is_refused(sampled, rate):
    X, y, _ = sampled
    with pytest.raises(ValueError, match="negative_sampling_rate"):
        CTRClassifier(negative_sampling_rate=rate, **OPTIONS).fit(X, y)


def test_two_classes_are_needed(sampled):
    X, y, _ = sampled
    with pytest.raises(ValueError, match="negative_sampling_rate=0.1 needs two classes, y has 3"):
        CTRClassifier(negative_sampling_rate=RATE, **OPTIONS).fit(X, np.arange(len(y)) % 3)
    assert "negative_sampling_rate" not in RatingRegressor().get_params()
