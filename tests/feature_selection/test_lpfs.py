"""LPFS and LPFS++: formulas against numpy, planted fields, exact removal, gates that open again."""

import numpy as np
import pytest
import torch
from small_tables import planted_fields

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.engine._building import build_network, carry
from sklearn_autorec.estimators import _stages
from sklearn_autorec.feature_selection import LPFS
from sklearn_autorec.feature_selection._gates._lpfs import (
    CommonScaleAdam,
    PolarisedGates,
    smoothed_l0,
)
from sklearn_autorec.networks import FM, DeepFM, MLPNetwork
from sklearn_autorec.nn import BuildContext

TRUE = {1, 2, 4, 6, 8}


def context(n_fields=4):
    names = tuple("abcdefgh"[:n_fields])
    return BuildContext(
        names, (3,) * n_fields, embedding_dim=4, generator=torch.Generator().manual_seed(0)
    )


def numpy_gate(x, epsilon, alpha, tau):
    gate = x**2 / (x**2 + epsilon)
    return np.sign(x) * gate + alpha * epsilon ** (1 / tau) * np.arctan(x) if alpha else gate


@pytest.mark.parametrize("epsilon", [0.1, 1e-2, 1e-4])
def test_gates_agree_with_the_paper(epsilon):
    x = torch.tensor([-1.5, -0.2, 0.0, 1e-3, 0.1, 2.0], dtype=torch.float64, requires_grad=True)
    plain, plus = smoothed_l0(x, epsilon), smoothed_l0(x, epsilon, 10.0, 2.0)
    v = x.detach().numpy()
    np.testing.assert_allclose(plain.detach().numpy(), numpy_gate(v, epsilon, 0.0, 2.0), rtol=1e-12)
    np.testing.assert_allclose(plus.detach().numpy(), numpy_gate(v, epsilon, 10.0, 2.0), rtol=1e-12)
    # odd.
    np.testing.assert_allclose(
        smoothed_l0(-x, epsilon, 10.0, 2.0).detach(), -plus.detach(), rtol=1e-12
    )
    (slope,) = torch.autograd.grad(plain.sum(), x, retain_graph=True)
    np.testing.assert_allclose(slope.numpy(), 2 * v * epsilon / (v**2 + epsilon) ** 2, rtol=1e-9)
    (slope,) = torch.autograd.grad(plus.sum(), x)
    expected = 2 * np.abs(v) * epsilon / (v**2 + epsilon) ** 2 + 10 * np.sqrt(epsilon) / (1 + v**2)
    np.testing.assert_allclose(slope.numpy(), expected, rtol=1e-9)
    # Of a closed gate: not 0, and vanishing.
    assert slope[2] == pytest.approx(10 * np.sqrt(epsilon))


@pytest.mark.parametrize("alpha", [0.0, 10.0])
def test_gates_of_fields_that_say_nothing_are_closed_and_stay_so(alpha):
    module = PolarisedGates(context(), (0.1, 1e-4), alpha, 2.0, total_shrink=0.5, travel=1.8)
    module.usable[2] = 0.0
    optimizer = module.arch_optimizer(20)
    for k in range(20):
        module.set_progress(k / 19)
        gates = module(None, None)
        assert gates[0, 2] == 0 and (gates[0, [0, 1, 3]] > 0.5).all()
        module.x.grad = -torch.ones(4)  # all are asked to open
        optimizer.step()
        module.after_step()
        assert module.x[2] == 0 and module.summary()["open_gates"] == 3
    assert module.recent[2] < 0.8 * module.recent[[0, 1, 3]].min()


