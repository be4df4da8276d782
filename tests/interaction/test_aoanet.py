"""AOANet: its layers against numpy, what pruning leaves, planted pairs and triples."""

import json

import numpy as np
import pytest
import torch
from searching import searching
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.interaction import AOANet
from sklearn_autorec.interaction._aoanet import SearchedInteractions
from sklearn_autorec.interaction._generalized import (
    GeneralizedInteraction,
    KeptInteractions,
    without_dead_ends,
)
from sklearn_autorec.networks import FM, DeepFM
from sklearn_autorec.nn import BiInteraction, BinaryLogLoss, BuildContext, MulticlassLogLoss


def context_of(n_fields=4, d=3, **options):
    generator = torch.Generator().manual_seed(0)
    names = tuple("abcdefg"[:n_fields])
    return BuildContext(
        names, (5,) * n_fields, embedding_dim=d, generator=generator, embedding_init=1.0, **options
    )


def vectors(n=7, n_fields=4, d=3, seed=1):
    return torch.randn(n, n_fields, d, generator=torch.Generator().manual_seed(seed))


def by_hand(layer, e, b, edges):
    """Output k of every row, ((sum_ij alpha_ikj e_i b_j^T) o W_k) h_k, edge by edge."""
    operation, fusion = layer.operation.detach().numpy(), layer.fusion.detach().numpy()
    out = np.zeros((len(e), len(operation), e.shape[2]))
    for row in range(len(e)):
        for k, (w, h) in enumerate(zip(operation, fusion, strict=True)):
            p = np.zeros_like(w)
            for i in range(e.shape[1]):
                for j in range(b.shape[1]):
                    p += edges[i, k, j] * np.outer(e[row, i], b[row, j]) * w
            out[row, k] = p @ h
    return out


def filled(module):
    with torch.no_grad():
        for p in module.parameters():
            p.normal_(generator=torch.Generator().manual_seed(p.numel()))
    return module


def searched(context, n_layers=1, n_subspaces=2, threshold="auto"):
    return SearchedInteractions(context, n_layers, n_subspaces, 1.0, threshold, 0.8)


# Formulas ---------------------------------------------------------------------------------------


def test_layers_are_their_formula():
    module = filled(searched(context_of(), n_layers=2))
    e = vectors()
    first = by_hand(module.layers[0], e.numpy(), e.numpy(), module.edges[0].detach().numpy())
    second = by_hand(module.layers[1], e.numpy(), first, module.edges[1].detach().numpy())
    out = module(e, None)
    assert module.out_dim == out.shape[1] == 6
    np.testing.assert_allclose(out.detach().numpy(), second.reshape(7, -1), rtol=1e-3, atol=1e-4)
    # A row alone is the same row.
    torch.testing.assert_close(module(e[:1], None), out[:1])


def test_rows_may_have_edges_of_their_own():
    layer, e = filled(GeneralizedInteraction(2, context_of())), vectors(n=3)
    edges = torch.randn(3, 4, 2, 4, generator=torch.Generator().manual_seed(2))
    out = layer(e, e, edges).detach().numpy()
    for row in range(3):
        own = by_hand(layer, e[row : row + 1].numpy(), e[row : row + 1].numpy(), edges[row].numpy())
        np.testing.assert_allclose(out[row : row + 1], own, rtol=1e-4, atol=1e-5)


def test_with_plain_operations_it_is_the_sum_of_products():
    context, e = context_of(), vectors()
    pairs = [[i, j] for i in range(4) for j in range(i + 1, 4)]
    module = KeptInteractions([[pairs]], context)
    with torch.no_grad():
        module.layers[0].operation.copy_(torch.eye(3).unsqueeze(0))
    torch.testing.assert_close(module(e, None), BiInteraction(context)(e))
    # A full operation is a bilinear form of every pair.
    w = filled(module).layers[0].operation.detach()[0] * module.layers[0].fusion.detach()[0]
    weight = dict(zip(map(tuple, pairs), module.edges[0].tolist(), strict=True))
    expected = sum(
        a * torch.einsum("bc,cf,bf->b", e[:, i], w, e[:, j]) for (i, j), a in weight.items()
    )
    torch.testing.assert_close(module(e, None).sum(1), expected, rtol=1e-4, atol=1e-4)


