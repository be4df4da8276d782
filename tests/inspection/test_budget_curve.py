import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import MDE, Hashing
from sklearn_autorec.inspection import BudgetCurveDisplay
from sklearn_autorec.metrics import nbytes_scorer

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

ROWS = [
    ("NIS", 4000, 0.72, 0.01),
    ("hashing", 2000, 0.66, np.nan),
    ("NIS", 1000, 0.70, 0.02),
    ("hashing", 8000, 0.70, np.nan),
    ("dense", 16000, 0.73, 0.01),
]


@pytest.mark.parametrize(
    "table",
    [ROWS, pd.DataFrame(ROWS, columns=["name", "bytes", "score", "std"])],
    ids=["list", "frame"],
)
def test_methods_are_lines_baselines_are_dashed(table):
    display = BudgetCurveDisplay.from_results(
        table, baselines=["hashing"], dense="dense", score_name="AUC"
    )
    found = {name: line.get_xydata().tolist() for name, line in display.lines_.items()}
    assert found == {
        "NIS": [[1000, 0.70], [4000, 0.72]],
        "hashing": [[2000, 0.66], [8000, 0.70]],
    }
    styles = {name: line.get_linestyle() for name, line in display.lines_.items()}
    assert styles == {"NIS": "-", "hashing": "--"}
    ax = display.ax_
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "AUC"
    level = next(line for line in ax.lines if line.get_label() == "whole tables")
    assert set(level.get_ydata()) == {0.73}
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["NIS", "hashing", "whole tables"]
    bars = [c for c in ax.collections if len(c.get_segments())]
    assert len(bars) == 1  # of those whose deviation is known
    np.testing.assert_allclose([s[:, 1] for s in bars[0].get_segments()][0], [0.68, 0.72])


def test_it_draws_on_axes_of_your_own():
    _, ax = plt.subplots()
    display = BudgetCurveDisplay.from_results([("a", 10, 0.5), ("a", 5, 0.4)], ax=ax)
    assert display.ax_ is ax and display.figure_ is ax.figure
    assert display.plot().ax_ is not ax


@pytest.mark.parametrize(
    "table, options, message",
    [
        ([], {}, "table must hold rows of"),
        ([("a", 1)], {}, "table must hold rows of"),
        ([("a", 0, 0.5)], {}, "bytes above 0 and a score of 'a'"),
        ([("a", 5, np.nan)], {}, "bytes above 0 and a score of 'a'"),
        (pd.DataFrame({"name": ["a"], "bytes": [1]}), {}, r"no columns \['score'\]"),
        (ROWS, {"baselines": ["PEP"]}, "baselines names 'PEP'"),
        (ROWS, {"dense": "NIS"}, "dense='NIS' must name one row of the table, which has 2"),
        (ROWS, {"dense": "x"}, "dense='x' must name one row of the table, which has 0"),
    ],
)
def test_other_tables_are_refused(table, options, message):
    with pytest.raises(ValueError, match=message):
        BudgetCurveDisplay.from_results(table, **options)


def test_a_grid_over_budgets():
    X, y = mixed_clicks(300)
    model = CTRClassifier(network="fm", embedding_dim=4, max_epochs=1, random_state=0)
    grid = [{"search": [s], "search__budget": [0.3, 0.8]} for s in (MDE(), Hashing())]
    grid.append({"search": [None]})
    scoring = {"nbytes": nbytes_scorer, "auc": "roc_auc"}
    search = GridSearchCV(model, grid, scoring=scoring, refit="auc", cv=2).fit(X, y)
    display = BudgetCurveDisplay.from_cv_results(search, baselines=["Hashing"], dense="no search")
    assert [*display.lines_] == ["MDE", "Hashing"] and display.ax_.get_ylabel() == "auc"
    found = search.cv_results_
    np.testing.assert_allclose(
        display.lines_["MDE"].get_xydata(),
        np.column_stack([found["mean_test_nbytes"][:2], found["mean_test_auc"][:2]]),
    )
    assert display.dense == (found["mean_test_nbytes"][4], found["mean_test_auc"][4])
    with pytest.raises(ValueError, match="bytes='size' is no metric of the search, which has"):
        BudgetCurveDisplay.from_cv_results(search, bytes="size")
    with pytest.raises(ValueError, match="score='loss' is no metric"):
        BudgetCurveDisplay.from_cv_results(search, score="loss")
    with pytest.raises(ValueError, match="must be fitted"):
        BudgetCurveDisplay.from_cv_results(model)


def test_the_scorer_counts_the_bytes_of_a_model():
    X, y = mixed_clicks(200)
    model = CTRClassifier(network="fm", max_epochs=1, random_state=0).fit(X, y)
    assert nbytes_scorer(model, X, y) == model.nbytes_["total"]
    assert nbytes_scorer(make_pipeline(model), X) == model.nbytes_["total"]
    with pytest.raises(TypeError, match="has no nbytes_"):
        nbytes_scorer(DummyClassifier().fit(X, y), X, y)


def test_matplotlib_is_asked_for_by_name(no_matplotlib):
    no_matplotlib()
    with pytest.raises(ImportError, match=r"BudgetCurveDisplay.from_results requires matplotlib"):
        BudgetCurveDisplay.from_results(ROWS)
