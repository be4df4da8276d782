"""AutoEmb: controllers against numpy, sizes that follow counts, streams, bad architectures."""

import dataclasses
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_autorec import CTRClassifier
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import AutoEmb
from sklearn_autorec.embedding._autoemb import SearchableSizeMixture
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.nn import BuildContext, Inputs
from sklearn_autorec.serving import load, save

OPTIONS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.01,
    "batch_size": 64,
    "device": "cpu",
    "wide": None,
    "target_statistics": False,
}
PLANTED = {"candidates": (1, 8), "arch_lr": 0.02}


def context_of(seed=0, **changes):
    return BuildContext(
        **{
            "field_names": ("a", "b", "x", "s"),
            "n_ids": (4, 3),
            "n_numeric": 1,
            "sequences": ((5, 3),),
            "embedding_dim": 4,
            "counts": (np.array([0, 1, 6, 3000]), np.array([2, 0, 40])),
            "generator": torch.Generator().manual_seed(seed),
            "embedding_init": 0.5,
            **changes,
        }
    )


def mixture_of(context, **options):
    """A searchable module whose parameters are all random."""
    module = AutoEmb((1, 3), **options).build(context)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return module


def weights_by_hand(module, field, count):
    """softmax(V tanh(u_0 + sum of the steps) + b)."""
    x = min(np.log2(1 + count), 32)
    u = module.popularity[field].detach().numpy().astype(float)
    hidden = u[0] + sum(np.clip(x - k, 0, 1) * u[k + 1] for k in range(32))
    logits = np.tanh(hidden) @ module.output[field].detach().numpy()
    logits = logits + module.output_bias[field].detach().numpy()
    return np.exp(logits) / np.exp(logits).sum()


def inputs_of(ids, items):
    n = len(ids)
    numeric = torch.linspace(-1, 1, 2 * n).reshape(n, 2)
    return Inputs(
        torch.tensor(ids, dtype=torch.int32), numeric, torch.tensor(items, dtype=torch.int32)
    )


def test_vectors_agree_with_numpy():
    module = mixture_of(context_of())
    ids, items = [[0, 2], [3, 1], [2, 2]], [[2, 4, 0], [0, 0, 0], [1, 0, 0]]
    e = module(inputs_of(ids, items)).detach().numpy()
    assert e.shape == (3, 4, 4)
    table = module.weight.detach().numpy()
    projection = module.projection.detach().numpy()

    def vector(row, weights):
        small, large = table[row, :1] @ projection[:1], table[row, 1:] @ projection[1:]
        return weights[0] * small + weights[1] * large

    counts = [[0, 1, 6, 3000], [2, 0, 40]]
    for i, row in enumerate(ids):
        for f, start in enumerate((0, 4)):
            expected = vector(start + row[f], weights_by_hand(module, f, counts[f][row[f]]))
            np.testing.assert_allclose(e[i, f], expected, rtol=1e-4, atol=1e-5)
    uncounted = weights_by_hand(module, 3, 0)
    expected = (vector(7 + 2, uncounted) + vector(7 + 4, uncounted)) / 2
    np.testing.assert_allclose(e[0, 3], expected, rtol=1e-4, atol=1e-5)
    assert not e[1, 3].any()
    of_values = module.weights_of_values().numpy()
    assert of_values.shape == (12, 2)
    np.testing.assert_allclose(of_values[3], weights_by_hand(module, 0, 3000), rtol=1e-4)
    np.testing.assert_allclose(of_values[6], weights_by_hand(module, 1, 40), rtol=1e-4)
    np.testing.assert_allclose(module.expected_sizes().numpy(), of_values @ [1.0, 3.0], rtol=1e-5)


def test_it_begins_even_and_larger_counts_answer_as_the_largest_that_trained():
    module = AutoEmb((1, 3)).build(context_of())
    torch.testing.assert_close(module.weights_of_values(), torch.full((12, 2), 0.5))
    with torch.no_grad():
        module.output.normal_()
        module.popularity[:, 4] += 1.0  # the doubling from 8 to 16
        module.counts[:4] = torch.tensor([7, 15, 1000, 2**40])
    few, trained, more, most = module.weights_of_values()[:4]
    assert not torch.allclose(few, trained)
    torch.testing.assert_close(more, trained)
    torch.testing.assert_close(most, trained)


