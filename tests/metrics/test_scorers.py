"""Grouped scores in scikit-learn's searches."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_autorec import CrossedLinearClassifier
from sklearn_autorec.metrics import grouped_ndcg_score, grouped_roc_auc_score, grouped_scorer


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user": rng.choice(list("abcdefgh"), 600), "item": rng.choice(9, 600)})
    y = np.where(rng.uniform(size=600) < X["item"] / 9, "click", "none")
    return X, y


def test_the_scorer_takes_groups_from_the_table(data):
    X, y = data
    model = CrossedLinearClassifier(random_state=0).fit(X, y)
    scorer = pickle.loads(pickle.dumps(grouped_scorer("roc_auc", "user", average="groups")))
    expected = grouped_roc_auc_score(
        y, model.predict_proba(X)[:, 1], groups=X["user"], average="groups", pos_label="none"
    )
    assert scorer(model, X, y) == expected > 0.6
    assert scorer(model, pl.from_pandas(X), y) == expected


def test_a_search_and_cross_validation_take_the_scorer(data):
    X, y = data
    scorer = grouped_scorer(column="user")
    search = GridSearchCV(
        CrossedLinearClassifier(random_state=0), {"l2": [0.1, 1.0]}, scoring=scorer, cv=2
    ).fit(X, y)
    assert search.best_score_ > 0.55
    shuffled = np.random.default_rng(1).permutation(y)
    control = cross_val_score(search.best_estimator_, X, shuffled, scoring=scorer, cv=3)
    assert control.mean() < 0.55


def test_a_regressor_is_scored_by_its_predictions_and_an_array_by_position():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 9, 300), rng.normal(size=300)])
    y = np.maximum(X[:, 1] + rng.normal(size=300), 0)
    model = make_pipeline(FunctionTransformer(), Ridge()).fit(X, y)
    expected = grouped_ndcg_score(y, model.predict(X), groups=X[:, 0], k=3)
    assert grouped_scorer("ndcg", 0, k=3)(model, X, y) == expected


def test_bad_scorers_are_refused_by_name(data):
    X, y = data
    with pytest.raises(ValueError, match="metric must be one of .*, got 'auc'"):
        grouped_scorer("auc")
    with pytest.raises(ValueError, match=r"k is no option of metric='roc_auc', which has \['aver"):
        grouped_scorer("roc_auc", k=3)
    model = CrossedLinearClassifier(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="column='customer' is no column of the table"):
        grouped_scorer(column="customer")(model, X, y)
    with pytest.raises(ValueError, match="column='user' must be a position in 0 to 1"):
        grouped_scorer()(model, X.to_numpy(), y)
    with pytest.raises(ValueError, match="two classes, the estimator has 3"):
        grouped_scorer()(FakeOfThree(), X, y)


class FakeOfThree:
    classes_ = np.arange(3)

    def predict_proba(self, X):
        return np.full((len(X), 3), 1 / 3)
