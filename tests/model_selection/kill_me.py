"""Runs a small search for each line of input, in a forked process of its own; tests kill these.

A line holds the folder of the checkpoint, the file for the result and what to run: "warm" or "cold"
with curves that are known, "own-warm", "own-cold" or "own-population" with estimators of this
package. The answer is the process id."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
from known_curves import Troubled, columns
from scipy.stats import loguniform, uniform
from sklearn.model_selection import ShuffleSplit

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.model_selection import HyperbandSearchCV, PopulationSearchCV


def search(checkpoint, warm, seconds=0.004):
    """22 rows of two splits, about a second with its files."""
    rng = np.random.RandomState(0)
    X, y = rng.normal(size=(60, 3)), np.tile([0, 1], 30)
    return HyperbandSearchCV(
        Troubled(seconds=seconds),
        {"a": uniform(0.2, 0.8), "b": loguniform(0.01, 2)},
        resource="epochs",
        max_resources=9,
        cv=ShuffleSplit(2),  # without seed: what was drawn must survive
        warm=warm,
        checkpoint=checkpoint,
    ).fit(X, y)


def own_search(checkpoint, how):
    """Searches of the package's own estimators, with networks of a few hundred weights."""
    X, y, _ = make_ctr(200, n_fields=3, cardinality=5, pairs=1, random_state=0)
    model = CTRClassifier(network="fm", embedding_dim=2, max_epochs=1, device="cpu", random_state=0)
    space, cv = {"lr": loguniform(1e-3, 1e-1), "embedding_dim": [1, 2, 3]}, ShuffleSplit(2)
    if how == "own-population":
        return PopulationSearchCV(
            model,
            {"lr": space["lr"]},
            resource="max_epochs",
            population=3,
            n_steps=4,
            refit=False,
            cv=cv,
            probe_rows=0,
            checkpoint=checkpoint,
        ).fit(X, y)
    return HyperbandSearchCV(
        model,
        space,
        resource="max_epochs",
        max_resources=3,
        cv=cv,
        refit=False,
        warm=how == "own-warm",
        checkpoint=checkpoint,
    ).fit(X, y)


def run(checkpoint, how, seconds=0.004):
    if how.startswith("own"):
        return own_search(checkpoint, how)
    return search(checkpoint, how == "warm", seconds)


def main():
    for line in sys.stdin:
        checkpoint, result, how = line.split()
        process = os.fork()
        if process == 0:
            found = columns(run(checkpoint, how))
            temporary = Path(result + ".part")
            temporary.write_bytes(pickle.dumps(found))
            temporary.rename(result)
            os._exit(0)
        print(process, flush=True)
        os.waitpid(process, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main()
