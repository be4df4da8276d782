"""FIVES: the graph against numpy, planted pairs and triples, what it hands to other models."""

import itertools
import json
import math
import pickle

import numpy as np
import pytest
import torch
from searching import searching
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import ArchSchedule, EncodedTensors
from sklearn_autorec.feature_crossing import FieldCrosser
from sklearn_autorec.interaction import FIVES
from sklearn_autorec.interaction._fives import OPEN, FieldGraph, tuple_strengths
from sklearn_autorec.interaction._products import KeptProducts
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, FieldEmbedding, Inputs

QUICK = {"embedding_dim": 4, "lr": 0.01, "max_epochs": 2, "device": "cpu", "random_state": 0}


def context(n_fields=5, **changes):
    options = {
        "field_names": tuple("abcdefg"[:n_fields]),
        "n_ids": (6,) * n_fields,
        "embedding_dim": 3,
        "generator": torch.Generator().manual_seed(0),
    }
    return BuildContext(**{**options, **changes})


def graph(n_layers=3, threshold=0.5, **changes):
    schedule = ArchSchedule("first_order", warmup=0.2)
    return FieldGraph(context(**changes), n_layers, OPEN, threshold, (1.0, 0.2), 0.02, schedule)


def moved(module, seed=1):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(generator=generator)
    return module


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# The graph ------------------------------------------------------------------------------------


def edges_by_hand(logits, threshold, temperature):
    layers = []
    for own in logits:
        strength = sigmoid(own)
        n = len(own)
        found = np.zeros((n, n))
        for i, j in itertools.permutations(range(n), 2):
            if layers:
                ways = [m for m in range(n) if layers[-1][i, m] >= threshold]
                if not ways:
                    continue
                value = np.mean([strength[m, j] for m in ways])
            else:
                value = strength[i, j]
            found[i, j] = sigmoid(np.log(value / (1 - value)) / temperature)
        layers.append(found)
    return np.array(layers)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_edges_of_a_layer_follow_from_open_ones_of_the_layer_before(threshold):
    module = moved(graph(threshold=threshold))
    with torch.no_grad():
        module.logits[0, 2] = -4  # a node without any edge
    for temperature in (1.0, 0.4):
        module.temperature = temperature
        found = module.adjacency().detach().numpy()
        expected = edges_by_hand(module.logits.detach().numpy(), threshold, temperature)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert (found[1:, 2] == 0).all() and (found[1] > 0).any()
    opened = (expected >= threshold).sum((1, 2))
    assert module.summary() == {f"open_edges_{k + 2}": n for k, n in enumerate(opened)}


def test_no_gradient_passes_through_what_is_open():
    module = moved(graph())
    module.adjacency()[1].sum().backward()
    gradient = module.logits.grad
    assert (gradient[0] == 0).all() and (gradient[1] != 0).any() and (gradient[2] == 0).all()


def test_states_are_products_of_what_edges_lead_to():
    module = moved(graph()).eval()
    module.norm.running_mean.normal_(generator=torch.Generator().manual_seed(2))
    module.norm.running_var.fill_(2.0)
    e = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(3))
    x = (e.flatten(1) - module.norm.running_mean).view_as(e).numpy() / np.sqrt(2 + 1e-5)
    edges = module.adjacency().detach().numpy()
    transform, readout, confidence = (
        p.detach().numpy() for p in (module.transform, module.readout, module.confidence)
    )
    messages = np.stack([x[:, j] @ transform[j] for j in range(5)], 1)
    state, columns = x.copy(), []
    for k in range(3):
        state = np.stack(
            [
                state[:, i] * sum(edges[k, i, j] * messages[:, j] for j in range(5) if j != i) / 4
                for i in range(5)
            ],
            1,
        )
        columns += [np.exp(confidence) * (state[:, i] * readout[k, i]).sum(1) for i in range(5)]
    out = module(e, None).detach().numpy()
    assert module.out_dim == out.shape[1] == 15
    np.testing.assert_allclose(out, np.stack(columns, 1), rtol=1e-3, atol=1e-5)


def test_with_all_edges_open_it_is_a_factorization_machine():
    module = graph(n_layers=1).eval()
    with torch.no_grad():
        module.logits.fill_(50.0)
        module.readout.fill_(1.0)
    e = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(3))
    pairs = sum((e[:, i] * e[:, j]).sum(1) for i, j in itertools.combinations(range(5), 2))
    torch.testing.assert_close(module(e, None).sum(1), pairs * 2 / 4, rtol=1e-3, atol=1e-4)


