"""What looks like a mistake is named once, at fit; what is sound is not."""

import warnings

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
    "vectors": ([RNG.normal(size=3).tolist() for _ in range(N)], "lists of floats"),
    "vectors as arrays": (list(RNG.normal(size=(N, 3))), "lists of floats"),
}
SOUND = {
    "prices with gaps": np.where(IDS == 3, np.nan, IDS + 0.5),
    "whole floats without a gap": IDS.astype(float),
    "stars with gaps": np.where(IDS == 3, np.nan, IDS % 5 + 1.0),
    "changes with gaps": np.where(IDS == 3, np.nan, IDS - 20.0),
    "ids": IDS,
    "row numbers": np.arange(N),
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
