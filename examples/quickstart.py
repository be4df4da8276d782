"""From a raw table of impressions to a searched network that predicts in a fresh process.

Run as it is on data with five planted interactions, or on a folder of train/valid/test tables::

    python examples/quickstart.py
    python examples/quickstart.py --data DIR [--target label]

Prints test AUC and log loss beside the same network without a search and scikit-learn's one-hot
logistic regression, shows which interactions were kept, saves the model, and predicts with it in a
fresh process."""

import argparse
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, RobustScaler

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import load_splits, make_ctr
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import DeepFM

PREDICT = """
import pickle, sys
import numpy as np, pandas as pd
model = pickle.load(open(sys.argv[1], "rb"))
np.save(sys.argv[3], model.predict_proba(pd.read_pickle(sys.argv[2]))[:, 1])
"""


def pipeline(**options):
    """A scikit-learn step, then the network; both take the raw columns by name and dtype."""
    numbers = make_column_selector(dtype_include="floating")
    prepare = ColumnTransformer(
        [("numbers", RobustScaler(), numbers)],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    return Pipeline(
        [("prepare", prepare.set_output(transform="pandas")), ("ctr", CTRClassifier(**options))]
    )


def read(args):
    """(train, test) tables and targets, and the planted truth where there is one."""
    if args.data:
        splits = load_splits(args.data, args.target)
        return *splits["train"], *splits["test"], None
    X, y, truth = make_ctr(
        args.rows,
        n_fields=10,
        cardinality=12,
        pairs=5,
        informative_fields=3,
        n_numeric=1,
        missing_rate=0.02,
        random_state=0,
    )
    n = int(0.8 * len(X))
    return X[:n], y[:n], X[n:], y[n:], truth


def picture(model, truth, path):
    """Bars of the strongest candidates, kept ones dark."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scores = pd.Series(
        {" x ".join(pair): score for pair, score in model.interaction_scores_.items()}
    )
    kept = {" x ".join(pair) for pair in model.interactions_}
    top = scores.sort_values().tail(25)
    fig, ax = plt.subplots(figsize=(7, 0.26 * len(top) + 1.2), layout="constrained")
    colors = ["#1f4e79" if name in kept else "#c8d3de" for name in top.index]
    ax.barh(top.index, top, color=colors)
    if truth is not None:
        planted = {f"f{i} x f{j}" for i, j in truth.pairs}
        for name, label in zip(top.index, ax.get_yticklabels(), strict=True):
            label.set_fontweight("bold" if name in planted else "normal")
    ax.set_xlabel("strength of the gate before shrinkage")
    ax.set_title(
        "Interactions found by AutoFIS (dark: kept"
        + (", bold: planted)" if truth is not None else ")")
    )
    fig.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", help="folder with train, test and perhaps valid .parquet or .csv files"
    )
    parser.add_argument("--target", default="label", help="column to predict")
    parser.add_argument("--rows", type=int, default=60_000, help="rows of the made data")
    parser.add_argument("--epochs", type=int, default=None, help="epochs at most")
    parser.add_argument("--no-picture", action="store_true")
    args = parser.parse_args()
    X, y, X_test, y_test, truth = read(args)
    print(f"{len(X):,} training rows, {X.shape[1]} columns, {y.mean():.1%} clicks")

    made = args.data is None
    options = {
        "network": DeepFM(hidden_units=(64, 64)) if made else DeepFM(),
        "embedding_dim": 10,
        "lr": 3e-3 if made else 1e-3,
        "embedding_l2": 1e-3 if made else 0.05,
        "averaging": 0.99,
        "max_epochs": args.epochs or 10,
        "search_epochs": args.epochs or (5 if made else 6),
        "random_state": 0,
    }
    models = {
        "one-hot + LogisticRegression": make_pipeline(
            OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=2),
            LogisticRegression(C=0.3, max_iter=500),
        ),
        "DeepFM": pipeline(**options),
        "DeepFM + AutoFIS": pipeline(search=AutoFIS(), **options),
    }
    print(f"\n{'model':30s} {'AUC':>7s} {'log loss':>9s} {'seconds':>8s}")
    for name, model in models.items():
        start = time.perf_counter()
        text = name.startswith("one-hot")  # its encoder takes no mixture of text and missing values
        model.fit(X.astype(str) if text else X, y)
        p = model.predict_proba(X_test.astype(str) if text else X_test)[:, 1]
        seconds = time.perf_counter() - start
        print(
            f"{name:30s} {roc_auc_score(y_test, p):7.4f} {log_loss(y_test, p):9.4f} {seconds:8.1f}"
        )
    if truth is not None:
        bayes = truth.probabilities[len(X) :]
        print(
            f"{'best possible':30s} {roc_auc_score(y_test, bayes):7.4f} "
            f"{log_loss(y_test, bayes):9.4f}"
        )

    ctr = model[-1]
    kept = ctr.interactions_
    print(
        f"\nAutoFIS kept {len(kept)} of {len(ctr.interaction_scores_)} pairs: "
        f"{', '.join(' x '.join(pair) for pair in kept)}"
    )
    if truth is not None:
        print("planted: " + ", ".join(f"f{i} x f{j}" for i, j in truth.pairs))
    if not args.no_picture:
        try:
            picture(ctr, truth, "quickstart_interactions.png")
            print("picture: quickstart_interactions.png")
        except ImportError:
            print('no picture: pip install "sklearn-autorec[plot]"')

    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("model.pkl", "X.pkl", "p.npy")]
        data = pickle.dumps(model)
        Path(paths[0]).write_bytes(data)
        X_test.to_pickle(paths[1])
        subprocess.run([sys.executable, "-c", PREDICT, *paths], check=True)
        same = bool((np.load(paths[2]) == p).all())
    print(
        f"\nsaved: {len(data):,} bytes for {ctr.n_parameters_:,} parameters; a fresh process "
        f"predicts the same bits: {same}"
    )
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
