"""Sizes of embeddings that follow a stream: ESAPN, AutoEmb and fixed sizes on MovieLens 100K.

    python examples/benchmarks/bench_streaming_sizes.py --data-home DIR [--seeds 0 1 2] \\
        [--chunk 2500] [--order time]

The ratings come in time order, chunk by chunk; "good" is a rating of 4 or 5. Every chunk is
predicted before it is trained on (one epoch), and all figures are means over these predictions:
nothing is a test set, as in the papers. The columns are user and item, whose values are known
beforehand. Bytes are those of the embedding tables at the end, indices included.
"""

import time

import numpy as np
import pandas as pd
from _common import parser, print_machine
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import fetch_movielens_100k
from sklearn_autorec.embedding import ESAPN, AutoEmb
from sklearn_autorec.preprocessing import FieldEncoder

SIZES = (2, 4, 8, 16, 32)
MODELS = {
    "fixed, 32 columns": (None, 32),
    "fixed, 2 columns": (None, 2),
    "AutoEmb": (AutoEmb(SIZES), 32),
    "AutoEmb(price=0)": (AutoEmb(SIZES, price=0.0), 32),
    "AutoEmb(harden=True)": (AutoEmb(SIZES, harden=True), 32),
    "ESAPN": (ESAPN(SIZES), 32),
}


def prequential(chunks, encoder, search, dim, seed, args):
    """Accuracy, log loss and AUC of all chunks but the first, bytes, seconds."""
    model = CTRClassifier(
        network=args.network,
        search=search,
        embedding_dim=dim,
        encoder=FrozenEstimator(encoder),
        lr=args.lr,
        batch_size=args.batch,
        random_state=seed,
        device="cpu",
    )
    start, labels, predicted = time.process_time(), [], []
    for number, (X, y) in enumerate(chunks):
        if number:
            labels.append(y)
            predicted.append(model.predict_proba(X)[:, 1])
        model.partial_fit(X, y, classes=[0, 1])
    seconds = time.process_time() - start
    y, p = np.concatenate(labels), np.clip(np.concatenate(predicted), 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))
    nbytes = model.nbytes_["embedding"] + model.nbytes_["index"] + model.nbytes_["projection"]
    return np.mean((p > 0.5) == y), loss, roc_auc_score(y, p), nbytes, seconds


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--rows", type=int, default=100_000, help="the first so many ratings")
    p.add_argument("--chunk", type=int, default=2500)
    p.add_argument("--batch", type=int, default=100)
    p.add_argument("--order", choices=("time", "random"), default="time")
    p.add_argument("--network", default="mlp")
    p.add_argument("--lr", type=float, default=0.003)
    args = p.parse_args()
    print_machine()
    X, y = fetch_movielens_100k(subset="all", data_home=args.data_home, return_X_y=True)
    X, y = X[["user", "item"]].iloc[: args.rows], np.asarray(y)[: args.rows]
    encoder = FieldEncoder().fit(X)
    records = []
    for seed in args.seeds:
        order = np.arange(len(X))
        if args.order == "random":
            order = np.random.default_rng(seed).permutation(len(X))
        parts = [order[start : start + args.chunk] for start in range(0, len(X), args.chunk)]
        chunks = [(X.iloc[rows], y[rows]) for rows in parts]
        for name, (search, dim) in MODELS.items():
            found = prequential(chunks, encoder, search, dim, seed, args)
            records.append((name, *found))
            print(seed, name, *(f"{value:.4f}" for value in found), flush=True)
    columns = ["model", "accuracy", "log loss", "AUC", "bytes", "CPU s"]
    table = pd.DataFrame(records, columns=columns).groupby("model", sort=False)
    means, spread = table.mean(), table.std()
    full = means["bytes"].iloc[0]
    for name, row in means.iterrows():
        cells = (f"{row[c]:.4f} +- {spread.loc[name, c]:.4f}" for c in columns[1:4])
        print(
            f"{name:28}",
            *cells,
            f"{row['bytes'] / full:6.1%} of the bytes",
            f"{row['CPU s']:.1f} s",
        )


if __name__ == "__main__":
    main()
