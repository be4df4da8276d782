"""A fit in MLflow: parameters, losses by epoch, scores, and the model, read back as what serves.

    pip install mlflow-skinny sqlalchemy alembic    # or mlflow, with its pages
    python examples/track_mlflow.py
    python examples/track_mlflow.py --tracking sqlite:///mlflow.db

What is stored of the model is the file of ``serving.save``, which holds no code, and
``_mlflow_model.py``, which reads it: nothing is pickled. It comes back in two ways, as MLflow's
``pyfunc`` (tables in, probabilities out, columns checked by the signature) and as the estimator."""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from sklearn_autorec import CTRClassifier, __version__
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.serving import load, save

WRAPPER = Path(__file__).with_name("_mlflow_model.py")


def log_fit(mlflow, model, scores):
    """Log a fitted estimator's parameters, its losses by epoch and the scores of other rows.

    Parameters
    ----------
    mlflow : module
    model : CTRClassifier or RatingRegressor
    scores : dict of str to float
    """
    given = model.get_params(deep=True)
    mlflow.log_params({name: str(value)[:500] for name, value in given.items()})
    for prefix, history in (("search/", model.search_history_), ("", model.history_)):
        for step, record in enumerate(history):
            numbers = {
                prefix + name: float(value)
                for name, value in record.items()
                if isinstance(value, int | float) and name != "epoch"
            }
            mlflow.log_metrics(numbers, step=step)
    mlflow.log_metrics(scores)
    mlflow.log_dict(model.architecture_, "architecture.json")


def log_model(mlflow, model, X, name="model"):
    """Log the model file with what reads it; returns MLflow's ModelInfo.

    ``X``, some rows, gives the signature, by which MLflow refuses tables with other columns.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "autorec.model"
        save(model, path)
        outputs = model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)
        return mlflow.pyfunc.log_model(
            name=name,
            python_model=str(WRAPPER),
            artifacts={"model": str(path)},
            signature=mlflow.models.infer_signature(X, outputs),
            pip_requirements=[f"sklearn-autorec=={__version__}"],
        )


def read_estimator(mlflow, uri):
    """The estimator of a logged model, to be trained on or taken apart."""
    with tempfile.TemporaryDirectory() as folder:
        local = Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
        (path,) = local.rglob("autorec.model")
        return load(path)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the made data")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--tracking", default=None, help="where MLflow keeps runs (its default)")
    args = parser.parse_args(arguments)
    try:
        import mlflow
        import mlflow.pyfunc
    except ImportError as error:
        raise ImportError(
            "The example needs MLflow: pip install mlflow-skinny sqlalchemy alembic"
        ) from error

    if args.tracking is not None:
        mlflow.set_tracking_uri(args.tracking)
    X, y, _ = make_ctr(args.rows, n_fields=6, cardinality=12, pairs=2, n_numeric=1, random_state=0)
    n = int(0.8 * args.rows)
    mlflow.set_experiment("clicks")
    with mlflow.start_run() as run:
        model = CTRClassifier(
            network="deepfm", search=AutoFIS(), lr=3e-3, max_epochs=args.epochs, random_state=0
        ).fit(X[:n], y[:n])
        p = model.predict_proba(X[n:])[:, 1]
        log_fit(
            mlflow, model, {"auc": roc_auc_score(y[n:], p), "test_log_loss": log_loss(y[n:], p)}
        )
        info = log_model(mlflow, model, X[:5])
    print(f"run {run.info.run_id}, model {info.model_uri}")
    for name, values in sorted(mlflow.get_run(run.info.run_id).data.metrics.items()):
        print(f"{name:<30}{values:>10.4f}")

    served = mlflow.pyfunc.load_model(info.model_uri)
    same = bool((served.predict(X[n:]).to_numpy()[:, 1] == p).all())
    again = read_estimator(mlflow, info.model_uri)
    same &= bool(np.array_equal(again.predict_proba(X[n:])[:, 1], p))
    print(f"read back, as pyfunc and as estimator, it predicts the same bits: {same}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
