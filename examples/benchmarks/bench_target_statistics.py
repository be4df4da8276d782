"""Target statistics before boosted trees and a linear model: orders, folds, smoothing,
combinations.

20,000 training rows of each table (40,000 of Frappe); the valid rows stop the trees, the test rows
are looked at once for each line. All figures are of the core on encoded columns, as an estimator
would use it, but for the last block, which times the transformer.

Run: python examples/benchmarks/bench_target_statistics.py --data-home DIR
"""

import argparse
import json
import os
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_autorec.feature_crossing import TargetStatistics
from sklearn_autorec.feature_crossing._reading import column_edges, column_ids, column_sizes
from sklearn_autorec.feature_crossing._target_statistics._statistics import Statistics
from sklearn_autorec.feature_crossing._target_statistics._statistics_keys import choose_keys
from sklearn_autorec.preprocessing import FieldEncoder

TABLES = {  # rows and the column that tells the time
    "hotel_bookings": (20_000, "arrival"),
    "insteval": (20_000, None),
    "xmarket_ratings": (20_000, None),
    "kuairand_feedback": (20_000, "time_ms"),
    "frappe_x1": (40_000, None),
}
N_BINS = 20


def load(folder, n_rows, time_column):
    """Tables, labels and the time of the training rows: numbers as floats, all else as text."""
    fields, parts = json.loads((folder / "meta.json").read_text())["fields"], {}
    for part in ("train", "valid", "test"):
        table = pd.read_parquet(folder / f"{part}.parquet")
        if part == "train" and len(table) > n_rows:
            table = table.iloc[np.sort(np.random.default_rng(0).permutation(len(table))[:n_rows])]
        if part == "train":
            order = None if time_column is None else pd.factorize(table[time_column], sort=True)[0]
        columns = {}
        for name in [name for name in fields if name in table]:
            numeric = fields[name].get("type") == "numeric"
            columns[name] = (
                table[name].astype(float)
                if numeric
                else table[name].astype("string").astype(object)
            )
        parts[part] = (
            pd.DataFrame(columns).reset_index(drop=True),
            table["label"].to_numpy(dtype=float),
        )
    return parts, order


class Encoded:
    """Codes and numbers of all parts."""

    def __init__(self, parts):
        table = parts["train"][0]
        encoder = FieldEncoder(n_quantiles=1000, unknown_warning=None).fit(table)
        positions = list(range(table.shape[1]))
        edges = column_edges(encoder, positions, [N_BINS] * len(positions))
        self.codes, self.numbers, self.y = {}, {}, {part: y for part, (_, y) in parts.items()}
        for part, (X, _) in parts.items():
            encoded = encoder.encode(X)
            ids, m = column_ids(encoded, encoder, positions, edges), len(encoder.numeric_)
            self.codes[part] = [ids[i] for i in positions]
            self.numbers[part] = np.where(
                encoded.numeric[:, m:] > 0, np.nan, encoded.numeric[:, :m]
            )
        sizes = column_sizes(encoder, positions, edges)
        self.sizes = [sizes[i] for i in positions]
        self.categorical = encoder.categorical_.tolist()

    def features(self, keys, n_draws=None, order=None, **options):
        """Numbers and statistics of all parts; of the training rows all draws, one below
        the other.
        """
        statistics = Statistics(keys, **options)
        rng = np.random.RandomState(0)
        train = statistics.fit_transform(
            self.codes["train"],
            self.y["train"],
            sizes=self.sizes,
            rng=rng,
            order=order,
            n_draws=n_draws or 1,
        )
        out = {
            part: np.hstack([self.numbers[part], statistics.transform(self.codes[part])])
            for part in ("valid", "test")
        }
        return out | {
            "train": np.vstack([np.hstack([self.numbers["train"], draw]) for draw in train])
        }


def scores(data, features, kind):
    """Test AUC and log loss of early-stopped trees or of a logistic regression."""
    y = np.tile(data.y["train"], len(features["train"]) // len(data.y["train"]))
    if kind == "trees":
        model = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=600,
            early_stopping=True,
            n_iter_no_change=20,
            random_state=0,
        )
        model.fit(features["train"], y, X_val=features["valid"], y_val=data.y["valid"])
    else:
        features = {part: np.nan_to_num(X) for part, X in features.items()}
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(
            features["train"], y
        )
    p = model.predict_proba(features["test"])[:, 1]
    return roc_auc_score(data.y["test"], p), log_loss(data.y["test"], p)


def variants(data, order):
    """Name, features and kind of model of each line."""
    fields = data.categorical
    columns = [(i,) for i in fields]
    pairs = list(combinations(fields, 2)) if len(fields) <= 10 else []
    options = {"sizes": data.sizes, "rng": np.random.RandomState(0)}
    began = time.process_time()
    found, _ = choose_keys(data.codes["train"], data.y["train"], **options)
    print(f"  {len(found)} combinations chosen in {time.process_time() - began:.2f} CPU s: {found}")
    auto = list(dict.fromkeys([*columns, *pairs, *found]))
    by_time = None
    if order is not None:
        late, _ = choose_keys(data.codes["train"], data.y["train"], order=order, **options)
        by_time = list(dict.fromkeys([*columns, *pairs, *late]))
    yield "columns, ordered", data.features(columns), "trees"
    yield "columns, folds", data.features(columns, method="folds"), "trees"
    yield "auto, ordered", data.features(auto), "trees"
    yield "auto, folds", data.features(auto, method="folds"), "trees"
    for smoothing in (5.0, 80.0):
        yield (
            f"auto, ordered, smoothing {smoothing:.0f}",
            data.features(auto, smoothing=smoothing),
            "trees",
        )
    without = data.features(auto)
    cut = len(auto) + data.numbers["train"].shape[1]
    yield (
        "auto, ordered, without counts",
        {part: X[:, :cut] for part, X in without.items()},
        "trees",
    )
    yield "columns, 4 random orders below each other", data.features(columns, n_draws=4), "trees"
    yield "auto, 4 random orders below each other", data.features(auto, n_draws=4), "trees"
    if order is not None:
        yield "columns, by time", data.features(columns, order=order), "trees"
        yield "auto, by time", data.features(by_time, order=order), "trees"
    yield "auto, ordered, logistic regression", without, "linear"
    yield "auto, folds, logistic regression", data.features(auto, method="folds"), "linear"


def main():
    """Print a table for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-home", default=os.environ.get("SKLEARN_AUTOREC_DATA"))
    parser.add_argument("--tables", nargs="*", default=list(TABLES))
    arguments = parser.parse_args()
    for name in arguments.tables:
        parts, order = load(Path(arguments.data_home) / name, *TABLES[name])
        print(name)
        data = Encoded(parts)
        for label, features, kind in variants(data, order):
            auc, loss = scores(data, features, kind)
            print(f"  {label:45s} {auc:.4f} {loss:.4f}", flush=True)
        X, y = parts["train"]
        began = time.process_time()
        transformer = TargetStatistics(random_state=0)
        transformer.fit_transform(X, y)
        seconds, row = time.process_time() - began, X[:1]
        transformer.transform(row)
        times = []
        for _ in range(300):
            began = time.perf_counter()
            transformer.transform(row)
            times.append(time.perf_counter() - began)
        keys = len(transformer.columns_) + len(transformer.crosses_)
        print(
            f"  fit_transform {seconds:.2f} CPU s, one row p50 {1e3 * np.median(times):.2f} ms, "
            f"{keys} keys"
        )


if __name__ == "__main__":
    main()
