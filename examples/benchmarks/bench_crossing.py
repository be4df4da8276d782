"""Crosses in front of logistic regression, on Adult and the Criteo sample: AUC and log loss of the
test rows, seconds.

    python examples/benchmarks/bench_crossing.py --data-home DIR [--data adult criteo_sample] \\
        [--seeds 3]

Each seed cuts the published training and validation rows anew (9 to 1); the published test rows
stay. The validation rows choose C of the logistic regressions without scales, and stop the
boosting; the other rows train. "products" are PolynomialFeatures of the one-hot columns, of which
chi2 keeps as many as the crosses of AutoCross(min_gain=0) have columns. Without lightgbm (``pip
install lightgbm``) scikit-learn's HistGradientBoostingClassifier takes its place.
"""

import time

import numpy as np
import pandas as pd
from _common import parser, scores, tables_of, tenth_held_out
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)

from sklearn_autorec.datasets import fetch_adult, fetch_criteo_sample
from sklearn_autorec.feature_crossing import AutoCross
from sklearn_autorec.preprocessing import FieldEncoder

FETCH = {"adult": fetch_adult, "criteo_sample": fetch_criteo_sample}
# Of a category in the one-hot columns whose products are taken.
MIN_ROWS = {"adult": 5, "criteo_sample": 50}


def load(name, data_home):
    """Rows for training, labels, test rows, labels, numeric columns; these as floats, with missing
    values.
    """
    parts = [FETCH[name](subset=s, data_home=data_home) for s in ("train", "valid", "test")]
    numeric = [c for c in parts[0].data if c not in parts[0].categorical_features]
    X = pd.concat([part.data for part in parts[:2]], ignore_index=True).astype(
        dict.fromkeys(numeric, "float64")
    )
    y = np.concatenate([part.target for part in parts[:2]])
    return X, y, parts[2].data.astype(dict.fromkeys(numeric, "float64")), parts[2].target, numeric


class Linear:
    """Columns from a transformer, then logistic regression with the C that the validation rows
    prefer.
    """

    def __init__(self, columns, grid=(0.01, 0.03, 0.1, 0.3, 1.0)):
        self.columns, self.grid = columns, grid

    def fit(self, X, y, X_valid, y_valid):
        Z = self.columns.fit_transform(X, y)
        Z_valid = self.columns.transform(X_valid) if len(self.grid) > 1 else None
        best = np.inf
        for C in self.grid:
            model = LogisticRegression(C=C, solver="newton-cg", max_iter=1000).fit(Z, y)
            loss = (
                scores(y_valid, model.predict_proba(Z_valid)[:, 1])[1]
                if len(self.grid) > 1
                else 0.0
            )
            if loss < best:
                self.model, best = model, loss
        return self

    def predict_proba(self, X):
        return self.model.predict_proba(self.columns.transform(X))


class Boosting:
    """LightGBM with native categories and early stopping, or scikit-learn's boosting."""

    def __init__(self, numeric, seed):
        self.numeric, self.seed = numeric, seed

    def _table(self, X):
        X = X.copy()
        for name, categories in self.categories.items():
            X[name] = (
                X[name].where(X[name].isin(categories)).astype(pd.CategoricalDtype(categories))
            )
        return X

    def fit(self, X, y, X_valid, y_valid):
        # HistGradientBoosting takes 255 categories at most.
        self.categories = {c: X[c].value_counts().index[:250] for c in X if c not in self.numeric}
        Z, Z_valid = self._table(X), self._table(X_valid)
        try:
            import lightgbm
        except ImportError:
            self.model = HistGradientBoostingClassifier(
                learning_rate=0.03,
                max_iter=2000,
                max_leaf_nodes=15,
                early_stopping=True,
                n_iter_no_change=50,
                random_state=self.seed,
            ).fit(Z, y, X_val=Z_valid, y_val=y_valid)
            return self
        options = {
            "objective": "binary",
            "learning_rate": 0.03,
            "num_leaves": 15,
            "feature_fraction": 0.8,
            "seed": self.seed,
            "num_threads": 1,
            "verbose": -1,
        }
        train = lightgbm.Dataset(Z, y)
        stop = lightgbm.early_stopping(50, verbose=False)
        valid = lightgbm.Dataset(Z_valid, y_valid, reference=train)
        self.model = lightgbm.train(options, train, 2000, valid_sets=[valid], callbacks=[stop])
        return self

    def predict_proba(self, X):
        if isinstance(self.model, HistGradientBoostingClassifier):
            return self.model.predict_proba(self._table(X))
        p = self.model.predict(self._table(X))
        return np.column_stack([1 - p, p])


