"""Ctrl-C is heard, and transformers and searches that fail stay as they were."""

import os
import signal
import threading

import numpy as np
import pandas as pd
import pytest
from fit_state_cases import OPTIONS, X, Y, same_state
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from sklearn_autorec import CTRClassifier
from sklearn_autorec.engine import FieldNet
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser
from sklearn_autorec.feature_selection import FSTD, FieldSelector
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.model_selection import RegularizedEvolutionSearchCV
from sklearn_autorec.preprocessing import FieldEncoder


def ctrl_c(delay):
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def test_ctrl_c_in_a_chunk_is_heard():
    model = CTRClassifier(**OPTIONS).partial_fit(X, Y, classes=[0, 1])
    model.set_params(batch_size=2)
    rows = np.tile(np.arange(300), 200)
    before, timer = dict(vars(model)), ctrl_c(0.5)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X.iloc[rows], Y[rows])
    timer.join()
    assert same_state(model, before)


@pytest.mark.parametrize("first", ["fit", "partial_fit", "refit"])
def test_ctrl_c_before_an_epoch_is_finished_leaves_what_was(first, monkeypatch):
    model = CTRClassifier(**OPTIONS)
    if first == "refit":
        model.fit(X, Y)
    before = dict(vars(model))

    def step(self, batch, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(FieldNet, "train_step", step)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X, Y, classes=[0, 1]) if first == "partial_fit" else model.fit(X, Y)
    assert same_state(model, before)
    if first != "refit":
        with pytest.raises(NotFittedError):
            check_is_fitted(model)
        with pytest.raises(NotFittedError):
            check_is_fitted(model, "encoder_")


def test_ctrl_c_in_the_second_search_keeps_the_first(monkeypatch):
    from sklearn_autorec.embedding import PEP

    real, calls = FieldNet.train_step, []

    def step(self, batch, **kwargs):
        calls.append(1)
        if len(calls) == 25:  # ten steps an epoch, two epochs a search
            raise KeyboardInterrupt
        return real(self, batch, **kwargs)

    monkeypatch.setattr(FieldNet, "train_step", step)
    model = CTRClassifier(**OPTIONS, search=[AutoFIS(), PEP()])
    with pytest.warns(UserWarning, match="Training was interrupted"):
        model.fit(X, Y)
    assert "interaction" in model.architecture_ and "embedding" not in model.architecture_
    assert np.isfinite(model.predict_proba(X)).all() and len(model.interactions_) >= 0


TRANSFORMERS = {
    "FieldEncoder": lambda: FieldEncoder(),
    "FieldCrosser": lambda: FieldCrosser([("f0", "f1")]),
    "AutoCross": lambda: AutoCross(random_state=0, max_crosses=1),
    "AEFE": lambda: AEFE(random_state=0, n_pairs=1),
    "GLIDER": lambda: GLIDER(
        CTRClassifier(**{**OPTIONS, "max_epochs": 1}), n_instances=5, random_state=0
    ),
    "FieldSelector": lambda: FieldSelector(
        estimator=CTRClassifier(**{**OPTIONS, "max_epochs": 1}), random_state=0
    ),
    "FSTD": lambda: FSTD(
        CTRClassifier(**{**OPTIONS, "max_epochs": 1}), max_evaluations=3, cv=2, random_state=0
    ),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer_that_fails_to_fit_stays_as_it_was(name):
    model = TRANSFORMERS[name]().fit(X, Y)
    before, out = dict(vars(model)), model.transform(X)
    # Another number of columns, and then what is refused: a value, or a parameter.
    changed = {
        "FieldCrosser": {"crosses": [("f0", "f9")]},
        "FSTD": {"n_features_to_select": 9},
    }.get(name, {})
    bad, parameters = X.assign(more=1.0, z=np.inf), model.get_params(deep=False)
    model.set_params(**changed)
    with pytest.raises(ValueError):
        model.fit(bad, Y)
    with pytest.raises(ValueError):
        model.fit_transform(bad, Y)
    assert same_state(model, before)
    model.set_params(**{name: parameters[name] for name in changed})
    pd.testing.assert_frame_equal(pd.DataFrame(model.transform(X)), pd.DataFrame(out))


@pytest.mark.parametrize("hashed", [False, True])
def test_a_chunk_that_fails_is_not_counted_by_the_encoder(hashed):
    encoder = FieldEncoder(hash_threshold=1 if hashed else None, n_hash_buckets=50)
    plain = clone(encoder)
    for e in (encoder, plain):
        e.partial_fit(X)
    for bad in (X.assign(z=np.inf), X.rename(columns={"z": "zz"}), X.assign(z="no number")):
        with pytest.raises(ValueError):
            encoder.partial_fit(bad.assign(f0="new"))
    for e in (encoder, plain):
        e.partial_fit(X[::2])
    assert [c.tolist() for c in encoder.counts_] == [c.tolist() for c in plain.counts_]
    np.testing.assert_array_equal(encoder.transform(X), plain.transform(X))


def test_a_search_that_fails_stays_as_it_was():
    numbers = X[["z"]]
    model = RegularizedEvolutionSearchCV(
        LogisticRegression(),
        {"C": [0.1, 1.0, 10.0]},
        n_iter=3,
        population=2,
        tournament=1,
        cv=2,
        random_state=0,
    ).fit(numbers, Y)
    before = dict(vars(model))
    model.set_params(error_score="raise")
    with pytest.raises(ValueError):
        model.fit(numbers, np.zeros(300))
    with pytest.raises(ValueError):
        model.fit(numbers.assign(z=np.inf), Y)
    assert same_state(model, before)
