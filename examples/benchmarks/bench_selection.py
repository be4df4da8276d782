"""Which columns to keep: gate searches beside sensitivities and random choices at equal numbers of
columns.

    python examples/benchmarks/bench_selection.py --data-home DIR [--seeds 3] [--parts frappe \\
        values ml1m drop] [--network fm] [--ks 2 4 6 8]

"frappe" trains one network per number of columns on the best of every ranking, early stopping on
the published validation rows, AUC of the test rows. Its area is that of AUC - 0.5 over k, divided
by the one of all columns at every k. Rankings are made of training rows alone; sensitivities, of a
network trained on them. "ml1m" has the rows, label and network of the ERASE comparison (rating
above 3, shuffled 70/20/10, DeepFM 16-16 on embeddings of 8), but for the time of rating, which
this file does not have: ``--moments`` adds a category in its place that two successive ratings of
a user share. "drop" leaves out one of its columns at a time. "values" is OptFS at several
penalties on ``--rows`` rows of Frappe beside a cut by frequency that keeps as many values: the
same FM, the others sharing one value.
"""

import time

import numpy as np
import torch
from _common import frappe, parser, print_machine, scores
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from sklearn_autorec import CTRClassifier, feature_selection
from sklearn_autorec.datasets import fetch_movielens_1m
from sklearn_autorec.feature_selection import LPFS, AdaFS, AutoField, FieldSelector, OptFS
from sklearn_autorec.networks import DeepFM

GATES = {
    "AutoField": AutoField(),
    "AdaFS": AdaFS(),
    "LPFS": LPFS(plus=False),
    "LPFS++": LPFS(),
    "OptFS": OptFS(),
}
# AdaFS weighs rows, OptFS chooses values: nobody ranks columns by them.
RANKING_GATES = ("AutoField", "LPFS", "LPFS++")
PENALTIES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)  # of OptFS
SENSITIVITIES = ("shark", "sfs")
COMMON = {"batch_size": 4096, "device": "cpu"}
SHALLOW = {
    "embedding_dim": 10,
    "embedding_l2": 1e-4,
    "lr": 0.01,
    "max_epochs": 12,
    "patience": 2,
    "monitor": "auc",
}
DEEP = {
    "embedding_dim": 10,
    "embedding_l2": 0.05,
    "embedding_init": 1e-4,
    "max_epochs": 20,
    "patience": 3,
    "monitor": "auc",
}
ERASE = {
    "network": DeepFM((16, 16)),
    "embedding_dim": 8,
    "max_epochs": 6,
    "patience": 1,
    "monitor": "auc",
}


def area(ks, auc, whole):
    """Trapezoids of AUC - 0.5 over k, divided by those of all columns at every k."""
    return np.trapezoid(np.array(auc) - 0.5, ks) / ((whole - 0.5) * (ks[-1] - ks[0]))


def rankings(seed, X, y, network, options, search_epochs):
    """Column numbers, best first, and seconds, by method."""
    found = {}

    def add(name, score):
        start = time.perf_counter()
        found[name] = np.argsort(-score(), kind="stable"), time.perf_counter() - start

    searcher = CTRClassifier(**{**COMMON, **options, "max_epochs": search_epochs})
    for name in RANKING_GATES:
        method = GATES[name]
        select = FieldSelector(method, network, estimator=searcher, random_state=seed)
        add(name, lambda s=select: s.fit(X, y).scores_)
    if hasattr(feature_selection, "SensitivitySelector"):
        for name in SENSITIVITIES:

            def sensitivity(name=name):
                model = CTRClassifier(
                    network=network,
                    random_state=seed,
                    **{**COMMON, **options},
                    early_stopping=False,
                )
                model.set_params(max_epochs=search_epochs).fit(X, y)
                selector = feature_selection.SensitivitySelector(
                    FrozenEstimator(model), method=name
                )
                selector.set_params(n_features_to_select=1)
                return selector.fit(X, y).scores_

            add(name, sensitivity)
    else:
        print("# no SensitivitySelector in this version")
    for draw in range(3):
        add(
            f"random {draw}",
            lambda d=draw: np.random.default_rng([seed, d]).normal(size=X.shape[1]),
        )
    return found


