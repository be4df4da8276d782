"""What looks like a mistake is named once, at fit; what is sound is not."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec import CTRClassifier
from sklearn_autorec.exceptions import SuspiciousColumnWarning
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.preprocessing import FieldEncoder

RNG = np.random.default_rng(0)
N = 200
IDS = RNG.integers(0, 40, N)
SECONDS = 1_700_000_000 + RNG.integers(0, 10**7, N)
DUE = {
    "ids that a gap made floats": (
        np.where(RNG.random(N) < 0.1, np.nan, IDS),
        r"\.astype\('Int64'\) or say so with categorical_features=\{'odd': 'id'\}",
    ),
    "the same, Float64": (
        pd.array(np.where(IDS == 3, np.nan, IDS), dtype="Float64"),
        "whole numbers as floats",
    ),
    "the same, float32": (
        np.where(IDS == 3, np.nan, IDS).astype(np.float32),
        "whole numbers as floats",
    ),
    "seconds": (SECONDS, r"to_datetime\(..., unit='s'\)"),
    "milliseconds": (SECONDS * 1000, r"unit='ms'"),
    "nanoseconds": (SECONDS * 10**9, r"unit='ns'"),
    "days": (20240100 + 1 + IDS % 28, r"to_datetime\(..., format='%Y%m%d'\)"),
    "weights": (RNG.integers(1_000, 2_500, N), "whole numbers in 200 rows"),
    "vectors": ([RNG.normal(size=3 - k % 2).tolist() for k in range(N)], "lists of floats"),
    "vectors as arrays": (
        [RNG.normal(size=3 - k % 2) for k in range(N)],
        r"vector_features=\['odd'\]",
    ),
}
SOUND = {
    "prices with gaps": np.where(IDS == 3, np.nan, IDS + 0.5),
    "whole floats without a gap": IDS.astype(float),
    "stars with gaps": np.where(IDS == 3, np.nan, IDS % 5 + 1.0),
    "changes with gaps": np.where(IDS == 3, np.nan, IDS - 20.0),
    "ids": IDS,
    "row numbers": np.arange(N),
    "ids of few rows each": RNG.integers(0, 3 * N, N),
    "numbered ids of hardly more than one row": RNG.integers(0, 1_500, N),
    "text of one row each": np.arange(N).astype(str),
    "no days": 20240100 + IDS,
    "vectors": list(RNG.normal(size=(N, 3))),
    "ids with gaps": pd.array(np.where(IDS == 3, None, IDS), dtype="Int64"),
    "large ids": IDS * 10**12,
    "a few times": SECONDS[:5].repeat(N // 5),
    "times": pd.to_datetime(SECONDS, unit="s"),
    "text": IDS.astype(str),
    "lists of ids": [[int(v), 3] for v in IDS],
    "lists of whole floats": [[float(v), 3.0] for v in IDS],
    "flags": IDS % 2 == 0,
}


@pytest.mark.parametrize("name", DUE)
def test_what_is_suspicious_is_named_once(name):
    column, message = DUE[name]
    X = pd.DataFrame({"fine": IDS.astype(str), "odd": column})
    for model in (
        FieldEncoder(),
        FieldCrosser([("fine", "odd")]) if "vectors" not in name else FieldEncoder(),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(X)
        (warning,) = caught
        assert warning.category is SuspiciousColumnWarning
        with pytest.warns(SuspiciousColumnWarning, match=f"Column 'odd'.*{message}"):
            warnings.warn(warning.message, stacklevel=1)
    with pytest.warns(SuspiciousColumnWarning, match="Column 'odd'"):
        CTRClassifier(network="lr", max_epochs=1, device="cpu").fit(X, IDS % 2)


@pytest.mark.parametrize("name", SOUND)
def test_what_is_sound_is_not(name):
    X = pd.DataFrame({"odd": SOUND[name]})
    encoder = FieldEncoder().fit(X)  # warnings are errors here
    encoder.partial_fit(X).encode(X)


@pytest.mark.parametrize("name", [n for n in DUE if "vectors" not in n])
def test_who_says_what_is_categorical_is_not_questioned(name):
    X = pd.DataFrame({"odd": DUE[name][0]})
    for chosen in (["odd"], [], {"odd": "id"}, {"odd": "number"}):
        FieldEncoder(categorical_features=chosen).fit(X)


def test_encoding_and_chunks_say_nothing_more():
    X = pd.DataFrame({"odd": DUE["seconds"][0]})
    with pytest.warns(SuspiciousColumnWarning):
        encoder = FieldEncoder().fit(X)
    encoder.encode(X)
    encoder.partial_fit(X)


TABLES = (
    "adult amazon_beauty_seq avazu_sample bank credit_default criteo_sample frappe_x1 "
    "hotel_bookings insteval kuairand_feedback ml-100k ml-1m xmarket_ratings"
).split()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("n_rows", [1_000, 10_000])
def test_ids_of_real_tables_are_not_suspicious(name, n_rows):
    folder = Path(os.environ.get("SKLEARN_AUTOREC_DATA", "")) / name
    files = [f for f in sorted(folder.glob("*.parquet")) if f.stem in ("train", "interactions")]
    if not os.environ.get("SKLEARN_AUTOREC_DATA") or not files:
        pytest.skip("SKLEARN_AUTOREC_DATA is not set, or has no such table")
    X = pd.read_parquet(files[0]).head(n_rows)
    X = X[[c for c in json.loads((folder / "meta.json").read_text())["fields"] if c in X]]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FieldEncoder().fit(X)
    told = [str(w.message) for w in caught if w.category is SuspiciousColumnWarning]
    assert [text for text in told if "look like times since 1970" not in text] == []
    assert all("timestamp" in text for text in told)
