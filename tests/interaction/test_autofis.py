import dataclasses
import json
from itertools import combinations

import numpy as np
import pytest
import torch
from searching import searching
from sklearn.metrics import roc_auc_score
from small_tables import planted_pairs

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.engine import EncodedTensors, FieldNet
from sklearn_autorec.interaction import AutoFIS, RandomInteractions
from sklearn_autorec.interaction._autofis import GatedProducts
from sklearn_autorec.interaction._products import KeptProducts, TripleProducts
from sklearn_autorec.networks import FM, IPNN, DeepFM
from sklearn_autorec.nn import BinaryLogLoss, BuildContext, Inputs, MulticlassLogLoss, pair_index

NETWORKS = {
    "fm": FM(),
    "deepfm": DeepFM(hidden_units=(64, 64)),
    "ipnn": IPNN(hidden_units=(64, 64)),
}


def search(network, X, y, seed, **options):
    return searching(AutoFIS(**options), seed, network=network, search_epochs=3).fit(X, y)


def ranking(model, truth):
    planted = {(f"f{i}", f"f{j}") for i, j in truth.pairs}
    scores = model.interaction_scores_
    return roc_auc_score([pair in planted for pair in scores], list(scores.values()))


@pytest.mark.parametrize("name", NETWORKS)
def test_planted_pairs_are_ranked_first(name):
    shuffled, sizes = [], []
    for seed in range(5):
        X, y, truth = planted_pairs(seed, 12_000)
        model = search(NETWORKS[name], X, y, seed)
        assert len(model.interaction_scores_) == 45
        assert ranking(model, truth) >= 0.95
        kept = {*model.interactions_}
        assert {(f"f{i}", f"f{j}") for i, j in truth.pairs} <= kept
        sizes.append(len(kept))
        if name != "fm":
            continue
        control = search(NETWORKS[name], X, np.random.default_rng(seed).permutation(y), seed)
        shuffled.append(ranking(control, truth))
    assert np.mean(sizes) < 7
    if shuffled:
        assert 0.25 < np.mean(shuffled) < 0.75


@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_kept_of_noise(name):
    fixed = []
    for seed in range(5):
        X, y, _ = make_ctr(8000, cardinality=10, pairs=5, informative_fields=3, random_state=seed)
        y = np.random.default_rng(seed).permutation(y)
        model = search(NETWORKS[name], X, y, seed)
        assert model.interactions_ == [] and len(model.interaction_scores_) == 45
        assert np.isfinite(model.predict_proba(X[:3])).all()
        if name == "fm":
            fixed.append(len(search("fm", X, y, seed, threshold=0.8).interactions_))
    assert name != "fm" or min(fixed) >= 3  # the control: a threshold that tests nothing


def test_the_threshold_follows_the_steps():
    for steps in (10, 1000):
        module = GatedProducts(context(), [2], 0.6, 2.0, "auto", 0.7)
        expected = 0.0005 * 2.0**1.2 * steps**0.7
        assert module.arch_optimizer(steps).param_groups[0]["threshold"] == pytest.approx(expected)
        fixed = GatedProducts(context(), [2], 0.6, 2.0, 0.8, 0.7)
        assert (
            fixed.arch_optimizer(steps).param_groups[0]["threshold"] == 0.8
            and fixed.judged_share == 0
        )