def test_the_start_is_of_one_scale_and_subspaces_differ():
    module = searched(context_of(), n_layers=3, n_subspaces=2)
    for edges, scale in zip(module.edges, (1, 8**-0.5, 8**-0.5), strict=True):
        torch.testing.assert_close(edges.detach(), torch.full_like(edges, scale), rtol=2e-3, atol=0)
    first, other = module(vectors(), None).unflatten(1, (2, 3)).unbind(1)
    assert not torch.allclose(first, other, rtol=1e-3)
    kept = KeptInteractions([[[[0, 1]], [[0, 3]]], [[[3, 1], [0, 0]]]], context_of())
    assert [edges.tolist() for edges in kept.edges] == [[1, 1], [pytest.approx(6**-0.5)] * 2]


@pytest.mark.parametrize("n_classes", [2, 3])
def test_evidence_is_that_of_fading_edges_in(n_classes):
    context = context_of(n_outputs=1 if n_classes == 2 else 3)
    module = searched(context, n_layers=2)
    network = FM().build(context, {"interaction": module})
    n, rng = 60, np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(0, 5, (n, 4), dtype=np.int32))
    x = ids, torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.int32)
    y = torch.from_numpy(rng.integers(0, n_classes, n))
    y = y.float() if n_classes == 2 else y
    weight = torch.from_numpy(rng.uniform(0.5, 1.5, n).astype(np.float32))
    loss = BinaryLogLoss() if n_classes == 2 else MulticlassLogLoss()
    network.train()
    module.judge(network, loss, EncodedTensors(*x, y, weight))
    assert network.training and module.faded is None
    network.eval()
    whole = network(*x).detach().double()
    marks = y[:, None] if n_classes == 2 else torch.nn.functional.one_hot(y, 3)
    alone = (marks - marks.double().mean(0)).double()
    groups = [(0, [(0, 1), (1, 0)]), (0, [(2, 2)]), (1, [(3, 1)])]
    for (layer, edges), candidate in zip(groups, [(0, 0, 1), (0, 2, 2), (1, 3, 1)], strict=True):
        kept, step, faded = module.edges[layer].detach().clone(), 1e-2, []
        for factor in (1 - step, 1 + step):
            with torch.no_grad():
                for i, j in edges:
                    module.edges[layer][i, :, j] = kept[i, :, j] * factor
                faded.append(network(*x).double())
                module.edges[layer].copy_(kept)
        share = (faded[1] - faded[0]).detach() / (2 * step)
        number = module.candidates.index(candidate)
        without = (whole - share).requires_grad_()
        slope = torch.autograd.grad(loss(without, y).sum(), without)[0]
        expected = []
        for gain in (-(slope * share).sum(1) * weight, (alone * share).sum(1) * weight):
            expected.append((gain.mean() / (gain.std() / n**0.5)).item())
        assert module.evidence[number].item() == pytest.approx(min(expected), rel=0.02, abs=0.02)
    assert len(module.candidates) == 6 + 4 + 4 * 2
    module.evidence[:] = 0
    module.evidence[:3] = torch.tensor([3.3, 3.2, -9.0])  # 1 % of 18 candidates is 3.26
    assert module.proven().nonzero()[0].tolist() == [0]
    assert searched(context, threshold=0.5).proven().all()


def test_the_threshold_follows_the_steps():
    module = SearchedInteractions(context_of(), 1, 2, 2.0, "auto", 0.7)
    assert module.arch_optimizer(1000).param_groups[0]["threshold"] == pytest.approx(
        0.0005 * 2.0**1.2 * 1000**0.7
    )
    fixed = searched(context_of(), threshold=0.3).arch_optimizer(10).param_groups[0]
    assert fixed["threshold"] == 0.3 and fixed["mu"] == 0.8


# What is kept -----------------------------------------------------------------------------------


def test_dead_ends_are_removed():
    # Output 0 has nothing, 2 is read by nobody, and what reads 0 has nothing either.
    first = [[], [[0, 1]], [[2, 2]]]
    assert without_dead_ends([first, [[[3, 0]], [[3, 1], [1, 0]]]]) == [[[[0, 1]]], [[[3, 0]]]]
    assert without_dead_ends([[[[0, 1]], []]]) == [[[[0, 1]]]]
    assert without_dead_ends([[[], []]]) == []
    assert without_dead_ends([[[[0, 1]]], [[], []]]) == []
    assert without_dead_ends([[[], []], [[[0, 1]]]]) == []


