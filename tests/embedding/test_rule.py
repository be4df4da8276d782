import copy
import functools
import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from size_cases import batch, context, expected_vectors, planted
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import RULE, EqualSize
from sklearn_autorec.embedding._elastic import AnyBlocks, BlockSpace, ScoreEstimator
from sklearn_autorec.embedding._rule import ElasticEmbedding, column_widths
from sklearn_autorec.engine import EncodedTensors
from sklearn_autorec.nn import BuildContext, Inputs
from sklearn_autorec.nn._row_groups import GroupedRows
from sklearn_autorec.serving import load, save

# Parts
# ------------------------------------------------------------------------------------------

BOUNDS = [[4, 9, 12], [5], [3, 7]]  # of two fields and of the list that has a table


def masked_vectors(x, table, mask):
    """Vectors of the fields but the numeric one, in numpy."""
    return expected_vectors(x, np.split(table * mask, [12, 17]))


def drawn_columns(seed):
    return np.random.default_rng(seed).random((6, 5)) < 0.5


def by_row(kept):
    return np.repeat(kept, [4, 5, 3, 5, 3, 4], axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_groups_of_rows_store_their_own_columns(seed):
    kept = drawn_columns(seed) if seed else np.zeros((6, 5), bool)
    module, x = GroupedRows(context(), BOUNDS, kept), batch(context())
    table = torch.randn(24, 5, generator=torch.Generator().manual_seed(seed))
    module.values.data = GroupedRows.pack(table, BOUNDS, kept)
    assert len(module.values) == by_row(kept).sum()
    expected = masked_vectors(x, table.numpy(), by_row(kept))
    e = module(x)
    np.testing.assert_allclose(e[:, [0, 1, 3, 4]].detach(), expected, rtol=1e-6)
    np.testing.assert_allclose(module(Inputs(*(t[:1] for t in x[:3])))[0].detach(), e[0].detach())
    counts = np.split(by_row(kept).sum(1), [12, 17])
    sizes = module.sizes()
    assert sizes[2] == 5
    for got, own in zip(
        (sizes[0], sizes[1], sizes[3], sizes[4]), (*counts, counts[0]), strict=True
    ):
        np.testing.assert_array_equal(got, own)
    stored = 4 * (by_row(kept).sum() + 3 * 5)  # three vectors of the number
    assert module.nbytes() == {"embedding": stored, "index": 6}
    earlier = GroupedRows(context(), BOUNDS, kept, positions=True)  # of files of earlier releases
    assert earlier.nbytes() == {"embedding": stored, "index": 2 * 6 * 5}
    state = {**module.state_dict(), "position": module.position}
    earlier.load_state_dict(state)
    assert torch.equal(earlier(x), e) and "position" not in module.state_dict()
    if seed:
        e.sum().backward()
        assert (module.values.grad != 0).any()


def test_nothing_is_stored_for_single_values():
    c = BuildContext(("a",), (50_000,), embedding_dim=8)
    module = GroupedRows(c, [[10_000, 50_000]], np.arange(16).reshape(2, 8) < 9)
    assert module.nbytes()["embedding"] == 4 * (8 * 10_000 + 40_000)
    assert len(pickle.dumps(module)) < 4 * (8 * 10_000 + 40_000) + 20_000


def test_a_step_reads_the_blocks_that_are_drawn():
    widths = column_widths(5, 3)
    assert widths.tolist() == [2, 1, 2] and column_widths(2, 8).tolist() == [1, 1]
    module, x = ElasticEmbedding(context(), BOUNDS, widths, 0.5), batch(context())
    table = module.weight.detach().numpy()
    seen = set()
    for _ in range(4):
        module.paths.set_progress(0.0)
        bits = BlockSpace.bits(module.paths.current, (6, 3))
        seen.add(bits.tobytes())
        kept = np.repeat(bits, widths, axis=1)
        e = module(x).detach()[:, [0, 1, 3, 4]]
        np.testing.assert_allclose(e, masked_vectors(x, table, by_row(kept)), rtol=1e-6)
    assert len(seen) > 1


def test_the_penalty_is_the_likeness_of_blocks():
    widths = np.array([2, 1, 2])
    module, x = ElasticEmbedding(context(), BOUNDS, widths, 0.5), batch(context())
    module(x)
    a, b, own = np.split(module.weight.detach().numpy().astype(float), [12, 17])
    ids, items = x.ids.numpy(), x.sequences.numpy()
    read = [
        a[ids[:, 0]],
        b[ids[:, 1]],
        *own[items[:, :3]].swapaxes(0, 1),
        *a[items[:, 3:]].swapaxes(0, 1),
    ]
    blocks = np.split(np.concatenate(read), [2, 3], axis=1)
    alike = [
        ((E.T @ G) ** 2).sum() / (E**2).sum() / (G**2).sum()
        for E, G in itertools.combinations(blocks, 2)
    ]
    assert module.penalty().item() == pytest.approx(0.5 * np.mean(alike), rel=1e-4)
    assert ElasticEmbedding(context(), BOUNDS, widths, 0.0).penalty() == 0


def test_draws_have_any_number_of_blocks_and_a_quarter_has_all():
    space, random = AnyBlocks(4, 5), np.random.default_rng(0)
    n = np.array([BlockSpace.bits(space.draw(random), (4, 5)).sum() for _ in range(4000)])
    assert 0.25 < (n == 20).mean() < 0.32
    assert (np.bincount(n, minlength=21)[:20] > 80).all()


@pytest.fixture
def space():
    sizes, widths = np.array([10, 20, 5]), np.array([1, 2])
    worth = np.array([6.0, 1.0, -1.0, 0.1, 2.0, 0.5])
    return BlockSpace(sizes, widths, 4 * 55, worth, np.random.default_rng(0))


def test_repaired_configurations_fit_and_use_the_budget_up(space):
    random, seen = np.random.default_rng(1), []
    cost = 4 * np.outer([10, 20, 5], [1, 2])
    for _ in range(200):
        start = BlockSpace.configuration(random.random((3, 2)) < random.random())
        before = copy.deepcopy(start)
        bits = BlockSpace.bits(space.repair(start), (3, 2))
        assert start == before
        left = 220 - cost[bits].sum()
        assert left >= 0 and (cost[~bits] > left).all()
        seen.append(bits)
    mean = np.mean(seen, 0)
    # What is worth most per byte is there most often.
    assert (
        mean[0, 0] > mean[1, 0] and mean[2, 0] > mean[1, 0] and len({b.tobytes() for b in seen}) > 3
    )


def test_mutations_change_one_thing_and_never_their_parent(space):
    random = np.random.default_rng(0)
    parent = {"blocks": [[0, 1], [], [1]]}
    before, kinds = copy.deepcopy(parent), set()
    start = BlockSpace.bits(parent, (3, 2))
    for _ in range(300):
        child = space.mutate(parent, random)
        assert parent == before
        bits = BlockSpace.bits(child, (3, 2))
        changed = (bits != start).any(1)
        if (bits != start).sum() == 1:
            kinds.add("one block")
        elif sorted(map(tuple, bits)) == sorted(map(tuple, start)):
            kinds.add("exchange")
        else:
            assert changed.sum() <= 1 and bits.sum() == start.sum()
            kinds.add("others")
    assert kinds == {"one block", "exchange", "others"}


def test_estimates_agree_with_a_regression_on_bits_and_pairs():
    random = np.random.default_rng(0)
    bits = random.random((40, 6)) < 0.5
    scores = bits[:, 0] + 2.0 * bits[:, 1] * bits[:, 2] + 0.1 * random.normal(size=40)
    estimator = ScoreEstimator(bits, scores)
    x, y = np.where(bits, 1.0, -1.0), (scores - scores.mean()) / scores.std()

    def phi(x):  # whose products are the kernel
        pairs = np.stack([np.outer(row, row).ravel() for row in x]) / 6
        return np.concatenate([np.ones((len(x), 1)), np.sqrt(2 / 6) * x, pairs], 1)

    best = None
    for penalty in np.logspace(-5, 2, 15):

        def fit(rows, penalty=penalty):
            A = phi(x[rows])
            return A.T @ np.linalg.solve(A @ A.T + penalty * np.eye(len(A)), y[rows])

        every = np.arange(40)
        left_out = [phi(x[[i]]) @ fit(every[every != i]) for i in every]
        error = ((np.ravel(left_out) - y) ** 2).sum()
        if best is None or error < best[0]:
            best = error, fit(every), np.ravel(left_out)
    new = random.random((9, 6)) < 0.5
    expected = scores.mean() + scores.std() * (phi(np.where(new, 1.0, -1.0)) @ best[1])
    np.testing.assert_allclose(estimator.predict(new), expected, rtol=1e-6)
    rank = pd.Series(best[2]).corr(pd.Series(y), method="spearman")
    assert estimator.rank_correlation == pytest.approx(rank)
    worth = estimator.worth()
    assert set(worth.argsort()[-3:]) == {0, 1, 2}
    assert worth[0] == pytest.approx(1.0, abs=0.2) and worth[1] == pytest.approx(1.0, abs=0.3)
    assert ScoreEstimator(bits, np.ones(40)).rank_correlation is None


# What is found
# ------------------------------------------------------------------------------------------

OPTIONS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.02,
    "batch_size": 256,
    "search_epochs": 8,
    "max_epochs": 6,
    "device": "cpu",
}
WHOLE = 4 * 8 * (102 + 10 + 102)
INDEX = 15  # a bit for each group and column
BUDGET = WHOLE // 4 + INDEX  # as many numbers as two columns have


