"""Population-based training: selection, schedules, copies, resumption, refusals."""

import numpy as np
import pytest
from population_cases import ROWS, SGD, SGD_SPACE, TwoPhases, same_results, search
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.model_selection._mutation import multiply, perturb, truncation_sources, walk
from sklearn_autorec.model_selection._population._population import ONE_SPLIT
from sklearn_autorec.networks import DeepFM


@pytest.fixture(scope="module")
def rows():
    return make_classification(200, n_features=6, random_state=0)


# selection and mutation
# ---------------------------------------------------------------------------------------


def test_the_worst_copy_the_best():
    random_state = np.random.RandomState(0)
    scores = [3, 9, 1, 5, 8, 0, 7, 2]
    seen = [truncation_sources(scores, 0.25, random_state) for _ in range(50)]
    for sources in seen:
        assert [k for k in range(8) if sources[k] != k] == [2, 5]
        assert {sources[2], sources[5]} <= {1, 4}
    assert len({tuple(s) for s in seen}) == 4  # uniform over the best
    assert truncation_sources(scores, 0.0, random_state) == list(range(8))
    assert truncation_sources([1.0], 0.5, random_state) == [0]
    assert truncation_sources([2.0, 1.0, 0.0], 0.01, random_state) == [0, 1, 0]  # at least one


def test_a_failed_member_is_never_copied():
    random_state = np.random.RandomState(0)
    for _ in range(20):
        sources = truncation_sources([-np.inf, 1.0, -np.inf, -np.inf], 0.5, random_state)
        assert (
            sources[1] == 1 and all(s in (k, 1) for k, s in enumerate(sources)) and sources[3] == 1
        )
    assert truncation_sources([-np.inf] * 4, 0.5, random_state) == [0, 1, 2, 3]


def test_numbers_are_multiplied_within_the_support():
    lr = loguniform(1e-4, 1e-1)
    assert multiply(lr, 0.01, 0.8) == pytest.approx(0.008)
    assert multiply(lr, 0.09, 1.2) == 1e-1 and multiply(lr, 1.1e-4, 0.8) == 1e-4
    assert multiply(lr, 0.037, 1.0) == 0.037
    units = randint(1, 65)
    assert multiply(units, 32, 1.2) == 38 and multiply(units, 60, 1.2) == 64
    assert (
        multiply(units, 1, 1.2) == 2
        and multiply(units, 2, 0.8) == 1
        and multiply(units, 1, 0.8) == 1
    )
    assert multiply(units, 2, 1.0) == 2 and type(multiply(units, 32, 1.2)) is int
    assert multiply(randint(-9, 9), -1, 1.2) == -2 and multiply(randint(-9, 9), 0, 1.2) == 1


def test_integers_leave_one_by_factors_alone():
    random_state, value, seen = np.random.RandomState(0), 1, set()
    for _ in range(200):
        value = perturb(randint(1, 9), value, (0.8, 1.2), 0.0, random_state)
        seen.add(value)
    assert seen == set(range(1, 9))


def test_categories_are_drawn_and_numbers_resampled():
    random_state = np.random.RandomState(0)
    values = ["a", "b", None]
    assert {perturb(values, "a", (0.8, 1.2), 0.0, random_state) for _ in range(50)} == set(values)
    assert {perturb([1, 2, 30], 2, (1, 1), 0.0, random_state) for _ in range(50)} == {1, 2, 30}
    factors = {
        round(perturb(uniform(0, 1), 0.5, (0.8, 1.2), 0.0, random_state), 9) for _ in range(50)
    }
    assert factors == {0.4, 0.6}
    drawn = [perturb(uniform(0, 1), 0.5, (0.8, 1.2), 0.3, random_state) for _ in range(2000)]
    share = np.mean([round(v, 9) not in (0.4, 0.6) for v in drawn])
    assert abs(share - 0.3) < 0.04


def test_walks_stay_in_the_support_and_always_move():
    random_state = np.random.RandomState(0)
    lr, units = loguniform(1e-4, 1e-1), randint(2, 5)
    steps = np.array([walk(lr, 1e-2, 0.1, random_state) for _ in range(3000)])
    assert steps.min() >= 1e-4 and steps.max() <= 1e-1
    # Normal on the logarithmic scale, of 0.1 times its three decades.
    np.testing.assert_allclose(
        [np.log10(steps).mean(), np.log10(steps).std()], [-2, 0.3], atol=0.02
    )
    for start in (2, 3, 4):
        reached = {walk(units, start, 0.05, random_state) for _ in range(50)}
        assert reached <= {2, 3, 4} - {start} and reached
    edge = [walk(uniform(0, 1), 0.98, 0.3, random_state) for _ in range(500)]
    # reflected, not piled up at the end.
    assert 0 <= min(edge) and max(edge) <= 1 and len(set(edge)) == 500


# what it is for
# ----------------------------------------------------------------------------------------------


