"""DIEN against its formulas, on planted orders, and with lists of every length."""

import copy
import pickle

import history_cases
import numpy as np
import pandas as pd
import pytest
import torch
from history_cases import ENCODER, SHORT, D, check_odd_rows, context, vectors_of_kept_fields
from onnx_graphs import exported
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import PEP
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.networks import DIEN, DIN
from sklearn_autorec.networks._dien import Recurrence
from sklearn_autorec.nn import BuildContext, Inputs
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

OPTIONS = {**history_cases.OPTIONS, "max_epochs": 12}
NETWORK = DIEN((32,), dropout=0.0, auxiliary_units=(16,))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def evolutions(n, seed, n_items=24, n_topics=3):
    """Rows that are clicked, nine times of ten, if the newest item of the target's topic in the
    history is an advanced one, and else once in ten; topics and levels are not told.

    Every history has two topics, and of each as many simple items as advanced ones: all is in the
    order.
    """
    rng = np.random.default_rng(seed)
    topic, advanced = np.arange(n_items) % n_topics, np.arange(n_items) // n_topics % 2 == 1
    kinds = {
        (t, a): np.flatnonzero((topic == t) & (advanced == a))
        for t in range(n_topics)
        for a in (False, True)
    }
    items, histories, hits = [], [], []
    for _ in range(n):
        own, pairs = rng.permutation(n_topics)[:2], rng.integers(1, 3)
        wanted = [(t, a) for t in own for a in (False, True)] * pairs
        history = [rng.choice(kinds[kind]) for kind in wanted]
        history = [history[i] for i in rng.permutation(len(history))]
        target = rng.choice(np.flatnonzero(topic == own[0]))
        hits.append(advanced[[h for h in history if topic[h] == own[0]][-1]])
        items.append(target)
        histories.append([int(h) for h in history])
    hits = np.array(hits)
    y = (rng.random(n) < np.where(hits, 0.9, 0.1)).astype(int)
    other = rng.integers(0, 5, n).astype(str)
    return pd.DataFrame({"item": items, "history": histories, "other": other}), y, hits


def shuffled(X, seed):
    rng = np.random.default_rng(seed)
    return X.assign(history=[[h[i] for i in rng.permutation(len(h))] for h in X["history"]])


def auc_of(network, train, y, test, y_test, **options):
    model = CTRClassifier(network=network, encoder=ENCODER, **{**OPTIONS, **options}).fit(train, y)
    return roc_auc_score(y_test, model.predict_proba(test)[:, 1])


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_a_planted_order(seed):
    """Which DIN cannot see, and of lists in another order nobody."""
    X, y, _ = evolutions(2500, seed)
    X_test, y_test, hits = evolutions(2000, 100 + seed)
    best = roc_auc_score(y_test, hits)
    test = X_test, y_test
    assert best - 0.08 < auc_of(NETWORK, X, y, *test) <= best + 0.01
    assert auc_of(DIN((32,), dropout=0.0), X, y, *test) < 0.6
    if seed == 0:
        mixed = shuffled(X_test, 1), y_test
        assert auc_of(NETWORK, shuffled(X, 0), y, *mixed) < 0.6


def test_the_newest_item_is_the_last():
    """What the last item says is heard, what comes before the kept ones is not."""
    encoder = FieldEncoder(shared_vocabularies={"history": "item"}, max_length=2)
    X = pd.DataFrame(
        {"item": ["a", "b", "c", "a"], "history": [list("abc"), list("cb"), [], ["b"]]}
    )
    items = encoder.fit(X).encode(X).sequences
    number = encoder.encode(X[:3]).ids[:, 0]
    assert items[0].tolist() == [number[1], number[2]] and items[3].tolist() == [number[1], 0]
    module = DIEN((4,), attention={"history": "item"}).build(context(), {}).eval()
    rows_ = rows(items=((3, 1, 0, 6, 0), (1, 3, 0, 6, 0)), ids=((2, 1), (2, 1)))
    e = module.embed(Inputs(*rows_.values()))
    assert not torch.allclose(e[0, 3], e[1, 3], atol=1e-3)  # the other way round


def rows(*, ids=((3, 1), (0, 2)), items=((3, 0, 0, 6, 0), (0, 0, 0, 1, 2))):
    return {
        "ids": torch.tensor(ids, dtype=torch.int32),
        "numeric": torch.zeros(len(ids), 2),
        "sequences": torch.tensor(items, dtype=torch.int32),
    }


def moved(part):
    g = torch.Generator().manual_seed(3)
    for p in part.parameters():
        p.data.add_(0.5 * torch.randn(p.shape, generator=g))
    return part.double()


def np_recurrence(gru, items, present, k, attention):
    """States after each item, one row and one item at a time."""
    w, u, b = (t[k].detach().numpy() for t in (gru.of_item, gru.of_state, gru.bias))
    states = np.zeros(items.shape)
    for row in range(len(items)):
        h = np.zeros(D)
        for j in range(items.shape[1]):
            if present[row, j]:
                x = items[row, j]
                update = sigmoid(w[:D] @ x + u[:D] @ h + b[:D])
                reset = sigmoid(w[D : 2 * D] @ x + u[D : 2 * D] @ h + b[D : 2 * D])
                new = np.tanh(w[2 * D :] @ x + reset * (u[2 * D :] @ h) + b[2 * D :])
                update = update * attention[row, j]
                h = (1 - update) * h + update * new
            states[row, j] = h
    return states


