"""A column that held times reads as times whatever it is given, or refuses it by name; one cell
like many.
"""

import datetime
import json
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sklearn_autorec import CTRClassifier
from sklearn_autorec.exceptions import DataTypeDriftWarning
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, onnx_inputs, save
from sklearn_autorec.serving._onnx import vocabulary_of

TIMES = pd.Series(pd.date_range("2024-03-01 12:34:56.789", periods=40, freq="h"), name="t")
ZONED = TIMES.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
GAPS = pd.Series(pd.to_timedelta(np.arange(40) * 61, unit="s"), name="t")
PYTHON_GAPS = [v.to_pytimedelta() for v in GAPS]
US = TIMES.astype("datetime64[us]").astype("int64")


def objects(values):
    return pd.DataFrame({"t": pd.Series(list(values), dtype=object)})


# Spellings that mean the same as TIMES, without a zone, and as ZONED; those of numbers fit both.
NAIVE = {
    "s": TIMES.dt.floor("s").astype("datetime64[s]").to_frame(),
    "ms": TIMES.astype("datetime64[ms]").to_frame(),
    "ns": TIMES.astype("datetime64[ns]").to_frame(),
    "Timestamps": objects(TIMES),
    "datetimes": objects(TIMES.dt.to_pydatetime()),
    "numpy ns": objects(TIMES.to_numpy().astype("datetime64[ns]")),
    "numpy ms": objects(list(TIMES.to_numpy().astype("datetime64[ms]"))),
    "category": TIMES.astype("category").to_frame(),
    "polars": pl.DataFrame({"t": TIMES.dt.to_pydatetime().tolist()}),
    "arrow": pa.table({"t": pa.array(TIMES, pa.timestamp("ms"))}),
    "ArrowDtype": TIMES.astype("timestamp[us][pyarrow]").to_frame(),
    "text": TIMES.astype(str).to_frame(),
    "ISO text": TIMES.map(lambda v: v.isoformat()).to_frame(),
}
AWARE = {
    "UTC": ZONED.dt.tz_convert("UTC").to_frame(),
    "New York": ZONED.dt.tz_convert("America/New_York").to_frame(),
    "Timestamps": objects(ZONED),
    "datetimes": objects([v.astimezone(datetime.UTC) for v in ZONED.dt.to_pydatetime()]),
    "several zones": objects(
        [v.tz_convert("UTC" if k % 2 else "Asia/Tokyo") for k, v in enumerate(ZONED)]
    ),
    "arrow": pa.table({"t": pa.array(ZONED.dt.tz_convert("UTC"), pa.timestamp("us", "UTC"))}),
    "polars": pl.DataFrame(
        {"t": pl.Series(TIMES.dt.to_pydatetime().tolist()).dt.replace_time_zone("UTC")}
    ),
    "text": ZONED.astype(str).to_frame(),
    "Z": TIMES.map(lambda v: v.isoformat() + "Z").to_frame(),
}
NUMBERS = {
    "epoch ms": (US // 1000).to_frame(),
    "epoch us": US.to_frame(),
    "epoch ns": (US * 1000).to_frame(),
    "epoch s": (US / 1e6).to_frame(),
    "Int64": (US // 1000).astype("Int64").to_frame(),
    "uint64": US.astype("uint64").to_frame(),
    "objects": objects(US // 1000),
    "digits": (US // 1000).astype(str).to_frame(),
}
DURATIONS = {
    "ms": GAPS.astype("timedelta64[ms]").to_frame(),
    "timedeltas": objects(PYTHON_GAPS),
    "numpy": objects(list(GAPS.to_numpy().astype("timedelta64[ns]"))),
    "text": GAPS.astype(str).to_frame(),
    "Python's text": objects(map(str, PYTHON_GAPS)),
    "polars": pl.DataFrame({"t": PYTHON_GAPS}),
    "arrow": pa.table({"t": pa.array(GAPS, pa.duration("us"))}),
}
CASES = [
    *(("times", TIMES, name, X) for name, X in {**NAIVE, **NUMBERS}.items()),
    *(("zoned", ZONED, name, X) for name, X in {**AWARE, **NUMBERS}.items()),
    *(("durations", GAPS, name, X) for name, X in DURATIONS.items()),
]


def quiet(function, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataTypeDriftWarning)
        return function(*args)


@pytest.mark.parametrize("categorical", [False, True], ids=["numeric", "ids"])
@pytest.mark.parametrize(
    "fitted, given", [(f, X) for _, f, _, X in CASES], ids=[f"{k} {n}" for k, _, n, _ in CASES]
)
def test_times_of_every_spelling_alone_and_in_a_batch(fitted, given, categorical):
    encoder = FieldEncoder(
        categorical_features=["t"] if categorical else "auto", unknown_warning=None
    )
    encoder.fit(fitted.to_frame())
    part = "ids" if categorical else "numeric"
    wanted = getattr(encoder.encode(fitted.to_frame()), part)
    if isinstance(given, pd.DataFrame) and given["t"].dtype == "datetime64[s]":
        wanted = getattr(encoder.encode(fitted.dt.floor("s").to_frame()), part)
    found = getattr(quiet(encoder.encode, given), part)
    # Seconds as float64 are exact to a microsecond.
    np.testing.assert_allclose(found, wanted, atol=0 if categorical else 2e-5)
    for k in (0, 9, 39):
        row = given.iloc[[k]] if isinstance(given, pd.DataFrame) else given[k : k + 1]
        np.testing.assert_array_equal(getattr(quiet(encoder.encode, row), part)[0], found[k])


def test_conversions_of_text_and_numbers_are_told():
    encoder = FieldEncoder().fit(TIMES.to_frame())
    for name, message in (
        ("text", "strings now; the values are converted \\(they are read as ISO"),
        ("epoch ms", "taken as milliseconds"),
    ):
        for n in (1, 40):
            with pytest.warns(
                DataTypeDriftWarning,
                match=f"Column 't' held times without a zone in fit and holds "
                f".*{message}|{message}",
            ):
                encoder.encode({**NAIVE, **NUMBERS}[name][:n])


@pytest.mark.parametrize(
    "missing", [pd.NaT, None, np.nan, pd.NA, "", np.datetime64("NaT")], ids=repr
)
@pytest.mark.parametrize("fitted", [TIMES, ZONED, GAPS], ids=["times", "zoned", "durations"])
def test_not_a_time_is_missing(fitted, missing):
    if fitted is GAPS and isinstance(missing, np.datetime64):
        missing = np.timedelta64("NaT")
    numbers = FieldEncoder().fit(fitted.to_frame())
    ids = FieldEncoder(categorical_features=["t"]).fit(fitted.to_frame())
    mixed = objects([fitted[3], missing, fitted[5]])
    assert numbers.encode(mixed).numeric[:, 1].tolist() == [0, 1, 0]
    assert numbers.encode(mixed[1:2]).numeric.tolist() == [[0, 1]]
    assert ids.encode(mixed).ids[1, 0] == 0 == ids.encode(mixed[1:2]).ids[0, 0]
    gone = fitted.mask(fitted.index == 7).to_frame()
    assert numbers.encode(gone).numeric[7].tolist() == [0, 1] and ids.encode(gone).ids[7, 0] == 0


WRONG = [
    (
        TIMES,
        ZONED.to_frame(),
        "held times without a zone in fit and holds times of zone Asia/Tokyo now; convert them",
    ),
    (
        ZONED,
        TIMES.to_frame(),
        "held times of zone Asia/Tokyo in fit and holds times without a zone now; say which",
    ),
    (TIMES, AWARE["Z"], "holds times of zone UTC now"),
    (ZONED, NAIVE["text"], "holds times without a zone now"),
    (TIMES, GAPS.to_frame(), "holds durations now"),
    (GAPS, TIMES.to_frame(), "held durations in fit and holds times without a zone now"),
    (TIMES, pd.DataFrame({"t": [20240301]}), "got the number 20240301"),
    (TIMES, pd.DataFrame({"t": [20240301120000]}), "got the number 20240301120000"),
    (TIMES, pd.DataFrame({"t": ["20240301"]}), "got the number"),
    (TIMES, pd.DataFrame({"t": ["01/03/2024"]}), "is no time in ISO 8601"),
    (TIMES, pd.DataFrame({"t": ["soon"]}), "got the text 'soon'"),
    (TIMES, pd.DataFrame({"t": [True]}), "got True"),
    (TIMES, pd.DataFrame({"t": [np.inf]}), "got the number inf"),
    (GAPS, pd.DataFrame({"t": [60]}), "whose unit is not known"),
    (GAPS, pd.DataFrame({"t": ["60"]}), "got the text '60'"),
    (pd.Series([0.5, 1.5], name="t"), TIMES.to_frame(), "is a column of numbers, but holds times"),
    (
        pd.Series([0.5, 1.5], name="t"),
        objects(TIMES.to_numpy()),
        "is a column of numbers, but holds times",
    ),
    (
        pd.Series([0.5, 1.5], name="t"),
        objects(list(GAPS.to_numpy())),
        "is a column of numbers, but holds times",
    ),
    (pd.Series([0.5, 1.5], name="t"), ZONED.to_frame(), "is a column of numbers, but holds times"),
]


@pytest.mark.parametrize("fitted, given, message", WRONG, ids=[m for *_, m in WRONG])
def test_what_is_not_certain_is_refused_by_name(fitted, given, message):
    encoder = FieldEncoder().fit(fitted.to_frame())
    for X in (given[:1], pd.concat([given] * 30, ignore_index=True)):
        with pytest.raises(ValueError, match=f"Column 't' .*{message}"):
            encoder.encode(X)


@pytest.mark.parametrize(
    "cells",
    [[TIMES[0], ZONED[0]], [TIMES[0], GAPS[0]], [TIMES[0], 3.5], [TIMES[0], "x"]],
    ids=["zones", "durations", "numbers", "text"],
)
def test_columns_that_mix_times_with_others_are_refused_at_fit(cells):
    with pytest.raises(ValueError, match="Column 't' mixes times"):
        FieldEncoder(categorical_features=None).fit(objects(cells))


def test_ids_may_be_times_and_text():
    X = objects([TIMES[0], "x", TIMES[1].to_numpy(), "x"])
    encoder = FieldEncoder().fit(X)
    ids = encoder.encode(X).ids[:, 0].tolist()
    assert (
        sorted(ids) == [2, 2, 3, 4]
        and [encoder.encode(X[k : k + 1]).ids[0, 0] for k in range(4)] == ids
    )


def test_chunks_go_on_as_times():
    whole = FieldEncoder(numeric="standard").fit(TIMES.to_frame())
    parts = FieldEncoder(numeric="standard").partial_fit(TIMES[:10].to_frame())
    with pytest.warns(DataTypeDriftWarning, match="milliseconds"):
        parts.partial_fit(NUMBERS["epoch ms"][10:])
    np.testing.assert_allclose(
        parts.encode(TIMES.to_frame()).numeric, whole.encode(TIMES.to_frame()).numeric, rtol=1e-6
    )
    with pytest.raises(ValueError, match="holds times of zone"):
        parts.partial_fit(ZONED.to_frame())


def test_dates_of_all_types_are_midnight():
    days = pd.date_range("2024-03-01", periods=5)
    encoder = FieldEncoder(numeric=None).fit(pd.DataFrame({"t": days}))
    wanted = encoder.encode(pd.DataFrame({"t": days})).numeric
    for given in (
        objects(days.date),
        pl.DataFrame({"t": days.date.tolist()}),
        pa.table({"t": pa.array(days.date, pa.date64())}),
        objects(days.to_numpy().astype("datetime64[D]").tolist()),
    ):
        np.testing.assert_array_equal(encoder.encode(given).numeric, wanted)


def test_model_files_exported_inputs_and_crossers_know_times(tmp_path):
    n = len(TIMES)
    X = pd.DataFrame(
        {"t": TIMES, "z": ZONED, "g": GAPS, "day": TIMES, "gap": GAPS, "u": np.arange(n) % 3}
    )
    encoder = FieldEncoder(categorical_features=["day", "gap", "u"])
    model = CTRClassifier(network="lr", encoder=encoder, max_epochs=1, device="cpu").fit(
        X, np.arange(n) % 2
    )
    save(model, tmp_path / "m")
    loaded = load(tmp_path / "m").encoder_
    vocabulary = json.loads(json.dumps(vocabulary_of(model)))
    text = X.assign(
        t=TIMES.astype(str), z=US // 1000, g=GAPS.astype(str), day=US / 1e6, gap=GAPS.astype(str)
    )
    wanted = model.encoder_.encode(X)
    for table in (X, text):
        found = quiet(loaded.encode, table)
        rows = onnx_inputs(vocabulary, table.to_dict("records"))
        for name in ("ids", "numeric"):
            np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=2e-5)
            np.testing.assert_allclose(rows[name], getattr(wanted, name), atol=2e-5)
    with pytest.raises(ValueError, match="Column 'z' held times of zone Asia/Tokyo"):
        loaded.encode(X.assign(z=TIMES))
    with pytest.raises(ValueError, match="Column 't' .*got the text 'soon'"):
        onnx_inputs(vocabulary, [{**X.iloc[0].to_dict(), "t": "soon"}])
    crosser = FieldCrosser([("t", "u")]).fit(X)
    pd.testing.assert_series_equal(
        crosser.transform(X)["t x u"], quiet(crosser.transform, text)["t x u"]
    )


def test_the_encoder_tells_which_columns_held_times():
    X = pd.DataFrame({"x": np.arange(len(TIMES)) / 7, "plain": TIMES, "zoned": ZONED, "gap": GAPS})
    told = {"plain": "time", "zoned": "zoned time", "gap": "duration"}
    assert FieldEncoder().fit(X).times_ == told
    assert FieldEncoder(categorical_features=["gap", "plain"]).fit(X).times_ == told
    assert FieldEncoder().fit(X[["x"]]).times_ == {}
