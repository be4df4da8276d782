"""What a search costs: search + retrain beside a plain fit of the same network and epochs,
interleaved.

python examples/benchmarks/bench_search_cost.py --data-home DIR [--rounds 5] [--parts searches
gates] [--networks fm deepfm]

Ratios are of processor seconds (all threads), which a busy machine stretches less than wall
seconds. The part "gates" has the search alone as well: what three more epochs of it take beside
three more epochs of plain training."""

import time

import numpy as np
import torch
from _common import frappe, parser, print_machine, ratio_of

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField, OptFS
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, IPNN, DeepFM

NETWORKS = {"fm": FM(), "deepfm": DeepFM(), "ipnn": IPNN()}
SEARCHES = {"AutoFIS": AutoFIS(), "AutoDim": AutoDim(), "PEP": PEP()}
GATES = {
    "AutoField": AutoField(),
    "AdaFS": AdaFS(),
    "AdaFS hard": AdaFS("hard"),
    "LPFS": LPFS(plus=False),
    "LPFS++": LPFS(),
    "OptFS": OptFS(),
}
MORE = 3  # epochs, in which a search is measured by itself


def measure(fits, rounds):
    """Processor seconds of each fit, by name: (rounds,)."""
    seconds = {name: [] for name in fits}
    for _ in range(rounds):
        for name, work in fits.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return {name: np.array(s) for name, s in seconds.items()}


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--epochs", type=int, default=2)
    p.add_argument("--parts", nargs="*", default=["searches", "gates"])
    p.add_argument("--networks", nargs="*", default=[*NETWORKS])
    p.add_argument("--rows", type=int, default=None, help="training rows (default: all)")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    X, y = (part[: args.rows] for part in frappe(args.data_home)["train"])

    def fit(network, search, epochs, search_epochs=None):
        CTRClassifier(
            network=NETWORKS[network],
            search=search,
            embedding_dim=10,
            embedding_l2=0.05,
            batch_size=4096,
            early_stopping=False,
            max_epochs=epochs,
            search_epochs=search_epochs,
            random_state=0,
            device="cpu",
        ).fit(X, y)

    searches = {
        **(SEARCHES if "searches" in args.parts else {}),
        **(GATES if "gates" in args.parts else {}),
    }
    n = args.epochs
    fit("fm", AutoField(), 1, 1)  # imports and allocations
    for network in args.networks:
        fits = {"plain": lambda net=network: fit(net, None, n)}
        for name, search in searches.items():
            fits[name] = lambda net=network, s=search: fit(net, s, n)
        if "gates" in args.parts:
            fits["plain, longer"] = lambda net=network: fit(net, None, n + MORE)
            for name, search in GATES.items():
                fits[name + ", longer"] = lambda net=network, s=search: fit(net, s, n, n + MORE)
        seconds = measure(fits, args.rounds)
        print(f"{network:8s} plain {np.median(seconds['plain']):.2f} s of {n} epochs")
        for name in searches:
            line = (
                f"{network:8s} {name:10s} search + retrain "
                f"{ratio_of(seconds[name], seconds['plain'])}"
            )
            if name + ", longer" in seconds:
                own, plain = (
                    np.median(seconds[k + ", longer"] - seconds[k]) / MORE for k in (name, "plain")
                )
                line += (
                    f", search alone {own / plain:.2f} ({own:.2f} s beside {plain:.2f} s an epoch)"
                )
            print(line, flush=True)


if __name__ == "__main__":
    main()
