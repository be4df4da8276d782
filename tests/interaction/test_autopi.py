"""AutoPI: its operations against numpy, what is derived from mixtures, planted pairs against main
effects.
"""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoPI
from sklearn_autorec.interaction._autopi import CELLS, CellBody, Softmax
from sklearn_autorec.interaction._field_operations import OPERATIONS, Cell, FieldNorm, operation
from sklearn_autorec.nn import BuildContext, FieldAttention
from sklearn_autorec.serving import load, save

OPTIONS = {
    "network": "fm",
    "embedding_dim": 4,
    "lr": 0.02,
    "max_epochs": 6,
    "search_epochs": 6,
    "batch_size": 64,
    "device": "cpu",
    "early_stopping": False,
    "wide": None,
    "target_statistics": False,
}


def context_of(n_fields=4, d=3, seed=0, **options):
    names = tuple("abcdefg"[:n_fields])
    generator = torch.Generator().manual_seed(seed)
    return BuildContext(
        names, (5,) * n_fields, embedding_dim=d, generator=generator, output_bias=(-0.5,), **options
    )


def fit(search, data, estimator=CTRClassifier, **options):
    options = {"random_state": 0, **OPTIONS, **options}
    return estimator(search=search, **options).fit(*data)


# Operations -------------------------------------------------------------------------------------


def formula(name, module, x):
    """An operation without its norm, by numpy."""
    w = {key: p.detach().numpy() for key, p in module[0].named_parameters()}
    n_rows, n_fields, d = x.shape
    flat = x.reshape(n_rows, -1)
    if name == "skip":
        return x
    if name == "senet":
        squeezed = np.maximum(x.mean(2) @ w["squeeze.weight"].T, 0)
        return x * (2 / (1 + np.exp(-squeezed @ w["excite.weight"].T)))[:, :, None]
    if name == "fm":
        pairs = [(i, j) for i in range(n_fields) for j in range(i + 1, n_fields)]
        products = np.stack([(x[:, i] * x[:, j]).sum(1) for i, j in pairs], 1)
        return (products @ w["project.weight"].T + w["project.bias"]).reshape(x.shape)
    if name == "fc":
        low = flat @ w["layer.0.weight"].T
        return np.maximum(low @ w["layer.1.weight"].T + w["layer.1.bias"], 0).reshape(x.shape)
    assert name == "conv"
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    out = np.stack(
        [
            sum(padded[:, i + k] @ w["conv.weight"][:, :, k].T for k in range(3)) + w["conv.bias"]
            for i in range(n_fields)
        ],
        1,
    )
    return np.maximum(out, 0)


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "attention"])
def test_operations_are_their_formulas(name):
    context = context_of()
    module = operation(name, context, rank=2)
    e = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(1))
    made = formula(name, module, e.numpy()).reshape(9, -1)
    normed = (made - made.mean(0)) / np.sqrt(made.var(0) + 1e-5)
    out = module(e).detach().numpy()
    np.testing.assert_allclose(out.reshape(9, -1), normed, rtol=1e-3, atol=1e-4)
    # Out of training a row has the running statistics, alone or with others.
    module.eval()
    np.testing.assert_allclose(module(e[:1])[0].detach(), module(e)[0].detach(), atol=1e-5)
    held = [n for n, p in module.named_parameters() if not p.requires_grad]
    assert held == (["0.project.bias"] if name == "fm" else [])


def test_attention_is_that_of_autoint_and_full_layers_may_be_full():
    for d, heads in ((4, 2), (3, 1)):
        attention = operation("attention", context_of(d=d), rank=None)[0]
        assert type(attention) is FieldAttention and attention.n_heads == heads
        assert attention(torch.randn(2, 4, d)).shape == (2, 4, d)
    layer = operation("fc", context_of(), rank=None)[0].layer
    assert layer.weight.shape == (12, 12)