@pytest.mark.parametrize("alpha", [0.0, 10.0])
def test_module_and_its_schedule(alpha):
    module = PolarisedGates(context(), (0.1, 1e-4), alpha, 2.0, total_shrink=1.2, travel=1.8)
    n, x0 = 50, np.array([1.0, 0.5, -0.3, 0.0], np.float32)
    optimizer = module.arch_optimizer(n)
    shrinks, rates = [], []
    for k in range(n):
        with torch.no_grad():
            module.x.copy_(torch.from_numpy(x0))
        module.set_progress(k / (n - 1))
        epsilon = 0.1 * 1e-3 ** (k / (n - 1))
        assert module.epsilon == pytest.approx(epsilon)
        expected = numpy_gate(x0, epsilon, alpha, 2.0) / numpy_gate(1.0, epsilon, alpha, 2.0)
        np.testing.assert_allclose(
            module(None, None).detach().numpy(), expected[None], rtol=1e-4, atol=1e-7
        )
        module.after_step()
        shrinks.append(1.0 - module.x[0].item())
        rates.append(optimizer.param_groups[0]["lr"])
        np.testing.assert_allclose(
            module.x.detach().numpy(),
            np.sign(x0) * np.maximum(np.abs(x0) - shrinks[-1], 0),
            atol=1e-6,
        )
    assert sum(shrinks) == pytest.approx(1.2, rel=1e-4) and sum(rates) == pytest.approx(1.8)
    assert shrinks[0] / shrinks[-1] == pytest.approx(np.sqrt(1000), rel=0.02)


def test_gradients_are_those_of_the_gates():
    # Of LPFS: even, and flat at 0.
    for alpha, expected in ((10.0, [3, 3, 3, 3]), (0.0, [3, 3, -3, 0])):
        module = PolarisedGates(context(), (0.1, 1e-4), alpha, 2.0, 1.0, 1.0)
        with torch.no_grad():
            module.x.copy_(torch.tensor([1.0, 0.01, -0.2, 0.0]))
        (3 * module(None, None)).sum().backward()
        assert module.x.grad.tolist() == expected


def test_common_scale_agrees_with_numpy():
    rng, p = np.random.default_rng(0), torch.zeros(5, requires_grad=True)
    optimizer = CommonScaleAdam([p], lr=0.1)
    x, mean, square = np.zeros(5), np.zeros(5), 0.0
    for k in range(1, 30):
        g = rng.normal(size=5) * [1, 2, 3, 0.1, 8.0]
        p.grad = torch.tensor(g, dtype=torch.float32)
        optimizer.step()
        mean, square = 0.97 * mean + 0.03 * g, 0.99 * square + 0.01 * (g**2).mean()
        x -= 0.1 * np.clip(mean / (1 - 0.97**k) / np.sqrt(square / (1 - 0.99**k)), -3, 3)
        np.testing.assert_allclose(p.detach().numpy(), x, atol=1e-5)


def fit(seed, shuffled=False, **options):
    X, y = planted_fields(10_000, seed, cardinality=10)
    y = np.random.default_rng(seed).permutation(y) if shuffled else y
    options = {"network": "fm", "search": LPFS(), "max_epochs": 1, **options}
    model = CTRClassifier(
        embedding_dim=8,
        lr=5e-3,
        batch_size=256,
        search_epochs=10,
        early_stopping=False,
        device="cpu",
        random_state=seed,
        **options,
    )
    return model.fit(X, y), X


@pytest.mark.parametrize("plus", [True, False])
def test_planted_fields_are_found(plus):
    f1, ranked = [], 0
    for seed in range(5):
        model, _ = fit(seed, search=LPFS(plus=plus))
        kept = set(np.flatnonzero(model.support_))
        f1.append(2 * len(kept & TRUE) / (len(kept) + 5))
        ranked += set(np.argsort([-s for s in model.field_scores_.values()])[:5]) == TRUE
    assert np.mean(f1) >= 0.9 and ranked >= 4


def test_shuffled_labels_have_no_fields():
    ranked = 0
    for seed in range(3):
        model, _ = fit(seed, shuffled=True)
        ranked += len(set(np.argsort([-s for s in model.field_scores_.values()])[:5]) & TRUE)
    assert ranked <= 11  # 7.5 by chance, 15 if it knew