def run_frappe(args):
    data = frappe(args.data_home)
    (X, y), (X_val, y_val), (X_test, y_test) = data["train"], data["valid"], data["test"]
    n, options = X.shape[1], SHALLOW if args.network == "fm" else DEEP
    ks, curves, seconds, wholes = np.array(args.ks or range(1, n)), {}, {}, []
    for seed in range(args.seeds):
        known = {}

        def auc_of(columns, seed=seed, known=known):
            key = tuple(sorted(int(c) for c in columns))
            if key not in known:
                own = X.columns[list(key)]
                model = CTRClassifier(network=args.network, random_state=seed, **COMMON, **options)
                model.fit(X[own], y, X_val=X_val[own], y_val=y_val)
                known[key] = scores(y_test, model.predict_proba(X_test[own])[:, 1])[0]
            return known[key]

        wholes.append(auc_of(range(n)))
        for name, (order, took) in rankings(
            seed, X, y, args.network, options, args.search_epochs
        ).items():
            curves.setdefault(name.split(" ")[0], []).append([auc_of(order[:k]) for k in ks])
            seconds.setdefault(name.split(" ")[0], []).append(took)
            print(f"# seed {seed} {name:10s} {', '.join(X.columns[order])}", flush=True)
    whole = np.mean(wholes)
    print(
        f"Frappe, {args.network}, {args.seeds} seeds, all {n} columns: test AUC {whole:.4f} +- "
        f"{np.std(wholes):.4f}"
    )
    print(f"{'':10s} {'area':>15s} seconds  " + " ".join(f"k={k:<4d}" for k in ks))
    for name, curve in sorted(curves.items(), key=lambda c: -area(ks, np.mean(c[1], 0), whole)):
        areas = [area(ks, c, whole) for c in curve]
        means = " ".join(f"{v:.4f}" for v in np.mean(curve, 0))
        print(
            f"{name:10s} {np.mean(areas):.4f} +- {np.std(areas):.4f} "
            f"{np.mean(seconds[name]):6.1f}   {means}"
        )


