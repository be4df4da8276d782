"""The teacher in a population, and on functions."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import loguniform, randint, uniform
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import PredefinedSplit, ShuffleSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_autorec.model_selection import HyperMutation, PopulationSearchCV
from sklearn_autorec.model_selection._hypergradient import gradient_step
from sklearn_autorec.model_selection._population._explore import Explorer
from sklearn_autorec.model_selection._running._checkpoint import Checkpoint

ROWS = np.zeros((10, 1))


def teacher_of(n=3, m=4, scale=1.0, seed=0):
    teacher = HyperMutation(n, m, random_state=seed)
    teacher.W = scale * np.random.RandomState(seed + 1).normal(size=(n, m))
    return teacher


class Bowl(BaseEstimator):
    """No training; its score is a function of its parameters, whose derivatives it knows."""

    def __init__(self, a=0.5, b=0.1, n=1, max_epochs=1, sign=1, names=("a", "b")):
        self.a = a
        self.b = b
        self.n = n
        self.max_epochs = max_epochs
        self.sign = sign
        self.names = names

    def fit(self, X, y=None):
        return self.partial_fit(X, y)

    def partial_fit(self, X, y=None):
        self.done_ = getattr(self, "done_", 0) + 1
        return self

    def score(self, X, y=None):
        return -((self.a - 0.3) ** 2) - np.log10(self.b / 0.02) ** 2

    def hypergradient(self, X_val, y_val, names):
        slopes = {"a": 2 * (self.a - 0.3), "b": 2 * np.log10(self.b / 0.02) / (self.b * np.log(10))}
        return {name: self.sign * slopes[name] for name in names if name in self.names}


SPACE = {"a": uniform(0, 1), "b": loguniform(1e-3, 1)}


def search(estimator=None, space=SPACE, **options):
    return PopulationSearchCV(
        Bowl() if estimator is None else estimator,
        space,
        **{
            "population": 5,
            "n_steps": 6,
            "random_state": 0,
            "hypergradient": True,
            "probe_rows": 0,
            **options,
        },
    )


def test_steps_are_taken_on_the_scale_of_the_distributions():
    found = search(quantile=0.0, n_steps=2, hyper_step=0.07).fit(ROWS)
    params = found.cv_results_["params"]
    for k in range(5):
        a, b = params[k]["a"], params[k]["b"]
        # b = 1e-3 ** (1 - u): on this scale its derivative is that by b times b log(1000).
        slope = np.array(
            [2 * (a - 0.3), 2 * np.log10(b / 0.02) / (b * np.log(10)) * b * np.log(1000)]
        )
        u = np.array([a, 1 + np.log10(b) / 3])
        u = np.clip(u - 0.07 * slope / np.linalg.norm(slope), 0.01, 1)
        np.testing.assert_allclose(
            [params[5 + k]["a"], params[5 + k]["b"]], [u[0], 1000 ** (u[1] - 1)], rtol=1e-10
        )


def test_copies_are_mutated_by_the_teacher_which_learns_from_them():
    explorer = Explorer(search(explore="learned"), np.random.RandomState(0))
    explorer.teacher = teacher_of(2, 4, scale=0.3)
    twin = teacher_of(2, 4, scale=0.3)
    params, slopes = {"a": 0.6, "b": 0.1}, np.array([1.0, 0.5])
    u = gradient_step(np.array([0.6, 2 / 3]), slopes, 0.05)
    moved = twin.mutate(u)
    changed = explorer.changed(3, params, slopes, copied=True)
    np.testing.assert_allclose([changed["a"], 1 + np.log10(changed["b"]) / 3], moved)
    own = explorer.changed(1, params, slopes, copied=False)
    np.testing.assert_allclose([own["a"], 1 + np.log10(own["b"]) / 3], u)
    slopes = [np.array([np.nan, np.nan])] * 3 + [np.array([0.2, -0.4])]
    explorer.learn(slopes)
    twin.update([(u, slopes[3])])
    np.testing.assert_allclose(explorer.teacher.W, twin.W)
    np.testing.assert_allclose(explorer.teacher.V, twin.V)
    assert params == {"a": 0.6, "b": 0.1}


@pytest.mark.parametrize("explore", ["random", "learned"])
def test_hypergradients_help_and_wrong_ones_do_not(explore):
    scores = {"right": [], "wrong": [], "none": []}
    for seed in range(5):
        options = {"random_state": seed, "n_steps": 8}
        scores["right"].append(search(explore=explore, **options).fit(ROWS).best_score_)
        scores["wrong"].append(
            search(Bowl(sign=-1), explore=explore, **options).fit(ROWS).best_score_
        )
        scores["none"].append(search(hypergradient=False, **options).fit(ROWS).best_score_)
    mean = {name: -np.mean(found) for name, found in scores.items()}
    assert mean["right"] < 0.5 * mean["none"] and mean["right"] < 0.2 * mean["wrong"]


def test_parameters_without_gradient_change_at_random():
    space = {**SPACE, "n": randint(1, 50)}
    found = search(Bowl(names=("a",)), space, explore="learned", resample=0.0).fit(ROWS)
    results = found.cv_results_
    params = results["params"]
    copied = [r for r in range(5, 30) if results["parent"][r] % 5 != results["member"][r]]
    assert len(copied) == 5
    for row in range(5, 30):
        old, new = params[results["parent"][row]], params[row]
        assert old["a"] != new["a"]
        if row in copied:
            ratio = new["b"] / old["b"]
            assert any(np.isclose(ratio, f) for f in (0.8, 1.2)) or new["b"] in (1e-3, 1)
            assert new["n"] != old["n"]
        else:
            assert new["b"] == old["b"] and new["n"] == old["n"]


class Decayed(RegressorMixin, BaseEstimator):
    """Linear regression by gradient descent with L2 decay, and the derivative of its last step by
    the decay.
    """

    def __init__(self, l2=0.0, lr=0.05, max_epochs=1):
        self.l2 = l2
        self.lr = lr
        self.max_epochs = max_epochs

    def fit(self, X, y):
        self.__dict__.pop("coef_", None)
        for _ in range(self.max_epochs):
            self.partial_fit(X, y)
        return self

    def partial_fit(self, X, y):
        if not hasattr(self, "coef_"):
            self.coef_ = np.zeros(X.shape[1])
        for _ in range(20):
            self.before_ = self.coef_
            slope = X.T @ (X @ self.coef_ - y) / len(y) + self.l2 * self.coef_
            self.coef_ = self.coef_ - self.lr * slope
        return self

    def predict(self, X):
        return X @ self.coef_

    def hypergradient(self, X_val, y_val, names):
        slope = 2 * X_val.T @ (X_val @ self.coef_ - y_val) / len(y_val)
        return {name: -self.lr * slope @ self.before_ for name in names if name == "l2"}


@pytest.fixture(scope="module")
def regression():
    """Forty training rows of thirty columns: least squares overfits, and a decay of about 1 is
    best.
    """
    rng = np.random.RandomState(0)
    X = rng.normal(size=(440, 30))
    y = X @ rng.normal(size=30) * 0.3 + 2 * rng.normal(size=440)
    return X, y, PredefinedSplit(np.where(np.arange(440) < 40, -1, 0))


def test_a_decay_is_tuned_while_the_model_trains(regression):
    X, y, fold = regression
    train, test = X[:40], X[40:]
    model = Decayed(0.3).fit(train, y[:40])

    def validation_loss(l2):
        slope = train.T @ (train @ model.before_ - y[:40]) / 40 + l2[0] * model.before_
        return np.mean((test @ (model.before_ - 0.05 * slope) - y[40:]) ** 2)

    numeric = approx_fprime([0.3], validation_loss, 1e-6)[0]
    assert model.hypergradient(test, y[40:], ["l2"])["l2"] == pytest.approx(numeric, rel=1e-4)

    def error(l2):
        return np.mean(
            (
                test
                @ np.linalg.solve(train.T @ train / 40 + l2 * np.eye(30), train.T @ y[:40] / 40)
                - y[40:]
            )
            ** 2
        )

    best = min(error(l2) for l2 in np.geomspace(1e-4, 100, 200))
    options = {
        "scoring": "neg_mean_squared_error",
        "cv": fold,
        "n_steps": 25,
        "population": 2,
        "quantile": 0.0,
    }
    space = {"l2": loguniform(1e-4, 1e-2)}  # all start with far too little
    widened = {"l2": loguniform(1e-4, 30)}
    start = search(Decayed(), space, **{**options, "hypergradient": False}).fit(X, y)
    assert -start.best_score_ > 1.3 * best
    for seed in range(3):
        found = search(Decayed(), widened, **options, hyper_step=0.06, random_state=seed).fit(X, y)
        assert -found.best_score_ < 1.03 * best, seed


def test_validation_rows_of_a_pipeline_are_transformed(regression):
    X, y, fold = regression
    X = 5 + 3 * X
    options = {"cv": fold, "n_steps": 4, "hyper_step": 0.06}
    pipeline = Pipeline([("scale", StandardScaler()), ("model", Decayed())])
    space = {"l2": loguniform(1e-3, 10)}
    inside = search(
        pipeline, {"model__l2": space["l2"]}, resource="model__max_epochs", **options
    ).fit(X, y)
    scaled = StandardScaler().fit(X[:40]).transform(X)
    outside = search(Decayed(), space, **options).fit(scaled, y)
    np.testing.assert_array_equal(
        inside.cv_results_["mean_test_score"], outside.cv_results_["mean_test_score"]
    )
    assert len(np.unique(outside.cv_results_["param_l2"])) > 15


class Killed(BaseException):
    pass


def test_a_killed_search_with_gradients_resumes_to_the_same_end(regression, tmp_path, monkeypatch):
    X, y, _ = regression
    options = {
        "space": {"l2": loguniform(1e-3, 10), "lr": loguniform(1e-3, 0.1)},
        "explore": "learned",
        "n_steps": 4,
    }
    options |= {"cv": ShuffleSplit(2, random_state=0), "refit": False}
    whole = search(Decayed(), **options).fit(X, y)
    save, stored = Checkpoint.save, []

    def save_or_die(*args):
        stored.append(save(*args))
        if len(stored) == 25:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", save_or_die)
    with pytest.raises(Killed):
        search(Decayed(), **options, checkpoint=tmp_path).fit(X, y)
    resumed = search(Decayed(), **options, checkpoint=tmp_path).fit(X, y)
    for name, column in whole.cv_results_.items():
        if not name.endswith("_time"):
            np.testing.assert_array_equal(
                np.asarray(column), np.asarray(resumed.cv_results_[name]), err_msg=name
            )


@pytest.mark.parametrize("answer", [[0.1], {"c": 0.1}, {"a": "steep"}, None])
def test_a_wrong_answer_to_the_protocol_is_refused(answer):
    class Wrong(Bowl):
        def hypergradient(self, X_val, y_val, names):
            return answer

    with pytest.raises(
        TypeError, match=r"Wrong.hypergradient must return a dict of some of the names \['a', 'b'\]"
    ):
        search(Wrong()).fit(ROWS)


@pytest.mark.parametrize("slope", [np.nan, np.inf, 0.0])
def test_useless_gradients_change_nothing(slope):
    class Flat(Bowl):
        def hypergradient(self, X_val, y_val, names):
            return dict.fromkeys(names, slope)

    found = search(Flat(), quantile=0.0, n_steps=3).fit(ROWS)
    np.testing.assert_allclose(
        *(found.cv_results_["param_b"].data[k : k + 5].astype(float) for k in (0, 10))
    )


def test_gradients_need_a_continuous_parameter():
    with pytest.raises(
        ValueError, match=r"continuous distribution of scipy.stats; there is none among \['n'\]"
    ):
        search(space={"n": randint(1, 9)}).fit(ROWS)
    with pytest.raises(ValueError, match=r"there is none among \['n'\]"):
        search(space={**SPACE, "n": randint(1, 9)}, mutable=["n"]).fit(ROWS)
