"""Columns are taken by name, whatever kind of name they have, in every estimator, transformer and
model file.
"""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser
from sklearn_autorec.feature_selection import FSTD, FieldSelector, RandomSubset, SensitivitySelector
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

NAMES = {
    "integers": [7, 3, 5],
    "tuples": [("a", "x"), ("a", "y"), ("b", "x")],
    "floats": [0.5, 1.5, 2.5],
    "dates": [datetime.date(2026, 1, d) for d in (1, 2, 3)],
    "bytes": [b"u", b"i", b"k"],
    "integers and tuples": [1, ("a", "x"), ("b", "y")],
    "strings": ["u", "i", "k"],
}
OTHER = {
    int: 99,
    tuple: ("z", "z"),
    float: 9.5,
    datetime.date: datetime.date(2027, 1, 1),
    bytes: b"z",
    str: "z",
}
QUICK = {"network": "lr", "max_epochs": 1, "random_state": 0, "device": "cpu"}


def table(names, n=120):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({0: rng.integers(0, 5, n), 1: rng.integers(0, 4, n), 2: rng.integers(0, 3, n)})
    y = ((X[0] % 2 == 0) ^ (X[1] % 2 == 0)).astype(int).to_numpy()
    return X.set_axis(pd.Index(names, tupleize_cols=False), axis=1), y


MAKERS = {
    "CTRClassifier": lambda: CTRClassifier(**QUICK),
    "RatingRegressor": lambda: RatingRegressor(**QUICK),
    "FieldEncoder": FieldEncoder,
    "FieldCrosser": lambda: FieldCrosser([(-3, -2)]),
    "AutoCross": lambda: AutoCross(random_state=0, n_folds=1),
    "AEFE": lambda: AEFE(random_state=0),
    "GLIDER": lambda: GLIDER(CTRClassifier(**QUICK), random_state=0),
    "FieldSelector": lambda: FieldSelector(
        estimator=CTRClassifier(**QUICK), n_features_to_select=2
    ),
    "RandomSubset": lambda: RandomSubset(n_features_to_select=2, random_state=0),
    "FSTD": lambda: FSTD(
        CTRClassifier(**QUICK), n_features_to_select=2, max_evaluations=2, random_state=0
    ),
    "SensitivitySelector": lambda: SensitivitySelector(
        CTRClassifier(**QUICK), n_features_to_select=2, cv=2
    ),
}


def outcome(model, X):
    return np.asarray(model.predict(X) if hasattr(model, "predict") else model.transform(X))


@pytest.fixture
def fitted(request):
    maker, names = request.param
    model = MAKERS[maker]()
    if maker == "FieldCrosser":
        model.set_params(crosses=[tuple(NAMES[names][:2])])
    X, y = table(NAMES[names])
    return model.fit(X, y), X


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "fitted",
    [(m, n) for m in MAKERS for n in (NAMES if m == "FieldEncoder" else ["integers", "tuples"])],
    indirect=True,
    ids=str,
)
def test_reordered_and_renamed_columns_are_refused(fitted):
    model, X = fitted
    assert len(outcome(model, X)) == len(X) == len(outcome(model, X.copy()))
    names = X.columns.tolist()
    for rows in (X, X[:1]):
        with pytest.raises(ValueError, match="order"):
            outcome(model, rows.iloc[:, [1, 0, 2]])
        new = OTHER[type(names[2])]
        with pytest.raises(ValueError, match="(?i)missing|unseen"):
            outcome(model, rows.set_axis(pd.Index([*names[:2], new], tupleize_cols=False), axis=1))
        with pytest.raises(ValueError):
            outcome(model, rows.iloc[:, :2])


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("maker", ["CTRClassifier", "FieldEncoder", "FieldCrosser"])
def test_loaded_models_know_the_names(maker, names, tmp_path):
    model = MAKERS[maker]()
    if maker == "FieldCrosser":
        model.set_params(crosses=[tuple(NAMES[names][:2])])
    X, y = table(NAMES[names])
    model.fit(X, y)
    try:
        save(model, tmp_path / "m")
    except (TypeError, ValueError, ModelFileError) as error:
        assert names in ("dates", "bytes") and "cannot be saved" in str(error)
        return
    loaded = load(tmp_path / "m")
    np.testing.assert_array_equal(outcome(loaded, X), outcome(model, X))
    for rows in (X, X[:1]):
        with pytest.raises(ValueError, match="order"):
            outcome(loaded, rows.iloc[:, [1, 0, 2]])


