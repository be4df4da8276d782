"""GLIDER and AEFE beside AutoCross, random and no crosses in front of logistic regression: AUC,
log loss, processor seconds.

    python examples/benchmarks/bench_crosses_of_models.py --data-home DIR [--data planted adult \\
        criteo_sample] [--seeds 3] [--crosses 10]

"planted" is made: five of 66 pairs matter. Rows are cut as in bench_crossing.py. All crosses are
pairs, and all models see the same one-hot columns (ten bins of numeric columns, no scales), so
that only the choice of pairs differs; the validation rows choose C. "AEFE: features" has the
statistics that its three stages select, standardised, instead of crosses.
"""

import itertools
import time

import numpy as np
from _common import parser, scores, tables_of, tenth_held_out
from bench_crossing import FETCH, Linear
from bench_crossing import load as load_public
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser

PLANTED = [(2, 3), (4, 5), (6, 7), (8, 9), (3, 6)]
SIZES = {"n_fields": 12, "cardinality": 12, "informative_fields": 3, "base_rate": 0.3}


def load(name, data_home):
    """Rows for training, labels, test rows, labels, numeric columns."""
    if name != "planted":
        return load_public(name, data_home)
    X, y, _ = make_ctr(40_000, pairs=PLANTED, random_state=0, **SIZES)
    return X[:30_000], y[:30_000], X[30_000:], y[30_000:], []


def trees(categorical, seed):
    """Boosting, with categories (of 250 most frequent values and the others) as such."""
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=250,
    )
    columns = make_column_transformer(
        (codes, categorical), remainder="passthrough", verbose_feature_names_out=False
    )
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=150,
        max_leaf_nodes=15,
        categorical_features=list(range(len(categorical))),
        random_state=seed,
    )
    return make_pipeline(columns, boosting)


def network(seed):
    return CTRClassifier(
        network="deepfm",
        lr=0.003,
        max_epochs=10,
        early_stopping=True,
        random_state=seed,
        device="cpu",
    )


def random_pairs(names, n, seed):
    every = list(itertools.combinations(names, 2))
    return [every[k] for k in np.random.default_rng(seed).permutation(len(every))[:n]]


def methods(X, y, categorical, n, seed):
    """By name, functions that return columns for the logistic regression and the number of crosses
    or features.
    """

    def crossed(crosses):
        return FieldCrosser([tuple(cross) for cross in crosses], output="onehot"), len(crosses)

    def autocross(**options):
        found = AutoCross(max_crosses=n, max_order=2, n_bins=10, random_state=seed, **options).fit(
            X, y
        )
        return crossed(found.crosses_)

    def glider(model):
        return crossed(GLIDER(model, max_crosses=n, random_state=seed).fit(X, y).crosses_)

    def features():
        # Searched here to count them and to be timed; fitted once more with the model, since
        # training rows need their own means.
        aefe = AEFE(
            append=False, paradigms=("count", "nunique", "ratio", "target"), random_state=seed
        )
        count = len(aefe.fit(X, y).features_)
        if not count:
            return crossed([])
        return FeatureUnion(
            [("single", crossed([])[0]), ("pairs", make_pipeline(aefe, StandardScaler()))]
        ), count

    return {
        "no crosses": lambda: crossed([]),
        "random pairs": lambda: crossed(random_pairs(list(X), n, seed)),
        "AutoCross": autocross,
        "AutoCross(min_gain=0)": lambda: autocross(min_gain=0.0),
        "GLIDER of boosting": lambda: glider(trees(categorical, seed)),
        "GLIDER of a DeepFM": lambda: glider(network(seed)),
        "AEFE: strongest pairs": lambda: crossed(
            AEFE(max_features=0, random_state=seed).fit(X, y).pairs_[:n]
        ),
        "AEFE: features": features,
    }


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--data", nargs="+", choices=["planted", *FETCH], default=["planted", *FETCH])
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--crosses", type=int, default=10)
    args = p.parse_args()
    for _, X, y, X_test, y_test, numeric in tables_of(args, load):
        categorical = [c for c in X if c not in numeric]
        results, chosen = {}, []
        for seed in range(args.seeds):
            Z, Z_valid, t, t_valid = tenth_held_out(X, y, seed)
            for method, make in methods(Z, t, categorical, args.crosses, seed).items():
                start = time.process_time()
                columns, count = make()
                search = time.process_time() - start
                model = Linear(columns).fit(Z, t, Z_valid, t_valid)
                fit = time.process_time() - start - search
                found = scores(y_test, model.predict_proba(X_test)[:, 1])
                results.setdefault(method, []).append((*found, search, fit, count))
                if isinstance(columns, FieldCrosser):
                    chosen.append(
                        f"{method}, seed {seed}: {', '.join(map(' x '.join, columns.crosses))}"
                    )
        print(
            f"{'':24s}{'AUC':>16s}{'log loss':>18s}{'search CPU s':>14s}{'fit CPU s':>11s}"
            f"{'crosses':>9s}"
        )
        for method, found in results.items():
            mean, std = np.mean(found, axis=0), np.std(found, axis=0)
            counts = sorted({int(row[4]) for row in found})
            print(
                f"{method:24s}{mean[0]:8.4f} +- {std[0]:.4f}{mean[1]:10.4f} +- "
                f"{std[1]:.4f}{mean[2]:14.1f}{mean[3]:11.1f}"
                f"{'-'.join(str(c) for c in dict.fromkeys((counts[0], counts[-1]))):>9s}"
            )
        print("\n".join(chosen), flush=True)


if __name__ == "__main__":
    main()
