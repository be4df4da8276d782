"""FieldSelector: what it keeps, pipelines, containers, single values with OptFS, tables that are
odd.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField, FieldSelector, OptFS
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import MLPNetwork

SEARCH = CTRClassifier(lr=0.03, max_epochs=5, embedding_dim=4, batch_size=128, device="cpu")
METHODS = {"AutoField": AutoField(), "LPFS": LPFS(), "OptFS": OptFS(0.1), "AdaFS": AdaFS()}
NETWORK = MLPNetwork((16,))


def selector(method="AutoField", n="auto", **options):
    options = {"network": NETWORK, "estimator": SEARCH, "random_state": 0, **options}
    return FieldSelector(METHODS.get(method, method), n_features_to_select=n, **options)


@pytest.fixture(scope="module")
def clicks():
    """Main effects of f1, f4; f2 and f5 only together; f0 and f3 useless."""
    effects = {"informative_fields": [1, 4], "pairs": [(2, 5)]}
    X, y, _ = make_ctr(8000, n_fields=6, cardinality=12, zipf=0.5, random_state=0, **effects)
    return X, y


@pytest.fixture(scope="module")
def main_effects():
    """f2 alone matters."""
    effects = {"informative_fields": [2], "pairs": [], "main_effect": 2}
    X, y, _ = make_ctr(3000, n_fields=4, cardinality=10, random_state=0, **effects)
    return X, y


def test_numbers_of_columns(clicks):
    X, y = clicks
    four = selector(n=4).fit(X, y)
    assert four.get_support().tolist() == [False, True, True, False, True, True]
    assert four.get_feature_names_out().tolist() == ["f1", "f2", "f4", "f5"]
    assert four.get_support(indices=True).tolist() == [1, 2, 4, 5]
    assert (
        sorted(four.ranking_) == [1, 2, 3, 4, 5, 6]
        and (four.scores_[np.argsort(four.ranking_)][:-1] >= 0).any()
    )
    assert np.array_equal(np.argsort(four.ranking_), np.argsort(-four.scores_, kind="stable"))
    half = selector(n=0.5).fit(X, y)
    np.testing.assert_array_equal(half.scores_, four.scores_)  # the same search
    assert half.get_support().sum() == 3 and (half.support_ <= four.support_).all()
    auto = selector().fit(X, y)
    names = auto.architecture_["gate"]["fields"]
    assert auto.get_support(indices=True).tolist() == names and {1, 4} <= set(names)
    assert selector(n=0.01).fit(X[:500], y[:500]).get_support().sum() == 1
    with pytest.raises(ValueError, match="n_features_to_select=7 is more than the 6 columns"):
        selector(n=7).fit(X, y)


def test_transform_leaves_cells_as_they_are(clicks):
    X, y = clicks
    original = X.copy()
    select = selector(n=3).fit(X, y)
    out = select.transform(X)
    pd.testing.assert_frame_equal(out, X[select.get_feature_names_out()])
    pd.testing.assert_frame_equal(X, original)
    values = X.to_numpy()
    by_array = selector(n=3).fit(values, y)
    np.testing.assert_array_equal(by_array.scores_, select.scores_)
    np.testing.assert_array_equal(by_array.transform(values), out.to_numpy())
    assert by_array.get_feature_names_out().tolist() == [
        f"x{i}" for i in by_array.get_support(indices=True)
    ]
    framed = by_array.set_output(transform="pandas").transform(values)
    assert (
        isinstance(framed, pd.DataFrame)
        and list(framed) == by_array.get_feature_names_out().tolist()
    )
    with pytest.raises(ValueError, match="feature names"):
        select.transform(X.rename(columns={"f0": "other"}))
    with pytest.raises(ValueError, match="features"):
        by_array.transform(values[:, :5])
    again = pickle.loads(pickle.dumps(select))
    pd.testing.assert_frame_equal(again.transform(X), out)
    assert repr(clone(select)) == repr(select)


def test_polars_frames_stay_polars(main_effects):
    polars = pytest.importorskip("polars")
    X, y = main_effects
    frame = polars.from_pandas(X)
    out = selector(n=1).fit(frame, y).transform(frame)
    assert isinstance(out, polars.DataFrame) and out.columns == ["f2"]
    ids = selector("OptFS").fit(frame, y).transform(frame)
    assert "f2" in list(ids) and ids["f2"].dtype == np.int64


@pytest.mark.parametrize("method", METHODS)
def test_pipeline_with_a_linear_model(method, clicks):
    X, y = clicks
    one_hot = OneHotEncoder(handle_unknown="ignore")
    pipe = Pipeline(
        [("select", selector(method, 4)), ("one_hot", one_hot), ("clf", LogisticRegression())]
    )
    auc = roc_auc_score(y[6000:], pipe.fit(X[:6000], y[:6000]).predict_proba(X[6000:])[:, 1])
    whole = Pipeline(pipe.steps[1:]).fit(X[:6000], y[:6000])
    # The pair means nothing to a linear model; fields 1 and 4 are all it could use.
    allowed = 0.1 if method == "AdaFS" else 0.02  # whose weights are no ranking of columns
    assert auc > roc_auc_score(y[6000:], whole.predict_proba(X[6000:])[:, 1]) - allowed
    assert method == "AdaFS" or {"f1", "f4"} <= set(pipe["select"].get_feature_names_out())


def test_pipeline_with_lightgbm(clicks):
    lightgbm = pytest.importorskip("lightgbm")
    X, y = clicks
    X = pd.DataFrame(OrdinalEncoder(dtype=int).fit_transform(X), columns=X.columns).astype(
        "category"
    )
    clf = lightgbm.LGBMClassifier(
        n_estimators=60, num_leaves=15, n_jobs=1, random_state=0, verbose=-1
    )
    pipe = Pipeline([("select", selector(n=4)), ("clf", clf)]).fit(X[:6000], y[:6000])
    assert list(pipe["clf"].feature_name_) == ["f1", "f2", "f4", "f5"]
    auc = roc_auc_score(y[6000:], pipe.predict_proba(X[6000:])[:, 1])
    whole = clone(clf).fit(X[:6000], y[:6000])
    useless = clone(clf).fit(X[:6000][["f0", "f3"]], y[:6000])
    assert auc > roc_auc_score(y[6000:], whole.predict_proba(X[6000:])[:, 1]) - 0.005
    assert auc > roc_auc_score(y[6000:], useless.predict_proba(X[6000:][["f0", "f3"]])[:, 1]) + 0.05


def test_grid_search_over_the_number_of_columns(main_effects):
    X, y = main_effects
    pipe = Pipeline(
        [
            ("select", selector()),
            ("hot", OneHotEncoder(handle_unknown="ignore")),
            ("clf", LogisticRegression()),
        ]
    )
    grid = GridSearchCV(
        pipe, {"select__n_features_to_select": [1, 4], "select__method__warmup": [0.5]}, cv=2
    )
    assert grid.fit(X, y).best_estimator_["select"].support_[2]


def test_optfs_gives_ids_and_prunes_values(main_effects):
    X, y = main_effects
    X = X.assign(number=np.random.default_rng(0).normal(size=len(X)) + 2 * y)
    select = selector("OptFS").fit(X, y)
    out = select.transform(X)
    assert list(out) == select.get_feature_names_out().tolist() and {"f2", "number"} <= set(out)
    pd.testing.assert_series_equal(out["number"], X["number"])
    assert set(select.value_support_) == set(out) - {"number"}
    ids = select.encoder_.encode(X).ids
    for f, column in enumerate(select.encoder_.categorical_):
        name = X.columns[column]
        if name in out:
            kept = select.value_support_[name]
            expected = np.where(kept[ids[:, f]], ids[:, f], 1)
            assert kept[:2].all() and out[name].dtype == np.int64
            np.testing.assert_array_equal(out[name], expected)
    assert 2 < out["f2"].nunique() < X["f2"].nunique() + 1
    rare = select.transform(X[:3].assign(f2=["never seen", None, X["f2"].iloc[0]]))["f2"].tolist()
    assert rare[:2] == [1, 0] and rare[2] == out["f2"].iloc[0]
    values = X.to_numpy()
    by_array = selector("OptFS").fit(values, y).transform(values)
    assert by_array.shape[0] == len(X) and by_array.dtype == object
    assert X["f2"].map(type).eq(str).all()  # the caller's table is as it was


def test_ratings(main_effects):
    X, y = main_effects
    rating = X["f2"].str[1:].astype(int) + np.random.default_rng(0).normal(size=len(X))
    options = {"lr": 0.01, "max_epochs": 5, "embedding_dim": 4, "device": "cpu"}
    for estimator in (None, RatingRegressor(**options)):
        select = selector(n=1, estimator=estimator).fit(X, rating)
        assert select.get_feature_names_out().tolist() == ["f2"]
    several = selector(n=1).fit(
        X, np.where(y == 1, "a", np.where(X["f0"] == X["f0"].iloc[0], "b", "c"))
    )
    assert several.support_.sum() == 1


@pytest.mark.parametrize("method", METHODS)
def test_columns_that_say_nothing(method, main_effects):
    X, y = main_effects
    X = X.assign(
        constant="a", empty=None, seven=7.0, gaps=np.nan, copy=X["f2"], renamed="other " + X["f2"]
    )
    select = selector(method).fit(X, y)
    assert {"f2"} <= set(select.get_feature_names_out()) <= {"f0", "f1", "f2", "f3"}
    assert np.isfinite(select.scores_).all()
    two = selector(method, 2).fit(X, y)
    assert "f2" in two.get_feature_names_out() and not {"copy", "renamed"} & set(
        two.get_feature_names_out()
    )
    out = select.transform(X[:5].assign(f2="never seen", constant="b", f0=None))
    assert out.shape == (5, select.support_.sum())


@pytest.mark.parametrize("method", METHODS)
def test_odd_tables(method, main_effects):
    X, y = main_effects
    wide, target, _ = make_ctr(30, n_fields=50, cardinality=4, pairs=[], random_state=0)
    select = selector(method, 5).fit(wide, target)
    assert select.transform(wide).shape == (30, 5)
    assert select.transform(wide[:1]).shape == (1, 5)
    holes = X.mask(np.random.default_rng(0).random(X.shape) < 0.5)
    assert "f2" in selector(method).fit(holes, y).get_feature_names_out()
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(2000, 5))
    numbers[:, 3] += 2 * y[:2000]
    numbers[rng.random(numbers.shape) < 0.2] = np.nan
    select = selector(method).fit(numbers, y[:2000])
    np.testing.assert_array_equal(select.transform(numbers), numbers[:, select.support_])
    assert select.support_[3] or method == "AdaFS"
    if method in ("AutoField", "LPFS"):
        assert selector(method, 1).fit(numbers, y[:2000]).get_support(indices=True).tolist() == [3]
    nothing = selector(method).fit(
        pd.DataFrame({"a": ["x"] * 60, "b": [1.0] * 60}), np.arange(60) % 2
    )
    assert nothing.support_.sum() == 1


@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.SingleClassWarning")
def test_what_is_refused(main_effects):
    X, y = main_effects
    with pytest.raises(ValueError, match="y has one class, 1: no column can be better"):
        selector().fit(X, np.ones(len(X), int))
    with pytest.raises(
        ValueError, match=r"method must search the 'gate' slot, such as AutoField\(\), got AutoFIS"
    ):
        selector(AutoFIS()).fit(X, y)
    with pytest.raises(TypeError, match="estimator must be a CTRClassifier or a RatingRegressor"):
        selector(estimator=LogisticRegression()).fit(X, y)
    for options in ({"n": 0}, {"n": 1.0}, {"n": "all"}, {"method": 5}):
        with pytest.raises(
            ValueError, match="n_features_to_select" if "n" in options else "method"
        ):
            selector(**options).fit(X, y)


def test_weight_zero_is_absence(main_effects):
    X, y = main_effects
    # Most rows tell of another column, and count nothing.
    useful = np.r_[np.ones(1000), np.zeros(2000)]
    other = (pd.factorize(X["f0"], sort=True)[0] % 2 == 0).astype(y.dtype)
    mixed = np.r_[y[:1000], other[1000:]]
    assert selector(n=1).fit(X, mixed).get_feature_names_out().tolist() == ["f0"]
    select = selector(n=1).fit(X, mixed, sample_weight=useful)
    assert select.get_feature_names_out().tolist() == ["f2"]
