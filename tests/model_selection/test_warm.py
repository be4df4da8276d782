"""Candidates that go on: every kind of estimator, pipelines, weights."""

import known_curves
import numpy as np
import pytest
from known_curves import Counted, Curve, StepCurve, columns
from scipy.stats import loguniform, uniform
from sklearn import config_context
from sklearn.datasets import make_classification
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, Perceptron, SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.model_selection import HyperbandSearchCV, SuccessiveHalvingSearchCV
from sklearn_autorec.model_selection._running import _run
from sklearn_autorec.model_selection._running._evaluate import continue_fit, way_to_continue

X, Y = make_classification(90, n_informative=4, random_state=0)
CURVES = {"a": uniform(0.2, 0.8), "b": loguniform(0.01, 2)}


def search(estimator, space, resource, warm=True, **options):
    options = {"max_resources": 9, "cv": 3, "random_state": 0, **options}
    return SuccessiveHalvingSearchCV(estimator, space, resource=resource, warm=warm, **options)


@pytest.mark.parametrize(
    "estimator, resource, way",
    [
        (GradientBoostingClassifier(), "n_estimators", "until"),
        (RandomForestClassifier(), "n_estimators", "until"),
        (HistGradientBoostingClassifier(), "max_iter", "until"),
        (CTRClassifier(), "max_epochs", "until"),
        (RatingRegressor(), "max_epochs", "until"),
        (SGDClassifier(), "max_iter", "partial_fit"),
        (MLPClassifier(), "max_iter", "partial_fit"),
        (MLPClassifier(solver="lbfgs"), "max_iter", "more"),
        (LogisticRegression(), "max_iter", "more"),
        (Curve(), "epochs", "until"),
        (StepCurve(), "epochs", "partial_fit"),
        (StandardScaler(), "epochs", None),
        (SGDClassifier(), "epochs", None),
    ],
)
def test_ways(estimator, resource, way):
    assert way_to_continue(estimator, resource) == way


@pytest.mark.parametrize(
    "estimator, space, resource, scoring",
    [
        (
            GradientBoostingClassifier(random_state=0),
            {"learning_rate": uniform(0.05, 0.5)},
            "n_estimators",
            "roc_auc",
        ),
        (
            GradientBoostingRegressor(random_state=0),
            {"learning_rate": uniform(0.05, 0.5)},
            "n_estimators",
            None,
        ),
        (
            HistGradientBoostingClassifier(
                early_stopping=False, random_state=0, min_samples_leaf=5
            ),
            {"learning_rate": uniform(0.05, 0.5)},
            "max_iter",
            "neg_log_loss",
        ),
        (
            SGDClassifier(loss="log_loss", shuffle=False, tol=None),
            {"alpha": loguniform(1e-4, 1)},
            "max_iter",
            None,
        ),
        (SGDRegressor(shuffle=False, tol=None), {"alpha": loguniform(1e-4, 1)}, "max_iter", None),
        (
            Perceptron(shuffle=False, tol=None, penalty="l2"),
            {"alpha": loguniform(1e-4, 1)},
            "max_iter",
            None,
        ),
    ],
)
def test_where_training_has_no_chance_in_it_warm_equals_cold(estimator, space, resource, scoring):
    cold, warm = (
        columns(search(estimator, space, resource, w, scoring=scoring).fit(X, Y))
        for w in (False, True)
    )
    assert sum(warm.pop("n_resources_spent")) == 21 and sum(cold.pop("n_resources_spent")) == 27
    assert warm.keys() == cold.keys()
    for name, column in cold.items():
        if "test_score" in name:
            np.testing.assert_allclose(warm[name], column, rtol=1e-9, err_msg=name)
        else:
            assert warm[name] == column, name


def test_lightgbm_goes_on_from_its_booster():
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    model = lightgbm.LGBMClassifier(
        min_child_samples=5, verbose=-1, n_jobs=1, random_state=0, boost_from_average=False
    )
    assert way_to_continue(model, "n_estimators") == "after"
    options = {"scoring": "neg_log_loss"}
    cold, warm = (
        search(model, {"learning_rate": uniform(0.05, 0.5)}, "n_estimators", w, **options).fit(X, Y)
        for w in (False, True)
    )
    assert warm.total_resources_ == 21
    np.testing.assert_allclose(
        cold.cv_results_["mean_test_score"], warm.cv_results_["mean_test_score"], rtol=1e-6
    )


