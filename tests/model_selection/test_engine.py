"""What all searches share: workers, failures, time, interruption, callbacks, several scores."""

import os
import signal
import threading
import warnings

import known_curves
import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from known_curves import Counted, Curve, Troubled, columns, search
from scipy.stats import loguniform, uniform
from sklearn.datasets import make_classification
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline

from sklearn_autorec.model_selection import (
    RandomSampler,
    SuccessiveHalvingSearchCV,
)

X, Y = make_classification(60, n_informative=4, random_state=0)
WARM = pytest.mark.parametrize("warm", [False, True])


@WARM
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_two_workers_find_what_one_finds(warm, backend):
    one = search(warm=warm, cv=ShuffleSplit(2, random_state=1)).fit(X, Y)
    with parallel_config(backend=backend):
        two = search(warm=warm, cv=ShuffleSplit(2, random_state=1), n_jobs=2).fit(X, Y)
    assert columns(one) == columns(two)


def test_two_workers_share_the_folds_of_pipelines():
    pipeline = make_pipeline(Counted(), Curve())
    space = {"counted__factor": [1.0, 2.0], "curve__a": uniform(), "curve__b": uniform()}
    options = {"resource": "curve__epochs", "warm": True}
    two = search(pipeline, space, n_jobs=2, **options).fit(X, Y)
    assert columns(two) == columns(search(pipeline, space, **options).fit(X, Y))


def test_splits_are_drawn_once():
    """A splitter without seed gives other splits each time; candidates are compared on the same."""
    known = []

    class Seen(Curve):
        def fit(self, X, y):
            known.append(tuple(X[:, 0]))
            return super().fit(X, y)

    search(Seen(), cv=ShuffleSplit(2)).fit(X, Y)
    assert len(set(known)) == 2


@WARM
def test_failures_score_error_score_and_are_named(warm):
    with pytest.warns(FitFailedWarning) as caught:
        found = search(Troubled(trouble="raise"), warm=warm, error_score=-7.0).fit(X, Y)
    results = found.cv_results_
    bad = np.array([p["a"] > 0.5 for p in results["params"]])
    assert (
        bad.any()
        and (results["mean_test_score"][bad] == -7).all()
        and (results["mean_test_score"][~bad] > 0).all()
    )
    text = str(caught[0].message)
    assert (
        "row " in text
        and "'a': " in text
        and "ArithmeticError: a is" in text
        and "Traceback" in text
    )
    assert found.best_params_["a"] < 0.5


@WARM
def test_failed_and_nan_candidates_do_not_go_on(warm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitFailedWarning)
        warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
        for trouble in ("raise", "nan"):
            results = search(Troubled(trouble=trouble), warm=warm).fit(X, Y).cv_results_
            bad = np.isnan(results["mean_test_score"])
            assert bad.any() and not bad[results["iter"] > 0].any()
            assert results["rank_test_score"][bad].min() > results["rank_test_score"][~bad].max()


@WARM
def test_error_score_raise_stops_at_once(warm):
    with pytest.raises(ArithmeticError, match="a is"):
        search(Troubled(trouble="raise"), warm=warm, error_score="raise").fit(X, Y)


@WARM
def test_nothing_but_failures_is_an_error_with_the_traceback(warm):
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match="(?s)All the .* fits failed.*a is"),
    ):
        search(Troubled(trouble="raise"), {"a": uniform(0.6, 0.1)}, warm=warm).fit(X, Y)


def test_a_bracket_without_a_sound_candidate_ends_and_the_next_begins():
    space = {"a": [0.9], "b": uniform()}
    spaces = [space, space, {"a": [0.4], "b": uniform()}]
    with pytest.warns(FitFailedWarning):
        found = search(Troubled(trouble="raise"), spaces, random_state=2, error_score=-1.0).fit(
            X, Y
        )
    assert found.best_params_["a"] == 0.4 and set(found.cv_results_["bracket"]) == {0, 1, 2}


