import copy
import functools
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from searching import ALONE
from size_cases import checked_on_other_columns
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import ANT
from sklearn_autorec.embedding._ant import AnchorMixture, ProximalRowAdam
from sklearn_autorec.engine import EncodedTensors, FieldNet
from sklearn_autorec.estimators import _context
from sklearn_autorec.exceptions import ConvergenceWarning
from sklearn_autorec.networks import FM
from sklearn_autorec.nn import (
    AnchoredRows,
    BinaryLogLoss,
    BuildContext,
    Inputs,
    mask_from_text,
    mask_to_text,
)
from sklearn_autorec.serving import load, save

OPTIONS = {
    **ALONE,
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.03,
    "embedding_init": 0.1,
    "search_epochs": 24,
    "max_epochs": 24,
    "batch_size": 400,
    "id_dropout": 0.0,
}
N_IDS, LISTS, D, V = (20, 9), ((12, 3), (9, 2)), 5, 41


def context(seed=0):
    return BuildContext(
        ("a", "b", "n", "s", "t"),
        N_IDS,
        1,
        LISTS,
        embedding_dim=D,
        generator=torch.Generator().manual_seed(seed),
        embedding_init=0.5,
        shared=(None, 1),
    )


def batch(n=60, seed=1, most=99):
    rng = np.random.default_rng(seed)
    ids = np.column_stack([rng.integers(0, min(k, most), n) for k in N_IDS])
    numbers = np.column_stack([rng.normal(size=n), rng.integers(0, 2, n)])
    items = np.hstack([rng.integers(0, min(k, most), (n, length)) for k, length in LISTS])
    return EncodedTensors(
        torch.from_numpy(ids.astype(np.int32)),
        torch.from_numpy(numbers.astype(np.float32)),
        torch.from_numpy(items.astype(np.int32)),
        torch.from_numpy(rng.integers(0, 2, n).astype(np.float32)),
    )


def reference(table, numeric, x):
    """Embeddings (B, F, d) of a whole table, float64."""
    ids, numbers, items = (t.numpy() for t in x[:3])
    out = np.zeros((len(ids), 5, D))
    out[:, 0], out[:, 1] = table[ids[:, 0]], table[20 + ids[:, 1]]
    by_value, by_missing, constant = numeric.detach().double().numpy()[:, 0]
    out[:, 2] = numbers[:, :1] * by_value + numbers[:, 1:] * by_missing + constant
    for f, own, start in ((3, items[:, :3], 29), (4, items[:, 3:], 20)):
        present = (own > 0)[..., None]
        out[:, f] = (table[start + own] * present).sum(1) / np.maximum(present.sum(1), 1)
    return out


# formulas
# --------------------------------------------------------------------------------------------------


def test_rows_are_weights_times_anchors():
    module = AnchorMixture(context(), ANT(n_anchors=4), 0.3)
    assert (module.transform >= 0).all() and module.transform.shape == (V, 4)
    x = Inputs(*batch().inputs.values())
    table = module.transform.detach().double().numpy() @ module.anchors.detach().double().numpy()
    found = module(x)
    np.testing.assert_allclose(
        found.detach().numpy(), reference(table, module.numeric_weight, x), rtol=0, atol=1e-6
    )
    # What no batch has held is zero when the rows are judged.
    module.seen[:25] = True
    table[25:] = 0
    np.testing.assert_allclose(
        module.eval()(x).detach().numpy(),
        reference(table, module.numeric_weight, x),
        rtol=0,
        atol=1e-6,
    )
    np.testing.assert_array_equal(module.support(), (np.arange(V) < 25)[:, None] * np.ones(4, bool))


def test_proximal_steps_agree_with_numpy():
    rng = np.random.default_rng(0)
    start = np.abs(rng.normal(size=(6, 3)))
    p = torch.nn.Parameter(torch.tensor(start))
    optimizer = ProximalRowAdam([p], lr=0.1)
    expected, m, v = start.copy(), np.zeros((6, 3)), np.zeros((6, 3))
    for step, (rows, weight) in enumerate([([0, 2], 0.0), ([2, 5], 0.3), ([0, 2], 2.0)], 1):
        g = rng.normal(size=(len(rows), 3))
        where = torch.tensor([rows])
        p.grad = torch.sparse_coo_tensor(where, torch.tensor(g), (6, 3), check_invariants=True)
        optimizer.weight = weight
        optimizer.step()
        m[rows] = 0.9 * m[rows] + 0.1 * g
        v[rows] = 0.999 * v[rows] + 0.001 * g**2
        size = 0.1 / (np.sqrt(v[rows] / (1 - 0.999**step)) + 1e-8)
        moved = expected[rows] - size * m[rows] / (1 - 0.9**step)
        expected[rows] = np.maximum(moved - size * weight, 0)
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    assert (p.detach() == 0).any() and (p.detach() >= 0).all()


