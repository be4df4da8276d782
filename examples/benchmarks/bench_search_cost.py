"""What a search costs: search + retrain beside a plain fit of the same network and epochs, interleaved.

python examples/benchmarks/bench_search_cost.py --data-home DIR [--rounds 5]

The ratio is of processor seconds (all threads), which a busy machine stretches less than wall seconds; both are printed.
"""

import time

import numpy as np
import torch
from _common import frappe, parser, print_machine

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, IPNN, DeepFM


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--epochs", type=int, default=2)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    X, y = frappe(args.data_home)["train"]
    options = {
        "embedding_dim": 10,
        "embedding_l2": 0.05,
        "batch_size": 4096,
        "early_stopping": False,
        "max_epochs": args.epochs,
        "random_state": 0,
        "device": "cpu",
    }
    for network in (FM(), DeepFM(), IPNN()):
        searches = {"plain": None, "AutoFIS": AutoFIS(), "AutoDim": AutoDim(), "PEP": PEP()}
        seconds = {name: [] for name in searches}
        for _ in range(args.rounds):
            for name, search in searches.items():
                start = time.perf_counter(), time.process_time()
                CTRClassifier(network=network, search=search, **options).fit(X, y)
                seconds[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
        plain, plain_cpu = np.array(seconds["plain"]).T
        for name in [*searches][1:]:
            wall, cpu = np.array(seconds[name]).T
            ratio = cpu / plain_cpu
            print(
                f"{type(network).__name__:8s} {name:8s} plain {np.median(plain):6.2f} s, search + retrain {np.median(wall):6.2f} s, "
                f"ratio {np.median(wall / plain):.2f}; processor seconds: ratio {np.median(ratio):.2f} "
                f"[{ratio.min():.2f}, {ratio.max():.2f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
