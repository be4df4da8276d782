"""AutoGroup: groups against numpy, what trains when, planted pairs and triples."""

import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from small_tables import planted_pairs, planted_triple
from tuple_searches import check_refusals, context, fit, odd_table, ranking, rows

from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoGroup
from sklearn_autorec.interaction._autogroup import GroupProducts, SearchedGroups, tuples_inside
from sklearn_autorec.interaction._evidence import fading_evidence
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import BinaryLogLoss


def embeddings(n):
    return torch.randn(n, 5, 3, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kernel", ["esp", "power"])
def test_groups_agree_with_numpy(kernel):
    groups = {2: [[0, 1], [1, 3, 4]], 3: [[0, 2, 3, 4]]}
    architecture = {"groups": {str(p): own for p, own in groups.items()}}
    module = AutoGroup(kernel=kernel).realise(architecture, context())
    x, e = rows(6), embeddings(6)
    found, column = module(e, x).detach().numpy(), 0
    assert found.shape == (6, 3) == (6, module.out_dim)
    for p, own in groups.items():
        vectors = (e if p == 2 else module.tables["3"](x)).detach().numpy()
        vectors = (vectors - vectors.mean(0)) / np.sqrt(vectors.var(0) + 1e-5)
        weights = getattr(module, f"weight_{p}").detach().numpy()
        for weight, fields in zip(weights, own, strict=True):
            weighed = {i: weight[i] * vectors[:, i] for i in fields}
            if kernel == "esp":
                terms = [np.prod([weighed[i] for i in t], axis=0) for t in combinations(fields, p)]
                expected = sum(terms)
            else:
                expected = sum(weighed.values()) ** p - sum(v**p for v in weighed.values())
            np.testing.assert_allclose(found[:, column], expected.sum(1), atol=1e-5)
            column += 1


def searched(n_groups=None, **options):
    settings = {"arch_lr": 0.02, "temperature": 0.5, "price": 0.1, "schedule": None, **options}
    return SearchedGroups(context(), n_groups or {2: 3, 3: 2}, "esp", **settings)


def test_the_weights_see_the_likelier_choice_and_the_structure_draws():
    module = searched()
    with torch.no_grad():
        module.logits_2[:] = torch.tensor([[2.0, -1.0, 0.5, -3.0, 0.1]])
    likelier = (module.logits_2 >= 0).float()
    x, e = rows(6), embeddings(6)
    module.set_progress(0.5)
    assert torch.equal(module.chosen(2), likelier)
    module(e, x)  # the pass of the weights
    drawn = module.chosen(2)
    assert torch.equal(drawn, (module.logits_2 + module.noise[2] >= 0).float())
    drawn.sum().backward()
    odds = torch.sigmoid((module.logits_2 + module.noise[2]) / 0.5)
    torch.testing.assert_close(module.logits_2.grad, odds * (1 - odds) / 0.5)
    module.eval()
    assert torch.equal(module.chosen(2), likelier)
    module.train()
    counts = torch.zeros(3, 5)
    for _ in range(2000):
        module.set_progress(0.5)
        module.passes = 1
        counts += module.chosen(2).detach()
    torch.testing.assert_close(counts / 2000, torch.sigmoid(module.logits_2), atol=0.04, rtol=0)
    price = sum(torch.sigmoid(t / 0.5).mean() for t in (module.logits_2, module.logits_3))
    assert module.penalty().item() == pytest.approx(0.1 * price.item())
    assert module.summary()["share_of_fields_2"] == pytest.approx(0.6)


def test_what_is_derived_serves_as_the_search_does():
    method, module = AutoGroup(), searched()
    with torch.no_grad():
        module.logits_2[:] = torch.tensor(
            [[1.0, -1, -1, -1, -1], [1.0, -1, 1, 1, -1], [1, 1, -1, -1, -1]]
        )
        module.logits_3[:] = torch.tensor([[1.0, 1, -1, -1, -1], [-1.0, 1, 1, -1, 1]])
    x, e = rows(6), embeddings(6)
    module(e, x)
    module.eval()
    c = context()
    found = method.derive(module, c)
    assert found["groups"] == {"2": [[0, 2, 3], [0, 1]], "3": [[1, 2, 4]]}
    assert found["numbers"] == {"2": [1, 2], "3": [1]}
    assert found["interactions"] == [[0, 1], [0, 2], [0, 3], [2, 3], [1, 2, 4]]
    assert found["candidates"] == [list(t) for p in (2, 3) for t in combinations(range(5), p)]
    method.check(found, c)
    state = {f"interaction.{name}": t for name, t in module.state_dict().items()}
    state["linear.weight"] = torch.ones(2)
    brought = method.transfer(state, found, c)
    concrete = method.realise(found, c).eval()
    own = {n.removeprefix("interaction."): t for n, t in brought.items() if n != "linear.weight"}
    assert own.keys() == concrete.state_dict().keys() and "linear.weight" in brought
    concrete.load_state_dict(own)
    # Groups that are too small give nothing, so that the sum is that of the search.
    torch.testing.assert_close(concrete(e, x).sum(1), module(e, x).sum(1), atol=1e-5, rtol=1e-5)
    assert found["evidence"] == {}
    module.evidence = {2: 2.5, 3: 2.6}  # at 1 % for both together
    proven = method.derive(module, c)
    assert [*proven["groups"]] == ["3"] == [*proven["numbers"]]
    assert proven["interactions"] == [[1, 2, 4]]
    assert proven["evidence"] == {"2": 2.5, "3": 2.6}
    odds = torch.sigmoid(module.logits_2 / 0.5).detach().numpy()
    w = module.weight_2.detach().numpy() * odds
    np.testing.assert_allclose(found["scores"][:4], abs(w[:, :1] * w[:, 1:]).sum(0), rtol=1e-5)


def test_an_order_without_groups_is_left_out():
    assert tuples_inside({"3": [[0, 1, 2, 3]], "2": [[3, 4], [3, 4]]}) == [
        [3, 4], [0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3],
    ]  # fmt: skip
    module = GroupProducts(context(), {3: torch.ones(1, 5, dtype=torch.bool)}, "esp")
    assert list(module.tables) == ["3"] == list(module.norms)
    nothing = AutoGroup().realise({"groups": {}}, context())
    assert nothing(embeddings(4), rows(4)).shape == (4, 0) and not [*nothing.parameters()]


@pytest.mark.parametrize("name, seeds", [("fm", 5), ("deepfm", 1), ("ipnn", 1)])
def test_planted_pairs_are_ranked_first(name, seeds):
    shuffled, kept = [], []
    for seed in range(seeds):
        X, y, truth = planted_pairs(seed)
        planted = {(f"f{i}", f"f{j}") for i, j in truth.pairs}
        model = fit(AutoGroup(max_order=2), X, y, seed, name)
        assert ranking(model, truth.pairs) >= 0.95
        assert planted <= {*model.interactions_}
        if name == "fm":
            X, y = X[:5000], np.random.default_rng(seed).permutation(y)[:5000]
            control = fit(AutoGroup(max_order=2), X, y, seed, name)
            kept.append(len(control.interactions_))
            shuffled.append(ranking(control, truth.pairs))
    assert not shuffled or 0.25 < np.mean(shuffled) < 0.75
    assert not kept or sum(n > 0 for n in kept) <= 1  # a test at 1 % for each


def test_planted_triples_are_found():
    for seed in range(5):
        X, y, truth = planted_triple(seed)
        model = fit(AutoGroup(), X, y, seed)
        scores = {t: s for t, s in model.interaction_scores_.items() if len(t) == 3}
        assert max(scores, key=scores.get) == tuple(f"f{i}" for i in truth.triples[0])
        assert max(scores, key=scores.get) in model.interactions_


def test_the_evidence_of_an_order_is_that_of_its_groups_together():
    c, x = context(), rows(80)
    module = searched()
    network = FM().build(c, {"interaction": module}).eval()
    y = torch.from_numpy(np.random.default_rng(0).integers(0, 2, 80)).float()
    data = EncodedTensors(*x[:3], y)
    module.judge(network, BinaryLogLoss(), data)
    for order, columns in ((2, slice(0, 3)), (3, slice(3, 5))):
        together = fading_evidence(module, network, BinaryLogLoss(), data, columns)
        assert module.evidence[order] == pytest.approx(float(together))
    assert module.evidence[2] != pytest.approx(module.evidence[3])


def test_a_higher_price_makes_smaller_groups_and_none_trains_no_more():
    X, y, _ = make_ctr(4000, n_fields=5, cardinality=6, pairs=1, random_state=0)
    sizes = []
    for price in (0.0, 0.05, 2.0):
        search = AutoGroup(max_order=2, n_groups=4, price=price, retrain="none", warmup=0.0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model = fit(search, X, y, batch_size=64)
        nothing = [w for w in told if "AutoGroup has kept none of 10" in str(w.message)]
        assert len(nothing) == (model.interactions_ == [])
        sizes.append(model.search_history_[-1]["share_of_fields_2"])
        assert model.n_iter_ == 0 and model.history_ == []
    assert sizes[0] > sizes[2] == 0.0 and model.interactions_ == []
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("fraction, rows_of", [(0.3, "held_out"), (None, "same")])
def test_the_choices_have_rows_of_their_own_or_those_of_the_weights(fraction, rows_of):
    schedule = AutoGroup(search_fraction=fraction, warmup=0.25).build(context()).arch_schedule
    assert (schedule.rows, schedule.gradient, schedule.warmup) == (rows_of, "direct", 0.25)
    assert fraction is None or schedule.fraction == fraction


def test_odd_tables_are_taken():
    X, y, odd = odd_table()
    search = AutoGroup(n_groups=(3, 2), search_fraction=None)
    model = fit(search, X, y, batch_size=399, members=2)
    assert np.isfinite(model.predict_proba(odd)).all()
    np.testing.assert_array_equal(model.predict_proba(odd[:1]), model.predict_proba(odd)[:1])
    assert fit(search, X, np.arange(400) % 3).predict_proba(odd).shape == (3, 3)
    narrowed = fit([AutoField(n_kept=3), AutoGroup()], X, y)
    assert len(narrowed.interaction_scores_) == 3 + 1
    assert np.isfinite(fit(AutoGroup(), X[:3], [0, 1, 0]).predict_proba(odd)).all()
    two = fit(AutoGroup(), X[["f0", "f1"]], y)
    assert [*two.interaction_scores_] == [("f0", "f1")]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"max_order": 1}, "'max_order' parameter of AutoGroup"),
        ({"n_groups": (4, 4, 4)}, r"each of the 2 orders up to max_order=3, got \(4, 4, 4\)"),
        ({"n_groups": (4, 0)}, r"n_groups must be an int of at least 1.*got \(4, 0\)"),
        ({"kernel": "sum"}, "'kernel' parameter of AutoGroup"),
        ({"temperature": 0.0}, "'temperature' parameter of AutoGroup"),
        ({"warmup": 1.0}, "'warmup' parameter of AutoGroup"),
    ],
)
def test_bad_parameters_are_named(options, message):
    check_refusals(AutoGroup, options, message)


def test_bad_architectures_are_refused():
    good = {"groups": {"2": [[0, 1]]}, "numbers": {"2": [0]}, "interactions": [[0, 1]]}
    good |= {"candidates": [[0, 1]], "scores": [1.0]}
    AutoGroup().check(good, context())
    for wrong, message in (
        ({**good, "groups": None}, "groups must be a dict of order"),
        ({**good, "groups": {"7": [[0, 1]]}}, "orders from 2 to 5"),
        ({**good, "groups": {"two": [[0, 1]]}}, "orders from 2 to 5"),
        ({**good, "groups": {"2": [[1, 0]]}}, "2 rising fields or more"),
        ({**good, "groups": {"3": [[0, 1]]}}, "3 rising fields or more"),
        ({**good, "groups": {"2": [[0, 5]]}}, "must be below 5"),
        ({**good, "numbers": {"2": [0, 1]}}, "as many numbers of each order"),
        ({**good, "interactions": []}, "all tuples inside the groups"),
    ):
        with pytest.raises(ValueError, match=message):
            AutoGroup().check(wrong, context())
