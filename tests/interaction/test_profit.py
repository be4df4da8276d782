"""PROFIT: sums over tuples against numpy, planted pairs and triples, and when it stops."""

from itertools import combinations

import numpy as np
import pytest
import torch
from small_tables import planted_pairs, planted_triple
from tuple_searches import check_refusals, context, fit, odd_table, ranking, rows

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import PROFIT
from sklearn_autorec.interaction._evidence import fading_evidence, mean_slopes
from sklearn_autorec.interaction._factors import (
    scored_tuples,
    summed_pairs,
    summed_polynomials,
    summed_powers,
)
from sklearn_autorec.interaction._products import KeptProducts
from sklearn_autorec.interaction._profit import DecomposedTensors
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss, PairDots, pair_index

# Formulas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_sums_over_tuples_agree_with_numpy(order):
    rng = np.random.default_rng(0)
    weights, e = (
        torch.from_numpy(rng.normal(size=shape)).requires_grad_() for shape in ((2, 5), (4, 5, 3))
    )
    expected, pairs = torch.zeros(4, 2, dtype=torch.float64), pair_index(5)
    for t in combinations(range(5), order):
        expected = expected + torch.stack(
            [weights[:, i, None] * e[:, i].unsqueeze(1) for i in t]
        ).prod(0).sum(2)
    slope = torch.from_numpy(rng.normal(size=expected.shape))
    wanted = torch.autograd.grad(expected, (weights, e), slope)
    ways = [summed_polynomials(weights, e, order)]
    if order == 2:
        dots = PairDots(pairs, 5)
        ways += [summed_pairs(weights, dots(e), pairs), summed_powers(weights, e, 2) / 2]
    for found in ways:
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
        for own, other in zip(torch.autograd.grad(found, (weights, e), slope), wanted, strict=True):
            torch.testing.assert_close(own, other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("rank", "dense"), [(1, False), (2, True)])
def test_pairs_are_summed_by_whatever_takes_less(rank, dense):
    module = DecomposedTensors(context(), 2, rank, 0.01, 0.2)  # 10 pairs, d = 3
    assert (module.dots is not None) == dense
    e = torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(2))
    by_powers = summed_polynomials(module.factors_2, module.vectors(2, e, None), 2)
    torch.testing.assert_close(module(e, None), by_powers * module.signs_2)


def test_features_are_sums_of_weighted_products_of_each_order():
    module = DecomposedTensors(context(), 4, 2, 0.01, 0.2)
    x, e = rows(6), torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        module.signs_3[:] = torch.tensor([2.0, -1.0])
    for reached in (2, 3, 4):
        module.order = reached
        out = module(e, x).detach().numpy()
        assert out.shape == (6, 6) == (6, module.out_dim)
        np.testing.assert_array_equal(out[:, 2 * (reached - 1) :], 0)
    for order in (2, 3, 4):
        own = e if order == 2 else module.tables[str(order)](x)
        own = own.detach().numpy()
        own = (own - own.mean(0)) / np.sqrt(own.var(0) + 1e-5)
        factors, signs = (t.detach().numpy() for t in module.tensor(order))
        for r in range(2):
            expected = sum(
                signs[r] * np.prod([factors[r, i] * own[:, i] for i in t], axis=0).sum(1)
                for t in combinations(range(5), order)
            )
            np.testing.assert_allclose(out[:, 2 * (order - 2) + r], expected, atol=1e-4)


def test_scores_are_entries_of_the_tensor():
    rng = np.random.default_rng(0)
    factors, head = rng.normal(size=(3, 6)), rng.normal(size=(3, 2))
    tuples, scores = scored_tuples(3, factors, head)
    assert [tuple(t) for t in tuples.tolist()] == [*combinations(range(6), 3)]
    for (i, j, k), score in zip(tuples, scores, strict=True):
        entry = ((factors[:, i] * factors[:, j] * factors[:, k])[:, None] * head).sum(0)
        assert score == pytest.approx(np.sqrt((entry**2).sum()))


def test_a_beam_finds_the_strongest_of_many_tuples():
    rng = np.random.default_rng(0)
    factors = rng.exponential(size=(2, 12))
    all_tuples, all_scores = scored_tuples(4, factors, np.ones((2, 1)))
    tuples, scores = scored_tuples(4, factors, np.ones((2, 1)), limit=60)
    assert len(tuples) == 60 and (np.diff(tuples, axis=1) > 0).all()
    assert tuples.tolist() == sorted(tuples.tolist())
    best = {tuple(t) for t in all_tuples[np.argsort(-all_scores)[:20]].tolist()}
    assert best <= {tuple(t) for t in tuples.tolist()}
    known = {tuple(t): s for t, s in zip(all_tuples.tolist(), all_scores, strict=True)}
    np.testing.assert_allclose(scores, [known[tuple(t)] for t in tuples.tolist()])


