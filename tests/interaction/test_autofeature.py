"""AutoFeature: the evolution on a landscape that is known, its operations against numpy, planted
pairs.
"""

import itertools
import json

import numpy as np
import pytest
import torch
from searching import ALONE
from sklearn.linear_model import Ridge

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import Evaluations, FieldNet
from sklearn_autorec.interaction import AutoFeature
from sklearn_autorec.interaction._autofeature import (
    OPERATIONS,
    PairNetworks,
    candidate,
    keeping_effects,
)
from sklearn_autorec.interaction._naive_bayes_tree import (
    NaiveBayesTree,
    _child,
    _choose_leaf,
    tree_search,
)
from sklearn_autorec.nn import BuildContext

OPTIONS = {
    **ALONE,
    "network": "fm",
    "embedding_dim": 4,
    "lr": 0.02,
    "max_epochs": 4,
    "search_epochs": 6,
    "batch_size": 256,
}
PAIRS = [(0, 3), (1, 4)]


# The tree and the evolution, without a network ------------------------------------------------


def test_the_evidence_of_naive_bayes_is_that_of_the_counts():
    strings = np.array([[0, 1], [0, 2], [1, 1], [1, 2]])
    tree = NaiveBayesTree(strings, np.array([4.0, 3.0, 2.0, 1.0]), 3, depth=1)
    # Better half: first position 0, 0; second 1, 2. Laplace adds one to each of three counts.
    expected = np.log([[3 / 5, 1 / 5, 1 / 5], [1 / 5, 2 / 5, 2 / 5]]) - np.log(
        [[1 / 5, 3 / 5, 1 / 5], [1 / 5, 2 / 5, 2 / 5]]
    )
    np.testing.assert_allclose(tree.evidence(np.arange(4)), expected)
    # Of three strings one is the better half, two the other.
    expected = np.log([[2 / 4, 1 / 4, 1 / 4], [1 / 4, 2 / 4, 1 / 4]]) - np.log(
        [[2 / 5, 2 / 5, 1 / 5], [1 / 5, 2 / 5, 2 / 5]]
    )
    np.testing.assert_allclose(tree.evidence(np.array([2, 0, 1])), expected)


def test_the_tree_sends_good_strings_left_and_finds_them_again():
    rng = np.random.default_rng(0)
    strings = rng.integers(0, 3, (400, 6))
    scores = (strings[:, 2] == 1) + 0.5 * (strings[:, 4] == 0) + 0.01 * rng.normal(size=400)
    tree = NaiveBayesTree(strings, scores, 3, depth=3)
    assert sorted(np.concatenate(tree.leaves).tolist()) == list(range(400))
    assert len(tree.leaves) > 2 and min(map(len, tree.leaves)) >= 12
    means = [scores[rows].mean() for rows in tree.leaves]
    assert means[0] == max(means) and means[-1] == min(means)
    for leaf, rows in enumerate(tree.leaves):
        assert {tree.leaf_of(strings[row]) for row in rows} == {leaf}
    # Failures are the worst, and equal scores split as well.
    equal = NaiveBayesTree(strings, np.full(400, -np.inf), 3, depth=3)
    assert sorted(np.concatenate(equal.leaves).tolist()) == list(range(400))


def test_leaves_are_drawn_by_their_good_strings():
    rng = np.random.default_rng(0)
    strings = rng.integers(0, 3, (100, 5))
    tree = NaiveBayesTree(strings, (strings[:, 0] == 0) + 0.01 * rng.normal(size=100), 3, depth=1)
    good = np.array([(tree.rank[rows] < 50).sum() for rows in tree.leaves])
    assert len(good) == 2 and good.sum() == 50
    for concentration in (0.0, 50.0):
        drawn = [_choose_leaf(tree, concentration, rng) for _ in range(4000)]
        expected = (good + concentration / 2) / (50 + concentration)
        np.testing.assert_allclose(np.bincount(drawn, minlength=2) / 4000, expected, atol=0.03)


