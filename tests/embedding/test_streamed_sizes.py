"""AutoEmb and ESAPN on planted tables and streams: sizes that follow counts and ranks."""

import copy
import functools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from small_tables import odd_rows

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.datasets import make_ctr, make_tastes
from sklearn_autorec.embedding import ESAPN, AutoEmb
from sklearn_autorec.nn import FieldEmbedding, ProjectedSizes, SizedRows, sizes_to_text
from sklearn_autorec.preprocessing import FieldEncoder
from sklearn_autorec.serving import load, save

N_FREQUENT, N_VALUES, N_USERS, RANK, EFFECT = 30, 300, 30, 6, 2.0
OPTIONS = {"network": "fm", "embedding_dim": 8, "lr": 0.02, "batch_size": 128, "device": "cpu"}
SIZES = (1, 2, 4, 8)
STREAMS = [
    *(("planted", seed) for seed in (0, 1)),
    *(pytest.param("planted", seed, marks=pytest.mark.slow) for seed in (2, 3, 4)),
    *(("tastes", seed) for seed in range(5)),
]
METHODS = {
    "soft": AutoEmb(SIZES),
    "hard": AutoEmb(SIZES, harden=True),
    "esapn": ESAPN(SIZES),
}


@functools.cache
def drifting(seed, n_chunks=6, n_rows=6000, labels="planted"):
    """Chunks of a stream, and an encoder that knows all values.

    Thirty items meet users in six dimensions, all others in one. Fifteen of the thirty are
    frequent at first and rare in the end, fifteen the other way round; the rest is always rare. In
    "tastes" items and users agree or not on six topics or on one, as `make_tastes` has it.
    """
    rng = np.random.default_rng(seed)
    users, items = rng.normal(size=(N_USERS, RANK)), np.zeros((N_VALUES, RANK))
    items[:N_FREQUENT] = rng.normal(size=(N_FREQUENT, RANK)) / np.sqrt(RANK)
    items[N_FREQUENT:, 0] = rng.normal(size=N_VALUES - N_FREQUENT)
    if labels == "one rank":
        items[:, 0], items[:, 1:] = rng.normal(size=N_VALUES), 0
    logits = EFFECT * items @ users.T - 0.5
    if labels == "tastes":
        kinds = {"topics": (RANK, 1), "n_values": N_VALUES, "effect": EFFECT}
        six, one = (
            table[:N_USERS].T for table in make_tastes(9, **kinds, random_state=seed)[2].tables
        )
        logits = np.concatenate([six[:N_FREQUENT], one[N_FREQUENT:]]) - 0.5
    half, chunks = N_FREQUENT // 2, []
    for t in np.linspace(0, 1, n_chunks):
        p = np.full(N_VALUES, 0.4 / (N_VALUES - N_FREQUENT))
        p[:half] = 0.6 * (1 - t) / half + 1e-4
        p[half:N_FREQUENT] = 0.6 * t / half + 1e-4
        item = rng.choice(N_VALUES, n_rows, p=p / p.sum())
        user, noise = rng.integers(N_USERS, size=n_rows), rng.integers(30, size=n_rows)
        y = (rng.random(n_rows) < 1 / (1 + np.exp(-logits[item, user]))).astype(int)
        if labels == "shuffled":
            y = rng.permutation(y)
        names = {"item": item, "user": user, "noise": noise}
        X = {name: np.char.add(name[0], values.astype(str)) for name, values in names.items()}
        chunks.append((pd.DataFrame(X, dtype="str"), y))
    return chunks, FieldEncoder().fit(pd.concat([X for X, _ in chunks]))


def sizes_of(model):
    """Present sizes by column: of AutoEmb the expected ones, under the weights of all sizes."""
    module = model._live_search.module.embedding
    if hasattr(module, "level"):
        found = module.widths[module.level].double()
    else:
        found = (module.weights_of_values() @ module.widths).double()
    bounds = np.cumsum(model.encoder_.n_ids_)[:-1]
    return dict(zip(model.encoder_.field_names_, np.split(found.numpy(), bounds), strict=True))


