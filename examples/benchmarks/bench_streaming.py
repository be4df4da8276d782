"""Ten million rows, row group by row group, in bounded memory.

    python examples/benchmarks/bench_streaming.py [--rows 10_000_000] [--fields 10] \\
        [--cardinality 100_000]

Writes make_ctr data to a Parquet file in a process of its own, then counts vocabularies and trains
an FM for one pass, and prints rates and the peak resident memory of the training process.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from _clicks_file import write
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.preprocessing import FieldEncoder


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rows", type=int, default=10_000_000)
    p.add_argument("--fields", type=int, default=10)
    p.add_argument("--cardinality", type=int, default=100_000, help="of the first three fields")
    p.add_argument("--chunk", type=int, default=250_000)
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.parquet"
        start = time.perf_counter()
        job = multiprocessing.get_context("spawn").Process(
            target=write, args=(path, args.rows, args.fields, args.cardinality, args.chunk)
        )
        job.start()
        job.join()
        print(
            f"wrote {args.rows:,} rows, {path.stat().st_size / 2**20:,.0f} MiB, "
            f"{time.perf_counter() - start:.0f} s"
        )
        file = pq.ParquetFile(path)
        groups = range(file.num_row_groups)
        start = time.perf_counter()
        encoder = FieldEncoder()
        for g in groups:
            encoder.partial_fit(file.read_row_group(g).drop_columns(["click"]))
        seconds = time.perf_counter() - start
        print(
            f"counted {sum(encoder.n_ids_):,} ids: {args.rows / seconds:,.0f} rows/s, "
            f"{args.rows * args.fields / seconds:,.0f} cells/s"
        )
        model = CTRClassifier(
            network="fm",
            encoder=FrozenEstimator(encoder.discard_counts()),
            lr=0.003,
            random_state=0,
            device="cpu",
        )
        start = time.perf_counter()
        for g in groups:
            table = file.read_row_group(g)
            X, y = table.drop_columns(["click"]), table["click"].to_numpy()
            if g == groups[-1]:  # the last group is scored before it is learned
                print(
                    f"AUC on the last {len(y):,} rows: "
                    f"{roc_auc_score(y, model.predict_proba(X)[:, 1]):.4f}"
                )
            model.partial_fit(X, y, classes=[0, 1])
        print(
            f"trained one pass: {args.rows / (time.perf_counter() - start):,.0f} rows/s, reading "
            f"and encoding included"
        )
        print(
            f"peak resident memory: "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB; parameters "
            f"{model.nbytes_['total'] / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main()
