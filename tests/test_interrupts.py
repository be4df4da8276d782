"""Ctrl-C at random moments of fits, chunks and searches: what is left is usable, or not fitted."""

import os
import signal
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP
from sklearn_autorec.interaction import AutoFeature, AutoFIS
from sklearn_autorec.model_selection import HyperbandSearchCV

X, Y, _ = make_ctr(3000, n_fields=3, pairs=1, random_state=0)
OPTIONS = {"network": "fm", "max_epochs": 4, "random_state": 0, "device": "cpu", "batch_size": 64}
TIMES = 20


def model(**changes):
    return CTRClassifier(**{**OPTIONS, **changes})


def search():
    space = {"lr": [1e-3, 1e-2], "embedding_dim": [2, 4, 8]}
    return HyperbandSearchCV(model(), space, max_resources=4, eta=2, cv=2, random_state=0)


WORK = {
    "fit": (lambda: model(), lambda m: m.fit(X, Y)),
    "refit": (lambda: model().fit(X, 1 - Y), lambda m: m.fit(X, Y)),
    "partial_fit": (
        lambda: model(),
        lambda m: [m.partial_fit(X[k::5], Y[k::5], classes=[0, 1]) for k in range(5)],
    ),
    "AutoFIS": (lambda: model(search=AutoFIS()), lambda m: m.fit(X, Y)),
    "AutoFeature": (
        lambda: model(search=AutoFeature(max_evaluations=20, n_initial=10)),
        lambda m: m.fit(X, Y),
    ),
    "AutoFIS, PEP": (lambda: model(search=[AutoFIS(), PEP()]), lambda m: m.fit(X, Y)),
    "Hyperband": (search, lambda m: m.fit(X, Y)),
}


def interrupted(work, delay):
    """Run some work and press Ctrl-C after a while; whether it was still at work."""
    done, hit = threading.Event(), []

    def press():
        if not done.wait(delay):
            hit.append(1)
            os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
        done.set()
        presser.join()
        time.sleep(0.05)  # a signal that came too late arrives here
    except KeyboardInterrupt:
        pass
    finally:
        done.set()
        presser.join()
    return bool(hit)


# Candidates of Hyperband are trained on four rows at most, whose values are few.
@pytest.mark.filterwarnings("ignore::sklearn_autorec.exceptions.UnknownCategoryWarning")
@pytest.mark.slow
@pytest.mark.parametrize("kind", WORK)
def test_twenty_interrupts(kind):
    make, work = WORK[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work(make())  # what is imported and compiled at first is no measure
        estimator, start = make(), time.perf_counter()
        work(estimator)
    whole = time.perf_counter() - start
    rng, hits, outcomes = np.random.default_rng(0), 0, set()
    for delay in rng.uniform(0, 0.8, 5 * TIMES) * whole:
        if hits == TIMES:
            break
        estimator = make()
        before = dict(vars(estimator))
        hits += interrupted(lambda estimator=estimator: work(estimator), delay)
        try:
            scores = estimator.predict_proba(X)
            assert scores.shape == (3000, 2) and np.isfinite(scores).all()
            outcomes.add(
                "as before" if vars(estimator).get("net_") is before.get("net_", 0) else "fitted"
            )
        except NotFittedError:
            assert not [name for name in vars(estimator) if name.endswith("_")]
            outcomes.add("not fitted")
        work(estimator)  # and it goes on
        assert np.isfinite(estimator.predict_proba(X)).all()
    assert hits == TIMES
    print(kind, hits, pd.Series(sorted(outcomes)).tolist())