def test_a_transformer_that_fails_fails_its_candidates():
    pipeline = make_pipeline(Counted(), Curve())
    space = {"counted__trouble": [False, True], "curve__a": uniform()}
    with pytest.warns(FitFailedWarning, match="no transformation"):
        found = search(pipeline, space, resource="curve__epochs", warm=True, error_score=-1.0).fit(
            X, Y
        )
    bad = np.array([p["counted__trouble"] for p in found.cv_results_["params"]])
    assert (found.cv_results_["mean_test_score"][bad] == -1).all() and not bad[found.best_index_]
    with pytest.raises(ArithmeticError, match="no transformation"):
        search(pipeline, space, resource="curve__epochs", warm=True, error_score="raise").fit(X, Y)


@WARM
@pytest.mark.parametrize("trouble", ["interrupt", "swallow"])
def test_ctrl_c_leaves_the_best_of_what_has_finished(warm, trouble):
    known_curves.TRAINED.clear()
    finished = search(warm=warm).fit(X, Y)
    known_curves.TRAINED.clear()
    with pytest.warns(UserWarning, match="interrupted"):
        model = search(Troubled(trouble=trouble), warm=warm).fit(X, Y)
    assert model.stopped_ == "interrupted" and finished.stopped_ == "finished"
    # Ten fits, two splits: five candidates of the first rung.
    assert len(model.cv_results_["params"]) == 5
    np.testing.assert_array_equal(
        model.cv_results_["mean_test_score"], finished.cv_results_["mean_test_score"][:5]
    )
    known_curves.TRAINED.clear()
    with pytest.warns(UserWarning, match="interrupted"):
        model.set_params(refit=True).fit(X, Y)
    assert model.best_estimator_.a == model.best_params_["a"]


def test_ctrl_c_before_anything_has_finished_is_ctrl_c():
    known_curves.TRAINED[:] = [None] * 10
    with pytest.raises(KeyboardInterrupt):
        search(Troubled(trouble="interrupt")).fit(X, Y)


@WARM
def test_max_time(warm):
    found = search(Troubled(seconds=0.02), max_resources=81, warm=warm, max_time=0.5).fit(X, Y)
    assert found.stopped_ == "max_time"
    assert 1 <= len(found.cv_results_["params"]) < 81
    assert (
        found.cv_results_["n_resources"][found.best_index_]
        == found.cv_results_["n_resources"].max()
    )
    with pytest.raises(ValueError, match="evaluated nothing before it was stopped .max_time"):
        search(max_time=1e-9).fit(X, Y)


class Recorder:
    """A callback that keeps the names of the tasks that end."""

    def __init__(self):
        self.ended, self.begun, self.sizes = [], [], {}

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)
        self.sizes[context.task_name] = context.max_subtasks

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)

    def teardown(self, estimator, context):
        pass


@WARM
def test_callbacks_hear_of_every_evaluation(warm):
    pytest.importorskip("sklearn.callback", reason="scikit-learn has no callbacks before 1.9")
    recorder = Recorder()
    found = search(warm=warm, refit=True).set_callbacks(recorder).fit(X, Y)
    n = 2 * len(found.cv_results_["params"])
    for names in (recorder.begun, recorder.ended):
        assert names.count("candidate-split-evaluation") == n and names.count("batch") == 6
        assert (
            names.count("search")
            == names.count("refit-with-best-params")
            == names.count("fit")
            == 1
        )
    assert recorder.ended[-1] == "fit" and recorder.sizes["fit"] == 2


@WARM
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_bars(warm, n_jobs, capsys):
    pytest.importorskip("rich", reason="progress bars need rich")
    callback = pytest.importorskip(
        "sklearn.callback", reason="scikit-learn has no callbacks before 1.9"
    )
    found = (
        search(warm=warm, n_jobs=n_jobs)
        .set_callbacks(callback.ProgressBar(max_propagation_depth=0))
        .fit(X, Y)
    )
    assert columns(found) == columns(search(warm=warm).fit(X, Y))