def test_a_child_has_a_half_of_each_parent_and_new_choices():
    rng = np.random.default_rng(0)
    parents = np.array([[1] * 6, [2] * 6])
    children = np.array([_child(parents, 5, 2, rng) for _ in range(3000)])
    crossed = np.array([1, 1, 1, 2, 2, 2])
    changed = children != crossed
    assert changed.sum(1).max() == 2
    # Drawn from five, one of which is what was there; two positions that may be the same.
    assert changed.mean() == pytest.approx(0.8 * (1 - (5 / 6) ** 2), abs=0.03)
    values = [(children[changed] == value).mean() for value in (0, 3, 4)]
    np.testing.assert_allclose(values, 1 / 4, atol=0.03)


def landscape(seed):
    """28 pairs, five choices; four planted ones pay, each superfluous pair costs a little."""
    rng = np.random.default_rng(seed)
    where, choice = rng.choice(28, 4, replace=False), rng.integers(1, 5, 4)

    def fitness(string):
        superfluous = np.count_nonzero(string) - np.count_nonzero(string[where])
        return 0.2 * (string[where] == choice).sum() - 0.01 * superfluous

    return where, choice, fitness, rng


def planted_share(seed, ask, mislead=False):
    """The share of planted choices that the best of 300 noisy evaluations has."""
    where, choice, fitness, rng = landscape(seed)
    strings, noisy, told = [], [], None
    while len(strings) < 300:
        batch = ask(told)
        own = [fitness(s) + 0.05 * rng.normal() for s in batch]
        told = rng.permutation(noisy + own)[: len(batch)] if mislead else own
        strings, noisy = strings + batch, noisy + own
    best = strings[int(np.argmax(noisy[:300]))]
    return (best[where] == choice).mean(), fitness(best)


def test_the_evolution_beats_random_strings_on_a_known_landscape():
    def shares(make, **options):
        return np.mean([planted_share(s, make(s), **options) for s in range(10)], 0)

    def evolution(seed):
        return tree_search(28, 5, np.random.default_rng(seed + 100)).send

    def random(seed):
        rng = np.random.default_rng(seed + 100)
        return lambda told: list(rng.integers(0, 5, (5, 28)))

    (planted, fitness), (by_chance, fitness_by_chance) = shares(evolution), shares(random)
    assert planted >= by_chance + 0.08 and planted > 0.95
    assert fitness > fitness_by_chance + 0.06
    # Told the scores of other strings it is no better than chance.
    assert shares(evolution, mislead=True)[1] < fitness_by_chance + 0.03


@pytest.mark.parametrize("length, n_choices", [(1, 2), (2, 3), (3, 5)])
def test_the_evolution_ends_when_all_strings_were_tried(length, n_choices):
    search = tree_search(length, n_choices, np.random.default_rng(0), n_initial=4)
    asked, told = [], None
    with pytest.raises(StopIteration):
        for _ in range(200):
            batch = search.send(told)
            asked += [tuple(s.tolist()) for s in batch]
            told = [float(sum(s)) if sum(s) else np.nan for s in batch]
    assert sorted(asked) == sorted(itertools.product(range(n_choices), repeat=length))


def test_a_string_and_its_architecture():
    pairs = [[0, 1], [0, 2], [1, 2]]
    assert candidate(np.array([0, 4, 1]), pairs) == {
        "interactions": [[0, 2], [1, 2]],
        "operations": [["inner"], ["add"]],
    }
    two = candidate(np.array([3, 2, 2, 2, 0, 0]), pairs)
    assert two == {
        "interactions": [[0, 1], [0, 2]],
        "operations": [["product", "concat"], ["product"]],
    }
    assert candidate(np.array([2, 3, 0, 2, 0, 0]), pairs) == two  # the same network


@pytest.mark.parametrize("n_pairs", [3, 6])
def test_effects_of_pairs_are_those_of_a_ridge_regression(n_pairs):
    kept = [[[0, 1]], [[0, 1], [0, 2]], [[0, 2]], [], [[0, 1], [1, 2]], [[1, 2]]]
    scores = [4.0, 3.0, 1.0, np.nan, 3.5, 1.5]
    pairs = [[0, 1], [0, 2], [1, 2], [0, 3], [1, 3], [2, 3]][:n_pairs]
    evaluations = Evaluations([{"interactions": own} for own in kept], scores)
    table = np.array([[pair in own for pair in pairs] for own in kept], float)
    valid = np.isfinite(scores)
    expected = Ridge(alpha=1.0).fit(table[valid], np.array(scores)[valid]).coef_
    np.testing.assert_allclose(keeping_effects(evaluations, pairs), expected, atol=1e-12)


