"""The Bayesian search as an estimator."""

import builtins
import pickle
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from known_curves import columns
from known_functions import Branin
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.model_selection import BayesSearchCV, HyperbandSearchCV

X, Y = load_iris(return_X_y=True)

ONE_SPLIT = [(np.arange(10), np.arange(10, 20))]

PLANE = {"x": stats.uniform(-5, 15), "y": stats.uniform(0, 15)}

TREE = {
    "max_depth": stats.randint(1, 6),
    "criterion": ["gini", "entropy"],
    "ccp_alpha": stats.loguniform(1e-4, 0.1),
}


# The search estimator
def test_two_workers_and_a_resumed_search_find_what_one_finds(tmp_path):
    options = {"n_iter": 12, "batch_size": 3, "cv": 3, "random_state": 0}
    one = BayesSearchCV(DecisionTreeClassifier(random_state=0), TREE, **options).fit(X, Y)
    # Candidates are proposed in this process, whatever the backend.
    with parallel_config("threading"):
        two = BayesSearchCV(DecisionTreeClassifier(random_state=0), TREE, n_jobs=2, **options).fit(
            X, Y
        )
    assert columns(one) == columns(two)

    folder = tmp_path / "search"
    again = BayesSearchCV(
        DecisionTreeClassifier(random_state=0), TREE, checkpoint=folder, **options
    )
    assert columns(one) == columns(again.fit(X, Y))
    files = sorted(folder.glob("evaluation-*"))
    assert len(files) == 36
    for file in files[17:]:  # as if it had been killed then
        file.unlink()
    times = [file.stat().st_mtime_ns for file in files[:17]]
    resumed = clone(again).fit(X, Y)
    assert columns(one) == columns(resumed) and resumed.best_params_ == one.best_params_
    assert [file.stat().st_mtime_ns for file in files[:17]] == times


def test_it_is_a_search_of_scikit_learn():
    pipe = Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(max_iter=1000))])
    space = {
        "scale": [StandardScaler(), MinMaxScaler(), "passthrough"],
        "model__C": stats.loguniform(1e-2, 1e2),
        "model__class_weight": [None, "balanced"],
    }
    scoring = {"auc": "roc_auc_ovr", "accuracy": "accuracy"}
    search = BayesSearchCV(
        pipe, space, n_iter=12, scoring=scoring, refit="auc", cv=2, random_state=0
    ).fit(X, Y)
    again = pickle.loads(pickle.dumps(search))
    assert (again.predict(X) == search.predict(X)).all() and search.score(X, Y) > 0.95
    assert search.best_score_ == search.cv_results_["mean_test_auc"].max()
    fresh = clone(search)
    assert fresh.get_params().keys() == search.get_params().keys() and not hasattr(
        fresh, "best_params_"
    )
    scalers = [p["scale"] for p in search.cv_results_["params"]]
    assert all(any(s is given for given in space["scale"]) for s in scalers)
    assert not hasattr(space["scale"][0], "mean_")  # what was given is never fitted


def test_failed_candidates_are_recorded_and_lose():
    search = BayesSearchCV(Branin(limit=2.0), PLANE, n_iter=15, cv=ONE_SPLIT, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
        search.fit(X)
    bad = np.isnan(search.cv_results_["mean_test_score"])
    assert 0 < bad.sum() < 15 and search.best_params_["x"] >= 2


@pytest.mark.parametrize("search", [BayesSearchCV, HyperbandSearchCV])
def test_without_optuna_the_extra_is_named(search, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "optuna":
            raise ImportError("no optuna")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ImportError, match=r'sampler="tpe" needs optuna: pip install "sklearn-autorec\[bayes\]"'
    ):
        search(DecisionTreeClassifier(), TREE, sampler="tpe").fit(X, Y)
    BayesSearchCV(DecisionTreeClassifier(), TREE, sampler="random", n_iter=2).fit(X, Y)