def test_removing_closed_edges_changes_no_prediction():
    context, e = context_of(), vectors()
    module = filled(searched(context, n_layers=2, threshold=0.5))
    with torch.no_grad():
        module.edges[0][:, 0] = 0  # nothing comes out of the first subspace
        module.edges[0][[0, 2]] = 0
        module.edges[0][:, :, [0, 2]] = 0  # and nothing of two fields
        module.edges[1][2] = 0
        module.edges[1][0, 1] = 0
    architecture = AOANet(n_layers=2, threshold=0.5).derive(module, context)
    assert architecture["layers"] == [
        [[[1, 1], [1, 3], [3, 1], [3, 3]]],
        [[[0, 0], [1, 0], [3, 0]], [[1, 0], [3, 0]]],
    ]
    kept = AOANet().realise(architecture, context)
    assert kept.fields.tolist() == [0, 1, 3]
    with torch.no_grad():
        for part, whole, rows in zip(kept.layers, module.layers, ([1], [0, 1]), strict=True):
            part.operation.copy_(whole.operation[rows])
            part.fusion.copy_(whole.fusion[rows])
        kept.edges[0].copy_(module.edges[0][[1, 1, 3, 3], 1, [1, 3, 1, 3]])
        kept.edges[1].copy_(module.edges[1][[0, 1, 3, 1, 3], [0, 0, 0, 1, 1], [1] * 5])
    torch.testing.assert_close(kept(e, None), module(e, None), rtol=1e-3, atol=1e-4)
    assert [t for t, _ in kept.interactions()] == [(0, 1), (0, 3), (1, 3), (0, 1, 3)]


def test_the_strongest_of_the_proven_pairs_are_kept():
    context = context_of()
    module = searched(context)
    module.evidence[:] = torch.arange(19.0, 9, -1)  # (0, 0), (0, 1), (0, 2), ... (3, 3)
    module.evidence[[0, 1]] = 0
    with torch.no_grad():
        module.edges[0][0, 0, 2] = 0
    found = AOANet(max_interactions=2).derive(module, context)
    # Of (1, 1), (0, 2), (0, 3), (2, 2) ... the proven, of pairs the first two.
    own, both = [[1, 1], [2, 2], [3, 3]], [[0, 2], [0, 3], [2, 0], [3, 0]]
    assert found["layers"] == [[sorted([*own, *both[1:]]), sorted(own + both)]]
    assert found["candidates"] == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert found["scores"] == [0.0, 17.0, 16.0, 14.0, 13.0, 11.0]


def planted(truth):
    return {tuple(f"f{i}" for i in t) for t in (*truth.pairs, *truth.triples)}


def ranking(model, truth):
    scores, pairs = model.interaction_scores_, planted(truth)
    return roc_auc_score([pair in pairs for pair in scores], list(scores.values()))


@pytest.mark.parametrize("name, n_rows", [("fm", 6000), ("deepfm", 12_000)])
def test_planted_pairs_are_kept_and_nothing_of_noise(name, n_rows):
    shuffled, network = [], FM() if name == "fm" else DeepFM(hidden_units=(16,))
    for seed in range(5):
        X, y, truth = make_ctr(
            n_rows, n_fields=6, cardinality=8, pairs=2, informative_fields=2, random_state=seed
        )
        options = {"network": network, "search_epochs": 4, "embedding_dim": 6}

        model = searching(AOANet(), seed, **options).fit(X, y)
        assert ranking(model, truth) >= 0.95 and len(model.interaction_scores_) == 15
        assert planted(truth) <= {*model.interactions_} and len(model.interactions_) <= 4
        if name != "fm":
            continue
        noise = np.random.default_rng(seed).permutation(y)
        control = searching(AOANet(), seed, **options).fit(X, noise)
        assert control.interactions_ == [] and np.isfinite(control.predict_proba(X[:3])).all()
        shuffled.append(ranking(control, truth))
    assert name != "fm" or 0.25 < np.mean(shuffled) < 0.75


def test_a_planted_triple_needs_two_layers():
    options = {"embedding_dim": 6, "embedding_init": 0.3, "lr": 0.02, "search_epochs": 10}
    options["network"] = "fm"
    triple = {"pairs": 0, "triples": 1, "triple_effect": 2.0, "rank": 1, "zipf": 0}
    gains = []
    for seed in range(5):
        X, y, truth = make_ctr(8000, n_fields=5, cardinality=5, random_state=seed, **triple)
        auc = {}
        for n_layers in (1, 2):
            search = AOANet(n_layers=n_layers)
            model = searching(search, seed, max_epochs=3, **options).fit(X[:6000], y[:6000])
            auc[n_layers] = roc_auc_score(y[6000:], model.predict_proba(X[6000:])[:, 1])
            assert (planted(truth) <= {*model.interactions_}) == (n_layers == 2)
        gains.append(auc[2] - auc[1])
    assert min(gains) > 0.05