def test_schedules_reach_what_no_constant_rate_does():
    constant = [TwoPhases(lr, 30).fit(ROWS).score(ROWS) for lr in np.geomspace(1e-4, 1, 400)]
    options = {"resource": "max_epochs", "population": 24, "n_steps": 30, "quantile": 0.25}
    space = {"lr": loguniform(1e-4, 1)}
    for seed in range(5):
        found = search(TwoPhases(), space, **options, random_state=seed).fit(ROWS)
        assert found.best_score_ > max(constant) + 1, seed
        lr = found.schedule_["lr"].to_numpy()
        assert np.median(lr[:15]) > 0.03 and np.median(lr[20:]) < 0.002
        # The same members without copies are constant rates, and do what these do.
        control = search(TwoPhases(), space, **{**options, "quantile": 0.0}, random_state=seed).fit(
            ROWS
        )
        assert control.best_score_ <= max(constant) + 1e-3
        assert control.schedule_["lr"].nunique() == 1


def test_equal_members_train_as_one_model_does():
    X, y, _ = make_ctr(400, n_fields=3, cardinality=6, pairs=1, random_state=0)
    model = CTRClassifier(
        network=DeepFM(hidden_units=(8,)),
        embedding_dim=4,
        lr=0.02,
        batch_size=64,
        device="cpu",
        random_state=0,
    )
    split = ShuffleSplit(1, test_size=0.25, random_state=0)
    found = search(
        model,
        {"lr": uniform(0.02, 0), "network__dropout": uniform(0.2, 0)},
        resource="max_epochs",
        factors=(1, 1),
        resample=0,
        scoring="neg_log_loss",
        cv=split,
    ).fit(X, y)
    train, test = next(split.split(X))
    plain = clone(model)
    for step in range(4):
        plain.partial_fit(X.iloc[train], y[train], classes=[0, 1])
        p = plain.predict_proba(X.iloc[test])
        loss = -np.log(p[np.arange(len(test)), y[test]]).mean()
        np.testing.assert_allclose(
            found.cv_results_["mean_test_score"][4 * step : 4 * step + 4], -loss, rtol=1e-12
        )
    # There were copies.
    assert (found.cv_results_["parent"] % 4 != found.cv_results_["member"])[4:].any()
    np.testing.assert_array_equal(found.best_estimator_.predict_proba(X), plain.predict_proba(X))


# bookkeeping
# -------------------------------------------------------------------------------------------------


def test_every_score_is_that_of_its_lineage_alone():
    """Copies share nothing: each of the 32 models, trained alone along its own history, has the
    same score.
    """
    options = {"resource": "max_epochs", "population": 8, "n_steps": 4, "step": 2}
    found = search(TwoPhases(), {"lr": loguniform(1e-3, 1)}, **options).fit(ROWS)
    results = found.cv_results_
    assert len({tuple(results["parent"][k * 8 : k * 8 + 8]) for k in range(4)}) > 1
    for row in range(32):
        history = [row]
        while results["parent"][history[-1]] >= 0:
            history.append(results["parent"][history[-1]])
        model = TwoPhases()
        for k in history[::-1]:
            model.set_params(lr=results["param_lr"][k]).partial_fit(ROWS).partial_fit(ROWS)
        assert model.score(ROWS) == results["mean_test_score"][row]
    np.testing.assert_array_equal(results["n_resources"], np.repeat([2, 4, 6, 8], 8))
    np.testing.assert_array_equal(results["n_resources_spent"], 2)


