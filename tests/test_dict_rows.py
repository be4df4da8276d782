"""Rows as dicts, as a web service has them: the bits of a DataFrame's rows, whatever the types."""

import json
import warnings
from datetime import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.exceptions import DataTypeDriftWarning
from sklearn_autorec.feature_crossing import AEFE, FieldCrosser, TargetStatistics
from sklearn_autorec.feature_selection import FSTD, FieldSelector, OptFS
from sklearn_autorec.linear_model import CrossedLinearClassifier
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._encoding import FEW_ROWS
from sklearn_autorec.serving import load, save

RNG = np.random.default_rng(0)
N = 300
X = pd.DataFrame(
    {
        "user": RNG.integers(0, 12, N).astype(str),
        "item": RNG.integers(0, 8, N),
        "price": RNG.normal(size=N),
        "when": pd.Timestamp("2026-01-01") + pd.to_timedelta(RNG.integers(0, 999, N), unit="h"),
        "new": RNG.random(N) < 0.5,
        "tags": [[f"t{k}" for k in RNG.integers(0, 4, RNG.integers(1, 4))] for _ in range(N)],
    }
)
Y = RNG.integers(0, 2, N)
ROWS = X.to_dict("records")
SMALL = {"network": "fm", "embedding_dim": 2, "max_epochs": 1, "random_state": 0, "device": "cpu"}
COUNTS = [1, 2, FEW_ROWS, FEW_ROWS + 1, N]


@pytest.fixture(scope="module")
def model():
    return CTRClassifier(**SMALL).fit(X, Y)


def assert_same(encoder, rows, table):
    found, expected = encoder.encode(rows), encoder.encode(table)
    for part in ("ids", "numeric", "sequences"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))
    return found


# whole rows
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", COUNTS)
def test_rows_have_the_bits_of_a_table(model, n, tmp_path):
    save(model, tmp_path / "model")
    for served in (model, load(tmp_path / "model")):
        for method in ("predict", "predict_proba", "decision_function"):
            use = getattr(served, method)
            np.testing.assert_array_equal(use(ROWS[:n]), use(X[:n]))
    np.testing.assert_array_equal(model.predict_proba(tuple(ROWS[:n])), model.predict_proba(X[:n]))
    ratings = RatingRegressor(**SMALL).fit(X, Y + 0.5)
    np.testing.assert_array_equal(ratings.predict(ROWS[:n]), ratings.predict(X[:n]))


def test_a_single_dict_is_a_row(model):
    for i in (0, 1, 7):
        np.testing.assert_array_equal(
            model.predict_proba(ROWS[i]), model.predict_proba(X[i : i + 1])
        )
    assert model.predict(ROWS[0]).shape == (1,)


def test_the_order_of_keys_does_not_matter(model):
    turned = [dict(reversed(row.items())) for row in ROWS]
    np.testing.assert_array_equal(model.predict_proba(turned), model.predict_proba(X))