def test_the_norm_rises_after_the_warm_up_and_touches_the_rows_of_the_batch_alone():
    module = AnchorMixture(context(), ANT(n_anchors=4, warmup=0.5), 3.0)
    net = FieldNet(FM().build(context(), {"embedding": module}), BinaryLogLoss(), lr=0.01)
    net.n_steps = 5
    net.initialize()
    net.module_.train()
    weights = []
    for step in range(5):
        before = module.transform.detach().clone()
        net.train_step(batch(20, seed=step, most=6))
        weights.append(module.optimizer.weight)
        moved = (module.transform != before).any(1).numpy()
        rows = [r for r in range(V) if r < 6 or 20 <= r < 26 or 29 <= r < 35]
        assert moved[rows].any() and not moved[[r for r in range(V) if r not in rows]].any()
    np.testing.assert_allclose(weights, np.array([0, 0, 0, 0.5, 1]) * 3 / 20)
    np.testing.assert_array_equal(np.flatnonzero(module.seen), rows)


@pytest.mark.parametrize(
    "options, l1",
    [
        ({}, 0.3),
        ({"budget": 0.5}, 0.75),
        ({"budget": 0.05, "l1": 0.1}, 0.1),
        ({"l1": 2.0}, 2.0),
    ],
)
def test_the_norm_is_stronger_within_a_budget(options, l1):
    c = BuildContext(("a", "b"), (300, 200), embedding_dim=8, generator=torch.Generator())
    assert ANT(**options).build(c).l1 == l1


# what serves
# --------------------------------------------------------------------------------------------------


def supports():
    rng = np.random.default_rng(2)
    yield "some", rng.random((V, 6)) < 0.3
    yield "none", np.zeros((V, 0), bool)
    yield "nothing", np.zeros((V, 3), bool)
    yield "all", np.ones((V, 2), bool)
    yield "many", rng.random((V, 256)) < 0.02


@pytest.mark.parametrize("name, support", [*supports()])
def test_stored_rows_agree_with_numpy_and_their_bytes(name, support):
    module, x = AnchoredRows(context(), support), Inputs(*batch().inputs.values())
    transform = np.zeros(support.shape)
    transform[support] = module.values.detach().numpy()
    assert (transform >= 0).all()
    table = transform @ module.anchors.detach().double().numpy()
    expected = reference(table, module.numeric_weight, x)
    for mode in (True, False):
        found = module.train(mode)(x)
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-5)
        assert torch.equal(module(Inputs(*(t[:1] for t in x[:3]))), found[:1])
    n, k = int(support.sum()), support.shape[1]
    assert module.nbytes() == {
        "embedding": 4 * n + 4 * k * D + 4 * 3 * D,
        "index": n + 4 * (int(support.any(1).sum()) + 1) + 12,  # V is less than 64
    }
    assert {*module.state_dict()} == {"values", "anchors", "numeric_weight"}
    a, b, s = np.split(support.sum(1), [20, 29])
    sizes = module.sizes()
    assert sizes[2] == D
    for own, told in zip((a, b, s, b), (sizes[0], sizes[1], sizes[3], sizes[4]), strict=True):
        np.testing.assert_array_equal(told, own)
    if n:
        module(x).square().sum().backward()
        assert (module.values.grad != 0).any() and (module.anchors.grad != 0).any()
        with torch.no_grad():
            module.values -= 0.5
        module.after_step()
        assert (module.values >= 0).all() and (module.values == 0).any()


def test_supports_of_other_tables_are_refused():
    for shape in ((V - 1, 3), (V, 257), (V,)):
        with pytest.raises(ValueError, match=f"support must have {V} rows of at most 256 anchors"):
            AnchoredRows(context(), np.ones(shape, bool))


# planted truth
# --------------------------------------------------------------------------------------------------


def planted(seed, n=12000, n_values=150, n_others=12, n_types=6, effect=4.0):
    """Clicks by pairs of a value of many and one of few, where the many are of six types: X, y, and
    the type of each.
    """
    rng = np.random.default_rng(seed)
    types = rng.normal(size=(n_types, n_others))
    kind = rng.integers(n_types, size=n_values)
    many, few = rng.integers(n_values, size=n), rng.integers(n_others, size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-effect * types[kind[many], few]))).astype(int)
    X = pd.DataFrame({"many": [f"v{i}" for i in many], "few": [f"w{i}" for i in few]})
    return X, y, kind


def fit(rows, search, seed=0, **options):
    return CTRClassifier(search=search, random_state=seed, **OPTIONS | options).fit(*rows)


