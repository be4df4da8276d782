import copy

import numpy as np
import pandas as pd
import pytest
import torch
from size_cases import batch, context, expected_vectors, odd_table
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import QR, Hashing
from sklearn_autorec.embedding._few_rows import (
    HashedEmbedding,
    QuotientRemainderEmbedding,
    hashed_places,
    remainders_within,
)
from sklearn_autorec.nn import BuildContext, Inputs
from sklearn_autorec.serving import load, save

P = 2**31 - 1
HASHES = [[12345678, 987], [1, 0], [P - 1, P - 1], [77, 5]]


def vectors_and_rows(module, x):
    """The same of a module, and the gradients of the sum of squares."""
    e = module(x)[:, [0, 1, 3, 4]]
    e.square().sum().backward()
    return e.detach().numpy()


def place(v, n, rows, a, b):
    """Of Python's whole numbers, which do not overflow."""
    return v if v < 2 or rows == n else 2 + ((a * (v - 2) + b) % P) % (rows - 2)


@pytest.mark.parametrize("row_wise", [False, True])
def test_values_share_the_rows_that_the_hash_says(row_wise):
    c = context(d=4, sizes=(30, 5, 21), sparse_gradients=row_wise)
    module, x = HashedEmbedding(c, [9, 5, 7], HASHES[:3]), batch(c)
    stored = np.split(module.weight.detach().numpy(), [9, 14])
    where = [
        [place(v, n, r, *h) for v in range(n)]
        for n, r, h in zip((30, 5, 21), (9, 5, 7), HASHES, strict=False)
    ]
    tables = [rows[own] for rows, own in zip(stored, where, strict=True)]
    np.testing.assert_allclose(vectors_and_rows(module, x), expected_vectors(x, tables), rtol=1e-6)
    for n, r, h, own in zip((30, 5, 21), (9, 5, 7), HASHES, where, strict=False):
        assert hashed_places(np.arange(n), n, r, h).tolist() == own
    assert where[0][:2] == [0, 1] and min(where[0][2:]) >= 2 and max(where[0]) <= 8
    assert module.weight.grad.is_sparse == row_wise
    assert module.sparse_parameters() == ([module.weight] if row_wise else [])
    assert module.sizes() == [4] * 5 and module.nbytes() == {
        "embedding": 4 * 4 * (21 + 3),
        "index": 0,
    }