@pytest.mark.parametrize("n_classes", [2, 3])
def test_evidence_is_a_t_statistic_of_the_loss_without_a_product(n_classes):
    c = dataclasses.replace(context(), n_outputs=1 if n_classes == 2 else 3)
    module = GatedProducts(c, [2], 0.6, 1.0, "auto", 0.8)
    network = DeepFM((5,)).build(c, {"interaction": module})
    n, rng = 60, np.random.default_rng(0)
    x = inputs(n)
    for _ in range(3):
        network(*x[:3])
    y = torch.from_numpy(rng.integers(0, n_classes, n))
    y = y.float() if n_classes == 2 else y
    weight = torch.from_numpy(rng.uniform(0.5, 1.5, n).astype(np.float32))
    loss = BinaryLogLoss() if n_classes == 2 else MulticlassLogLoss()
    network.train()
    module.judge(network, loss, EncodedTensors(*x[:3], y, weight))
    assert network.training and not module._forward_hooks
    network.eval()
    whole, step = network(*x[:3]).detach(), 1e-3
    for p in range(6):
        gate, losses = module.gate.detach().clone(), []
        for faded in (-step, step):
            with torch.no_grad():
                module.gate[p] = gate[p] * faded
                losses.append(loss(network(*x[:3]), y).double().numpy())
                module.gate.copy_(gate)
        gain = (losses[0] - losses[1]) / (2 * step)
        with torch.no_grad():
            module.gate[p] = 0
            share = whole - network(*x[:3])
            module.gate.copy_(gate)
        marks = y[:, None] if n_classes == 2 else torch.nn.functional.one_hot(y, 3)
        alone = (share * (marks - marks.double().mean(0))).sum(1).numpy()
        expected = []
        for part in (gain * weight.numpy(), alone * weight.numpy()):
            expected.append(part.mean() / (part.std(ddof=1) / np.sqrt(n)))
        assert module.evidence[p].item() == pytest.approx(min(expected), rel=0.02, abs=0.02)
    module.evidence[:] = torch.tensor([3.0, 2.9, -5.0, 0.0, 100.0, 2.95])
    # 2.935 is 1 % of 6 candidates.
    assert module.proven().tolist() == [True, False, False, False, True, True]


def test_rows_that_judge_are_not_trained_on(monkeypatch):
    X, y, _ = make_ctr(1000, n_fields=4, pairs=1, random_state=0)
    trained, judged = [], []
    real_observe, real_judge = FieldNet.get_loss, GatedProducts.judge

    def spy_loss(self, logits, target, X=None, training=False):
        trained.append(X.numeric)
        return real_observe(self, logits, target, X=X, training=training)

    def spy_judge(self, network, loss, data):
        judged.append(data.numeric)
        trained.append(None)  # what follows is the final training
        real_judge(self, network, loss, data)

    monkeypatch.setattr(FieldNet, "get_loss", spy_loss)
    monkeypatch.setattr(GatedProducts, "judge", spy_judge)
    X["row"] = np.arange(1000.0) + 0.5
    CTRClassifier(
        network="fm", search=AutoFIS(), max_epochs=1, early_stopping=False, random_state=0
    ).fit(X, y)
    end = next(i for i, part in enumerate(trained) if part is None)
    rows = {round(float(v), 6) for part in trained[:end] for v in part[:, 0]}
    unseen = {round(float(v), 6) for v in judged[0][:, 0]}
    assert len(unseen) == 200 and len(rows) == 800 and not rows & unseen


def test_without_a_threshold_the_first_of_the_ranking_are_kept():
    X, y, truth = make_ctr(8000, n_fields=6, pairs=2, random_state=0)
    model = search("fm", X, y, 0, threshold=0, max_interactions=4)
    scores = model.interaction_scores_
    assert {*model.interactions_} == {*sorted(scores, key=scores.get)[-4:]}
    assert {(f"f{i}", f"f{j}") for i, j in truth.pairs} <= {*model.interactions_}


def test_planted_triple_is_found_by_third_order():
    triple = {"triples": 1, "triple_effect": 2.0, "rank": 1}
    X, y, truth = make_ctr(
        20_000, n_fields=6, cardinality=6, zipf=0, pairs=0, random_state=0, **triple
    )
    model = search("fm", X, y, 0, orders=(2, 3))
    best = max(model.interaction_scores_, key=model.interaction_scores_.get)
    assert best == tuple(f"f{i}" for i in truth.triples[0])
    assert best in model.interactions_


def context(n_fields=4, d=3):
    return BuildContext(
        tuple("abcd"[:n_fields]),
        (5,) * n_fields,
        embedding_dim=d,
        generator=torch.Generator().manual_seed(0),
        embedding_init=1.0,
    )


