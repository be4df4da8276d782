"""A small model that explains itself: crosses found by AutoCross in front of logistic regression.

    python examples/serve_crosses.py
    python examples/serve_crosses.py --rows 8000

Finds the planted crosses of made clicks, prints what they are worth, saves the pipeline as a file
without code, loads it, times single rows, and takes one prediction apart."""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import Pipeline

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import AutoCross
from sklearn_autorec.serving import load, save

NAMES = ["user_group", "item_group", "weekday", "hour", "device", "city", "price_band", "channel"]


def clicks(rows):
    """Clicks that depend on the item, on two pairs and on a triple of columns; the best possible
    AUC and log loss of the test rows.
    """
    X, y, truth = make_ctr(
        rows,
        n_fields=len(NAMES),
        cardinality=[12, 20, 7, 24, 4, 40, 8, 5],
        zipf=0.7,
        informative_fields=[1, 5],
        pairs=[(0, 1), (2, 3)],
        triples=[(2, 3, 4)],
        n_numeric=1,
        random_state=0,
    )
    n = int(0.75 * rows)
    probabilities = truth.probabilities[n:]
    best = roc_auc_score(y[n:], probabilities), log_loss(y[n:], probabilities)
    return X.set_axis([*NAMES, "price"], axis=1), y, n, best


def pipeline(**options):
    """The scales that AutoCross estimates replace the choice of C."""
    crosses = AutoCross(output="onehot", random_state=0, **options)
    return Pipeline([("cross", crosses), ("linear", LogisticRegression(solver="newton-cg"))])


def milliseconds(model, rows):
    """Median and 99th percentile of ``predict_proba`` for one row."""
    model.predict_proba(rows[0])
    seconds = []
    for row in rows:
        start = time.perf_counter()
        model.predict_proba(row)
        seconds.append(time.perf_counter() - start)
    return np.percentile(seconds, [50, 99]) * 1e3


def explain(model, row, n=5):
    """The largest parts of one row's logit, as (name, part)."""
    columns = model["cross"].transform(row)
    parts = columns.data * model["linear"].coef_[0, columns.indices]
    names = model["cross"].get_feature_names_out()[columns.indices]
    largest = np.argsort(-np.abs(parts))[:n]
    return [(names[k], parts[k]) for k in largest]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=40_000, help="rows of the made data")
    args = parser.parse_args()
    X, y, n, best = clicks(args.rows)
    start = time.perf_counter()
    model = pipeline().fit(X[:n], y[:n])
    print(f"fitted {n:,} rows in {time.perf_counter() - start:.1f} s\n")

    cross = model["cross"]
    print(f"{'cross':<28}{'gain in log loss':>18}{'t':>8}{'spread':>9}")
    for record in cross.search_history_:
        name = " x ".join(record["cross"])
        print(f"{name:<28}{record['gain']:>18.4f}{record['t']:>8.1f}{cross.scales_[name]:>9.2f}")
    print("(t: gain over its standard error; spread: standard deviation of the weights)\n")

    print(f"{'held-out rows':<28}{'AUC':>8}{'log loss':>10}")
    for name, fitted in (
        ("without crosses", pipeline(max_crosses=0).fit(X[:n], y[:n])),
        ("with crosses", model),
    ):
        p = fitted.predict_proba(X[n:])[:, 1]
        print(f"{name:<28}{roc_auc_score(y[n:], p):>8.4f}{log_loss(y[n:], p):>10.4f}")
    print(f"{'best possible':<28}{best[0]:>8.4f}{best[1]:>10.4f}\n")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.model"
        save(model, path)
        loaded = load(path)
        print(f"file of {path.stat().st_size:,} bytes, {loaded['linear'].coef_.size:,} weights")
    rows = [X.iloc[i : i + 1] for i in range(n, n + 300)]
    p50, p99 = milliseconds(loaded, rows)
    print(f"one raw row: p50 {p50:.2f} ms, p99 {p99:.2f} ms\n")

    row = rows[0]
    print(
        f"a row with a probability of {loaded.predict_proba(row)[0, 1]:.3f}; the largest parts of "
        f"its logit:"
    )
    for name, part in explain(loaded, row):
        print(f"{part:>+8.2f}  {name}")


if __name__ == "__main__":
    main()
