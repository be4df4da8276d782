"""What is derived of a column of times: its age, and the hour, weekday and month on its clock."""

import datetime
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_autorec import CTRClassifier
from sklearn_autorec.exceptions import DataTypeDriftWarning
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.preprocessing._time_fields import calendar_values
from sklearn_autorec.preprocessing._times import calendar_value
from sklearn_autorec.serving import load, save

TIMES = pd.Series(pd.date_range("2022-12-30 22:10:05", periods=300, freq="57h"))
ALL = ["age", "hour", "weekday", "month"]


def table(times=TIMES):
    return pd.DataFrame({"time": times, "user": np.arange(len(times)) % 7 + 0.25})


def calendar(encoder, X):
    """Decoded ids by the name of their field."""
    names = [encoder.field_names_[k] for k in range(len(encoder.categorical_))]
    values = encoder.inverse_transform(encoder.encode(X))
    return {name: values[:, k].tolist() for k, name in enumerate(names)}


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("form", ["datetime64", "Timestamps", "datetimes", "polars"])
def test_fields_are_those_of_the_clock_of_the_column(zone, form):
    times = TIMES if zone is None else TIMES.dt.tz_localize(zone)
    gaps = times.copy()
    gaps[4] = pd.NaT
    cells = [None if v is pd.NaT else v for v in gaps]
    X = {
        "datetime64": lambda: table(gaps),
        "Timestamps": lambda: table(pd.Series(cells, dtype=object)),
        "datetimes": lambda: table(
            pd.Series([v and v.to_pydatetime() for v in cells], dtype=object)
        ),
        "polars": lambda: pl.from_pandas(table(gaps)),
    }[form]()
    encoder = FieldEncoder(numeric=None).fit(X)
    assert encoder.kinds_ == {"time": "time", "user": "both"}
    expected = {
        "time:hour": times.dt.hour.astype(object).tolist(),
        "time:weekday": times.dt.day_of_week.astype(object).tolist(),
        "time:month": times.dt.month.astype(object).tolist(),
    }
    for values in expected.values():
        values[4] = None
    found = calendar(encoder, X)
    assert {name: found[name] for name in expected} == expected
    assert encoder.field_names_[4] == "time:age"
    numeric = encoder.encode(X).numeric
    age = (times.max() - times).dt.total_seconds().to_numpy(copy=True)
    age[4] = 0
    assert numeric[:, 0].tolist() == age.tolist()
    m = len(encoder.numeric_)
    assert numeric[:, m].tolist() == [float(k == 4) for k in range(300)]
    if form != "polars":
        few, whole = encoder.encode(X[3:6]), encoder.encode(X)
        assert np.array_equal(few.ids, whole.ids[3:6])
        assert np.array_equal(few.numeric, whole.numeric[3:6])


@pytest.mark.parametrize(
    "freq, periods, expected",
    [
        ("1min", 50, ["age"]),
        ("1h", 50, ["age", "hour"]),
        ("1D", 13, ["age"]),  # days at one hour
        ("1D", 15, ["age", "weekday"]),
        ("7D", 52, ["age"]),
        ("7D", 54, ["age", "month"]),
        ("29h", 400, ALL),
    ],
)
def test_the_training_times_say_which_fields(freq, periods, expected):
    times = pd.Series(pd.date_range("2024-03-01 10:00:00", periods=periods, freq=freq))
    encoder = FieldEncoder().fit(pd.DataFrame({"t": times}))
    found = {name.partition(":")[2] for name in encoder.field_names_}
    assert found == set(expected)


def test_parameters_say_which_fields():
    X = table()
    hour = FieldEncoder(time_features=["hour"]).fit(X)
    assert [n for n in hour.field_names_ if "time" in n] == ["time:hour"]
    assert len(hour.numeric_) == 1
    plain = FieldEncoder(time_features=None).fit(X)
    assert plain.kinds_["time"] == "number" and "time" in plain.field_names_
    assert FieldEncoder(categorical_features={"time": "number"}).fit(X).kinds_["time"] == "number"
    assert FieldEncoder(categorical_features=["time"]).fit(X).kinds_["time"] == "id"
    with pytest.raises(ValueError, match="time_features must be of .*got 'minute'"):
        FieldEncoder(time_features=["minute"]).fit(X)
    waits = pd.DataFrame({"wait": pd.to_timedelta(np.arange(40) * 90, unit="s")})
    encoder = FieldEncoder(numeric=None).fit(waits)
    assert encoder.kinds_ == {"wait": "number"}
    assert encoder.encode(waits).numeric[:, 0].tolist() == (np.arange(40) * 90.0).tolist()


