"""Which columns to keep for a logistic regression: FSTD beside cheaper selections, with a table of
what each is worth.

    python examples/select_features.py
    python examples/select_features.py --rows 3000 --evaluations 30

Of twenty columns of made clicks six matter. Every selector keeps some of them by the training rows
alone; the same model, fitted on those, is scored on held-out rows. In practice a selector stands in
a pipeline: ``make_pipeline(FSTD(model), model).fit(X, y)``."""

import argparse
import time

import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import FSTD, RandomSubset, SensitivitySelector

COLUMNS = [
    "user_group",
    "item_group",
    "weekday",
    "hour",
    "device",
    "city",
    "price_band",
    "channel",
    "page",
    "position",
]
COLUMNS += [f"log_field_{i}" for i in range(10)]


def clicks(rows):
    """A table of which six columns matter, labels, and the names of the six."""
    six = [0, 1, 3, 5, 9, 14]
    X, y, truth = make_ctr(
        rows,
        n_fields=len(COLUMNS),
        cardinality=15,
        informative_fields=six,
        pairs=0,
        ids="int",
        random_state=0,
    )
    return X.set_axis(COLUMNS, axis=1), y, [COLUMNS[f] for f in truth.informative_fields]


def selectors(model, n_evaluations):
    """Searches get as many evaluations each; SelectFromModel fits one forest and keeps six columns
    since we know the number.
    """
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
    options = {"scoring": "neg_log_loss", "max_evaluations": n_evaluations, "random_state": 0}
    return {
        "FSTD": FSTD(model, **options),
        "random subsets": RandomSubset(model, **options),
        "permutation importance": SensitivitySelector(
            model, method="permutation", n_repeats=2, **options
        ),
        "SelectFromModel(forest)": SelectFromModel(forest, max_features=6, threshold=-float("inf")),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8_000, help="rows of the made data")
    parser.add_argument(
        "--evaluations", type=int, default=80, help="subsets that each search may score"
    )
    args = parser.parse_args()
    X, y, truth = clicks(args.rows)
    n = int(0.75 * len(X))
    model = make_pipeline(
        OneHotEncoder(handle_unknown="ignore"), LogisticRegression(C=0.3, solver="newton-cg")
    )

    def line(name, kept, n_scored, seconds):
        p = clone(model).fit(X[kept][:n], y[:n]).predict_proba(X[kept][n:])[:, 1]
        return {
            "selection": name,
            "columns": len(kept),
            "right": len(set(kept) & set(truth)),
            "scored": n_scored,
            "seconds": seconds,
            "AUC": roc_auc_score(y[n:], p),
            "log loss": log_loss(y[n:], p),
        }

    lines = [line("all columns", COLUMNS, 0, 0.0), line("the right ones", truth, 0, 0.0)]
    for name, selector in selectors(model, args.evaluations).items():
        start = time.perf_counter()
        selector.fit(X[:n], y[:n])
        seconds = time.perf_counter() - start
        kept = selector.get_feature_names_out().tolist()
        lines.append(line(name, kept, getattr(selector, "n_evaluations_", 0), seconds))
        print(f"{name}: {', '.join(kept)}")
    table = pd.DataFrame(lines).set_index("selection")
    print(
        "\n"
        + table.to_string(float_format="{:.4f}".format, formatters={"seconds": "{:.1f}".format})
    )


if __name__ == "__main__":
    main()
