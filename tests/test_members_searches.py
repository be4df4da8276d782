"""Estimators of several members: searches, modules of one member each, files."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from members_cases import OPTIONS, few, fitted_members, small_clicks
from onnx_graphs import exported

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import Network
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP, AutoDim
from sklearn_autorec.engine._search_phase import Found
from sklearn_autorec.exceptions import ModelFileError
from sklearn_autorec.feature_selection import AdaFS, AutoField, field_weights
from sklearn_autorec.feature_selection._subsets._sensitivity import network_sensitivity
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.nn import FieldNetwork, PackedEmbedding, linear
from sklearn_autorec.serving import load, save

clicks = pytest.fixture(small_clicks, scope="module")
model = pytest.fixture(fitted_members, scope="module")


class Apart(FieldNetwork):
    def __init__(self, context, parts):
        super().__init__(context, parts)
        self.out = linear(
            context.n_fields * context.embedding_dim, context.n_outputs, context.generator
        )

    def logits(self, e, inputs):
        return self.out(e.flatten(1))


class ApartNetwork(Network):
    def build(self, context, parts):
        return Apart(context, parts)


# searches, and modules that hold one member each
# ------------------------------------------------------------------


def test_a_network_of_ones_own(clicks):
    X, y = clicks
    model = few(network=ApartNetwork()).fit(X, y)
    assert (
        len(model.net_.module_.networks) == 3
        and (model.predict_proba(X, return_std=True)[1] > 0).all()
    )


SEARCHES = {
    "AutoFIS": (AutoFIS(max_interactions=3), 1),
    "AutoDim": (AutoDim(), 1),
    "AutoField": (AutoField(n_kept=3), 1),
    "PEP": (PEP(), 3),
    "AdaFS": (AdaFS(), 3),
    "several": ([AutoField(n_kept=4), AutoFIS(max_interactions=2), PEP()], 3),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches(name, clicks, tmp_path):
    X, y = clicks
    search, n_modules = SEARCHES[name]
    model, single = (few(search=search, members=m).fit(X, y) for m in (3, 1))
    module = model.net_.module_
    assert module.members == 3 and len(module.networks) == n_modules
    assert (
        model.architecture_ == single.architecture_
        and model.search_history_ == single.search_history_
    )
    assert model.nbytes_["embedding"] >= 2.5 * single.nbytes_["embedding"]
    p = model.predict_proba(X, return_std=True)
    assert (p[1] > 0).any()
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X, return_std=True), p)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).predict_proba(X, return_std=True), p
    )
    architecture = json.loads(json.dumps(model.architecture_))
    options = {k: v for k, v in OPTIONS.items() if k != "network"}
    again = CTRClassifier.from_architecture(architecture, members=2, **options).fit(X, y)
    assert again.net_.module_.members == 2 and again.architecture_ == model.architecture_
    if name in ("PEP", "several"):
        assert all(isinstance(network.embedding, PackedEmbedding) for network in module.networks)
        assert model.embedding_sizes_.keys() == single.embedding_sizes_.keys()
        assert model.compression_ratio_ == pytest.approx(single.compression_ratio_, rel=0.2)
    if name == "AdaFS":
        weights = field_weights(model, X)
        assert weights.shape == field_weights(single, X).shape and weights.to_numpy().std() > 0


@pytest.mark.parametrize(
    "search", [AutoFIS(retrain="keep"), PEP(retrain="rewind")], ids=["packed", "apart"]
)
def test_the_first_member_takes_over_the_weights_of_a_search(clicks, search, monkeypatch):
    starts = {}

    def hand_over(found, module, original=Found.hand_over):
        before = {name: t.clone() for name, t in module.state_dict().items()}
        original(found, module)
        starts.update(module=module, before=before, given=dict(found.starts)[""])
        starts["after"] = {name: t.clone() for name, t in module.state_dict().items()}

    monkeypatch.setattr(Found, "hand_over", hand_over)
    few(search=search).fit(*clicks)
    before, after, given = (starts[key] for key in ("before", "after", "given"))
    name = "head.layers.0.weight"
    if search.slot == "interaction":
        changed, kept = after[f"networks.0.{name}"], before[f"networks.0.{name}"]
        torch.testing.assert_close(changed[0], given[name])
        torch.testing.assert_close(changed[1:], kept[1:])
        table = after["networks.0.embedding.weight"]
        torch.testing.assert_close(table[::3], given["embedding.weight"])
        torch.testing.assert_close(table[1::3], before["networks.0.embedding.weight"][1::3])
    else:
        torch.testing.assert_close(after[f"networks.0.{name}"], given[name])
        torch.testing.assert_close(after[f"networks.1.{name}"], before[f"networks.1.{name}"])


@pytest.mark.parametrize("method", ["shark", "sfs"])
def test_sensitivities_see_all_members(clicks, method):
    X, y, _ = make_ctr(1500, n_fields=4, cardinality=8, pairs=[(0, 1)], random_state=0)
    model = few(max_epochs=6).fit(X, y)
    packed = network_sensitivity(model, X, y, method, 256)
    assert np.isfinite(packed).all() and packed[:2].min() > packed[2:].max()


# files
# --------------------------------------------------------------------------------------------------


def test_model_files(clicks, model, tmp_path):
    X, y = clicks
    save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(
        loaded.predict_proba(X, return_std=True), model.predict_proba(X, return_std=True)
    )
    assert loaded.nbytes_ == model.nbytes_ and loaded.members == 3
    np.testing.assert_array_equal(
        loaded.partial_fit(X, y).net_.module_.members,
        pickle.loads(pickle.dumps(model)).partial_fit(X, y).net_.module_.members,
    )
    # The file keeps what is fitted, whatever is set since.
    model_as_one = copy.deepcopy(model).set_params(members=1)
    save(model_as_one, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 2}, "weight|shape"),
        ({"members": 0}, "members"),
        ({"members": 10**9}, "members|memory"),
        ({"members": True}, "members"),
        ({"packed_members": False}, "weights"),
        ({"packed_members": "yes"}, "packed_members"),
    ],
)
def test_files_that_lie_about_members_are_refused(clicks, model, change, message):
    from sklearn_autorec.serving._model import model_state, restore_model

    state = model_state(model)
    state["module"] = {**state["module"], **change}
    state["module"]["weights"] = {name: w.array for name, w in state["module"]["weights"].items()}
    with pytest.raises(ModelFileError, match=message):
        restore_model(few(), state, False)


@pytest.mark.parametrize("options", [{}, {"search": PEP()}], ids=["packed", "apart"])
def test_onnx_has_one_output(clicks, options, tmp_path):
    X, y = clicks
    model = few(members=2, **options).fit(X, y)
    run = exported(model, tmp_path)
    for rows in (X[:50], X[:1]):
        np.testing.assert_allclose(run(rows), model.predict_proba(rows), atol=2e-6)
