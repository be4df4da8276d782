"""Graphs of raw columns that read vectors, and hours, weekdays, months and ages of times."""

import json

import numpy as np
import pandas as pd
import pytest
from onnx_cases import MODEL, OPTIONS, answers, encoded, onnx, runtime, session_of
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline

from sklearn_autorec import CTRClassifier
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._time_fields import calendar_values
from sklearn_autorec.preprocessing._times import NOT_A_TIME, fixed_offset
from sklearn_autorec.serving import onnx_inputs, to_onnx
from sklearn_autorec.serving._onnx_graph import GraphBuilder
from sklearn_autorec.serving._onnx_raw import METADATA
from sklearn_autorec.serving._onnx_times import calendar_of, seconds_of

DAY = 86_400 * 10**6  # microseconds


def timed_clicks(n=400, seed=0, zone=None):
    """Clicks with a vector, times with gaps and a word, and what they depend on."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3)) * [1, 5, 0] + [0, 40, 7]
    minutes = rng.integers(0, 3 * 365 * 24 * 60, n)
    at = pd.Series(pd.Timestamp("1968-11-05") + pd.to_timedelta(minutes, unit="min"))
    hour = at.dt.hour.to_numpy()
    X = pd.DataFrame(
        {
            "word": rng.choice(["a", "b", "c"], n),
            "at": at.dt.tz_localize(zone),
            "vector": vectors.tolist(),
        }
    )
    y = ((hour < 8) ^ (vectors[:, 0] > 0) ^ (X["word"] == "a")).astype(int)
    X.loc[X.index[::9], "at"] = pd.NaT
    X.loc[X.index[::7], "vector"] = None
    X.at[3, "vector"] = [None, np.nan, 7.0]
    return X, y


def later_rows(X):
    """Rows with times and vectors that training has not seen, and missing ones."""
    new, zone = X.head(8).copy(), X["at"].dt.tz
    times = ["1899-12-31 23:59:59.999999", "1904-02-29", "2000-02-29 12:00", "2026-03-01 00:30"]
    times = [*times, "2100-02-28 23:59", None, "1970-01-01", "1969-12-31 23:00"]
    new["at"] = pd.to_datetime(pd.Series(times), format="ISO8601").dt.tz_localize(zone)
    new["vector"] = [[9, 9.5, 9], None, [None, 1, 7], [1e3, -1e3, 0], *new["vector"][4:]]
    return new.assign(word=["never", None, *new["word"][2:]])


@pytest.mark.parametrize("zone", [None, "+05:30"])
def test_vectors_and_times_answer_as_the_model(tmp_path, zone):
    X, y = timed_clicks(zone=zone)
    model = CTRClassifier(network=DeepFM(hidden_units=(8,)), **OPTIONS).fit(X, y)
    encoder = model.encoder_
    derived = {encoder._schema.time_fields[i] for i in encoder._schema.time_fields}
    assert derived == {"age", "hour", "weekday", "month"}
    session = session_of(model, tmp_path)
    assert {i.name: (i.type, i.shape[1]) for i in session.get_inputs()} == {
        "word": ("tensor(string)", 1),
        "at": ("tensor(int64)", 1),
        "vector": ("tensor(double)", 3),
    }
    for rows in (X, later_rows(X), X[:1], X[X["at"].isna()]):
        expected = model.predict_proba(rows)
        assert len(rows) == 1 or expected[:, 1].std() > 1e-3
        np.testing.assert_allclose(answers(session, rows), expected, rtol=0, atol=1e-5)
    moved = X.assign(at=X["at"] + pd.Timedelta(hours=5))
    assert np.abs(answers(session, moved) - model.predict_proba(X)).max() > 1e-2


def test_arrays_as_other_languages_give_them(tmp_path):
    """By what the metadata say, without our function."""
    X, y = timed_clicks(zone="UTC")
    model = clone(MODEL).fit(X, y)
    session = session_of(model, tmp_path)
    told = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
    assert told["version"] == 2 and told["missing"]["int64"] == -(2**63)
    (time,) = (c for c in told["columns"] if c["name"] == "at")
    (vector,) = (c for c in told["columns"] if c["name"] == "vector")
    assert time["unit"] == "microseconds" and time["time"] == {"kind": "time", "zone": "UTC"}
    assert vector["type"] == "double" and vector["length"] == 3
    times = ["1970-02-01 00:00", None, "1969-07-20 20:17", "2024-02-29 00:00"]
    rows = X[:4].assign(at=pd.to_datetime(times))
    rows["at"], rows["vector"] = rows["at"].dt.tz_localize("UTC"), [[0.5, 40, 7], None] * 2
    feeds = {
        "word": rows[["word"]].to_numpy(dtype=object),
        "at": np.array([[31 * DAY], [-(2**63)], [-14182980 * 10**6], [1709164800 * 10**6]]),
        "vector": np.array([[0.5, 40, 7], [np.nan] * 3] * 2),
    }
    found = session.run(["probabilities"], feeds)[0]
    np.testing.assert_allclose(found, model.predict_proba(rows), rtol=0, atol=1e-5)


def test_numbers_and_ids_are_those_of_the_encoder():
    X, _ = timed_clicks()
    for method in ("rank", "log_square", "standard", None):
        encoder = FieldEncoder(numeric=method, time_features=["age", "hour", "month"]).fit(X)
        found, _ = encoded(encoder, X)
        assert found["raw.ids"].shape[1] == 3 and found["raw.numeric"].shape[1] == 6
        encoded(encoder, later_rows(X)[:4] if method == "log_square" else later_rows(X)[4:])


def graph_of_times(name, offset):
    """What nodes make of int64 times, as a function."""
    graph = GraphBuilder("made.")
    graph.input({"name": "times", "type": "int64"})
    made = seconds_of("times", graph) if name is None else calendar_of("times", offset, name, graph)
    kind = onnx.TensorProto.DOUBLE if name is None else onnx.TensorProto.INT64
    output = onnx.helper.make_tensor_value_info(made, kind, ["batch", 1])
    whole = onnx.helper.make_graph(
        graph.nodes, "times", list(graph.inputs.values()), [output], graph.constants
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    proto = onnx.helper.make_model(whole, opset_imports=opset, ir_version=10)
    session = runtime.InferenceSession(proto.SerializeToString())
    return lambda times: session.run(None, {"times": times[:, None]})[0][:, 0]


@pytest.mark.parametrize("zone", [None, "UTC", "UTC-03:30", "Etc/GMT-14"])
@pytest.mark.parametrize("name", ["hour", "weekday", "month"])
def test_the_calendar_of_a_graph_is_that_of_the_encoder(name, zone):
    """Every day of 1500 to 2500, its last microsecond, and times without order."""
    first, last = (np.datetime64(day, "us").astype(int) for day in ("1500-01-01", "2500-01-01"))
    days = np.arange(first, last, DAY)
    drawn = np.random.default_rng(0).integers(first, last, 9_999)
    times = np.concatenate([days, days - 1, drawn, [NOT_A_TIME, 0, -1]])
    codes, keys, _ = calendar_values(times, zone, name)
    expected = np.where(codes < 0, NOT_A_TIME, keys[codes])
    found = graph_of_times(name, fixed_offset(zone))(times)
    np.testing.assert_array_equal(found, expected)
    if zone == "UTC-03:30":  # the control: the zone matters
        assert (graph_of_times(name, 0)(times) != expected).any()


def test_seconds_of_a_graph_are_those_of_the_encoder():
    found = graph_of_times(None, 0)(np.array([NOT_A_TIME, -1, 1_709_164_800_123_456]))
    assert np.isnan(found[0]) and found[1:].tolist() == [-1e-6, 1_709_164_800.123456]


def test_several_encoders_read_one_input(tmp_path):
    X, y = timed_clicks(zone="UTC")
    pipeline = make_pipeline(FieldCrosser([("word", "at")]), clone(MODEL))
    model = CalibratedClassifierCV(pipeline, method="sigmoid", cv=2).fit(X, y)
    session = session_of(model, tmp_path)
    for rows in (X, later_rows(X)):
        expected = model.predict_proba(rows)
        np.testing.assert_allclose(answers(session, rows), expected, rtol=0, atol=1e-5)


def test_a_clock_that_was_moved_is_refused_by_name(tmp_path):
    X, y = timed_clicks(zone="Europe/Berlin")
    with pytest.raises(ValueError, match=r"'at' holds times of zone Europe/Berlin.* the hour: the"):
        to_onnx(clone(MODEL).fit(X, y), tmp_path / "m", inputs="raw")
    # Ages are the same on every clock.
    aged = clone(MODEL).set_params(encoder=FieldEncoder(time_features=["age"])).fit(X, y)
    np.testing.assert_allclose(
        answers(session_of(aged, tmp_path), X), aged.predict_proba(X), rtol=0, atol=1e-5
    )


def test_times_that_are_ids_as_well_are_refused(tmp_path):
    X, y = timed_clicks()
    X = X.assign(at=X["at"].dt.floor("D"))
    encoder = FieldEncoder(categorical_features={"at": "id"}, time_features=None)
    crosser = FieldCrosser([("word", "at")], encoder=encoder)
    with pytest.raises(ValueError, match="'at' is read as string and as times"):
        to_onnx(make_pipeline(crosser, clone(MODEL)).fit(X, y), tmp_path / "m", inputs="raw")


def test_cells_that_are_no_vectors_or_times_are_refused(tmp_path):
    X, y = timed_clicks()
    session = session_of(clone(MODEL).fit(X, y), tmp_path)
    row = {"word": "a", "at": pd.Timestamp("2026-01-01"), "vector": [1.0, 2.0, 3.0]}
    text = onnx_inputs(session, [row, row | {"at": "2026-01-01 00:00"}, row | {"at": None}])
    assert text["at"].ravel().tolist() == [1767225600 * 10**6] * 2 + [-(2**63)]
    assert text["vector"].shape == (3, 3) and onnx_inputs(session, [])["vector"].shape == (0, 3)
    for change, words in [
        ({"vector": [1.0, 2.0]}, "'vector' holds vectors of length 3, got one of 2"),
        ({"vector": "long"}, "'vector' holds vectors, got 'long'"),
        ({"vector": [1.0, 2.0, np.inf]}, "'vector' holds infinity"),
        ({"at": pd.Timestamp("2026-01-01", tz="UTC")}, "'at' held times without a zone"),
    ]:
        with pytest.raises(ValueError, match=words):
            onnx_inputs(session, [row | change])