@pytest.mark.parametrize("network", [FM(), DeepFM((16,)), MLPNetwork((16,))])
def test_dropping_closed_fields_leaves_predictions_as_they_were(network, monkeypatch):
    built = []
    real = type(network).build

    def spy(self, context, parts):
        module = real(self, context, parts)
        if isinstance(parts.get("gate"), PolarisedGates):
            built.append(module)
        return module

    monkeypatch.setattr(type(network), "build", spy)
    # The final training does nothing, so that the fitted network is the searched one without closed
    # fields.
    train = _stages.train

    def at_rest(net, *args, **kwargs):
        net.lr = 0.0
        return train(net, *args, **kwargs)

    monkeypatch.setattr(_stages, "train", at_rest)
    model, X = fit(0, network=network)
    assert 0 < len(model.selected_fields_) < 10
    data = EncodedTensors.from_table(model.encoder_.encode(X[:2000]), "cpu")
    with torch.no_grad():
        whole = built[0].eval()(**data.inputs)
        narrow = model.net_.module_(**data.inputs)
    assert float(whole.std()) > 0.1
    if isinstance(network, FM):  # in the others batch statistics moved
        torch.testing.assert_close(narrow, whole, atol=1e-6, rtol=1e-6)
    architecture = FixedArchitecture(model.architecture_["gate"])
    encoder = model.encoder_
    own = BuildContext(
        tuple(map(str, encoder.field_names_)),
        tuple(encoder.n_ids_),
        embedding_dim=8,
        generator=torch.Generator().manual_seed(0),
    )
    module = build_network(network, [architecture], {"gate": architecture.architecture}, own)
    carried = carry(built[0].state_dict(), module.selection, own, module)
    assert carried.keys() == module.state_dict().keys()
    module.load_state_dict(carried)
    with torch.no_grad():
        torch.testing.assert_close(module.eval()(**data.inputs), whole, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("plus", [True, False])
def test_closed_gates_open_again_with_lpfs_plus_only(plus, monkeypatch):
    real = PolarisedGates.__init__

    def closed(self, *args):
        real(self, *args)
        with torch.no_grad():
            self.x[1] = 0.0

    monkeypatch.setattr(PolarisedGates, "__init__", closed)
    model, _ = fit(0, search=LPFS(plus=plus, epsilon=(0.1, 1e-2), total_shrink=0.5))
    assert model.support_[1] == plus
    assert (model.architecture_["gate"]["gates"][1] != 0) == plus


def test_more_shrinkage_keeps_fewer_fields():
    n = [len(fit(0, search=LPFS(total_shrink=c))[0].selected_fields_) for c in (0.5, 1.2, 5.0)]
    assert n[0] == 10 and n[0] > n[1] > n[2] == 1


def test_as_many_fields_as_asked_for():
    model, X = fit(0, search=LPFS(n_kept=7))
    assert len(model.selected_fields_) == 7
    gates = model.net_.module_.gate.factors[0]
    # Of those that had closed.
    assert len(gates) == 7 and (gates != 0).all() and (gates == 1).sum() >= 2
    assert {"f1", "f4", "f8"} <= set(fit(0, search=LPFS(n_kept=0.4))[0].selected_fields_)


def test_wrong_parameters_are_named():
    X, y, _ = make_ctr(100, n_fields=3, pairs=[], random_state=0)
    for options, message in (
        ({"n_kept": 4}, "n_kept=4 is more than the 3 fields"),
        ({"epsilon": (0.1,)}, "epsilon must be two positive numbers"),
        ({"epsilon": (0.1, -1.0)}, "epsilon must be two positive numbers"),
        ({"total_shrink": -1.0}, "total_shrink"),
        ({"retrain": "never"}, "retrain"),
    ):
        with pytest.raises(ValueError, match=message):
            CTRClassifier(network="fm", search=LPFS(**options), max_epochs=1).fit(X, y)