def test_a_net_of_skorch_trains_one_epoch_a_unit():
    skorch, torch = pytest.importorskip("skorch"), pytest.importorskip("torch")
    net = skorch.NeuralNetClassifier(
        torch.nn.Sequential(torch.nn.Linear(20, 2), torch.nn.LogSoftmax(-1)),
        max_epochs=7,
        train_split=None,
        verbose=0,
    )
    model = net.initialize()
    data, y = X.astype(np.float32), Y.astype(np.int64)
    continue_fit(model, data, y, 2, 2, "max_epochs", np.unique(y), {})
    first = model.module_[0].weight.detach().clone()
    continue_fit(model, data, y, 3, 5, "max_epochs", np.unique(y), {})
    assert len(model.history) == 5 and not torch.equal(first, model.module_[0].weight)


def test_our_own_estimators_train_until_so_many_epochs_in_all():
    data = X[:, :2].round().astype(int)
    model = CTRClassifier(network="fm", device="cpu", random_state=0)
    found = search(model, {"lr": loguniform(1e-3, 1e-1)}, "max_epochs", cv=2).fit(data, Y)
    assert found.total_resources_ == 21 and found.best_estimator_.n_iter_ == 9
    continued = CTRClassifier(network="fm", device="cpu", random_state=0)
    for before, total in ((0, 1), (1, 3), (3, 9)):
        continue_fit(continued, data, Y, total - before, total, "max_epochs", None, {})
        assert continued.n_iter_ == len(continued.history_) == total


def test_pipelines_fit_their_transformers_once():
    pipeline = Pipeline([("scale", Counted()), ("model", Curve())])
    space = {
        "scale__factor": [1.0, 2.0],
        "model__a": uniform(0.2, 0.8),
        "model__b": loguniform(0.01, 2),
    }
    options = {
        "resource": "model__epochs",
        "max_resources": 27,
        "cv": 3,
        "random_state": 0,
        "refit": False,
    }
    cold = columns(HyperbandSearchCV(pipeline, space, **options).fit(X, Y))
    known_curves.FITTED.clear()
    known_curves.TRAINED.clear()
    warm = columns(HyperbandSearchCV(pipeline, space, warm=True, **options).fit(X, Y))
    assert sorted(known_curves.FITTED) == [1.0] * 3 + [2.0] * 3
    assert sum(units for *_, units in known_curves.TRAINED) == 3 * 357
    assert sum(warm.pop("n_resources_spent")) == 357 and sum(cold.pop("n_resources_spent")) == 423
    assert warm == cold


def test_folds_that_nobody_needs_are_given_up(monkeypatch):
    space = {"counted__factor": uniform(1, 2), "curve__a": uniform(0.2, 0.8)}
    pipeline = make_pipeline(Counted(), Curve())
    tables = []
    for kept in (0, 1000):
        monkeypatch.setattr(_run, "FOLDS_KEPT", kept)
        known_curves.FITTED.clear()
        tables.append(columns(search(pipeline, space, "curve__epochs", refit=False).fit(X, Y)))
        assert len(known_curves.FITTED) == 9 * 3  # those of the survivors stay
    assert tables[0] == tables[1]


def test_the_last_step_sees_what_the_steps_before_it_make():
    class Checking(Curve):
        def fit(self, X, y, sample_weight=None):
            assert (X[:, -1] == 1).all()  # of fit_transform
            return super().fit(X, y, sample_weight)

        def score(self, X, y):
            assert (X[:, -1] == 0).all()  # of transform
            return super().score(X, y) + 1e-3 * X[0, 0]

    space = {"counted__factor": [1.0, 3.0], "checking__a": uniform(0.2, 0.8)}
    pipeline = make_pipeline(Counted(), Checking())
    tables = [
        columns(search(pipeline, space, "checking__epochs", warm, refit=False).fit(X, Y))
        for warm in (False, True)
    ]
    for table in tables:
        table.pop("n_resources_spent")
    assert tables[0] == tables[1]


def test_the_last_step_itself_may_be_searched():
    pipeline = Pipeline([("scale", Counted()), ("model", Curve())])
    space = {"model": [Curve(), StepCurve(b=0.5)], "model__a": uniform(0.2, 0.8)}
    warm, cold = (search(pipeline, space, "model__epochs", w).fit(X, Y) for w in (True, False))
    np.testing.assert_array_equal(
        warm.cv_results_["mean_test_score"], cold.cv_results_["mean_test_score"]
    )
    assert {type(p["model"]) for p in warm.cv_results_["params"]} == {Curve, StepCurve}