@WARM
def test_several_scores(warm):
    scoring = {"plain": lambda m, X, y: m.score(X, y), "against": lambda m, X, y: 1 - m.score(X, y)}
    found = search(scoring=scoring, refit="against", warm=warm, return_train_score=True).fit(X, Y)
    results = found.cv_results_
    assert found.multimetric_ and set(found.scorer_) == {"plain", "against"}
    np.testing.assert_allclose(results["mean_test_plain"] + results["mean_train_against"], 1)
    # The score named by refit decides who goes on: here the worst curves.
    first, last = (
        (results["bracket"] == 2) & (results["iter"] == 0),
        (results["bracket"] == 2) & (results["iter"] == 2),
    )
    assert (
        results["candidate"][last]
        == results["candidate"][first][results["mean_test_plain"][first].argmin()]
    )
    whole = results["n_resources"] == 9
    assert found.best_score_ == results["mean_test_against"][whole].max()
    with pytest.raises(ValueError, match="refit must be set to a scorer key"):
        search(scoring=scoring, refit=True).fit(X, Y)


@WARM
def test_one_function_with_several_scores_and_failures(warm):
    def scoring(model, X, y):
        return {"plain": model.score(X, y), "against": -model.score(X, y)}

    with pytest.warns(FitFailedWarning):
        found = search(
            Troubled(trouble="raise"), scoring=scoring, refit="plain", warm=warm, error_score=-3.0
        ).fit(X, Y)
    bad = np.array([p["a"] > 0.5 for p in found.cv_results_["params"]])
    assert (found.cv_results_["mean_test_against"][bad] == -3).all()
    assert not bad[found.best_index_]


def test_refit_may_be_a_function():
    found = search(refit=lambda results: int(np.argmin(results["mean_test_score"]))).fit(X, Y)
    assert found.best_index_ == found.cv_results_["mean_test_score"].argmin()
    assert found.best_estimator_.a == found.best_params_["a"] and not hasattr(found, "best_score_")


def test_the_fitted_search_is_its_best_estimator():
    data, y = make_classification(200, n_informative=4, random_state=0)
    found = SuccessiveHalvingSearchCV(
        LogisticRegression(), {"C": loguniform(1e-3, 10)}, random_state=0
    ).fit(data, y)
    best = LogisticRegression(C=found.best_params_["C"]).fit(data, y)
    np.testing.assert_array_equal(found.predict_proba(data), best.predict_proba(data))
    assert found.score(data, y) == best.score(data, y) and found.n_features_in_ == 20
    np.testing.assert_array_equal(found.classes_, [0, 1])


def test_ctrl_c_while_workers_work():
    with parallel_config(backend="loky"):
        Parallel(n_jobs=2)(delayed(abs)(i) for i in range(4))  # workers are up
        timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.warns(UserWarning, match="interrupted"):
            found = search(Troubled(seconds=0.1), max_resources=81, n_jobs=2).fit(X, Y)
        timer.join()
        assert found.stopped_ == "interrupted" and 1 <= len(found.cv_results_["params"]) < 81


@pytest.mark.parametrize("times", [0, 1, 2])
def test_ctrl_c_between_two_rungs(times):
    """Once is remembered until the next fits would begin; the second time, or where it comes as an
    exception, at once.
    """
    told = []

    class Interrupting(RandomSampler):
        def tell(self, params, score, resource):
            told.append(resource)
            if told.count(3) == 1:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)
                if not times:
                    raise KeyboardInterrupt

    known_curves.TRAINED.clear()
    with pytest.warns(UserWarning, match="interrupted"):
        found = search(sampler=Interrupting).fit(X, Y)
    assert len(known_curves.TRAINED) == 24
    assert found.stopped_ == "interrupted" and len(found.cv_results_["params"]) == 12
    assert told.count(3) == (3 if times == 1 else 1)
    assert found.cv_results_["n_resources"][found.best_index_] == 3


def test_a_killed_worker_does_not_lose_the_search(tmp_path):
    """At the end of the file: new workers take seconds to start."""
    with parallel_config(backend="loky"):
        found = search(Troubled(trouble="die", folder=tmp_path), warm=True, n_jobs=2).fit(X, Y)
    assert (tmp_path / "died").exists()
    assert columns(found) == columns(search(Troubled(), warm=True).fit(X, Y))