def test_names_that_are_positions_and_tables_without_names():
    X, y = table([0, 1, 2])
    encoder = FieldEncoder().fit(X)
    wanted = encoder.encode(X).ids
    np.testing.assert_array_equal(encoder.encode(X.to_numpy()).ids, wanted)
    unnamed = FieldEncoder().fit(X.to_numpy())
    np.testing.assert_array_equal(unnamed.encode(X).ids, wanted)
    with pytest.raises(
        ValueError, match="without names, and X has them in the order \\[1, 0, 2\\]"
    ):
        unnamed.encode(X[[1, 0, 2]])
    for fitted, given in (
        (unnamed, X.set_axis([7, 8, 9], axis=1)),
        (FieldEncoder().fit(X.set_axis([7, 8, 9], axis=1)), X.to_numpy()),
    ):
        with pytest.warns(UserWarning, match="taken by position"):
            fitted.encode(given)


def test_a_name_is_a_name_before_it_is_a_position():
    X, _ = table([2, 0, 1])
    encoder = FieldEncoder(categorical_features=[2]).fit(X)
    assert encoder.categorical_.tolist() == [0] and encoder.field_names_[0] == "2"
    crosser = FieldCrosser([(2, 1)]).fit(X)
    assert crosser.crosses_ == [("2", "1")]
    with pytest.raises(ValueError, match="categorical_features has 5"):
        FieldEncoder(categorical_features=[5]).fit(X)
    tuples, _ = table(NAMES["tuples"])
    assert FieldEncoder(categorical_features=[("a", "y")]).fit(tuples).categorical_.tolist() == [1]
    assert FieldCrosser([(("a", "x"), ("b", "x"))]).fit(tuples).crosses_ == [
        ("('a', 'x')", "('b', 'x')")
    ]
    assert FieldEncoder(categorical_features=[-1]).fit(
        table([0, 1, 2])[0]
    ).categorical_.tolist() == [2]


# names of outputs
# ------------------------------------------------------------------------------------------


def test_output_names_are_unique():
    prices = pd.DataFrame(
        {
            "price": [1.0, 2.0, np.nan, 3.0],
            "price_missing": [0.1, 0.2, 0.3, 0.4],
            "price_missing_2": [1, 2, 3, 4],
        }
    )
    names = FieldEncoder().fit(prices).get_feature_names_out().tolist()
    assert names == [
        "price_missing_2",
        "price",
        "price_missing",
        "price_missing_3",
        "price_missing_missing",
    ]
    tags = pd.DataFrame({"tags": [["a"], ["b"]], "tags_0": [1, 2]})
    encoder = FieldEncoder(max_length=2).set_output(transform="polars").fit(tags)
    assert encoder.transform(tags).columns == ["tags_0", "tags_0_2", "tags_1"]
    assert (
        encoder.transform(tags).to_numpy().tolist()
        == clone(encoder).set_output(transform="default").fit_transform(tags).tolist()
    )


def test_one_hot_names_are_unique():
    X = pd.DataFrame({"a": ["b=c", "d"], "a=b": ["c", "d"], "w": ["<rare>", "<missing>"]})
    names = (
        FieldCrosser([("a", "w")], output="onehot", min_count=1)
        .fit(X)
        .get_feature_names_out()
        .tolist()
    )
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("append", [True, False])
def test_crosses_of_one_name_are_refused(append):
    X = pd.DataFrame({c: [1, 2, 1, 2] for c in ("a", "b x c", "a x b", "c")})
    with pytest.raises(ValueError, match="More than one cross would have the name 'a x b x c'"):
        FieldCrosser([("a", "b x c"), ("a x b", "c")], append=append).fit(X)


def test_names_that_are_one_as_text_are_refused():
    X = pd.DataFrame([[1, 2]], columns=pd.Index([1, np.float32(1.5), 1.5 + 1e-9], dtype=object)[:2])
    FieldEncoder().fit(X)

    class Name:
        def __repr__(self):
            return "same"

    with pytest.raises(ValueError, match="differ as text"):
        FieldEncoder().fit(pd.DataFrame([[1, 2]], columns=pd.Index([Name(), Name()], dtype=object)))


def test_polars_columns_are_compared():
    X = pl.DataFrame({"u": [1, 2], "i": [3, 4]})
    with pytest.raises(ValueError, match="order"):
        FieldEncoder().fit(X).encode(X.select("i", "u"))