LENGTHS = np.array([[4, 2], [0, 0], [1, 4], [3, 1], [2, 0], [0, 3]])
PRESENT = np.arange(4) < LENGTHS[..., None]


def random_lists(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, 2, 4, D)) * PRESENT[..., None], rng.normal(size=(6, 2, D))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("normalize", ["softmax", "sigmoid"])
def test_the_evolution_follows_the_formulas(normalize, training):
    network = DIEN((4,), normalize=normalize, auxiliary_units=(5,), auxiliary_weight=0.5)
    part = moved(network.build(context(), {}).sequence).train(training)
    vectors, targets = random_lists()
    got = part(*map(torch.from_numpy, (vectors, PRESENT, targets))).detach().numpy()
    losses = []
    for k in (0, 1):
        there = PRESENT[:, k]
        states = np_recurrence(part.extractor, vectors[:, k], there, k, np.ones((6, 4)))
        a = np.ones((6, 4))
        if k == 0:  # the other list has no target
            scores = np.einsum(
                "bjd,ed,be->bj", states, part.match[0].detach().numpy(), targets[:, 0]
            )
            a = sigmoid(scores)
            if normalize == "softmax":
                a = np.where(there, np.exp(scores), 0)
                a = a / np.maximum(a.sum(1, keepdims=True), 1e-300)
        evolved = np_recurrence(part.evolution, states, there, k, a)[:, -1]
        np.testing.assert_allclose(got[:, k], evolved, atol=1e-12)
        assert not got[LENGTHS[:, k] == 0, k].any()
        pairs = [(r, j) for r in range(6) for j in range(3) if there[r, j + 1]]
        after = np.array([vectors[r, k, j + 1] for r, j in pairs])
        before = np.array([states[r, j] for r, j in pairs])
        other = np.roll(after, len(after) // 2, 0)

        def logit(x):
            first, last = part.guess[0], part.guess[2]
            hidden = np.maximum(
                x @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0
            )
            return (hidden @ last.weight.detach().numpy().T + last.bias.detach().numpy())[:, 0]

        real, false = (sigmoid(logit(np.hstack([before, x]))) for x in (after, other))
        losses.append(-np.log(real).mean() - np.log(1 - false).mean())
    penalty = float(torch.as_tensor(part.penalty()).detach())
    assert penalty == (pytest.approx(0.5 * np.mean(losses), rel=1e-9) if training else 0)
    assert part.penalty() == 0  # once


def test_without_attention_it_is_a_gru_with_the_update_gate_turned():
    """Torch's gate keeps the state, the paper's replaces it; an attention of zero passes over."""
    gru = moved(Recurrence(context().axis("L"), D, torch.Generator().manual_seed(0)))
    other = torch.nn.GRU(D, D, batch_first=True).double()
    order = [*range(D, 2 * D), *range(D), *range(2 * D, 3 * D)]  # reset, update, new
    sign = torch.tensor([1.0] * D + [-1.0] * D + [1.0] * D).double()
    with torch.no_grad():
        other.weight_ih_l0.copy_(gru.of_item[1][order] * sign[:, None])
        other.weight_hh_l0.copy_(gru.of_state[1][order] * sign[:, None])
        other.bias_ih_l0.copy_(gru.bias[1][order] * sign)
        other.bias_hh_l0.zero_()
    x = torch.from_numpy(random_lists()[0][:, 0])
    there = torch.ones(6, 4, dtype=torch.bool)
    expected = other(x)[0]
    torch.testing.assert_close(gru(x, there, 1), expected)
    torch.testing.assert_close(gru(x, there, 1, torch.ones(6, 4).double()), expected)
    assert not gru(x, there, 1, torch.zeros(6, 4).double()).any()
    assert (gru(x.flip(1), there, 1)[:, -1] - expected[:, -1]).abs().max() > 0.01
    padded = torch.where(there.cumsum(1).unsqueeze(2) < 4, x, 7.0)
    there[:, 3] = False
    torch.testing.assert_close(gru(padded, there, 1)[:, -1], expected[:, 2])


def test_an_item_that_is_the_next_one_is_no_counterexample():
    part = moved(DIEN((4,)).build(context(), {}).sequence).train()
    same = torch.ones(4, 3, D).double()
    there = torch.ones(4, 3, dtype=torch.bool)
    states = torch.from_numpy(random_lists()[0][:4, 0, :3])
    loss = part.next_item_loss(states, same, there)
    real = part.guess(torch.cat([states[:, :-1], same[:, 1:]], 2))
    torch.testing.assert_close(loss, torch.nn.functional.softplus(-real).mean())
    for alone in (there[:1] & False, torch.tensor([[True, True, False]])):  # none, and only one
        assert part.next_item_loss(states[:1], same[:1], alone) == 0


def test_states_learn_which_item_follows():
    """The loss of the next item falls below that of a coin where items follow each other."""
    rng = np.random.default_rng(0)
    starts, steps = rng.integers(0, 8, 400), np.arange(6)
    X = pd.DataFrame(
        {"item": rng.integers(0, 8, 400), "history": [[(s + j) % 8 for j in steps] for s in starts]}
    )
    y = rng.integers(0, 2, 400)
    losses = {}
    for name, table in (("in order", X), ("mixed", shuffled(X, 0))):
        options = {**OPTIONS, "max_epochs": 12}
        model = CTRClassifier(network=NETWORK, encoder=ENCODER, **options).fit(table, y)
        table = model.encoder_.encode(table)
        module = model.net_.module_.train()
        with torch.no_grad():
            module(
                *(
                    torch.from_numpy(np.asarray(t))
                    for t in (table.ids, table.numeric, table.sequences)
                )
            )
            losses[name] = float(module.sequence.penalty().detach())
    coin = 2 * np.log(2)
    assert losses["in order"] < 0.65 * coin and losses["mixed"] > 0.85 * coin, losses


def test_attention_names_pairs_of_columns():
    c = context()
    assert DIEN().targets(c) == [0, None]
    assert DIEN(attention={"tags": "b", "history": "item"}).targets(c) == [0, 1]
    with pytest.raises(ValueError, match=r"name the targets, DIEN\(attention=\{list: column\}\)"):
        DIEN().build(context(shared=()), {})
    with pytest.raises(ValueError, match="auxiliary_units must hold ints of at least 1, got"):
        DIEN(auxiliary_units=(0,)).build(c, {})
    module = DIEN(attention={}, auxiliary_weight=0.0).build(context(shared=()), {})
    assert module.sequence.targets == [None, None] and module.sequence.guess is None
    assert DIEN().build(BuildContext(("item", "b"), (6, 4)), {}).sequence is None


@pytest.mark.parametrize("fields", [[0, 1, 3], [0, 1, 2, 3], [0, 4], [1, 3, 4], [0, 1]])
def test_weights_of_kept_fields_are_taken_over(fields):
    network = DIEN((4,), attention={"history": "item", "tags": "b"})
    inputs = Inputs(*rows().values())
    e, kept = vectors_of_kept_fields(network, fields, inputs, lambda part: moved(part).float())
    for at, f in enumerate(fields):
        if {3: 0, 4: 1}.get(f, f) in fields:  # else read without weights, since its target is gone
            torch.testing.assert_close(kept[:, at], e[:, f])


def test_a_step_leaves_nothing_in_copies_and_pickles():
    module = DIEN((4,)).build(context(), {}).train()
    module(**rows(items=((3, 2, 0, 6, 1), (1, 2, 3, 1, 2))))
    assert len(module.sequence.auxiliary) == 2
    for again in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert again.sequence.auxiliary == []


@pytest.fixture(scope="module")
def table():
    X, y, _ = evolutions(200, 0)
    X["item"] = X["item"].astype("Int64")
    X.loc[::9, "item"] = pd.NA
    X.loc[::7, "history"] = None
    X["history"] = [h if isinstance(h, list) else [] for h in X["history"]]
    X["x"] = np.random.default_rng(0).normal(size=len(X))
    X["same"] = "one"
    return X, y


@pytest.mark.parametrize("members", [1, 2])
def test_model_files_and_onnx_serve_the_same(members, table, tmp_path):
    X, y = table
    encoder = clone(ENCODER).set_params(max_length=3)  # a graph holds every step
    model = CTRClassifier(network=NETWORK, encoder=encoder, members=members, **SHORT).fit(X, y)
    p = model.predict_proba(X)
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), p)
    if members == 1:
        np.testing.assert_allclose(exported(model, tmp_path)(X), p, rtol=1e-4, atol=1e-6)


