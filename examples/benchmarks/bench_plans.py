"""Plans of a search against a joint one at equal budget, on a pipeline of fields to keep, crosses
to add and a network.

    python examples/benchmarks/bench_plans.py --data-home DIR [--rows 6000] [--n-iter 60] \\
        [--seeds 3] [--only PLAN ...]

Each plan proposes as many candidates, judged on one held-out quarter of the training rows; the
winner is fitted again and scored once on test rows. The ranks at the end are means over data sets
and seeds (1 is best, ties averaged): of the best held-out loss and of the test loss. Without the
crosses of ``sklearn_autorec.feature_crossing`` the step is left out.
"""

import json
import time
import warnings
from collections import defaultdict

import numpy as np
import pandas as pd
import torch
from _common import parser, print_machine, scores
from scipy.stats import loguniform, randint, rankdata
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.model_selection import StratifiedShuffleSplit, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import fetch_adult, fetch_frappe, make_ctr
from sklearn_autorec.exceptions import UnknownCategoryWarning
from sklearn_autorec.model_selection import Alternating, Conditioning, Joint, PlanSearchCV
from sklearn_autorec.networks import FM, DCNv2, DeepFM

try:
    from sklearn_autorec.feature_crossing import AutoCross
except ImportError:
    AutoCross = None

FEATURES = Joint("select__*", "cross*") if AutoCross else Joint("select__*")
PLANS = {
    "random": Joint(sampler="random"),
    "1 joint": Joint(),
    "2 conditioning": Conditioning("ctr__network", Joint()),
    "3 alternating": Alternating(FEATURES, Joint()),
    "4 alternating(conditioning)": Alternating(FEATURES, Conditioning("ctr__network", Joint())),
    "5 conditioning(alternating)": Conditioning("ctr__network", Alternating(FEATURES, Joint())),
}
PLANTED = {
    "pairs": {"n_fields": 12, "cardinality": 15, "pairs": 4},
    "main effects, noise": {"n_fields": 20, "cardinality": 15, "informative_fields": 5, "pairs": 2},
    "triple, copies": {
        "n_fields": 10,
        "cardinality": 10,
        "pairs": 2,
        "triples": 1,
        "duplicated_fields": 3,
    },
}
PUBLIC = {"frappe": fetch_frappe, "adult": fetch_adult}


def relevance(X, y):
    """Mutual information of each column of ids with the label."""
    return mutual_info_classif(X, y, discrete_features=True)


def data_sets(rows, seed, data_home):
    """Name, table and labels, twice as many rows as are searched."""
    for k, (name, problem) in enumerate(PLANTED.items()):
        X, y, _ = make_ctr(2 * rows, random_state=100 * seed + k, **problem)
        yield name, X, y
    for name, fetch in PUBLIC.items():
        X, y = fetch(data_home=data_home, return_X_y=True)
        chosen = np.random.RandomState(seed).permutation(len(X))[: 2 * rows]
        X = X.iloc[chosen].reset_index(drop=True)
        many = [c for c in X.select_dtypes("number") if name == "adult" and X[c].nunique() > 30]
        X[many] = X[many].apply(lambda column: pd.qcut(column, 20, labels=False, duplicates="drop"))
        yield name, X, y[chosen]


def pipeline(epochs):
    """Ids of all columns, the best of them, crosses, a network."""
    ids = OrdinalEncoder(
        dtype=np.int64,
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        encoded_missing_value=-2,
    )
    steps = [("ids", ids), ("select", SelectKBest(relevance))]
    steps += [("cross", "passthrough")] if AutoCross else []
    ctr = CTRClassifier(
        max_epochs=epochs, batch_size=256, early_stopping=False, device="cpu", random_state=0
    )
    return Pipeline([*steps, ("ctr", ctr)]).set_output(transform="pandas")


def space(n_columns):
    """Eight parameters, with crosses nine."""
    found = {
        "select__k": randint(max(2, n_columns // 4), n_columns + 1),
        "ctr__network": [FM(), DeepFM(hidden_units=(32, 32)), DCNv2(hidden_units=(32, 32))],
        "ctr__embedding_dim": [4, 8, 16],
        "ctr__lr": loguniform(1e-3, 5e-2),
        "ctr__embedding_l2": loguniform(1e-5, 1e-1),
        "ctr__embedding_init": loguniform(1e-3, 1e-1),
        "ctr__id_dropout": [0.0, 0.005, 0.05],
        "ctr__averaging": [0.0, 0.99],
    }
    if AutoCross:
        found["cross"] = [
            "passthrough",
            *(AutoCross(max_crosses=n, max_order=2, n_folds=1) for n in (1, 3, 6)),
        ]
    return found


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--rows", type=int, default=6000, help="training rows, and test rows")
    p.add_argument("--n-iter", type=int, default=60)
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--only", nargs="*", default=[*PLANS])
    p.add_argument("--json", help="append one line per search")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore", UnknownCategoryWarning)  # small samples of large tables
    print_machine()
    print(
        f"# {args.rows} rows, {args.n_iter} candidates, {args.epochs} epochs, crosses: "
        f"{AutoCross is not None}"
    )
    print(f"{'data':20s} seed {'plan':28s} valid loss   test AUC / loss   tried dropped    s")
    losses = {"valid": defaultdict(dict), "test": defaultdict(dict)}
    for seed in range(args.seeds):
        for data, X, y in data_sets(args.rows, seed, args.data_home):
            X, X_test, y, y_test = train_test_split(
                X, y, test_size=0.5, stratify=y, random_state=seed
            )
            for name in args.only:
                search = PlanSearchCV(
                    pipeline(args.epochs),
                    space(X.shape[1]),
                    plan=PLANS[name],
                    n_iter=args.n_iter,
                    scoring="neg_log_loss",
                    cv=StratifiedShuffleSplit(1, test_size=0.25, random_state=seed),
                    random_state=seed,
                )
                start = time.perf_counter()
                search.fit(X, y)
                seconds = time.perf_counter() - start
                auc, loss = scores(y_test, search.predict_proba(X_test)[:, 1])
                dropped = sum(
                    block["dropped_after"] is not None for block in search.blocks_.values()
                )
                tried = len(search.cv_results_["params"])
                losses["valid"][data, seed][name] = -search.best_score_
                losses["test"][data, seed][name] = loss
                print(
                    f"{data:20s} {seed:4d} {name:28s} {-search.best_score_:10.4f}   {auc:.4f} / "
                    f"{loss:.4f}   {tried:5d} {dropped:7d} {seconds:4.0f}",
                    flush=True,
                )
                if args.json:
                    row = {
                        "data": data,
                        "seed": seed,
                        "plan": name,
                        "valid_loss": -search.best_score_,
                        "test_auc": auc,
                    }
                    row |= {
                        "test_loss": loss,
                        "seconds": seconds,
                        "best": {k: str(v) for k, v in search.best_params_.items()},
                    }
                    with open(args.json, "a") as file:
                        file.write(json.dumps(row) + "\n")
    print("\nmean rank                    valid   test")
    ranks = {
        s: np.array([rankdata([row[n] for n in args.only]) for row in losses[s].values()])
        for s in losses
    }
    for k, name in enumerate(args.only):
        print(f"{name:28s} {ranks['valid'][:, k].mean():5.2f}  {ranks['test'][:, k].mean():5.2f}")


if __name__ == "__main__":
    main()
