"""A fit from Parquet files in bounded memory, over a growing number of rows.

    python examples/benchmarks/bench_datasets.py [--millions 1 4 10] [--trained 1_000_000]

Writes one file of a million rows of make_ctr data, ten columns, and fits from it repeated: many
rows take no disk, and there is no limit to ``--millions``. Each number of rows has a process of its
own, whose peak resident memory is measured. The first pass reads all rows; training is broken off
after ``--trained`` of an epoch. Then the file is read twice as the training reads it, decoded and
out of a cache.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _clicks_file import write

MILLION = 1_000_000


def peak():
    """Peak resident memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def fit(path, millions, trained, buffer_rows):
    """Fit in this process, broken off after so many rows of an epoch; prints a record."""
    import torch

    from sklearn_autorec import CTRClassifier
    from sklearn_autorec.datasets import ParquetDataset
    from sklearn_autorec.engine import FieldNet
    from sklearn_autorec.estimators import _datasets

    torch.set_num_threads(1)
    at_start, step, survey, rows = peak(), FieldNet.train_step, _datasets.survey, [0]
    n_rows, marks = millions * MILLION, []

    def mark():
        marks.append((time.perf_counter(), time.process_time()))

    def first_pass(*args):
        mark()
        found = survey(*args)
        mark()
        return found

    def train_step(self, batch, **params):
        if rows[0] >= trained:
            raise KeyboardInterrupt
        rows[0] += len(batch)
        return step(self, batch, **params)

    FieldNet.train_step, _datasets.survey = train_step, first_pass
    data = ParquetDataset([path] * millions, buffer_rows=buffer_rows)
    model = CTRClassifier(
        network="fm", lr=0.003, batch_size=4096, max_epochs=1, random_state=0, device="cpu"
    )
    try:
        model.fit(data, "click")
    except KeyboardInterrupt:
        pass
    mark()
    passed, training = ([b - a for a, b in zip(*marks[i : i + 2], strict=True)] for i in (0, 1))
    record = {
        "trained_rows": rows[0],
        "first_pass": [n_rows / seconds for seconds in passed],
        "training": [rows[0] / seconds for seconds in training],
        "imports_gib": at_start,
        "peak_gib": peak(),
    }
    print(json.dumps(record))


def decode(path):
    """Read all blocks as the training does: decoded and looked up, then out of a cache."""
    from sklearn_autorec import CTRClassifier
    from sklearn_autorec.datasets import ParquetDataset
    from sklearn_autorec.estimators._datasets import reading_of
    from sklearn_autorec.estimators._encoded_blocks import EncodedBlocks
    from sklearn_autorec.estimators._survey import survey

    data = ParquetDataset(path, sample_rows=1000)
    reading = reading_of(CTRClassifier(), data, "click", None)
    found = survey(reading, None, 0.0, False, 0)
    with tempfile.TemporaryDirectory() as folder:
        blocks = EncodedBlocks(reading, found, Path(folder))
        for name in ("decoded, encoded and written", "out of the cache"):
            begun = time.perf_counter(), time.process_time()
            for number in range(len(data.blocks)):
                blocks(number)
            wall = time.perf_counter() - begun[0]
            processor = time.process_time() - begun[1]
            print(f"{name}: {MILLION / wall:,.0f} ({MILLION / processor:,.0f}) rows a second")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--millions", type=int, nargs="+", default=[1, 4, 10])
    p.add_argument("--trained", type=int, default=MILLION, help="rows that are trained on")
    p.add_argument("--fields", type=int, default=10)
    p.add_argument("--cardinality", type=int, default=100_000, help="of the first three fields")
    p.add_argument("--group-rows", type=int, default=125_000, help="rows of a row group")
    p.add_argument("--buffer-rows", type=int, default=2**19)
    p.add_argument("--fit", help=argparse.SUPPRESS)  # what the processes are told
    args = p.parse_args()
    if args.fit:
        fit(args.fit, args.millions[0], args.trained, args.buffer_rows)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.parquet"
        write(path, MILLION, args.fields, args.cardinality, args.group_rows)
        print(f"file of {MILLION:,} rows x {args.fields}: {path.stat().st_size / 2**20:.1f} MiB")
        print("rows a second of the clock and, in brackets, of the processor")
        print(f"{'rows':>11} {'first pass':>21} {'training':>21} {'trained':>11} {'peak':>9}")
        for millions in args.millions:
            command = [sys.executable, __file__, "--fit", str(path), "--millions", str(millions)]
            command += ["--trained", str(args.trained), "--buffer-rows", str(args.buffer_rows)]
            # What a process has to say goes to the terminal: many rows take hours.
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            record = json.loads(done.stdout.splitlines()[-1])
            passed, training = (
                f"{wall:>10,.0f} ({processor:,.0f})"
                for wall, processor in (record["first_pass"], record["training"])
            )
            print(
                f"{millions * MILLION:>11,} {passed:>21} {training:>21} "
                f"{record['trained_rows']:>11,} {record['peak_gib']:>5.2f} GiB, of which imports "
                f"{record['imports_gib']:.2f}",
                flush=True,
            )
        decode(path)


if __name__ == "__main__":
    main()