def test_the_survivor_and_its_schedule(rows):
    found = search().fit(*rows)
    results = found.cv_results_
    assert results["step"].tolist() == [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert results["member"].tolist() == [0, 1, 2, 3] * 4
    assert found.cv is None and found.n_splits_ == 1
    assert found.best_index_ >= 12 and found.best_score_ == results["mean_test_score"][12:].max()
    assert found.lineage_[-1] == found.best_index_ and results["parent"][found.lineage_[0]] == -1
    np.testing.assert_array_equal(results["parent"][found.lineage_[1:]], found.lineage_[:-1])
    schedule = found.schedule_
    assert list(schedule) == ["row", "member", "step", "n_resources", "score", "alpha", "eta0"]
    assert schedule["step"].tolist() == [1, 2, 3, 4] and schedule["n_resources"].tolist() == [
        1,
        2,
        3,
        4,
    ]
    assert found.best_params_ == {**schedule[["alpha", "eta0"]].iloc[-1].to_dict(), "max_iter": 4}
    train, test = next(ONE_SPLIT.split(rows[0]))
    assert found.best_estimator_.t_ == 4 * len(train) + 1  # it is the model of the training rows
    assert found.score(rows[0][test], rows[1][test]) == found.best_score_
    # Retraced by hand:
    model = clone(SGD)
    for _, line in schedule.iterrows():
        model.set_params(eta0=line["eta0"], alpha=line["alpha"])
        model.partial_fit(rows[0][train], rows[1][train], classes=[0, 1])
    np.testing.assert_array_equal(model.coef_, found.best_estimator_.coef_)


@pytest.mark.parametrize("wrap", [False, True])
def test_replay_follows_the_schedule_on_all_rows(rows, wrap):
    X, y = rows
    prefix = "clf__" if wrap else ""
    model = Pipeline([("scale", StandardScaler()), ("clf", SGD)]) if wrap else SGD
    space = {prefix + name: d for name, d in SGD_SPACE.items()}
    found = search(model, space, resource=prefix + "max_iter", refit="replay").fit(X, y)
    by_hand, inputs = clone(SGD), StandardScaler().fit_transform(X) if wrap else X
    for _, line in found.schedule_.iterrows():
        by_hand.set_params(eta0=line[prefix + "eta0"], alpha=line[prefix + "alpha"])
        by_hand.partial_fit(inputs, y, classes=[0, 1])
    got = found.best_estimator_[-1] if wrap else found.best_estimator_
    np.testing.assert_array_equal(got.coef_, by_hand.coef_)
    np.testing.assert_array_equal(found.predict(X), by_hand.predict(inputs))


def test_in_a_pipeline_the_last_step_goes_on(rows):
    X, y = rows
    model = make_pipeline(StandardScaler(), SGD)
    space = {f"sgdclassifier__{name}": d for name, d in SGD_SPACE.items()} | {
        "standardscaler__with_mean": [True, False]
    }
    mutable = [f"sgdclassifier__{name}" for name in SGD_SPACE]
    found = search(model, space, mutable=mutable, resource="sgdclassifier__max_iter").fit(X, y)
    train, test = next(ONE_SPLIT.split(X))
    best = found.best_estimator_
    assert best[0].with_mean == found.best_params_["standardscaler__with_mean"]
    np.testing.assert_array_equal(best[0].scale_, StandardScaler().fit(X[train]).scale_)
    assert best[-1].t_ == 4 * len(train) + 1 and best.score(X[test], y[test]) == found.best_score_
    # A transformer belongs to a member for life, and comes along when it is copied.
    assert found.schedule_["standardscaler__with_mean"].nunique() == 1
    again = search(model, space, mutable=mutable, resource="sgdclassifier__max_iter", n_jobs=2).fit(
        X, y
    )
    same_results(again.cv_results_, found.cv_results_)


def test_boosting_goes_on_by_warm_start(rows):
    X, y = rows
    model = GradientBoostingClassifier(max_depth=2, random_state=0)
    space = {"learning_rate": loguniform(0.01, 1), "subsample": uniform(0.5, 0.5)}
    found = search(model, space, resource="n_estimators", step=3).fit(X, y)
    assert found.best_estimator_.n_estimators_ == 12 and found.best_params_["n_estimators"] == 12
    assert found.schedule_["n_resources"].tolist() == [3, 6, 9, 12]


def test_several_splits_without_a_survivor(rows):
    found = search(cv=3, refit=False, scoring=["accuracy", "neg_log_loss"]).fit(*rows)
    assert (
        found.n_splits_ == 3
        and not hasattr(found, "best_estimator_")
        and not hasattr(found, "schedule_")
    )
    assert "split2_test_neg_log_loss" in found.cv_results_
    single = search(cv=3, refit=False).fit(*rows)
    assert len(single.schedule_) == 4
    same = [single.cv_results_[f"split{k}_test_score"] for k in range(3)]
    np.testing.assert_array_equal(
        same, [found.cv_results_[f"split{k}_test_accuracy"] for k in range(3)]
    )


def test_our_estimators_in_a_population():
    X, y, _ = make_ctr(600, n_fields=4, cardinality=8, pairs=2, random_state=0)
    model = CTRClassifier(
        network=DeepFM(hidden_units=(8,)), embedding_dim=4, device="cpu", random_state=0
    )
    space = {
        "lr": loguniform(1e-3, 0.3),
        "embedding_l2": loguniform(1e-6, 1e-1),
        "network__dropout": uniform(0, 0.5),
        "embedding_dim": [2, 4, 8],
    }
    mutable = ["lr", "embedding_l2", "network__dropout"]
    options = {"resource": "max_epochs", "scoring": "roc_auc", "mutable": mutable, "population": 6}
    found = search(model, space, **options).fit(X, y)
    best = found.best_estimator_
    assert best.n_iter_ == 4 and best.network.dropout == found.best_params_["network__dropout"]
    assert found.schedule_["embedding_dim"].nunique() == 1
    assert best.architecture_["embedding_dim"] == found.schedule_["embedding_dim"][0]
    test = next(ONE_SPLIT.split(X))[1]
    assert found.best_score_ == pytest.approx(found.score(X.iloc[test], y[test]), abs=1e-12)
    with pytest.raises(
        ValueError, match=r"CTRClassifier: 'embedding_dim' changes nothing in a fitted model"
    ):
        search(model, space, **{**options, "mutable": None}).fit(X, y)