def test_a_row_alone_is_normalised_by_what_came_before():
    norm = FieldNorm(context_of())
    e = torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(0))
    norm(e)
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    out = norm(e[:1])
    expected = (e[:1].flatten(1) - mean) / (var + 1e-5).sqrt()
    torch.testing.assert_close(out.flatten(1), expected)
    assert torch.equal(norm.running_mean, mean) and torch.equal(norm.running_var, var)


# Cells ------------------------------------------------------------------------------------------


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, e):
        return self.factor * e


def test_a_cell_sums_the_edges_of_its_nodes():
    edges = [[(0, Times(2.0)), (1, Times(3.0))], [(2, Times(5.0)), (0, Times(1.0))]]
    cell = Cell(edges, context_of())
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 30, 4, 3, generator=generator)

    def normed(x):
        return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()

    first, second = cell([a, b])
    torch.testing.assert_close(first, normed(2 * a + 3 * b))
    torch.testing.assert_close(second, normed(5 * first + a))
    weights = [torch.tensor([0.5, 0.1]), torch.tensor([2.0, 4.0])]
    first, second = cell([a, b], weights)
    torch.testing.assert_close(first, normed(a + 0.3 * b))
    torch.testing.assert_close(second, normed(10 * first + 4 * a))


def test_the_searched_body_is_the_mixture_of_its_operations():
    context = context_of()
    search = AutoPI(operations=("skip", "fc"), n_nodes=(2, 1), temperature=(0.5, 0.1))
    body = search.build(context)
    with torch.no_grad():
        for p in body.arch_parameters():
            p.normal_(generator=context.generator)
        body.norm.running_mean.fill_(0.3)
        body.norm.running_var.fill_(2.0)
    body.eval()
    e = torch.randn(6, 4, 3, generator=context.generator)

    def softmax(logits):
        w = np.exp(logits.detach().numpy() / 0.5)
        return w / w.sum()

    def nodes(name, states):
        cell = getattr(body, name)
        for k, (sources, edges) in enumerate(zip(cell.sources, cell.nodes, strict=True)):
            beta = softmax(body.edge_logits[name][k])
            made = 0
            for source, edge, b in zip(sources, edges, beta, strict=True):
                alpha = softmax(edge.logits)
                made = made + b * sum(
                    a * o(states[source]) for a, o in zip(alpha, edge.candidates, strict=True)
                )
            states = [*states, cell.norms[k](made)]
        return states

    start = body.norm(e)
    _, *inner = nodes("interaction_cell", [start])
    *_, last = nodes("ensemble_cell", [start, sum(inner) / 2])
    logits = last.flatten(1) @ body.out.weight.T * body.confidence.exp() - 0.5
    torch.testing.assert_close(body(e, None), logits.float(), rtol=1e-4, atol=1e-5)
    n_edges = (1 + 2) + 2
    assert len(body.arch_parameters()) == n_edges + 3 + 1
    assert sum(p.numel() for p in body.arch_parameters()) == 2 * n_edges + 5 + 1
    groups = body.arch_optimizer(10).param_groups
    assert [group["lr"] for group in groups] == [0.01, 0.05]
    trained = {id(p) for group in groups for p in group["params"]}
    assert trained == {id(p) for p in body.arch_parameters()}


