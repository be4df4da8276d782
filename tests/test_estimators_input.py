"""What the estimators refuse, and how they are put together with others."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from estimators_cases import SMALL, clicks_of_five, quick
from sklearn import set_config
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from sklearn_autorec import RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.exceptions import (
    SingleClassWarning,
    UnknownCategoryWarning,
)
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.preprocessing import FieldEncoder


@pytest.fixture(scope="module")
def clicks():
    return clicks_of_five()


# bad input
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 1000, 3000])
def test_unseen_ids_get_a_trained_embedding(clicks, share):
    X, y, _ = clicks
    model = quick(max_epochs=6).fit(X, y)
    new = X.copy()
    new.loc[new.index[:share], [f"f{i}" for i in range(5)]] = "never seen"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownCategoryWarning)
        p = model.predict_proba(new)[:share, 1]
    assert ((p > 0) & (p < 1)).all() and (share == 1 or abs(p.mean() - y.mean()) < 0.2)
    if share == 3000:
        with pytest.warns(UnknownCategoryWarning, match="100% of column 'f0', 100% of column 'f1'"):
            model.predict(new)


def test_the_unknown_embedding_moves_only_with_id_dropout(clicks):
    X, y, _ = clicks
    row = 1  # id 1 of the first field
    moved = {}
    for rate in (0.0, 0.02):
        net = quick(network="fm", id_dropout=rate, embedding_l2=0.0)
        initial = (
            quick(network="fm", id_dropout=rate, max_epochs=1, lr=1e-30)
            .fit(X, y)
            .net_.module_.embedding.weight[row]
        )
        moved[rate] = (
            (net.fit(X, y).net_.module_.embedding.weight[row] - initial).abs().max().item()
        )
    assert moved[0.0] == 0 and moved[0.02] > 1e-3


@pytest.mark.parametrize(
    "X",
    [
        pd.DataFrame({"a": ["x"] * 50}),
        pd.DataFrame({"a": [None] * 50}),
        pd.DataFrame({"a": [np.nan] * 50, "b": ["u", "v"] * 25}),
        pd.DataFrame({"a": np.arange(50.0)}),
        pd.DataFrame({"a": [[1, 2], []] * 25}),
        pd.DataFrame({"id": np.arange(50)}),
    ],
)
@pytest.mark.parametrize("network", ["fm", SMALL])
def test_odd_tables(X, network):
    y = np.arange(50) % 2
    p = quick(network=network).fit(X, y).predict_proba(X)
    assert np.isfinite(p).all() and p.shape == (50, 2)


def test_one_row_and_one_class():
    X = pd.DataFrame({"a": ["x", "y", "x"]})
    with pytest.warns(SingleClassWarning, match=r"single class \[1\]: nothing was trained"):
        one = quick().fit(X, [1, 1, 1])
    assert (one.predict(X) == 1).all() and one.predict_proba(X).tolist() == [[1.0]] * 3
    assert RatingRegressor(network=SMALL, max_epochs=1, random_state=0).fit(X[:1], [2.0]).predict(
        X[:1]
    ) == pytest.approx(2.0, abs=0.5)
    assert len(pickle.loads(pickle.dumps(one)).predict(X)) == 3
    with pytest.warns(SingleClassWarning, match=r"single class \['a'\]: nothing was trained"):
        quick().partial_fit(X, ["a", "a", "a"], classes=["a"])
    quick().partial_fit(X, ["a", "a", "a"], classes=["a", "b"])  # warnings are errors here


@pytest.mark.parametrize(
    "y", [[0, 1, np.nan], [0, 1, np.inf], [0.5, 0.1, 0.2], [[0, 1], [1, 0], [1, 1]], None]
)
def test_bad_targets(y):
    X = pd.DataFrame({"a": ["x", "y", "x"]})
    with pytest.raises((ValueError, TypeError)):
        quick().fit(X, y)


def test_a_validation_split_of_one_class_does_not_stop_a_search():
    X, y, _ = make_ctr(400, n_fields=3, pairs=0, base_rate=0.02, random_state=0)
    y = np.zeros(400, int)
    y[::100] = 1
    model = quick(early_stopping=True, monitor="auc", validation_fraction=0.1, max_epochs=2).fit(
        X, y
    )
    assert np.isnan(model.history_[0]["valid_score"]) and np.isfinite(model.predict_proba(X)).all()


def test_columns_must_be_those_of_fit(clicks):
    X, y, _ = clicks
    model = quick().fit(X, y)
    assert model.n_features_in_ == 7 and model.feature_names_in_.tolist() == X.columns.tolist()
    with pytest.raises(ValueError, match="missing:\n- f1"):
        model.predict(X.drop(columns="f1"))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[X.columns[::-1]])
    bad = X.copy()
    bad.loc[0, "x0"] = np.inf
    with pytest.raises(ValueError, match="column 'x0'"):
        model.predict(bad)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lr": 0}, "'lr' parameter of CTRClassifier must be None or a float in the range"),
        ({"batch_size": "big"}, "'batch_size' parameter of CTRClassifier"),
        ({"max_epochs": 0}, "'max_epochs' parameter"),
        ({"device": "tpu9"}, "device='tpu9' is not a device"),
        ({"network": "deepmf"}, "network='deepmf' is not known"),
        ({"search": [AutoFIS(), RandomInteractions()]}, "two methods for one slot"),
        ({"monitor": "accuracy"}, "'monitor' parameter"),
    ],
)
def test_bad_parameters_are_named(clicks, options, message):
    X, y, _ = clicks
    with pytest.raises(ValueError, match=message):
        quick(**options).fit(X, y)


def test_wrong_kinds_of_objects_are_named(clicks):
    X, y, _ = clicks
    with pytest.raises((TypeError, ValueError), match="search"):
        quick(search=["autofis"]).fit(X, y)
    with pytest.raises((TypeError, ValueError), match="network"):
        quick(network=FM).fit(X, y)


def add_cross(X):
    return X.assign(f0_f1=X["f0"] + "-" + X["f1"])


# composition
# -----------------------------------------------------------------------------------------------


def test_pipeline_in_a_parallel_grid_search(clicks):
    X, y, _ = clicks
    pipe = Pipeline(
        [("cross", FunctionTransformer(add_cross)), ("ctr", quick(network="fm", max_epochs=1))]
    )
    grid = {
        "ctr__network": ["lr", "fm"],
        "ctr__search": [None, AutoFIS()],
        "ctr__embedding_dim": [2],
    }
    grid = [
        {**grid, "ctr__network": ["fm"]},
        {"ctr__network": ["lr", SMALL]},
        {"ctr__network": [SMALL], "ctr__network__dropout": [0.0, 0.5]},
    ]
    serial, parallel = (
        GridSearchCV(pipe, grid, cv=2, scoring="roc_auc", n_jobs=n, error_score="raise").fit(X, y)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(
        serial.cv_results_["mean_test_score"], parallel.cv_results_["mean_test_score"]
    )
    assert len(serial.cv_results_["params"]) == 6
    assert parallel.predict_proba(X).shape == (3000, 2)


def test_column_transformer_before_the_network(clicks):
    X, y, _ = clicks
    ids = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    prepare = ColumnTransformer(
        [("ids", ids, ["f0", "f1"]), ("rest", "passthrough", ["x0"])]
    ).set_output(transform="pandas")
    encoder = FieldEncoder(categorical_features=[0, 1])
    pipe = Pipeline([("prepare", prepare), ("ctr", quick(encoder=encoder))]).fit(X, y)
    assert pipe[-1].encoder_.categorical_.tolist() == [0, 1]


def test_sample_weight_is_routed_through_cross_validation(clicks):
    X, y, _ = clicks
    weight = np.where(X["f0"] == X["f0"].iloc[0], 5.0, 1.0)
    set_config(enable_metadata_routing=True)
    try:
        model = (
            quick(network="lr", lr=0.1)
            .set_fit_request(sample_weight=True)
            .set_score_request(sample_weight=True)
        )
        weighted = cross_val_score(
            model, X, y, cv=KFold(2), params={"sample_weight": weight}, error_score="raise"
        )
        plain = cross_val_score(quick(network="lr", lr=0.1), X, y, cv=KFold(2), error_score="raise")
    finally:
        set_config(enable_metadata_routing=False)
    assert not np.array_equal(weighted, plain)


def test_calibration_and_voting(clicks):
    X, y, _ = clicks
    calibrated = CalibratedClassifierCV(quick(network="fm"), cv=2).fit(X, y)
    assert calibrated.predict_proba(X).mean(0)[1] == pytest.approx(y.mean(), abs=0.05)
    members = [("a", quick(random_state=1)), ("b", quick(network="fm", random_state=2))]
    voting = VotingClassifier(members, voting="soft").fit(X, y)
    mean = np.mean([m.predict_proba(X) for m in voting.estimators_], axis=0)
    np.testing.assert_allclose(voting.predict_proba(X), mean)


def test_clone_and_nested_parameters():
    model = quick(
        network=DeepFM((8,)), search=AutoFIS(threshold=0.9), encoder=FieldEncoder(min_frequency=2)
    )
    copy = clone(model).set_params(
        search__threshold=0.5, network__dropout=0.1, encoder__min_frequency=3
    )
    assert (copy.search.threshold, copy.network.dropout, copy.encoder.min_frequency) == (
        0.5,
        0.1,
        3,
    )
    assert (model.search.threshold, model.network.dropout, model.encoder.min_frequency) == (
        0.9,
        0.2,
        2,
    )
