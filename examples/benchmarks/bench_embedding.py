"""Bytes and quality on Frappe: searches for embedding sizes beside their dull baselines.

    python examples/benchmarks/bench_embedding.py --data-home DIR [--only NAME ...] [--networks \\
        fm deepfm] [--seeds 3] [--rows N] [--batch-size 4096] [--json FILE]

Early stopping watches the published validation rows; the test rows are scored once, at the end of
each fit. "file" is what `serving.save` writes, "pickle" what pickle writes; both hold the
vocabularies. ``--rows`` trains on so many rows, drawn at random.
"""

import json
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _common import frappe, parser, print_machine, scores

from sklearn_autorec import CTRClassifier, serving
from sklearn_autorec.embedding import (
    AMTL,
    ANT,
    MDE,
    PEP,
    QR,
    RULE,
    AutoDim,
    EqualSize,
    Hashing,
    MagnitudePruning,
    OptEmbed,
    RandomSizes,
)
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.networks import FM, DeepFM

COMMON = {
    "embedding_dim": 16,
    "batch_size": 4096,
    "averaging": 0.99,
    "id_dropout": 0.0,
    "device": "cpu",
}
NETWORKS = {
    "fm": {
        "network": FM(),
        "embedding_l2": 1e-4,
        "lr": 3e-3,
        "max_epochs": 40,
        "search_epochs": 20,
        "patience": 3,
    },
    "deepfm": {
        "network": DeepFM(hidden_units=(64, 64)),
        "embedding_l2": 0.02,
        "embedding_init": 1e-3,
        "lr": 3e-3,
        "max_epochs": 12,
        "search_epochs": 6,
        "patience": 3,
    },
}
SEARCHES = {
    "none": None,
    "AutoFIS": AutoFIS(),
    "RandomInteractions": RandomInteractions(),
    "AutoDim": AutoDim(),
    "RandomSizes": RandomSizes(),
    "EqualSize(4)": EqualSize(4),
    "PEP 50 %": PEP(0.5),
    "MagnitudePruning 50 %": MagnitudePruning(0.5),
    "PEP 80 %": PEP(0.8),
    "MagnitudePruning 80 %": MagnitudePruning(0.8),
    "AMTL": AMTL(),
    "AMTL 0.5": AMTL(size_penalty=0.5),
    "ANT": ANT(),
    "ANT(32)": ANT(n_anchors=32),
    "AutoDim + AutoFIS": [AutoDim(), AutoFIS()],
    "MagnitudePruning 75 %": MagnitudePruning(0.75),
    "MDE 25 %": MDE(0.25),
    "QR 25 %": QR(0.25),
    "Hashing 25 %": Hashing(0.25),
    "OptEmbed 25 %": OptEmbed(0.25),
    "RULE 25 %": RULE(0.25),
    "RULE 50 %": RULE(0.5),
}


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--only", nargs="*", default=[*SEARCHES])
    p.add_argument("--networks", nargs="*", default=[*NETWORKS])
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--rows", type=int, help="training rows; all if not given")
    p.add_argument("--batch-size", type=int, default=COMMON["batch_size"])
    p.add_argument("--json", help="append one line per fit")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    data = frappe(args.data_home)
    (X, y), (X_val, y_val), (X_test, y_test) = data["train"], data["valid"], data["test"]
    if args.rows is not None:
        drawn = np.random.default_rng(0).permutation(len(X))[: args.rows]
        X, y = X.iloc[drawn], y[drawn]
    print(
        f"{'network':7s} {'search':25s} valid AUC / loss   test AUC / loss            file    "
        f"pickle embedding   x    s"
    )
    for network in args.networks:
        n_kept = {}
        for name in args.only:
            results, found = [], []
            for seed in range(args.seeds):
                search = SEARCHES[name]
                if name == "RandomInteractions" and seed in n_kept:
                    search = RandomInteractions(n_kept[seed])
                options = {**COMMON, **NETWORKS[network], "search": search, "random_state": seed}
                options["batch_size"] = args.batch_size
                start = time.perf_counter()
                model = CTRClassifier(**options).fit(X, y, X_val=X_val, y_val=y_val)
                seconds = time.perf_counter() - start
                with tempfile.TemporaryDirectory() as folder:
                    serving.save(model, Path(folder) / "model")
                    size = (Path(folder) / "model").stat().st_size
                figures = [*scores(y_val, model.predict_proba(X_val)[:, 1])]
                figures += scores(y_test, model.predict_proba(X_test)[:, 1])
                stored = model.nbytes_["total"] - model.nbytes_["network"]
                results.append(
                    [
                        *figures,
                        size,
                        len(pickle.dumps(model)),
                        stored,
                        model.compression_ratio_,
                        seconds,
                    ]
                )
                if name == "AutoFIS":
                    n_kept[seed] = len(model.interactions_)
                if "AutoDim" in name:
                    found.append(list(model.embedding_sizes_.values()))
                elif "AutoFIS" in name:
                    found.append(len(model.interactions_))
                if args.json:
                    with open(args.json, "a") as f:
                        print(json.dumps([network, name, seed, results[-1], found[-1:]]), file=f)
            r = np.array(results)
            m, s = r.mean(0), r.std(0)
            print(
                f"{network:7s} {name:25s} {m[0]:.4f} / {m[1]:.4f}   {m[2]:.4f} +- {s[2]:.4f} / "
                f"{m[3]:.4f}  "
                f"{m[4]:9,.0f} {m[5]:9,.0f} {m[6]:9,.0f}  {m[7]:4.1f} {m[8]:5.0f}  {found or ''}",
                flush=True,
            )


if __name__ == "__main__":
    main()
