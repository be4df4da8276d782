"""What the searches of the interaction slot cost: search + retrain beside a plain fit, predictions
of the found network beside those of the network with all pairs.

    python examples/benchmarks/bench_interaction_cost.py --threads 1 --rounds 3

A factorization machine on planted pairs (`make_ctr`), equal epochs in each phase: ``--epochs``
of search, as many of the training before and after. Processor seconds in interleaved rounds, of
which each ratio is to the plain fit, or to the predictions, of the same round. Searches that train
candidates one by one (AutoFeature) have no single phase of search and are left out.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from _common import print_machine
from threadpoolctl import threadpool_limits

from sklearn_autorec import CTRClassifier, interaction
from sklearn_autorec.datasets import make_ctr

SEARCHES = {
    "AutoFIS": interaction.AutoFIS(),
    "AOANet": interaction.AOANet(),
    "FIVES, pairs": interaction.FIVES(max_order=2),
    "FIVES": interaction.FIVES(),
    "BPFIS": interaction.BPFIS(user_column="f0"),
    "SIF": interaction.SIF(),
    "PROFIT, pairs": interaction.PROFIT(max_order=2),
    "PROFIT": interaction.PROFIT(),
    "AutoGroup, pairs": interaction.AutoGroup(max_order=2),
    "AutoGroup": interaction.AutoGroup(),
    "L0SIGN, by field": interaction.L0SIGN("field"),
    "L0SIGN": interaction.L0SIGN(),
}


def seconds_of(work):
    """Processor seconds of a call, and what it returns."""
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def spread(ratio):
    """Median and range."""
    return f"{np.median(ratio):.2f} [{np.min(ratio):.2f}, {np.max(ratio):.2f}]"


def measure(X, y, names, epochs, rounds):
    """Seconds of fits and of predictions by name, (rounds,) each, and the numbers of sets kept."""
    seconds = {(kind, name): [] for kind in ("fit", "predict") for name in ("plain", *names)}
    kept = {}
    for _ in range(rounds):
        for name in ("plain", *names):
            model = CTRClassifier(
                network="fm",
                search=SEARCHES.get(name),
                embedding_dim=8,
                lr=0.01,
                early_stopping=False,
                max_epochs=epochs,
                search_epochs=epochs,
                batch_size=512,
                random_state=0,
            )
            took, model = seconds_of(lambda model=model: model.fit(X, y))
            seconds["fit", name].append(took)
            model.predict_proba(X[:1000])
            took, _ = seconds_of(lambda model=model: model.predict_proba(X))
            seconds["predict", name].append(took)
            kept[name] = len(getattr(model, "interactions_", None) or [])
    return {key: np.array(s) for key, s in seconds.items()}, kept


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--fields", type=int, default=10)
    p.add_argument("--methods", nargs="*", default=[*SEARCHES], choices=[*SEARCHES])
    args = p.parse_args()
    print_machine()
    torch.set_num_threads(args.threads)
    X, y, _ = make_ctr(args.rows, n_fields=args.fields, cardinality=100, pairs=5, random_state=0)
    with threadpool_limits(args.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measure(X[:2000], y[:2000], args.methods, 1, 1)  # imports and allocations
        seconds, kept = measure(X, y, args.methods, args.epochs, args.rounds)
    for kind in ("fit", "predict"):
        print(f"plain {kind}: {np.median(seconds[kind, 'plain']):.2f} s")
    for name in args.methods:
        fit, predict = (seconds[k, name] / seconds[k, "plain"] for k in ("fit", "predict"))
        print(f"{name:18s} {spread(fit):24s} {spread(predict):24s} kept {kept[name]}", flush=True)


if __name__ == "__main__":
    main()