def products(min_rows, n_columns, options):
    """Indicators of frequent categories and bins, and some of their products."""
    encoder = FieldEncoder(min_frequency=min_rows, n_quantiles=1000)
    single = AutoCross(max_crosses=0, scale=False, encoder=encoder, **options)
    pairs = make_pipeline(
        PolynomialFeatures(2, interaction_only=True, include_bias=False),
        SelectKBest(chi2, k=n_columns),
    )
    return make_pipeline(
        single, FeatureUnion([("single", FunctionTransformer()), ("pairs", pairs)])
    )


def models(name, numeric, categorical, seed, n_columns):
    """Models by name; ``n_columns`` is what the crosses of AutoCross had."""
    plain = ColumnTransformer(
        [
            ("categories", OneHotEncoder(handle_unknown="ignore"), categorical),
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numeric),
        ]
    )
    options = {"output": "onehot", "random_state": seed}
    return {
        "LR: one-hot, scaled numbers": lambda: Linear(plain),
        "LR: bins of AutoCross": lambda: Linear(AutoCross(max_crosses=0, scale=False, **options)),
        "LR: bins and scales": lambda: Linear(AutoCross(max_crosses=0, **options), [1.0]),
        "AutoCross + LR": lambda: Linear(AutoCross(**options), [1.0]),
        "AutoCross(min_gain=0) + LR": lambda: Linear(AutoCross(min_gain=0.0, **options), [1.0]),
        "products + LR": lambda: Linear(products(MIN_ROWS[name], max(n_columns[0], 1), options)),
        "boosting": lambda: Boosting(numeric, seed),
    }


def main():
    p = parser(__doc__.splitlines()[0])
    p.add_argument("--data", nargs="+", choices=[*FETCH], default=[*FETCH])
    p.add_argument("--seeds", type=int, default=3)
    args = p.parse_args()
    for name, X, y, X_test, y_test, numeric in tables_of(args, load):
        categorical = [c for c in X if c not in numeric]
        results, crosses = {}, []
        for seed in range(args.seeds):
            Z, Z_valid, t, t_valid = tenth_held_out(X, y, seed)
            n_columns = [0]
            for model_name, make in models(name, numeric, categorical, seed, n_columns).items():
                wall, cpu = time.perf_counter(), time.process_time()
                model = make().fit(Z, t, Z_valid, t_valid)
                fit = time.process_time() - cpu, time.perf_counter() - wall
                found = scores(y_test, model.predict_proba(X_test)[:, 1])
                results.setdefault(model_name, []).append((*found, *fit))
                if model_name.startswith("AutoCross"):
                    crosser = model.columns.crosser_
                    n_columns[0] = sum(crosser.n_ids_)
                    crosses.append(
                        f"{model_name}, seed {seed}: {', '.join(map(' x '.join, crosser.crosses_))}"
                    )
        print(f"{'':30s}{'AUC':>16s}{'log loss':>18s}{'CPU s':>8s}{'wall s':>8s}")
        for model_name, found in results.items():
            mean, std = np.mean(found, axis=0), np.std(found, axis=0)
            print(
                f"{model_name:30s}{mean[0]:8.4f} +- {std[0]:.4f}{mean[1]:10.4f} +- "
                f"{std[1]:.4f}{mean[2]:8.1f}{mean[3]:8.1f}"
            )
        print("\n".join(crosses), flush=True)


if __name__ == "__main__":
    main()
