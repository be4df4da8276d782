"""Population-based training beside the same population without copies (random search) at equal
epochs, on planted clicks.

    python examples/benchmarks/bench_population.py [--seeds 5] [--first 0] [--rows 6000]

Validation rows choose; the log loss printed is that of rows that no search has seen, of the model
kept."""

import argparse
import time

import numpy as np
import torch
from scipy.stats import loguniform, uniform
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.model_selection import PopulationSearchCV
from sklearn_autorec.networks import DeepFM

SPACE = {
    "lr": loguniform(1e-4, 1e-1),
    "embedding_l2": loguniform(1e-6, 1e-1),
    "network__dropout": uniform(0, 0.6),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rows", type=int, default=6000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = {"random search": [], "PBT": []}
    for seed in range(args.first, args.first + args.seeds):
        X, y, _ = make_ctr(2 * args.rows, n_fields=8, cardinality=20, pairs=6, random_state=seed)
        train, test = slice(0, args.rows), slice(args.rows, None)
        model = CTRClassifier(
            network=DeepFM((32, 32)), embedding_dim=8, device="cpu", random_state=seed
        )
        for name, quantile in (("random search", 0.0), ("PBT", 0.25)):
            start = time.process_time()
            search = PopulationSearchCV(
                model,
                SPACE,
                population=8,
                n_steps=10,
                quantile=quantile,
                scoring="neg_log_loss",
                random_state=seed,
            ).fit(X[train], y[train])
            loss = log_loss(y[test], search.predict_proba(X[test])[:, 1])
            found[name].append(loss)
            lr = search.schedule_["lr"]
            print(
                f"seed {seed}  {name:14s} validation {-search.best_score_:.4f}  test {loss:.4f}  "
                f"lr {lr.iloc[0]:.4f} -> "
                f"{lr.iloc[-1]:.4f}  {time.process_time() - start:.0f} processor s",
                flush=True,
            )
    for name, losses in found.items():
        print(
            f"{name:14s} test log loss: median {np.median(losses):.4f}, mean {np.mean(losses):.4f}"
        )
    won = sum(a < b for a, b in zip(found["PBT"], found["random search"], strict=True))
    print(f"PBT better on {won} of {args.seeds} seeds")


if __name__ == "__main__":
    main()