@pytest.mark.parametrize("numeric", ["rank", "quantile", "log_square", "standard", None])
def test_ages_are_before_the_newest_training_time_and_later_ones_are_read(numeric, tmp_path):
    X = table()
    encoder = FieldEncoder(numeric=numeric).fit(X)
    ages = encoder.encode(X).numeric[:, 0]
    assert (np.diff(ages.astype(float)) <= 0).all() and ages[0] > ages[-1]
    later = table(TIMES + pd.Timedelta(days=4000))
    found = encoder.encode(later)
    assert np.isfinite(found.numeric).all()
    assert (found.ids[:, 0] > 1).all()  # hours are known
    if numeric is None:
        assert found.numeric[-1, 0] == -4000 * 86400
    if numeric in ("rank", "quantile"):
        assert found.numeric[-1, 0] == ages.min()  # clipped
    save(encoder, tmp_path / "encoder")
    for other in (load(tmp_path / "encoder"), pickle.loads(pickle.dumps(encoder))):
        assert np.array_equal(other.encode(later).numeric, found.numeric)
        assert np.array_equal(other.encode(later).ids, found.ids)
        assert other.field_names_ == encoder.field_names_


def test_chunks_and_text_are_read_as_the_whole():
    X = table()
    whole, chunks = FieldEncoder().fit(X), FieldEncoder(time_features=ALL)
    for start in range(0, 300, 100):
        chunks.partial_fit(X[start : start + 100])
    a, b = whole.encode(X), chunks.encode(X)
    assert np.array_equal(a.ids, b.ids) and np.array_equal(a.numeric, b.numeric)
    with pytest.warns(DataTypeDriftWarning, match="Column 'time' held times") as caught:
        text = whole.encode(table(TIMES.astype(str)))
    assert len(caught) == 1  # and not once for each field
    assert np.array_equal(text.ids, a.ids) and np.array_equal(text.numeric, a.numeric)
    with pytest.raises(ValueError, match="Column 'time' held times without a zone"):
        whole.encode(table(TIMES.dt.tz_localize("UTC")))


@pytest.mark.parametrize(
    "zone", [None, "UTC", "Europe/Berlin", "UTC+05:30", "-03:00", "tzlocal()", "Nowhere/Else"]
)
def test_one_time_is_read_as_many_are(zone):
    rng = np.random.default_rng(0)
    moments = rng.integers(-(2 * 10**15), 4 * 10**15, 200)
    for name in ("hour", "weekday", "month"):
        codes, keys, _ = calendar_values(moments, zone, name)
        assert keys[codes].tolist() == [calendar_value(us, zone, name) for us in moments]
    fixed = datetime.datetime(2024, 5, 6, 23, 30)
    us = int((fixed - datetime.datetime(1970, 1, 1)) / datetime.timedelta(microseconds=1))
    assert calendar_value(us, "UTC+05:30", "hour") == 5
    assert calendar_value(us, "-03:00", "hour") == 20
    assert calendar_value(us, "Europe/Berlin", "weekday") == 1


def test_names_that_are_taken_are_avoided():
    X = table().assign(**{"time:hour": "x"})
    names = FieldEncoder().fit(X).field_names_
    assert len(set(names)) == len(names) and "time:hour'" in names


def test_an_hour_is_learnt_and_crossers_take_times_as_one_number():
    rng = np.random.default_rng(0)
    times = pd.Series(
        pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 10**7, 900), "s")
    )
    y = (times.dt.hour % 2 == 0).astype(int)
    X = pd.DataFrame({"time": times, "user": rng.integers(0, 5, 900).astype(str)})
    options = {"max_epochs": 6, "lr": 0.05, "batch_size": 64, "random_state": 0, "device": "cpu"}
    model = CTRClassifier(network="lr", **options).fit(X[:600], y[:600])
    assert model.score(X[600:], y[600:]) > 0.95
    without = CTRClassifier(network="lr", encoder=FieldEncoder(time_features=None), **options)
    assert without.fit(X[:600], y[:600]).score(X[600:], y[600:]) < 0.6
    crosser = FieldCrosser([("time", "user")]).fit(X)
    assert crosser.encoder_.kinds_["time"] == "number"
    with pytest.raises(ValueError, match="time_features="):
        FieldCrosser([("time", "user")], encoder=FieldEncoder(time_features=["hour"])).fit(X)
