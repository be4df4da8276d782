"""Candidates that kill or hang their process: named, scored with error_score, and the search goes
on.
"""

import os
import signal
import threading
import time

import numpy as np
import pytest
from joblib import parallel_config
from known_curves import Curve, Troubled, columns
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import ShuffleSplit
from sklearn.pipeline import make_pipeline
from troubles import Deadly, DeadlyStep

from sklearn_autorec.model_selection import (
    BayesSearchCV,
    PopulationSearchCV,
    RegularizedEvolutionSearchCV,
    SuccessiveHalvingSearchCV,
)

X, Y = np.random.RandomState(0).normal(size=(40, 3)), np.tile([0, 1], 20)
ONE = ShuffleSplit(1, random_state=0)
pytestmark = [
    pytest.mark.filterwarnings("ignore:One or more of the"),
    pytest.mark.filterwarnings("ignore:The space has"),
]


def table(search):
    """Comparable, also where scores are NaN."""
    return repr(columns(search))


def search(estimator=None, **options):
    """Four candidates, of which b=3 is deadly; the best two of the first rung go on."""
    options = {
        "resource": "epochs",
        "max_resources": 4,
        "eta": 2,
        "cv": ONE,
        "random_state": 0,
        "refit": False,
    } | options
    estimator = Deadly() if estimator is None else estimator
    return SuccessiveHalvingSearchCV(
        estimator, {"b": [0.1, 0.2, 0.4, 3]}, n_candidates=4, **options
    )


def reference(**options):
    """What is to come out: the same search with a candidate that raises."""
    with pytest.warns(FitFailedWarning):
        return table(search(Raising(), **options).fit(X, Y))


class Raising(Curve):
    def fit(self, X, y, sample_weight=None):
        if self.b == 3:
            raise ArithmeticError
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize(
    "end",
    ["exit", *(pytest.param(end, marks=pytest.mark.slow) for end in ("segfault", "out of memory"))],
)
def test_a_candidate_that_kills_its_worker_is_named(end):
    with (
        parallel_config("loky"),
        pytest.warns(FitFailedWarning, match=r"'b': 3.*process died 2 times \(exit code"),
    ):
        found = search(Deadly(end=end), n_jobs=2).fit(X, Y)
    assert table(found) == reference()


@pytest.mark.parametrize("warm", [pytest.param(False, marks=pytest.mark.slow), True])
def test_with_one_job_a_guard_may_be_asked_for(warm, tmp_path):
    options = {"warm": warm, "return_train_score": True, "checkpoint": tmp_path}
    with pytest.warns(FitFailedWarning, match="'b': 3.*process died 2 times"):
        found = search(candidate_timeout=float("inf"), **options).fit(X, Y)
    assert table(found) == reference(warm=warm, return_train_score=True)
    # It is not tried again.
    with pytest.warns(FitFailedWarning, match="'b': 3.*process died 2 times"):
        again = search(**options).fit(X, Y)
    assert table(again) == table(found)


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_candidate_that_hangs_is_ended(n_jobs):
    began = time.monotonic()
    with pytest.warns(
        FitFailedWarning, match=r"'b': 3.*longer than candidate_timeout=1\.5 seconds"
    ):
        found = search(Deadly(end="hang"), n_jobs=n_jobs, candidate_timeout=1.5).fit(X, Y)
    assert table(found) == reference() and time.monotonic() - began < 60


def test_a_model_that_dies_as_it_goes_on_keeps_what_it_was():
    """Only its row in the second rung fails, with the units that it was to get."""
    with pytest.warns(FitFailedWarning, match="'b': 3"):
        found = search(Deadly(age=2), warm=True, candidate_timeout=float("inf")).fit(X, Y)
    table = found.cv_results_
    failed = np.flatnonzero(np.isnan(table["mean_test_score"]))
    assert [
        (table["params"][k]["b"], table["iter"][k], table["n_resources_spent"][k]) for k in failed
    ] == [(3, 1, 1)]


