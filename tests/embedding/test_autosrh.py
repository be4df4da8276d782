import copy

import numpy as np
import pandas as pd
import pytest
import torch
from any_network import fitted_by_both
from searching import fit_fm
from small_networks import small_context

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import AutoSrh, _autosrh
from sklearn_autorec.embedding._autosrh import (
    BlockScaledEmbedding,
    RowNormalisedDescent,
    frequency_blocks,
    value_counts,
)
from sklearn_autorec.engine import ArchSchedule, EncodedTensors, SearchProblem, _search_phase
from sklearn_autorec.nn import FieldEmbedding, Inputs, mask_from_text


def context(**changes):
    options = {"n_ids": (4, 6), "sequences": ((5, 3),), "embedding_dim": 3}
    return small_context(seed=1, **{**options, **changes})


def batch(n=50):
    generator = torch.Generator().manual_seed(0)
    ids = torch.stack([torch.randint(0, k, (n,), generator=generator) for k in (4, 6)], 1)
    items = torch.randint(0, 5, (n, 3), generator=generator)
    numbers = torch.randn(n, 2, generator=generator)
    return EncodedTensors(ids.int(), numbers, items.int(), torch.zeros(n))


def test_values_are_counted_in_ids_and_lists():
    data = batch()
    counts = value_counts(data, context())
    expected = [(data.ids[:, 0] == k).sum() for k in range(4)]
    expected += [(data.ids[:, 1] == k).sum() for k in range(6)]
    expected += [(data.sequences == k).sum() for k in range(5)]
    assert counts.tolist() == [int(n) for n in expected]


def test_blocks_go_by_frequency_over_all_fields_or_within_each():
    counts = np.array([5, 1, 9, 0, 7, 7, 2, 8])
    # By rank: 9 8 7 7 | 5 2 1 0
    assert frequency_blocks(counts, 2).tolist() == [1, 1, 0, 1, 0, 0, 1, 0]
    assert frequency_blocks(counts, 4).tolist() == [2, 3, 0, 3, 1, 1, 2, 0]
    assert frequency_blocks(counts, 2, [4, 4]).tolist() == [0, 1, 0, 1, 0, 1, 1, 0]
    assert frequency_blocks(counts, 3).tolist() == [1, 2, 0, 2, 0, 1, 1, 0]
    assert frequency_blocks(counts, 50).max() < 50


def test_vectors_are_weighed_by_their_block():
    c, data = context(), batch()
    blocks = np.arange(15) % 4
    table = BlockScaledEmbedding(c, blocks, 4, 0.1, 0.5)
    plain = FieldEmbedding(context())
    torch.testing.assert_close(table.weight, plain.weight)
    inputs = Inputs(data.ids, data.numeric, data.sequences)
    torch.testing.assert_close(table(inputs), plain(inputs))  # A starts at 1
    with torch.no_grad():
        table.block_weights.uniform_(generator=torch.Generator().manual_seed(3))
        plain.weight.copy_(table.weight * table.block_weights[table.blocks])
    torch.testing.assert_close(table(inputs), plain(inputs))
    assert not torch.allclose(table(inputs)[:, 3], table(inputs)[:, 0])
    assert table.penalty().item() == pytest.approx(0.5 * table.block_weights.sum().item())


def test_steps_are_as_long_whatever_the_size_of_the_gradient():
    a = torch.nn.Parameter(torch.tensor([[0.5, 0.5], [0.5, 0.98], [0.5, 0.5], [0.05, 0.5]]))
    optimizer = RowNormalisedDescent([a], lr=0.1)
    a.grad = torch.tensor([[3.0, -1.0], [1e-6, -1e-6], [0.0, 0.0], [8.0, 8.0]])
    optimizer.step()
    # By hand: g / mean |g|, then to [0, 1].
    expected = torch.tensor([[0.35, 0.55], [0.4, 1.0], [0.5, 0.5], [0.0, 0.4]])
    torch.testing.assert_close(a.detach(), expected)
    a.grad = None
    optimizer.step()
    torch.testing.assert_close(a.detach(), expected)


def planted(seed, n=4000, n_values=120, n_others=12, effect=3.0):
    """Clicks by pairs of a value of many and one of few; the rarer three quarters of the many have
    no effect at all.
    """
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, n_values + 1) ** 0.7
    effects = rng.normal(size=(n_values, 3)) @ rng.normal(size=(3, n_others)) * effect / 3**0.5
    effects[n_values // 4 :] = 0
    many = rng.choice(n_values, n, p=share / share.sum())
    few = rng.integers(n_others, size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-effects[many, few]))).astype(int)
    names = rng.permutation(n_values)  # say nothing about frequency
    X = pd.DataFrame({"many": [f"v{names[i]}" for i in many], "few": [f"w{i}" for i in few]})
    return X, y