def test_evidence_of_an_order_is_that_of_its_sum():
    c, x = context(), rows(80)
    module = DecomposedTensors(c, 3, 2, 0.01, 0.2)
    module.order = 3
    network = FM().build(c, {"interaction": module})
    network(*x[:3])
    y = torch.from_numpy(np.random.default_rng(0).integers(0, 2, 80)).float()
    data = EncodedTensors(*x[:3], y)
    network.eval()
    logits = network(*x[:3])[:, 0].detach().double().numpy()
    e = network.embed(x)
    share = module(e, x)[:, 2:].sum(1).detach().double().numpy()
    without = logits - share
    gains = [
        share * (y.numpy() - 1 / (1 + np.exp(-without))),
        share * (y.numpy() - y.numpy().mean()),
    ]
    expected = min(g.mean() / (g.std(ddof=1) / np.sqrt(80)) for g in gains)
    module.judge(network, BinaryLogLoss(), data)
    assert module.evidence[3] == pytest.approx(expected, rel=1e-4)
    assert list(module.evidence) == [3] and not module._forward_hooks
    np.testing.assert_allclose(mean_slopes(module, network, data).numpy(), 1, atol=1e-6)
    each = fading_evidence(module, network, BinaryLogLoss(), data)
    assert each.shape == (4,) and each[2:].max() != pytest.approx(expected)


def test_kept_products_of_any_order_agree_with_numpy():
    tuples = [(0, 1), (2, 4), (0, 1, 2), (0, 1, 3, 4), (0, 1, 2, 3, 4)]
    module = KeptProducts(tuples, context(), weight=0.6).eval()
    x, e = rows(6), torch.randn(6, 5, 3, generator=torch.Generator().manual_seed(2))
    own = module.embedding(x).detach().numpy()
    columns = [
        np.prod([(e.numpy() if len(t) == 2 else own)[:, i] for i in t], axis=0).sum(1)
        for t in tuples
    ]
    np.testing.assert_allclose(
        module(e, x).detach().numpy(), 0.6 * np.array(columns).T / np.sqrt(1 + 1e-3), atol=1e-4
    )


# The search -------------------------------------------------------------------------------------


def test_the_strongest_tuples_of_proven_orders_are_kept():
    method, module = PROFIT(n_interactions=(2, 0.2)), DecomposedTensors(context(), 3, 1, 0.1, 0.2)
    with torch.no_grad():
        module.factors_2[:] = torch.tensor([[0.1, -3.0, 2.0, 0.2, 0.5]])
        module.factors_3[:] = torch.tensor([[2.0, 1.0, 0.1, -3.0, 0.2]])
    for evidence, kept in (
        ({2: 5.0, 3: 2.4}, [[1, 2], [1, 4], [0, 1, 3], [0, 3, 4]]),
        ({2: 5.0, 3: 2.3}, [[1, 2], [1, 4]]),
        ({2: 2.3, 3: 2.4}, [[0, 1, 3], [0, 3, 4]]),
        ({}, []),
    ):
        module.order, module.evidence = 3, evidence
        found = method.derive(module, context())
        assert found["interactions"] == kept
        assert found["candidates"] == [list(t) for p in (2, 3) for t in combinations(range(5), p)]
    assert found["scores"][4] == pytest.approx(6.0) and found["scores"][10] == pytest.approx(0.2)


