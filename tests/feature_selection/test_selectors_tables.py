"""Selectors of subsets: tables, targets, pipelines and errors."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from selectors_cases import OF_A_SIZE, every, fitted, make, table
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec import CTRClassifier


def one_hot(**options):
    return make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(**options))


# Tables
# -------------------------------------------------------------------------------------------------


@every
def test_constant_missing_and_repeated_columns_are_not_kept(name):
    X, y = table()
    X = np.c_[X, np.full(200, 7.0), np.full(200, np.nan), X[:, 1], X[:, 2], X[:, 2]]
    selector = make(name).fit(X, y)
    assert not selector.support_[6:].any()
    assert all(max(r["subset"]) < 6 for r in selector.search_history_)
    np.testing.assert_array_equal(selector.transform(X), X[:, selector.support_])
    if name in OF_A_SIZE:
        assert not make(name, n_features_to_select=6).fit(X, y).support_[6:].any()
        # More than there are: filled up.
        assert make(name, n_features_to_select=8).fit(X, y).support_[:6].all()


@every
def test_nothing_to_select_from(name):
    y = np.arange(40) % 2
    for X in (np.full((40, 3), np.nan), np.c_[np.ones(40), np.zeros(40), np.full(40, np.nan)]):
        with pytest.raises(ValueError, match="All 3 columns of X have a single value"):
            make(name).fit(X, y)


@every
def test_missing_values_everywhere(name):
    X, y = table(300)
    X[np.random.default_rng(0).random(X.shape) < 0.4] = np.nan
    selector = make(name).fit(X, y)
    assert {1, 2} & set(selector.get_support(indices=True))
    assert np.isnan(selector.transform(X)).any()


@every
def test_more_columns_than_rows(name):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (24, 60)).astype(float)
    selector = make(name).fit(X, np.arange(24) % 2)
    assert 1 <= selector.support_.sum() <= 60


def strings():
    X, y = table(300, d=5)
    X = pd.DataFrame(
        {name: pd.Series([f"{name}{int(v)}" for v in X[:, f]]) for f, name in enumerate("abcde")}
    )
    X.loc[::7, "c"] = None
    X["price"] = np.random.default_rng(1).normal(size=300)
    X["age"] = np.random.default_rng(2).integers(0, 8, 300)
    return X, y


def strings_pipeline():
    encode = make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore"),
            lambda X: [c for c in X.columns if c not in ("price", "age")],
        ),
        remainder="passthrough",
    )
    return make_pipeline(encode, LogisticRegression())


@pytest.mark.parametrize("name", ["FSTD", "MARLFS", "DualAgent", "forward", "permutation"])
def test_tables_of_any_kind_and_unseen_ids(name):
    X, y = strings()
    kept = X.copy(deep=True)
    selector = make(name, strings_pipeline()).fit(X, y)
    pd.testing.assert_frame_equal(X, kept)
    chosen = X.columns[selector.support_].tolist()
    assert set(chosen) & {"b", "c"} and selector.get_feature_names_out().tolist() == chosen
    found = selector.transform(X)
    pd.testing.assert_frame_equal(found, X[chosen])  # container and dtypes stay
    new = X.assign(**dict.fromkeys("abcde", "never seen"))
    assert selector.transform(new)["b" if "b" in chosen else "c"].eq("never seen").all()

    model = make_pipeline(make(name, strings_pipeline()), strings_pipeline()).fit(X, y)
    assert model.score(X, y) > 0.6 and np.isfinite(model.predict_proba(new)).all()
    with pytest.raises(ValueError, match="feature names"):
        selector.transform(X[[*X.columns[::-1]]])
    with pytest.raises(ValueError, match="unique"):
        make(name).fit(pd.concat([X, X[["a"]]], axis=1), y)


@every
def test_numeric_tables_regression_and_polars(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 5))
    y = X[:, 1] - 2 * X[:, 3] + 0.1 * rng.normal(size=150)
    selector = make(name, LinearRegression(), max_evaluations=20).fit(X, y)
    assert selector.support_[3] and selector.best_score_ > 0.6 and selector.no_fields_score_ < 0.01
    frame = pl.DataFrame(X, schema=list("abcde"))
    same = make(name, LinearRegression(), max_evaluations=20).fit(frame, y)
    assert same.support_.tolist() == selector.support_.tolist()
    assert same.transform(frame).columns == [
        c for c, k in zip("abcde", same.support_, strict=True) if k
    ]
    out = selector.set_output(transform="pandas").transform(X)
    assert isinstance(out, pd.DataFrame) and out.shape == (150, selector.support_.sum())


def test_estimators_that_take_missing_values_and_categories_as_they_are():
    X, y = strings()
    X = X.astype(dict.fromkeys("abcde", "category"))
    boosting = HistGradientBoostingClassifier(
        max_iter=5, categorical_features="from_dtype", random_state=0
    )
    selector = make("FSTD", boosting, max_evaluations=20).fit(X, y)
    assert {"b", "c"} <= set(selector.get_feature_names_out())
    assert selector.transform(X)["b"].dtype == "category"
    network = CTRClassifier(network="fm", max_epochs=2, embedding_dim=2, lr=0.05, random_state=0)
    selector = make("MARLFS", network, max_evaluations=4).fit(
        X.astype(dict.fromkeys("abcde", object)), y
    )
    assert selector.n_evaluations_ == 4


# Targets
# ------------------------------------------------------------------------------------------------


@every
def test_a_single_class(name):
    X, y = table(60)
    one = np.zeros(60, int)
    with pytest.raises(ValueError, match="at least 2 classes"):
        make(name, LogisticRegression()).fit(X, one)
    selector = make(name).fit(X, one)  # a tree can do it, and all subsets are as good as none
    assert selector.best_score_ == selector.no_fields_score_ == 1.0 and selector.support_.any()
    with pytest.raises(ValueError, match="need classifier with two classes"):
        make(name, scoring="roc_auc").fit(X, one)


@every
def test_labels_of_any_kind(name):
    X, y = table()
    labels = np.array(["no", "yes"], dtype=object)[y]
    assert fitted(make(name).fit(X, labels)) == fitted(make(name).fit(X, y))
    three = make(name).fit(X, X[:, 1].astype(int) * 5)
    assert three.support_[1]
    with pytest.raises(ValueError, match="Unknown label type"):
        make(name).fit(X, X[:, 0] + 0.5 * np.arange(200) / 200)


# Pipelines and routing
# ----------------------------------------------------------------------------------


def test_in_a_grid():
    X, y = table()
    grid = GridSearchCV(
        make_pipeline(make("FSTD"), one_hot()), {"fstd__gamma": [0.0, 0.7]}, cv=2
    ).fit(X, y)
    assert grid.best_estimator_[0].n_features_in_ == 6
    assert (
        make("FSTD", one_hot()).set_params(estimator__logisticregression__C=3.0).estimator[-1].C
        == 3.0
    )


@every
def test_weights_and_groups_are_routed(name):
    X, y = table()
    weight = np.random.default_rng(0).integers(0, 2, 200).astype(float) + 1e-3
    with pytest.raises(ValueError, match="sample_weight"):
        make(name).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        tree = DecisionTreeClassifier(min_samples_leaf=5, random_state=0).set_fit_request(
            sample_weight=True
        )
        tree.set_score_request(sample_weight=True)
        weighted = make(name, tree, cv=GroupKFold(2)).fit(
            X, y, sample_weight=weight, groups=np.arange(200) // 4
        )
        plain = make(name, tree, cv=GroupKFold(2)).fit(X, y, groups=np.arange(200) // 4)
    assert weighted.search_history_[0]["score"] != plain.search_history_[0]["score"]


# Errors
# -------------------------------------------------------------------------------------------------


def test_subsets_that_fail_are_reported():
    X, y = table()
    X[:, 0] = np.nan
    X[::50, 0] = 1.0
    X[X == 1] = 2  # column 0 has one value and missing ones
    X[0, 0] = 1.0
    failing = make_pipeline(FailsOnFew(), DecisionTreeClassifier(random_state=0))
    with pytest.warns(
        FitFailedWarning, match=r"RandomSubset: \d+ of 12 subsets .* ValueError: too few"
    ):
        selector = make("RandomSubset", failing).fit(X, y)
    assert selector.support_.sum() >= 3
    assert any(np.isnan(r["score"]) for r in selector.search_history_)


class FailsOnFew(SimpleImputer):
    """Refuses tables of fewer than three columns."""

    def fit(self, X, y=None):
        if X.shape[1] < 3:
            raise ValueError("too few columns")
        return super().fit(X, y)

    def fit_transform(self, X, y=None):
        return self.fit(X, y).transform(X)


@pytest.mark.parametrize(
    "name, options, message",
    [
        (
            "FSTD",
            {"n_features_to_select": 7},
            "n_features_to_select=7 is more than the 6 columns of X",
        ),
        ("FSTD", {"n_features_to_select": 0}, "'n_features_to_select' parameter of FSTD must be"),
        ("FSTD", {"epsilon": 2}, "'epsilon' parameter of FSTD must be"),
        ("FSTD", {"aor": "best"}, "'aor' parameter of FSTD must be a str among"),
        ("FSTD", {"scoring": "best"}, "'scoring' parameter of FSTD"),
        ("FSTD", {"max_evaluations": 0}, "'max_evaluations' parameter of FSTD must be"),
        ("MARLFS", {"batch_size": 300}, "batch_size=300 is more than memory_size=200 holds"),
        ("DualAgent", {"batch_size": 300}, "batch_size=300 is more than memory_size=200 holds"),
        ("DualAgent", {"max_dropped": 1.0}, "'max_dropped' parameter of DualAgent must be"),
        (
            "MARLFS, scan",
            {"advisor": "tree", "n_groups": 2},
            "leave out advisor='tree', n_groups=2",
        ),
        ("MARLFS, scan", {"n_features_to_select": 2}, "leave out n_features_to_select=2"),
        (
            "permutation",
            {"method": "shark"},
            r"method='shark' reads the embeddings of a CTRClassifier .* use method='perm",
        ),
    ],
)
def test_errors_name_the_parameter(name, options, message):
    X, y = table()
    with pytest.raises(ValueError, match=message):
        make(name, **options).fit(X, y)
