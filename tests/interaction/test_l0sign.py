"""L0-SIGN: messages and gates against numpy, what is measured and dropped, planted pairs."""

import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
import tuple_searches
from tuple_searches import fit, odd_table, ranking, rows

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import L0SIGN, _hidden_pairs
from sklearn_autorec.interaction._hidden_pairs import gated_sums, hidden_scores
from sklearn_autorec.interaction._l0sign import SearchedGraph
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import pair_index


def context(**options):
    return tuple_searches.context(4, embedding_init=0.5, **options)


def parts_of(module, e, x, pairs):
    """Logits of the gates and messages (not yet scaled) by numpy, of a module in eval mode."""
    w = {name: p.detach().numpy() for name, p in module.named_parameters()}
    u, logits, messages = e.numpy() * 0.1 / 0.5, [], []
    for k, (i, j) in enumerate(pairs):
        product = u[:, i] * u[:, j]
        hidden = np.maximum(product @ w["hidden.weight"].T + w["hidden.bias"], 0)
        messages.append(product + hidden @ w["out.weight"].T)
        if "edge" in w:
            logits.append(np.full(len(u), w["edge"][k]))
            continue
        v = module.edge_embedding(x).detach().numpy() / np.sqrt(1 + 1e-5)
        hidden = (v[:, i] * v[:, j]) @ w["edge_hidden.weight"].T + w["edge_hidden.bias"]
        last = np.maximum(hidden, 0) @ w["edge_out.weight"].T + w["edge_out.bias"]
        logits.append(last[:, 0])
    return np.array(logits).T, np.array(messages).transpose(1, 0, 2)


def passing(logits):
    """Gates without noise: the stretched and clipped sigmoid."""
    return np.clip(1.2 / (1 + np.exp(-logits)) - 0.1, 0, 1)


@pytest.mark.parametrize("level", ["value", "field"])
def test_the_sum_of_messages_agrees_with_numpy(level):
    pairs = [[0, 1], [1, 3], [2, 3]]
    module = L0SIGN(level, hidden_units=4).realise({"interactions": pairs}, context()).eval()
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(0, 1, generator=torch.Generator().manual_seed(3))
        if level == "value":
            module.edge_out.bias[:] = -3.1
    x, e = rows(7, 4), torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(2))
    logits, messages = parts_of(module, e, x, pairs)
    expected = module.scale.item() * (passing(logits)[:, :, None] * messages).sum(1)
    assert 0 < (passing(logits) == 0).mean() < 1 or level == "field"
    found = module(e, x).detach().numpy()
    assert found.shape == (7, 3) == (7, module.out_dim)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("cells", [1, 700, 10**6])  # 16, 32 and all rows at a time