@pytest.mark.parametrize("row_wise", [False, True])
@pytest.mark.parametrize("combine", ["multiply", "add"])
def test_vectors_are_made_of_quotient_and_remainder(combine, row_wise):
    c = context(d=4, sizes=(30, 5, 21), sparse_gradients=row_wise)
    x = batch(c)
    module = QuotientRemainderEmbedding(c, [7, 5, 4], combine)
    R = np.split(module.weight.detach().numpy(), [7, 12])
    Q = np.split(module.quotient_weight.detach().numpy(), [5])  # 5 of 30, none of 5, 6 of 21
    v = np.arange(30)
    put = np.multiply if combine == "multiply" else np.add
    tables = [
        put(R[0][v % 7], Q[0][v // 7]),
        R[1],
        put(R[2][v[:21] % 4], Q[1][v[:21] // 4]),
    ]
    np.testing.assert_allclose(vectors_and_rows(module, x), expected_vectors(x, tables), rtol=1e-5)
    assert len(np.unique(tables[0].round(6), axis=0)) == 30  # no two values are alike
    assert module.nbytes() == {"embedding": 4 * 4 * (16 + 11 + 3), "index": 0}
    assert len(module.sparse_parameters()) == 2 * row_wise


def test_vectors_of_two_rows_start_as_those_of_one():
    for combine in ("multiply", "add"):
        c = BuildContext(("a", "b"), (40_000, 300), embedding_dim=8, embedding_init=0.01)
        module = QuotientRemainderEmbedding(c, [200, 300], combine)
        drawn = torch.randint(0, 40_000, (4000, 1), generator=torch.Generator().manual_seed(0))
        ids = torch.cat([drawn, drawn % 300], 1).int()
        x = Inputs(ids, torch.zeros(4000, 0), torch.zeros(4000, 0).int())
        e = module(x).detach()
        assert e[:, 0].std().item() == pytest.approx(0.01, rel=0.1)
        assert e[:, 1].std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 6, 7, 30, 101, 1000])
def test_as_many_remainders_as_fit(n):
    def rows(m):
        return m + -(-n // m) if m < n else n

    # Remainders by their number of values, as the paper counts: at most so many share one.
    options = [-(-n // q) for q in range(1, n + 1)]
    for cap in range(1, n + 2):
        m = remainders_within(n, cap)
        fitting = [k for k in options if rows(k) <= cap]
        if fitting:
            assert rows(m) <= cap and m == max(fitting)
        else:
            assert rows(m) == min(rows(k) for k in options)


# In estimators
# ------------------------------------------------------------------------------------------

OPTIONS = {
    "network": "fm",
    "embedding_dim": 6,
    "lr": 0.03,
    "batch_size": 200,
    "max_epochs": 5,
    "early_stopping": False,
    "embedding_init": 0.1,
    "id_dropout": 0.0,
    "device": "cpu",
}


def planted(seed, kind):
    """Clicks by products of vectors of two columns. "a" has 48 values, the more frequent the
    smaller; they have vectors of their own, or those of equal remainders modulo 8 are "alike"."""
    rng = np.random.default_rng(seed)
    a = np.repeat(np.arange(48), 90 - np.arange(48))  # value v has the id v + 2
    a = np.concatenate([rng.permutation(a), a])
    b = rng.integers(0, 4, len(a))
    own = rng.normal(size=(48, 3)) if kind == "own" else rng.normal(size=(8, 3))[np.arange(48) % 8]
    logit = 2 * (own[a] * rng.normal(size=(4, 3))[b]).sum(1)
    y = rng.random(len(a)) < 1 / (1 + np.exp(-logit))
    X = pd.DataFrame({"a": a, "b": b}).astype(str)
    half = len(a) // 2
    return (X[:half], y[:half]), (X[half:], y[half:])


def loss(kind, seed, search):
    train, test = planted(seed, kind)
    model = CTRClassifier(search=search, random_state=seed, **OPTIONS).fit(*train)
    return log_loss(test[1], model.predict_proba(test[0])[:, 1]), model


@pytest.mark.parametrize("seed", range(5))
def test_two_rows_tell_values_apart_that_share_each(seed):
    full, model = loss("own", seed, None)
    n_bytes = model.nbytes_["embedding"]
    own, model = loss("own", seed, QR(0.4))
    assert model.architecture_["embedding"]["remainders"] == [10, 6]
    assert model.nbytes_["embedding"] <= 0.4 * n_bytes
    assert own < full + 0.08
    # The controls: sums, which a product of two columns reads as two main effects, and one row of
    # several values.
    for other in (QR(0.4, "add"), Hashing(0.4), Hashing(0.4, "modulo")):
        assert loss("own", seed, other)[0] > own + 0.07


@pytest.mark.parametrize("seed", range(5))
def test_values_that_are_alike_may_share_a_row(seed):
    full, _ = loss("alike", seed, None)
    own, model = loss("alike", seed, Hashing(0.29, "modulo"))
    assert model.architecture_["embedding"]["rows"] == [10, 6]
    assert model.architecture_["embedding"]["collisions"] == [48, 0]
    assert model.compression_ratio_ == 56 / 16
    assert own < full + 0.01
    # The control: a hash that puts values together that are not alike.
    assert loss("alike", seed, Hashing(0.29))[0] > own + 0.08


@pytest.fixture(scope="module")
def mixed():
    return odd_table(300, 40)


@pytest.mark.parametrize("search", [Hashing(0.6), Hashing(0.6, "modulo"), QR(0.6), QR(0.6, "add")])
@pytest.mark.parametrize("cls", [CTRClassifier, RatingRegressor])
def test_tables_of_all_kinds_fit_predict_and_come_back(cls, search, mixed, tmp_path):
    X, y = mixed
    model = cls(network="deepfm", search=search, embedding_dim=6, max_epochs=1, random_state=0)
    model.fit(X, y)
    new = X[:9].assign(a=["unseen", None, *"1234567"])
    predictions = model.predict(new)
    assert np.isfinite(predictions.astype(float)).all() and len(model.predict(new[:1])) == 1
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(new), predictions)
    n_ids = [*model.encoder_.n_ids_, *model.encoder_.sequence_n_ids_]
    left = model.nbytes_["embedding"] - 4 * 6 * 26  # the vectors of the number
    assert 0.4 * 24 * sum(n_ids) < left <= 0.6 * 24 * sum(n_ids)


def test_a_whole_budget_keeps_the_tables_and_bytes_are_counted(mixed):
    X, y = mixed
    for cls in (Hashing, QR):
        model = CTRClassifier(network="fm", search=cls(1.0), max_epochs=1, random_state=0)
        assert model.fit(X, y).compression_ratio_ == 1.0
        model.set_params(search__budget=16 * 4 * 40).fit(X, y)
        stored = model.nbytes_["embedding"] - 16 * 4 * 26
        assert 16 * 4 * 32 <= stored <= 16 * 4 * 40


def test_numbers_alone_and_several_members_are_fitted(mixed):
    X, y = mixed
    for cls in (Hashing, QR):
        options = {"network": "fm", "search": cls(0.6), "max_epochs": 1, "random_state": 0}
        alone = CTRClassifier(**options).fit(X[["number"]], y)
        assert alone.predict(X[["number"]]).shape == (300,)
        p = CTRClassifier(members=2, **options).fit(X, y).predict_proba(X)
        assert np.isfinite(p).all()


def test_hashes_depend_on_the_seed_alone(mixed):
    def found(seed):
        model = CTRClassifier(search=Hashing(), max_epochs=1, random_state=seed).fit(*mixed)
        return model.architecture_["embedding"]

    first = found(0)
    assert found(0) == first != found(1)
    assert len({tuple(h) for h in first["hashes"]}) == 3


@pytest.mark.parametrize("cls", [Hashing, QR])
@pytest.mark.parametrize("budget, told", [(24, "24 bytes"), (0.01, "bytes, but the smallest")])
def test_a_budget_below_the_smallest_tables_is_refused(cls, budget, told, mixed):
    with pytest.raises(ValueError, match=rf"budget={budget} is .*{told}"):
        CTRClassifier(network="fm", search=cls(budget), max_epochs=1).fit(*mixed)


@pytest.mark.parametrize(
    "search, name",
    [
        (Hashing(1.5), "budget"),
        (QR(-0.1), "budget"),
        (Hashing(hashing="md5"), "hashing"),
        (QR(combine="concat"), "combine"),
    ],
)
def test_bad_parameters_are_named(search, name, mixed):
    with pytest.raises(ValueError, match=f"'{name}' parameter of {type(search).__name__}"):
        CTRClassifier(network="fm", search=search, max_epochs=1).fit(*mixed)


@pytest.mark.parametrize(
    "key, bad",
    [
        ("rows", [8, 3, 2]),
        ("rows", [100, 3, 9]),
        ("rows", [9, 3]),
        ("rows", [True, 3, 9]),
        ("rows", None),
        ("hashes", [[1, 0], [1, 0], [0, 3]]),
        ("hashes", [[1, 0], [1, 0], [1, P]]),
        ("hashes", [[1, 0], [1, 0], [1.5, 0]]),
        ("hashes", [[1, 0], [1, 0], 1]),
        ("remainders", [0, 3, 3]),
        ("remainders", [9, 4, 9]),
        ("remainders", [9, 3, "9"]),
    ],
)
def test_bad_architectures_are_refused(key, bad, mixed):
    search = QR() if key == "remainders" else Hashing()
    model = CTRClassifier(network="fm", search=search, max_epochs=1, random_state=0).fit(*mixed)
    architecture = copy.deepcopy(model.architecture_)
    architecture["embedding"][key] = bad
    with pytest.raises(ValueError, match=f"{key} must hold"):
        CTRClassifier.from_architecture(architecture, max_epochs=1).fit(*mixed)