def run_values(args):
    data = frappe(args.data_home)
    results = {}
    for seed in range(args.seeds):
        parts = {}
        for part, n in (("train", args.rows), ("valid", args.rows // 4), ("test", args.rows // 2)):
            X, y = data[part]
            rows = np.random.default_rng(seed).choice(len(X), min(n, len(X)), replace=False)
            parts[part] = X.iloc[rows].reset_index(drop=True).astype(str), np.asarray(y)[rows]
        (X, y), (X_val, y_val), (X_test, y_test) = parts.values()
        counts = [(column, *pair) for column in X for pair in X[column].value_counts().items()]
        counts.sort(key=lambda c: -c[2])
        options = {**COMMON, **SHALLOW, "batch_size": 1024, "network": "fm", "random_state": seed}

        def fit_and_score(
            X,
            X_val,
            X_test,
            seed=seed,
            options=options,
            y=y,
            y_val=y_val,
            y_test=y_test,
            search=None,
        ):
            model = CTRClassifier(search=search, search_epochs=12, **options).fit(
                X, y, X_val=X_val, y_val=y_val
            )
            return model, scores(y_test, model.predict_proba(X_test)[:, 1])

        for penalty in PENALTIES:
            model, gated = fit_and_score(X, X_val, X_test, search=OptFS(penalty))
            kept = {column: set(values) for column, values in model.selected_values_.items()}
            n_kept = sum(map(len, kept.values()))
            stayed = np.mean(
                [value in kept.get(column, ()) for column, value, count in counts if count >= 100]
            )
            frequent = {column: set() for column in X}
            for column, value, _ in counts[:n_kept]:
                frequent[column].add(value)
            tables = [
                t.apply(lambda c, f=frequent: c.where(c.isin(f[c.name]), "other"))
                for t in (X, X_val, X_test)
            ]
            _, cut = fit_and_score(*tables)
            results.setdefault(penalty, []).append((n_kept, stayed, *gated, *cut))
            print(
                f"# seed {seed} penalty {penalty}: {n_kept} kept, {gated[0]:.4f}, cut {cut[0]:.4f}",
                flush=True,
            )
    print(
        f"Frappe, {args.rows} rows, {len(counts)} values, FM, {args.seeds} seeds: test AUC / log "
        f"loss"
    )
    print("penalty  kept   of 100 rows or more   OptFS                      most frequent")
    for penalty, rows in results.items():
        kept, stayed, auc, loss, cut_auc, cut_loss = np.mean(rows, 0)
        _, _, spread, _, cut_spread, _ = np.std(rows, 0)
        print(
            f"{penalty:<8} {kept:5.0f}  {stayed:.3f}                 {auc:.4f} +- {spread:.4f} / "
            f"{loss:.4f}"
            f"   {cut_auc:.4f} +- {cut_spread:.4f} / {cut_loss:.4f}"
        )


def erase_split(args, seed):
    """Train, valid and test of ML-1M, by pairs of table and label."""
    X, y = fetch_movielens_1m(subset="all", data_home=args.data_home, return_X_y=True)
    if args.moments:
        X["moment"] = X["user"].astype(str) + "." + (X["pos_in_user"] // 2).astype(str)
    X = X.drop(columns="pos_in_user").astype({"year": str})
    X, X_rest, y, y_rest = train_test_split(X, y, train_size=0.7, random_state=seed)
    X_val, X_test, y_val, y_test = train_test_split(
        X_rest, y_rest, train_size=2 / 3, random_state=seed
    )
    return (X, y), (X_val, y_val), (X_test, y_test)


def run_ml1m(args, drop=False):
    results = {}
    for seed in range(args.seeds):
        (X, y), (X_val, y_val), (X_test, y_test) = erase_split(args, seed)
        runs = {f"without {c}": (None, [o for o in X if o != c]) for c in X} if drop else {}
        runs = {
            "none": (None, [*X]),
            **(runs or {name: (method, [*X]) for name, method in GATES.items()}),
        }
        for name, (search, columns) in runs.items():
            start = time.perf_counter()
            model = CTRClassifier(
                search=search,
                search_epochs=args.search_epochs,
                random_state=seed,
                **COMMON,
                **ERASE,
            )
            model.fit(X[columns], y, X_val=X_val[columns], y_val=y_val)
            took = time.perf_counter() - start
            kept = getattr(model, "selected_fields_", columns)
            p = model.predict_proba(X_test[columns])[:, 1]
            results.setdefault(name, []).append((*scores(y_test, p), len(kept), took))
            print(
                f"# seed {seed} {name:16s} {results[name][-1][0]:.5f} kept {', '.join(kept)}",
                flush=True,
            )
    print(f"ML-1M, DeepFM, {args.seeds} seeds: test AUC, log loss, columns, seconds")
    for name, rows in results.items():
        (auc, loss, kept, took), spread = np.mean(rows, 0), np.std(rows, 0)
        print(f"{name:16s} {auc:.5f} +- {spread[0]:.5f}  {loss:.5f}  {kept:.1f}  {took:.0f} s")


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument(
        "--parts",
        nargs="*",
        default=["frappe", "ml1m"],
        choices=["frappe", "values", "ml1m", "drop"],
    )
    p.add_argument("--network", default="fm", help="of the Frappe part")
    p.add_argument("--ks", type=int, nargs="*", help="numbers of columns (default: all)")
    p.add_argument("--search-epochs", type=int, default=8)
    p.add_argument(
        "--moments", action="store_true", help="ml1m: add a column like the time of rating"
    )
    p.add_argument("--rows", type=int, default=40_000, help="training rows of the values part")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    print_machine()
    for part in args.parts:
        start = time.perf_counter()
        if part == "frappe":
            run_frappe(args)
        elif part == "values":
            run_values(args)
        else:
            run_ml1m(args, drop=part == "drop")
        print(f"# {part}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