def test_hidden_layers_of_pairs_in_chunks_are_plain_ones(monkeypatch, cells):
    monkeypatch.setattr(_hidden_pairs, "CHUNK_CELLS", cells)
    torch.manual_seed(0)
    layer, last = (torch.nn.Linear(n, k, dtype=torch.float64) for n, k in ((3, 4), (4, 1)))
    left, right = torch.tensor([[0, 0, 1, 2, 1], [1, 3, 3, 3, 2]])
    e = torch.randn(40, 4, 3, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(40, 5, dtype=torch.float64, requires_grad=True)
    products = e[:, left] * e[:, right]
    hidden = torch.relu(layer(products))
    both = (gates.unsqueeze(2) * torch.cat([products, hidden], 2)).sum(1)
    for expected, compute, of in (
        (both, lambda: gated_sums(e, gates, left, right, layer), [e, gates, *layer.parameters()]),
        (
            last(hidden).squeeze(2),
            lambda: hidden_scores(e, left, right, layer, last),
            [e, *layer.parameters(), *last.parameters()],
        ),
    ):
        found, slope = compute(), torch.randn_like(expected)
        torch.testing.assert_close(found, expected)
        wanted = torch.autograd.grad(expected, of, slope, retain_graph=True)
        for own, other in zip(torch.autograd.grad(found, of, slope), wanted, strict=True):
            torch.testing.assert_close(own, other)
        with torch.no_grad():
            torch.testing.assert_close(compute(), expected)


def test_gates_are_drawn_for_every_row_and_open_ones_cost():
    module = SearchedGraph(context(), 4, "field", 0.5)
    with torch.no_grad():
        module.edge[:] = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])
    logits = module.edge_logits(torch.zeros(4000, 4, 3), None)
    gates = module.gates(logits)
    assert ((gates == 0) | (gates == 1)).any(0).all() and len(gates[:, 2].unique()) > 100
    odds = torch.sigmoid(module.edge - 2 / 3 * np.log(0.1 / 1.1)).detach()
    torch.testing.assert_close((gates > 0).float().mean(0), odds, atol=0.03, rtol=0)
    for t, progress in ((0.0, 0.0), (0.3, 0.0), (0.65, 0.5), (1.0, 1.0)):
        module.set_progress(t)
        price = 0.5 * progress * odds.mean().item()
        assert module.penalty().item() == pytest.approx(price, rel=1e-5)
    assert module.summary()["open_edges"] == pytest.approx(odds.mean().item(), rel=1e-5)
    module.eval()
    again = module.gates(logits)
    assert torch.equal(again[0], again[-1])
    np.testing.assert_allclose(
        again[0].detach().numpy(), passing(module.edge.detach().numpy()), atol=1e-6
    )


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_measures_are_mean_gates_and_deviations_of_what_is_added(n_outputs):
    c = context(n_outputs=n_outputs)
    module = SearchedGraph(c, 4, "value", 0.1)
    network = FM().build(c, {"interaction": module})
    x = rows(50, 4)
    gates, scores = module.measure(network, EncodedTensors(*x[:3]))
    assert network.training and not module._forward_pre_hooks
    module.eval()
    pairs = [*combinations(range(4), 2)]
    logits, messages = parts_of(module, network.embed(x).detach(), x, pairs)
    np.testing.assert_allclose(gates, passing(logits).mean(0), rtol=1e-3)
    odds = 1 / (1 + np.exp(-(logits - 2 / 3 * np.log(0.1 / 1.1))))
    mix = np.ones((1, 3)) if n_outputs == 1 else network.pool.mix.weight.detach().numpy()
    added = odds[:, :, None] * (module.scale.item() * messages @ mix.T)
    np.testing.assert_allclose(scores, np.sqrt(added.var(0).sum(1)), rtol=1e-3)


@pytest.mark.parametrize("level", ["value", "field"])
def test_dropping_closed_pairs_changes_no_prediction(level):
    c, method = context(), L0SIGN(level, hidden_units=4)
    module = SearchedGraph(c, 4, level, 0.1).eval()
    pairs = pair_index(4).T.tolist()
    kept = [pairs[1], pairs[4]]
    with torch.no_grad():
        if level == "field":
            module.edge[:] = -9.0
            module.edge[[1, 4]] = torch.tensor([0.3, 0.8])
        x, e = rows(9, 4), torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(2))
        state = {f"interaction.{name}": t for name, t in module.state_dict().items()}
        state["linear.weight"] = torch.ones(2)
        brought = method.transfer(state, {"interactions": kept}, c)
        concrete = method.realise({"interactions": kept}, c).eval()
        assert brought["linear.weight"] is state["linear.weight"]
        brought.pop("linear.weight")
        concrete.load_state_dict({n.removeprefix("interaction."): t for n, t in brought.items()})
        if level == "field":
            torch.testing.assert_close(concrete(e, x), module(e, x))
            assert concrete.edge.tolist() == pytest.approx([0.3, 0.8])
        else:
            logits, messages = parts_of(module, e, x, kept)
            expected = module.scale.item() * (passing(logits)[:, :, None] * messages).sum(1)
            np.testing.assert_allclose(concrete(e, x).numpy(), expected, rtol=1e-3, atol=1e-5)
        nothing = method.realise({"interactions": []}, c)
        assert nothing(e, x).tolist() == [[0.0] * 3] * 9


@pytest.mark.parametrize("level", ["value", "field"])
def test_planted_pairs_are_ranked_first_on_a_factorization_machine(level):
    shuffled, recall, sizes = [], [], []
    for seed in range(5 if level == "value" else 2):
        X, y, truth = make_ctr(
            12_000, n_fields=8, cardinality=8, pairs=3, informative_fields=2, random_state=seed
        )
        model = fit(L0SIGN(level), X, y, seed)
        assert ranking(model, truth.pairs) >= 0.95
        if level == "value":
            recall += [(f"f{i}", f"f{j}") in model.interactions_ for i, j in truth.pairs]
            sizes.append(len(model.interactions_))
            X, y = X[:5000], np.random.default_rng(seed).permutation(y)[:5000]
            with warnings.catch_warnings():  # whether prices or evidence drop all does not matter
                warnings.simplefilter("ignore", UserWarning)
                control = fit(L0SIGN(level), X, y, seed)
            shuffled.append(ranking(control, truth.pairs))
            assert control.interactions_ == []
    if level == "value":
        assert 0.25 < np.mean(shuffled) < 0.75
        assert np.mean(recall) >= 0.8 and np.mean(sizes) <= 20


