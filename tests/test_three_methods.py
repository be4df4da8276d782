"""The methods of the author's guide: they find what was planted, and nothing where nothing is."""

import importlib.util
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sklearn_autorec import CTRClassifier
from sklearn_autorec.nn import BuildContext

PATH = Path(__file__).parents[1] / "examples" / "three_methods.py"
ROWS = 2000


@pytest.fixture(scope="module")
def guide():
    spec = importlib.util.spec_from_file_location("three_methods", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["three_methods"] = module  # pickles find the classes there
    spec.loader.exec_module(module)
    return module


def fit(guide, method, table, seed, shuffled=False):
    X, y = table
    if shuffled:
        y = np.random.default_rng(seed).permutation(y)
    return CTRClassifier(search=method, **{**guide.OPTIONS, "random_state": seed}).fit(X, y)


@pytest.mark.parametrize("seed", range(5))
def test_gates_keep_the_planted_fields(guide, seed):
    table = guide.planted_fields(ROWS, seed)
    assert fit(guide, guide.FieldGates(), table, seed).selected_fields_ == ["f1", "f4"]


def test_gates_keep_one_field_of_shuffled_labels(guide):
    model = fit(guide, guide.FieldGates(), guide.planted_fields(ROWS, 0), 0, shuffled=True)
    assert len(model.selected_fields_) == 1  # something has to be left


@pytest.mark.parametrize("seed", range(5))
def test_rewards_find_the_planted_pair(guide, seed):
    table = guide.planted_pairs(ROWS, [(1, 3)], seed)
    model = fit(guide, guide.DrawnPair(), table, seed)
    assert model.interactions_ == [("f1", "f3")]
    assert max(model.interaction_scores_.values()) > 0.9


def test_rewards_of_shuffled_labels_settle_nowhere(guide):
    table = guide.planted_pairs(ROWS, [(1, 3)], 0)
    models = [fit(guide, guide.DrawnPair(), table, seed, shuffled=True) for seed in range(2)]
    assert [m for m in models if m.interactions_ == [("f1", "f3")]] == []
    assert max(max(m.interaction_scores_.values()) for m in models) < 0.9


@pytest.mark.parametrize("seed", range(3))
def test_candidates_find_both_planted_pairs(guide, seed):
    table = guide.planted_pairs(ROWS, [(0, 1), (2, 4)], seed)
    model = fit(guide, guide.GreedyPairs(), table, seed)
    assert model.interactions_ == [("f0", "f1"), ("f2", "f4")]


def test_candidates_of_shuffled_labels_keep_nothing(guide):
    table = guide.planted_pairs(ROWS, [(0, 1), (2, 4)], 0)
    assert fit(guide, guide.GreedyPairs(), table, 0, shuffled=True).interactions_ == []


def test_the_gradient_of_the_policy_is_the_score_function(guide):
    context = BuildContext(("a", "b", "c"), (5, 5, 5), embedding_dim=2, output_bias=(0.0,))
    policy = guide.PairPolicy(context, 0.1)
    logits = np.array([0.3, -0.2, 0.5])
    with torch.no_grad():
        policy.logits.copy_(torch.from_numpy(logits))
    policy.policy_loss(torch.tensor([-1.0, -0.6]))  # the first reward is its own baseline, -0.8
    assert policy.usual_reward == pytest.approx(-0.8)
    policy.action = 2
    policy.policy_loss(torch.tensor([-0.5, -0.1])).backward()
    odds = np.exp(logits) / np.exp(logits).sum()
    wanted = -(-0.3 - -0.8) * (np.array([0, 0, 1]) - odds)
    np.testing.assert_allclose(policy.logits.grad.numpy(), wanted, rtol=1e-5)
    assert policy.usual_reward == pytest.approx(0.9 * -0.8 + 0.1 * -0.3)


def test_the_gates_and_their_price(guide):
    context = BuildContext(("a", "b", "c"), (5, 5, 5), embedding_dim=2, output_bias=(0.0,))
    gates = guide.Gates(context, price=0.5)
    logit = np.array([0.2, -0.1, 0.0])
    with torch.no_grad():
        gates.logit.copy_(torch.from_numpy(logit))
    gates.set_progress(1.0)
    wanted = 1 / (1 + np.exp(-logit / 0.1))
    np.testing.assert_allclose(gates(None, None).detach().numpy(), wanted[None], rtol=1e-5)
    assert gates.penalty().item() == pytest.approx(0.5 * wanted.sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["FieldGates", "DrawnPair"])
def test_they_repeat_pickle_and_come_back_from_plain_values(guide, name):
    table = guide.planted_fields(400, 0)
    model = fit(guide, getattr(guide, name)(), table, 0)
    p = model.predict_proba(table[0])
    for other in (
        fit(guide, getattr(guide, name)(), table, 0),
        pickle.loads(pickle.dumps(model)),
    ):
        np.testing.assert_array_equal(other.predict_proba(table[0]), p)
    assert (fit(guide, getattr(guide, name)(), table, 1).predict_proba(table[0]) != p).any()
    plain = json.loads(json.dumps(model.architecture_))
    options = {k: v for k, v in guide.OPTIONS.items() if k not in ("network", "embedding_dim")}
    again = CTRClassifier.from_architecture(plain, **options).fit(*table)
    assert again.architecture_ == model.architecture_


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("FieldGates", {"fields": [0, 3]}),
        ("FieldGates", {"fields": []}),
        ("FieldGates", {"fields": [1, 0]}),
        ("FieldGates", {"fields": ["a"]}),
        ("DrawnPair", {"interactions": [[0, 3]]}),
        ("DrawnPair", {"interactions": [[1, 0]]}),
        ("GreedyPairs", {"interactions": [[0]]}),
        ("GreedyPairs", {"interactions": None}),
    ],
)
def test_what_does_not_fit_the_table_is_refused(guide, name, architecture):
    context = BuildContext(("a", "b", "c"), (5, 5, 5), embedding_dim=2, output_bias=(0.0,))
    with pytest.raises(ValueError, match="rising ints|list of pairs"):
        getattr(guide, name)().check(architecture, context)
