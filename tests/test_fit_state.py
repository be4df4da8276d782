"""A fit that fails changes nothing; readers see one fit; Ctrl-C is heard."""

import copy
import pickle
import threading

import numpy as np
import pytest
import torch
from fit_state_cases import OPTIONS, X, Y, same_state
from sklearn.base import clone

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.engine import EncodedTensors, FieldNet
from sklearn_autorec.exceptions import ConvergenceWarning, NonFiniteLossError
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

TARGETS = {
    "clicks": (CTRClassifier, Y),
    "classes": (CTRClassifier, np.arange(300) % 3),
    "ratings": (RatingRegressor, Y + X["z"].to_numpy()),
}


def outputs(model, table=X):
    return model.predict_proba(table) if isinstance(model, CTRClassifier) else model.predict(table)


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
