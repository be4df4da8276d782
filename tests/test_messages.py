"""What users pass that is unusual works, or is refused in words that name it."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser
from sklearn_autorec.feature_selection import FieldSelector
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.preprocessing import FieldEncoder

QUICK = {"network": "lr", "max_epochs": 1, "random_state": 0, "device": "cpu"}
X = pd.DataFrame({"u": [*"abcd"] * 15, "i": np.arange(60) % 7})
Y = np.array([0, 1, 0, 1, 1] * 12)


@pytest.mark.parametrize(
    "y, classes",
    [
        (Y.astype(object), [0, 1]),
        (pd.Series(Y, dtype=object), [0, 1]),
        ((Y == 1).astype(object), [False, True]),
        (Y.astype(float).astype(object), [0.0, 1.0]),
        (np.array([np.int8(v) for v in Y], dtype=object), [0, 1]),
        (np.where(Y == 1, "yes", "no").astype(object), ["no", "yes"]),
        (pl.Series(Y), [0, 1]),
        (pa.chunked_array([Y]), [0, 1]),
    ],
    ids=["objects", "Series", "booleans", "floats", "numpy", "text", "polars", "arrow"],
)
def test_labels_of_object_dtype(y, classes):
    model = CTRClassifier(**QUICK, class_weight="balanced").fit(X, y, X_val=X, y_val=y)
    assert model.classes_.tolist() == classes and model.predict(X).dtype == model.classes_.dtype
    assert model.score(X, y) == np.mean(model.predict(X) == np.asarray(y))
    stream = CTRClassifier(**QUICK).partial_fit(X, y, classes=classes).partial_fit(X, y)
    assert stream.classes_.tolist() == classes


def test_labels_of_object_dtype_in_crossers_and_selectors():
    y = Y.astype(object)
    pd.testing.assert_frame_equal(
        AutoCross(random_state=0).fit(X, y).transform(X),
        AutoCross(random_state=0).fit(X, Y).transform(X),
    )
    assert AEFE(random_state=0).fit(X, y).features_ == AEFE(random_state=0).fit(X, Y).features_
    GLIDER(CTRClassifier(**QUICK), random_state=0).fit(X, y)
    assert (
        FieldSelector(n_features_to_select=1, estimator=CTRClassifier(**QUICK))
        .fit(X, y)
        .support_.sum()
        == 1
    )


TIMES = pd.Series(pd.date_range("2026-01-01", periods=60))


@pytest.mark.parametrize("make", [CTRClassifier, RatingRegressor])
@pytest.mark.parametrize(
    "y, error, message",
    [
        (np.where(Y == 1, None, Y), ValueError, "missing|NaN"),
        (TIMES, ValueError, r"y holds times \(datetime64"),
        (TIMES.dt.tz_localize("UTC"), ValueError, r"y holds times \(datetime64\[.., UTC\]"),
        (TIMES.astype(object), ValueError, "y holds times"),
        (TIMES - TIMES[0], ValueError, r"y holds times \(timedelta64"),
        (pl.Series(TIMES.dt.date.tolist()), ValueError, "y holds times"),
        (pl.Series(Y, dtype=pl.Int128), TypeError, "y has polars' type Int128"),
        (pl.LazyFrame({"y": Y}), TypeError, r"y is a LazyFrame.*collect"),
    ],
    ids=["missing", "times", "zoned", "objects", "durations", "dates", "Int128", "LazyFrame"],
)
def test_targets_that_are_refused_by_name(make, y, error, message):
    with pytest.raises(error, match=message):
        make(**QUICK).fit(X, y)


def test_labels_of_several_types_are_refused_by_name():
    with pytest.raises(ValueError, match="y mixes labels of the types int, str"):
        CTRClassifier(**QUICK).fit(X, np.where(Y == 1, "a", Y.astype(object)))


@pytest.mark.parametrize(
    "make", [FieldEncoder, lambda: FieldCrosser([("u", "i")]), lambda: CTRClassifier(**QUICK)]
)
def test_tables_that_are_refused_by_name(make):
    with pytest.raises(TypeError, match=r"X holds rows as dicts.*once it is fitted.*DataFrame\(X"):
        make().fit([{"u": y, "i": y} for y in Y], Y)
    with pytest.raises(TypeError, match="Column 'i' has polars' type Int128.*cast it"):
        make().fit(pl.DataFrame({"u": Y, "i": pl.Series(Y, dtype=pl.Int128)}), Y)
    with pytest.raises(TypeError, match="Column 'i' has polars' type Object"):
        make().fit(pl.DataFrame({"u": Y, "i": pl.Series([object()] * 60, dtype=pl.Object)}), Y)


@pytest.mark.parametrize("factor", [1e155, 1e300, 1e-160])
def test_ratings_whose_variance_is_no_number_are_refused(factor):
    with pytest.raises(ValueError, match="y has ratings from .* whose variance"):
        RatingRegressor(**QUICK).fit(X, Y * factor)
    with pytest.raises(ValueError, match="y has ratings from .* whose variance"):
        RatingRegressor(**QUICK).partial_fit(X, Y * factor)


def test_large_and_small_ratings_that_fit():
    for factor in (1e140, 1e-140):
        predicted = RatingRegressor(**QUICK).fit(X, Y * factor).predict(X)
        assert np.isfinite(predicted).all() and 0 < np.abs(predicted).max() < 3 * factor
    model = RatingRegressor(**QUICK).partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"y has the rating 1e\+60, too far from"):
        model.partial_fit(X, Y * 1e60)


def nested(depth):
    cell = []
    for _ in range(depth):
        cell = [cell]
    return cell


@pytest.mark.parametrize("depth", [2, 5000])
@pytest.mark.parametrize(
    "fitted",
    [["x", "y"], [["x"], ["y"]], [0.5, 1.5], [1, 2]],
    ids=["ids", "lists", "floats", "integers"],
)
def test_lists_nested_deeply_are_refused_by_name(fitted, depth):
    deep = pd.DataFrame({"a": pd.Series([nested(depth)], dtype=object)})
    encoder = FieldEncoder().fit(pd.DataFrame({"a": fitted}))
    for table in (deep, pd.concat([deep] * 40)):
        with pytest.raises(ValueError, match="Column 'a'") as caught:
            encoder.encode(table)
        assert len(str(caught.value)) < 600
    with pytest.raises(ValueError, match="Column 'a'"):
        FieldEncoder().fit(deep)


# parameters of components that are left at their defaults
# --------------------------------------------------


def test_parameters_of_default_components():
    model = CTRClassifier(max_epochs=1).set_params(
        network__hidden_units=(8,), encoder__min_frequency=5
    )
    assert isinstance(model.network, DeepFM) and model.network.hidden_units == (8,)
    assert isinstance(model.encoder, FieldEncoder) and model.encoder.min_frequency == 5
    copy = clone(model)
    assert copy.network is not model.network and copy.get_params()["network__hidden_units"] == (8,)
    assert CTRClassifier().get_params()["network"] == "auto" and CTRClassifier().encoder is None
    both = CTRClassifier().set_params(network="mlp", network__hidden_units=(4,))
    assert type(both.network).__name__ == "MLPNetwork" and both.network.hidden_units == (4,)
    crosser = FieldCrosser([("u", "i")]).set_params(encoder__min_frequency=3)
    same = FieldCrosser([("u", "i")]).set_params(encoder__min_frequency=1).fit(X)
    assert crosser.encoder.min_frequency == 3
    pd.testing.assert_frame_equal(same.transform(X), FieldCrosser([("u", "i")]).fit(X).transform(X))
    for other in (AutoCross(), AEFE(), GLIDER(CTRClassifier(**QUICK))):
        assert other.set_params(encoder__max_categories=9).encoder.max_categories == 9
    assert FieldSelector().set_params(
        network__hidden_units=(3,), method__warmup=1
    ).network.hidden_units == (3,)


@pytest.mark.parametrize(
    "grid", [{"network__hidden_units": [(8,), (4,)]}, {"encoder__min_frequency": [1, 5]}]
)
def test_grids_over_parameters_of_default_components(grid):
    base = CTRClassifier(max_epochs=1, random_state=0, device="cpu")
    search = GridSearchCV(base, grid, cv=2, error_score="raise").fit(X, Y)
    name, values = next(iter(grid.items()))
    assert search.best_params_[name] in values and base.network == "auto" and base.encoder is None


def test_parameters_of_what_is_not_there_say_what_to_set():
    with pytest.raises(
        ValueError, match=r"search=None has no parameter 'threshold': set search to .*AutoFIS\(\)"
    ):
        CTRClassifier().set_params(search__threshold=0.5)
    assert CTRClassifier(search=AutoFIS()).set_params(search__threshold=0.5).search.threshold == 0.5
    with pytest.raises(ValueError, match="lr=None has no parameter 'low'"):
        CTRClassifier().set_params(lr__low=1)
    with pytest.raises(ValueError, match="estimator=None has no parameter 'C'"):
        AEFE().set_params(estimator__C=1)
    with pytest.raises(ValueError, match="Invalid parameter 'units' for estimator DefaultNetwork"):
        CTRClassifier().set_params(network__units=1)
    with pytest.raises(ValueError, match="network='deep' is not known"):
        CTRClassifier(network="deep").set_params(network__hidden_units=(1,))
    with pytest.raises(ValueError, match="Invalid parameter 'foo'"):
        CTRClassifier().set_params(foo__bar=1)
