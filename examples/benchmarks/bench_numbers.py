"""What integers and decimals should be, and how numbers become vectors: the network alone on tables
with numbers.

    python examples/benchmarks/bench_numbers.py kinds --seeds 3
    python examples/benchmarks/bench_numbers.py embeddings --seeds 3

``kinds`` gives whole numbers of the tables as a file would hold them, as integers, and compares
what they are taken as: very few values (3 to 12), few (13 to 100) and more; columns of more than
100 values that the tables call ids are ids in every row. ``embeddings`` compares scales, bins and
embeddings of the numbers under "auto"."""

import time

import numpy as np
import pandas as pd
import torch
from _common import parser, print_machine, scores
from _suite import load

from sklearn_autorec import CTRClassifier
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.preprocessing import FieldEncoder

TABLES = [
    "adult",
    "bank",
    "credit_default",
    "criteo_sample",
    "hotel_bookings",
    "insteval",
    "ml-100k",
]
KINDS = {  # of very few, few and more values
    "all numbers": ("number", "number", "number"),
    "all ids": ("id", "id", "id"),
    "all both": ("both", "both", "both"),
    "id, both, by looks": ("id", "both", None),
    "id, id, by looks": ("id", "id", None),
    "id, number, by looks": ("id", "number", None),
    "both, both, by looks": ("both", "both", None),
    "auto": (None, None, None),
}
EMBEDDINGS = {  # of the encoder, and of the network
    "quantile scale, linear": ({"numeric": "quantile"}, "linear"),
    "rank scale, linear": ({}, "linear"),
    "rank scale, periodic": ({}, "periodic"),
    "quantile scale, piecewise": ({"numeric": "quantile"}, "piecewise"),
    "rank scale, piecewise": ({}, "piecewise"),
    "target bins, piecewise": ({"numeric_bins": "target"}, "piecewise"),
}
TEST_ROWS = 20_000


def as_integers(table):
    """Train and test features in which whole numbers are integers."""
    X, X_test = table.X_train.copy(), table.X_test.iloc[:TEST_ROWS].copy()
    for name in X:
        present = X[name].dropna()
        if (
            name not in table.numeric
            and len(present)
            and present.astype(str).str.fullmatch(r"-?\d+").all()
        ):
            for frame in (X, X_test):
                frame[name] = pd.to_numeric(frame[name]).astype("Int64")
    return X, X_test


def kinds_of(X, numeric, chosen):
    """The kinds to give by column, which leave to "auto" what is None."""
    given = {}
    for name, column in X.items():
        if not pd.api.types.is_numeric_dtype(column):
            continue
        n_values = column.nunique()
        if n_values > 2 and (n_values <= 100 or name in numeric):
            kind = chosen[0 if n_values <= 12 else 1 if n_values <= 100 else 2]
            if kind is not None:
                given[name] = kind
        elif any(chosen):
            given[name] = "id"
    return given


OPTIONS = {"embedding_dim": 8, "lr": 0.004, "embedding_l2": 0.1, "averaging": 0.99, "patience": 4}


def measure(X, y, X_test, y_test, seed, encoder, numeric_embedding="piecewise"):
    start = time.perf_counter()
    model = CTRClassifier(
        network=DeepFM((128, 64), dropout=0.3),
        encoder=encoder,
        numeric_embedding=numeric_embedding,
        random_state=seed,
        **OPTIONS,
    ).fit(X, y)
    seconds = time.perf_counter() - start
    return (*scores(y_test, model.predict_proba(X_test)[:, 1]), seconds)


def main():
    p = parser(__doc__)
    p.add_argument("what", choices=["kinds", "embeddings"])
    p.add_argument("--tables", nargs="+", default=TABLES)
    p.add_argument("--rows", type=int, default=8000)
    p.add_argument("--seeds", type=int, default=3)
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    variants = KINDS if args.what == "kinds" else EMBEDDINGS
    found = {name: {} for name in variants}
    for data in args.tables:
        by_seed = {name: [] for name in variants}
        for seed in range(args.seeds):
            table = load(data, args.rows, seed, integers=True, data_home=args.data_home)
            X, X_test = as_integers(table)
            y, y_test = table.y_train, table.y_test[:TEST_ROWS]
            for name, variant in variants.items():
                if args.what == "kinds":
                    given = kinds_of(X, table.numeric, variant) or "auto"
                    options, embedding = {"categorical_features": given}, "piecewise"
                else:
                    options, embedding = variant
                encoder = FieldEncoder(unknown_warning=None, **options)
                by_seed[name].append(measure(X, y, X_test, y_test, seed, encoder, embedding))
        for name, runs in by_seed.items():
            found[name][data] = np.mean(runs, 0)
            auc, loss, seconds = found[name][data]
            print(
                f"{data:16s} {name:28s} AUC {auc:.4f}  log loss {loss:.4f}  {seconds:5.1f} s",
                flush=True,
            )
    print("\nlog loss".ljust(30), *(f"{t[:14]:>14s}" for t in args.tables), f"{'mean':>8s}")
    for name, by_table in found.items():
        losses = [by_table[t][1] for t in args.tables]
        print(f"{name:29s}", *(f"{loss:14.4f}" for loss in losses), f"{np.mean(losses):8.4f}")


if __name__ == "__main__":
    main()