# The operations ---------------------------------------------------------------------------------


def test_operations_are_their_formulas():
    generator = torch.Generator().manual_seed(0)
    context = BuildContext(("a", "b", "c"), (5, 5, 5), embedding_dim=3, generator=generator)
    pairs = [[0, 1], [0, 2], [1, 2]]
    operations = [["concat", "inner"], ["add", "product"], ["inner", "product", "concat"]]
    part = PairNetworks(pairs, operations, context)
    e = torch.randn(7, 3, 3, generator=generator)
    # At the start products count by one, all else for nothing.
    x = e.numpy()
    start = part(e, None).detach().numpy()
    products = [(0, 2), (1, 2)]
    inner = sum((x[:, i] * x[:, j]).sum(1) for i, j in [(0, 1), (1, 2), *products])
    np.testing.assert_allclose(start.sum(1), inner, rtol=1e-4)

    with torch.no_grad():
        for p in part.parameters():
            p.normal_(generator=generator)
    w = {name: p.detach().numpy() for name, p in part.weight.items()}
    hidden, shift = part.hidden.detach().numpy(), part.shift.detach().numpy()
    columns = [w["add"][0] * (x[:, 0] + x[:, 2])]
    columns += [w["product"][k] * x[:, i] * x[:, j] for k, (i, j) in enumerate(products)]
    for k, (i, j) in enumerate([(0, 1), (1, 2)]):
        both = np.concatenate([x[:, i], x[:, j]], 1)
        columns.append(w["concat"][k] * np.maximum(both @ hidden[k] + shift[k], 0))
    for k, (i, j) in enumerate([(0, 1), (1, 2)]):
        columns.append(w["inner"][k] * (x[:, i] * x[:, j]).sum(1, keepdims=True))
    expected = np.concatenate(columns, 1)
    assert part.out_dim == expected.shape[1] == 3 + 6 + 6 + 2
    np.testing.assert_allclose(part(e, None).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part(e[:1], None).detach().numpy(), expected[:1], rtol=1e-4)
    empty = PairNetworks([], [], context)
    assert empty(e, None).shape == (7, 0) and empty.out_dim == 0


# Whole fits -------------------------------------------------------------------------------------


def table(seed, n_rows=2500, **options):
    return make_ctr(n_rows, n_fields=5, cardinality=6, pairs=PAIRS, random_state=seed, **options)[
        :2
    ]


def fit(data, seed=0, search=None, estimator=CTRClassifier, **options):
    search = search or AutoFeature(max_evaluations=80, price=0.003)
    options = {**OPTIONS, "search": search, "random_state": seed, **options}
    return estimator(**options).fit(*data)


def multiplied(model):
    """Which pairs the model multiplies, or gives to a small network of their own."""
    found = model.architecture_["interaction"]
    return {
        tuple(pair)
        for pair, names in zip(found["interactions"], found["operations"], strict=True)
        if set(names) & {"product", "concat", "inner"}
    }


@pytest.fixture(scope="module")
def models():
    return [fit(table(seed), seed) for seed in range(5)]


def test_planted_pairs_are_kept_and_lead(models):
    hits = [pair in multiplied(model) for model in models for pair in PAIRS]
    assert sum(hits) >= 9
    assert np.mean([len(model.interactions_) for model in models]) <= 6  # of ten
    leading = 0
    for model in models:
        scores = model.interaction_scores_
        ranked = sorted(scores, key=scores.get, reverse=True)
        leading += sum((f"f{i}", f"f{j}") in ranked[:3] for i, j in PAIRS)
    assert leading >= 8


def test_on_shuffled_labels_they_are_not():
    hits = 0
    for seed in range(5):
        X, y = table(seed)
        model = fit((X, np.random.default_rng(seed).permutation(y)), seed)
        hits += sum(pair in multiplied(model) for pair in PAIRS)
    assert hits <= 3


