"""One rule for which spellings are one value, in encoder, crosser and files."""

import json
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec import CTRClassifier
from sklearn_autorec.exceptions import DataTypeDriftWarning
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, onnx_inputs, save
from sklearn_autorec.serving._onnx import vocabulary_of

IDS = [2**53 + k for k in range(6)]

SIZES = [0.1, 0.3, 1.1, 2.0, 1e-3, 0.5]

GIVEN = {
    "u": [
        *IDS[:4],
        *map(str, IDS[:4]),
        float(IDS[0]),
        Decimal(IDS[1]),
        repr(float(IDS[2])),
        True,
        None,
    ],
    "size": [
        0.1,
        float(np.float32(0.1)),
        "0.1",
        Decimal("0.1"),
        np.float32(0.3),
        2,
        "2.0",
        2**53 + 1,
        "x",
    ],
    "flag": [True, "true", "FALSE", 1, 0, "1", "yes", 2, None],
    "word": ["true", "TRUE", 1, "a", True, 2.0, "2.0", Decimal("1.50"), "1.5", float(2**53), 2**53],
}


def mixed_table(n=60):
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "u": np.array(IDS)[rng.integers(0, 6, n)],
            "size": np.array(SIZES)[rng.integers(0, 6, n)],
            "flag": rng.random(n) < 0.4,
            "word": np.array(["true", "a", "1", "2", "1.5"], dtype=object)[rng.integers(0, 5, n)],
        }
    )


@pytest.mark.parametrize("hash_threshold", [None, 1])
def test_exported_inputs_and_model_files_follow_the_encoder(tmp_path, hash_threshold):
    train = mixed_table()
    encoder = FieldEncoder(
        categorical_features=[*train], hash_threshold=hash_threshold, unknown_warning=None
    )
    model = CTRClassifier(network="lr", encoder=encoder, max_epochs=1, device="cpu").fit(
        train, np.arange(60) % 2
    )
    vocabulary = json.loads(json.dumps(vocabulary_of(model)))
    save(model, tmp_path / "m")
    loaded = load(tmp_path / "m")
    known = train.iloc[0].to_dict()
    for name, values in GIVEN.items():
        for value in values:
            row = {**known, name: value}
            X = pd.DataFrame({k: pd.Series([v], dtype=object) for k, v in row.items()})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataTypeDriftWarning)
                ids = model.encoder_.encode(X).ids.tolist()
                assert loaded.encoder_.encode(X).ids.tolist() == ids, (name, value)
                assert model.encoder_.encode(pd.concat([X] * 40)).ids[:1].tolist() == ids, (
                    name,
                    value,
                )
            assert onnx_inputs(vocabulary, [row])["ids"].tolist() == ids, (name, value)


@pytest.mark.parametrize("name", ["crosser", "autocross", "aefe", "glider"])
def test_crossers_read_ids_as_the_encoder_does(name):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"u": np.array(IDS)[rng.integers(0, 6, 400)], "i": rng.integers(0, 4, 400)})
    y = ((X.u % 2 == 0) ^ (X.i % 2 == 0)).astype(int).to_numpy()
    crosser = {
        "crosser": FieldCrosser([("u", "i")]),
        "autocross": AutoCross(random_state=0),
        "aefe": AEFE(random_state=0),
        "glider": GLIDER(
            CTRClassifier(network="fm", max_epochs=3, device="cpu", random_state=0), random_state=0
        ),
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crosser.fit(X, y)
        as_ids, as_text = crosser.transform(X), crosser.transform(X.astype({"u": str}))
    new = [c for c in as_ids if c not in X]
    assert new
    pd.testing.assert_frame_equal(as_ids[new], as_text[new])
