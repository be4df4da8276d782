"""What is counted against a budget is what is stored: numbers in their storage, scales, indices."""

import functools
import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from small_networks import small_context

from sklearn_autorec import CTRClassifier, embedding
from sklearn_autorec.embedding import (
    AMTL,
    ANT,
    NIS,
    PEP,
    QR,
    RULE,
    AutoDim,
    AutoSrh,
    MagnitudePruning,
    OptEmbed,
)
from sklearn_autorec.embedding import _autosrh as autosrh
from sklearn_autorec.embedding._amtl import (
    Frequencies,
    FrequencySizedEmbedding,
    lengths_within,
)
from sklearn_autorec.embedding._ant import strongest_weights
from sklearn_autorec.embedding._blocks import BlockChoices
from sklearn_autorec.embedding._masks import PrunedShare
from sklearn_autorec.embedding._optembed import ThresholdedEmbedding
from sklearn_autorec.embedding._prefix_bytes import PrefixBytes
from sklearn_autorec.embedding._widths import mixed_bytes
from sklearn_autorec.engine import SearchProblem
from sklearn_autorec.nn import MaskedEmbedding, MixedEmbedding, SizedRows, own_bytes, table_bytes
from sklearn_autorec.nn._anchored_rows import AnchoredRows, anchored_bytes
from sklearn_autorec.nn._budget import kinds_of_tables
from sklearn_autorec.nn._packed import packed_bytes
from sklearn_autorec.nn._sized_rows import sized_bytes
from sklearn_autorec.nn._storing import store_tables
from sklearn_autorec.serving import save

STORAGES = [None, "float16", "int8"]
FEW = {"a": "int8", "s": "float16"}


def context(storage, d=8):
    return small_context(
        0,
        n_ids=(40, 90),
        sequences=((30, 3),),
        embedding_dim=d,
        numeric_embedding="piecewise",
        n_numeric_bins=4,
        embedding_init=1.0,
        storage=storage,
    )


def stored(part, storage):
    store_tables(part, storage)
    return sum((part.nbytes() if hasattr(part, "nbytes") else own_bytes(part)).values())


def numbers_of(c):
    return table_bytes(c) - table_bytes(c, numeric=False)


@pytest.mark.parametrize("storage", [*STORAGES, FEW], ids=str)
def test_bytes_of_masks_are_those_of_the_stored_form(storage):
    c, forms = context(storage), set()
    assert FEW.keys() <= {*c.field_names}
    r = np.random.default_rng(0)
    shares = [(r.random((160, 1)) < 0.4) * r.random((160, 8)), r.random((160, 8))]
    shares += [np.repeat(r.random((3, 8)), [40, 90, 30], axis=0)]
    for share in shares:
        for least in (0.95, 0.7, 0.3, -1.0):
            part = MaskedEmbedding(c, share > least).compact()
            forms.add(part.form)
            expected = packed_bytes(share > least, c) + numbers_of(c)
            assert stored(part, storage) == expected
    assert len(forms) >= 3


@pytest.mark.parametrize("storage", [*STORAGES, FEW], ids=str)
def test_bytes_of_widths_are_those_of_the_stored_part(storage):
    c, r = context(storage), np.random.default_rng(2)
    for widths in ([8, 8, 8, 8], [1, 2, 3, 4], *r.integers(0, 9, (4, 4)).tolist()):
        assert stored(MixedEmbedding(c, widths), storage) == mixed_bytes(widths, c)


@pytest.mark.parametrize("storage", [*STORAGES, FEW], ids=str)
def test_bytes_of_lengths_and_anchors_are_those_of_the_stored_part(storage):
    c, r = context(storage), np.random.default_rng(4)
    for sizes in (np.ones(160, int), r.integers(1, 9, 160), np.repeat([8, 1, 3, 2], 40)):
        n_bytes = sized_bytes(sizes, c) + numbers_of(c)
        assert stored(SizedRows(c, sizes), storage) == n_bytes
    for share in (0.97, 0.9, 0.3):
        support = r.random((160, 6)) > share
        own = np.split(support, [40, 130])
        n_weights, n_living = [s.sum() for s in own], [s.any(1).sum() for s in own]
        n_bytes = anchored_bytes(n_weights, n_living, 6, c) + numbers_of(c)
        assert stored(AnchoredRows(c, support), storage) == n_bytes


