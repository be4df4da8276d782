"""Searches for columns at an equal number of evaluations: FSTD, the MARLFS family, DualAgent,
against random subsets and forward selection.

    python examples/benchmarks/bench_selection_agents.py [--data make_ctr adult] [--evaluations \\
        100] [--seeds 5] [--data-home DIR]

A decision tree scores subsets by its AUC in three folds of the training rows; it is then fitted on
the kept columns of all of them and scored once on test rows that no search has seen. make_ctr:
2,000 rows of 20 columns, of which four matter alone and two pairs together, 20,000 test rows, new
data for each seed. Adult: 5,000 rows of the published training rows, drawn anew for each seed, 14
columns and six of noise (shuffled copies of columns), the published test rows. CPU seconds are
those of ``fit``, one thread.
"""

import time

import numpy as np
from _common import parser, print_machine
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier

from sklearn_autorec.datasets import CTRProblem, fetch_adult
from sklearn_autorec.feature_selection import (
    FSTD,
    MARLFS,
    DualAgent,
    RandomSubset,
    SensitivitySelector,
)

MAINS, PAIRS = [0, 1, 2, 3], [(4, 5), (6, 7)]
TREE = DecisionTreeClassifier(min_samples_leaf=20, random_state=0)


def made(seed, _):
    """Train and test of made clicks, and which columns matter."""
    problem = CTRProblem(
        n_fields=20,
        cardinality=5,
        zipf=0,
        informative_fields=MAINS,
        pairs=PAIRS,
        rank=1,
        main_effect=0.7,
        pair_effect=1.0,
        ids="int",
        random_state=seed,
    )
    parts = [problem.sample(n, random_state=seed + n) for n in (2000, 20_000)]
    return *[(X.to_numpy(), y) for X, y, _ in parts], np.arange(20) < 8


def adult(seed, data_home):
    """Train and test of Adult in codes, and which columns are not noise."""
    rng = np.random.default_rng(seed)
    (X, y), (X_test, y_test) = (
        fetch_adult(subset=s, data_home=data_home, return_X_y=True) for s in ("train", "test")
    )
    rows = rng.choice(len(y), 5000, replace=False)
    X, y = X.iloc[rows], np.asarray(y)[rows]
    texts = X.select_dtypes(exclude="number").columns
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    codes = codes.set_output(transform="pandas").fit(X[texts])
    tables = [
        table.drop(columns=texts).join(codes.transform(table[texts])).to_numpy(float)
        for table in (X, X_test)
    ]
    copied = rng.choice(tables[0].shape[1], 6, replace=False)
    tables = [np.hstack([table, rng.permuted(table[:, copied], axis=0)]) for table in tables]
    return (
        (tables[0], y),
        (tables[1], np.asarray(y_test)),
        np.arange(tables[0].shape[1]) < X.shape[1],
    )


def searches(n_evaluations, seed):
    """Name and selector of every line."""
    options = {"scoring": "roc_auc", "max_evaluations": n_evaluations, "random_state": seed}
    agents = {
        "MARLFS": {},
        "MARLFS, state='graph'": {"state": "graph"},
        "MARLFS, state='autoencoder'": {"state": "autoencoder"},
        "MARLFS, credit='participants'": {"credit": "participants"},
        "MARLFS, advisor='hybrid'": {"advisor": "hybrid"},
        "MARLFS, n_groups=10": {"n_groups": 10},
        "MARLFS, scan=True": {"scan": True},
    }
    yield "RandomSubset", RandomSubset(TREE, **options)
    yield "FSTD", FSTD(TREE, **options)
    for name, more in agents.items():
        yield name, MARLFS(TREE, **options, **more)
    yield "DualAgent", DualAgent(TREE, **options)
    yield "SensitivitySelector, forward", SensitivitySelector(TREE, method="forward", **options)
    yield (
        "SensitivitySelector, permutation",
        SensitivitySelector(TREE, method="permutation", **options),
    )
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=seed)
    yield "SelectFromModel(forest)", SelectFromModel(forest)


def test_auc(train, test, columns, rows=slice(None)):
    """AUC on the test rows of a tree that has seen some columns, and some rows, of the training
    part.
    """
    model = TREE.fit(train[0][rows][:, columns], train[1][rows])
    return roc_auc_score(test[1], model.predict_proba(test[0][:, columns])[:, 1])


def measure(load, args):
    """Figures of every line, (n_seeds, 6) each."""
    figures: dict[str, list] = {}
    for seed in range(args.seeds):
        train, test, useful = load(seed, args.data_home)
        everything = np.ones(len(useful), bool)
        row = (np.nan, test_auc(train, test, everything), len(useful), useful.sum(), 0, 0.0)
        figures.setdefault("all columns", []).append(row)
        for name, selector in searches(args.evaluations, seed):
            cpu = time.process_time()
            selector.fit(*train)
            cpu = time.process_time() - cpu
            kept = selector.get_support()
            rows = getattr(selector, "sample_support_", slice(None))
            auc = test_auc(train, test, kept, rows)
            score, n = (getattr(selector, a, np.nan) for a in ("best_score_", "n_evaluations_"))
            figures.setdefault(name, []).append(
                (score, auc, kept.sum(), kept[useful].sum(), n, cpu)
            )
    return {name: np.array(rows, float) for name, rows in figures.items()}


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument(
        "--data", nargs="*", choices=["make_ctr", "adult"], default=["make_ctr", "adult"]
    )
    p.add_argument("--evaluations", type=int, default=100)
    p.add_argument("--seeds", type=int, default=5)
    args = p.parse_args()
    print_machine()
    for name in args.data:
        figures = measure({"make_ctr": made, "adult": adult}[name], args)
        random = figures["RandomSubset"][:, 1]
        print(
            f"\n{name:<34}{'best score':>11}{'test AUC':>17}{'better':>8}{'columns':>9}"
            f"{'useful':>8}{'scored':>8}{'CPU s':>7}"
        )
        for line, found in figures.items():
            score, auc, n, right, scored, cpu = found.mean(0)
            spread, wins = found[:, 1].std(), f"{(found[:, 1] > random).sum()}/{len(found)}"
            print(
                f"{line:<34}{score:>11.4f}{f'{auc:.4f} +- {spread:.4f}':>17}{wins:>8}{n:>9.1f}"
                f"{right:>8.1f}{scored:>8.0f}{cpu:>7.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
