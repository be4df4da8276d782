"""The crossed linear model against scikit-learn, planted crosses, weights, and what it must do in
service.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from small_tables import mixed_clicks

from sklearn_autorec import CrossedLinearClassifier, CrossedLinearRegressor
from sklearn_autorec.linear_model._core import CrossedLinear


@pytest.fixture(scope="module")
def clicks():
    return mixed_clicks(4000, n_fields=5, cardinality=6, pairs=[(0, 1)], missing_rate=0.05)


@pytest.fixture(scope="module")
def fitted(clicks):
    return CrossedLinearClassifier(random_state=0).fit(*clicks)


def one_hot(model, X):
    ids = model.model_.term_ids(model.encoder_.encode(X))
    rows = np.repeat(np.arange(len(ids)), ids.shape[1])
    shape = (len(ids), model.model_.terms.n_weights)
    matrix = sparse.csr_matrix((np.ones(ids.size), (rows, ids.ravel())), shape=shape)
    return matrix[:, 1:]  # weight 0 is that of empty places


def test_logits_are_those_of_logistic_regression_on_the_one_hot_matrix(clicks):
    X, y = clicks
    model = CrossedLinearClassifier(l2=2.0, n_bins=10, random_state=0).fit(X, y)
    assert ("f0", "f1") in model.crosses_
    matrix = one_hot(model, X)
    reference = LogisticRegression(C=0.5, tol=1e-10, max_iter=5000).fit(matrix, y)
    assert_allclose(model.decision_function(X), reference.decision_function(matrix), atol=5e-3)
    assert_allclose(
        one_hot(model, X) @ model.model_.weights[0, 1:] + model.model_.bias[0],
        model.decision_function(X),
    )


def test_planted_pair_and_triple_are_found_and_shuffled_labels_give_none():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.integers(3, size=(6000, 6)), columns=list("abcdef")).astype(str)
    effect = rng.normal(scale=2, size=(3, 3, 3)) + rng.normal(scale=2, size=(3, 3, 1))
    a, b, c = (X[name].astype(int) for name in "abc")
    y = (effect[a, b, c] + rng.logistic(size=6000) > 0).astype(int)
    assert ("a", "b", "c") in CrossedLinearClassifier(random_state=0).fit(X, y).crosses_
    shuffled = [
        CrossedLinearClassifier(random_state=s).fit(X, rng.permutation(y)).crosses_
        for s in range(3)
    ]
    assert shuffled == [[], [], []]


def test_a_zero_weight_is_absence(clicks):
    X, y = clicks
    rows = np.random.default_rng(0).random(len(y)) < 0.7
    weighted = CrossedLinearClassifier(random_state=0).fit(X, y, sample_weight=rows.astype(float))
    left_out = CrossedLinearClassifier(random_state=0).fit(X[rows], y[rows])
    assert_array_equal(weighted.decision_function(X), left_out.decision_function(X))
    assert weighted.crosses_ == left_out.crosses_ == [("f0", "f1")]


def test_a_zero_weight_is_absence_on_encoded_tables_too(clicks, fitted):
    table, y = fitted.encoder_.encode(clicks[0]), np.asarray(clicks[1], dtype=float)
    rows = np.random.default_rng(0).random(len(y)) < 0.7
    weighted = CrossedLinear().fit(table, fitted.encoder_, y, rows.astype(float), random_state=0)
    left_out = CrossedLinear().fit(table.take(rows), fitted.encoder_, y[rows], random_state=0)
    assert weighted.crosses == left_out.crosses
    assert_array_equal(weighted.logits(table), left_out.logits(table))
    assert_array_equal(weighted.rows, left_out.rows)


def test_weights_are_repetitions_without_a_search(clicks):
    X, y = clicks
    X = X.drop(columns="x0")
    counts = np.random.default_rng(0).integers(1, 4, size=len(y))
    models = [CrossedLinearClassifier(max_crosses=0) for _ in range(3)]
    models[0].fit(X, y, sample_weight=counts)
    models[1].fit(X.loc[X.index.repeat(counts)], np.repeat(y, counts))
    models[2].fit(X, y)
    weighted, repeated, plain = (model.decision_function(X) for model in models)
    assert_allclose(weighted, repeated, atol=1e-6)
    assert abs(plain - weighted).max() > 0.01


def test_a_row_alone_has_the_bits_of_the_batch(clicks, fitted):
    X = clicks[0].assign(f4=["never seen"] * 50 + ["v1"] * (len(clicks[0]) - 50)).head(100)
    batch = fitted.decision_function(X)
    alone = [fitted.decision_function(X[i : i + 1])[0] for i in range(100)]
    assert_array_equal(batch, alone)


def test_unseen_values_weigh_nothing_and_explanations_add_up(clicks, fitted):
    X = clicks[0].head(20).assign(f2="never seen")
    parts = fitted.explain(X)
    assert (parts["f2"] == 0).all()
    assert_allclose(parts.sum(axis=1), fitted.decision_function(X))
    table = fitted.coefficients_
    assert set(table["term"]) == set(fitted.term_names_) and (table["rows"] > 0).all()
    assert {"<missing>"} <= set(table.loc[table["term"] == "f0", "value"])


def test_held_out_logits_are_those_of_models_without_the_rows(clicks):
    X, y = clicks
    y = np.random.default_rng(0).permutation(y)
    model = CrossedLinearClassifier(l2=0.01, random_state=0).fit(
        X.assign(id=np.arange(len(y)).astype(str)), y
    )
    parts = np.random.default_rng(1).integers(5, size=len(y))
    table = model.encoder_.encode(X.assign(id=np.arange(len(y)).astype(str)))
    held_out = model.model_.held_out_logits(table, y.astype(float), parts)
    # fmt: skip
    assert (
        abs(np.corrcoef(held_out, y)[0, 1])
        < 0.1
        < 0.9
        < np.corrcoef(model.decision_function(X.assign(id=np.arange(len(y)).astype(str))), y)[0, 1]
    )


def test_pickle_and_several_classes(clicks):
    X, y = clicks
    three = np.where(X["f2"] == X["f2"].mode()[0], "c", np.where(y, "b", "a"))
    model = CrossedLinearClassifier(random_state=0).fit(X, three)
    p = pickle.loads(pickle.dumps(model)).predict_proba(X)
    assert_array_equal(p, model.predict_proba(X))
    assert p.shape == (len(X), 3)
    assert_allclose(p.sum(1), 1)
    assert model.score(X, three) > 0.7
    assert [name for name in model.coefficients_ if "weight" in name] == [
        f"weight of {c}" for c in "abc"
    ]


def test_regression_finds_the_pair_whatever_the_unit():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {"a": rng.integers(4, size=3000).astype(str), "b": rng.integers(4, size=3000).astype(str)}
    )
    y = rng.normal(size=(4, 4))[X["a"].astype(int), X["b"].astype(int)] + 0.3 * rng.normal(
        size=3000
    )
    model = CrossedLinearRegressor(random_state=0).fit(X, y)
    assert model.crosses_ == [("a", "b")] and model.score(X, y) > 0.8
    other = CrossedLinearRegressor(random_state=0).fit(X, 1000 * y + 7)
    assert_allclose(other.predict(X), 1000 * model.predict(X) + 7, rtol=1e-6)
    with pytest.raises(ValueError, match="y must have a finite variance"):
        CrossedLinearRegressor().fit(X, y * 1e200)


@pytest.mark.parametrize(
    "parameters", [{"n_bins": ()}, {"l2": -1.0}, {"max_order": 1}, {"encoder": 3}]
)
def test_bad_parameters_are_named(clicks, parameters):
    with pytest.raises((ValueError, TypeError), match=next(iter(parameters))):
        CrossedLinearClassifier(**parameters).fit(*clicks)


def test_one_class_and_no_weight_are_refused(clicks):
    X, y = clicks
    with pytest.raises(ValueError, match="two classes or more, got 1 class"):
        CrossedLinearClassifier().fit(X, np.ones(len(y)))
    with pytest.raises(ValueError, match="at least one non-zero"):
        CrossedLinearClassifier().fit(X, y, sample_weight=np.zeros(len(y)))