@functools.cache
def fitted(seed, shuffled=False):
    X, y, _, _ = planted(seed)
    if shuffled:
        y = np.random.default_rng(seed).permutation(y)
    options = OPTIONS if not shuffled else {**OPTIONS, "max_epochs": 1}
    search = RULE(BUDGET, n_evaluations=300)
    return CTRClassifier(search=search, random_state=seed, **options).fit(X, y)


def n_blocks(model):
    """Blocks of the groups of rich, partner and noise, (3, 5)."""
    return np.reshape([len(own) for own in model.architecture_["embedding"]["blocks"]], (3, 5))


def loss(model, seed):
    _, _, X, y = planted(seed)
    return log_loss(y, model.predict_proba(X)[:, 1])


def finds_the_truth(model):
    rich, partner, noise = n_blocks(model)
    return rich[0] >= 5 and rich[0] > max(*rich[1:], *noise) and partner.mean() >= 4


@pytest.mark.parametrize("seed", range(5))
def test_blocks_go_where_something_is_said(seed):
    model = fitted(seed)
    assert finds_the_truth(model), n_blocks(model)
    assert model.architecture_["embedding"]["estimator_score"] > 0.8
    n_bytes = model.nbytes_["embedding"] + model.nbytes_["index"]
    assert model.nbytes_["index"] == INDEX and BUDGET - 80 < n_bytes <= BUDGET
    own = loss(model, seed)
    X, y, _, _ = planted(seed)
    equal = CTRClassifier(search=EqualSize(2), random_state=seed, **OPTIONS).fit(X, y)
    assert own < loss(equal, seed) - 0.008  # of as many numbers
    assert own < loss(model.specialize(1.0), seed) - 0.03  # which learns the noise by heart
    # The control: an estimator that was told the scores of other configurations.
    wrong = copy.copy(model._kept_["embedding"])
    bits = np.where(wrong.estimator.known > 0, True, False)
    scores = np.random.default_rng(seed).permutation(wrong.estimator.predict(bits))
    wrong.estimator = ScoreEstimator(bits, scores)
    blind = object.__new__(type(model))
    blind.__dict__ = {**vars(model), "_kept_": {"embedding": wrong}}
    assert loss(blind.specialize(BUDGET), seed) > own + 0.01


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_find_nothing(seed):
    assert not finds_the_truth(fitted(seed, shuffled=True))


