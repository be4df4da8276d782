"""Names of networks and search methods: each leads to one class, and ours are never shadowed."""

import json
import pickle

import numpy as np
import pytest

import sklearn_autorec
from sklearn_autorec import CTRClassifier
from sklearn_autorec._registry import METHODS, NETWORK_CLASSES, NETWORKS, Registry, public_name
from sklearn_autorec.base import (
    FixedArchitecture,
    Network,
    SearchMethod,
    describe,
    network_of,
    register_network,
    resolve_network,
)
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.serving import load, save

OPTIONS = {"embedding_dim": 2, "max_epochs": 1, "random_state": 0, "device": "cpu"}
FOUND = {
    "params": {"init_gate": 0.5},
    "interactions": [[0, 1], [1, 2]],
    "candidates": [],
    "scores": [],
}
OURS = "sklearn_autorec.interaction.AutoFIS"


def a_class(module, name="Thing", base=object):
    return type(name, (base,), {"__module__": module, "__qualname__": name})


@pytest.fixture
def impostors():
    """A method and a network of a user that are called like ours."""
    yield a_class("shop", "AutoFIS", SearchMethod), a_class("shop", "FM", Network)
    del METHODS._classes["shop.AutoFIS"], NETWORK_CLASSES._classes["shop.FM"]


@pytest.mark.parametrize(
    ("module", "name", "public"),
    [
        ("sklearn_autorec.interaction._autofis", "AutoFIS", OURS),
        ("shop._models._fis", "AutoFIS", "shop.AutoFIS"),
        ("__main__", "AutoFIS", "__main__.AutoFIS"),
        ("_private", "AutoFIS", "_private.AutoFIS"),
        ("shop", "train.<locals>.AutoFIS", "shop.train.<locals>.AutoFIS"),
    ],
)
def test_a_class_goes_by_where_it_is_imported_from(module, name, public):
    assert public_name(a_class(module, name)) == public


def test_public_names_of_our_own_are_imported_as_they_say():
    own = METHODS.own() | NETWORK_CLASSES.own()
    assert {
        OURS,
        "sklearn_autorec.networks.DeepFM",
        "sklearn_autorec.feature_selection.LPFS",
    } <= own.keys()
    for name, cls in own.items():
        package, bare = name.rsplit(".", 1)
        part = getattr(sklearn_autorec, package.split(".")[1])
        assert bare not in part.__all__ or getattr(part, bare) is cls


def test_a_name_belongs_to_one_class():
    registry = Registry("test")
    first = a_class("shop._a")
    registry.add(first)
    with pytest.raises(
        ValueError,
        match=r"Two classes have the name 'shop.Thing' as test: shop._a.Thing and shop._b",
    ):
        registry.add(a_class("shop._b"))
    assert registry.all() == {"shop.Thing": first}
    again = a_class("shop._a")  # a cell of a notebook run twice
    registry.add(again)
    assert registry.find("shop.Thing") is again
    registry.add(a_class("store"))  # another full name
    assert registry.find("Thing") is None  # two from outside have it
    assert registry.find(["shop.Thing"]) is None and registry.find(None) is None


def test_bare_names_are_ours_and_unique():
    registry = Registry("test")
    outside = a_class("shop")
    registry.add(outside)
    assert registry.find("Thing") is outside  # as architectures were written once
    ours = a_class("sklearn_autorec.networks._thing")
    registry.add(ours)
    registry.add(a_class("sklearn_autorec_extras"))
    assert registry.find("Thing") is ours and registry.find("shop.Thing") is outside
    assert registry.own() == {"sklearn_autorec.networks.Thing": ours}
    with pytest.raises(
        ValueError,
        match="name 'Thing' as test: sklearn_autorec.networks._thing.Thing and sklearn_aut",
    ):
        registry.add(a_class("sklearn_autorec.interaction._thing"))


def test_a_source_is_asked_before_a_name_is_unknown():
    registry, late = Registry("test"), a_class("shop")
    registry.add_source(lambda: registry.add(late))
    assert registry.find("shop.Thing") is late


def test_classes_are_refused_where_they_are_defined():
    a_class("tests_registry._a", "Twice", SearchMethod)
    with pytest.raises(ValueError, match=r"tests_registry._a.Twice and tests_registry._b.Twice"):
        a_class("tests_registry._b", "Twice", SearchMethod)
    ours = NETWORKS.all()["fm"]
    with pytest.raises(ValueError, match=r"'fm' .* sklearn_autorec.networks._fm.FM and shop.OwnFM"):
        register_network("fm")(a_class("shop", "OwnFM"))
    assert type(resolve_network("fm")) is ours


def test_a_class_of_the_same_bare_name_changes_nothing(impostors, tmp_path):
    method, network = impostors
    X, y, _ = make_ctr(60, n_fields=3, pairs=1, random_state=0)
    bare = {
        "network": {"network": "FM", "params": {}},
        "embedding_dim": 2,
        "interaction": {"method": "AutoFIS", **FOUND},
    }
    model = CTRClassifier.from_architecture(bare, **OPTIONS).fit(X, y)
    assert type(model.network) is NETWORKS.all()["fm"] and type(
        model.search[0].method()
    ) is METHODS.find(OURS)
    written = json.loads(json.dumps(model.architecture_))
    assert written["network"]["network"] == "sklearn_autorec.networks.FM"
    full = {**bare, "interaction": {"method": OURS, **FOUND}}
    expected = model.predict_proba(X)
    for architecture in (written, full):
        again = CTRClassifier.from_architecture(architecture, **OPTIONS).fit(X, y)
        np.testing.assert_array_equal(again.predict_proba(X), expected)
    save(model, tmp_path / "model")
    for same in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(same.predict_proba(X), expected)
    # The user's own classes are there as well, under their full names.
    theirs = describe(method(), "method")
    assert theirs["method"] == "shop.AutoFIS" and type(FixedArchitecture(theirs).method()) is method
    assert type(network_of(describe(network(), "network"))) is network
    with pytest.raises(TypeError, match="of class shop.FM, which cannot be saved"):
        save(model.set_params(network=network()), tmp_path / "other")


def test_unknown_names_say_what_is_known():
    with pytest.raises(
        ValueError, match=r"'method' is one of .*sklearn_autorec.interaction.AutoFIS.*shop.Missing"
    ):
        FixedArchitecture({"method": "shop.Missing"}).method()
    with pytest.raises(
        ValueError,
        match=r"'shop.Missing' is not known; choose one of .*sklearn_autorec.networks.FM",
    ):
        network_of({"network": "shop.Missing"})
    with pytest.raises(ValueError, match="known once its module is imported"):
        network_of({"network": "Missing"})