def test_several_scores_and_errors_that_raise():
    scoring = {"one": "accuracy", "two": "accuracy"}
    options = {
        "scoring": scoring,
        "refit": False,
        "candidate_timeout": float("inf"),
        "max_resources": 1,
    }
    with pytest.warns(FitFailedWarning):
        found = search(**options, error_score=-1.0).fit(X, Y).cv_results_
    lost = [k for k, params in enumerate(found["params"]) if params["b"] == 3]
    assert found["mean_test_one"][lost].tolist() == found["mean_test_two"][lost].tolist() == [-1.0]
    with pytest.raises(RuntimeError, match="'b': 3.* on split 0 was given up: its process died"):
        search(**options, error_score="raise").fit(X, Y)


@pytest.mark.slow
def test_a_search_of_nothing_but_deaths_says_so():
    with (
        pytest.warns(FitFailedWarning),
        pytest.raises(ValueError, match=r"All the 2 fits failed.*\n.*process died"),
    ):
        SuccessiveHalvingSearchCV(
            Deadly(b=3),
            {"a": [1, 2]},
            n_candidates=2,
            resource="epochs",
            max_resources=1,
            cv=ONE,
            candidate_timeout=1e9,
        ).fit(X, Y)


def test_steps_before_the_last_are_guarded_too():
    pipeline = make_pipeline(DeadlyStep(), Curve())
    found = SuccessiveHalvingSearchCV(
        pipeline,
        {"deadlystep__factor": [1, 3]},
        n_candidates=2,
        resource="curve__epochs",
        max_resources=2,
        eta=2,
        warm=True,
        cv=ONE,
        refit=False,
        candidate_timeout=float("inf"),
    )
    with pytest.warns(
        FitFailedWarning, match=r"'deadlystep__factor': 3\} on split 0, were given up"
    ):
        found.fit(X, Y)
    scores = dict(
        zip([p["deadlystep__factor"] for p in found.cv_results_["params"][:2]], [0, 1], strict=True)
    )
    assert np.isnan(found.cv_results_["mean_test_score"][scores[3]])
    assert np.isfinite(found.cv_results_["mean_test_score"][scores[1]])


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: BayesSearchCV(
            Deadly(), {"b": [0.1, 3]}, n_iter=4, sampler="random", **options
        ),
        lambda **options: RegularizedEvolutionSearchCV(
            Deadly(), {"b": [0.1, 3]}, n_iter=4, population=3, tournament=2, **options
        ),
        lambda **options: PopulationSearchCV(
            Deadly(),
            {"b": [0.1, 3]},
            resource="epochs",
            population=4,
            n_steps=2,
            probe_rows=0,
            **options | {"cv": None},
        ),
    ],
)
def test_all_searches_have_it(make):
    with pytest.warns(FitFailedWarning, match="'b': 3"):
        found = make(candidate_timeout=float("inf"), random_state=0, cv=ONE, refit=False).fit(X, Y)
    deadly = np.array([params["b"] == 3 for params in found.cv_results_["params"]])
    assert deadly.any() and (np.isnan(found.cv_results_["mean_test_score"]) == deadly).all()


def test_what_ends_the_search_itself_is_guarded_after_two_deaths(tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    for _ in range(2):
        child = os.fork()
        if child == 0:
            try:
                search(checkpoint=tmp_path, cv=2).fit(X, Y)
            finally:
                os._exit(77)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3  # that of the candidate
    assert [file.stat().st_size for file in tmp_path.glob("begun-*")] == [2]
    with pytest.warns(FitFailedWarning, match="'b': 3.*process died 2 times"):
        found = search(checkpoint=tmp_path, cv=2).fit(X, Y)
    assert table(found) == reference(cv=2) and not list(tmp_path.glob("begun-*"))


def test_an_interrupt_ends_the_processes(tmp_path):
    def interrupt():
        while len(list(tmp_path.glob("evaluation-*"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.warns(UserWarning, match="interrupted"):
        found = search(Troubled(seconds=0.3), candidate_timeout=60, checkpoint=tmp_path).fit(X, Y)
    thread.join()
    assert found.stopped_ == "interrupted" and 1 <= len(found.cv_results_["params"]) < 7


def test_processes_of_other_machines_cannot_be_ended():
    from joblib import register_parallel_backend
    from joblib._parallel_backends import ThreadingBackend

    class Elsewhere(ThreadingBackend):
        pass

    register_parallel_backend("elsewhere", Elsewhere)
    with (
        parallel_config("elsewhere"),
        pytest.raises(ValueError, match="candidate_timeout=5 needs processes of this"),
    ):
        search(Curve(), candidate_timeout=5).fit(X, Y)