def fit(rows, search, seed=0, **options):
    options = {
        "lr": 0.01,
        "embedding_init": 0.05,
        "max_epochs": 1,
        "search_epochs": 12,
        "batch_size": 100,
    } | options
    return fit_fm(rows, search, seed, **options)


def head_over_tail(model):
    """Mean weight of the most frequent quarter of values over that of the others, and mean numbers
    of a value that are kept of the former and of the latter, in the column of many.
    """
    weights = np.array(model.architecture_["embedding"]["block_weights"])
    sizes = model.embedding_sizes_["many"][2:]
    quarter = len(sizes) // 4
    ratio = weights[0].mean() / weights[1:].mean()
    return ratio, sizes[:quarter].mean() / max(sizes[quarter:].mean(), 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_rare_values_without_effect_lose_weight_and_numbers(seed, monkeypatch):
    rows = planted(seed)
    search = AutoSrh(0.3, n_blocks=4, arch_lr=0.02, retrain="none")
    ratio, kept = head_over_tail(fit(rows, search, seed))
    assert ratio > 1.6 and kept > 2.2
    # Controls: blocks that have nothing to do with frequency; and A trained with the tables on the
    # same rows, where noise learned by heart looks as good as the rest.
    rng = np.random.default_rng(seed)
    with monkeypatch.context() as m:
        m.setattr(
            _autosrh, "frequency_blocks", lambda counts, n, _: rng.integers(n, size=len(counts))
        )
        mixed_up, fewer = head_over_tail(fit(rows, search, seed))
    assert mixed_up < 1.5 and fewer < kept
    with monkeypatch.context() as m:
        m.setattr(_autosrh, "ArchSchedule", lambda *args, **kwargs: ArchSchedule())
        by_heart, fewer = head_over_tail(fit(rows, search, seed))
    assert by_heart < 1.1 and fewer < kept


def numbers_of(model):
    """Bytes of the vectors of numbers, which are left whole."""
    part = model.net_.module_.embedding
    return 4 * sum(p.numel() for name, p in part.named_parameters() if "numeric" in name)


@pytest.mark.parametrize("retrain", ["none", "keep", "rewind", "scratch"])
def test_pruned_elements_do_not_grow_back_and_the_budget_holds(retrain, mixed):
    X, y = mixed
    options = {"max_epochs": 3, "search_epochs": 3}
    model = fit(mixed, AutoSrh(0.3, n_blocks=3, retrain=retrain), **options)
    whole = 8 * (sum(model.encoder_.n_ids_) + sum(model.encoder_.sequence_n_ids_))
    mask = mask_from_text(model.architecture_["embedding"]["mask"])
    assert mask.size == whole
    limit = 0.3 * 4 * whole + numbers_of(model)
    assert 0.9 * limit < model.nbytes_["embedding"] + model.nbytes_["index"] <= limit
    assert len(model.history_) == (0 if retrain == "none" else 3)
    model.partial_fit(X, y)  # the packed table is what goes on
    after = mask_from_text(model.architecture_["embedding"]["mask"])
    assert not (after & ~mask).any()
    by_bytes = fit(mixed, AutoSrh(500, n_blocks=3, retrain=retrain), **options)
    n_bytes = by_bytes.nbytes_["embedding"] + by_bytes.nbytes_["index"] - numbers_of(by_bytes)
    assert 440 < n_bytes <= 500


def test_a_whole_budget_leaves_the_searched_network_as_it_is(mixed, monkeypatch):
    X, _ = mixed
    problems = spy(monkeypatch)
    model = fit(mixed, AutoSrh(1.0, n_blocks=3, retrain="none"), search_epochs=4)
    (problem,) = problems
    weights = np.array(model.architecture_["embedding"]["block_weights"])
    assert weights.shape == (3, 8) and 0 < weights.min() < weights.max() <= 1
    data = EncodedTensors.from_table(model.encoder_.encode(X), "cpu")
    network = problem.results[-1].net.module_.eval()
    with torch.no_grad():
        p = torch.sigmoid(network(**data.inputs))[:, 0].numpy()
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], p, rtol=1e-5)
    sizes = model.embedding_sizes_["f1"]
    assert sizes[0] == 0 and sizes[1:].min() == 8  # no row had the missing value


def spy(monkeypatch):
    """All problems, each with the arguments and results of its trainings."""
    problems = []

    class Problem(SearchProblem):
        def __init__(self, *args):
            super().__init__(*args)
            self.calls, self.results, self.weights = [], [], []
            problems.append(self)

        def train(self, *args, **kwargs):
            self.calls.append(kwargs)
            self.results.append(super().train(*args, **kwargs))
            state = self.results[-1].net.module_.state_dict()
            self.weights.append({name: t.clone() for name, t in state.items()})
            return self.results[-1]

    monkeypatch.setattr(_search_phase, "SearchProblem", Problem)
    return problems


