"""Speed of AutoCross over rows and fields, and of FieldCrosser, on made clicks with ten planted
pairs.

    python examples/benchmarks/bench_autocross.py [--rows 125_000 250_000 500_000 1_000_000] \\
        [--fields 10 20 40]

Each fit runs in a process of its own, whose peak memory is printed. The first table varies the
rows (20 fields), the second the fields (100,000 rows); both end with the exponent of CPU time. "M
rows x cand/s" are candidates times the training rows that each of them has seen, per second of the
whole fit. Search and transform use one thread; encoding uses two.
"""

import argparse
import multiprocessing
import resource
import sys
import time

import numpy as np
from bench_encoding import zipf_table

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import AutoCross, FieldCrosser

N_CROSSES = 10
HEADER = (
    f"{'rows':>10}{'fields':>8}{'wall s':>9}{'CPU s':>9}{'found':>7}{'M rows x cand/s':>17}"
    f"{'peak GiB':>10}{'table GiB':>11}"
)


def peak():
    """Peak resident memory of this process, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def fit(rows, fields, cardinality, pipe):
    """Fit once and send figures."""
    X, y, truth = make_ctr(
        rows,
        n_fields=fields,
        cardinality=cardinality,
        pairs=N_CROSSES,
        informative_fields=5,
        random_state=0,
    )
    table = peak()
    wall, cpu = time.perf_counter(), time.process_time()
    cross = AutoCross(max_crosses=N_CROSSES, random_state=0).fit(X, y)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    seen = sum(n * rows for record in cross.search_history_ for n, rows in record["rounds"])
    found = {tuple(int(name[1:]) for name in c) for c in cross.crosses_}
    pipe.send(
        (wall, cpu, len(found & set(truth.pairs)), len(found), seen / cpu / 1e6, peak(), table)
    )


def in_a_process(*arguments):
    """The figures of ``fit``, run in a new process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=fit, args=(*arguments, there))
    process.start()
    there.close()
    figures = here.recv()
    process.join()
    return figures


def sweep(cases, cardinality):
    """Print a line for each (rows, fields); CPU seconds of all."""
    print(HEADER)
    seconds = []
    for rows, fields in cases:
        wall, cpu, right, found, rate, memory, table = in_a_process(rows, fields, cardinality)
        seconds.append(cpu)
        print(
            f"{rows:>10,}{fields:>8}{wall:>9.1f}{cpu:>9.1f}{f'{right}/{found}':>7}{rate:>17.1f}"
            f"{memory:>10.2f}{table:>11.2f}",
            flush=True,
        )
    return seconds


def exponent(sizes, seconds):
    """Slope of log seconds over log size."""
    return np.polyfit(np.log(sizes), np.log(seconds), 1)[0] if len(sizes) > 1 else np.nan


def transform_rates(rows):
    """Rows x crosses per CPU second of ``FieldCrosser.transform``, reading the columns included."""
    print(
        f"\n{'transform':<10}{'rows':>10}{'crosses':>9}{'ids':>12}{'M/s ids':>10}{'M/s onehot':>12}"
    )
    one = [("c0", "c1")]
    ten = [("c0", "c1"), ("c1", "c2"), ("c2", "c3"), ("c3", "c4"), ("c0", "c5"), ("c1", "c5")]
    ten += [("c0", "c2", "c5"), ("c1", "c3"), ("c2", "c5"), ("c0", "c4")]
    for kind in ("str", "object", "int"):
        X = zipf_table(rows, [10, 100, 1000, 10_000, 100_000, 50], kind)
        for crosses in (one, [("c3", "c4")], ten):
            rates = []
            for output in ("ids", "onehot"):
                crosser = FieldCrosser(crosses, min_count=1, output=output, append=False).fit(X)
                seconds = []
                for _ in range(3):
                    start = time.process_time()
                    crosser.transform(X)
                    seconds.append(time.process_time() - start)
                rates.append(rows * len(crosses) / np.median(seconds) / 1e6)
            ids = max(crosser.n_ids_)
            print(
                f"{kind:<10}{rows:>10,}{len(crosses):>9}{ids:>12,}{rates[0]:>10.1f}"
                f"{rates[1]:>12.1f}",
                flush=True,
            )


def one_row():
    """Milliseconds of ``transform`` for one row and ten crosses."""
    X = zipf_table(100_000, [10, 100, 1000, 10_000, 100_000, 50], "str")
    crosser = FieldCrosser(
        [(i, j) for i in range(5) for j in range(i + 1, 5)], output="onehot"
    ).fit(X)
    rows = [X.iloc[i : i + 1] for i in range(500)]
    seconds = []
    for row in rows:
        start = time.perf_counter()
        crosser.transform(row)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    print(f"\none row, ten crosses, onehot: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rows", type=int, nargs="*", default=[125_000, 250_000, 500_000, 1_000_000])
    p.add_argument("--fields", type=int, nargs="*", default=[10, 20, 40])
    p.add_argument("--cardinality", type=int, default=50)
    p.add_argument("--transform-rows", type=int, default=1_000_000, help="0: not measured")
    args = p.parse_args(sys.argv[1:])
    if args.rows:
        seconds = sweep([(n, 20) for n in args.rows], args.cardinality)
        print(f"CPU seconds ~ rows^{exponent(args.rows, seconds):.2f}\n")
    if args.fields:
        seconds = sweep([(100_000, f) for f in args.fields], args.cardinality)
        print(f"CPU seconds ~ fields^{exponent(args.fields, seconds):.2f}")
    if args.transform_rows:
        transform_rates(args.transform_rows)
        one_row()


if __name__ == "__main__":
    main()
