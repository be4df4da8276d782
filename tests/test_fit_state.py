"""A fit that fails changes nothing; readers see one fit; Ctrl-C is heard."""

import copy
import os
import pickle
import signal
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors, FieldNet
from sklearn_autorec.exceptions import ConvergenceWarning, NonFiniteLossError
from sklearn_autorec.feature_crossing import AEFE, GLIDER, AutoCross, FieldCrosser
from sklearn_autorec.feature_selection import FSTD, FieldSelector
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.model_selection import RegularizedEvolutionSearchCV
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

X, Y, _ = make_ctr(300, n_fields=3, pairs=1, random_state=0)
X = X.assign(z=np.random.default_rng(0).normal(size=300))
OPTIONS = {"network": "fm", "max_epochs": 2, "lr": 0.01, "random_state": 0, "device": "cpu"}
TARGETS = {
    "clicks": (CTRClassifier, Y),
    "classes": (CTRClassifier, np.arange(300) % 3),
    "ratings": (RatingRegressor, Y + X["z"].to_numpy()),
}


def outputs(model, table=X):
    return model.predict_proba(table) if isinstance(model, CTRClassifier) else model.predict(table)


def same_state(model, before):
    """Whether all attributes but parameters are the objects they were."""
    free = set(model.get_params(deep=False))
    return vars(model).keys() == before.keys() and all(
        vars(model)[n] is v for n, v in before.items() if n not in free
    )


def through_file(model, folder):
    save(model, folder / "model")
    return load(folder / "model")


def fitted(kind, how, folder):
    estimator, y = TARGETS[kind]
    model = estimator(**OPTIONS, encoder=FieldEncoder(numeric=None))
    if how == "partial_fit":
        return (
            model.partial_fit(X, y, classes=np.unique(y))
            if kind != "ratings"
            else model.partial_fit(X, y)
        ), y
    model = model.fit(X, y)
    return {"fit": lambda: model, "pickle": lambda: pickle.loads(pickle.dumps(model))}.get(
        how, lambda: through_file(model, folder)
    )(), y


@pytest.mark.parametrize("how", ["fit", "partial_fit", "pickle", "file"])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_fit_that_fails_changes_nothing(kind, how, tmp_path):
    model, y = fitted(kind, how, tmp_path)
    scores, before = outputs(model), dict(vars(model))
    other = np.arange(300) % 4 if kind != "ratings" else 1000 * y + 500
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X[:10], other)
    with pytest.raises(ValueError, match="infinity"):
        model.fit(X.assign(z=np.inf), other)
    model.set_params(lr=1e30)
    with pytest.raises(NonFiniteLossError):
        model.fit(X.assign(z=1e6), other)
    model.set_params(lr=0.01)
    with pytest.raises(NonFiniteLossError):
        model.partial_fit(X.assign(z=3e38), y)
    model.set_params(warm_start=True, max_epochs=4)
    with pytest.raises(NonFiniteLossError):
        model.fit(X.assign(z=3e38), y)
    model.set_params(warm_start=False, max_epochs=2)
    assert same_state(model, before)
    np.testing.assert_array_equal(outputs(model), scores)
    model.fit(X, other)  # and the estimator still fits
    assert not np.array_equal(outputs(model), scores)


def out_of_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("how", ["fit", "partial_fit", "warm_start"])
@pytest.mark.parametrize("where", ["step", "rows", "device"])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_fit_that_runs_out_of_device_memory_says_what_to_lower(
    kind, where, how, tmp_path, monkeypatch
):
    """While a batch is trained on, while rows are moved to the device, and while the network is."""
    model, y = fitted(kind, how, tmp_path)
    model.set_params(batch_size=64, warm_start=how == "warm_start", max_epochs=4)
    scores, before = outputs(model), dict(vars(model))
    plain = clone(model).set_params(warm_start=False)
    if where == "step":
        real, calls = FieldNet.train_step, []

        def step(self, batch, **kwargs):
            calls.append(1)
            # After steps that moved weights.
            return real(self, batch, **kwargs) if len(calls) < 3 else out_of_memory()

        monkeypatch.setattr(FieldNet, "train_step", step)
    elif where == "rows":
        monkeypatch.setattr(EncodedTensors, "from_table", out_of_memory)
    else:
        monkeypatch.setattr(torch.nn.Module, "to", out_of_memory)
        if how != "fit":
            # Of a fitted network, on its device.
            monkeypatch.setattr(copy, "deepcopy", out_of_memory)
    advice = (
        r"Tried to allocate 2.00 GiB. .*: lower batch_size \(now 64\) or embedding_dim, or cap "
        r"vocabularies"
    )
    with pytest.raises(torch.OutOfMemoryError, match=advice) as caught:
        model.partial_fit(X, y) if how == "partial_fit" else model.fit(X, y)
    assert str(caught.value).count("lower batch_size") == 1
    assert ("moments need about" in str(caught.value)) == (where == "step")
    monkeypatch.undo()
    assert same_state(model, before)
    np.testing.assert_array_equal(outputs(model), scores)
    again = clone(plain).fit(X, y)
    np.testing.assert_array_equal(
        outputs(model.set_params(warm_start=False).fit(X, y)), outputs(again)
    )


