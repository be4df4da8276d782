"""Pictures of a search: which interactions it kept, embedding sizes, how its epochs went; fields
selected, crosses and a graph of blocks found elsewhere; click rates of the values of a column.

Saves seven figures in the current folder, or shows them::

    python examples/plot_inspection.py
    python examples/plot_inspection.py --show
"""

import argparse
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import Hashing, MagnitudePruning
from sklearn_autorec.feature_crossing import AEFE, GLIDER
from sklearn_autorec.feature_selection import FSTD, RandomSubset, SensitivitySelector
from sklearn_autorec.inspection import (
    ArchitectureDisplay,
    BudgetCurveDisplay,
    CalibrationByFieldDisplay,
    EmbeddingSizeDisplay,
    InteractionDisplay,
    SearchHistoryDisplay,
    SelectionPathDisplay,
)
from sklearn_autorec.interaction import AutoCTR, AutoFIS

NAMES = "user item category brand city device weekday hour page position".split()


def fit(rows):
    X, y, truth = make_ctr(
        rows, n_fields=len(NAMES), cardinality=10, pairs=5, informative_fields=3, random_state=0
    )
    X.columns = NAMES
    model = CTRClassifier(
        network="fm",
        search=AutoFIS(),
        embedding_dim=8,
        lr=0.01,
        search_epochs=6,
        max_epochs=8,
        lr_schedule="plateau",
        early_stopping=True,
        random_state=0,
    )
    print("planted:", ", ".join(f"{NAMES[i]} × {NAMES[j]}" for i, j in truth.pairs))
    return model.fit(X, y), X, y


def draw_crosses(X, y):
    """Pairs that GLIDER reads from boosted trees, beside those of the factorization machine of
    AEFE.
    """
    X = X.astype("category")
    found = {
        "GLIDER": GLIDER(
            HistGradientBoostingClassifier(random_state=0), max_crosses=5, random_state=0
        ),
        "AEFE": AEFE(random_state=0),
    }
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained")
    for ax, (name, crosser) in zip(axes, found.items(), strict=True):
        display = InteractionDisplay.from_estimator(crosser.fit(X, y), ax=ax)
        ax.set_title(f"{name}: {ax.get_title()}", fontsize=11)
    return display


def selection(rows):
    """Paths of three selections of fields for a tree; nine of twenty columns matter."""
    X, y, _ = make_ctr(
        rows, n_fields=20, cardinality=6, informative_fields=5, pairs=2, ids="int", random_state=1
    )
    tree = DecisionTreeClassifier(min_samples_leaf=20, random_state=0)
    options = {"scoring": "roc_auc", "max_evaluations": 100, "random_state": 0}
    fstd = FSTD(tree, **options).fit(X, y)
    baselines = {
        "random subsets": RandomSubset(tree, **options).fit(X, y),
        "permutation importance": SensitivitySelector(tree, method="permutation", **options).fit(
            X, y
        ),
        "all fields": fstd.search_history_[0]["score"],
    }
    return SelectionPathDisplay.from_estimator(fstd, baselines=baselines)


def draw_architecture(rows):
    """The graph of blocks that a short evolution finds for two pairs and two numbers."""
    X, y, _ = make_ctr(rows, n_fields=5, cardinality=6, pairs=2, n_numeric=2, random_state=0)
    search = AutoCTR(widths=(16, 64), max_evaluations=30, population=10, tournament=4, epochs=2)
    options = {"lr": 0.02, "batch_size": 64, "max_epochs": 2, "random_state": 0}
    model = CTRClassifier(network="fm", search=search, **options).fit(X, y)
    return ArchitectureDisplay.from_estimator(model)


def draw_calibration(model, rows):
    """Click rates by city on rows that the model has not seen; in one city something has
    changed.
    """
    X, y, _ = make_ctr(
        2 * rows, n_fields=len(NAMES), cardinality=10, pairs=5, informative_fields=3, random_state=0
    )
    X, y = X[rows:].set_axis(NAMES, axis=1), y[rows:]
    changed = (X["city"] == X["city"].mode()[0]).to_numpy()
    y[changed] &= np.random.default_rng(0).uniform(size=changed.sum()) < 0.7
    return CalibrationByFieldDisplay.from_estimator(model, X, y, "city")


def draw_budgets(rows):
    """AUC on held-out rows against bytes: two methods at four budgets, and tables in int8."""
    X, y, _ = make_ctr(2 * rows, n_fields=4, cardinality=200, pairs=[(0, 1)], random_state=0)
    tried = {"MagnitudePruning": MagnitudePruning, "Hashing": Hashing}
    models = [
        (name, {"search": cls(budget=budget), "storage": storage})
        for budget in (0.15, 0.25, 0.45, 0.8)
        for cls_name, cls in tried.items()
        for name, storage in ((cls_name, None), (f"{cls_name}, int8", "int8"))
    ]
    results = []
    for name, options in [*models, ("dense", {})]:
        model = CTRClassifier(
            network="fm", embedding_dim=8, lr=0.02, max_epochs=4, random_state=0, **options
        ).fit(X[:rows], y[:rows])
        auc = roc_auc_score(y[rows:], model.predict_proba(X[rows:])[:, 1])
        results.append({"name": name, "bytes": model.nbytes_["embedding"], "score": auc})
    return BudgetCurveDisplay.from_results(
        pd.DataFrame(results),
        baselines=["Hashing", "Hashing, int8"],
        dense="dense",
        score_name="AUC, held-out rows",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=30_000, help="rows of the made data")
    parser.add_argument("--folder", type=Path, default=Path(), help="where to save the figures")
    parser.add_argument(
        "--show", action="store_true", help="show the figures instead of saving them"
    )
    args = parser.parse_args()
    if not args.show:
        matplotlib.use("Agg")
    model, X, y = fit(args.rows)
    print("kept:   ", ", ".join(" × ".join(pair) for pair in model.interactions_))

    # Each value of the model has the same size here. Sizes of your own can be drawn as well: these
    # follow the rule of thumb n ** 0.25. After a search for sizes,
    # EmbeddingSizeDisplay.from_estimator(model) draws what it found.
    n_values = [10, 120, 2_000, 45_000, 1_000_000]
    sizes = [int(np.ceil(n**0.25)) for n in n_values]
    displays = {
        "interactions": InteractionDisplay.from_estimator(model),
        "sizes": EmbeddingSizeDisplay(sizes, NAMES[:5][::-1], n_values, dim=32).plot(),
        "history": SearchHistoryDisplay.from_estimator(model),
        "crosses": draw_crosses(X, y),
        "architecture": draw_architecture(min(args.rows, 2000)),
        "selection": selection(min(args.rows, 4000)),
        "budgets": draw_budgets(min(args.rows, 6000)),
        "calibration": draw_calibration(model, args.rows),
    }
    if args.show:
        plt.show()
        return
    for name, display in displays.items():
        path = args.folder / f"inspection_{name}.png"
        display.figure_.savefig(path, dpi=110)
        print("picture:", path)


if __name__ == "__main__":
    main()
