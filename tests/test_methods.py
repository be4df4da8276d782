"""What every search method of the package can do, whichever paper it is: a new one is found here by
itself.
"""

import inspect
import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from small_tables import mixed_clicks

import sklearn_autorec
from sklearn_autorec import CTRClassifier
from sklearn_autorec._registry import METHODS as REGISTRY
from sklearn_autorec.base import FixedArchitecture, SearchMethod, networks_with_slot
from sklearn_autorec.serving import load, save

METHODS = {
    cls.__name__: cls for _, cls in sorted(REGISTRY.own().items()) if cls is not FixedArchitecture
}
OPTIONS = {"embedding_dim": 4, "max_epochs": 2, "lr": 0.01, "batch_size": 128, "device": "cpu"}

# Searches that judge many candidates: a few of them say as much here.
FEW = {
    "AutoCTR": {"max_evaluations": 12, "population": 6, "tournament": 3},
    "AutoFeature": {"max_evaluations": 12, "n_initial": 6},
    "RULE": {"n_samples": 8, "n_evaluations": 60},
}


@pytest.fixture(scope="module")
def clicks():
    X, y = mixed_clicks(600, cardinality=8, pairs=2, missing_rate=0.05)
    X["age"] = np.random.default_rng(0).integers(18, 60, len(X))  # an id and a number, two fields
    return X, y


def sources(name, clicks):
    """What a search cannot do without: a model to begin with."""
    fit_only = METHODS[name].fit_only
    return {
        p: CTRClassifier(network="fm", random_state=9, **OPTIONS).fit(*clicks) for p in fit_only
    }


def fit(name, clicks, seed=0):
    method = METHODS[name](**sources(name, clicks), **FEW.get(name, {}))
    names = networks_with_slot(*method.slots)
    network = "fm" if "fm" in names else names[0]
    return CTRClassifier(network=network, search=method, random_state=seed, **OPTIONS).fit(*clicks)


@pytest.fixture(scope="module", params=METHODS)
def found(request, clicks):
    """A method's name, a model that it searched, which tests only read, and whether torch's own
    generator stayed where it was.
    """
    global_state = torch.random.get_rng_state()
    model = fit(request.param, clicks)
    return request.param, model, torch.equal(torch.random.get_rng_state(), global_state)


def test_there_are_methods():
    assert {"AutoFIS", "PEP"} <= METHODS.keys()


@pytest.mark.parametrize("name", METHODS)
def test_it_is_public_and_documented(name):
    cls = METHODS[name]
    package = cls.__module__.split(".")[1]
    assert (
        name in getattr(sklearn_autorec, package).__all__
        and getattr(getattr(sklearn_autorec, package), name) is cls
    )
    text = inspect.getdoc(cls)
    assert ">>> " in text
    assert all(f"\n{parameter} : " in text for parameter in inspect.signature(cls).parameters)
    assert cls._parameter_constraints.keys() == inspect.signature(cls).parameters.keys()
    assert cls.check is not SearchMethod.check  # files may hold anything


def test_it_searches_saves_and_comes_back(found, clicks, tmp_path):
    name, model, left_the_global_state = found
    assert left_the_global_state
    X, y = clicks
    p = model.predict_proba(X)
    assert np.isfinite(p).all() and p[:, 1].std() > 1e-4
    np.testing.assert_array_equal(fit(name, clicks).predict_proba(X), p)
    assert (fit(name, clicks, seed=1).predict_proba(X) != p).any()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), p)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)

    architecture = model.architecture_
    assert json.loads(json.dumps(architecture)) == architecture
    again = CTRClassifier.from_architecture(architecture, random_state=0, **OPTIONS).fit(X, y)
    assert again.architecture_ == architecture
    shapes = [(n, t.shape) for n, t in model.net_.module_.state_dict().items()]
    assert [(n, t.shape) for n, t in again.net_.module_.state_dict().items()] == shapes
    assert repr(clone(model)) == repr(model)


def test_an_architecture_of_another_table_is_refused(found, clicks):
    X, y = clicks
    name, searched, _ = found
    model = CTRClassifier.from_architecture(searched.architecture_, random_state=0, **OPTIONS)
    if METHODS[name]().slots == ("loss",):  # knows nothing of columns, but of the target
        y = np.arange(len(X)) % 3
    with pytest.raises(ValueError):
        model.fit(X[["f0", "x0"]], y)
