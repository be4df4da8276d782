"""Sizes of embeddings that follow a stream: ESAPN, AutoEmb and fixed sizes on MovieLens.

    python examples/benchmarks/bench_streaming_sizes.py --data-home DIR [--seeds 0 1 2] \\
        [--chunk 2500] [--order time]
    python examples/benchmarks/bench_streaming_sizes.py --data-home DIR --table ml-1m \\
        --order user --rows 200000 --chunk 5000

The ratings come in order, chunk by chunk; "good" is a rating of 4 or 5. Every chunk is
predicted before it is trained on (one epoch), and all figures are means over these predictions:
nothing is a test set, as in the papers. The columns are user and item, whose values are known
beforehand. Bytes are those of the embedding tables at the end, indices included.

MovieLens 1M has no times, only the order of each user's ratings: "user" takes the first rating of
every user, then the second of every user, and so on. "random" is the order of the papers. A second
table has the accuracy by how often the item had come before, a third the mean size of the
values that have come, in the course of the stream.
"""

import time

import numpy as np
import pandas as pd
from _common import parser, print_machine
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import fetch_movielens_1m, fetch_movielens_100k
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
    "ESAPN(price=0, min_gain=0)": (ESAPN(SIZES, price=0.0, min_gain=0.0), 32),
}


COUNTS = (0, 10, 100, 1000, np.inf)  # an item has come so often or more, and less than the next


def ratings(args):
    """User and item, DataFrame, and whether the rating is good, in the order of the file or, of
    "user", of each user's ratings.
    """
    if args.table == "ml-100k":
        X, y = fetch_movielens_100k(subset="all", data_home=args.data_home, return_X_y=True)
        return X[["user", "item"]], np.asarray(y)
    X, y = fetch_movielens_1m(subset="all", data_home=args.data_home, return_X_y=True)
    y = np.asarray(y)
    if args.order == "user":
        order = np.argsort(X["pos_in_user"].to_numpy(), kind="stable")
        X, y = X.iloc[order], y[order]
    return X[["user", "item"]].reset_index(drop=True), y


def seen_before(chunks):
    """How often the item of each row had come in earlier chunks, int ndarray."""
    items = np.concatenate([X["item"].to_numpy() for X, _ in chunks])
    counts, start, out = np.zeros(items.max() + 1, int), 0, []
    for X, _ in chunks:
        own = items[start : start + len(X)]
        out.append(counts[own])
        counts += np.bincount(own, minlength=len(counts))
        start += len(X)
    return np.concatenate(out)


def mean_sizes(model, chunks):
    """Mean size of the users and of the items that have come."""
    if model.search is None:
        return [model.embedding_dim, model.embedding_dim]
    sizes = model.embedding_sizes_
    known = pd.concat([X for X, _ in chunks])
    means = []
    for name, names in zip(known.columns, model.encoder_.categories_, strict=True):
        own = np.broadcast_to(sizes[name], len(names) + 2)[2:]
        means.append(own[np.isin(names, known[name].unique())].mean())
    return means


def prequential(chunks, encoder, search, dim, seed, args):
    """Accuracy, log loss and AUC of all chunks but the first, bytes, seconds; whether each row was
    told right; mean sizes after some of the chunks.
    """
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
    seconds, labels, predicted, course = 0.0, [], [], []
    every = max(len(chunks) // 5, 1)
    for number, (X, y) in enumerate(chunks, 1):
        start = time.process_time()
        if number > 1:
            labels.append(y)
            predicted.append(model.predict_proba(X)[:, 1])
        model.partial_fit(X, y, classes=[0, 1])
        seconds += time.process_time() - start
        if not number % every:
            course.append(mean_sizes(model, chunks[:number]))
    y, p = np.concatenate(labels), np.clip(np.concatenate(predicted), 1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))
    nbytes = model.nbytes_["embedding"] + model.nbytes_["index"] + model.nbytes_["projection"]
    right = (p > 0.5) == y
    return (right.mean(), loss, roc_auc_score(y, p), nbytes, seconds), right, course


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    p.add_argument("--table", choices=("ml-100k", "ml-1m"), default="ml-100k")
    p.add_argument("--rows", type=int, default=100_000, help="the first so many ratings")
    p.add_argument("--chunk", type=int, default=2500)
    p.add_argument("--batch", type=int, default=100)
    p.add_argument("--order", choices=("time", "user", "random"), default="time")
    p.add_argument("--network", default="mlp")
    p.add_argument("--lr", type=float, default=0.003)
    p.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    args = p.parse_args()
    if (args.table, args.order) in (("ml-1m", "time"), ("ml-100k", "user")):
        p.error(f"--order {args.order} is not known of --table {args.table}.")
    print_machine()
    X, y = ratings(args)
    records, groups, courses = [], [], []
    for seed in args.seeds:
        order = np.arange(len(X))
        if args.order == "random":
            order = np.random.default_rng(seed).permutation(len(X))
        order = order[: args.rows]
        parts = [order[start : start + args.chunk] for start in range(0, len(order), args.chunk)]
        chunks = [(X.iloc[rows], y[rows]) for rows in parts]
        encoder = FieldEncoder().fit(X.iloc[order])
        before = np.digitize(seen_before(chunks)[len(chunks[0][0]) :], COUNTS) - 1
        for name in args.models:
            found, right, course = prequential(chunks, encoder, *MODELS[name], seed, args)
            records.append((name, *found))
            by_count = pd.Series(right).groupby(before).mean().reindex(range(len(COUNTS) - 1))
            groups.append((name, *by_count))
            courses.append((name, *np.ravel(course)))
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
    shares = ", ".join(f"{np.mean(before == k):.0%}" for k in range(len(COUNTS) - 1))
    print(f"\naccuracy by earlier ratings of the item: {COUNTS[:-1]} and more ({shares} of rows)")
    for name, row in pd.DataFrame(groups).groupby(0, sort=False).mean().iterrows():
        print(f"{name:28}", *(f"{value:.4f}" for value in row))
    print("\nmean size of users and items that have come, after each fifth")
    for name, row in pd.DataFrame(courses).groupby(0, sort=False).mean().iterrows():
        print(f"{name:28}", *(f"{u:.1f}/{i:.1f}" for u, i in row.to_numpy().reshape(-1, 2)))


if __name__ == "__main__":
    main()