def test_the_strongest_edges_and_operations_are_taken():
    context = context_of()
    search = AutoPI(operations=("skip", "fm", "fc"), n_nodes=(2, 2), n_edges=2)
    body = search.build(context)
    logits = {
        "interaction_cell": [[[0, 3, 0]], [[0, 0, 1], [9, 0, 0]]],
        "ensemble_cell": [[[0, 1, 0], [5, 0, 0]], [[0, 0, 9], [0, 9, 0], [9, 0, 0]]],
    }
    with torch.no_grad():
        for name, cell_logits in logits.items():
            for node, node_logits in zip(getattr(body, name).nodes, cell_logits, strict=True):
                for edge, own in zip(node, node_logits, strict=True):
                    edge.logits.copy_(torch.tensor(own, dtype=torch.float32))
        body.edge_logits["ensemble_cell"][1].copy_(torch.tensor([1.0, 0.0, 2.0]))
    architecture = search.derive(body, context)
    assert architecture["interaction_cell"] == [[[0, "fm"]], [[0, "fc"], [1, "skip"]]]
    assert architecture["ensemble_cell"] == [
        [[0, "fm"], [1, "skip"]],
        [[0, "fc"], [2, "skip"]],
    ]
    weight = np.exp([1.0, 0.0, 2.0]) / np.exp([1.0, 0.0, 2.0]).sum()
    mixture = architecture["mixtures"]["ensemble_cell"][1]
    np.testing.assert_allclose([edge for _, edge, _ in mixture], weight, rtol=1e-5)
    assert [source for source, *_ in mixture] == [0, 1, 2]
    one = AutoPI(operations=("skip", "fm", "fc"), n_nodes=(2, 2), n_edges=1)
    assert one.derive(body, context)["ensemble_cell"] == [[[1, "skip"]], [[2, "skip"]]]


def test_a_cell_that_nothing_reads_is_not_built():
    context = context_of()
    inner = [[[0, "fm"]]]
    read = {"interaction_cell": inner, "ensemble_cell": [[[0, "skip"]], [[1, "skip"]]]}
    unread = {"interaction_cell": inner, "ensemble_cell": [[[0, "skip"]], [[2, "skip"]]]}
    assert AutoPI().realise(read, context).interaction_cell is not None
    body = AutoPI().realise(unread, context)
    assert type(body) is CellBody and body.interaction_cell is None
    assert body(torch.randn(5, 4, 3), None).shape == (5, 1)


def test_the_temperature_falls_after_the_warm_up():
    softmax = Softmax((1.0, 0.25), 0.5)
    logits = torch.tensor([0.0, 1.0])
    for t, temperature in ((0.0, 1.0), (0.5, 1.0), (0.75, 0.5), (1.0, 0.25)):
        softmax.set_progress(t)
        torch.testing.assert_close(softmax(logits), torch.softmax(logits / temperature, 0))


# Whole fits -------------------------------------------------------------------------------------


def chosen_on_path(found):
    """Operations on edges that reach the output."""
    inner, outer = (found[name] for name in CELLS)
    operations = {kind for edges in outer for _, kind in edges}
    if any(source == 1 for edges in outer for source, _ in edges):
        operations |= {kind for edges in inner for _, kind in edges}
    return operations


def searched(seed, **truth):
    X, y, _ = make_ctr(6000, n_fields=5, cardinality=6, random_state=seed, **truth)
    search = AutoPI(operations=("skip", "senet", "fm"), n_nodes=(1, 1))
    train, test = slice(0, 4000), slice(4000, None)

    def auc(model):
        return roc_auc_score(y[test], model.predict_proba(X[test])[:, 1])

    options = {"max_epochs": 3, "random_state": seed}  # the search decides what is found
    model = fit(search, (X[train], y[train]), **options)
    return model, auc(model), auc(fit(None, (X[train], y[train]), **options))


def test_products_are_found_where_pairs_act_and_left_where_only_fields_do():
    by_pairs = [searched(seed, pairs=[(0, 3), (1, 4)]) for seed in range(5)]
    found = ["fm" in chosen_on_path(m.architecture_["body"]) for m, *_ in by_pairs]
    assert sum(found) == 5
    # All in all no worse than a factorization machine, whose form is the planted one.
    assert np.mean([own - fm for _, own, fm in by_pairs]) > -0.005
    by_fields = [searched(seed, pairs=0, informative_fields=5) for seed in range(5)]
    found = ["fm" in chosen_on_path(m.architecture_["body"]) for m, *_ in by_fields]
    assert sum(found) == 0
    assert np.mean([own - fm for _, own, fm in by_fields]) > -0.005


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(300, n_fields=4, pairs=1, n_numeric=1, random_state=0)[:2]