def test_the_search_tells_what_it_has_tried(models):
    model = models[0]
    trained, records = model.search_history_[:6], model.search_history_[6:]
    assert all("train_loss" in record for record in trained)
    assert [record["candidate"] for record in records] == list(range(1, 81))
    keys = {json.dumps(record["architecture"], sort_keys=True) for record in records}
    assert len(keys) == 80
    best = max(records, key=lambda record: record["score"])["architecture"]
    found = model.architecture_["interaction"]
    assert {name: found[name] for name in best} == best
    assert found["candidates"] == [list(p) for p in itertools.combinations(range(5), 2)]
    # Evolution, not the random start, has found it.
    assert records.index(next(r for r in records if r["architecture"] == best)) >= 30


def test_candidates_share_their_start_and_a_price_makes_them_small():
    data = table(0, 600)
    search = AutoFeature(max_evaluations=30, n_initial=10, price=0.0)
    free = fit(data, search=search, search_epochs=2)
    dear = fit(data, search=search.set_params(price=0.1), search_epochs=2)
    assert len(dear.interactions_) < len(free.interactions_)

    def score(model, architecture):
        return next(
            r["score"] for r in model.search_history_ if r.get("architecture") == architecture
        )

    first = free.search_history_[2]["architecture"]
    n_operations = sum(map(len, first["operations"]))
    assert score(free, first) - score(dear, first) == pytest.approx(0.1 * n_operations)


@pytest.mark.parametrize("network", ["ipnn", "deepfm", "fwfm"])
def test_other_networks_and_ratings(network):
    X, _ = table(1, 300)
    y = np.random.default_rng(0).normal(size=len(X)) + (X["f0"] == X["f3"])
    search = AutoFeature(n_slots=2, max_evaluations=12, n_initial=8, train_share=0.5, n_children=3)
    model = fit((X, y), search=search, estimator=RatingRegressor, network=network)
    found = model.architecture_["interaction"]
    assert max(map(len, found["operations"])) == 2
    odd = X.iloc[:1].assign(f0="never seen")
    assert np.isfinite(model.predict(odd)).all() and np.isfinite(model.predict(X)).all()


def test_an_interrupt_of_the_shared_start_leaves_its_network(monkeypatch):
    X, y = table(0, 600)
    train_step, steps = FieldNet.train_step, []

    def press(self, batch, **options):
        steps.append(1)
        if len(steps) == 5:  # of two an epoch
            raise KeyboardInterrupt
        return train_step(self, batch, **options)

    monkeypatch.setattr(FieldNet, "train_step", press)
    with pytest.warns(UserWarning, match="interrupted"):
        model = fit((X, y))
    assert len(steps) == 5 and len(model.search_history_) == 2
    assert len(model.interactions_) == 10 and set(model.interaction_scores_.values()) == {0.0}
    assert np.isfinite(model.predict_proba(X)).all()


def test_a_table_of_two_fields_is_tried_out_and_one_of_one_is_refused():
    X, y = table(0, 100)
    model = fit((X[["f0", "f1"]], y), search=AutoFeature(), search_epochs=1)
    assert sum("candidate" in record for record in model.search_history_) == len(OPERATIONS)
    with pytest.raises(ValueError, match="needs at least 2 fields, the table has 1"):
        fit((X[["f0"]], y), search=AutoFeature())


def test_wrong_parameters_and_architectures_are_refused():
    data = table(0, 50)
    for name, value in {
        "n_slots": 0,
        "max_evaluations": 0,
        "price": -1.0,
        "search_fraction": 1.0,
        "n_jobs": 1.5,
    }.items():
        with pytest.raises(ValueError, match=name):
            fit(data, search=AutoFeature(**{name: value}))
    good = {"method": "AutoFeature", "interactions": [[0, 1]], "operations": [["inner"]]}
    fit(data, search=FixedArchitecture(good))
    for change in (
        {"interactions": [[0, 1, 2]]},
        {"interactions": [[0, 1], [0, 1]], "operations": [["inner"], ["add"]]},
        {"interactions": [[1, 0]]},
        {"interactions": [[0, 9]]},
        {"operations": []},
        {"operations": "inner"},
        {"operations": ["inner"]},
        {"operations": [["none"]]},
        {"operations": [["inner", "inner"]]},
        {"operations": [["power"]]},
        {"operations": [[]]},
        {"operations": [[["inner"]]]},
    ):
        with pytest.raises(ValueError, match=r"interaction|operations"):
            fit(data, search=FixedArchitecture({**good, **change}))