# Whole fits -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(400, n_fields=4, pairs=1, n_numeric=1, missing_rate=0.05, random_state=0)[:2]


def test_the_network_is_small_and_json_brings_it_back(clicks):
    X, y = clicks
    search = AOANet(n_layers=2, threshold=0, max_interactions=1, retrain="keep")
    model = searching(search, 0, network="ipnn", search_epochs=2).fit(X, y)
    found = model.architecture_["interaction"]
    assert json.loads(json.dumps(found)) == found and found["n_fields"] == 5
    assert {type(m).__name__ for m in model.net_.module_.modules()} >= {"KeptInteractions"}
    first = {tuple(edge) for edge in found["layers"][0][0]}
    assert len({edge for edge in first if edge[0] < edge[1]}) == 1  # one pair, in both orders
    assert len(first) == 2 + 5
    again = searching(FixedArchitecture(found), 0, network="ipnn").fit(X, y)
    assert again.interactions_ == model.interactions_


def test_other_targets_and_odd_rows(clicks):
    X, y = clicks
    X = X.assign(same="a")
    odd = X.iloc[:1].assign(f0="never seen", x0=np.nan)
    options = {"network": "fm", "search_epochs": 1, "embedding_dim": 4}
    model = searching(AOANet(threshold=0), 0, **options).fit(X, y + 2 * (X["f1"] == "f1_0"))
    assert np.isfinite(model.predict_proba(odd)).all() and model.interactions_
    rating = RatingRegressor(search=AOANet(), max_epochs=1, random_state=0, **options)
    assert np.isfinite(rating.fit(X, y + 0.5).predict(odd)).all()
    few = CTRClassifier(search=AOANet(), max_epochs=1, batch_size=1, random_state=0, **options)
    assert np.isfinite(few.fit(X[:20], y[:20]).predict_proba(odd)).all()


def test_it_comes_before_and_after_a_choice_of_fields(clicks):
    from sklearn_autorec.feature_selection import AutoField

    for search in ([AutoField(n_kept=3), AOANet()], [AOANet(n_layers=2), AutoField(n_kept=3)]):
        model = searching(search, 0, network="fm", search_epochs=1, embedding_dim=4)
        if isinstance(search[0], AutoField):
            found = model.fit(*clicks).architecture_["interaction"]
            assert found["n_fields"] == 3
        else:
            with pytest.raises(ValueError):
                model.fit(*clicks)


def test_wrong_parameters_tables_and_architectures_are_refused(clicks):
    X, y = clicks
    for options in (
        {"n_layers": 0},
        {"n_subspaces": 0},
        {"threshold": "later"},
        {"mu": 0.2},
        {"arch_lr": 0.0},
        {"max_interactions": -1},
        {"retrain": "none"},
    ):
        with pytest.raises(ValueError, match=f"'{next(iter(options))}' parameter of AOANet"):
            searching(AOANet(**options), 0, network="fm").fit(X, y)
    with pytest.raises(ValueError, match="needs at least 2 fields, the table has 1"):
        searching(AOANet(), 0, network="fm").fit(X[["f0"]], y)
    good = {"method": "AOANet", "n_fields": 5, "layers": [[[[0, 1]]], [[[2, 0]]]]}
    searching(FixedArchitecture(good), 0, network="fm").fit(X, y)
    for layers in (
        None,
        [[]],
        [None],
        [[[]]],
        [[[[0, 5]]]],
        [[[[-1, 0]]]],
        [[[[True, 0]]]],
        [[[[0, 1, 2]]]],
        [[[0, 1]]],
        [[[[0, 1], [0, 1]]]],
        [[[[0, 1]]], [[[2, 1]]]],
    ):
        with pytest.raises(ValueError, match="layers"):
            searching(FixedArchitecture({**good, "layers": layers}), 0, network="fm").fit(X, y)
    for change in ({"n_fields": 4}, {"n_fields": "5"}, {"candidates": [[0, 1]]}, {"scores": [1.0]}):
        told = next(iter(change)).replace("candidates", "scores")
        with pytest.raises(ValueError, match=told):
            searching(FixedArchitecture({**good, **change}), 0, network="fm").fit(X, y)