def test_a_pipeline_of_one_step():
    warm, cold = (
        search(Pipeline([("m", Curve())]), {"m__a": uniform()}, "m__epochs", w).fit(X, Y)
        for w in (True, False)
    )
    np.testing.assert_array_equal(
        warm.cv_results_["mean_test_score"], cold.cv_results_["mean_test_score"]
    )


def test_scikit_learns_own_pipeline_warm_equals_cold():
    pipeline = make_pipeline(
        StandardScaler(), SGDClassifier(loss="log_loss", shuffle=False, tol=None)
    )
    space = {
        "standardscaler__with_mean": [True, False],
        "sgdclassifier__alpha": loguniform(1e-4, 1),
    }
    weights = np.random.RandomState(0).uniform(0.5, 2, len(X))
    warm, cold = (
        search(pipeline, space, "sgdclassifier__max_iter", w, scoring="neg_log_loss").fit(
            X, Y, sgdclassifier__sample_weight=weights, standardscaler__sample_weight=weights
        )
        for w in (True, False)
    )
    np.testing.assert_allclose(
        warm.cv_results_["mean_test_score"], cold.cv_results_["mean_test_score"], rtol=1e-9
    )
    plain = search(pipeline, space, "sgdclassifier__max_iter", scoring="neg_log_loss").fit(X, Y)
    assert (plain.cv_results_["mean_test_score"] != warm.cv_results_["mean_test_score"]).all()


class Weighed(Curve):
    """Scores what weights it was given in training and in testing."""

    def score(self, X, y, sample_weight=None):
        tested = -1.0 if sample_weight is None else float(np.sum(sample_weight))
        return super().score(X, y) + (self.weight_ or -1.0) + 1e3 * tested


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_metadata_is_routed(warm, in_pipeline):
    weights = np.arange(1.0, 91.0)
    groups = np.repeat(np.arange(9), 10)
    with config_context(enable_metadata_routing=True):
        from sklearn.model_selection import GroupKFold

        model = Weighed().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        prefix = "model__" if in_pipeline else ""
        estimator = Pipeline([("scale", Counted()), ("model", model)]) if in_pipeline else model
        found = search(
            estimator, {prefix + "a": uniform()}, prefix + "epochs", warm,
            cv=GroupKFold(3), refit=False,
            error_score="raise",
        ).fit(X, Y, sample_weight=weights, groups=groups)  # fmt: skip
    for s, (train, test) in enumerate(GroupKFold(3).split(X, Y, groups)):
        for params, score in zip(
            found.cv_results_["params"], found.cv_results_[f"split{s}_test_score"], strict=True
        ):
            curve = params[prefix + "a"] * (1 - np.exp(-params[prefix + "epochs"]))
            # A score method of a Pipeline routes to its last step; warm and cold must not differ.
            assert score == pytest.approx(
                curve + weights[train].sum() + 1e3 * weights[test].sum(), rel=1e-9
            )


@pytest.mark.parametrize("warm", [False, True])
def test_without_routing_weights_reach_fit(warm):
    weights = np.arange(1.0, 91.0)
    found = search(Weighed(), {"a": uniform()}, "epochs", warm, cv=3, refit=False).fit(
        X, Y, sample_weight=weights
    )
    assert (found.cv_results_["mean_test_score"] > 0).all()


@pytest.mark.parametrize(
    "estimator, resource, message",
    [
        (
            Pipeline([("scale", Counted()), ("model", Curve())]),
            "scale__factor",
            "resource of its last step, model__",
        ),
        (
            make_pipeline(Counted(), StandardScaler()),
            "standardscaler__with_mean",
            "StandardScaler has not",
        ),
    ],
)
def test_refusals(estimator, resource, message):
    if "standardscaler" in resource:
        estimator.steps[-1] = ("standardscaler", LogisticRegressionWithout())
    with pytest.raises(
        ValueError, match=message.replace("StandardScaler", "LogisticRegressionWithout")
    ):
        search(estimator, {"x": [1]}, resource.replace("with_mean", "C")).fit(X, Y)


class LogisticRegressionWithout(Curve):
    def __init__(self, C=1):
        super().__init__()
        self.C = C
