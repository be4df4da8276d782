"""Hyperband: warm against cold on made data, and against random search at equal epochs on Frappe.

    python examples/benchmarks/bench_hyperband.py warm [--rows 2000] [--seeds 5]
    python examples/benchmarks/bench_hyperband.py frappe --data-home DIR [--seeds 5] \\
        [--max-epochs 9]

A unit is an epoch of a candidate on the training split; "processor" are processor seconds, refit
included, which a busy machine stretches less. "frappe" scores candidates by log loss on the
published validation rows; the winner is fitted again on the training rows and scored once on the
test rows. Epochs count those of a candidate's search for interactions or sizes as well, and random
search goes on until it has spent at least as many as Hyperband.
"""

import time

import numpy as np
import pandas as pd
import torch
from _common import frappe, parser, print_machine, scores
from scipy.stats import loguniform, uniform
from sklearn.model_selection import (
    ParameterSampler,
    PredefinedSplit,
    RandomizedSearchCV,
    ShuffleSplit,
)

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import CTRProblem
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.model_selection import HyperbandSearchCV
from sklearn_autorec.networks import FM, IPNN, DeepFM

SEARCH_EPOCHS = 2


def warm_against_cold(args):
    """Each seed makes its data, its candidates and its initial weights; both ways get the same."""
    space = {
        "lr": loguniform(1e-3, 0.3),
        "embedding_l2": loguniform(1e-5, 0.1),
        "embedding_dim": [4, 8],
    }
    rows = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        problem = CTRProblem(
            n_fields=6, cardinality=8, pairs=3, informative_fields=2, random_state=seed
        )
        (X, y, _), (X_test, y_test, truth) = (
            problem.sample(n, random_state=s) for s, n in ((1, args.rows), (2, 20_000))
        )
        for warm in (False, True):
            search = HyperbandSearchCV(
                CTRClassifier(network="fm", early_stopping=False, device="cpu", random_state=seed),
                space,
                resource="max_epochs",
                max_resources=args.max_epochs or 27,
                warm=warm,
                scoring="neg_log_loss",
                cv=ShuffleSplit(1, test_size=0.4, random_state=seed),
                random_state=seed,
                error_score="raise",
            )
            start = time.perf_counter(), time.process_time()
            search.fit(X, y)
            rows.append(
                {
                    "seed": seed,
                    "warm": warm,
                    "units": search.total_resources_,
                    "validation": -search.best_score_,
                    "test": scores(y_test, search.predict_proba(X_test)[:, 1])[1],
                    "possible": scores(y_test, truth.probabilities)[1],
                    "seconds": time.perf_counter() - start[0] - search.refit_time_,
                    "processor": time.process_time() - start[1],
                }
            )
            print(
                pd.DataFrame(rows[-1:]).to_string(
                    index=False, header=len(rows) == 1, float_format="{:.4f}".format
                ),
                flush=True,
            )
    table = pd.DataFrame(rows).pivot(index="seed", columns="warm")
    for name in ("validation", "test"):
        difference = table[name][True] - table[name][False]
        error = difference.std() / np.sqrt(len(difference))
        print(
            f"{name} log loss, warm less cold: {difference.mean():+.4f} +- {error:.4f} (standard "
            f"error), {table[name].mean().to_dict()}"
        )
    ratio = {
        name: (table[name][True] / table[name][False]) for name in ("units", "seconds", "processor")
    }
    for name, r in ratio.items():
        print(f"{name}: {r.median():.3f} of cold [{r.min():.3f}, {r.max():.3f}]")


def frappe_space(hidden_units):
    """Networks, searches, sizes, rates; dropout where a network has it."""
    common = {"embedding_dim": [4, 8, 16, 32], "lr": loguniform(3e-4, 3e-2)}
    return [
        {
            "network": [FM()],
            "search": [None, AutoFIS(), PEP(target_sparsity=0.5), AutoDim()],
            **common,
        },
        *(
            {
                "network": [network],
                "search": [None, AutoFIS()],
                "network__dropout": uniform(0, 0.5),
                **common,
            }
            for network in (DeepFM(hidden_units), IPNN(hidden_units))
        ),
    ]


def epochs_of(params, units):
    return units + SEARCH_EPOCHS * (params["search"] is not None)


