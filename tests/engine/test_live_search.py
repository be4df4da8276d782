"""Searches that go on with a stream of chunks."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_autorec import CTRClassifier
from sklearn_autorec.base import SearchMethod
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import PEP
from sklearn_autorec.engine import ArchSchedule, _live_search
from sklearn_autorec.exceptions import NonFiniteLossError
from sklearn_autorec.networks import DeepFM
from sklearn_autorec.nn import FieldEmbedding

OPTIONS = {
    "embedding_dim": 3,
    "lr": 0.02,
    "batch_size": 32,
    "random_state": 0,
    "device": "cpu",
    "network": "fm",
}
CLASSES = [0, 1]


class Volume(nn.Module):
    """A table times a searched factor a column, which counts the ids that it has seen."""

    def __init__(self, context, schedule):
        super().__init__()
        self.table = FieldEmbedding(context)
        self.volume = nn.Parameter(torch.ones(context.embedding_dim))
        counts = [torch.as_tensor(np.asarray(own, np.int64)) for own in context.counts]
        self.register_buffer("counts", torch.cat(counts))
        self.arch_schedule = schedule
        self.progress = []

    def arch_parameters(self):
        return [self.volume]

    def arch_optimizer(self, n_steps):
        return torch.optim.Adam([self.volume], lr=0.05)

    def set_progress(self, t):
        self.progress.append(t)

    def begin_chunk(self, data):
        rows = (data.ids + self.table.offsets).flatten()
        self.counts += torch.bincount(rows, minlength=len(self.counts))

    def summary(self):
        return {"volume": float(self.volume.detach().mean())}

    def forward(self, inputs):
        return self.table(inputs) * self.volume


class Folded(nn.Module):
    def __init__(self, context):
        super().__init__()
        self.table = FieldEmbedding(context)

    def forward(self, inputs):
        return self.table(inputs)


class LoudColumns(SearchMethod):
    slot = "embedding"
    streams = True

    def __init__(self, rows="previous", every=1, warmup=0.0, forgets=False):
        self.rows = rows
        self.every = every
        self.warmup = warmup
        self.forgets = forgets

    def build(self, context):
        schedule = ArchSchedule(rows=self.rows, every=self.every, warmup=self.warmup)
        return Volume(context, schedule)

    def derive(self, module, context):
        return {"volume": module.volume.tolist(), "seen": module.counts.tolist()}

    def realise(self, architecture, context):
        return Folded(context)

    def transfer(self, state, architecture, context):
        state = dict(state)
        volume = state.pop("embedding.volume")
        for name in [name for name in state if name.startswith("embedding.table.")]:
            state[name] = state[name] * volume
            if self.forgets:
                del state[name]
        return state


@pytest.fixture(scope="module")
def chunks():
    X, y, _ = make_ctr(600, n_fields=3, cardinality=6, pairs=1, random_state=0)
    return [(X.iloc[i : i + 200], y[i : i + 200]) for i in (0, 200, 400)]


def streamed(chunks, search, between=lambda model: model, **options):
    model = CTRClassifier(search=search, **{**OPTIONS, **options})
    for X, y in chunks:
        model = between(model.partial_fit(X, y, classes=CLASSES))
    return model


def state_of(model):
    live = model._live_search
    return {**live.module.state_dict(), "step": torch.tensor(live.step)}


def resumed(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize(
    ("rows", "between"),
    [
        ("previous", resumed),
        ("next", resumed),
        ("held_out", resumed),
        ("same", resumed),
        ("previous", copy.deepcopy),
    ],
)
def test_a_pickled_stream_goes_on_to_the_bit(chunks, rows, between):
    search = LoudColumns(rows, every=3)
    straight = streamed(chunks, search, network=DeepFM((8,)))
    stopped = streamed(chunks, search, between, network=DeepFM((8,)))
    for name, t in state_of(straight).items():
        assert torch.equal(t, state_of(stopped)[name]), name
    X = chunks[0][0]
    np.testing.assert_array_equal(straight.predict_proba(X), stopped.predict_proba(X))
    assert straight.history_ == stopped.history_
    assert straight.search_history_ == stopped.search_history_


def test_moments_and_the_last_batch_are_what_makes_it_go_on(chunks):
    def without_moments(model):
        live = model._live_search
        fresh = [{**state, "state": {}} for state in live.arch_moments]
        return changed(model, arch_moments=fresh)

    def with_another_batch(model):
        return changed(model, previous=model._live_search.previous.select(slice(0, 1)))

    def changed(model, **changes):
        model = copy.deepcopy(model)
        model._live_search = _live_search.dataclasses.replace(model._live_search, **changes)
        return model

    whole = streamed(chunks, LoudColumns())._live_search.module.embedding.volume
    for lose in (without_moments, with_another_batch):
        other = streamed(chunks, LoudColumns(), lose)._live_search.module.embedding.volume
        assert not torch.equal(whole, other)


def test_row_wise_moments_go_on_and_a_failure_changes_nothing(chunks, monkeypatch):
    X, y, _ = make_ctr(200, n_fields=2, cardinality=400, pairs=1, zipf=0.0, random_state=0)
    own, options = [(X, y), (X[::-1], y[::-1])], {"batch_size": 8}
    straight = streamed(own, LoudColumns(), **options)
    assert straight._live_search.module.embedding.table.sparse
    stopped = streamed(own, LoudColumns(), resumed, **options)

    failing = streamed(own[:1], LoudColumns(), **options)
    before = pickle.dumps(failing._stream.training_state())

    def diverges(*args, **kwargs):
        real(*args, **kwargs)
        raise NonFiniteLossError("planted")

    real = _live_search.train
    monkeypatch.setattr(_live_search, "train", diverges)
    with pytest.raises(NonFiniteLossError, match="planted"):
        failing.partial_fit(*own[1])
    monkeypatch.setattr(_live_search, "train", real)
    assert pickle.dumps(failing._stream.training_state()) == before
    failing.partial_fit(*own[1])
    for name, t in state_of(straight).items():
        assert torch.equal(t, state_of(stopped)[name]), name
        assert torch.equal(t, state_of(failing)[name]), name


def test_the_searchable_module_stays_and_what_it_found_serves(chunks):
    model = streamed(chunks, LoudColumns())
    live = model._live_search
    assert isinstance(live.module.embedding, Volume) and live.parts[0] is live.module.embedding
    assert isinstance(model.net_.module_.embedding, Folded)
    volume = live.module.embedding.volume.detach()
    assert (volume - 1).abs().max() > 0.05
    assert model.architecture_["embedding"]["volume"] == volume.tolist()
    torch.testing.assert_close(
        model.net_.module_.embedding.table.weight, live.module.embedding.table.weight * volume
    )
    served = model.predict_proba(chunks[0][0])[:, 1]
    table = model.encoder_.encode(chunks[0][0])
    live.module.eval()
    logits = live.module(
        ids=torch.from_numpy(table.ids),
        numeric=torch.from_numpy(table.numeric),
        sequences=torch.from_numpy(table.sequences),
    )
    np.testing.assert_allclose(served, torch.sigmoid(logits[:, 0]).detach(), rtol=1e-5)


def test_architecture_steps_go_on_in_every_chunk(chunks):
    volumes = [
        streamed(chunks[:n], LoudColumns("held_out"))._live_search.module.embedding.volume
        for n in (1, 2, 3)
    ]
    assert not torch.equal(volumes[0], volumes[1]) and not torch.equal(volumes[1], volumes[2])
    steps = streamed(chunks, LoudColumns(every=4))._live_search.arch_moments[0]["state"][0]["step"]
    # 7 batches a chunk; without the very first batch of all 20 are left, of which every fourth.
    assert steps == 20 // 4
    steps = streamed(chunks, LoudColumns("next"))._live_search.arch_moments[0]["state"][0]["step"]
    assert steps == 21


def test_schedules_run_once_over_the_first_chunk(chunks):
    module = streamed(chunks, LoudColumns(warmup=0.5))._live_search.module.embedding
    assert module.progress[0] == 0 and module.progress[6:] == [1.0] * 15
    assert module.progress[:7] == sorted({*module.progress[:7]})


def test_each_chunk_is_scored_before_it_is_trained_on(chunks):
    model = CTRClassifier(search=LoudColumns(), monitor="auc", **OPTIONS)
    model.partial_fit(*chunks[0], classes=CLASSES)
    assert "prequential_loss" not in model.history_[0]  # nothing had been learned
    X, y = chunks[1]
    p = model.predict_proba(X)[:, 1]
    model.partial_fit(X, y).partial_fit(*chunks[2])
    record = model.history_[1]
    loss = -np.mean(np.where(y == 1, np.log(p), np.log(1 - p)))
    assert record["prequential_loss"] == pytest.approx(loss, rel=1e-5)
    better = p[y == 1][:, None] - p[y == 0][None]
    assert record["prequential_score"] == pytest.approx(((better > 0) + (better == 0) / 2).mean())
    assert (
        [r["epoch"] for r in model.history_]
        == [1, 2, 3]
        == [r["epoch"] for r in model.search_history_]
    )
    assert model.n_iter_ == 3
    assert model.search_history_[2]["volume"] == pytest.approx(
        np.mean(model.architecture_["embedding"]["volume"])
    )


def test_counts_are_those_of_all_rows_that_have_come(chunks):
    model = streamed(chunks[:1], LoudColumns("held_out"), id_dropout=0.5)
    assert (
        model.architecture_["embedding"]["seen"]
        == np.concatenate(model.encoder_.counts_).astype(int).tolist()
    )
    model.partial_fit(*chunks[1])
    ids = model.encoder_.encode(chunks[0][0]).ids, model.encoder_.encode(chunks[1][0]).ids
    n_ids = model.encoder_.n_ids_
    seen = [np.bincount(own, minlength=n) for own, n in zip(np.vstack(ids).T, n_ids, strict=True)]
    assert model.architecture_["embedding"]["seen"] == np.concatenate(seen).tolist()


def test_memory_does_not_grow_with_the_stream(chunks):
    model = CTRClassifier(search=LoudColumns("previous"), **OPTIONS)
    sizes = []
    for _ in range(4):
        for X, y in chunks:
            model.partial_fit(X, y, classes=CLASSES)
        model._live_search.module.embedding.progress.clear()  # the test's own notes
        sizes.append(len(pickle.dumps((model._live_search, model.net_, model._stream))))
        live = model._stream
        assert live.arch_batches is None and live.previous_batch is None
        assert all(p.grad is None for p in model._live_search.module.parameters())
    assert max(sizes[1:]) - min(sizes[1:]) < 200
    assert len(model._live_search.previous) <= OPTIONS["batch_size"]


def test_what_cannot_stream_is_refused(chunks):
    X, y = chunks[0]

    class Narrowing(LoudColumns):
        narrows = True

    class OfTwo(LoudColumns):
        slot = "head"

    for search, options, message in (
        (PEP(), {}, "a search needs all its rows"),
        ([LoudColumns(), PEP()], {}, "two methods for one slot|a search needs all its rows"),
        (LoudColumns(), {"members": 2}, "members=2"),
        (Narrowing(), {}, "neither dropped fields"),
        ([LoudColumns(), OfTwo()], {"network": "deepfm"}, "set joint=True"),
        (LoudColumns(forgets=True), {}, "retrain='none' needs all weights"),
        (LoudColumns(every=0), {}, "every=0"),
    ):
        model = CTRClassifier(search=search, **{**OPTIONS, **options})
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X, y, classes=CLASSES)
        assert not hasattr(model, "net_")


def test_parameters_set_later_have_no_say(chunks):
    plain = streamed(chunks, LoudColumns())

    def meddled(model):
        return model.set_params(search=PEP(), embedding_dim=7)

    other = streamed(chunks, LoudColumns(), meddled)
    for name, t in state_of(plain).items():
        assert torch.equal(t, state_of(other)[name]), name
    assert other.architecture_ == plain.architecture_


def test_after_fit_the_network_that_was_found_goes_on_and_fit_ends_a_live_search(chunks):
    X, y = chunks[0]
    model = CTRClassifier(
        search=LoudColumns("same"), max_epochs=1, wide=None, target_statistics=False, **OPTIONS
    ).fit(X, y)
    model.partial_fit(*chunks[1])
    assert not hasattr(model, "_live_search")
    assert isinstance(model.net_.module_.embedding, Folded)

    model = streamed(chunks[:2], LoudColumns())
    model.set_params(warm_start=True, max_epochs=3).fit(X, y)
    assert not hasattr(model, "_live_search") and model.n_iter_ == 3


def test_chunks_of_one_row_are_taken(chunks):
    X, y = chunks[0]
    for rows in ("previous", "next", "same", "held_out"):
        model = streamed([chunks[0]], LoudColumns(rows))
        before = model._live_search
        model.partial_fit(X[:1], y[:1])
        after = model._live_search
        assert after.step == before.step + 1
        moved = not torch.equal(before.module.embedding.volume, after.module.embedding.volume)
        assert moved == (rows != "held_out")  # one row has no parts
        assert len(after.arch_moments) == 1
        first = CTRClassifier(search=LoudColumns(rows), **OPTIONS)
        first.partial_fit(X[:1], y[:1], classes=CLASSES).partial_fit(X[1:20], y[1:20])
        assert np.isfinite(first.predict_proba(X[:20])).all()
