"""Speed of FieldEncoder: cells per second in bulk, milliseconds for one row, bytes of a pickle.

Run ``python examples/benchmarks/bench_encoding.py`` or, in a few seconds, ``... --rows 100000``.
"""

import argparse
import pickle
import sys
import time
import warnings

import numpy as np
import pandas as pd

from sklearn_autorec.preprocessing import FieldEncoder


def zipf_table(n_rows, cardinalities, kind, seed=0):
    """One column per cardinality, values with Zipf frequencies, as "str", "object" or "int"."""
    rng = np.random.default_rng(seed)
    columns = {}
    for j, cardinality in enumerate(cardinalities):
        weight = 1 / np.arange(1, cardinality + 1)
        cells = np.searchsorted(np.cumsum(weight) / weight.sum(), rng.random(n_rows)).clip(
            max=cardinality - 1
        )
        cells = rng.permutation(cardinality)[cells]
        if kind != "int":
            cells = np.array([f"value_{k}" for k in range(cardinality)], dtype=object)[cells]
        columns[f"c{j}"] = pd.Series(
            cells, dtype={"str": "str", "object": object, "int": np.int64}[kind]
        )
    return pd.DataFrame(columns)


def timed(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


def percentiles(function, tables):
    """Median and 99th percentile of one call, milliseconds."""
    function(tables[0])
    seconds = [timed(function, table)[0] for table in tables]
    return np.percentile(seconds, [50, 99]) * 1e3


def bench_bulk(args):
    print(f"{'bulk':<34}{'rows':>10}{'seconds':>10}{'M cells/s':>12}")
    cardinalities = np.geomspace(100, 100_000, args.columns).astype(int)
    for kind in ("str", "object", "int"):
        X = zipf_table(args.rows, cardinalities, kind)
        seconds, _ = timed(FieldEncoder().fit_encode, X)
        print(
            f"{f'fit_encode {kind}':<34}{len(X):>10}{seconds:>10.3f}{X.size / seconds / 1e6:>12.1f}"
        )
        seconds, _ = timed(FieldEncoder().fit_transform, X)
        print(
            f"{f'fit_transform {kind}':<34}{len(X):>10}{seconds:>10.3f}"
            f"{X.size / seconds / 1e6:>12.1f}"
        )
        encoder = FieldEncoder().fit(X)
        for n in (1_000, 100_000):
            part = X.iloc[:n].reset_index(drop=True)
            encoder.encode(part)
            seconds = np.median(
                [timed(encoder.encode, part)[0] for _ in range(30 if n < 10_000 else 5)]
            )
            print(
                f"{f'encode {kind}':<34}{len(part):>10}{seconds:>10.4f}"
                f"{part.size / seconds / 1e6:>12.1f}"
            )


def bench_one_row(args):
    print(f"\n{'one row of 10 columns':<34}{'ids':>10}{'p50 ms':>10}{'p99 ms':>12}")
    for kind in ("str", "object", "int"):
        for n_ids in args.ids:
            values = (
                np.arange(n_ids)
                if kind == "int"
                else np.array([f"user_{i}" for i in range(n_ids)], dtype=object)
            )
            X = zipf_table(n_ids, np.full(9, 1000), kind).assign(
                user=pd.Series(values, dtype=X_DTYPE[kind])
            )
            encoder = FieldEncoder().fit(X)
            picked = np.random.default_rng(0).integers(0, n_ids, args.calls)
            p50, p99 = percentiles(encoder.encode, [X.iloc[i : i + 1] for i in picked])
            print(f"{kind:<34}{n_ids:>10}{p50:>10.3f}{p99:>12.3f}")


X_DTYPE = {"str": "str", "object": object, "int": np.int64}


def bench_pickle(args):
    print(f"\n{'pickle':<34}{'ids':>10}{'bytes/id':>10}{'load ms':>12}")
    for n_ids in args.ids:
        X = pd.DataFrame({"user": [f"user_{i}" for i in range(n_ids)]})
        data = pickle.dumps(FieldEncoder().fit(X).discard_counts())
        text = sum(map(len, X["user"]))
        seconds, _ = timed(pickle.loads, data)
        label = f"strings of {text / n_ids:.1f} bytes"
        print(f"{label:<34}{n_ids:>10}{len(data) / n_ids:>10.1f}{seconds * 1e3:>12.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the bulk table")
    parser.add_argument("--columns", type=int, default=10, help="columns of the bulk table")
    parser.add_argument(
        "--ids",
        type=int,
        nargs="+",
        default=[100, 100_000, 1_000_000],
        help="categories of one field",
    )
    parser.add_argument("--calls", type=int, default=2000, help="one-row calls to time")
    arguments = parser.parse_args(sys.argv[1:])
    warnings.simplefilter("error")
    bench_bulk(arguments)
    bench_one_row(arguments)
    bench_pickle(arguments)