def test_the_threshold_and_the_number_decide_what_is_kept():
    X, y, _ = make_ctr(1500, n_fields=4, pairs=1, random_state=0)
    model = fit(L0SIGN(threshold=0.0, l0=0.0, retrain="none"), X, y)
    assert len(model.interactions_) == 6 and model.n_iter_ == 0 and model.history_ == []
    found = model.architecture_["interaction"]
    assert len(found["gates"]) == 6 and all(0 < g <= 1 for g in found["gates"])
    with pytest.warns(UserWarning, match="L0SIGN has kept none of 6 candidates.*a smaller l0"):
        assert fit(L0SIGN(threshold=1.0), X, y).interactions_ == []
    assert fit(L0SIGN(max_interactions=0), X, y).interactions_ == []
    model = fit(L0SIGN(threshold=0.0, l0=0.0, max_interactions=2), X, y)
    scores = model.interaction_scores_
    assert {*model.interactions_} == {*sorted(scores, key=scores.get)[-2:]}
    again = fit(L0SIGN(threshold=0.0, l0=0.0), X, y)
    assert again.n_iter_ == 1


def test_messages_outlast_a_decay_of_the_embeddings():
    X, y, truth = make_ctr(
        6000, n_fields=4, cardinality=8, pairs=1, pair_effect=2.0, random_state=0
    )
    options = {"embedding_init": 0.1, "embedding_l2": 0.01, "search_epochs": 6, "max_epochs": 2}
    model = fit(L0SIGN(), X, y, **options)
    planted = tuple(f"f{i}" for i in truth.pairs[0])
    assert max(model.interaction_scores_, key=model.interaction_scores_.get) == planted
    assert planted in model.interactions_


def test_odd_tables_are_taken():
    X, y, odd = odd_table()
    search = L0SIGN(threshold=0.0, retrain="scratch")
    model = fit(search, X, y, batch_size=399, members=2)
    assert np.isfinite(model.predict_proba(odd)).all()
    np.testing.assert_array_equal(model.predict_proba(odd[:1]), model.predict_proba(odd)[:1])
    assert fit(search, X, np.arange(400) % 3).predict_proba(odd).shape == (3, 3)
    narrowed = fit([AutoField(n_kept=3), L0SIGN("field", retrain="keep")], X, y)
    assert len(narrowed.interaction_scores_) == 3
    assert np.isfinite(fit(L0SIGN("field"), X[:3], [0, 1, 0]).predict_proba(odd)).all()
    for name in ("deepfm", "ipnn"):
        model = fit(L0SIGN(l0=0.0), X, y, network=name, search_epochs=1)
        assert np.isfinite(model.predict_proba(odd)).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"level": "row"}, "'level' parameter of L0SIGN"),
        ({"l0": -1.0}, "'l0' parameter of L0SIGN"),
        ({"threshold": 1.5}, "'threshold' parameter of L0SIGN"),
        ({"hidden_units": 0}, "'hidden_units' parameter of L0SIGN"),
        ({"max_interactions": -1}, "'max_interactions' parameter of L0SIGN"),
    ],
)
def test_bad_parameters_are_named(options, message):
    X, y, _ = make_ctr(100, n_fields=3, pairs=1, random_state=0)
    with pytest.raises(ValueError, match=message):
        fit(L0SIGN(**options), X, y)
    with pytest.raises(ValueError, match="at least 2 fields, the table has 1"):
        fit(L0SIGN(), X[["f0"]], y)


def test_bad_architectures_are_refused():
    good = {"interactions": [[0, 1]], "candidates": [[0, 1]], "scores": [0.5]}
    L0SIGN().check(good, context())
    for wrong, message in (
        ({**good, "interactions": [[0, 1, 2]]}, "must be two ints"),
        ({**good, "interactions": [[0, 4]]}, "rising fields below 4"),
        ({**good, "interactions": [[0, 1], [0, 1]]}, "pairs, each once"),
    ):
        with pytest.raises(ValueError, match=message):
            L0SIGN().check(wrong, context())
