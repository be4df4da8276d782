"""Estimators of several members: training, prediction, deviation between members, files."""

import copy
import pickle

import numpy as np
import pytest
import torch
from members_cases import OPTIONS, few, fitted_members, small_clicks
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors, TrainingBatches
from sklearn_autorec.estimators import _memory
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.nn import Members

clicks = pytest.fixture(small_clicks, scope="module")
model = pytest.fixture(fitted_members, scope="module")


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "4", None])
def test_what_is_no_number_of_members_is_refused(clicks, wrong):
    with pytest.raises(InvalidParameterError, match="members"):
        few(members=wrong).fit(*clicks)


def test_one_member_is_the_network_itself(clicks):
    single = few(members=1).fit(*clicks)
    assert not isinstance(single.net_.module_, Members)
    np.testing.assert_array_equal(
        CTRClassifier(**OPTIONS).fit(*clicks).predict_proba(clicks[0]),
        single.predict_proba(clicks[0]),
    )


def test_the_prediction_is_the_mean_and_the_deviation_is_between_members(clicks, model):
    X, _ = clicks
    p, std = model.predict_proba(X, return_std=True)
    logits = model._member_logits(X)
    assert (
        logits.shape == (3, len(X), 1)
        and p.shape == std.shape == (len(X), 2)
        and p.dtype == std.dtype == np.float64
    )
    np.testing.assert_allclose(p[:, 1], expit(logits.mean(0)[:, 0]), atol=1e-6)
    np.testing.assert_allclose(p, model.predict_proba(X), atol=1e-6)
    np.testing.assert_allclose(std, np.stack([expit(logits[..., 0]).std(0)] * 2, 1))
    np.testing.assert_allclose(model.decision_function(X), logits.mean(0)[:, 0], atol=1e-6)
    assert (std > 0).all()


def test_members_disagree_less_the_more_rows_they_have_seen():
    X, y, _ = make_ctr(5000, n_fields=4, cardinality=8, pairs=1, random_state=0)
    options = {"members": 4, "max_epochs": 8, "batch_size": 64, "early_stopping": False}
    few_rows, many = (few(**options).fit(X[:n], y[:n]) for n in (150, 4000))
    std = [m.predict_proba(X[4000:], return_std=True)[1][:, 1].mean() for m in (few_rows, many)]
    assert std[0] > 1.5 * std[1]


@pytest.mark.parametrize("estimator", [CTRClassifier, RatingRegressor])
def test_one_member_has_no_deviation(clicks, estimator):
    X, y = clicks
    single = estimator(**OPTIONS).fit(X, y)
    predict = single.predict_proba if estimator is CTRClassifier else single.predict
    with pytest.raises(ValueError, match=r"return_std=True.*members=1"):
        predict(X, return_std=True)


def test_ratings(clicks):
    X, _ = clicks
    _, y, _ = make_ctr(600, n_fields=4, cardinality=8, task="rating", random_state=0)
    model = RatingRegressor(**OPTIONS, members=3).fit(X, y)
    rating, std = model.predict(X, return_std=True)
    members = model._member_logits(X)[..., 0] * model.y_scale_ + model.y_mean_
    np.testing.assert_allclose(rating, model.predict(X), atol=1e-5)
    np.testing.assert_allclose(std, members.std(0))


def test_several_classes(clicks):
    X, y = clicks
    y = np.array(["a", "b", "c"])[y + (X["f0"] == X["f0"].mode()[0])]
    model = few().fit(X, y)
    p, std = model.predict_proba(X, return_std=True)
    logits = model._member_logits(X)
    assert logits.shape == (3, len(X), 3) and p.shape == std.shape == (len(X), 3)
    np.testing.assert_allclose(p, softmax(logits.mean(0), 1), atol=1e-6)
    np.testing.assert_allclose(std, softmax(logits, -1).std(0))


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_a_single_class_is_certain(clicks):
    X, y = clicks
    p, std = few().fit(X, np.zeros_like(y)).predict_proba(X[:5], return_std=True)
    assert (p == 1).all() and (std == 0).all() and std.shape == (5, 1)


def test_validation_watches_the_mean_and_records_a_member(clicks):
    X, y = clicks
    model = few(early_stopping=True, max_epochs=1, embedding_l2=0.0, id_dropout=0.0).fit(
        X, y, X_val=X, y_val=y
    )
    (record,) = model.history_
    assert record["valid_loss"] == pytest.approx(log_loss(y, model.predict_proba(X)), rel=1e-5)
    each = [log_loss(y, expit(z[:, 0])) for z in model._member_logits(X)]
    assert record["valid_loss"] < np.mean(each)
    # The training loss is that of one member, to be compared with the other figures.
    assert record["train_loss"] == pytest.approx(np.mean(each), rel=0.5)


