"""examples/track_mlflow.py: what MLflow keeps of a fit, and that the model comes back the same."""

from pathlib import Path

import numpy as np
import pytest
from example_modules import example_module

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.interaction import AutoFIS

mlflow = pytest.importorskip(
    "mlflow", reason="mlflow-skinny, 116 MB in 41 packages, is no part of the extra [dev]"
)

# MLflow's own: of warnings that it gives to users of its Python models, and of packages below it.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def example():
    with example_module("track_mlflow") as module:
        yield module


@pytest.fixture
def tracked(tmp_path, monkeypatch):
    """MLflow with its runs in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    yield mlflow
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("estimator", [CTRClassifier, RatingRegressor])
def test_a_fit_is_kept_and_its_model_comes_back(example, tracked, tmp_path, estimator):
    X, y, _ = make_ctr(400, n_fields=4, cardinality=5, pairs=1, random_state=0)
    model = estimator(
        network="deepfm", search=AutoFIS(), search_epochs=1, max_epochs=3, random_state=0
    ).fit(X, y)
    with mlflow.start_run() as run:
        example.log_fit(mlflow, model, {"auc": 0.5})
        info = example.log_model(mlflow, model, X[:3])
    client = mlflow.MlflowClient()
    data = client.get_run(run.info.run_id).data
    assert data.params["max_epochs"] == "3" and data.params["search"].startswith("AutoFIS")
    assert data.metrics["auc"] == 0.5
    for name, history in (("", model.history_), ("search/", model.search_history_)):
        losses = client.get_metric_history(run.info.run_id, f"{name}train_loss")
        assert [m.value for m in losses] == [record["train_loss"] for record in history]
        assert [m.step for m in losses] == list(range(len(history)))

    where = run.info.artifact_uri
    assert mlflow.artifacts.load_dict(f"{where}/architecture.json") == model.architecture_
    folder = Path(mlflow.artifacts.download_artifacts(info.model_uri, dst_path=tmp_path / "model"))
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"autorec.model", "_mlflow_model.py", "MLmodel"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]

    served = mlflow.pyfunc.load_model(info.model_uri)
    again = example.read_estimator(mlflow, info.model_uri)
    assert again.architecture_ == model.architecture_
    found = served.predict(X)
    if estimator is CTRClassifier:
        expected = model.predict_proba(X)
        assert list(found) == ["0", "1"]
        assert (found.to_numpy() == expected).all()
        assert (again.predict_proba(X) == expected).all()
    else:
        assert (np.asarray(found) == model.predict(X)).all()
        assert (again.predict(X) == model.predict(X)).all()
    with pytest.raises(mlflow.exceptions.MlflowException, match="f1"):
        served.predict(X.drop(columns="f1"))
