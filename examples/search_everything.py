"""One search for networks, papers and rates; then the same kind of search for an estimator that is
not ours.

    python examples/search_everything.py
    python examples/search_everything.py --rows 2000 --epochs 3 --no-picture
    # Interrupt it, run it again: it goes on.
    python examples/search_everything.py --checkpoint FOLDER

Hyperband trains candidates for few epochs and sends the best of them on (``warm=True``: with the
weights that they have). Prints what it will cost, what it found, and how the winners do on rows
that no candidate has seen.
"""

import argparse
import time

import pandas as pd
import torch
from scipy.stats import loguniform, uniform
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.model_selection import HyperbandSearchCV, SuccessiveHalvingSearchCV
from sklearn_autorec.networks import FM, DeepFM

RATES = {
    "lr": loguniform(3e-3, 0.03),
    "embedding_dim": [4, 8],
    "embedding_l2": loguniform(1e-4, 3e-2),
}
# Dropout belongs to the one network that has it: a space may be a list of spaces.
SPACE = [
    {"network": [FM()], "search": [None, AutoFIS()], **RATES},
    {"network": [DeepFM(hidden_units=(32, 32))], "network__dropout": uniform(0, 0.5), **RATES},
]


def cost(search):
    """A line for every bracket: candidates and epochs of its rungs."""
    told = search.metadata()
    for bracket in told["brackets"]:
        rungs = zip(bracket["n_candidates"], bracket["n_resources"], strict=True)
        print(
            f"  bracket {bracket['bracket']}: "
            + ", ".join(f"{n} candidates to {r}" for n, r in rungs)
        )
    print(
        f"  {told['n_candidates']} candidates, {told['n_fits']} fits, {told['n_resources_spent']} "
        f"epochs on each of "
        f"{told['n_splits']} splits ({told['n_resources']} if each rung began anew)"
    )


def best(search, n=5):
    """The best rows with all epochs."""
    found = pd.DataFrame(search.cv_results_)
    found = found[found["n_resources"] == search.max_resources_].sort_values(
        "mean_test_score", ascending=False
    )[:n]
    return pd.DataFrame(
        {
            "network": [type(p["network"]).__name__ for p in found["params"]],
            "search": [
                type(p.get("search")).__name__.replace("NoneType", "-") for p in found["params"]
            ],
            "dim": [p["embedding_dim"] for p in found["params"]],
            "lr": [p["lr"] for p in found["params"]],
            "bracket": found["bracket"],
            "mean AUC": found["mean_test_score"],
        }
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=6_000, help="rows of the made data")
    parser.add_argument("--epochs", type=int, default=9, help="epochs of a winner")
    parser.add_argument("--jobs", type=int, default=1, help="evaluations side by side")
    parser.add_argument(
        "--checkpoint", default=None, help="folder in which finished evaluations are kept"
    )
    parser.add_argument("--no-picture", action="store_true", help="do not draw search.png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    X, y, truth = make_ctr(
        args.rows, n_fields=6, cardinality=10, pairs=3, informative_fields=2, random_state=0
    )
    n = int(0.7 * len(X))
    possible = roc_auc_score(y[n:], truth.probabilities[n:])
    options = {
        "cv": StratifiedKFold(2, shuffle=True, random_state=0),
        "scoring": "roc_auc",
        "random_state": 0,
        "n_jobs": args.jobs,
    }

    search = HyperbandSearchCV(
        CTRClassifier(search_epochs=2, early_stopping=False, random_state=0),
        SPACE,
        resource="max_epochs",
        max_resources=args.epochs,
        warm=True,
        checkpoint=args.checkpoint,
        **options,
    )
    print("Hyperband over networks, papers, sizes and rates")
    cost(search)
    start = time.perf_counter()
    search.fit(X[:n], y[:n])
    print(best(search).to_string(index=False, float_format="{:.4f}".format))
    auc = roc_auc_score(y[n:], search.predict_proba(X[n:])[:, 1])
    print(
        f"  {time.perf_counter() - start:.0f} s, test AUC of the winner {auc:.3f} (best possible "
        f"{possible:.3f})"
    )

    trees = make_pipeline(
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        HistGradientBoostingClassifier(early_stopping=False, random_state=0),
    )
    name = "histgradientboostingclassifier__"
    halving = SuccessiveHalvingSearchCV(
        trees,
        {name + "learning_rate": loguniform(0.02, 0.5), name + "max_leaf_nodes": [7, 15, 31]},
        resource=name + "max_iter",
        min_resources=3,
        max_resources=27,
        warm=True,
        **options,
    ).fit(X[:n], y[:n])
    auc = roc_auc_score(y[n:], halving.predict_proba(X[n:])[:, 1])
    print(
        f"\nSuccessive halving over boosted trees: {halving.total_resources_} trees on each "
        f"split, test AUC {auc:.3f}"
    )

    if not args.no_picture:
        import matplotlib

        matplotlib.use("Agg")
        from sklearn_autorec.inspection import SearchHistoryDisplay

        SearchHistoryDisplay.from_estimator(search).figure_.savefig("search.png", dpi=120)
        print("drawn: search.png")


if __name__ == "__main__":
    main()
