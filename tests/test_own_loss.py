"""A loss and a monitor of the user's own: given, refused, filed, cloned."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from estimators_cases import clicks_of_five, quick
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    get_scorer,
    log_loss,
    make_scorer,
    mean_absolute_error,
    roc_auc_score,
)
from sklearn.model_selection import GridSearchCV
from torch.nn import functional as F

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoEmb
from sklearn_autorec.feature_selection import SensitivitySelector
from sklearn_autorec.interaction import AutoFIS, InteractionGain
from sklearn_autorec.losses import AutoLoss
from sklearn_autorec.networks import DCNv3
from sklearn_autorec.serving import load, save

RATINGS = {"network": "fm", "embedding_dim": 4, "lr": 0.02, "max_epochs": 2, "random_state": 0}


def log_loss_of_rows(predicted, target):
    return F.binary_cross_entropy_with_logits(predicted, target, reduction="none")


def pinball(predicted, target, level=0.9):
    return torch.maximum(level * (target - predicted), (level - 1) * (target - predicted))


class WeightedClasses(torch.nn.Module):
    """A loss with a state that does not move."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, predicted, target):
        return F.cross_entropy(predicted, target, reduction="none") * self.weights[target]


@pytest.fixture(scope="module")
def clicks():
    X, y, truth = clicks_of_five()
    return X[:1600], y[:1600], truth


@pytest.fixture(scope="module")
def ratings():
    X, y, _ = make_ctr(2000, n_fields=3, cardinality=6, pairs=1, task="rating", random_state=0)
    return X, 100 + 20 * y


# what it is given, and what it does
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"members": 2}, {"search": AutoFIS()}])
def test_the_log_loss_as_ones_own_gives_the_same_bits(clicks, options):
    X, y, _ = clicks
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    plain = quick(**options).fit(X, y, weight)
    own = quick(loss=log_loss_of_rows, **options).fit(X, y, weight)
    np.testing.assert_array_equal(own.predict_proba(X), plain.predict_proba(X))
    assert own.history_ == plain.history_