def test_rows_that_come_are_counted():
    module = AutoEmb((1, 3)).build(context_of(counts=()))
    batch = inputs_of([[0, 2], [3, 2], [3, 1]], [[1, 2, 0]] * 3)
    module.begin_chunk(EncodedTensors(*batch[:3]))
    module.begin_chunk(EncodedTensors(*batch[:3]))
    assert module.counts.tolist() == [2, 0, 0, 4, 0, 2, 4, 0, 0, 0, 0, 0]


def test_the_penalty_is_the_mean_share_of_the_dimension():
    module = mixture_of(context_of(sequences=(), field_names=("a", "b", "x")), size_penalty=0.3)
    inputs = inputs_of([[0, 2], [3, 1]], [[], []])
    module.eval()(inputs)
    assert module.penalty() == 0
    module.train()(inputs)
    pairs = [(0, 0), (1, 40), (0, 3000), (1, 0)]
    shares = [weights_by_hand(module, f, c) @ [1 / 4, 3 / 4] for f, c in pairs]
    assert module.penalty().item() == pytest.approx(0.3 * np.mean(shares), rel=1e-4)
    assert module.penalty() == 0  # nothing has been looked up since


def planted(seed, n_rows=6000, n_values=300):
    """The 30 most popular of Zipf-distributed values act, with rank 4; the others do nothing."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, n_values + 1)
    a, b = rng.choice(n_values, n_rows, p=p / p.sum()), rng.integers(0, 12, n_rows)
    effects = rng.normal(size=(n_values, 4)) @ rng.normal(size=(12, 4)).T * 0.75
    effects[30:] = 0.0
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-effects[a, b]))).astype(int)
    return pd.DataFrame({"a": [f"a{i}" for i in a], "b": [f"b{i}" for i in b]}), y


class OfDealtCounts(AutoEmb):
    """Its controllers see the counts of other values."""

    def build(self, context):
        rng = np.random.default_rng(0)
        counts = tuple(rng.permutation(own) for own in context.counts)
        return super().build(dataclasses.replace(context, counts=counts))


def size_follows_count(search, seed):
    """Correlation of the mean sizes of the values of "a" with their log counts."""
    model = CTRClassifier(search=search, search_epochs=8, random_state=seed, **OPTIONS)
    model.fit(*planted(seed))
    n = model.encoder_.n_ids_[0]
    sizes = model.net_.module_.embedding.expected_sizes()[2:n].numpy()
    return np.corrcoef(np.log(model.encoder_.counts_[0][2:]), sizes)[0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_popular_values_get_larger_sizes_and_not_with_counts_of_others(seed):
    print(
        size_follows_count(AutoEmb(arch_lr=0.02), seed),
        size_follows_count(OfDealtCounts(arch_lr=0.02), seed),
    )
    assert size_follows_count(AutoEmb(arch_lr=0.02), seed) > 0.4
    assert abs(size_follows_count(OfDealtCounts(arch_lr=0.02), seed)) < 0.3


@pytest.fixture(scope="module")
def clicks():
    X, y, _ = make_ctr(
        600, n_fields=3, cardinality=8, pairs=1, n_numeric=1, n_sequences=1, random_state=0
    )
    return X, y


def test_in_a_stream_sizes_grow_with_the_counts_and_it_goes_on_to_the_bit(clicks, tmp_path):
    X, y = planted(0, n_rows=2000)

    def streamed(resume):
        model = CTRClassifier(search=AutoEmb(rows="next"), random_state=0, **OPTIONS)
        for start in range(0, 2000, 500):
            rows = slice(start, start + 500)
            model.partial_fit(X[rows], y[rows], classes=[0, 1])
            model = pickle.loads(pickle.dumps(model)) if resume else model
        return model

    model, other = streamed(False), streamed(True)
    p = model.predict_proba(X)
    np.testing.assert_array_equal(other.predict_proba(X), p)
    module = model.net_.module_.embedding
    assert torch.equal(module.counts, model._live_search.module.embedding.counts)
    assert module.counts.sum() == 2 * 2000
    assert not hasattr(module, "arch_parameters")
    losses = [record["prequential_loss"] for record in model.history_[1:]]
    assert len(losses) == 3 and losses == [r["prequential_loss"] for r in other.history_[1:]]
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), p)


def test_controllers_move_without_the_weights_and_the_weights_without_them(clicks):
    from sklearn_autorec.engine import FieldNet

    seen = []
    real = FieldNet._arch_step

    def spied(net, schedule, optimizer, module, batch):
        arch = {id(p) for p in module.arch_parameters()}
        weights = [p for p in net.module_.parameters() if id(p) not in arch]
        before = [p.detach().clone() for p in weights]
        output = module.output.detach().clone()
        real(net, schedule, optimizer, module, batch)
        seen.append(not torch.equal(output, module.output))
        assert all(torch.equal(p, q) for p, q in zip(weights, before, strict=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FieldNet, "_arch_step", spied)
        search = AutoEmb(arch_every=2)
        CTRClassifier(search=search, search_epochs=1, random_state=0, **OPTIONS).fit(*clicks)
    assert len(seen) == 4 and all(seen)  # of 8 steps


def test_hard_sizes_are_those_of_the_largest_weights():
    context = context_of()
    module = mixture_of(context, harden=True)
    search = AutoEmb((1, 3), harden=True)
    architecture = search.derive(module, context)
    search.check(architecture, context)
    largest = module.weights_of_values().argmax(1).numpy()
    assert 0 < largest.sum() < len(largest)
    concrete = search.realise(architecture, context)
    assert (concrete.mask.sum(1).numpy() == np.array([1, 3])[largest]).all()
    assert concrete.mask[:, 0].all() and not concrete.mask[:, 3].any()


def test_hard_sizes_save_memory_and_soft_ones_serve_as_searched(clicks):
    options = {"search_epochs": 2, "max_epochs": 1, "random_state": 0, **OPTIONS}
    hard = CTRClassifier(search=AutoEmb((1, 2), harden=True), **options).fit(*clicks)
    assert set(np.concatenate([hard.embedding_sizes_[f] for f in ("f0", "f1", "f2")])) <= {1, 2}
    assert hard.compression_ratio_ > 2 and hard.n_iter_ == 1
    soft = CTRClassifier(search=AutoEmb((1, 2)), **options).fit(*clicks)
    assert soft.n_iter_ == 0 and soft.history_ == []
    assert not isinstance(soft.net_.module_.embedding, SearchableSizeMixture)
    with pytest.raises(AttributeError, match="does not choose embedding sizes"):
        _ = soft.embedding_sizes_
    assert np.isfinite(soft.predict_proba(clicks[0][:1])).all()
    with pytest.raises(ValueError, match="partial_fit cannot start"):
        CTRClassifier(search=AutoEmb(harden=True)).partial_fit(*clicks, classes=[0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": [1, 2]}, "sizes must be the candidates"),
        ({"sizes": (1, 3)}, "sizes must be the candidates"),
        ({"sizes": [True, 3]}, "sizes must be the candidates"),
        ({"sizes": None}, "sizes must be the candidates"),
        ({"n_values": [4, 3]}, "n_values must be the numbers of values"),
    ],
)
def test_bad_architectures_are_refused(change, message):
    search, context = AutoEmb((1, 3)), context_of()
    architecture = search.derive(search.build(context), context)
    search.check(architecture, context)
    with pytest.raises(ValueError, match=message):
        search.check({**architecture, **change}, context)


def test_sizes_that_cannot_be_are_refused():
    for candidates in ((0, 2), (1, 5), ()):
        with pytest.raises(ValueError, match="candidates must be whole numbers"):
            AutoEmb(candidates).build(context_of())
