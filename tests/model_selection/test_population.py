"""Population-based training: selection, schedules, copies, resumption, refusals."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import PredefinedSplit, ShuffleSplit
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.model_selection import PopulationSearchCV
from sklearn_autorec.model_selection._mutation import multiply, perturb, truncation_sources, walk
from sklearn_autorec.model_selection._population._population import ONE_SPLIT
from sklearn_autorec.model_selection._running._checkpoint import Checkpoint
from sklearn_autorec.networks import DeepFM

ROWS = np.zeros((10, 1))
SGD = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0)
SGD_SPACE = {"eta0": loguniform(1e-3, 1), "alpha": loguniform(1e-6, 1e-2)}


class TwoPhases(BaseEstimator):
    """Descent whose curvature is 10 for 15 epochs and 1000 for the rest, each on weights of its
    own.

    The learning rate has to be near 0.1 at first, else the first weights stay; and then below
    0.002, else the others explode."""

    slopes = np.linspace(0.5, 1, 20)

    def __init__(self, lr=0.1, max_epochs=1):
        self.lr = lr
        self.max_epochs = max_epochs

    def fit(self, X, y=None):
        self.__dict__.pop("w_", None)
        for _ in range(self.max_epochs):
            self.partial_fit(X, y)
        return self

    def partial_fit(self, X, y=None):
        if not hasattr(self, "w_"):
            self.w_, self.t_ = np.ones((2, 20)), 0
        phase = int(self.t_ >= 15)
        for _ in range(2):
            # In place, on purpose.
            self.w_[phase] -= self.lr * (10, 1000)[phase] * self.slopes * self.w_[phase]
        self.t_ += 1
        return self

    def predict(self, X):
        return np.resize(self.w_, len(X))

    def score(self, X, y=None):
        return -np.log10(np.mean(self.w_**2))


@pytest.fixture(scope="module")
def rows():
    return make_classification(200, n_features=6, random_state=0)


def search(estimator=SGD, space=SGD_SPACE, **options):
    return PopulationSearchCV(
        estimator,
        space,
        **{"resource": "max_iter", "population": 4, "n_steps": 4, "random_state": 0, **options},
    )


def same_results(a, b):
    """All columns but times."""
    assert a.keys() == b.keys()
    for name in a:
        if not name.endswith("_time"):
            np.testing.assert_array_equal(np.asarray(a[name]), np.asarray(b[name]), err_msg=name)


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


# resumption, workers, failures
# -------------------------------------------------------------------------------


def test_workers_do_not_change_the_results(rows):
    same_results(search(n_jobs=2).fit(*rows).cv_results_, search(n_jobs=1).fit(*rows).cv_results_)


class Killed(BaseException):
    """Nothing of a search hears of it, as of SIGKILL."""


def kill_after(monkeypatch, n):
    """A search dies when it has stored n evaluations."""
    stored, save = [], Checkpoint.save

    def save_or_die(self, row, split, result):
        if len(stored) == n:
            raise Killed
        stored.append(row)
        save(self, row, split, result)

    monkeypatch.setattr(Checkpoint, "save", save_or_die)


@pytest.mark.parametrize("finished", [1, 4, 6, 12, 15])
def test_a_killed_search_resumes_to_the_same_end(rows, tmp_path, finished):
    whole = search().fit(*rows)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, finished)
        with pytest.raises(Killed):
            search(checkpoint=tmp_path).fit(*rows)
    assert len(list(tmp_path.glob("evaluation-*.joblib"))) == finished
    resumed = search(checkpoint=tmp_path).fit(*rows)
    same_results(resumed.cv_results_, whole.cv_results_)
    np.testing.assert_array_equal(resumed.best_estimator_.coef_, whole.best_estimator_.coef_)
    np.testing.assert_array_equal(resumed.lineage_, whole.lineage_)
    # A finished search comes back whole, model included.
    again = search(checkpoint=tmp_path).fit(*rows)
    np.testing.assert_array_equal(again.best_estimator_.coef_, whole.best_estimator_.coef_)
    with pytest.raises(ValueError, match="holds a search of other parameters"):
        search(checkpoint=tmp_path, quantile=0.5).fit(*rows)


def test_without_a_seed_a_search_resumes_with_the_one_it_drew(rows, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, 7)
        with pytest.raises(Killed):
            search(checkpoint=tmp_path, random_state=None).fit(*rows)
    before = [joblib.load(f)["test_scores"] for f in sorted(tmp_path.glob("evaluation-*.joblib"))]
    resumed = search(checkpoint=tmp_path, random_state=None).fit(*rows)
    assert resumed.cv_results_["mean_test_score"][:7].tolist() == before


class Interrupting(SGDClassifier):
    """A user's Ctrl-C while the model of a given learning rate and age trains."""

    calls = 0
    stop_at = None

    def partial_fit(self, *args, **kwargs):
        if type(self).calls == type(self).stop_at:
            raise KeyboardInterrupt
        type(self).calls += 1
        return super().partial_fit(*args, **kwargs)