def inputs(n=6, n_fields=4):
    ids = torch.randint(
        0, 5, (n, n_fields), generator=torch.Generator().manual_seed(1), dtype=torch.int32
    )
    return Inputs(ids, torch.zeros(n, 0), torch.zeros(n, 0, dtype=torch.int32))


def reference_products(e, tuples):
    return np.array([[np.prod([row[i] for i in t], axis=0).sum() for t in tuples] for row in e])


def test_gated_products_agree_with_numpy():
    c = context()
    module = GatedProducts(c, [2, 3], 0.6, 1.0, 1.2, 0.8)
    x = inputs()
    e = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(2))
    third = module.candidates.products[1].embedding(x).detach().numpy()
    raw = np.hstack(
        [
            reference_products(e.numpy(), pair_index(4).T.tolist()),
            reference_products(third, pair_index(4, 3).T.tolist()),
        ]
    )
    normed = (raw - raw.mean(0)) / np.sqrt(raw.var(0) + 1e-3)
    np.testing.assert_allclose(
        module(e, x).detach().numpy(), normed * module.gate.detach().numpy(), atol=1e-5
    )
    assert ((module.gate >= 0.599) & (module.gate <= 0.601)).all()


@pytest.mark.parametrize(
    "tuples", [[(0, 1)], [(0, 1), (2, 3), (1, 3), (0, 2), (0, 3), (1, 2)], [(1, 2), (0, 1, 3)], []]
)
def test_kept_products_agree_with_numpy(tuples):
    c = context()
    module = KeptProducts(tuples, c, weight=0.6).eval()
    x = inputs()
    e = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(2))
    out = module(e, x)
    assert out.shape == (6, len(tuples)) and module.out_dim == len(tuples)
    if tuples:
        own = None if module.embedding is None else module.embedding(x).detach().numpy()
        columns = [reference_products(own if len(t) == 3 else e.numpy(), [t]) for t in tuples]
        np.testing.assert_allclose(
            out.detach().numpy(), np.hstack(columns) / np.sqrt(1 + 1e-3) * 0.6, atol=1e-5
        )


def test_triple_products_are_all_ordered_triples():
    module = TripleProducts(context())
    x = inputs()
    e = module.embedding(x).detach().numpy()
    np.testing.assert_allclose(
        module(None, x).detach().numpy(),
        reference_products(e, pair_index(4, 3).T.tolist()),
        atol=1e-5,
    )


def test_removing_closed_gates_changes_no_prediction():
    c = context()
    searched = GatedProducts(c, [2], 0.6, 1.0, 1.2, 0.8)
    e = torch.randn(50, 4, 3, generator=torch.Generator().manual_seed(2))
    searched(e, None)  # some batch statistics
    with torch.no_grad():
        searched.gate[[0, 2, 3]] = 0
    architecture = AutoFIS().derive(_with_state(searched), c)
    concrete = AutoFIS().realise(architecture, c)
    kept = [1, 4, 5]
    assert architecture["interactions"] == [list(searched.candidates.tuples[i]) for i in kept]
    with torch.no_grad():
        concrete.weight.copy_(searched.gate[kept])
        concrete.norm.running_mean.copy_(searched.candidates.norm.running_mean[kept])
        concrete.norm.running_var.copy_(searched.candidates.norm.running_var[kept])
        before = searched.eval()(e, None).sum(1)
        after = concrete.eval()(e, None).sum(1)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def _with_state(module):
    module.arch_optimizer(10)
    return module


def test_architecture_is_json_and_the_network_is_small():
    X, y, _ = make_ctr(3000, n_fields=5, pairs=2, random_state=0)
    model = search("fm", X, y, 0, max_interactions=2)
    assert json.loads(json.dumps(model.architecture_)) == model.architecture_
    assert len(model.interactions_) == 2
    assert model.net_.module_.interaction.weight.shape == (2,)
    names = {type(m).__name__ for m in model.net_.module_.modules()}
    assert "GatedProducts" not in names and "KeptProducts" in names
    assert {r["open_gates"] for r in model.search_history_} <= set(range(11))