@pytest.mark.parametrize("share", [0.95, 0.5, 0.25])
def test_weights_that_add_least_go_first_and_no_more_than_have_to(share):
    c, r = context(None), np.random.default_rng(5)
    worth, support = r.random((160, 6)), r.random((160, 6)) < 0.8
    limit = int(share * table_bytes(c, numeric=False))

    def bytes_of(kept):
        own = np.split(kept, [40, 130])
        weights, living = [k.sum() for k in own], [k.any(1).sum() for k in own]
        return anchored_bytes(weights, living, int(kept.any(0).sum()), c)

    kept = strongest_weights(worth, support, limit, c)
    assert not (kept & ~support).any() and bytes_of(kept) <= limit
    if kept.sum() < support.sum():
        left = support & ~kept
        assert worth[kept].min() > worth[left].max()
        assert bytes_of(kept | (worth == worth[left].max())) > limit
    assert (kept.sum() < support.sum()) == (share < 0.95)


@pytest.mark.parametrize("share", [0.8, 0.4, 0.2])
def test_lengths_within_a_budget_keep_the_order_of_the_frequencies(share):
    c = context(None)
    counts = np.concatenate([np.arange(n)[::-1] for n in c.table_sizes])
    module = FrequencySizedEmbedding(c, Frequencies.of(counts, c.table_sizes), AMTL())
    with torch.no_grad():  # long where values are frequent
        for network in module.twins.networks:
            for p in network.parameters():
                p.zero_()
            network.layers[0].weight[0, 0] = 1.0
            network.layers[-1].weight[:, 0] = torch.arange(8.0)
            network.layers[-1].bias.copy_(-0.1 * torch.arange(8.0) ** 2)
    free, limit = module.lengths(), int(share * table_bytes(c, numeric=False))
    found = lengths_within(module, limit, c)
    assert sized_bytes(found, c) <= limit and (found <= free).all()
    assert (found < free).any() == (sized_bytes(free, c) > limit)
    assert sized_bytes(found, c) > 0.5 * min(limit, sized_bytes(free, c))
    for own in np.split(found, [40, 130]):
        assert (np.diff(own) <= 0).all()
    assert (lengths_within(module, sized_bytes(np.ones(160, int), c), c) == 1).all()


@pytest.mark.parametrize("storage", [*STORAGES, FEW], ids=str)
def test_bytes_of_rows_and_widths_are_those_of_the_mask(storage):
    c, r, forms = context(storage), np.random.default_rng(6), set()
    for share in (1.0, 0.9, 0.5, 0.1, 0.0):
        kept = [r.random(n) < share for n in c.table_sizes]
        kept[0][20:] &= share > 0.9
        bytes_of = PrefixBytes(kept, c)
        for widths in ([8, 8, 8], [0, 0, 0], [0, 3, 1], *r.integers(0, 9, (4, 3))):
            columns = np.arange(8) < np.repeat(widths, c.table_sizes)[:, None]
            mask = np.concatenate(kept)[:, None] & columns
            assert bytes_of(np.array(widths)) == packed_bytes(mask, c)
            forms.add(MaskedEmbedding(c, mask).compact().form)
    assert len(forms) >= 3


@pytest.mark.parametrize("storage", [*STORAGES, FEW], ids=str)
@pytest.mark.parametrize("mode", ["single", "multi"])
def test_no_choice_of_blocks_takes_more_than_it_is_counted(storage, mode):
    c = context(storage)
    choices = BlockChoices(c.table_sizes, 8, mode, 4, 3, kinds_of_tables(c))
    r = np.random.default_rng(3)
    for _ in range(8):
        n_choices = choices.valid.sum(1).numpy()
        choice = torch.from_numpy((n_choices * r.random(len(n_choices))).astype(np.int64))
        counted = float(choices.bytes_of(choice[None])[0])
        n_bytes = packed_bytes(choices.mask(choice, c.table_sizes), c)
        assert n_bytes <= counted + 4 * 3 * 8
        if storage is None:
            assert n_bytes >= min(counted, 0.7 * counted + 48)


# Fitted models
# --------------------------------------------------------------------------------------------------

FAST = {
    RULE: {"n_samples": 8, "n_evaluations": 60},
    OptEmbed: {"n_evaluations": 10, "population": 5},
    NIS: {"mode": "multi"},
    ANT: {"n_anchors": 64, "l1": 0.0},
}
METHODS = [
    cls
    for cls in map(vars(embedding).get, embedding.__all__)
    if "budget" in inspect.signature(cls).parameters
]
DIM = 64


@functools.cache
def clicks():
    r = np.random.default_rng(0)
    X = pd.DataFrame({"item": r.zipf(1.2, 3000) % 2000, "user": r.integers(0, 300, 3000)})
    return X.astype(str), (r.random(3000) < 0.4).astype(int)


@functools.cache
def whole(storage):
    return CTRClassifier(search=None, storage=storage, **OPTIONS).fit(*clicks())


OPTIONS = {
    "network": "fm",
    "embedding_dim": DIM,
    "max_epochs": 1,
    "search_epochs": 2,
    "batch_size": 512,
    "device": "cpu",
    "random_state": 0,
}


