"""Fitted estimators whose tables are stored in float16 or int8."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier, RatingRegressor, embedding
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import RULE, AutoDis, MagnitudePruning
from sklearn_autorec.interaction import AutoFIS
from sklearn_autorec.nn import QuantizedTable, _storage
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

OPTIONS = {"network": "fm", "embedding_dim": 8, "max_epochs": 1, "lr": 0.02, "random_state": 0}
FEW = {"RULE": {"n_samples": 8, "n_evaluations": 20}, "OptEmbed": {"n_evaluations": 8}}
METHODS = {name: getattr(embedding, name)(**FEW.get(name, {})) for name in embedding.__all__}


@pytest.fixture(scope="module")
def clicks():
    return mixed_clicks(400)


def fitted(table, **options):
    X, y = table
    return CTRClassifier(**{**OPTIONS, **options}).fit(X, y)


def stored(model):
    return [m for m in model.net_.module_.modules() if isinstance(m, QuantizedTable)]


def outputs(model, X):
    return model.predict_proba(X)[:, 1]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_embeddings_composes(name, clicks, tmp_path):
    X, _ = clicks
    plain, small = (fitted(clicks, search=METHODS[name], storage=s) for s in (None, "int8"))
    assert stored(small) and not stored(plain)
    kinds = {"embedding", "projection", "index", "network"}
    assert small.nbytes_["total"] == sum(small.nbytes_[kind] for kind in kinds)
    # Vectors of one or two numbers are float16, half of what they were.
    assert small.nbytes_["embedding"] <= 0.56 * plain.nbytes_["embedding"]
    assert small.compression_ratio_ > plain.compression_ratio_
    found = outputs(small, X)
    # A budget counts scales, so that the sizes may differ: the same sizes, stored in both ways.
    alike = [
        CTRClassifier.from_architecture(
            small.architecture_, max_epochs=1, lr=0.02, random_state=0, storage=s
        ).fit(*clicks)
        for s in (None, "int8")
    ]
    assert stored(alike[1]) and not stored(alike[0])
    np.testing.assert_allclose(outputs(alike[1], X), outputs(alike[0], X), atol=5e-3)
    np.testing.assert_array_equal(outputs(pickle.loads(pickle.dumps(small)), X), found)
    sizes = []
    for model, path in ((plain, tmp_path / "plain"), (small, tmp_path / "small")):
        save(model, path)
        sizes.append(path.stat().st_size)
    np.testing.assert_array_equal(outputs(load(tmp_path / "small"), X), found)
    saved = plain.nbytes_["total"] - small.nbytes_["total"]
    assert sizes[0] - sizes[1] > saved - 1300  # the header says how tables are stored
    assert load(tmp_path / "small").nbytes_ == small.nbytes_


@pytest.mark.parametrize(
    "options, share",
    [
        ({}, 1 / 4 + 1 / 16),
        ({"storage": "float16"}, 1 / 2),
        ({"members": 2}, 1 / 4 + 1 / 16),
        ({"network": "ffm"}, 1 / 4 + 1 / 2 / 48),
        ({"search": AutoFIS(orders=(2, 3))}, 1 / 4 + 1 / 16),
        ({"numeric_embedding": "periodic"}, None),
        ({"search": [MagnitudePruning(0.5), AutoDis(n_bins=4)]}, None),
    ],
)
def test_bytes_are_a_quarter_and_the_scales(options, share, clicks, tmp_path):
    X, _ = clicks
    options = {"storage": "int8", **options}
    small, plain = fitted(clicks, **options), fitted(clicks, **{**options, "storage": None})
    if share is not None:
        assert small.nbytes_["embedding"] == pytest.approx(share * plain.nbytes_["embedding"])
        assert small.nbytes_["network"] == plain.nbytes_["network"]
    np.testing.assert_allclose(outputs(small, X), outputs(plain, X), atol=5e-3)
    save(small, tmp_path / "model")
    np.testing.assert_array_equal(outputs(load(tmp_path / "model"), X), outputs(small, X))


def test_columns_have_storages_of_their_own(clicks):
    X, _ = clicks
    first, second = X.columns[:2]
    small = fitted(clicks, storage={first: "int8", second: "float16"})
    n_ids = dict(zip(small.encoder_.field_names_, small.encoder_.n_ids_, strict=False))
    saved = n_ids[first] * (32 - 10) + n_ids[second] * (32 - 16)
    assert small.nbytes_["embedding"] == fitted(clicks).nbytes_["embedding"] - saved


def test_lists_that_share_read_the_stored_table():
    X, y = mixed_clicks(300)
    column = X.columns[-1]
    model = fitted((X, y), encoder=FieldEncoder(shared_vocabularies={column: X.columns[0]}))
    small = clone(model).set_params(storage={X.columns[0]: "int8"}).fit(X, y)
    assert len(stored(small)[0].codes.kinds) == 2
    np.testing.assert_allclose(outputs(small, X), outputs(model, X), atol=5e-3)
    with pytest.raises(ValueError, match=f"{column!r} reads the table of {X.columns[0]!r}"):
        clone(model).set_params(storage={column: "int8"}).fit(X, y)


def planted(seed):
    X, y, _ = make_ctr(6000, n_fields=4, cardinality=20, pairs=[(0, 1)], random_state=seed)
    return (X[:3000], y[:3000]), (X[3000:], y[3000:])


LONGER = {"max_epochs": 5, "embedding_init": 0.1, "early_stopping": False}


@pytest.mark.parametrize("seed", range(3))
def test_what_is_predicted_hardly_changes(seed):
    rows, (X, y) = planted(seed)
    plain = fitted(rows, **LONGER)
    scores = {None: roc_auc_score(y, outputs(plain, X))}
    assert scores[None] > 0.55
    losses = {}
    for aware in (False, True):
        small = fitted(rows, storage="int8", quantization_aware=aware, **LONGER)
        found = outputs(small, X)
        losses[aware], scores[aware] = log_loss(y, found), roc_auc_score(y, found)
    assert abs(scores[False] - scores[None]) < 1e-3
    assert losses[True] < losses[False] + 5e-4  # the noise of two trainings


def test_an_aware_training_sees_coarse_vectors(monkeypatch):
    """With codes of -1, 0 and 1 alone, what was trained in float32 is of little use."""
    monkeypatch.setattr(_storage, "LARGEST_CODE", 1)
    losses = {False: [], True: []}
    for seed in range(2):
        rows, (X, y) = planted(seed)
        for aware in losses:
            model = fitted(rows, storage="int8", quantization_aware=aware, **LONGER)
            losses[aware].append(log_loss(y, outputs(model, X)))
    assert np.mean(losses[True]) < np.mean(losses[False]) - 0.002, losses


def test_an_aware_training_reads_what_will_be_stored(clicks):
    """Early stopping has seen the loss of the model that serves."""
    X, y = clicks
    model = CTRClassifier(
        **{**OPTIONS, "max_epochs": 2}, storage="int8", quantization_aware=True, early_stopping=True
    ).fit(X, y, X_val=X[:100], y_val=y[:100])
    best = min(record["valid_loss"] for record in model.history_)
    assert log_loss(y[:100], outputs(model, X[:100])) == pytest.approx(best, abs=1e-6)


# Going on
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["int8", "float16"])
@pytest.mark.parametrize("aware", [False, True])
def test_chunks_go_on_from_the_tables_as_they_were_trained(storage, aware, clicks):
    X, y = clicks
    small = CTRClassifier(**OPTIONS, storage=storage, quantization_aware=aware)
    for _ in range(2):
        small.partial_fit(X, y, classes=[0, 1])
    again = pickle.loads(pickle.dumps(small))
    for model in (small, again):
        model.partial_fit(X, y)
    assert stored(small)
    np.testing.assert_array_equal(outputs(small, X), outputs(again, X))
    if not aware:
        plain = CTRClassifier(**OPTIONS)
        for _ in range(3):
            plain.partial_fit(X, y, classes=[0, 1])
        # As if nothing had been stored in between.
        own = CTRClassifier(**OPTIONS, storage=storage)
        for _ in range(3):
            own.partial_fit(X, y, classes=[0, 1])
        for name, table in own._trained_tables.items():
            kept = dict(plain.net_.module_.named_parameters())[name]
            assert np.array_equal(table.detach().numpy(), kept.detach().numpy())


def test_a_warm_start_goes_on(clicks):
    X, y = clicks
    small, plain = (
        CTRClassifier(**OPTIONS, storage=s, warm_start=True, early_stopping=False).fit(X, y)
        for s in ("int8", None)
    )
    for model in (small, plain):
        model.set_params(max_epochs=3).fit(X, y)
    assert small.n_iter_ == 3 and stored(small)
    np.testing.assert_allclose(outputs(small, X), outputs(plain, X), atol=5e-3)


def test_without_moments_training_goes_on_from_what_is_read(clicks, tmp_path):
    X, y = clicks
    model = fitted(clicks, storage="int8")
    assert "_trained_tables" not in vars(model)
    save(model, tmp_path / "model")
    read = load(tmp_path / "model").partial_fit(X, y)
    assert stored(read) and "_trained_tables" in vars(read)
    assert not np.array_equal(outputs(read, X), outputs(model, X))
    assert not stored(model.set_params(storage=None).fit(X, y))


def test_other_sizes_are_stored_as_well(clicks):
    X, _ = clicks
    model = fitted(clicks, search=RULE(0.5, **FEW["RULE"]), storage="int8")
    other, plain = model.specialize(0.2), fitted(clicks, search=RULE(0.5, **FEW["RULE"]))
    assert stored(other) and other.nbytes_["embedding"] < model.nbytes_["embedding"]
    # Of other sizes, since a budget counts scales, but of the same weights.
    assert np.corrcoef(outputs(other, X), outputs(plain.specialize(0.2), X))[0, 1] > 0.9


def test_ratings_are_stored_alike():
    X, y, _ = make_ctr(400, n_fields=3, pairs=1, task="rating", random_state=0)
    plain, small = (RatingRegressor(**OPTIONS, storage=s).fit(X, y) for s in (None, "int8"))
    assert stored(small)
    np.testing.assert_allclose(small.predict(X), plain.predict(X), atol=0.02)


# Refusals
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"storage": "int4"}, "The 'storage' parameter"),
        ({"storage": {"nobody": "int8"}}, "storage names 'nobody', which is no column"),
        ({"storage": {0: 1}}, r"storage\[0\] must be one of"),
        ({"quantization_aware": True}, "quantization_aware=True needs a storage"),
        ({"quantization_aware": 2, "storage": "int8"}, "The 'quantization_aware' parameter"),
    ],
)
def test_bad_values_are_refused_by_name(options, message, clicks):
    with pytest.raises(ValueError, match=message):
        fitted(clicks, **options)
