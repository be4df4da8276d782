"""Files of earlier releases load and predict as then. Before a release, ``python
tests/serving/test_golden.py`` adds one.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_autorec.serving import load

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.model"))


def table():
    k = np.arange(24)
    return pd.DataFrame(
        {
            "user": [f"u{i}" for i in k % 5],
            "item": k * 7 % 6,
            "price": np.where(k % 8 == 3, np.nan, k * 0.25),
            "tags": [[f"t{j}" for j in range(i % 4)] for i in k],
        }
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_predictions_of_earlier_releases(path):
    expected = json.loads(path.with_suffix(".json").read_text())
    found = load(path).predict_proba(table())[:, 1]
    assert np.std(expected) > 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_there_are_such_files():
    assert FILES


def write():
    from sklearn_autorec import CTRClassifier, __version__
    from sklearn_autorec.interaction import AutoFIS
    from sklearn_autorec.networks import DeepFM
    from sklearn_autorec.serving import save

    search = AutoFIS(threshold=0.3)
    options = {"embedding_dim": 4, "lr": 0.05, "max_epochs": 8, "random_state": 0, "device": "cpu"}
    model = CTRClassifier(network=DeepFM(hidden_units=(4,)), search=search, **options)
    model.fit(table(), np.arange(24) % 5 < 2)
    GOLDEN.mkdir(exist_ok=True)
    path = GOLDEN / f"{__version__}.model"
    save(model, path)
    path.with_suffix(".json").write_text(
        json.dumps(model.predict_proba(table())[:, 1].round(9).tolist()) + "\n"
    )


if __name__ == "__main__":
    write()
