"""Pipelines as graphs of raw columns, and what cannot be one."""

import os

import numpy as np
import pytest
from onnx_cases import MODEL, OPTIONS, answers, column_kinds, encoded, new_rows, session_of
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from sklearn_autorec import CTRClassifier
from sklearn_autorec.feature_crossing import AutoCross, FieldCrosser, TargetStatistics
from sklearn_autorec.feature_selection import FieldSelector, OptFS, RandomSubset
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import to_onnx

UNKNOWN = {"handle_unknown": "use_encoded_value", "unknown_value": np.nan}
LAST_BITS = 1e-6  # by so much logits of float32 differ from one runtime to another
COLUMNS = ColumnTransformer(
    [
        ("n", make_pipeline(SimpleImputer(), MinMaxScaler(clip=True)), ["price", "rank"]),
        ("o", OrdinalEncoder(**UNKNOWN), ["digits", "id"]),
        ("w", "passthrough", ["word"]),
        ("gone", "drop", ["half"]),
    ],
    verbose_feature_names_out=False,
)
PIPELINES = {
    "scaled": (make_pipeline(StandardScaler(), MODEL), ["price", "rank"]),
    "scalers": (
        make_pipeline(
            SimpleImputer(strategy="median"),
            RobustScaler(with_centering=False),
            MaxAbsScaler(),
            StandardScaler(with_std=False),
            MODEL,
        ),
        ["price", "rank"],
    ),
    "columns": (make_pipeline(COLUMNS, "passthrough", MODEL), None),
    "frames": (make_pipeline(clone(COLUMNS), MODEL).set_output(transform="pandas"), None),
    "nested": (
        make_pipeline(FunctionTransformer(), make_pipeline(MinMaxScaler(), "passthrough"), MODEL),
        ["price", "rank"],
    ),
    "selected": (
        make_pipeline(FieldSelector(n_features_to_select=2, estimator=MODEL), MODEL),
        None,
    ),
    "values": (make_pipeline(FieldSelector(OptFS(), estimator=MODEL), MODEL), None),
    "subset": (make_pipeline(RandomSubset(n_features_to_select=3, random_state=1), MODEL), None),
    "crossed": (
        make_pipeline(FieldCrosser([("word", "digits"), ("id", "price"), ("word", "id")]), MODEL),
        None,
    ),
    "searched": (
        make_pipeline(
            AutoCross(max_crosses=2, n_folds=1, min_gain=0.0, random_state=0, append=False), MODEL
        ),
        None,
    ),
}


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_steps_before_a_model(name):
    X, y = column_kinds()
    pipeline, columns = PIPELINES[name]
    X = X[columns or ["word", "digits", "id", "price", "rank", "half"]]
    pipeline.fit(X, y)
    for rows in (X, new_rows(column_kinds()[0])[X.columns]):
        _, types = encoded(pipeline, rows)
    if name in ("selected", "subset", "searched", "columns"):
        assert set(types) < set(X.columns)


def test_a_whole_pipeline_in_a_pipeline(tmp_path):
    X, y = column_kinds()
    X = X[["word", "digits", "id", "price", "rank", "half"]]
    last = make_pipeline(FieldCrosser([("digits", "word")]), clone(MODEL))
    pipeline = make_pipeline(clone(COLUMNS).set_output(transform="pandas"), last).fit(X, y)
    session = session_of(pipeline, tmp_path)
    assert {i.name for i in session.get_inputs()} == {"word", "digits", "id", "price", "rank"}
    for rows in (X, new_rows(column_kinds()[0])[X.columns]):
        expected = pipeline.predict_proba(rows)
        assert expected[:, 1].std() > 1e-3
        np.testing.assert_allclose(answers(session, rows), expected, rtol=0, atol=1e-5)


def between(model, rows, shift):
    """Bounds (rows, classes) of what an isotonic calibration of three classes answers if each logit
    is up to ``shift`` away, in units of the largest one: its curves never fall.
    """
    (part,) = model.calibrated_classifiers_
    logits = part.estimator.decision_function(rows)
    shift = shift * max(1.0, np.abs(logits).max())
    low, high = (
        np.stack([c.predict(logits[:, k] + d) for k, c in enumerate(part.calibrators)], 1)
        for d in (-shift, shift)
    )
    others = [ends.sum(1, keepdims=True) - ends for ends in (low, high)]
    return low / (low + others[1]), high / (high + others[0])


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibrated_classifiers(tmp_path, method):
    X, y = column_kinds()
    X = X[["word", "id", "price"]]
    y = y if method == "sigmoid" else (y + np.arange(len(y)) % 2)
    y = y if method == "isotonic" else np.minimum(y, 1)
    one = method != "sigmoid"
    inner = make_pipeline(FieldSelector(n_features_to_select=2, estimator=MODEL), clone(MODEL))
    model = CalibratedClassifierCV(
        clone(MODEL) if one else inner, method=method, cv=2, ensemble=not one
    ).fit(X, y)
    session = session_of(model, tmp_path)
    for rows in (X, new_rows(column_kinds()[0])[X.columns]):
        expected = model.predict_proba(rows)
        assert expected.shape[1] == (3 if method == "isotonic" else 2) and expected.std() > 0.01
        found = answers(session, rows)
        if method == "isotonic":
            low, high = between(model, rows, LAST_BITS)
            assert ((found >= low - 1e-6) & (found <= high + 1e-6)).all()
            assert (high - low).mean() < 1e-4  # the control: the bounds say something
            assert (np.abs(found - expected).max(1) < 1e-5).mean() > 0.98
        else:
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_what_cannot_be_exported_is_named(tmp_path):
    X, y = column_kinds(200)
    X = X[["word", "price", "id"]]
    hashed = CTRClassifier(network="fm", encoder=FieldEncoder(hash_threshold=3), **OPTIONS)
    odd = np.array([["a\ud800", 1], ["b", 2]] * 100, dtype=object)
    steps = [
        (make_pipeline(QuantileTransformer(n_quantiles=9), MODEL), X[["price"]], "QuantileTransf"),
        (make_pipeline(TargetStatistics(), MODEL), X, "step TargetStatistics"),
        (make_pipeline(FunctionTransformer(np.abs), MODEL), X[["price"]], "holds code"),
        (make_pipeline(OrdinalEncoder(), MODEL), X[["id"]], "refuses unknown values"),
        (make_pipeline(OneHotEncoder(), LogisticRegression()), X[["id"]], "LogisticRegression"),
        (make_pipeline(FieldCrosser([("word", "id")], max_ids=2), MODEL), X, "hashed"),
    ]
    for pipeline, table, words in steps:
        with pytest.raises(TypeError, match=words):
            to_onnx(pipeline.fit(table, y), tmp_path / "m", inputs="raw")
    refused = [
        (hashed.fit(X, y), r"Column 'word' is hashed into .* ids"),
        (clone(MODEL).fit(odd, y), r"Column 'x0' has the value"),
        (MODEL.fit(X.rename(columns={"word": "rating"}), y), "'rating' cannot be that of an input"),
    ]
    for model, words in refused:
        with pytest.raises(ValueError, match=words):
            to_onnx(model, tmp_path / "m", inputs="raw")
    with pytest.raises(ValueError, match="inputs must be"):
        to_onnx(MODEL, tmp_path / "m", inputs="all")
    with pytest.raises(TypeError, match="CTRClassifier or a RatingRegressor"):
        to_onnx(make_pipeline(StandardScaler(), MODEL), tmp_path / "m")
    assert not os.listdir(tmp_path)