def test_all_edges_begin_open_and_cool_down():
    module = graph()
    assert module.summary() == {f"open_edges_{order}": 20 for order in (2, 3, 4)}
    for t, temperature in ((0.0, 1.0), (0.2, 1.0), (0.6, math.sqrt(0.2)), (1.0, 0.2)):
        module.set_progress(t)
        assert module.temperature == pytest.approx(temperature)
    assert module.arch_parameters() == [module.logits, module.confidence]
    groups = module.arch_optimizer(100).param_groups
    assert [g["params"] for g in groups] == [[module.logits], [module.confidence]]
    assert [g["lr"] for g in groups] == [0.02, 0.02]


def test_strengths_of_combinations_are_those_of_their_paths():
    adjacency = np.random.default_rng(0).random((3, 5, 5))
    for order in (2, 3, 4):
        tuples = np.array(list(itertools.combinations(range(5), order)))
        mean, weakest = tuple_strengths(adjacency, tuples)
        for t, one, least in zip(tuples, mean, weakest, strict=True):
            paths = [
                [adjacency[k, node, other] for k, other in enumerate(others)]
                for node, *others in itertools.permutations(t)
            ]
            assert one == pytest.approx(np.mean([np.prod(path) for path in paths]))
            assert least == max(map(min, paths))


def test_shares_of_combinations_are_those_of_their_paths():
    module = moved(graph()).eval()
    module.norm.running_mean.normal_(generator=torch.Generator().manual_seed(2))
    e = torch.randn(7, 5, 3, generator=torch.Generator().manual_seed(3))
    slope = torch.randn(7, 15, 2, generator=torch.Generator().manual_seed(4))
    x = module.norm(e).numpy()
    edges = module.adjacency().detach().numpy() / 4
    read, size = module.readout.detach().numpy(), module.confidence.exp().item()
    messages = np.einsum("bfd,fde->bfe", x, module.transform.detach().numpy())
    for order in (2, 3, 4):
        tuples = list(itertools.combinations(range(5), order))
        found = module.shares(e, torch.tensor(tuples).T, slope).numpy()
        expected = np.zeros((7, len(tuples), 2))
        for t, own in enumerate(tuples):
            for node, *others in itertools.permutations(own):
                state = x[:, node] * size
                for k, other in enumerate(others):
                    state = state * edges[k, node, other] * messages[:, other]
                made = (state * read[order - 2, node]).sum(1)
                expected[:, t] += made[:, None] * slope[:, (order - 2) * 5 + node].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


