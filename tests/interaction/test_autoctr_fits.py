"""Whole fits of AutoCTR: what it finds, tells and refuses."""

import numpy as np
import pytest
from graph_cases import GRAPH, block, context_of
from searching import searching
from sklearn.metrics import roc_auc_score

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.interaction import AutoCTR

SMALL = {"max_blocks": 3, "widths": (8, 32), "population": 8, "tournament": 3, "n_neighbors": 20}

# Whole fits -------------------------------------------------------------------------------------


def searched(seed, shuffled=False):
    X, y, _ = make_ctr(4500, n_fields=5, cardinality=6, pairs=[(0, 3), (1, 4)], random_state=seed)
    rows, test = slice(0, 2500), slice(2500, None)
    options = {"lr": 0.02, "batch_size": 64, "max_epochs": 5, "embedding_dim": 4}
    search = AutoCTR(**SMALL, max_evaluations=12, epochs=2)
    told = np.random.default_rng(seed).permutation(y[rows]) if shuffled else y[rows]

    def fitted(network, search=None):
        return searching(search, seed, network=network, **options).fit(X[rows], told)

    models = {"own": fitted("fm", search)}
    if not shuffled:
        models |= {name: fitted(name) for name in ("fm", "lr")}
    auc = {k: roc_auc_score(y[test], m.predict_proba(X[test])[:, 1]) for k, m in models.items()}
    return models["own"], auc


def test_products_are_found_where_pairs_act_and_nothing_is_in_noise():
    for seed in range(5):
        model, auc = searched(seed)
        kinds = [
            b["type"] for b in model.architecture_["body"]["blocks"] if "sparse" in b["inputs"]
        ]
        assert {"fm", "dp"} & {*kinds}
        assert auc["own"] - auc["lr"] >= 0.98 * (auc["fm"] - auc["lr"])
        assert auc["fm"] - auc["lr"] > 0.1
    noise = [searched(seed, shuffled=True)[1]["own"] for seed in range(2)]
    assert 0.44 < np.mean(noise) < 0.56


@pytest.fixture(scope="module")
def clicks():
    return make_ctr(300, n_fields=4, pairs=1, n_numeric=1, missing_rate=0.05, random_state=0)[:2]


def test_the_search_tells_what_it_tried_and_jobs_change_nothing(clicks):
    search = AutoCTR(**SMALL, max_evaluations=12, n_children=2)
    model = searching(search, 0, network="deepfm", embedding_dim=4).fit(*clicks)
    records = model.search_history_
    assert [r["candidate"] for r in records] == list(range(1, 13))
    best = max(records, key=lambda r: r["score"])
    found = model.architecture_["body"]
    assert found["blocks"] == best["architecture"]["blocks"]
    assert found["front"][-1]["blocks"] == found["blocks"]
    assert found["front"][-1]["score"] == best["score"]
    costs = [f["complexity"] for f in found["front"]]
    assert costs == sorted(costs)
    names = {name.split(".")[0] for name, _ in model.net_.module_.named_parameters()}
    assert names == {"embedding", "body"}  # nothing of the network is left behind the embeddings
    short = searching(AutoCTR(**SMALL, max_time=0.0), 0, network="fm", embedding_dim=4)
    assert len(short.fit(*clicks).search_history_) == 1
    # Any of the front can be trained.
    other = {**model.architecture_, "body": {**found, "blocks": found["front"][0]["blocks"]}}
    again = CTRClassifier.from_architecture(other, max_epochs=1, random_state=0).fit(*clicks)
    assert again.architecture_ == other


def test_the_graph_is_told(clicks):
    context = context_of()
    nodes, edges = AutoCTR().graph({"blocks": GRAPH}, context)
    assert nodes == [
        ("dense", "numbers", "input"),
        ("sparse", "ids and lists", "input"),
        ("block 0", "MLP 4", "operation"),
        ("block 1", "dot products", "operation"),
        ("block 2", "FM", "operation"),
        ("block 3", "MLP 2", "operation"),
        ("output", "logits", "output"),
    ]
    assert ("dense", "block 1") in edges and ("block 0", "block 2") in edges
    assert [e for e in edges if e[1] == "output"] == [("block 3", "output")]
    assert len(edges) == 2 + 3 + 3 + 2 + 1


def test_other_targets_odd_rows_and_what_is_left_of_fields(clicks):
    X, y = clicks
    X, options = X.assign(same="a"), {"network": "fm", "embedding_dim": 4}
    search = AutoCTR(**SMALL, max_evaluations=8)
    odd = X.iloc[:1].assign(f0="never seen", x0=np.nan)
    three = searching(search, 0, **options).fit(X, y + 2 * (X["x0"].to_numpy() > 0))
    assert np.isfinite(three.predict_proba(odd)).all()
    rating = RatingRegressor(search=search, max_epochs=1, random_state=0, **options)
    assert np.isfinite(rating.fit(X, y + 0.5).predict(odd)).all()
    few = CTRClassifier(search=search, max_epochs=1, batch_size=1, random_state=0, **options)
    assert np.isfinite(few.fit(X[:20], y[:20]).predict_proba(odd)).all()
    model = searching([AutoField(n_kept=2), search], 0, **options).fit(X, y)
    assert model.architecture_["body"]["n_fields"] == 2
    numbers = X[["x0"]].assign(x1=X["x0"] ** 2)
    assert np.isfinite(searching(search, 0, **options).fit(numbers, y).predict_proba(numbers)).all()


def test_wrong_parameters_tables_and_architectures_are_refused(clicks):
    X, y = clicks
    for options, told in (
        ({"blocks": ("mlp", "cin")}, "blocks must be different kinds"),
        ({"blocks": ()}, "blocks must be different kinds"),
        ({"widths": (0,)}, "widths must be ints"),
        ({"widths": ()}, "widths must be ints"),
        ({"weights": (1.0, 2.0)}, "weights must be three numbers"),
        ({"weights": (1.0, 2.0, -1.0)}, "weights must be three numbers"),
        ({"max_blocks": 0}, "max_blocks"),
        ({"complexity": "time"}, "complexity"),
        ({"n_neighbors": 0}, "n_neighbors"),
    ):
        with pytest.raises(ValueError, match=told):
            searching(AutoCTR(**options), 0, network="fm").fit(X, y)
    with pytest.raises(ValueError, match="needs at least 2 fields, the table has 1"):
        searching(AutoCTR(), 0, network="fm").fit(X[["f0"]], y)
    good = {"method": "AutoCTR", "n_fields": 5, "blocks": [block("mlp", "dense", "sparse")]}
    searching(FixedArchitecture(good), 0, network="fm").fit(X, y)
    for blocks in (
        None,
        [],
        [None],
        [block("cin", "sparse")],
        [block("mlp")],
        [block("mlp", "sparse", "sparse")],
        [block("mlp", "images")],
        [block("mlp", 0)],
        [block("mlp", "sparse"), block("mlp", True)],
        [block("mlp", "sparse"), block("mlp", -1)],
        [block("mlp", "sparse", width=0)],
        [block("mlp", "sparse", width=2.5)],
        [{"type": "mlp", "width": 4, "inputs": "sparse"}],
        [block("fm", "dense")],
    ):
        with pytest.raises(ValueError, match="of blocks|blocks must"):
            searching(FixedArchitecture({**good, "blocks": blocks}), 0, network="fm").fit(X, y)
    with pytest.raises(ValueError, match="n_fields=4"):
        searching(FixedArchitecture({**good, "n_fields": 4}), 0, network="fm").fit(X, y)
