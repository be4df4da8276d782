"""Let scikit-learn choose: which network, and which search method for it, if any.

    python examples/choose_papers.py
    python examples/choose_papers.py --rows 2000 --epochs 2 --jobs 1

All candidates train for a few epochs, the better half of them for twice as many, and so on. Prints
a line for each candidate of each round, and how the winner does on rows that no candidate has seen.
"""

import argparse
import time

import pandas as pd
import torch
from joblib import parallel_config
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import HalvingRandomSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import RobustScaler

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.networks import FM, DeepFM

CANDIDATES = {
    "ctr__network": [FM(), DeepFM(hidden_units=(32, 32))],
    "ctr__search": [None, AutoFIS(), PEP(target_sparsity=0.5), AutoDim(), [AutoDim(), AutoFIS()]],
}


def pipeline():
    """A scikit-learn step for the numbers, then the network; ``search`` and ``network`` are filled
    in by the search.
    """
    numbers = make_column_selector(dtype_include="floating")
    prepare = ColumnTransformer(
        [("numbers", RobustScaler(), numbers)],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    ctr = CTRClassifier(embedding_dim=8, lr=0.005, embedding_l2=0.003, random_state=0)
    return Pipeline([("prepare", prepare.set_output(transform="pandas")), ("ctr", ctr)])


def name(method):
    methods = method if isinstance(method, list) else [method]
    return " + ".join("-" if m is None else type(m).__name__ for m in methods)


def table(search):
    """One row per candidate and round: the last rounds first, the best of each on top."""
    found = pd.DataFrame(search.cv_results_)
    return pd.DataFrame(
        {
            "epochs": found["n_resources"],
            "network": [type(n).__name__ for n in found["param_ctr__network"]],
            "search": [name(m) for m in found["param_ctr__search"]],
            "mean AUC": found["mean_test_score"],
            "fit seconds": found["mean_fit_time"],
        }
    ).sort_values(["epochs", "mean AUC"], ascending=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8_000, help="rows of the made data")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of the last round")
    parser.add_argument("--jobs", type=int, default=2, help="candidates that train side by side")
    args = parser.parse_args()
    X, y, truth = make_ctr(
        args.rows,
        n_fields=8,
        cardinality=12,
        pairs=4,
        informative_fields=3,
        n_numeric=1,
        random_state=0,
    )
    n = int(0.8 * len(X))
    search = HalvingRandomSearchCV(
        pipeline(),
        CANDIDATES,
        n_candidates=10,  # all of them
        resource="ctr__max_epochs",
        min_resources=max(args.epochs // 4, 1),
        max_resources=args.epochs,
        factor=2,
        cv=StratifiedKFold(3, shuffle=True, random_state=0),
        scoring="roc_auc",
        random_state=0,
        n_jobs=args.jobs,
        error_score="raise",
    )
    start = time.perf_counter()
    # Of this process, which refits the winner; the next line is for the workers.
    torch.set_num_threads(1)
    with parallel_config(backend="loky", inner_max_num_threads=1):
        search.fit(X[:n], y[:n])
    print(table(search).to_string(index=False, float_format="{:.3f}".format))

    best = search.best_estimator_
    ctr = best[-1]
    auc = roc_auc_score(y[n:], best.predict_proba(X[n:])[:, 1])
    print(
        f"\nbest: {type(ctr.network).__name__}, search {name(ctr.search)}, after "
        f"{time.perf_counter() - start:.0f} s"
    )
    print(
        f"  test AUC {auc:.3f} (best possible {roc_auc_score(y[n:], truth.probabilities[n:]):.3f})"
    )
    print(
        f"  refitted in {search.refit_time_:.1f} s, {ctr.nbytes_['total']:,} bytes, of which "
        f"embeddings {ctr.nbytes_['embedding']:,}"
    )


if __name__ == "__main__":
    main()
