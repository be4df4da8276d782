"""Click rates of the values of a column, drawn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_autorec.inspection import CalibrationByFieldDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    city = rng.choice(["Ulm", "Rom", "Bern", None], 4000, p=[0.4, 0.3, 0.2, 0.1])
    y = rng.uniform(size=4000) < np.where(city == "Rom", 0.4, 0.2)
    return pd.DataFrame({"city": city, "week": np.arange(4000) % 3}), np.where(y, "yes", "no")


def test_the_value_that_is_off_stands_out(rows):
    X, y = rows
    display = CalibrationByFieldDisplay.from_predictions(
        y, np.full(len(y), 0.2), X["city"], field_name="city", pos_label="yes"
    )
    assert display.off() == ["Rom"]
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["Ulm", "Rom", "Bern", "(missing)"]
    assert display.ax_.get_ylabel() == "city"
    drawn = {line.get_label(): line.get_xydata() for line in display.ax_.get_lines()}
    true_rate = [
        (y[(X["city"].fillna("(missing)") == v).to_numpy()] == "yes").mean() for v in labels
    ]
    np.testing.assert_allclose(drawn["clicks"][:, 0], true_rate)
    np.testing.assert_allclose(drawn["clicks, outside"], [[true_rate[1], 1]])
    assert "outside" in "".join(t.get_text() for t in display.ax_.get_legend().get_texts())


def test_nothing_is_off_where_the_probabilities_are_right(rows):
    X, y = rows
    right = np.where(X["city"] == "Rom", 0.4, 0.2)
    display = CalibrationByFieldDisplay.from_predictions(y, right, X["city"], pos_label="yes")
    assert display.off() == []
    assert len(display.ax_.get_legend().get_texts()) == 2


def test_an_estimator_is_drawn_with_columns_by_name_or_position(rows):
    X, y = rows
    model = make_pipeline(FunctionTransformer(), DummyClassifier()).fit(X, y)
    by_name = CalibrationByFieldDisplay.from_estimator(model, X, y, "week", max_values=2)
    by_place = CalibrationByFieldDisplay.from_estimator(model, X.to_numpy(), y, 1, max_values=2)
    assert len(by_name.ax_.get_yticklabels()) == 2
    assert len(by_name.table) == 3
    np.testing.assert_array_equal(by_name.table["rate"], by_place.table["rate"])
    own = plt.subplots()[1]
    assert by_name.plot(ax=own).ax_ is own


def test_bad_input_is_refused_by_name(rows):
    X, y = rows
    model = DummyClassifier().fit(X, y)
    with pytest.raises(ValueError, match="field='town' is no column of X"):
        CalibrationByFieldDisplay.from_estimator(model, X, y, "town")
    three = DummyClassifier().fit(X, np.arange(len(y)) % 3)
    with pytest.raises(ValueError, match="two classes, the estimator has 3"):
        CalibrationByFieldDisplay.from_estimator(three, X, y, "city")
