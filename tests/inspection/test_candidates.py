"""The picture of a hyperparameter search, against what the search stored."""

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import RandomizedSearchCV

from sklearn_autorec.inspection import CandidateHistoryDisplay, SearchHistoryDisplay
from sklearn_autorec.model_selection import HyperbandSearchCV

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

X, Y = make_classification(150, n_informative=4, random_state=0)
MODEL = SGDClassifier(loss="log_loss", tol=None, random_state=0)
SPACE = {"alpha": loguniform(1e-5, 1)}


@pytest.fixture(scope="module")
def search():
    options = {
        "resource": "max_iter",
        "max_resources": 27,
        "warm": True,
        "cv": 2,
        "random_state": 0,
    }
    return HyperbandSearchCV(MODEL, SPACE, scoring="neg_log_loss", **options).fit(X, Y)


def points(ax):
    """All drawn dots, sorted."""
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    return np.array(sorted((x, y) for line in dots for x, y in zip(*line.get_data(), strict=True)))


def test_every_evaluation_is_drawn_at_its_resource_and_score(search):
    display = SearchHistoryDisplay.from_estimator(search)
    assert isinstance(display, CandidateHistoryDisplay)
    results = search.cv_results_
    drawn = points(display.axes_["score"])
    assert len(drawn) == len(results["params"])
    np.testing.assert_allclose(sorted(drawn[:, 1]), sorted(results["mean_test_score"]))
    # Brackets stand beside each other, nearer to their resource than to any other.
    nearest = 3 ** np.round(np.log(drawn[:, 0]) / np.log(3))
    assert sorted(nearest) == sorted(results["n_resources"])
    assert [t.get_text() for t in display.ax_.get_xticklabels()] == ["1", "3", "9", "27"]
    assert display.ax_.get_xscale() == "log" and display.ax_.get_ylabel() == "neg log loss"
    assert [t.get_text() for t in display.ax_.get_legend().get_texts()] == [
        *(f"bracket {s}" for s in range(4)),
        "winner",
    ]


def test_lines_join_the_rungs_of_a_candidate(search):
    display = CandidateHistoryDisplay.from_estimator(search)
    lines = display.lines()
    assert len(lines) == 49
    lengths = sorted(len(x) for x, _ in lines.values())
    assert lengths[-1] == 4 and sum(lengths) == len(search.cv_results_["params"])
    for (bracket, _), (x, _) in lines.items():
        assert x.tolist() == [27 // 3 ** (bracket - i) for i in range(len(x))]


def test_regret_falls_to_nothing_and_costs_what_was_spent(search):
    display = CandidateHistoryDisplay.from_estimator(search)
    spent, regret = display.regret()
    assert spent[-1] == search.total_resources_ == 357 and regret[-1] == 0
    assert (np.diff(regret) <= 0).all() and (np.diff(spent) > 0).all()
    step = display.axes_["regret"].lines[0]
    np.testing.assert_array_equal(step.get_xdata(), spent)
    display = CandidateHistoryDisplay.from_estimator(search, optimum=0.0)
    np.testing.assert_allclose(display.regret()[1][-1], -max(
        search.cv_results_["mean_test_score"]
    ))  # fmt: skip


def test_a_search_of_scikit_learn_counts_evaluations():
    search = RandomizedSearchCV(
        MODEL,
        SPACE,
        n_iter=8,
        cv=2,
        random_state=0,
        scoring=["accuracy", "roc_auc"],
        refit="roc_auc",
    ).fit(X, Y)
    display = CandidateHistoryDisplay.from_estimator(search)
    drawn = points(display.ax_)
    assert drawn[:, 0].tolist() == list(range(1, 9))
    np.testing.assert_array_equal(drawn[:, 1], search.cv_results_["mean_test_roc_auc"])
    assert display.ax_.get_xlabel() == "evaluation" and display.ax_.get_ylabel() == "roc auc"
    display = CandidateHistoryDisplay.from_estimator(search, metric="accuracy", group="param_alpha")
    np.testing.assert_array_equal(
        points(display.ax_)[:, 1], search.cv_results_["mean_test_accuracy"]
    )
    with pytest.raises(ValueError, match="metric='f1' is none of the scores"):
        CandidateHistoryDisplay.from_estimator(search, metric="f1")
    with pytest.raises(ValueError, match="group='bracket_' is no column"):
        CandidateHistoryDisplay.from_estimator(search, metric="accuracy", group="bracket_")


def test_given_axes_get_the_scores_only(search):
    _, ax = plt.subplots()
    display = CandidateHistoryDisplay.from_estimator(search, ax=ax)
    assert display.ax_ is ax and list(display.axes_) == ["score"] and len(plt.get_fignums()) == 1


def test_failures_are_left_out():
    display = CandidateHistoryDisplay([np.nan, 0.5, -np.inf, 0.7], spent=[1, 1, 2, 2]).plot()
    spent, regret = display.regret()
    assert spent.tolist() == [2, 4, 6]
    np.testing.assert_allclose(regret, [0.2, 0.2, 0])
    with pytest.raises(ValueError, match="no score is a finite number"):
        CandidateHistoryDisplay([np.nan]).plot()


def test_one_candidate_with_one_evaluation():
    CandidateHistoryDisplay([0.5], resource=[3], spent=[3], candidate=[0], group=[0], best=0).plot()


def test_unfitted():
    with pytest.raises(NotFittedError):
        CandidateHistoryDisplay.from_estimator(HyperbandSearchCV(MODEL, SPACE))