def alike(model, kind):
    """Mean cosine of the vectors of values of one type, and of two types."""
    names = model.encoder_.categories_[0]
    ids = torch.arange(2, len(names) + 2)
    with torch.no_grad():
        e = model.net_.module_.embedding.lookup(ids, ids, 0).numpy()
    e = e / np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-9)
    own = kind[[int(name[1:]) for name in names]]
    same = own[:, None] == own
    cosine, others = e @ e.T, ~np.eye(len(e), dtype=bool)
    return cosine[same & others].mean(), cosine[~same].mean()


@functools.cache
def results(seed):
    X, y, kind = planted(seed)
    rows, (X_test, y_test) = (X[:8000], y[:8000]), (X[8000:], y[8000:])
    noise = rows[0], np.random.default_rng(seed).permutation(rows[1])
    models = {
        "ant": fit(rows, ANT(12, l1=2.0, retrain="none"), seed),
        "plain": fit(rows, None, seed),
        "shuffled": fit(noise, ANT(12, l1=2.0, retrain="none"), seed),
    }
    losses = {name: log_loss(y_test, m.predict_proba(X_test)) for name, m in models.items()}
    cosines = {name: alike(model, kind) for name, model in models.items()}
    return models["ant"], losses, cosines


@pytest.mark.parametrize("seed", range(5))
def test_values_of_one_type_share_a_few_anchors(seed):
    model, losses, cosines = results(seed)
    part = model.net_.module_.embedding
    assert isinstance(part, AnchoredRows) and (part.values > 0).all()
    assert cosines["ant"][0] > 0.9 and cosines["ant"][1] < 0
    assert model.embedding_sizes_["many"][2:].mean() < 3.2
    # A table of its own for each value tells types less well, and predicts no better.
    assert cosines["plain"][0] < 0.85 and losses["ant"] < losses["plain"] - 0.01
    # With shuffled labels there are no types.
    same, other = cosines["shuffled"]
    assert same - other < 0.1


def test_without_the_norm_all_anchors_are_used():
    X, y, _ = planted(0)
    model = fit((X[:8000], y[:8000]), ANT(12, l1=0.0, retrain="none"))
    assert model.embedding_sizes_["many"][2:].mean() > 10
    assert len(model.architecture_["embedding"]["anchors"]) == 12


def test_too_much_of_the_norm_leaves_nothing():
    X, y, _ = planted(0, n=2000)
    model = fit((X, y), ANT(4, l1=1000.0), search_epochs=6)
    assert (
        model.architecture_["embedding"]["anchors"] == []
        and (model.embedding_sizes_["many"] == 0).all()
    )
    assert np.isfinite(model.predict_proba(X)).all()


# The number of anchors
# --------------------------------------------------------------------------------------------------


def test_two_lower_losses_bring_two_anchors_and_two_higher_take_the_least_used():
    module = AnchorMixture(context(), ANT(n_anchors=7, growth=0.01), 0.3)
    module.seen[:] = True
    fresh, course = module.anchors.detach().clone(), []
    with torch.no_grad():
        module.anchors[3] *= 1e-6  # has decayed while it waited
    losses = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.5, 0.4, 0.3, 0.295, 0.29, 0.6]
    for loss in losses:
        module.after_epoch(loss)
        course.append(int(module.active.sum()))
    # Two falls after each change; a rise between begins anew; the price of more anchors counts.
    assert course == [2, 2, 4, 4, 6, 6, 7, 7, 7, 7, 7, 7, 7]
    assert torch.equal(module.anchors.detach()[3], fresh[3])
    with torch.no_grad():
        module.transform[:, 2] = 0.001
        module.transform[:, 5] = 0.0
    module.after_epoch(0.7)
    assert (~module.active).nonzero().flatten().tolist() == [2, 5]
    assert not module.support()[:, [2, 5]].any() and module.support()[:, 3].all()
    for loss in (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5):
        module.after_epoch(loss)
    assert int(module.active.sum()) == 1  # of five, two at a time; two and fewer stay
    # Whose number is fixed hears of the rows of others in vain.
    module = AnchorMixture(context(), ANT(n_anchors=7), 0.3)
    for loss in (0.9, 0.8, 0.7):
        module.after_epoch(loss)
    assert module.active.all()
    # An improvement that is less than the price of what came with it counts as none.
    module = AnchorMixture(context(), ANT(n_anchors=8, growth=0.1), 0.3)
    for loss in (0.9, 0.8, 0.7, 0.69, 0.68):
        module.after_epoch(loss)
    assert int(module.active.sum()) == 4
    module.after_epoch(0.67)
    assert int(module.active.sum()) == 6