@pytest.mark.parametrize(
    "make",
    [
        lambda: FieldCrosser([("user", "item")]),
        lambda: FieldCrosser([("user", "item")], append=False),
        lambda: TargetStatistics(columns=["user", "item"], random_state=0),
        lambda: AEFE(n_pairs=2, random_state=0),
        lambda: FieldSelector(n_features_to_select=2, estimator=CTRClassifier(**SMALL)),
        lambda: FieldSelector(OptFS(), estimator=CTRClassifier(**SMALL)),
        lambda: FSTD(
            CTRClassifier(**SMALL), n_features_to_select=2, max_evaluations=4, cv=2, random_state=0
        ),
    ],
    ids=["crosser", "crosses alone", "statistics", "aefe", "selector", "optfs", "fstd"],
)
def test_transformers_take_them(make):
    flat = X[["user", "item", "price"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of searches that end early
        transformer = make().fit(flat, Y)
    rows, expected = flat[:20].to_dict("records"), transformer.transform(flat[:20])
    found = transformer.transform(rows)
    assert list(found.columns) == list(expected.columns)
    for name in expected:
        np.testing.assert_array_equal(found[name].tolist(), expected[name].tolist())
    pd.testing.assert_frame_equal(transformer.transform(rows[0]), found[:1])
    with pytest.raises(ValueError, match="keys that are no columns.*'usr'"):
        transformer.transform({"usr": "1"})


def test_linear_models_and_pipelines_take_them():
    linear = CrossedLinearClassifier(max_crosses=1, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(linear.predict_proba(ROWS[:30]), linear.predict_proba(X[:30]))
    assert linear.explain(ROWS[0]).shape == linear.explain(X[:1]).shape
    pipe = make_pipeline(FieldCrosser([("user", "item")]), CTRClassifier(**SMALL)).fit(X, Y)
    np.testing.assert_array_equal(pipe.predict_proba(ROWS[:30]), pipe.predict_proba(X[:30]))
    encoder = FieldEncoder().fit(X)
    np.testing.assert_array_equal(encoder.transform(ROWS), encoder.transform(X))


def test_training_that_goes_on_takes_them():
    found, expected = (CTRClassifier(**SMALL).fit(X, Y) for _ in range(2))
    found.partial_fit(ROWS[:100], Y[:100])
    expected.partial_fit(X[:100], Y[:100])
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))


# types of cells
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, FEW_ROWS + 2])
def test_integers_beside_missing_values_stay_integers(n):
    """A DataFrame of such dicts has floats: 2^53 + 1 would be its neighbour."""
    big = 2**53
    table = pd.DataFrame({"item": np.array([3, big, big + 1, 3], np.int64), "text": list("abca")})
    encoder = FieldEncoder().fit(table)
    rows = [{"item": big + 1, "text": "a"}, {"text": "b"}] * (n // 2)
    ids = encoder.encode(rows).ids
    assert ids[0, 0] == encoder.encode(table).ids[2, 0] and ids[1, 0] == 0
    with pytest.warns(DataTypeDriftWarning, match="floats"):
        assert encoder.encode(pd.DataFrame(rows)).ids[0, 0] == 1  # the trap


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT, ""], ids=repr)
def test_a_key_that_is_not_there_is_a_missing_value(model, n, missing):
    for name in X.columns:
        short = [{key: v for key, v in row.items() if key != name} for row in ROWS[:n]]
        said = [{**row, name: missing} for row in ROWS[:n]]
        table = X[:n].astype(object).copy()
        table[name] = pd.Series([None] * n, dtype=object)
        np.testing.assert_array_equal(
            model.encoder_.encode(short).ids, model.encoder_.encode(table).ids
        )
        np.testing.assert_array_equal(model.predict_proba(short), model.predict_proba(table))
        if not (name == "tags" and isinstance(missing, str)):
            np.testing.assert_array_equal(model.predict_proba(said), model.predict_proba(short))


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
@pytest.mark.parametrize(
    "item",
    [3, np.int8(3), np.int64(3), np.uint16(3), 3.0, np.float32(3), np.float16(3), Decimal(3)],
    ids=lambda v: f"{type(v).__name__}",
)
def test_one_integer_in_every_spelling(item, n):
    table = pd.DataFrame({"item": [3, 3, 5, 7] * 10, "word": list("abcd") * 10})
    encoder = FieldEncoder().fit(table)
    found = encoder.encode([{"item": item, "word": "a"}] * n).ids
    assert (found == encoder.encode(table[:1]).ids).all()
    texts = FieldEncoder().fit(table.astype({"item": str}))
    with pytest.warns(DataTypeDriftWarning, match="numbers"):
        own = texts.encode([{"item": item, "word": "a"}] * n).ids
    assert (own == texts.encode(table.astype({"item": str})[:1]).ids).all()
    with pytest.warns(DataTypeDriftWarning, match="strings"):
        text = encoder.encode([{"item": "3", "word": "a"}] * n)
    assert (text.ids == found).all()


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_keep_their_width(n, dtype):
    values = np.array([0.1, 0.2, 0.7, 0.1] * 30, dtype)
    table = pd.DataFrame({"rate": values})
    encoder = FieldEncoder(categorical_features={"rate": "both"}).fit(table)
    rows = [{"rate": value} for value in values[:n]]
    assert (
        isinstance(rows[0]["rate"], dtype) and (assert_same(encoder, rows, table[:n]).ids > 1).all()
    )


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
def test_what_json_makes_of_a_row(model, n):
    """Times become text, which is converted as in every table, with the warning of every table."""
    rows = [{**row, "when": row["when"].isoformat(), "new": bool(row["new"])} for row in ROWS[:n]]
    rows = json.loads(json.dumps(rows, default=int))
    with pytest.warns(DataTypeDriftWarning, match="'when' held times"):
        found = model.predict_proba(rows)
    np.testing.assert_array_equal(found, model.predict_proba(X[:n]))
    python = [{**row, "when": datetime.fromisoformat(row["when"])} for row in rows]
    np.testing.assert_array_equal(model.predict_proba(python), found)


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
def test_text_with_separators_and_arrays_in_cells(n):
    table = pd.DataFrame({"genres": ["a|b", "b|c", "a"] * 10, "n": range(30)})
    encoder = FieldEncoder(sequence_features={"genres": "|"}).fit(table)
    assert_same(encoder, table[:n].to_dict("records"), table[:n])
    encoder = FieldEncoder().fit(X)
    rows = [{**row, "tags": np.array(row["tags"])} for row in ROWS[:n]]
    assert_same(encoder, rows, X[:n])
    assert_same(encoder, [{**row, "tags": tuple(row["tags"])} for row in ROWS[:n]], X[:n])


def test_names_that_are_no_text():
    table = X[["user", "item"]].set_axis([1, ("a", "b")], axis=1)
    encoder = FieldEncoder().fit(table)
    assert_same(encoder, table.to_dict("records"), table)
    with pytest.raises(ValueError, match="columns without names"):
        FieldEncoder().fit(X.to_numpy(object)).encode(ROWS[:2])


# what is refused
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1])
@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda r: {**r, "usr": 1}, ValueError, r"has keys that are no columns.*: \['usr'\]\.$"),
        (lambda r: {"usr": 1, "item": 2}, ValueError, r"\['usr'\]; it lacks \['user', 'price'"),
        (lambda r: {}, ValueError, "is an empty dict"),
        (lambda r: [1, 2], TypeError, "is of type list"),
        (lambda r: {**r, "price": "dear"}, ValueError, "'price' is numeric, but holds"),
        (lambda r: {**r, "price": np.inf}, ValueError, "infinity .* in column 'price'"),
        (lambda r: {**r, "user": ["a", "b"]}, ValueError, "'user' is categorical, but holds"),
        (lambda r: {**r, "when": True}, ValueError, "'when' held times .*True"),
    ],
)
def test_what_is_no_row_is_refused_by_name(model, n, change, error, message):
    rows = [*ROWS[: n - 1], change(ROWS[n - 1])]
    if n == 1 and not isinstance(rows[0], dict):
        pytest.skip("a list of lists is another kind of table")
    with pytest.raises(error, match=message):
        model.predict_proba(rows)


def test_fit_wants_a_table():
    for make in (lambda: CTRClassifier(**SMALL), FieldEncoder, lambda: FieldCrosser([("a", "b")])):
        with pytest.raises(TypeError, match="rows as dicts.*takes once it is fitted"):
            make().fit(ROWS, Y)
