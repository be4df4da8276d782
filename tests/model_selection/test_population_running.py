"""Populations: resumption, workers, failures, refusals, conventions."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
from population_cases import ROWS, SGD, TwoPhases, same_results, search
from scipy.stats import loguniform, uniform
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import PredefinedSplit
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sklearn_autorec.model_selection._population._population import ONE_SPLIT
from sklearn_autorec.model_selection._running._checkpoint import Checkpoint


@pytest.fixture(scope="module")
def rows():
    return make_classification(200, n_features=6, random_state=0)


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