@pytest.mark.parametrize("kind", TARGETS)
def test_prediction_goes_on_in_halves_when_device_memory_runs_out(kind, tmp_path, monkeypatch):
    model, _ = fitted(kind, "fit", tmp_path)
    expected, real, tried = outputs(model), type(model.net_.module_).forward, []

    def forward(self, **inputs):
        tried.append(len(inputs["ids"]))
        return real(self, **inputs) if tried[-1] <= 80 else out_of_memory()

    monkeypatch.setattr(type(model.net_.module_), "forward", forward)
    np.testing.assert_array_equal(outputs(model), expected)
    assert max(tried) == 304 and min(tried) <= 80
    monkeypatch.setattr(type(model.net_.module_), "forward", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        outputs(model)


def stream(rows):
    """A model whose tables are row-wise ("of a batch"), or dense."""
    table = X if rows == "all" else X.assign(user=np.arange(300).astype(str))
    return CTRClassifier(
        **OPTIONS, batch_size=256 if rows == "all" else 8, embedding_l2=1e-3
    ), table


@pytest.mark.parametrize("rows", ["all", "of a batch"])
@pytest.mark.parametrize("through", [lambda m: m, copy.deepcopy], ids=["live", "copy"])
@pytest.mark.parametrize("failure", ["diverges", "interrupted"])
def test_a_chunk_that_fails_leaves_no_trace_in_what_comes_after(
    rows, through, failure, monkeypatch
):
    plain, table = stream(rows)
    model = clone(plain)
    for m in (plain, model):
        m.partial_fit(table, Y, classes=[0, 1]).partial_fit(table, Y)
    assert model.net_.module_.embedding.sparse == (rows != "all")
    model = through(model)
    before, real, calls = dict(vars(model)), FieldNet.train_step, []

    def step(self, batch, **kwargs):
        calls.append(1)
        if len(calls) == 2:  # after a step that has moved weights and moments
            raise (
                KeyboardInterrupt
                if failure == "interrupted"
                else NonFiniteLossError("the loss became nan")
            )
        return real(self, batch, **kwargs)

    monkeypatch.setattr(FieldNet, "train_step", step)
    with pytest.raises(KeyboardInterrupt if failure == "interrupted" else NonFiniteLossError):
        model.partial_fit(table, 1 - Y)
    monkeypatch.undo()
    assert same_state(model, before)
    for m in (plain, model):
        m.partial_fit(table, Y)
    np.testing.assert_array_equal(model.predict_proba(table), plain.predict_proba(table))


def test_the_last_step_of_an_epoch_cannot_leave_infinite_weights(monkeypatch):
    model = CTRClassifier(**OPTIONS, batch_size=300).partial_fit(X, Y, classes=[0, 1])
    before, real = dict(vars(model)), FieldNet.train_step

    def step(self, batch, **kwargs):  # one a chunk: no later loss would show it
        result = real(self, batch, **kwargs)
        with torch.no_grad():
            next(p for p in self.module_.parameters() if p.numel()).view(-1)[0] = np.inf
        return result

    monkeypatch.setattr(FieldNet, "train_step", step)
    with pytest.raises(NonFiniteLossError, match="weights became infinite"):
        model.partial_fit(X, Y)
    assert same_state(model, before)


def test_moments_of_a_diverged_epoch_are_not_kept(monkeypatch):
    model = CTRClassifier(**OPTIONS, warm_start=True).fit(X, Y)
    real, calls = FieldNet.train_step, []

    def step(self, batch, **kwargs):
        calls.append(1)
        if len(calls) > 15:  # in the second epoch of 10 steps
            for p in self.module_.parameters():
                p.data.mul_(np.nan)
        return real(self, batch, **kwargs)

    monkeypatch.setattr(FieldNet, "train_step", step)
    model.set_params(max_epochs=6)
    with pytest.warns(ConvergenceWarning, match="weights of epoch 1 are kept"):
        model.fit(X, Y)
    monkeypatch.undo()
    assert model.n_iter_ == 3 and not hasattr(model, "_stream")
    model.set_params(max_epochs=5).fit(X, Y)
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("kind", ["classes", "ratings"])
@pytest.mark.parametrize("how", ["fit", "warm", "partial_fit"])
def test_readers_see_one_fit(kind, how):
    """Predictions in another thread are those of one of the fits, bit for bit."""
    estimator, y = TARGETS[kind]
    model = estimator(**{**OPTIONS, "max_epochs": 1}).fit(X, y)
    other = y if how != "fit" else (np.arange(300) % 2 if kind == "classes" else 1000 * y + 500)
    seen, stop, errors, head = {}, threading.Event(), [], X[:16]
    published = [outputs(model, head)]

    def read():
        while not stop.is_set():
            try:
                found = outputs(model, head)
            except Exception as error:
                errors.append(error)
                return
            seen[found.tobytes()] = found

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for k in range(6):
            if how == "fit":
                model.fit(X, other if k % 2 == 0 else y)
            elif how == "warm":
                model.set_params(warm_start=True, max_epochs=k + 2).fit(X, y)
            else:
                model.partial_fit(X, y)
            published.append(outputs(model, head))
    finally:
        stop.set()
        reader.join()
    assert not errors
    assert len(seen) > 1 and seen.keys() <= {p.tobytes() for p in published}


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
