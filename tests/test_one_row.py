"""Batches of one row: they train every network, its members too, and by the statistics that
prediction uses.
"""

import copy

import numpy as np
import pytest
import torch
from small_networks import small_networks

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors, FieldNet, TrainingBatches
from sklearn_autorec.feature_selection import AdaFS
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.nn import (
    BatchNorm,
    BinaryLogLoss,
    MemberBatchNorm,
    member_batch_norm,
    row_batch_norm,
)

NETWORKS = small_networks()
OPTIONS = {
    "embedding_dim": 3,
    "lr": 0.01,
    "max_epochs": 1,
    "random_state": 0,
    "device": "cpu",
    "wide": None,
    "target_statistics": False,
    "early_stopping": False,
}
NORMS = (torch.nn.BatchNorm1d, MemberBatchNorm)


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(61, n_fields=3, cardinality=5, pairs=[(0, 1)], n_numeric=1, random_state=0)[:2]


def statistics(model):
    return {
        name: t.clone() for name, t in model.net_.module_.state_dict().items() if "running" in name
    }


def weights_below(module):
    """Embeddings, which learn from a row only through what stands above them."""
    return {n: p.detach().clone() for n, p in module.named_parameters() if "embedding.weight" in n}


@pytest.mark.parametrize("members", [1, 2])
def test_a_single_row_is_normalised_by_the_running_statistics_and_leaves_them(members):
    generator = torch.Generator().manual_seed(0)
    norm = BatchNorm(4) if members == 1 else MemberBatchNorm(4, members)
    plain = [torch.nn.BatchNorm1d(4) for _ in range(members)]
    x = torch.randn(6 * members, 4, generator=generator) * 3 + 1
    for layer, rows in zip(plain, x.chunk(members), strict=True):
        rows = layer(rows)
    # Larger batches have torch's own bits, in output, statistics and count.
    expected = torch.cat(
        [copy.deepcopy(p)(r) for p, r in zip(plain, x.chunk(members), strict=True)]
    )
    norm(x)
    before = copy.deepcopy(norm.state_dict())
    assert torch.equal(copy.deepcopy(norm)(x), expected)
    assert torch.equal(norm.running_var.flatten(), torch.cat([p.running_var for p in plain]))
    assert norm.num_batches_tracked == plain[0].num_batches_tracked == 1
    row = torch.randn(members, 4, generator=generator, requires_grad=True)
    out = norm(row)
    assert torch.equal(
        out, torch.cat([p.eval()(r) for p, r in zip(plain, row.split(1), strict=True)])
    )
    out.square().sum().backward()
    assert (row.grad != 0).all()
    assert all(torch.equal(t, before[name]) for name, t in norm.state_dict().items())


def test_functional_forms_follow_the_same_rule():
    x, mean, var, weight = (
        torch.tensor([[1.0, 4.0]]),
        torch.tensor([0.0, 2.0]),
        torch.tensor([1.0, 4.0]),
        torch.ones(2),
    )
    expected = torch.tensor([[1.0, 1.0]])
    options = {"bias": None, "training": True, "momentum": 0.1, "eps": 0.0}
    torch.testing.assert_close(row_batch_norm(x, mean, var, weight, **options), expected)
    two = member_batch_norm(
        x.repeat(2, 1), mean.repeat(2, 1), var.repeat(2, 1), weight.repeat(2, 1), **options
    )
    torch.testing.assert_close(two, expected.repeat(2, 1))
    assert mean.tolist() == [0.0, 2.0]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_learns_from_one_row(name, members, clicks):
    X, y = clicks
    model = CTRClassifier(network=NETWORKS[name], members=members, id_dropout=0.0, **OPTIONS).fit(
        X[:60], y[:60]
    )
    # Of a batch of several rows the network must have statistics of its own.
    before, seen, p = (
        weights_below(model.net_.module_),
        statistics(model),
        model.predict_proba(X[60:]),
    )
    normalised = any(isinstance(m, NORMS) for m in model.net_.module_.modules())
    assert normalised == getattr(NETWORKS[name], "batch_norm", False)
    label = 1 - int(p[0, 1] > 0.5)  # of which the model is not yet convinced
    for _ in range(4):  # one step may be outweighed by the moments of Adam that were there
        model.partial_fit(X[60:], np.full(1, model.classes_[label]))
    assert model.predict_proba(X[60:])[0, label] > p[0, label]
    for key, t in statistics(model).items():
        assert torch.equal(t, seen[key]), key
    for key, t in weights_below(model.net_.module_).items():
        assert not torch.equal(t, before[key]), key


@pytest.mark.parametrize("batch_size, n", [(1, 7), (4, 9), (5, 1)])
@pytest.mark.parametrize("members", [1, 2])
def test_batches_of_one_row_train_and_predict(batch_size, n, members, clicks):
    X, _ = clicks
    y = np.linspace(1.0, 5.0, n)
    for name in ("nfm", "deepfm"):
        model = RatingRegressor(
            network=NETWORKS[name], members=members, batch_size=batch_size, **OPTIONS
        )
        assert np.isfinite(model.fit(X[:n], y).predict(X)).all()


@pytest.mark.parametrize(
    "method", [AutoFIS(), AdaFS(hidden_units=(3,))], ids=lambda m: type(m).__name__
)
def test_searches_take_batches_of_one_row(method, clicks):
    X, y = clicks
    model = CTRClassifier(network=NETWORKS["deepfm"], search=method, batch_size=1, **OPTIONS).fit(
        X[:12], y[:12]
    )
    assert np.isfinite(model.predict_proba(X)).all()


def test_a_table_of_one_row_is_one_batch_of_one_row():
    row = EncodedTensors(
        torch.tensor([[2]], dtype=torch.int32),
        torch.zeros(1, 0),
        torch.zeros(1, 0, dtype=torch.int32),
        torch.ones(1),
    )
    assert [len(b) for b in TrainingBatches(row, 8)] == [1]
    assert [len(b) for b in TrainingBatches(row, 8, members=3)] == [3]


def test_steps_of_one_row_reach_the_weights_below_the_norm(clicks):
    """Of two equal rows, as which a single one used to be shown, batch statistics leave nothing."""
    X, y = clicks
    model = CTRClassifier(network=NETWORKS["mlp"], id_dropout=0.0, **OPTIONS).fit(X, y)
    data = EncodedTensors.from_table(model.encoder_.encode(X[:1]), "cpu", np.ones(1, np.float32))
    slopes = {}
    for copies in (1, 2):
        net = FieldNet(copy.deepcopy(model.net_.module_), BinaryLogLoss(), lr=0.01).initialize()
        net.module_.train()
        net.get_loss(
            net.infer(rows := data.select(torch.zeros(copies, dtype=torch.int64))), rows.y, X=rows
        ).backward()
        slopes[copies] = float(net.module_.embedding.weight.grad.abs().max())
    assert slopes[1] > 1e-4 > 1e-6 > slopes[2]
