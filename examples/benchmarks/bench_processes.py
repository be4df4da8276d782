"""Seconds of an epoch in one process and in several of one machine (``distributed=True``).

    python examples/benchmarks/bench_processes.py [--processes 1 2] [--rows 100000] [--epochs 4]

Planted clicks with ten columns of 1,000 values; FM and DeepFM (400, 400, 400), embeddings of 16,
one thread for each process, and one process with as many threads. Seconds are medians of epochs
after the first, by the clock and by the processor time of process 0. Bytes are what a process hands
to the exchange in a step.
"""

import os
import subprocess
import sys
import time

import numpy as np
import torch
from _common import EpochClock, parser, print_machine

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine._processes import Processes
from sklearn_autorec.networks import FM, DeepFM

NETWORKS = {"fm": FM(), "deepfm": DeepFM()}


def measured(network, args):
    """(seconds, processor seconds, megabytes a step) of an epoch, in this process."""
    X, y, _ = make_ctr(args.rows, n_fields=10, cardinality=1000, pairs=5, random_state=0)
    bytes_exchanged, total, gathered = [0], Processes.total, Processes.gathered

    def counted(exchange):
        def counting(self, t):
            bytes_exchanged[0] += t.numel() * t.element_size()
            return exchange(self, t)

        return counting

    Processes.total, Processes.gathered = counted(total), counted(gathered)
    clocks = EpochClock(time.perf_counter), EpochClock(time.process_time)
    model = CTRClassifier(
        network=NETWORKS[network],
        batch_size=args.batch,
        max_epochs=args.epochs,
        early_stopping=False,
        random_state=0,
        distributed=args.worker > 1,
    )
    model.set_callbacks(*clocks).fit(X, y)
    Processes.total, Processes.gathered = total, gathered
    n_steps = args.epochs * -(-args.rows // args.batch)
    seconds = [float(np.median(np.diff(clock.ends))) for clock in clocks]
    return *seconds, bytes_exchanged[0] / n_steps / 2**20


def main():
    options = parser(__doc__)
    options.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--batch", type=int, default=4096)
    options.add_argument("--epochs", type=int, default=4)
    options.add_argument("--worker", type=int, default=0, help="set by this script")
    args = options.parse_args()
    if args.worker:
        torch.set_num_threads(args.threads)
        for network in NETWORKS:
            seconds, processor, megabytes = measured(network, args)
            if os.environ.get("RANK", "0") == "0":
                figures = f"{seconds:9.2f}{processor:9.2f}{megabytes:9.2f}"
                print(f"{network:8}{args.worker:10}{args.threads:9}{figures}", flush=True)
        return
    print_machine()
    print("network  processes  threads  seconds  processor  MiB a step", flush=True)
    for n, threads in [*((n, 1) for n in args.processes), (1, max(args.processes))]:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
        command = [sys.executable, *(launch if n > 1 else []), __file__, f"--worker={n}"]
        command += [f"--threads={threads}"]
        command += [f"--{name}={getattr(args, name)}" for name in ("rows", "batch", "epochs")]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})


if __name__ == "__main__":
    main()