def test_members_are_better_together(clicks):
    X, y, _ = make_ctr(6000, n_fields=6, cardinality=20, pairs=3, random_state=3)
    model = few(members=4, max_epochs=6).fit(X[:3000], y[:3000])
    logits = model._member_logits(X[3000:])
    each = [log_loss(y[3000:], expit(z[:, 0])) for z in logits]
    assert log_loss(y[3000:], model.predict_proba(X[3000:])) < min(each)
    correlation = np.corrcoef(logits[..., 0])
    assert (correlation[np.triu_indices(4, 1)] < 0.99).all()


def test_seeds_copies_and_batches(clicks, model):
    X, y = clicks
    p = model.predict_proba(X)
    np.testing.assert_array_equal(few().fit(X, y).predict_proba(X), p)
    assert (few(random_state=1).fit(X, y).predict_proba(X) != p).any()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(
            other.predict_proba(X, return_std=True), model.predict_proba(X, return_std=True)
        )
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(model.predict_proba(X.iloc[order]), p[order])
    for i in (0, 7, len(X) - 1):
        np.testing.assert_array_equal(model.predict_proba(X.iloc[[i]]), p[[i]])
    assert clone(model).members == 3


def test_sizes_count_every_member(clicks, model):
    single = few(members=1).fit(*clicks)
    assert model.n_parameters_ == 3 * single.n_parameters_
    counters = 2 * 8  # batch norm counts its batches once
    assert model.nbytes_["embedding"] == 3 * single.nbytes_["embedding"]
    assert (
        model.nbytes_["total"] + counters
        >= 3 * single.nbytes_["total"]
        > model.nbytes_["total"] - counters
    )
    assert model.compression_ratio_ == single.compression_ratio_ == 1


def test_memory_is_asked_for_all_members(clicks, monkeypatch):
    X, y = clicks
    rows = few(members=1).fit(X, y).nbytes_["embedding"] / 4 / 4
    monkeypatch.setattr(_memory, "available_memory", lambda: 2 * 5 * 4 * rows * (4 + 1))
    few(members=1).fit(X, y)
    with pytest.raises(ValueError, match=r"embedding_dim=4 and members=3 need.*or members\."):
        few().fit(X, y)


def test_training_goes_on(clicks):
    X, y = clicks
    start = few().partial_fit(X, y, classes=[0, 1])
    assert start.net_.module_.members == 3 and start.n_iter_ == 1
    further = pickle.loads(pickle.dumps(start)).partial_fit(X, y)
    np.testing.assert_array_equal(
        further.predict_proba(X), copy.deepcopy(start).partial_fit(X, y).predict_proba(X)
    )
    assert log_loss(y, further.predict_proba(X)) < log_loss(y, start.predict_proba(X))
    later = copy.deepcopy(start).set_params(network__dropout=0.7).partial_fit(X, y)
    assert (later.predict_proba(X) != further.predict_proba(X)).any()

    warm = few(warm_start=True, max_epochs=1).fit(X, y)
    assert warm.set_params(max_epochs=3, members=1).fit(X, y).n_iter_ == 3
    assert warm.net_.module_.members == 3  # the network stays what it is, and says so
    warm.predict_proba(X, return_std=True)


@pytest.mark.parametrize(
    "options",
    [
        {"averaging": 0.9, "lr_schedule": "cosine", "embedding_l2": 0.01, "weight_decay": 1e-4},
        {"batch_size": 4, "network": "lr"},
        {"id_dropout": 0.5, "class_weight": "balanced", "monitor": "auc", "early_stopping": True},
        {"network": DeepFM((8,), n_cross_layers=2, cross_rank=3)},
    ],
    ids=str,
)
def test_other_parameters(clicks, options):
    X, y = clicks
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    model = few(**options).fit(X, y, sample_weight=weight)
    assert np.isfinite(model.predict_proba(X, return_std=True)).all()
    assert roc_auc_score(y, model.decision_function(X)) > 0.5


def test_every_member_meets_all_rows_in_an_order_of_its_own():
    rows = torch.arange(100, dtype=torch.int32).unsqueeze(1) + 2
    data = EncodedTensors(
        rows, torch.zeros(100, 0), torch.zeros(100, 0, dtype=torch.int32), rows[:, 0].float()
    )
    batches = TrainingBatches(data, 32, members=3, seed=1)
    assert [len(batch) for batch in batches] == [96, 96, 96, 12] and len(batches) == 4
    orders = torch.cat([batch.y.view(3, -1) for batch in batches], 1)
    assert torch.equal(orders.sort(1).values, (torch.arange(100.0) + 2).expand(3, -1))
    assert all((orders[i] == orders[j]).float().mean() < 0.1 for i, j in ((0, 1), (0, 2), (1, 2)))
    forgotten = (
        next(iter(TrainingBatches(data, 100, members=3, seed=1, id_dropout=0.5))).ids.view(3, 100)
        == 1
    )
    assert 0.25 < forgotten.float().mean() < 0.55 and not torch.equal(forgotten[0], forgotten[1])


def test_weights_of_rows_count(clicks):
    X, y = clicks
    heavy = few().fit(X, y, sample_weight=np.where(y == 1, 5.0, 1.0)).predict_proba(X)[:, 1].mean()
    assert heavy > few().fit(X, y).predict_proba(X)[:, 1].mean() + 0.1