def test_what_is_not_in_use_is_not_read_and_does_not_move():
    module = AnchorMixture(context(), ANT(n_anchors=6, growth=0.0, warmup=0.0), 3.0)
    net = FieldNet(FM().build(context(), {"embedding": module}), BinaryLogLoss(), lr=0.01)
    net.n_steps = 5
    net.initialize()
    net.module_.train()
    before, anchors = module.transform.detach().clone(), module.anchors.detach().clone()
    for step in range(5):
        net.train_step(batch(60, seed=step))
    moved = (module.transform != before).any(0)
    assert moved.tolist() == [True] * 2 + [False] * 4
    assert torch.equal(module.anchors[2:].detach(), anchors[2:])


@functools.cache
def grown(seed, shuffled):
    X, y, _ = planted(seed)
    own = np.random.default_rng(seed).permutation(y[:8000]) if shuffled else y[:8000]
    search = ANT(24, l1=2.0, retrain="none", growth=0.001)
    with warnings.catch_warnings():  # noise is learned by heart
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit((X[:8000], own), search, seed)


@pytest.mark.parametrize("seed", range(2))
def test_anchors_come_where_there_are_types_and_not_for_noise(seed):
    counts = [record["n_anchors"] for record in grown(seed, False).search_history_]
    assert counts[0] == 2 and 6 <= max(counts) <= 12  # six types
    counts = [record["n_anchors"] for record in grown(seed, True).search_history_]
    assert max(counts) <= 4 and counts[-1] <= 2


# Fitted models
# --------------------------------------------------------------------------------------------------


def test_bytes_files_and_unseen_values(tmp_path):
    X, y, _ = planted(1)
    model = results(1)[0]
    sizes = np.concatenate([*model.embedding_sizes_.values()])
    k = len(model.architecture_["embedding"]["anchors"])
    assert model.nbytes_["embedding"] == 4 * sizes.sum() + 4 * k * 8
    n_living, n_blocks = int((sizes > 0).sum()), -(-len(sizes) // 64)
    assert model.nbytes_["index"] == sizes.sum() + 4 * (n_living + 1) + 12 * n_blocks
    assert model.embedding_sizes_["many"][:2].tolist() == [0, 0]  # missing and unknown, not seen
    p = model.predict_proba(X)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), p)
    X = X.assign(many=None)
    assert np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize("retrain", ["none", "keep", "scratch", "rewind"])
@pytest.mark.parametrize("row_wise", [False, True])
def test_other_columns_missing_values_constants_and_single_rows(retrain, row_wise, monkeypatch):
    if row_wise:
        monkeypatch.setattr(_context, "LAZY_TABLE_FACTOR", 0)
    X, y, _ = planted(3, n=400, n_values=30)
    for model in checked_on_other_columns(X, y, ANT(5, retrain=retrain), OPTIONS):
        assert (model.net_.module_.embedding.values >= 0).all()


def test_numbers_alone_have_no_anchors():
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=60)})
    model = fit((X, (X["x"] > 0).astype(int)), ANT(), search_epochs=2)
    assert model.embedding_sizes_ == {"x": 8} and np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(
    "options, told",
    [
        ({"n_anchors": 0}, "'n_anchors' parameter of ANT"),
        ({"n_anchors": 257}, "'n_anchors' parameter of ANT"),
        ({"l1": -1.0}, "'l1' parameter of ANT"),
        ({"growth": -0.1}, "'growth' parameter of ANT"),
        ({"warmup": 1.0}, "'warmup' parameter of ANT"),
        ({"arch_lr": 0.0}, "'arch_lr' parameter of ANT"),
        ({"retrain": "never"}, "'retrain' parameter of ANT"),
    ],
)
def test_bad_parameters_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        fit(planted(0, n=60, n_values=5)[:2], ANT(**options))


def test_architectures_of_another_table_are_refused():
    rows = planted(0, n=60, n_values=5)[:2]
    model = fit(rows, ANT(3), search_epochs=1)
    support = mask_from_text(model.architecture_["embedding"]["support"])
    used = model.architecture_["embedding"]["anchors"]
    for changes, told in (
        ({"anchors": None}, "anchors must be a rising list"),
        ({"anchors": [1, 0]}, "anchors must be a rising list"),
        ({"anchors": [True]}, "anchors must be a rising list"),
        ({"anchors": [0, 300]}, "anchors must be a rising list"),
        ({"anchors": [*used, 200]}, "support must have the shape"),
        ({"support": None}, "support must be a mask"),
        ({"support": mask_to_text(support[1:])}, "support must have the shape"),
    ):
        architecture = copy.deepcopy(model.architecture_)
        architecture["embedding"] |= changes
        with pytest.raises(ValueError, match=told):
            CTRClassifier.from_architecture(architecture, max_epochs=1).fit(*rows)