def test_the_squared_error_of_ratings_comes_in_their_units(ratings):
    X, y = ratings
    seen = []

    def squared(predicted, target):
        seen.append((predicted.detach().numpy(), target.numpy()))
        return (predicted - target).square()

    plain = RatingRegressor(**RATINGS).fit(X, y)
    own = RatingRegressor(**RATINGS, loss=squared).fit(X, y)
    targets = np.concatenate([target for _, target in seen[: -(-len(y) // len(seen[0][1]))]])
    np.testing.assert_allclose(np.sort(targets), np.sort(y), rtol=1e-5)
    assert own.history_[0]["train_loss"] == pytest.approx(
        plain.history_[0]["train_loss"] * plain.y_scale_**2, rel=0.01
    )
    # Adam does not see the factor.
    np.testing.assert_allclose(own.predict(X), plain.predict(X), rtol=1e-3)


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_a_quantile_is_learned(ratings, level):
    X, y = ratings
    model = RatingRegressor(**{**RATINGS, "max_epochs": 12}, loss=partial(pinball, level=level))
    below = np.mean(y <= model.fit(X, y).predict(X))
    assert abs(below - level) < 0.06


def test_several_classes_have_a_column_of_logits_each():
    X, y, _ = make_ctr(1500, n_fields=3, cardinality=5, pairs=1, random_state=0)
    y = np.asarray(y) + 2 * (np.arange(len(y)) % 2)
    options = {"network": "fm", "lr": 0.02, "max_epochs": 3, "random_state": 0}
    weights = [1.0, 1.0, 8.0, 1.0]
    own = CTRClassifier(**options, loss=WeightedClasses(weights)).fit(X, y)
    told = CTRClassifier(**options, class_weight=dict(enumerate(weights))).fit(X, y)
    plain = CTRClassifier(**options).fit(X, y)
    share = [np.mean(model.predict(X) == 2) for model in (plain, own, told)]
    assert share[1] > share[0] + 0.1 and share[2] > share[0] + 0.1
    assert own.loss.weights.tolist() == weights and not any(own.loss.parameters())


def test_weights_of_rows_act(clicks):
    X, y, _ = clicks
    weight = np.where(y == 1, 5.0, 1.0)
    means = [
        quick(loss=log_loss_of_rows).fit(X, y, w).predict_proba(X)[:, 1].mean()
        for w in (None, weight)
    ]
    assert means[1] > means[0] + 0.1


def test_it_judges_held_out_rows(clicks):
    X, y, _ = clicks

    def ten_times(predicted, target):
        return 10 * log_loss_of_rows(predicted, target)

    options = {"early_stopping": True, "embedding_l2": 0.0}
    plain = quick(**options).fit(X, y).history_
    own = quick(**options, loss=ten_times).fit(X, y).history_
    for a, b in zip(plain, own, strict=True):
        assert b["valid_loss"] == pytest.approx(10 * a["valid_loss"], rel=1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"search": PEP(), "search_epochs": 1},
        {"network": "auto", "embedding_dim": 4},
        {"network": DCNv3()},
        {"quantization_aware": True, "storage": "int8"},
    ],
    ids=["PEP", "auto", "DCNv3", "int8"],
)
def test_it_goes_with_searches_networks_and_parts_beside_them(clicks, options):
    X, y, _ = clicks
    focal = quick(**{"max_epochs": 1, **options}, loss=_focal).fit(X, y)
    assert roc_auc_score(y, focal.predict_proba(X)[:, 1]) > 0.6


def test_interaction_gain_sees_ratings_behind_a_loss_of_ones_own(ratings):
    X, y = ratings
    search = InteractionGain(n_interactions=1)
    found = [
        RatingRegressor(**{**RATINGS, "max_epochs": 1}, search=search, loss=loss).fit(X, y)
        for loss in (None, pinball)
    ]
    assert found[0].interaction_scores_ == found[1].interaction_scores_


def test_training_that_goes_on_has_it_too(clicks):
    X, y, _ = clicks
    whole = quick(loss=_focal, max_epochs=2, warm_start=True, id_dropout=0.0).fit(X, y)
    parts = quick(loss=_focal, max_epochs=1, warm_start=True, id_dropout=0.0).fit(X, y)
    plain = pickle.loads(pickle.dumps(parts)).set_params(loss=None, max_epochs=2).fit(X, y)
    parts.set_params(max_epochs=2).fit(X, y)
    assert parts.history_[-1]["train_loss"] == pytest.approx(
        whole.history_[-1]["train_loss"], rel=0.05
    )
    assert plain.history_[-1]["train_loss"] > 1.5 * parts.history_[-1]["train_loss"]
    chunk = quick(loss=_focal).partial_fit(X, y, classes=[0, 1]).partial_fit(X, y)
    assert chunk.history_[-1]["train_loss"] < 0.5 * plain.history_[-1]["train_loss"]


def _focal(predicted, target):
    loss = log_loss_of_rows(predicted, target)
    return (1 - torch.exp(-loss)) ** 2 * loss


def test_streams_with_a_search_and_sensitivities_go_by_it(clicks):
    X, y, _ = clicks

    def hundredfold(predicted, target):
        return 100 * log_loss_of_rows(predicted, target)

    losses = []
    for loss in (None, hundredfold):
        model = quick(loss=loss, search=AutoEmb(), embedding_dim=8)
        model.partial_fit(X[:500], y[:500], classes=[0, 1]).partial_fit(X[500:600], y[500:600])
        losses.append(model.history_[-1]["prequential_loss"])
    assert losses[1] == pytest.approx(100 * losses[0], rel=0.1)
    model = FrozenEstimator(quick(max_epochs=1).fit(X, y))
    select = SensitivitySelector(model, n_features_to_select=2, cv=2, random_state=0)
    plain = select.fit(X, y).scores_
    model.estimator.set_params(loss=hundredfold)
    np.testing.assert_allclose(select.fit(X, y).scores_, 100 * plain, rtol=1e-3)


# what is refused
# -------------------------------------------------------------------------------------------------

BAD = {
    "mean": (
        lambda p, t: log_loss_of_rows(p, t).mean(),
        r"shape \(64,\), got one of the shape \(\)",
    ),
    "square": (lambda p, t: p[:, None] - t, r"got one of the shape \(64, 64\)"),
    "number": (lambda p, t: 3.0, r"got 3\.0"),
    "NaN": (lambda p, t: p / (t - t), "finite losses, got .* for 64 of the 64 rows"),
    "detached": (lambda p, t: (p.detach() - t) ** 2, "differentiate .* without a gradient"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_wrong_loss_is_named_at_the_first_batch(clicks, kind):
    X, y, _ = clicks
    function, told = BAD[kind]
    calls = []

    def loss(predicted, target):
        calls.append(1)
        return function(predicted, target)

    model = quick(loss=loss, batch_size=64)
    with pytest.raises(ValueError, match=f"loss=.*loss.* must return .*{told}"):
        model.fit(X, y)
    assert len(calls) == 1 and not hasattr(model, "net_")


def test_losses_that_become_nan_later_end_the_training_as_others_do(clicks):
    X, y, _ = clicks
    calls = []

    def loss(predicted, target):
        calls.append(1)
        return log_loss_of_rows(predicted, target) / (len(calls) < 60)

    with pytest.warns(match="The weights of epoch 1 are kept"):
        assert quick(loss=loss).fit(X, y).n_iter_ == 1


def test_a_loss_that_learns_and_one_beside_a_searched_one_are_refused(clicks):
    X, y, _ = clicks
    with pytest.raises(ValueError, match="loss=.*PReLU.* has parameters that are trained"):
        quick(loss=torch.nn.PReLU()).fit(X, y)
    with pytest.raises(ValueError, match="loss=.*and search=AutoLoss.* both say what trains"):
        quick(loss=_focal, search=AutoLoss()).fit(X, y)
    with pytest.raises(ValueError, match="'loss' parameter of CTRClassifier must be"):
        quick(loss="focal").fit(X, y)


# files, clones and searches
# -------------------------------------------------------------------------------------------------


def test_pickles_keep_it_and_files_leave_it_out_with_a_warning(clicks, tmp_path):
    X, y, _ = clicks
    model = quick(loss=_focal, monitor=get_scorer("roc_auc")).fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    assert again.loss is _focal
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    # Beside the parameter nothing of the model holds the function.
    model.set_params(loss=None)
    assert b"_focal" not in pickle.dumps(model)
    model.set_params(loss=_focal)
    with pytest.warns(UserWarning, match="loss=.*_focal.*, monitor=.* is code, which model files"):
        save(model, tmp_path / "clicks.model")
    assert b"_focal" not in (tmp_path / "clicks.model").read_bytes()
    loaded = load(tmp_path / "clicks.model")
    assert loaded.loss is None and loaded.monitor == "loss"
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_a_lambda_fits_and_clones_and_is_saved_to_files_but_not_pickled(clicks, tmp_path):
    X, y, _ = clicks
    model = quick(loss=lambda p, t: log_loss_of_rows(p, t)).fit(X, y)
    assert clone(model).loss is model.loss
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(model)
    with pytest.warns(UserWarning, match="is code"):
        save(model, tmp_path / "clicks.model")
    loaded = load(tmp_path / "clicks.model")
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_a_grid_of_losses_is_searched(clicks):
    X, y, _ = clicks
    grid = {"loss": [None, _focal, WeightedOnes()]}
    found = GridSearchCV(quick(max_epochs=1), grid, cv=2, scoring="neg_log_loss").fit(X, y)
    scores = found.cv_results_["mean_test_score"]
    # The focal loss is not calibrated; a loss of ones own that is the default scores as it does.
    assert scores[0] == pytest.approx(scores[2], abs=1e-9) and scores[1] < scores[0]


class WeightedOnes(torch.nn.Module):
    def forward(self, predicted, target):
        return log_loss_of_rows(predicted, target)


# monitor
# -------------------------------------------------------------------------------------------------


def _stopping(X, y, **options):
    held_out = slice(0, 600)
    model = quick(early_stopping=True, max_epochs=6, lr=0.05, patience=6, batch_size=100, **options)
    return model.fit(X[600:], y[600:], X_val=X[held_out], y_val=y[held_out])


def test_a_scorer_decides_which_epoch_is_kept_in_its_direction(clicks):
    X, y, _ = clicks
    y = np.where(y == 1, "yes", "no")
    brier = partial(brier_score_loss, pos_label="yes")
    chosen = {}
    for better in (True, False):
        scorer = make_scorer(brier, greater_is_better=better, response_method="predict_proba")
        model = _stopping(X, y, monitor=scorer)
        scores = [record["valid_score"] for record in model.history_]
        assert model.n_iter_ == 1 + int(np.argmax(scores))
        sign = 1 if better else -1
        own = brier(y[:600], model.predict_proba(X[:600])[:, 1])
        assert sign * own == pytest.approx(max(scores), abs=1e-6)
        chosen[better] = model.n_iter_
    assert chosen[True] != chosen[False]


def test_auc_by_name_and_by_scorer_are_one(clicks):
    X, y, _ = clicks
    by_name = _stopping(X, y, monitor="auc")
    by_scorer = _stopping(X, y, monitor=get_scorer("roc_auc"))
    assert by_scorer.history_ == by_name.history_


def test_labels_are_predicted_of_several_classes():
    X, y, _ = make_ctr(1500, n_fields=3, cardinality=5, pairs=1, random_state=0)
    y = np.array(["a", "b", "c", "d"])[np.asarray(y) + 2 * (np.arange(len(y)) % 2)]
    for scorer, score in (
        (make_scorer(accuracy_score), lambda m: accuracy_score(y[:500], m.predict(X[:500]))),
        (get_scorer("neg_log_loss"), lambda m: -log_loss(y[:500], m.predict_proba(X[:500]))),
    ):
        model = CTRClassifier(network="fm", max_epochs=2, monitor=scorer, random_state=0)
        model.fit(X[500:], y[500:], X_val=X[:500], y_val=y[:500])
        best = model.history_[model.n_iter_ - 1]["valid_score"]
        assert best == pytest.approx(score(model), abs=1e-6)


def test_ratings_are_scored_in_their_units_and_by_weights(ratings):
    X, y = ratings
    weight = np.random.default_rng(0).uniform(0.1, 3, 500)
    model = RatingRegressor(**RATINGS, monitor=get_scorer("neg_mean_absolute_error"))
    model.fit(X[500:], y[500:], X_val=X[:500], y_val=y[:500], sample_weight_val=weight)
    error = mean_absolute_error(y[:500], model.predict(X[:500]), sample_weight=weight)
    best = model.history_[model.n_iter_ - 1]["valid_score"]
    assert best == pytest.approx(-error, rel=1e-5)


def test_wrong_monitors_are_named(clicks):
    X, y, _ = clicks
    for monitor, told in (
        (log_loss, "must be a scorer, called with .*make_scorer"),
        (lambda y, p: 0.0, "must be a scorer"),
        (lambda estimator, X, y: np.nan, "must return a finite number, got nan for the 600 rows"),
        (lambda estimator, X, y: X["f0"].mean(), r"no columns \(X is None\): TypeError"),
    ):
        with pytest.raises(ValueError, match=f"(?s)monitor=.*{told}"):
            _stopping(X, y, monitor=monitor)
    with pytest.raises(ValueError, match="'monitor' parameter of RatingRegressor"):
        RatingRegressor(monitor="auc").fit(X, y)