@pytest.mark.parametrize("finished", [1, 4, 5, 11])
def test_an_interrupted_search_keeps_the_best_model_there_is(rows, monkeypatch, finished):
    model = Interrupting(loss="log_loss", learning_rate="constant", eta0=0.01, random_state=0)
    monkeypatch.setattr(Interrupting, "calls", 0)
    monkeypatch.setattr(Interrupting, "stop_at", finished)
    with pytest.warns(UserWarning, match="interrupted"):
        found = search(model, probe_rows=0).fit(*rows)
    assert found.stopped_ == "interrupted" and len(found.cv_results_["params"]) == finished
    newest = {member: row for row, member in enumerate(found.cv_results_["member"])}
    scores = found.cv_results_["mean_test_score"]
    assert found.best_score_ == max(scores[row] for row in newest.values())
    test = next(ONE_SPLIT.split(rows[0]))[1]
    assert found.score(rows[0][test], rows[1][test]) == found.best_score_
    assert len(found.schedule_) == found.cv_results_["step"][found.best_index_]


class Fragile(TwoPhases):
    """Fails above a learning rate of 0.3."""

    def partial_fit(self, X, y=None):
        if self.lr > 0.3:
            raise ArithmeticError("too fast")
        return super().partial_fit(X, y)


def test_failed_members_are_named_and_replaced():
    options = {"resource": "max_epochs", "population": 8, "n_steps": 3, "random_state": 3}
    space = {"lr": loguniform(0.01, 1)}
    with pytest.warns() as caught:
        found = search(Fragile(), space, **options).fit(ROWS)
    assert any("too fast" in str(w.message) for w in caught)
    scores, lr = (
        found.cv_results_["mean_test_score"],
        np.asarray(found.cv_results_["param_lr"].data, dtype=float),
    )
    np.testing.assert_array_equal(np.isnan(scores), lr > 0.3)
    assert np.isnan(scores[:8]).any() and np.isfinite(found.best_score_)
    # A lineage is what one model was trained with: it does not reach back over a failure.
    assert np.isfinite(found.schedule_["score"]).all()
    with pytest.raises(ArithmeticError, match="too fast"):
        search(Fragile(), space, **options, error_score="raise").fit(ROWS)
    with pytest.warns(FitFailedWarning), pytest.raises(ValueError, match="All the 24 fits failed"):
        search(Fragile(), {"lr": uniform(0.5, 0.1)}, **options).fit(ROWS)


