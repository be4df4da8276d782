"""What the networks of pairs and their kin learn: planted pairs, nothing of shuffled labels, and
around them searches, memory and the tables that there are.
"""

import pickle
from functools import cache

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import CTRProblem, make_ctr
from sklearn_autorec.estimators import _memory
from sklearn_autorec.feature_selection import AdaFS, AutoField
from sklearn_autorec.interaction import RandomInteractions
from sklearn_autorec.networks import AFM, FFM, FM, OPNN, PIN, DeepCrossing, FiGNN, XDeepFM

OPTIONS = {
    "embedding_dim": 4,
    "embedding_init": 0.1,
    "lr": 0.02,
    "max_epochs": 8,
    "batch_size": 128,
    "early_stopping": False,
    "device": "cpu",
}
LEARNERS = {
    "ffm": FFM(),
    "afm": AFM(),
    "opnn": OPNN(hidden_units=(32,)),
    "opnn-kernel": OPNN("kernel", hidden_units=(32,)),
    "pin": PIN(8, hidden_units=(32,)),
    "xdeepfm": XDeepFM((6, 6), (32,)),
    "deep_crossing": DeepCrossing((32, 32)),
    "fignn": FiGNN(2, 2, 4),
}


def planted(seed, pairs=((0, 1), (2, 4)), rank=3, n_rows=3000):
    rng = np.random.RandomState(seed)
    problem = CTRProblem(
        n_fields=5,
        cardinality=6,
        zipf=0.0,
        pairs=list(pairs),
        pair_effect=1.5,
        rank=rank,
        random_state=rng,
    )
    return problem.sample(n_rows, rng), problem.sample(4000, rng)


def auc(network, train, test, seed, **options):
    model = CTRClassifier(network=network, random_state=seed, **{**OPTIONS, **options})
    return roc_auc_score(test[1], model.fit(*train[:2]).predict_proba(test[0])[:, 1])


@cache
def planted_and_known_by_fields(seed):
    """The tables of a seed and the AUC of a model without pairs, which all networks are compared
    with.
    """
    train, test = planted(seed)
    return train, test, auc("lr", train, test, seed)


@pytest.mark.parametrize("name", LEARNERS)
def test_planted_pairs_are_learned_and_shuffled_labels_are_not(name):
    for seed in range(3):
        train, test, by_fields = planted_and_known_by_fields(seed)
        best = test[2].bayes_auc
        assert best - by_fields > 0.25
        # Of what pairs add to single fields.
        assert auc(LEARNERS[name], train, test, seed) > by_fields + 0.75 * (best - by_fields)
    shuffled = train[0], np.random.default_rng(0).permutation(train[1])
    assert abs(auc(LEARNERS[name], shuffled, test, 0) - 0.5) < 0.07


def test_one_number_for_each_other_field_is_enough_where_one_for_all_is_not():
    """A field of four pairs, each of rank one: d = 1 for FFM, more for FM."""
    for seed in range(3):
        train, test = planted(seed, [(0, 1), (0, 2), (0, 3), (0, 4)], rank=1, n_rows=4000)
        aware, shared = (
            auc(network, train, test, seed, embedding_dim=1, max_epochs=12)
            for network in (FFM(), FM())
        )
        assert aware > test[2].bayes_auc - 0.04 and aware > shared + 0.05


# around the network
# ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clicks():
    X, y, _ = make_ctr(
        600, n_fields=4, cardinality=6, pairs=[(0, 1)], n_numeric=1, n_sequences=1, random_state=0
    )
    return X, y


def small(network, clicks, **options):
    options = {**OPTIONS, "max_epochs": 2, "random_state": 0, **options}
    return CTRClassifier(network=network, **options).fit(*clicks)


@pytest.mark.parametrize("search", [AdaFS(hidden_units=(3,)), AutoField(n_kept=3)], ids=repr)
def test_ffm_takes_searches_for_fields(search, clicks):
    X, _ = clicks
    model = small("ffm", clicks, search=search)
    n_fields = len(model.architecture_["gate"].get("fields", range(6)))
    module = model.net_.module_
    assert module.embedding.weight.shape[1] == 4 * n_fields
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_tables_of_ffm_count_a_vector_for_every_field(clicks, monkeypatch):
    model = small("ffm", clicks)
    assert model.compression_ratio_ == 1.0
    n_rows = model.net_.module_.embedding.n_rows
    needed = 5 * 4 * n_rows * (4 * 6 + 1)
    monkeypatch.setattr(_memory, "available_memory", lambda: needed)
    assert np.isfinite(small("ffm", clicks).predict_proba(clicks[0])).all()
    monkeypatch.setattr(_memory, "available_memory", lambda: needed - 1)
    small("fm", clicks)
    with pytest.raises(ValueError, match="embedding tables of .* need about"):
        small("ffm", clicks)


@pytest.mark.parametrize("name", ["afm", "opnn", "pin", "xdeepfm"])
def test_searches_for_interactions_take_the_place_of_products(name, clicks):
    network = LEARNERS[name]
    model = small(network, clicks, search=RandomInteractions(2))
    kept = model.net_.module_.interaction
    assert len(model.interactions_) == 2 and type(kept).__name__ == "KeptProducts"
    nothing = {**model.architecture_["interaction"], "interactions": []}
    X, three = clicks[0], np.arange(len(clicks[1])) % 3
    model = small(network, (X, three), search=FixedArchitecture(nothing))
    assert model.interactions_ == [] and np.isfinite(model.predict_proba(X)).all()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (AFM(attention_units=0), "attention_units"),
        (OPNN(products="outer"), "products"),
        (PIN(pair_units=0), "pair_units"),
        (PIN(pair_outputs=1.5), "pair_outputs"),
        (XDeepFM(cross_units=3), "cross_units"),
        (XDeepFM(cross_units=()), r"cross_units must hold one int or more.*got \(\)"),
        (XDeepFM(cross_units=(4, 0)), r"cross_units must hold one int or more.*got \(4, 0\)"),
        (DeepCrossing(hidden_units=(8, 0)), r"hidden_units must hold ints .*got \(8, 0\)"),
        (FiGNN(n_steps=0), "n_steps"),
        (FiGNN(n_heads=-1), "n_heads"),
        (FiGNN(width=0), "width"),
    ],
    ids=repr,
)
def test_wrong_parameters_are_refused_by_name(network, message, clicks):
    with pytest.raises(ValueError, match=message):
        small(network, clicks)


@pytest.mark.parametrize("name", LEARNERS)
def test_what_real_tables_have(name, clicks):
    """Values never seen, missing ones, a constant column, batches of one row, three classes."""
    X, _ = clicks
    X = X.head(70).assign(same="x")
    y = np.arange(70) % 3
    model = small(LEARNERS[name], (X, y), max_epochs=1, batch_size=23)  # the last batch has one row
    new = X.head(3).assign(f0=["never", None, X.f0[0]], x0=[np.nan, 1e9, 0.0], s0=[[], None, ["?"]])
    p = model.predict_proba(new)
    assert p.shape == (3, 3) and np.isfinite(p).all()
    np.testing.assert_array_equal(model.predict_proba(new[1:2]), p[1:2])
