"""Quality on Frappe: a row per network and search, seeds beside one another.

    python examples/benchmarks/bench_frappe.py --data-home DIR [--only NAME ...] [--seeds 3] \\
        [--json FILE]

Early stopping watches the published validation rows; the test rows are scored once, at the end of
each fit. The hyperparameters were chosen on the validation rows with seed 0 (doc/benchmarks.rst
says from what).
"""

import json
import pickle
import time

import numpy as np
import torch
from _common import frappe, parser, print_machine, scores
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec import CTRClassifier
from sklearn_autorec.interaction import (
    L0SIGN,
    PROFIT,
    AOANet,
    AutoCTR,
    AutoFIS,
    AutoGroup,
    InteractionGain,
    RandomInteractions,
)
from sklearn_autorec.networks import FM, IPNN, NFM, AutoInt, DCNv2, DeepFM

COMMON = {
    "embedding_dim": 10,
    "embedding_l2": 0.05,
    "embedding_init": 1e-4,
    "batch_size": 4096,
    "max_epochs": 40,
    "averaging": 0.99,
    "id_dropout": 0.0,
    "patience": 5,
    "monitor": "auc",
    "device": "cpu",
}
# The network of the default estimator without the parts beside it.
ALONE = {"network": "auto", "wide": None, "target_statistics": False, "embedding_dim": 16}
MEMBERS = {**ALONE, "members": 8, "max_epochs": 30, "search_epochs": 4}
SHALLOW = {**COMMON, "embedding_l2": 1e-4, "embedding_init": 0.01, "lr": 3e-3, "max_epochs": 60}
ROWS = {
    "LR": {**SHALLOW, "network": "lr", "lr": 0.03, "embedding_l2": 0.0},
    "FM": {**SHALLOW, "network": FM()},
    "FM + AutoFIS": {**SHALLOW, "network": FM(), "search": AutoFIS(), "search_epochs": 6},
    "FM + RandomInteractions": {**SHALLOW, "network": FM(), "search": RandomInteractions()},
    "FM + InteractionGain": {**SHALLOW, "network": FM(), "search": InteractionGain()},
    "FM + PROFIT": {**SHALLOW, "network": FM(), "search": PROFIT(2), "search_epochs": 6},
    "FM + AutoGroup": {**SHALLOW, "network": FM(), "search": AutoGroup(2), "search_epochs": 6},
    "FM + AOANet": {**SHALLOW, "network": FM(), "search": AOANet(), "search_epochs": 6},
    "FM + L0SIGN": {**SHALLOW, "network": FM(), "search": L0SIGN(), "search_epochs": 6},
    "FwFM": {**SHALLOW, "network": "fwfm"},
    "NFM": {**COMMON, "network": NFM()},
    "IPNN": {**COMMON, "network": IPNN()},
    "AutoInt+": {**COMMON, "network": AutoInt()},
    "DCNv2": {**COMMON, "network": DCNv2()},
    "DeepFM": {**COMMON, "network": DeepFM()},
    "DeepFM + AutoFIS": {**COMMON, "network": DeepFM(), "search": AutoFIS(), "search_epochs": 6},
    "DeepFM + AOANet": {**COMMON, "network": DeepFM(), "search": AOANet(), "search_epochs": 6},
    "default": {},
    "default + AutoFIS": {"search": AutoFIS(), "search_epochs": 4},
    "default alone": ALONE,
    "default alone, 8 members": {**MEMBERS},
    "default alone, 8 members + AutoFIS": {**MEMBERS, "search": AutoFIS()},
    "AutoCTR": {**COMMON, "network": DeepFM(), "search": AutoCTR(max_evaluations=60, epochs=3)},
    "DeepFM + RandomInteractions": {**COMMON, "network": DeepFM(), "search": RandomInteractions()},
}


def of_size(search, n):
    """The search with a budget of n interactions, if it has a parameter for that."""
    budgets = {"n_interactions": n, "max_interactions": n, "threshold": 0}
    return clone(search).set_params(
        **{name: value for name, value in budgets.items() if name in search.get_params()}
    )