def hyperband_against_random(args):
    data = frappe(args.data_home)
    (X, y), (X_val, y_val), (X_test, y_test) = data["train"], data["valid"], data["test"]
    if args.rows:
        kept = np.random.default_rng(0).permutation(len(X))[: args.rows]
        X, y, X_val, y_val = (
            X.iloc[kept],
            np.asarray(y)[kept],
            X_val[: args.rows // 3],
            np.asarray(y_val)[: args.rows // 3],
        )
    both, labels = pd.concat([X, X_val], ignore_index=True), np.concatenate([y, y_val])
    cv = PredefinedSplit(np.repeat([-1, 0], [len(X), len(X_val)]))
    max_epochs = args.max_epochs or 9
    rows = []
    for seed in range(args.first_seed, args.first_seed + args.seeds):
        model = CTRClassifier(
            embedding_l2=0.05, embedding_init=1e-4, batch_size=4096, averaging=0.99, id_dropout=0.0,
            early_stopping=False, search_epochs=SEARCH_EPOCHS, max_epochs=max_epochs,
            device="cpu", random_state=seed,
        )  # fmt: skip
        options = {"scoring": "neg_log_loss", "cv": cv, "random_state": seed, "refit": False}
        hyperband = HyperbandSearchCV(
            model,
            frappe_space(tuple(args.hidden_units)),
            resource="max_epochs",
            max_resources=max_epochs,
            warm=True,
            **options,
        )
        start = time.perf_counter()
        hyperband.fit(both, labels)
        found = hyperband.cv_results_
        first = found["n_resources"] == found["n_resources_spent"]
        spent = sum(
            epochs_of(p, r) if new else r
            for p, r, new in zip(found["params"], found["n_resources_spent"], first, strict=True)
        )
        seconds = {"Hyperband": time.perf_counter() - start}
        drawn = list(
            ParameterSampler(frappe_space(tuple(args.hidden_units)), spent, random_state=seed)
        )
        cost = np.cumsum([epochs_of(p, max_epochs) for p in drawn])
        n_iter = int(np.searchsorted(cost, spent)) + 1
        random = RandomizedSearchCV(
            model, frappe_space(tuple(args.hidden_units)), n_iter=n_iter, **options
        )
        start = time.perf_counter()
        random.fit(both, labels)
        seconds["random"] = time.perf_counter() - start
        for name, search, epochs in (
            ("Hyperband", hyperband, spent),
            ("random", random, cost[n_iter - 1]),
        ):
            best = search.best_params_
            final = CTRClassifier(**model.get_params(deep=False)).set_params(**best).fit(X, y)
            auc, loss = scores(y_test, final.predict_proba(X_test)[:, 1])
            rows.append(
                {
                    "seed": seed,
                    "search": name,
                    "candidates": found["candidate"].max() + 1 if name == "Hyperband" else n_iter,
                    "epochs": epochs,
                    "validation": -search.best_score_,
                    "test": loss,
                    "test AUC": auc,
                    "seconds": seconds[name],
                    "network": type(best["network"]).__name__,
                    "method": type(best["search"]).__name__,
                    "dim": best["embedding_dim"],
                    "lr": best["lr"],
                }
            )
            print(
                pd.DataFrame(rows[-1:]).to_string(
                    index=False, header=len(rows) == 1, float_format="{:.4f}".format
                ),
                flush=True,
            )
    print("\nmedians")
    table = pd.DataFrame(rows).groupby("search")[
        ["epochs", "validation", "test", "test AUC", "seconds"]
    ]
    print(table.median().to_string(float_format="{:.4f}".format))


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("part", choices=["warm", "frappe"])
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--first-seed", type=int, default=0)
    p.add_argument("--rows", type=int, default=None, help="training rows (warm: 2000; frappe: all)")
    p.add_argument(
        "--hidden-units",
        type=int,
        nargs="*",
        default=[400, 400, 400],
        help="frappe: layers of the deep networks",
    )
    p.add_argument(
        "--max-epochs", type=int, default=None, help="epochs of a winner (warm: 27; frappe: 9)"
    )
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    if args.part == "warm":
        args.rows = args.rows or 2000
        warm_against_cold(args)
    else:
        hyperband_against_random(args)


if __name__ == "__main__":
    main()