def test_random_interactions_are_of_equal_size_and_seeded():
    X, y, _ = make_ctr(2000, n_fields=6, pairs=2, random_state=0)

    def chosen(seed, **options):
        return (
            CTRClassifier(
                network="fm", search=RandomInteractions(**options), max_epochs=1, random_state=seed
            )
            .fit(X, y)
            .interactions_
        )

    assert chosen(0, n_interactions=4) == chosen(0, n_interactions=4) != chosen(1, n_interactions=4)
    assert len(chosen(0, n_interactions=4)) == 4 and len(chosen(0, n_interactions=0.2)) == 3
    with pytest.raises(ValueError, match="n_interactions=16 is more than the 15 candidates"):
        chosen(0, n_interactions=16)


def test_random_interactions_tell_all_candidates_and_which_were_drawn():
    X, y, _ = make_ctr(300, n_fields=5, pairs=1, random_state=0)
    search = RandomInteractions(n_interactions=3)
    model = CTRClassifier(network="fm", search=search, max_epochs=1, random_state=0).fit(X, y)
    found = model.architecture_["interaction"]
    assert [tuple(c) for c in found["candidates"]] == list(combinations(range(5), 2))
    assert found["scores"] == [float(c in found["interactions"]) for c in found["candidates"]]
    assert len(found["interactions"]) == 3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"orders": (4,)}, "orders must hold 2, 3 or both, got"),
        ({"threshold": "later"}, "'threshold' parameter of AutoFIS"),
        ({"threshold": -1.0}, "'threshold' parameter of AutoFIS"),
        ({"mu": 0.2}, "'mu' parameter of AutoFIS"),
        ({"retrain": "again"}, "'retrain' parameter of AutoFIS"),
    ],
)
def test_bad_parameters_are_named(options, message):
    X, y, _ = make_ctr(200, n_fields=3, pairs=1, random_state=0)
    with pytest.raises(ValueError, match=message):
        CTRClassifier(network="fm", search=AutoFIS(**options), max_epochs=1).fit(X, y)


def test_a_network_without_the_slot_is_refused_with_those_that_have_it():
    X, y, _ = make_ctr(200, n_fields=3, pairs=1, random_state=0)
    with pytest.raises(ValueError, match=r"'interaction' slot, which network=.*deepfm.*fm.*ipnn"):
        CTRClassifier(network="lr", search=AutoFIS()).fit(X, y)
    with pytest.raises(ValueError, match="at least 2 fields, the table has 1"):
        CTRClassifier(network="fm", search=AutoFIS()).fit(X[["f0"]], y)


@pytest.mark.parametrize("retrain", ["scratch", "rewind", "keep"])
def test_retrain_starts_from_the_declared_weights(retrain, monkeypatch):
    from sklearn_autorec.engine import _search_phase
    from sklearn_autorec.estimators import _stages

    X, y, _ = make_ctr(1000, n_fields=4, pairs=1, random_state=0)
    starts, problems = [], []
    real_train, real_problem = _stages.train, _search_phase.SearchProblem

    def spy_train(net, *args, **kwargs):
        starts.append(net.module.embedding.weight.detach().clone())
        return real_train(net, *args, **kwargs)

    def spy_problem(*args, **kwargs):
        problems.append(real_problem(*args, **kwargs))
        return problems[-1]

    monkeypatch.setattr(_stages, "train", spy_train)
    monkeypatch.setattr(_search_phase, "SearchProblem", spy_problem)
    CTRClassifier(network="fm", search=AutoFIS(retrain=retrain), max_epochs=1, random_state=0).fit(
        X, y
    )
    initial, final = (
        s["embedding.weight"] for s in (problems[0].initial_state, problems[0].final_state)
    )
    assert not torch.equal(initial, final)
    assert torch.equal(starts[0], final) == (retrain == "keep")
    assert torch.equal(starts[0], initial) == (retrain == "rewind")