def test_only_the_present_order_moves_and_lower_ones_rest():
    module = DecomposedTensors(context(), 4, 2, 0.01, 0.2)
    module.order = 3
    names = ["interaction." + name for name, _ in module.named_parameters()]
    still = {name for name in names if not module.moves(name)}
    assert still == {"interaction.factors_2", "interaction.signs_2"}
    assert module.moves("embedding.weight")
    X, y, _ = make_ctr(2000, n_fields=4, cardinality=4, pairs=[(0, 1)], random_state=0)
    seen = []
    real = DecomposedTensors.judge

    def spy(self, *args):
        real(self, *args)
        self.evidence[self.order] = 9.0  # so that it goes on
        seen.append({name: p.detach().clone() for name, p in self.named_parameters()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DecomposedTensors, "judge", spy)
        model = fit(PROFIT(max_order=4, n_interactions=1), X, y, search_epochs=1)
    assert [len(t) for t in model.interactions_] == [2, 3, 4]
    assert [r["order"] for r in model.search_history_] == [2, 3, 4]
    assert torch.equal(seen[0]["factors_2"], seen[2]["factors_2"])
    assert torch.equal(seen[1]["factors_3"], seen[2]["factors_3"])
    assert not torch.equal(seen[0]["factors_3"], seen[1]["factors_3"])


@pytest.mark.parametrize("name, seeds", [("fm", 5), ("deepfm", 1), ("ipnn", 1)])
def test_planted_pairs_are_ranked_first(name, seeds):
    shuffled = []
    for seed in range(seeds):
        X, y, truth = planted_pairs(seed)
        search = PROFIT(max_order=2, n_interactions=5)
        model = fit(search, X, y, seed, name)
        assert ranking(model, truth.pairs) >= 0.95
        if name == "fm":
            assert {*model.interactions_} == {(f"f{i}", f"f{j}") for i, j in truth.pairs}
            X, y = X[:5000], np.random.default_rng(seed).permutation(y)[:5000]
            control = fit(search, X, y, seed, name)
            shuffled.append(ranking(control, truth.pairs))
            assert control.interactions_ == []
    assert not shuffled or 0.25 < np.mean(shuffled) < 0.75


def test_planted_triples_are_found_and_pairs_alone_end_the_search():
    pairs_found = 0
    for seed in range(5):
        X, y, truth = planted_triple(seed)
        model = fit(PROFIT(n_interactions=1), X, y, seed)
        (pair, triple) = model.interactions_
        assert triple == tuple(f"f{i}" for i in truth.triples[0])
        pairs_found += pair == tuple(f"f{i}" for i in truth.pairs[0])
    assert pairs_found >= 4  # beside a triple of the same effect a pair may stay behind another one
    X, y, _ = make_ctr(9000, n_fields=6, cardinality=5, pairs=2, random_state=0)
    model = fit(PROFIT(max_order=5, n_interactions=2), X, y)
    assert [r["order"] for r in model.search_history_] == [2] * 3 + [3] * 3
    assert {len(t) for t in model.interactions_} == {2}
    assert {len(t) for t in model.interaction_scores_} == {2, 3}
    evidence = model.architecture_["interaction"]["evidence"]
    assert evidence["2"] > 10 and evidence["3"] < 2.33


def test_patience_goes_on_beyond_an_order_that_does_not_help():
    X, y, _ = make_ctr(1000, n_fields=4, pairs=0, informative_fields=2, random_state=0)
    orders = {}
    for patience in (1, 2, None):
        model = fit(PROFIT(max_order=4, patience=patience), X, y, search_epochs=1)
        orders[patience] = [r["order"] for r in model.search_history_]
        assert model.interactions_ == [] and np.isfinite(model.predict_proba(X[:2])).all()
    assert orders == {1: [2], 2: [2, 3], None: [2, 3, 4]}


# Odd tables, parameters, architectures ----------------------------------------------------------


def test_odd_tables_are_taken():
    X, y, odd = odd_table()
    search = PROFIT(patience=None, n_interactions=(3, 0.1))
    model = fit(search, X, y, batch_size=399, members=2)
    assert np.isfinite(model.predict_proba(odd)).all()
    np.testing.assert_array_equal(model.predict_proba(odd[:1]), model.predict_proba(odd)[:1])
    assert fit(search, X, np.arange(400) % 3).predict_proba(odd).shape == (3, 3)
    narrowed = fit([AutoField(n_kept=3), PROFIT(patience=None)], X, y)
    assert len(narrowed.interaction_scores_) == 3 + 1
    assert np.isfinite(fit(search, X[:3], [0, 1, 0]).predict_proba(odd)).all()
    two = fit(PROFIT(patience=None, max_order=4), X[["f0", "f1"]], y)
    assert [*two.interaction_scores_] == [("f0", "f1")]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_order": 1}, "'max_order' parameter of PROFIT"),
        ({"rank": 0}, "'rank' parameter of PROFIT"),
        ({"patience": 0}, "'patience' parameter of PROFIT"),
        ({"n_interactions": (1, 2, 3)}, r"each of the 2 orders up to max_order=3, got \(1, 2, 3\)"),
        ({"n_interactions": (1, 1.5)}, r"n_interactions must be a number.*got \(1, 1.5\)"),
        ({"search_fraction": 1.0}, "'search_fraction' parameter of PROFIT"),
    ],
)
def test_bad_parameters_are_named(options, message):
    check_refusals(PROFIT, options, message)


def test_bad_architectures_are_refused():
    good = {"interactions": [[0, 1], [0, 1, 2, 4]], "candidates": [[0, 1]], "scores": [0.5]}
    PROFIT().check(good, context())
    for wrong, message in (
        ({**good, "interactions": [[0]]}, "must be 2 to 5 ints"),
        ({**good, "interactions": [[0, 1, 2, 3, 4, 5]]}, "must be 2 to 5 ints"),
        ({**good, "interactions": [[0, 1, 2, 5]]}, "rising fields below 5"),
        ({**good, "scores": [float("nan")]}, "1 finite floats"),
    ):
        with pytest.raises(ValueError, match=message):
            PROFIT().check(wrong, context())