def test_rows_alone_empty_lists_and_what_was_never_seen(table):
    X, y = table
    model = CTRClassifier(network=NETWORK, encoder=ENCODER, **SHORT).fit(X, y)
    check_odd_rows(model, X)
    empty = X.assign(history=[[] for _ in range(len(X))])
    for some in (X[:1], empty[:5], empty):
        model.partial_fit(some, y[: len(some)])
        assert np.isfinite(model.predict_proba(X)).all()
    for rows_ in (1, 2):
        ratings = RatingRegressor(network=NETWORK, encoder=ENCODER, **SHORT)
        assert np.isfinite(ratings.fit(X[1 : 1 + rows_], y[:rows_] * 2.0).predict(X[:5])).all()
    three = CTRClassifier(network=NETWORK, encoder=ENCODER, **SHORT).fit(X, np.arange(len(X)) % 3)
    assert three.predict_proba(X).shape == (200, 3)


@pytest.mark.parametrize("search", [PEP(), [AutoField(), PEP()]])
def test_searches_go_through(search, table):
    X, y = table
    model = CTRClassifier(network=NETWORK, search=search, encoder=ENCODER, **SHORT).fit(X, y)
    again = CTRClassifier.from_architecture(model.architecture_, encoder=ENCODER, **SHORT)
    assert again.fit(X, y).architecture_ == model.architecture_