def test_a_member_with_none_to_copy_begins_anew():
    """One of four copies; a failed one that does not trains all its units at once (and fails again,
    here).
    """
    seen = 0
    for seed in range(20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            options = {
                "resource": "max_epochs",
                "n_steps": 3,
                "quantile": 0.25,
                "mutable": [],
                "cv": 2,
                "refit": False,
            }
            found = search(
                Fragile(), {"lr": uniform(0.15, 0.25)}, **options, random_state=seed
            ).fit(ROWS)
        spent, failed = (
            found.cv_results_["n_resources_spent"],
            np.isnan(found.cv_results_["mean_test_score"]),
        )
        parent = found.cv_results_["parent"]
        for row in range(4, 12):
            assert spent[row] == (
                found.cv_results_["n_resources"][row] if failed[parent[row]] else 1
            )
        seen += failed[parent[4:]].any()
        assert (
            found.schedule_["n_resources"].diff().fillna(found.schedule_["n_resources"]).sum() == 3
        )
    assert seen > 5


# refusals
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 0}, "'population' parameter"),
        ({"quantile": 0.6}, "'quantile' parameter"),
        ({"refit": True}, "'refit' parameter"),
        ({"refit": "last"}, "'refit' parameter"),
        ({"explore": "greedy"}, "'explore' parameter"),
        ({"factors": ()}, r"factors must be a non-empty tuple of positive numbers, got \(\)"),
        ({"factors": (0.8, -1.2)}, r"factors must be .* got \(0.8, -1.2\)"),
        (
            {"space": {}},
            r"param_distributions must be a non-empty dict of parameter names, got \{\}",
        ),
        (
            {"space": {"eta0": []}},
            r"param_distributions\['eta0'\] must be a non-empty list .* got \[\]",
        ),
        ({"space": {"eta0": "log"}}, r"param_distributions\['eta0'\] must be .* got 'log'"),
        (
            {"space": {"lr": [1]}},
            r"param_distributions names \['lr'\], which SGDClassifier does not have; .*'alpha'",
        ),
        ({"mutable": ["lr"]}, r"mutable names \['lr'\], .* allowed are \['alpha', 'eta0'\]"),
        ({"resource": "epochs"}, "resource='epochs' is no parameter of SGDClassifier, which has"),
        ({"space": {"max_iter": [1, 2]}}, "resource='max_iter' counts units"),
        ({"cv": 3}, "cv=3 makes 3 splits, .* or set refit=False"),
        (
            {"scoring": ["accuracy"]},
            r"scoring=\['accuracy'\] with refit='keep': members compete by one metric",
        ),
        (
            {"explore": "learned"},
            'explore="learned" learns from hypergradients: set hypergradient=True',
        ),
        (
            {"hypergradient": True},
            "hypergradient=True needs a method hypergradient.*SGDClassifier does not have",
        ),
        (
            {"estimator": LogisticRegression(), "space": {"C": [1, 2]}, "resource": "C"},
            "counts units",
        ),
        (
            {"estimator": SVC(), "space": {"C": loguniform(1, 2)}},
            "needs an estimator with partial_fit or warm_start; SVC has neither. "
            "RegularizedEvolutionSearchCV works",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_refusals(rows, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        search(**options, checkpoint=tmp_path / "folder").fit(*rows)
    assert not (tmp_path / "folder").exists()  # refused before anything is left behind


def test_refusals_in_pipelines(rows):
    model = Pipeline([("scale", StandardScaler()), ("clf", SGD)])
    with pytest.raises(ValueError, match="a parameter of its last step, clf__..., got 'max_iter'"):
        search(model, {"clf__eta0": loguniform(1e-3, 1)}).fit(*rows)
    with pytest.raises(ValueError, match=r"\['scale__with_mean'\] belong to steps before the last"):
        search(model, {"scale__with_mean": [True, False]}, resource="clf__max_iter").fit(*rows)


MLP = MLPClassifier((4,), random_state=0)
STUMPS = GradientBoostingClassifier(max_depth=1, random_state=0)


@pytest.mark.parametrize(
    ("model", "space", "dead"),
    [
        (
            MLP,
            {"learning_rate_init": loguniform(1e-3, 1)},
            "'learning_rate_init' changes nothing in a fitted model",
        ),
        (MLP, {"alpha": loguniform(1e-3, 10)}, None),
        (MLP, {"hidden_layer_sizes": [(4,), (9,)]}, "'hidden_layer_sizes' changes nothing"),
        (SGD, {"eta0": loguniform(1e-3, 1)}, None),
        (
            clone(SGD).set_params(learning_rate="optimal"),
            {"eta0": loguniform(1e-3, 1)},
            "'eta0' changes nothing",
        ),
        (SGD, {"penalty": ["l1", "l2"]}, None),
        (SGD, {"eta0": [0.5]}, None),  # nothing to change
        (STUMPS, {"max_features": [1, 2, 3]}, None),  # trees that come out the same by chance
    ],
    ids=[
        "mlp rate",
        "mlp alpha",
        "mlp layers",
        "sgd eta0",
        "sgd optimal",
        "sgd penalty",
        "sgd one value",
        "stumps",
    ],
)
def test_parameters_that_a_live_model_ignores_are_refused_by_name(rows, model, space, dead):
    before = copy.deepcopy(model.get_params())
    if dead is None:
        search(
            model, space, n_steps=2, resource="n_estimators" if model is STUMPS else "max_iter"
        ).fit(*rows)
    else:
        with pytest.raises(
            ValueError, match=f"{type(model).__name__}: {dead}.*tried on 200 rows: raise probe_rows"
        ):
            search(model, space, n_steps=2).fit(*rows)
        search(model, space, n_steps=2, probe_rows=0).fit(*rows)
        search(model, space, n_steps=2, mutable=[]).fit(*rows)
    assert model.get_params() == before


class Restarting(TwoPhases):
    """Forgets what it has learned when ``width`` is set, at once or when it trains again."""

    def __init__(self, lr=0.1, max_epochs=1, width=1, at_once=True):
        super().__init__(lr, max_epochs)
        self.width = width
        self.at_once = at_once

    def set_params(self, **params):
        if self.at_once and "width" in params:
            self.__dict__.pop("w_", None)
        return super().set_params(**params)

    def partial_fit(self, X, y=None):
        if getattr(self, "fitted_width_", self.width) != self.width:
            self.__dict__.pop("w_", None)
        self.fitted_width_ = self.width
        super().partial_fit(X, y)
        self.w_ *= self.width
        return self


@pytest.mark.parametrize("at_once", [True, False])
def test_parameters_that_make_a_model_start_anew_are_refused_by_name(at_once):
    space = {"lr": loguniform(0.01, 0.1), "width": uniform(0.5, 1)}
    with pytest.raises(
        ValueError, match=r"Restarting: 'width' makes a fitted model start anew.*\(\['lr'\]"
    ):
        search(Restarting(at_once=at_once), space, resource="max_epochs").fit(ROWS)
    search(Restarting(at_once=at_once), space, resource="max_epochs", mutable=["lr"]).fit(ROWS)


# scikit-learn
# ------------------------------------------------------------------------------------------------


def test_pickle_clone_and_untouched_inputs(rows):
    X, y = rows
    unfitted = search()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    found = clone(unfitted).fit(X.copy(), y.copy())
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert not hasattr(SGD, "coef_") and SGD.eta0 == 0.01
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict_proba(X), found.predict_proba(X))
    assert (
        not hasattr(found, "_gradients")
        and clone(found).get_params(deep=False).keys() == unfitted.get_params(deep=False).keys()
    )
    same_results(clone(found).fit(X, y).cv_results_, found.cv_results_)


def test_a_fold_given_by_the_user_and_weights(rows):
    X, y = rows
    fold = PredefinedSplit(np.where(np.arange(200) < 150, -1, 0))
    weight = np.ones(200)
    plain = search(cv=fold).fit(X, y)
    same_results(search(cv=fold).fit(X, y, sample_weight=weight).cv_results_, plain.cv_results_)
    weight[:75] = 0.0
    assert (
        search(cv=fold).fit(X, y, sample_weight=weight).best_estimator_.coef_
        != plain.best_estimator_.coef_
    ).any()


def test_a_second_fit_leaves_nothing_of_the_first(rows):
    found = search().fit(*rows)
    assert len(found.schedule_) == 4
    found.set_params(n_steps=2).fit(*rows)
    assert len(found.schedule_) == len(found.lineage_) == 2


def test_time_runs_out(rows):
    found = search(max_time=1e-9, n_steps=3)
    with pytest.raises(ValueError, match="has evaluated nothing before it was stopped"):
        found.fit(*rows)