@functools.cache
def of_rank_four(seed):
    """Two columns whose 40 values all act by rank 4: the fewer columns, the worse."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 40, (2, 12_000))
    U, V = rng.normal(size=(2, 40, 4))
    y = (rng.random(12_000) < 1 / (1 + np.exp(-1.5 * (U[a] * V[b]).sum(1)))).astype(int)
    X = pd.DataFrame({"a": a, "b": b}).astype(str)
    search = RULE(0.5, n_evaluations=300)
    options = {**OPTIONS, "search_epochs": 12, "embedding_init": 0.1}
    model = CTRClassifier(search=search, random_state=seed, **options).fit(X[:8000], y[:8000])
    return model, X[8000:], y[8000:]


@pytest.mark.parametrize("seed", range(3))
def test_models_of_all_budgets_are_cut_without_rows(seed):
    model, X, y = of_rank_four(seed)
    budgets = (1.0, 0.75, 0.5, 0.25, 0.125)
    cut = [model.specialize(b) for b in budgets]
    losses = [log_loss(y, m.predict_proba(X)[:, 1]) for m in cut]
    assert (np.diff(losses) > -0.002).all() and losses[-1] > losses[0] + 0.1
    n_bytes = [m.nbytes_["embedding"] for m in cut]
    whole, index = 4 * 8 * 84, 10
    assert n_bytes[0] == whole and (np.diff(n_bytes) < 0).all()
    assert [m.nbytes_["index"] for m in cut] == [0, *[index] * 4]
    # No further block fits, of which the smallest has 8 rows.
    for b, n in zip(budgets[1:], n_bytes[1:], strict=True):
        assert b * whole - 4 * 8 < n + index <= b * whole
    # All but a byte is not everything.
    assert (
        whole - index - 4 * 8
        < 1 + model.specialize(whole - 1).nbytes_["embedding"]
        <= whole - index
    )


def test_what_serves_is_the_masked_supernet():
    model, X, _ = of_rank_four(0)
    kept = model._kept_["embedding"]
    for budget in (1.0, 0.3, 0.05):
        small = model.specialize(budget)
        data = EncodedTensors.from_table(small.encoder_.encode(X), "cpu")
        part = small.net_.module_.embedding
        n_ids = small.encoder_.n_ids_
        bits = BlockSpace.bits(small.architecture_["embedding"], (10, 8))
        rows = np.concatenate(
            [np.diff([0, *own]) for own in small.architecture_["embedding"]["bounds"]]
        )
        mask = np.repeat(bits, rows, axis=0)
        table = np.split(kept.state["weight"].numpy() * mask, np.cumsum(n_ids)[:-1])
        expected = [own[ids] for own, ids in zip(table, data.ids.numpy().T, strict=True)]
        e = part(Inputs(data.ids, data.numeric, data.sequences)).detach()
        np.testing.assert_array_equal(e, np.stack(expected, 1))
        for name, own in zip(("a", "b"), np.split(mask.sum(1), np.cumsum(n_ids)[:-1]), strict=True):
            np.testing.assert_array_equal(small.embedding_sizes_[name], own)


def test_cutting_changes_nothing_and_gives_the_same_again():
    model, X, _ = of_rank_four(0)
    p, before = model.predict_proba(X), copy.deepcopy(model.architecture_)
    small = model.specialize(0.2)
    assert (small.predict_proba(X) != p).any() and small.search.budget == 0.2
    assert small.architecture_["embedding"]["params"]["budget"] == 0.2
    np.testing.assert_array_equal(model.predict_proba(X), p)
    for name, t in model.net_.module_.state_dict().items():
        if not name.startswith("embedding."):
            assert torch.equal(small.net_.module_.state_dict()[name], t) and t.any(), name
    assert model.architecture_ == before and model.search.budget == 0.5
    again = small.specialize(0.6).specialize(0.2)
    np.testing.assert_array_equal(again.predict_proba(X), small.predict_proba(X))
    p = small.predict_proba(X)
    np.testing.assert_array_equal(small.predict_proba(X[:1]), p[:1])
    n_bytes = 4 * 8 * 84 // 5
    np.testing.assert_array_equal(model.specialize(n_bytes).predict_proba(X), p)


def test_pickles_are_small_unless_they_are_to_be_cut(tmp_path):
    model, X, _ = of_rank_four(1)
    small = model.specialize(0.1)
    sizes = [len(pickle.dumps(m)) for m in (model.specialize(1.0), model, small)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] - sizes[2] > 0.7 * 4 * 8 * 84
    p = small.predict_proba(X)
    for other in (pickle.loads(pickle.dumps(small)), copy.deepcopy(small)):
        np.testing.assert_array_equal(other.predict_proba(X), p)
        assert not hasattr(other, "specialize")
    with pytest.raises(AttributeError, match="specialize") as raised:
        pickle.loads(pickle.dumps(model)).specialize(0.1)
    assert "it needs a fit whose search trains a supernet" in str(raised.value.__cause__)
    save(small, tmp_path / "model")
    read = load(tmp_path / "model")
    np.testing.assert_array_equal(read.predict_proba(X), p)
    assert not hasattr(read, "specialize")
    keeper = object.__new__(type(model))  # the cached one stays as it is
    keeper.__dict__ = {**vars(model), "search": RULE(0.5, pickle_supernet=True)}
    read = pickle.loads(pickle.dumps(keeper))
    np.testing.assert_array_equal(read.specialize(0.1).predict_proba(X), p)
    assert len(pickle.dumps(keeper)) > sizes[1] + 4 * 8 * 84
