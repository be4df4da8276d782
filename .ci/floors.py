"""What must run on the oldest releases that pyproject.toml allows: predict, save and load, a
search, ONNX.
"""

import json
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.serving import load, onnx_inputs, save, to_onnx

warnings.simplefilter("error")
packages = (
    "torch",
    "scikit-learn",
    "skorch",
    "numpy",
    "scipy",
    "pandas",
    "joblib",
    "onnx",
    "onnxscript",
    "onnxruntime",
)
print(", ".join(f"{name} {version(name)}" for name in packages))
# No numbers, no lists: tables without columns.
X, y, _ = make_ctr(1000, n_fields=4, pairs=1, random_state=0)
model = CTRClassifier(network="fm", search=AutoFIS(), max_epochs=2, random_state=0).fit(X, y)
model.partial_fit(X, y)
scores = model.predict_proba(X)
np.testing.assert_array_equal(model.predict_proba(X[:13]), scores[:13])  # 13 is no multiple of 8
with tempfile.TemporaryDirectory() as folder:
    save(model, Path(folder) / "model")
    np.testing.assert_array_equal(load(Path(folder) / "model").predict_proba(X), scores)
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # of the exporter
        to_onnx(model, Path(folder) / "model.onnx")
    import onnxruntime

    vocabulary = json.loads((Path(folder) / "model.onnx.vocab.json").read_text())
    session = onnxruntime.InferenceSession(Path(folder) / "model.onnx")
    (found, *_) = session.run(None, onnx_inputs(vocabulary, X[:13].to_dict("records")))
    np.testing.assert_allclose(found.reshape(13, -1), scores[:13], atol=1e-5)
print("The floors hold.")
