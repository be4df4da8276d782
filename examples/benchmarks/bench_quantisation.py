"""Product quantisation of trained embedding tables, beside float16, int8 and pruning.

    python examples/benchmarks/bench_quantisation.py --data-home DIR --threads 1
    # Only what ``storage=`` has, with the bytes of model files.
    python examples/benchmarks/bench_quantisation.py --data-home DIR --threads 1 --built

A factorization machine is trained with the recipe of ``bench_methods.py``. Then the vectors of its
tables are cut into sub-vectors of 2 or 4 numbers, and k-means finds as many centroids for each
position of a sub-vector, either in each table by itself or in all tables together, values weighing
as often as they occur. A value is stored as the numbers of its centroids, of 4 to 8 bits each, the
centroids in float16. Bytes are those of codes and centroids. Where a table has no more values than
centroids, its sub-vectors are stored as they are. float16, int8 and pq are ``storage=`` of the same
trained model (pq: 4 numbers, 64 centroids of each column, a code in a byte); their lines end with
the bytes of the model file. `MagnitudePruning` is trained anew with a budget, index included.
Validation rows stop the trainings and choose the L2 of embeddings for the whole table, which all
lines have; test rows are scored once for each line.
"""

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _common import print_machine, scores
from _suite import load
from bench_methods import RECIPE
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import MagnitudePruning
from sklearn_autorec.serving import save

CASES = [(length, k) for length in (2, 4) for k in (16, 64, 256)]
HALF = 2  # bytes of a float16


def fitted(table, seed, decay, **options):
    """An FM of the recipe, the rows published for validation deciding when it stops."""
    model = CTRClassifier(
        network="fm",
        wide=None,
        target_statistics=False,
        random_state=seed,
        **RECIPE | {"embedding_l2": decay} | options,
    )
    return model.fit(table.X_train, table.y_train, X_val=table.X_valid, y_val=table.y_valid)


def file_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        return (Path(folder) / "model").stat().st_size


def valid_loss(model, table):
    return scores(table.y_valid, model.predict_proba(table.X_valid)[:, 1])[1]


def counts_of(model, X):
    """How often each row of the tables is read by some rows, ndarray (V,)."""
    ids = model.encoder_.encode(X).ids
    sizes = model.net_.module_.embedding.field_sizes
    counts = [np.bincount(own, minlength=n) for own, n in zip(ids.T, sizes, strict=False)]
    return np.concatenate(counts)


def quantised(table, sizes, counts, length, n_centroids, shared, seed):
    """The table as its centroids have it, and the bytes of codes and centroids.

    Parameters
    ----------
    table : ndarray (V, d)
    sizes : list of int
        Rows of each table.
    counts : ndarray (V,)
    length : int
        Numbers of a sub-vector, a divisor of d.
    n_centroids : int
    shared : bool
        Whether the centroids are those of all tables.
    seed : int

    Returns
    -------
    ndarray (V, d), int
    """
    parts = [slice(None)]
    if not shared:
        ends = np.cumsum([0, *sizes])
        parts = [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    out, bits = table.copy(), 0
    of_code = int(np.ceil(np.log2(n_centroids)))
    for part in parts:
        for first in range(0, table.shape[1], length):
            block = table[part, first : first + length]
            k = min(n_centroids, len(block))
            if k < len(block):
                means = KMeans(k, n_init=1, random_state=seed).fit(
                    block, sample_weight=np.maximum(counts[part], 1)
                )
                block = means.cluster_centers_[means.labels_]
                bits += of_code * len(block)
            out[part, first : first + length] = block.astype(np.float16)
            bits += 8 * HALF * k * length
    return out, -(-bits // 8)


def lines_of(name, rows, seed, args):
    """Rows of the report of one table and seed."""
    table = load(name, rows, seed, data_home=args.data_home)

    def judged(model):
        auc, loss = scores(table.y_test, model.predict_proba(table.X_test)[:, 1])
        return {"table": name, "seed": seed, "auc": auc, "loss": loss}

    tried = {decay: fitted(table, seed, decay) for decay in args.decays}
    decay = min(tried, key=lambda d: valid_loss(tried[d], table))
    plain = tried[decay]
    part = plain.net_.module_.embedding
    whole = part.weight.detach().cpu().numpy().copy()
    dense = 4 * whole.size
    yield {**judged(plain), "method": "float32", "share": 1.0, "file": file_bytes(plain)}
    for storage in ("float16", "int8", "pq"):
        model = fitted(table, seed, decay, storage=storage)
        share = model.nbytes_["embedding"] / plain.nbytes_["embedding"]
        yield {**judged(model), "method": storage, "share": share, "file": file_bytes(model)}
    if args.built:
        return
    counts = counts_of(plain, table.X_train)
    for length, k in CASES:
        for shared in (False, True):
            found, n_bytes = quantised(whole, part.field_sizes, counts, length, k, shared, seed)
            with torch.no_grad():
                part.weight.copy_(torch.from_numpy(found))
            kind = "all" if shared else "each"
            label = f"PQ, {length} numbers, {k} centroids, {kind}"
            yield {**judged(plain), "method": label, "share": n_bytes / dense}
    with torch.no_grad():
        part.weight.zero_()
    yield {**judged(plain), "method": "without vectors", "share": 0.0}
    for budget in args.budgets:
        model = fitted(table, seed, decay, search=MagnitudePruning(budget=budget))
        yield {**judged(model), "method": "MagnitudePruning", "share": budget}


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data-home", default=None)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--tables", nargs="*", default=["frappe_x1", "ml-1m"])
    p.add_argument("--rows", type=int, default=20_000)
    p.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    p.add_argument("--decays", nargs="*", type=float, default=[0.0, 0.003, 0.01])
    p.add_argument("--budgets", nargs="*", type=float, default=[0.2, 0.1, 0.05])
    p.add_argument("--built", action="store_true", help="only what storage= has")
    args = p.parse_args()
    print_machine()
    torch.set_num_threads(args.threads)
    with threadpool_limits(args.threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = []
        for name in args.tables:
            for seed in args.seeds:
                for line in lines_of(name, args.rows, seed, args):
                    rows.append(line)
                    print(*line.values(), flush=True)
    frame = pd.DataFrame(rows).groupby(["table", "method"], sort=False)
    print(frame[["share", "auc", "loss", "file"]].mean().round(4).to_string())


if __name__ == "__main__":
    main()
