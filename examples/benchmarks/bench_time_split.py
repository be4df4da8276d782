"""The newest rows as judges beside rows drawn at random, on a log that drifts.

    python examples/benchmarks/bench_time_split.py --data-home DIR --threads 1 [--rows 30000] \\
        [--seeds 0 1 2]

MovieLens 100K in global time: the newest ``--rows`` rows before the last tenth are given to ``fit``
in a shuffled order, so that only their timestamps say which are new; the last tenth is the test.
``CTRClassifier()`` is as it comes, but for ``validation``. "no order" is ``validation="time"`` with
the timestamps of the training rows shuffled: rows at random judge, which the network is then
trained on as well.
"""

import time

import numpy as np
import pandas as pd
import torch
from _common import parser, print_machine, scores

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import fetch_movielens_100k

KINDS = {
    "random": {"validation": "random"},
    "time": {"validation": "time", "time_column": "timestamp"},
    "no order": {"validation": "time", "time_column": "shuffled"},
}


def tables(data_home, n_rows, seed):
    """Training rows in a random order and test rows, as (DataFrame, labels)."""
    train, valid, test = (
        fetch_movielens_100k(subset=s, data_home=data_home, return_X_y=True)
        for s in ("train", "valid", "test")
    )
    X, y = pd.concat([train[0], valid[0]]), np.concatenate([train[1], valid[1]])
    order = len(X) - 1 - np.random.default_rng(seed).permutation(min(n_rows, len(X)))
    return (_with_times(X.iloc[order]), y[order]), (_with_times(test[0]), test[1])


def _with_times(X):
    return X.reset_index(drop=True).assign(timestamp=pd.to_datetime(X["timestamp"].array, unit="s"))


def main():
    args = parser(__doc__)
    args.add_argument("--rows", type=int, default=30_000)
    args.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    found = {kind: [] for kind in KINDS}
    for seed in args.seeds:
        (X, y), (X_test, y_test) = tables(args.data_home, args.rows, seed)
        for kind, options in KINDS.items():
            own, own_test = X, X_test
            if kind == "no order":  # the column of times is a feature as well; it stays as it was
                random = np.random.default_rng(seed)
                own = X.assign(shuffled=random.permutation(X["timestamp"].to_numpy()))
                own_test = X_test.assign(shuffled=random.choice(own["shuffled"], len(X_test)))
            began = time.perf_counter()
            model = CTRClassifier(random_state=seed, **options).fit(own, y)
            seconds = time.perf_counter() - began
            own_scores = scores(y_test, model.predict_proba(own_test)[:, 1])
            found[kind].append((*own_scores, seconds))
            print(
                f"{kind:9} seed {seed}: AUC {own_scores[0]:.4f}, log loss {own_scores[1]:.4f}, "
                f"{model.n_iter_} epochs, {seconds:.0f} s",
                flush=True,
            )
    for kind, figures in found.items():
        mean, sd = np.mean(figures, 0), np.std(figures, 0)
        print(
            f"{kind:9} AUC {mean[0]:.4f} +- {sd[0]:.4f}, log loss {mean[1]:.4f} +- {sd[1]:.4f}, "
            f"{mean[2]:.0f} s"
        )


if __name__ == "__main__":
    main()