@pytest.mark.parametrize("network", ["auto", "ipnn", "dcnv2"])
def test_other_networks_and_ratings_with_all_operations(network, clicks):
    X, y = clicks
    model = fit(
        AutoPI(), (X, y + 0.5), RatingRegressor, network=network, max_epochs=1, search_epochs=2
    )
    names = {name.split(".")[0] for name, _ in model.net_.module_.named_parameters()}
    assert names == {"embedding", "body"}  # nothing of the network is left behind the embeddings
    record = model.search_history_[-1]
    assert 1 / len(OPERATIONS) < record["operation_weight"] <= 1 and record["confidence"] != 1
    odd = X.iloc[:1].assign(f0="never seen", x0=np.nan)
    assert np.isfinite(model.predict(odd)).all() and np.isfinite(model.predict(X)).all()


def test_it_comes_after_a_choice_of_fields_and_is_saved(clicks, tmp_path):
    X, _ = clicks
    model = fit(
        [AutoField(n_kept=3), AutoPI(n_nodes=(1, 1))], clicks, max_epochs=1, search_epochs=1
    )
    found = model.architecture_
    assert found["body"]["n_fields"] == 3
    save(model, tmp_path / "model")
    p = model.predict_proba(X)
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)
    options = {name: value for name, value in OPTIONS.items() if name not in found}
    again = CTRClassifier.from_architecture(found, **{**options, "max_epochs": 1})
    assert again.fit(*clicks).architecture_ == found


def test_mixtures_wait_for_the_weights_and_see_rows_of_their_own(clicks):
    found = {}
    for warmup in (0.0, 0.99):
        model = fit(AutoPI(warmup=warmup, arch_lr=0.1), clicks, max_epochs=1, search_epochs=3)
        found[warmup] = [r["operation_weight"] for r in model.search_history_]
    assert found[0.99][1] < 0.2 < found[0.0][0]
    schedule = AutoPI(search_fraction=0.3).build(context_of()).arch_schedule
    assert schedule.bilevel and schedule.fraction == 0.3 and schedule.warmup == 0.4


def test_wrong_parameters_tables_and_architectures_are_refused(clicks):
    X, y = clicks
    for options, told in (
        ({"operations": ("skip", "power")}, "operations must be different names"),
        ({"operations": ("skip", "skip")}, "operations must be different names"),
        ({"operations": ()}, "operations must be different names"),
        ({"n_nodes": (0, 1)}, "n_nodes must be two ints"),
        ({"n_nodes": (1,)}, "n_nodes must be two ints"),
        ({"temperature": (1.0, 0.0)}, "temperature must be two positive"),
        ({"n_edges": 0}, "n_edges"),
        ({"warmup": 1.0}, "warmup"),
    ):
        with pytest.raises(ValueError, match=told):
            fit(AutoPI(**options), clicks)
    with pytest.raises(ValueError, match="needs at least 2 fields, the table has 1"):
        fit(AutoPI(), (X[["f0"]], y))
    good = {
        "method": "AutoPI",
        "n_fields": 5,
        "interaction_cell": [[[0, "fm"]]],
        "ensemble_cell": [[[0, "skip"], [1, "fc"]]],
    }
    fit(FixedArchitecture(good), clicks, max_epochs=1)
    for change in (
        {"n_fields": 4},
        {"n_fields": "5"},
        {"interaction_cell": None},
        {"interaction_cell": []},
        {"interaction_cell": [[]]},
        {"interaction_cell": [[[1, "fm"]]]},
        {"ensemble_cell": [[[2, "fm"]]]},
        {"ensemble_cell": [[[-1, "fm"]]]},
        {"ensemble_cell": [[[True, "fm"]]]},
        {"ensemble_cell": [[[0, "power"]]]},
        {"ensemble_cell": [[[0, ["fm"]]]]},
        {"ensemble_cell": [[0, "fm"]]},
        {"ensemble_cell": [[[0, "fm", 1]]]},
    ):
        with pytest.raises(ValueError, match=next(iter(change))):
            fit(FixedArchitecture({**good, **change}), clicks)
