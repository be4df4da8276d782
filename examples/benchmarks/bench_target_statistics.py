"""Boosted trees over numbers and target statistics: folds or orders, smoothing, columns alone or with crosses.

For each table and seed 20,000 training rows are drawn; scikit-learn's histogram boosting stops by the validation rows, and test
rows (30,000 at most) are judged once. "codes" is the same boosting over numbers and ordinal codes, "TargetEncoder" over numbers and
scikit-learn's encoder. Tables without times are ordered at random.

    python examples/benchmarks/bench_target_statistics.py [--tables NAME ...] [--variants NAME ...] [--rows N] [--seeds N]
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
from _suite import load
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import OrdinalEncoder, TargetEncoder

from sklearn_autorec.feature_crossing import AutoCross, TargetStatistics

TABLES = ("insteval", "xmarket_ratings", "frappe_x1", "kuairand_feedback")
TEST_ROWS = 30_000
ORDER = "order of the rows"

VARIANTS = {
    "codes": None,
    "TargetEncoder": None,
    "columns": {},
    "columns, no counts": {"counts": False},
    "columns, smoothing 1": {"smoothing": 1.0},
    "columns, smoothing 100": {"smoothing": 100.0},
    "columns, 10 folds": {"cv": 10},
    "columns, ordered": {"order": ORDER},
    "crosses": {"crosses": "auto"},
    "crosses, smoothing 1": {"crosses": "auto", "smoothing": 1.0},
    "crosses, smoothing 100": {"crosses": "auto", "smoothing": 100.0},
    "crosses, ordered": {"crosses": "auto", "order": ORDER},
    "AutoCross": {"crosses": AutoCross(random_state=0)},
    "AutoCross, min_gain=0": {"crosses": AutoCross(min_gain=0, random_state=0)},
}


def new_columns(variant, table, seed):
    """Features of the ids of the three parts, and how many crosses are among them."""
    parts = [table.X_train, table.X_valid, table.X_test]
    ids = [c for c in table.X_train.columns if c not in table.numeric]
    if variant == "codes":
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(parts[0][ids])
        return [encoder.transform(part[ids]) for part in parts], 0
    if variant == "TargetEncoder":
        encoder = TargetEncoder(random_state=seed)
        first = encoder.fit_transform(parts[0][ids], table.y_train)
        return [first, *(encoder.transform(part[ids]) for part in parts[1:])], 0
    rng = np.random.default_rng(seed)
    times = [table.time_train, table.time_valid, table.time_test]
    parts = [
        part.assign(**{ORDER: rng.random(len(part)) if when is None else np.asarray(when, dtype="float64")})
        for part, when in zip(parts, times, strict=True)
    ]
    if "order" not in VARIANTS[variant]:
        parts = [part.drop(columns=ORDER) for part in parts]
    encoder = TargetStatistics(append=False, random_state=seed, **VARIANTS[variant])
    first = encoder.fit_transform(parts[0], table.y_train)
    return [first, *map(encoder.transform, parts[1:])], len(encoder.crosses_)


def score(variant, table, seed):
    """AUC and log loss on test rows, number of crosses, and processor seconds."""
    began = time.process_time()
    found, n_crosses = new_columns(variant, table, seed)
    parts = [table.X_train, table.X_valid, table.X_test]
    features = [
        np.hstack([part[list(table.numeric)].to_numpy(float), np.asarray(new)])
        for part, new in zip(parts, found, strict=True)
    ]
    trees = HistGradientBoostingClassifier(
        learning_rate=0.1,
        max_iter=400,
        max_leaf_nodes=8,
        min_samples_leaf=40,
        l2_regularization=5.0,
        early_stopping=True,
        n_iter_no_change=10,
        random_state=seed,
    )
    trees.fit(features[0], table.y_train, X_val=features[1], y_val=table.y_valid)
    seconds = time.process_time() - began
    p = trees.predict_proba(features[2])[:, 1]
    return roc_auc_score(table.y_test, p), log_loss(table.y_test, p), n_crosses, seconds


def cut(table):
    """The table with fewer test rows."""
    if len(table.y_test) <= TEST_ROWS:
        return table
    rows = np.sort(np.random.default_rng(0).choice(len(table.y_test), TEST_ROWS, replace=False))
    values = {**vars(table), "X_test": table.X_test.iloc[rows].reset_index(drop=True), "y_test": table.y_test[rows]}
    if table.time_test is not None:
        values["time_test"] = table.time_test.iloc[rows]
    return type(table)(**values)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-home", default=None)
    p.add_argument("--tables", nargs="+", default=TABLES)
    p.add_argument("--variants", nargs="+", default=list(VARIANTS))
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--seeds", type=int, default=3)
    args = p.parse_args()
    warnings.filterwarnings("ignore", message=".*never seen in training.*")
    warnings.filterwarnings("ignore", message=".*TargetEncoder.shuffle.*", category=FutureWarning)
    records = []
    for name in args.tables:
        for seed in range(args.seeds):
            table = cut(load(name, args.rows, seed, data_home=args.data_home))
            for variant in args.variants:
                auc, loss, n_crosses, seconds = score(variant, table, seed)
                records.append((name, variant, auc, loss, n_crosses, seconds))
                print(
                    f"{name:18s} {variant:24s} seed {seed}  {auc:.4f}  {loss:.4f}  {n_crosses:2d}  {seconds:5.1f} s",
                    flush=True,
                )
    frame = pd.DataFrame(records, columns=["table", "variant", "AUC", "log loss", "crosses", "seconds"])
    means = frame.groupby(["variant", "table"], sort=False).mean().unstack("table")
    print("\nMeans of the seeds: AUC, log loss, crosses, processor seconds\n")
    for measure, decimals in (("AUC", 4), ("log loss", 4), ("crosses", 1), ("seconds", 1)):
        print(measure, means[measure].round(decimals).to_string(), sep="\n", end="\n\n")


if __name__ == "__main__":
    main()