def file_bytes(model, folder):
    save(model, folder / "clicks.model")
    return (folder / "clicks.model").stat().st_size


@pytest.mark.parametrize("storage", STORAGES, ids=str)
@pytest.mark.parametrize("method", METHODS, ids=lambda cls: cls.__name__)
def test_tables_and_files_keep_to_the_budget(method, storage, tmp_path):
    X, y = clicks()
    dense = whole(storage).nbytes_["embedding"]
    vocabulary = sum(len(str(v)) + 8 for name in X for v in X[name].unique())
    sizes = []
    budgets = (0.5, 0.2, 0.1, 0.05)
    if method is QR:
        with pytest.raises(ValueError, match=r"budget=0\.05 .* the smallest tables"):
            CTRClassifier(search=method(budget=0.05), storage=storage, **OPTIONS).fit(X, y)
        budgets = budgets[:3]
    for budget in budgets:
        search = method(budget=budget, **FAST.get(method, {}))
        model = CTRClassifier(search=search, storage=storage, **OPTIONS)
        model.fit(X, y)
        n_bytes = model.nbytes_
        assert 0 < n_bytes["embedding"] + n_bytes["index"] <= budget * dense
        size = file_bytes(model, tmp_path)
        assert size <= 1.05 * n_bytes["total"] + 2**16 + vocabulary
        sizes.append(size)
    # There is nothing to be learned here, so that these leave most of the budget free.
    falling = np.diff(sizes) <= 0 if method in (AutoDim, NIS) else np.diff(sizes) < 0
    assert falling.all() and sizes[0] < file_bytes(whole(storage), tmp_path)


# What leaves nothing
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", [None, "int8"], ids=str)
@pytest.mark.parametrize("method", METHODS, ids=lambda cls: cls.__name__)
def test_a_budget_that_nothing_fits_is_refused_before_any_training(method, storage, monkeypatch):
    monkeypatch.setattr(SearchProblem, "train", None)
    model = CTRClassifier(search=method(budget=4), storage=storage, **OPTIONS)
    with pytest.raises(ValueError, match=r"^budget=4 .*\d+"):
        model.fit(*clicks())


def nothing(method, c):
    """What a method derives from a search that wants nothing of the tables."""
    if isinstance(method, PrunedShare):
        return method.mask_of(np.full((160, 8), -np.inf), c)
    module = method.build(c)
    with torch.no_grad():
        if isinstance(method, NIS):
            module.logits[:, 0] = 9.0
        elif isinstance(method, ANT):
            module.transform.zero_()
        else:
            module.alpha[:, 0] = 9.0
    return method.derive(module, c)


@pytest.mark.parametrize(
    "method",
    [PEP(budget=0.5), MagnitudePruning(budget=0.5), NIS(), ANT(budget=0.5)]
    + [AutoDim((0, 8), budget=0.5)],
    ids=lambda method: type(method).__name__,
)
def test_a_search_that_keeps_nothing_warns_by_name(method):
    c = context(None)
    name = type(method).__name__
    with pytest.warns(UserWarning, match=rf"^{name}\(budget=0\.5\) keeps no number"):
        nothing(method, c)


@pytest.mark.parametrize("method", [AutoSrh(l1=0.0), OptEmbed()], ids=lambda m: type(m).__name__)
def test_so_do_those_whose_search_is_their_own(method, monkeypatch):
    monkeypatch.setattr(autosrh, "strongest_within", lambda size, *args: np.zeros_like(size, bool))
    monkeypatch.setattr(
        ThresholdedEmbedding,
        "kept_rows",
        lambda self: [np.zeros(n, bool) for n in self.field_sizes],
    )
    model = CTRClassifier(search=method, **OPTIONS)
    with pytest.warns(UserWarning, match=rf"^{type(method).__name__}\(budget=0\..* keeps no num"):
        model.fit(*clicks())
    assert model.nbytes_["embedding"] == 0 and model.sparsity_ == 1


def test_a_policy_that_wants_something_keeps_the_likeliest_block_that_fits():
    choices = BlockChoices([40, 10], 4, "single", 2, 2)
    likely = torch.full(choices.valid.shape, -5.0)
    likely[:, 0], likely[:, 4] = -1.0, -0.1  # nothing, and everything
    likely[1, 1] = -2.0  # half of the values of the second field, in half of the columns
    smallest = 4 * 6 * 2
    assert choices.within(likely, smallest).tolist() == [0, 1]
    assert choices.within(likely, smallest - 1).tolist() == [0, 0]
    likely[:, 4] = -1.5  # all fields would rather have nothing
    assert choices.within(likely, smallest).tolist() == [0, 0]