@functools.cache
def streamed(name, seed, labels="planted", **changes):
    """After each chunk: mean sizes of early, late and rare items, of users and of noise, and the
    correlation of the logarithm of counts and sizes of items; and the model.
    """
    chunks, encoder = drifting(seed, labels=labels)
    model = CTRClassifier(
        search=clone(METHODS[name]).set_params(**changes),
        encoder=FrozenEstimator(encoder),
        random_state=seed,
        **OPTIONS,
    )
    place = {value: k + 2 for k, value in enumerate(encoder.categories_[0])}
    early, late, rare = (
        [place[f"i{k}"] for k in range(*ends)]
        for ends in ((0, N_FREQUENT // 2), (N_FREQUENT // 2, N_FREQUENT), (N_FREQUENT, N_VALUES))
    )
    records = []
    for X, y in chunks:
        model.partial_fit(X, y, classes=[0, 1])
        found = sizes_of(model)
        item, counts = found["item"], model._live_search.module.embedding.counted.counts.numpy()
        counts = np.log1p(counts[: len(item)])
        order = np.corrcoef(counts, item)[0, 1] if np.ptp(item) else 0.0
        records.append(
            {
                "early": item[early].mean(),
                "late": item[late].mean(),
                "rare": item[rare].mean(),
                "user": found["user"][2:].mean(),
                "noise": found["noise"][2:].mean(),
                "order": order,
            }
        )
    return records, model


@pytest.mark.parametrize(("labels", "seed"), STREAMS)
def test_autoemb_widens_what_is_frequent_while_it_becomes_so(labels, seed):
    records, model = streamed("soft", seed, labels)
    first, last = records[0], records[-1]
    assert min(last["early"], last["late"]) > last["rare"] + 0.6, last
    assert last["late"] > first["late"] + 0.3, (first, last)
    assert last["order"] > 0.4 and last["noise"] < 2.2 < last["user"], last
    losses = [record["prequential_loss"] for record in model.history_[1:]]
    assert losses[-1] < losses[0] - 0.03


def test_autoemb_hardens_to_the_same_order():
    records, model = streamed("hard", 0)
    assert min(records[-1]["early"], records[-1]["late"]) > records[-1]["rare"] + 0.4
    found = model.embedding_sizes_
    assert set(np.unique(found["item"])) <= set(SIZES)
    served = model.net_.module_.embedding
    assert isinstance(served, ProjectedSizes)
    assert model.nbytes_["embedding"] == 4 * sum(int(own.sum()) for own in found.values())
    assert model.nbytes_["embedding"] < 0.4 * 4 * 8 * sum(model.encoder_.n_ids_)


@pytest.mark.parametrize(
    ("labels", "seed", "most"),
    [
        *(("shuffled", seed, 0.1) for seed in range(5)),
        pytest.param("one rank", 0, 0.4, marks=pytest.mark.slow),
    ],
)
def test_autoemb_widens_no_items_where_these_need_no_more_than_others(labels, seed, most):
    last = streamed("soft", seed, labels)[0][-1]
    assert max(last["early"], last["late"]) < last["rare"] + most, last


@pytest.mark.slow
def test_without_a_price_the_batch_before_widens_what_is_rare_and_noise():
    last = streamed("soft", 1, price=0.0)[0][-1]
    assert last["noise"] > 2.2 and last["rare"] > last["late"], last


@pytest.mark.parametrize(("labels", "seed"), STREAMS)
def test_esapn_enlarges_what_is_frequent(labels, seed):
    records, model = streamed("esapn", seed, labels)
    last = records[-1]
    assert max(last["early"], last["late"]) > last["rare"] + 2, last
    rare, noise, share = {"planted": (2.5, 1.0, 0.5), "tastes": (4.5, 2.0, 0.6)}[labels]
    assert last["rare"] <= rare and last["noise"] <= min(noise, last["rare"]), last
    assert last["order"] > 0.2, last
    for before, after in zip(records, records[1:], strict=False):
        assert all(after[name] >= before[name] for name in ("early", "late", "rare", "user"))
    assert isinstance(model.net_.module_.embedding, SizedRows)
    full = 4 * 8 * sum(model.encoder_.n_ids_)
    assert model.nbytes_["embedding"] < share * full


@pytest.mark.slow
def test_most_streams_enlarge_items_that_become_frequent_late():
    late = [streamed("esapn", seed)[0][-1]["late"] for seed in range(5)]
    assert sum(size > 4 for size in late) >= 4, late


@pytest.mark.slow
def test_the_reward_of_the_paper_enlarges_noise_before_what_is_frequent():
    last = streamed("esapn", 1, baseline="history", rows="previous")[0][-1]
    assert last["early"] == last["late"] == 1.0 < last["noise"], last


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_enlarge_nothing_much(seed):
    last = streamed("esapn", seed, "shuffled")[0][-1]
    assert max(last[name] for name in ("early", "late", "rare", "noise")) <= 2, last
    if seed == 3:  # Users, whose counts are alike, have grown together; a larger gain is not met.
        assert last["user"] > 2, last
        last = streamed("esapn", seed, "shuffled", min_gain=0.004)[0][-1]
    assert last["user"] <= 2, last


# Every kind of column, and every state of a stream
# --------------------------------------------------------------------------------------------


@functools.cache
def small_table():
    X, y, _ = make_ctr(
        400,
        n_fields=3,
        cardinality=9,
        pairs=1,
        n_numeric=1,
        n_sequences=1,
        missing_rate=0.05,
        random_state=0,
    )
    X["constant"] = "same"
    return X, y


@pytest.fixture
def small():
    return small_table()


VARIANTS = {
    **METHODS,
    "soft, by losses": AutoEmb(SIZES, use_loss=True, rows="next", warmup=0.0),
    "soft, own rows": AutoEmb((2, 4), rows="held_out", warmup=0.0),
    "esapn, history": ESAPN(SIZES, baseline="history", warmup=0.0),
    "esapn, previous": ESAPN(SIZES, rows="previous", warmup=0.0, arch_lr=1.0),
}


def chunked(search, small, between=lambda model: model, **options):
    X, y = small
    model = CTRClassifier(
        search=search, random_state=0, **{**OPTIONS, "batch_size": 32, "lr": 0.05, **options}
    )
    for start in (0, 130, 260):
        rows = slice(start, start + 130)
        model = between(model.partial_fit(X[rows], y[rows], classes=[0, 1]))
    return model


@functools.cache
def chunked_straight(name):
    return chunked(VARIANTS[name], small_table())


def resumed(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pickled_stream_goes_on_to_the_bit(name, small):
    straight = chunked_straight(name)
    stopped = chunked(VARIANTS[name], small, resumed)
    state = stopped._live_search.module.state_dict()
    for key, t in straight._live_search.module.state_dict().items():
        assert torch.equal(t, state[key]), key
    X = small[0]
    p = straight.predict_proba(X)
    np.testing.assert_array_equal(p, stopped.predict_proba(X))
    assert straight.architecture_ == stopped.architecture_
    assert straight.history_ == stopped.history_
    assert "prequential_loss" in straight.history_[-1]
    assert set(straight.embedding_sizes_) == {"f0", "f1", "f2", "s0", "constant"}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_serves_reads_as_the_searched_module_does(name, small, tmp_path):
    model = copy.deepcopy(chunked_straight(name))
    X = small[0]
    table = model.encoder_.encode(X)
    live = model._live_search.module.eval()
    if VARIANTS[name].get_params().get("harden"):
        live.embedding.temperature = 1e-6  # the largest weight alone
    inputs = (table.ids, table.numeric, table.sequences)
    with torch.no_grad():
        logits = live(*(torch.from_numpy(a) for a in inputs))[:, 0]
    p = model.predict_proba(X)[:, 1]
    np.testing.assert_allclose(p, torch.sigmoid(logits), rtol=2e-4, atol=1e-6)
    kind = {"soft": FieldEmbedding, "hard": ProjectedSizes, "esapn": SizedRows}
    assert isinstance(model.net_.module_.embedding, kind[name.partition(",")[0]])
    save(model, tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_proba(X)[:, 1], p)
    assert again.nbytes_ == model.nbytes_
    found = again.embedding_sizes_
    for column, sizes in model.embedding_sizes_.items():
        np.testing.assert_array_equal(found[column], sizes)
    again.partial_fit(X[:50], small[1][:50])  # what was found goes on without the search
    assert np.isfinite(again.predict_proba(X)).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_fit_takes_every_kind_of_column_and_odd_tables(name, small):
    X, y = small
    options = {**OPTIONS, "search": VARIANTS[name], "max_epochs": 2, "random_state": 0}
    model = CTRClassifier(**{**options, "network": "deepfm"}).fit(X, y)
    again = clone(model).fit(X, y)
    new = odd_rows(X)
    p = model.predict_proba(new)
    assert p.shape == (5, 2) and np.isfinite(p).all()
    np.testing.assert_array_equal(p, again.predict_proba(new))
    np.testing.assert_array_equal(p, resumed(model).predict_proba(new))
    for table, labels in (
        (pd.DataFrame({"a": ["x"] * 40, "b": ["y"] * 40}), np.arange(40) % 2),
        (X[["x0"]][:40], y[:40]),
        (X[["s0"]][:40], y[:40]),
        (X.iloc[:33], y[:33]),  # the last batch has one row
    ):
        model = CTRClassifier(**{**options, "batch_size": 32}).fit(table, labels)
        assert np.isfinite(model.predict_proba(table.iloc[:1])).all()
        assert set(model.embedding_sizes_) == ({*table} - {"x0"} or {"x0"})


@pytest.mark.parametrize("name", METHODS)
def test_ratings_chunks_of_one_row_and_kept_weights(name, small):
    X, y = small
    ratings = RatingRegressor(search=METHODS[name], random_state=0, **OPTIONS)
    for rows in (slice(0, 1), slice(1, 100), slice(100, 101)):
        ratings.partial_fit(X[rows], y[rows] * 4.0 + 1)
    assert np.isfinite(ratings.predict(X[:9])).all()
    kept = CTRClassifier(
        search=clone(METHODS[name]).set_params(retrain="keep"),
        max_epochs=1,
        search_epochs=1,
        random_state=0,
        **OPTIONS,
    ).fit(X, y)
    assert len(kept.history_) == 1 and np.isfinite(kept.predict_proba(X)).all()


@pytest.mark.parametrize("name", METHODS)
def test_memory_does_not_grow_with_the_stream(name, small):
    model, held = copy.deepcopy(chunked_straight(name)), []
    X, y = small
    for _ in range(3):
        model.partial_fit(X[:100], y[:100])
        held.append(len(pickle.dumps((model._live_search, model._stream))))
    assert max(held) - min(held) < 400, held


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (AutoEmb((0, 4)), "sizes of AutoEmb must be at least 1"),
        (ESAPN((0, 4)), "sizes of ESAPN must be at least 1"),
        (AutoEmb((2, 9)), "between 0 and embedding_dim=8"),
        (ESAPN((2, 9)), "between 0 and embedding_dim=8"),
        (ESAPN(rows="held_out"), "'rows' parameter of ESAPN"),
        (AutoEmb(price=-1.0), "'price' parameter of AutoEmb"),
    ],
)
def test_bad_parameters_are_named(search, message, small):
    with pytest.raises(ValueError, match=message):
        CTRClassifier(search=search, max_epochs=1, **OPTIONS).fit(*small)


def test_bad_architectures_are_refused(small):
    X, y = small
    good = CTRClassifier(search=METHODS["hard"], max_epochs=1, **OPTIONS).fit(X, y).architecture_
    own = good["embedding"]
    for changed, message in (
        ({**own, "sizes": None}, "must be a dict"),
        ({**own, "sizes": sizes_to_text([1, 2])}, "got 2 between 1 and 2"),
        ({**own, "sizes": sizes_to_text(np.full(60, 9))}, "between 1 and embedding_dim=8"),
        ({**own, "hard": 1}, "hard must be True or False"),
    ):
        model = CTRClassifier.from_architecture(
            {**good, "embedding": changed}, max_epochs=1, device="cpu"
        )
        with pytest.raises(ValueError, match=message):
            model.fit(X, y)
