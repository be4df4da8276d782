"""The two estimators as a user meets them."""

import random

import numpy as np
import pandas as pd
import pytest
import torch
from estimators_cases import clicks_of_five, quick
from processes import printed_here_and_afresh
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import MLPNetwork
from sklearn_autorec.preprocessing import FieldEncoder


@pytest.fixture(scope="module")
def clicks():
    return clicks_of_five()


# what it learns
# --------------------------------------------------------------------------------------------


def test_comes_near_the_bayes_error_and_a_shuffled_control_does_not():
    X, y, truth = make_ctr(
        20_000, n_fields=5, cardinality=8, pairs=2, informative_fields=2, random_state=1
    )
    half = slice(0, 15_000)
    rest = slice(15_000, None)
    model = quick(network="fm", max_epochs=6, batch_size=128).fit(X[half], y[half])
    p = model.predict_proba(X[rest])[:, 1]
    assert roc_auc_score(y[rest], p) > roc_auc_score(y[rest], truth.probabilities[rest]) - 0.03
    control = quick(network="fm", max_epochs=2).fit(
        X[half], np.random.default_rng(0).permutation(y[half])
    )
    assert abs(roc_auc_score(y[rest], control.predict_proba(X[rest])[:, 1]) - 0.5) < 0.1


@pytest.mark.parametrize("labels", [["no", "yes"], [-1, 1], [False, True], [0.0, 1.0]])
def test_labels_of_any_kind(clicks, labels):
    X, y, _ = clicks
    y = np.array(labels)[y]
    model = quick().fit(X, y)
    assert model.classes_.tolist() == labels and model.predict(X).dtype == y.dtype
    p, d = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(p[:, 1], 1 / (1 + np.exp(-d)))
    assert ((p[:, 1] > 0.5) == (model.predict(X) == labels[1])).all()


def test_many_classes():
    four = {"task": "multiclass", "n_classes": 4, "pair_effect": 3.0}
    X, y, truth = make_ctr(4000, n_fields=4, cardinality=6, pairs=1, random_state=0, **four)
    model = quick(max_epochs=6).fit(X, np.array(list("abcd"))[y])
    p = model.predict_proba(X)
    assert p.shape == (4000, 4) and model.decision_function(X).shape == (4000, 4)
    np.testing.assert_allclose(p.sum(1), 1)
    assert log_loss(y, p) < np.log(4) - 0.25
    with pytest.raises(ValueError, match="monitor='auc' needs two classes, y has 4"):
        quick(monitor="auc").fit(X, y)


def test_ratings_in_their_own_units():
    X, y, truth = make_ctr(
        6000, n_fields=4, cardinality=6, pairs=1, pair_effect=1.0, task="rating", random_state=0
    )
    for shift, scale in ((0, 1), (1000, 50)):
        model = RatingRegressor(network="fm", lr=0.01, max_epochs=6, random_state=0).fit(
            X, y * scale + shift
        )
        assert model.score(X, y * scale + shift) > 0.35  # half of the variance is noise
        assert model.predict(X).mean() == pytest.approx(3 * scale + shift, rel=0.1)


def test_class_weight_shifts_the_mean_prediction(clicks):
    X, y, _ = clicks
    plain, balanced = (
        quick(network="lr", class_weight=w, max_epochs=5).fit(X, y).predict_proba(X)[:, 1].mean()
        for w in (None, "balanced")
    )
    assert plain == pytest.approx(y.mean(), abs=0.05) and balanced == pytest.approx(0.5, abs=0.05)


FULL_BATCH = {
    "network": MLPNetwork((8,), dropout=0.0, batch_norm=False),
    "batch_size": 10**6,
    "id_dropout": 0.0,
    "max_epochs": 30,
}


def weighted_case():
    X, y, _ = make_ctr(200, n_fields=3, cardinality=4, pairs=1, random_state=0)
    return X, y, np.random.default_rng(0).integers(0, 4, 200)


# weights
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [CTRClassifier, RatingRegressor])
def test_weights_equal_repetition_in_full_batches(kind):
    X, y, w = weighted_case()
    options = {**FULL_BATCH, "lr": 0.01, "random_state": 0}
    rows = np.repeat(np.arange(200), w)
    a = kind(**options).fit(X, y, sample_weight=w)
    b = kind(**options).fit(X.iloc[rows], y[rows])
    method = "predict_proba" if kind is CTRClassifier else "predict"
    weighted, repeated = getattr(a, method)(X), getattr(b, method)(X)
    np.testing.assert_allclose(weighted, repeated, atol=1e-5)
    assert np.abs(weighted - getattr(kind(**options).fit(X, y), method)(X)).max() > 1e-3


def test_unit_weights_are_no_weights_and_zeros_are_left_out(clicks):
    X, y, _ = clicks
    plain = quick().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(
        quick().fit(X, y, sample_weight=np.ones(len(y))).predict_proba(X), plain
    )
    w = (np.arange(len(y)) < 2000).astype(float)
    encoder = FrozenEstimator(FieldEncoder().fit(X))
    dropped = quick(encoder=encoder).fit(X[:2000], y[:2000]).predict_proba(X)
    np.testing.assert_array_equal(
        quick(encoder=encoder).fit(X, y, sample_weight=w).predict_proba(X), dropped
    )


@pytest.mark.parametrize(
    "weight, message",
    [(-1.0, "[Nn]egative"), (np.nan, "NaN"), (0.0, "positive value|all zeros|zero")],
)
def test_bad_weights_are_refused(clicks, weight, message):
    X, y, _ = clicks
    with pytest.raises(ValueError, match=message):
        quick().fit(X, y, sample_weight=np.full(len(y), weight))
    with pytest.raises(ValueError, match="shape"):
        quick().fit(X, y, sample_weight=np.ones(3))


# reproducibility
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("search", [None, AutoFIS()])
def test_one_seed_gives_the_same_bits(clicks, search):
    X, y, _ = clicks
    a, b, other = (quick(search=search, random_state=s).fit(X, y) for s in (3, 3, 4))
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    assert a.architecture_ == b.architecture_
    assert not np.array_equal(a.predict_proba(X), other.predict_proba(X))


def test_the_same_bits_in_fresh_processes():
    code = (
        "import hashlib; from sklearn_autorec import CTRClassifier; from sklearn_autorec.datasets "
        "import make_ctr\n"
        "from sklearn_autorec.interaction import AutoFIS\n"
        "X, y, _ = make_ctr(800, n_fields=4, pairs=1, random_state=0)\n"
        "m = CTRClassifier(network='fm', search=AutoFIS(), max_epochs=1, random_state=0, "
        "device='cpu').fit(X, y)\n"
        "print(hashlib.sha256(m.predict_proba(X).tobytes()).hexdigest())"
    )
    here, afresh = printed_here_and_afresh(code)
    assert here == afresh != ""


def test_global_generators_and_the_data_are_left_alone(clicks):
    X, y, _ = clicks
    # What must not change.
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    before = torch.random.get_rng_state(), state, random.getstate()
    copy_X, copy_y = X.copy(deep=True), y.copy()
    quick(search=AutoFIS()).fit(X, y).predict_proba(X)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
    pd.testing.assert_frame_equal(X, copy_X)
    np.testing.assert_array_equal(y, copy_y)


def test_prediction_does_not_depend_on_order_or_batch(clicks):
    X, y, _ = clicks
    model = quick().fit(X, y)
    p = model.predict_proba(X)
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(model.predict_proba(X.iloc[order]), p[order])
    for i in (0, 7, 2999):
        np.testing.assert_array_equal(model.predict_proba(X.iloc[[i]]), p[[i]])