def found_by(model):
    """What a search has found, in short."""
    if "interaction" in model.architecture_:
        return f"kept {len(model.interactions_)}"
    nodes, _ = model.architecture_graph_
    return "found " + ", ".join(label for _, label, kind in nodes if kind == "operation")


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--only", nargs="*", default=[*ROWS])
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument(
        "--rows", type=int, help="the first training rows, and a quarter as many to stop"
    )
    p.add_argument("--size", type=int, help="interactions that searches keep, where they can")
    p.add_argument("--batch-size", type=int, help="instead of 4096")
    p.add_argument("--json", help="append one line per fit")
    p.add_argument(
        "--ensemble",
        action="store_true",
        help="also average the probabilities of all fitted networks",
    )
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    data = frappe(args.data_home)
    (X, y), (X_val, y_val), (X_test, y_test) = data["train"], data["valid"], data["test"]
    if args.rows:
        X, y, n_val = X[: args.rows], y[: args.rows], args.rows // 4
        X_val, y_val = X_val[:n_val], y_val[:n_val]
    start = time.perf_counter()
    linear = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=0.3, max_iter=500)
    ).fit(X, y)
    auc, loss = scores(y_test, linear.predict_proba(X_test)[:, 1])
    print(
        f"{'scikit-learn OneHot + LR':28s} test {auc:.4f} / {loss:.4f}   "
        f"{time.perf_counter() - start:.0f} s"
    )
    members = {"valid": [], "test": []}
    for name in args.only:
        results, kept = [], ""
        for seed in range(args.seeds):
            options = dict(ROWS[name])
            if args.batch_size:
                options["batch_size"] = args.batch_size
            search, sizes = options.get("search"), kept_by_search.get(name.split(" + ")[0])
            if isinstance(search, RandomInteractions | InteractionGain | PROFIT) and sizes:
                options["search"] = clone(search).set_params(n_interactions=sizes[seed])
            if search is not None and args.size is not None:
                options["search"] = of_size(search, args.size)
            start = time.perf_counter()
            model = CTRClassifier(random_state=seed, **options).fit(X, y, X_val=X_val, y_val=y_val)
            seconds = time.perf_counter() - start
            p_val, p_test = (model.predict_proba(Z)[:, 1] for Z in (X_val, X_test))
            members["valid"].append(p_val)
            members["test"].append(p_test)
            results.append(
                (
                    *scores(y_val, p_val),
                    *scores(y_test, p_test),
                    seconds,
                    model.n_iter_,
                    len(pickle.dumps(model)),
                )
            )
            if "search" in options:
                kept = f"  {found_by(model)}"
                if isinstance(options["search"], AutoFIS):
                    kept_by_search.setdefault(name.split(" + ")[0], []).append(
                        len(model.interactions_)
                    )
            if args.json:
                with open(args.json, "a") as f:
                    print(json.dumps({"name": name, "seed": seed, "result": results[-1]}), file=f)
        r = np.array(results)
        m, s = r.mean(0), r.std(0)
        print(
            f"{name:28s} valid {m[0]:.4f} / {m[1]:.4f}  test {m[2]:.4f} +- {s[2]:.4f} / "
            f"{m[3]:.4f} +- {s[3]:.4f}  "
            f"{m[4]:.0f} s  {m[5]:.0f} epochs  {m[6]:,.0f} bytes{kept}",
            flush=True,
        )
    if args.ensemble:
        (val_auc, val_loss), (auc, loss) = (
            scores(y_val, np.mean(members["valid"], 0)),
            scores(y_test, np.mean(members["test"], 0)),
        )
        print(
            f"{'mean of these ' + str(len(members['test'])) + ' networks':28s} valid "
            f"{val_auc:.4f} / {val_loss:.4f}  test {auc:.4f} / {loss:.4f}"
        )


kept_by_search: dict[str, list[int]] = {}

if __name__ == "__main__":
    main()