def test_the_network_rests_while_tables_and_blocks_are_searched(mixed, monkeypatch):
    problems = spy(monkeypatch)
    search = AutoSrh(0.5, n_blocks=3, warmup=0.75, search_fraction=0.25)
    fit(mixed, search, search_epochs=4, network="deepfm")
    warm, searched = problems[0].calls
    assert (warm["epochs"], searched["epochs"]) == (3, 1) and len(warm["rows"]) == 600
    before, after = problems[0].weights
    assert (before["embedding.block_weights"] == 1).all()
    names = [n for n, _ in problems[0].results[-1].net.module_.named_parameters()]
    moved = {n for n in names if not torch.equal(before[n], after[n])}
    parts = ("embedding", "linear")
    tables = {f"{part}.{kind}weight" for part in parts for kind in ("", "numeric_")}
    assert moved == tables | {"embedding.block_weights"} and len(names) > len(moved) + 4
    # Without a warm-up the rest of the network is trained beside the tables.
    fit(mixed, AutoSrh(0.5, warmup=0.0), search_epochs=2, network="deepfm")
    (call,) = problems[1].calls
    assert call["only"] is None and call["start"] is None and call["epochs"] == 2


@pytest.mark.parametrize("network", ["auto", "dcn", "fwfm", "autoint"])
def test_it_searches_around_any_network_and_for_ratings(network, mixed):
    for search in (AutoSrh(0.5, per_field=True), AutoSrh(0.5, retrain="none")):
        for model in fitted_by_both(mixed, network, search, search_epochs=2):
            kept = sum(int(np.sum(s)) for name, s in model.embedding_sizes_.items())
            rows = sum(model.encoder_.n_ids_) + sum(model.encoder_.sequence_n_ids_)
            # Half of the bytes, of which the index takes a part.
            assert 4 * rows // 5 < kept < 4 * rows // 2


def test_row_wise_tables_and_unrolled_steps(mixed, monkeypatch):
    from sklearn_autorec.estimators import _context

    monkeypatch.setattr(_context, "LAZY_TABLE_FACTOR", 0)
    for level in ("first_order", "unrolled"):
        model = fit(mixed, AutoSrh(0.5, n_blocks=3, level=level), search_epochs=4)
        weights = np.array(model.architecture_["embedding"]["block_weights"])
        assert weights.min() < 1 and model.predict_proba(mixed[0])[:, 1].std() > 1e-3


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupted_search_serves_what_it_has(at, mixed, monkeypatch):
    """In the warm-up, and while A is searched."""
    X, _ = mixed
    problems = spy(monkeypatch)
    real = SearchProblem.train

    def train(self, *args, **kwargs):
        def on_epoch(epoch, record):
            if len(self.calls) == at + 1:
                raise KeyboardInterrupt

        self.on_epoch = on_epoch
        return real(self, *args, **kwargs)

    monkeypatch.setattr(SearchProblem, "train", train)
    with pytest.warns(UserWarning, match="was interrupted"):
        model = fit(mixed, AutoSrh(1.0, n_blocks=3, arch_lr=0.1), search_epochs=4)
    (problem,) = problems
    assert len(problem.results) == at + 1 and problem.results[-1].interrupted
    data = EncodedTensors.from_table(model.encoder_.encode(X), "cpu")
    network = problem.results[-1].net.module_.eval()
    with torch.no_grad():
        p = torch.sigmoid(network(**data.inputs))[:, 0].numpy()
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], p, rtol=1e-5)


def test_what_does_not_fit_is_refused(mixed):
    for options, told in (
        ({"budget": 0.0}, "'budget' parameter of AutoSrh"),
        ({"n_blocks": 0}, "'n_blocks' parameter of AutoSrh"),
        ({"retrain": "never"}, "'retrain' parameter of AutoSrh"),
        ({"budget": 3}, "budget=3 is a number of bytes, fewer than"),
    ):
        with pytest.raises(ValueError, match=told):
            fit(mixed, AutoSrh(**options))
    with pytest.raises(ValueError, match="members=2 needs members that are trained"):
        fit(mixed, AutoSrh(retrain="none"), members=2)
    model = fit(mixed, AutoSrh(0.5), search_epochs=1)
    for mask in (None, {"shape": [3, 8], "bits": "AAAA"}, {"shape": [2.0, 8], "bits": "AAAA"}):
        architecture = copy.deepcopy(model.architecture_)
        architecture["embedding"]["mask"] = mask
        with pytest.raises(ValueError, match="mask"):
            CTRClassifier.from_architecture(architecture, max_epochs=1).fit(*mixed)