class Reads(torch.nn.Module):
    """A network whose logit is the sum of what a graph gives."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, ids, numeric, sequences):
        return self.part(numeric.view(-1, 5, 3), None).sum(1, keepdim=True)


def test_unseen_rows_are_asked_about_what_is_open():
    module = graph(n_layers=2).eval()
    with torch.no_grad():
        module.logits.fill_(-5.0)
        module.logits[0, 0, 1] = module.logits[0, 3, 4] = module.logits[1, 1, 2] = 5.0
    numeric = torch.randn(400, 15, generator=torch.Generator().manual_seed(3))
    y = ((numeric[:, :3] * numeric[:, 3:6]).sum(1) > 0).float()
    empty = torch.zeros(400, 0, dtype=torch.int32)
    module.judge(Reads(module), BinaryLogLoss(), EncodedTensors(empty, numeric, empty, y))
    assert {*module.evidence} == {(0, 1), (3, 4), (0, 1, 2)} and module.evidence[0, 1] > 10
    assert module.proven([[0, 1], [3, 4], [0, 1, 2], [0, 2]]).tolist() == [True] + [False] * 3
    found = FIVES().derive(module, context())
    assert found["interactions"] == [[0, 1]] and len(found["evidence"]) == 3


def test_what_is_open_is_kept_and_the_strongest_of_it():
    module = graph(n_layers=2)
    with torch.no_grad():
        module.logits.fill_(-5.0)
        module.logits[0, 0, 1] = 5.0  # (a, b) one way
        module.logits[0, 3, 4] = module.logits[0, 4, 3] = 5.0
        module.logits[1, 1, 2] = 5.0  # from b, where a has an open edge, to c
    found = FIVES().derive(module, context())
    assert found["interactions"] == [[0, 1], [3, 4], [0, 1, 2]]
    assert len(found["candidates"]) == len(found["scores"]) == 10 + 10
    scores = {tuple(t): s for t, s in zip(found["candidates"], found["scores"], strict=True)}
    assert scores[3, 4] > 0.99 and scores[0, 1] == pytest.approx(0.5, abs=0.01)
    assert scores[0, 1, 2] == pytest.approx(1 / 6, abs=0.01)
    assert json.loads(json.dumps(found)) == found
    assert FIVES(max_interactions=1).derive(module, context())["interactions"] == [[3, 4]]
    assert FIVES(max_interactions=0).derive(module, context())["interactions"] == []


# The concrete part ------------------------------------------------------------------------------


def test_kept_products_of_all_orders():
    c = context()
    tuples = [[0, 1, 2, 3], [1, 4], [0, 2, 4], [1, 2, 3, 4], [0, 3]]
    module = moved(KeptProducts(tuples, c)).eval()
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(0, 6, (9, 5), generator=generator, dtype=torch.int32)
    inputs = Inputs(ids, torch.zeros(9, 0), torch.zeros(9, 0, dtype=torch.int32))
    e = torch.randn(9, 5, 3, generator=generator)
    own, pairs = module.embedding(inputs).detach().numpy(), e.numpy()
    columns = [pairs[:, t].prod(1).sum(1) for t in ([1, 4], [0, 3])]
    columns += [own[:, t].prod(1).sum(1) for t in ([0, 2, 4], [0, 1, 2, 3], [1, 2, 3, 4])]
    expected = np.stack(columns, 1) * module.weight.detach().numpy() / math.sqrt(1 + 1e-3)
    np.testing.assert_allclose(module(e, inputs).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    weight = module.weight.tolist()
    order = dict(zip([(1, 4), (0, 3), (0, 2, 4), (0, 1, 2, 3), (1, 2, 3, 4)], weight, strict=True))
    assert module.interactions() == [(tuple(t), order[tuple(t)]) for t in tuples]
    # Without higher orders there is no second table.
    assert not any(isinstance(m, FieldEmbedding) for m in KeptProducts([[0, 1]], c).modules())


# Planted truth ----------------------------------------------------------------------------------


def names(tuples):
    return {tuple(f"f{i}" for i in t) for t in tuples}


def search(data, seed, **options):
    method = FIVES(**{"max_order": 2, **options})
    return searching(method, seed, network="fm", batch_size=128, search_epochs=6).fit(*data)


def ranking(model, planted):
    scores = {t: s for t, s in model.interaction_scores_.items() if len(t) == 2}
    return roc_auc_score([t in planted for t in scores], list(scores.values()))


def pair_table(seed, n=10_000):
    options = {"n_fields": 8, "cardinality": 10, "pairs": 3, "informative_fields": 2}
    return make_ctr(n, random_state=seed, **options)


def test_planted_pairs_are_ranked_first_and_kept():
    kept, found, by_chance = [], 0, []
    for seed in range(5):
        X, y, truth = pair_table(seed)
        planted = names(truth.pairs)
        model = search((X, y), seed)
        assert ranking(model, planted) >= 0.95
        kept.append(len(model.interactions_))
        found += len(planted & {*model.interactions_})
        if seed < 2:
            control = search((X, np.random.default_rng(seed).permutation(y)), seed)
            by_chance.append(ranking(control, planted))
    assert found >= 14 and np.mean(kept) <= 10  # of 15, and of 28 candidates
    assert np.mean(by_chance) < 0.75


def open_pairs(model):
    """How many pairs have an open edge at the end of the search."""
    edges = np.array(model.architecture_["interaction"]["adjacency"])[0]
    return int((np.maximum(edges, edges.T)[np.triu_indices(len(edges), 1)] >= 0.5).sum())


def test_rows_of_their_own_close_the_edges_of_noise():
    X, y, truth = pair_table(0, 8000)
    assert open_pairs(search((X, y), 0)) <= 14
    assert open_pairs(search((X, y), 0, level="one_level")) >= 16


def test_of_what_is_open_only_what_helps_on_unseen_rows_is_kept():
    X, y, truth = pair_table(0, 8000)
    shuffled = np.random.default_rng(0).permutation(y)
    model = search((X, y), 0, level="one_level")
    assert {*model.interactions_} == names(truth.pairs) and open_pairs(model) >= 16
    for order in (2, 3):
        model = search((X, shuffled), 0, level="one_level", max_order=order)
        assert open_pairs(model) >= 10 and model.interactions_ == []


def test_a_planted_triple_is_ranked_first():
    chance = []
    for seed in range(5):
        options = {"n_fields": 8, "cardinality": 6, "pairs": 2, "triples": 1, "triple_effect": 1.5}
        X, y, truth = make_ctr(14_000, informative_fields=2, random_state=seed, **options)
        (triple,) = names(truth.triples)

        def rank(model):
            scores = {t: s for t, s in model.interaction_scores_.items() if len(t) == 3}
            return sorted(scores, key=scores.get, reverse=True).index(triple)  # noqa: B023

        model = search((X, y), seed, max_order=3)
        assert rank(model) < 3 and triple in model.interactions_
        assert names(truth.pairs) <= {*model.interactions_}
        if seed == 1:
            shuffled = np.random.default_rng(seed).permutation(y)
            control = search((X, shuffled), seed, max_order=3)
            chance.append(rank(control))
    assert min(chance) >= 3


# What it is good for ----------------------------------------------------------------------------


def test_a_linear_model_takes_its_crosses():
    options = {"n_fields": 6, "cardinality": 6, "pairs": [(1, 4)], "pair_effect": 1.5}
    X, y, _ = make_ctr(10_000, random_state=0, **options)
    model = search((X[:8000], y[:8000]), 0, max_interactions=1)
    crosser = FieldCrosser.from_estimator(model, output="onehot")

    def auc(crosser):
        fitted = LogisticRegression(max_iter=500).fit(crosser.fit_transform(X[:8000]), y[:8000])
        return roc_auc_score(y[8000:], fitted.decision_function(crosser.transform(X[8000:])))

    assert crosser.crosses == [("f1", "f4")]
    plain = FieldCrosser([], output="onehot", append=True)
    assert auc(crosser) > auc(plain) + 0.1


@pytest.mark.parametrize("network", ["fm", "deepfm", "ipnn", "fwfm"])
def test_networks_and_tables_of_all_kinds(network):
    X, y = mixed_clicks(400, cardinality=6, pairs=1, missing_rate=0.05)
    X["same"] = "one"
    method = FIVES(max_order=4, max_interactions=4, choice="threshold", threshold=0.3)
    model = CTRClassifier(network=network, search=method, **QUICK).fit(X, y)
    assert 0 < len(model.interactions_) <= 4 and len(model.interaction_scores_) == 21 + 35 + 35
    module = model.net_.module_
    assert not any(isinstance(m, FieldGraph) for m in module.modules())
    odd = X.iloc[:1].assign(f0="never seen", x0=np.nan)
    p = model.predict_proba(odd)
    assert np.isfinite(p).all() and np.isfinite(model.predict_proba(X)).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(odd), p)


def test_classes_ratings_and_members():
    X, y = mixed_clicks(300, cardinality=6, pairs=1)
    three = np.arange(len(X)) % 3
    model = CTRClassifier(network="fm", search=FIVES(), **QUICK).fit(X, three)
    assert model.predict_proba(X).shape == (300, 3)
    options = {**QUICK, "members": 2}
    RatingRegressor(network="fm", search=FIVES(level="one_level"), **options).fit(X, three)


def test_wrong_parameters_and_architectures_are_refused():
    X, y, _ = make_ctr(60, n_fields=4, random_state=0)

    def fit(search, columns=4):
        CTRClassifier(network="fm", search=search, **QUICK).fit(X.iloc[:, :columns], y)

    for name, value in {
        "max_order": 5,
        "threshold": 1.0,
        "max_interactions": -1,
        "level": "unrolled",
        "arch_lr": 0.0,
        "warmup": 1.0,
        "temperature": (1.0, 0.0),
        "search_fraction": 0.0,
        "retrain": "none",
    }.items():
        with pytest.raises(ValueError, match=name):
            fit(FIVES(**{name: value}))
    with pytest.raises(ValueError, match="max_order=3 of FIVES needs at least as many fields"):
        fit(FIVES(), columns=2)
    good = {"method": "FIVES", "interactions": [[0, 1], [0, 1, 2, 3]]}
    fit(FixedArchitecture(good))
    for wrong in ([[0, 1, 2, 3, 4]], [[0]], [[1, 0]], [[0, 9]], [[0, 0.5]], [[0, -1]], "all"):
        with pytest.raises(ValueError, match="interaction"):
            fit(FixedArchitecture({**good, "interactions": wrong}))
