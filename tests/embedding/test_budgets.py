"""One budget of stored bytes for all methods, and what `sparsity_` tells of them."""

import itertools
import types

import numpy as np
import pytest
import torch
from small_networks import small_context
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier, embedding
from sklearn_autorec.embedding import (
    NIS,
    PEP,
    AutoDim,
    AutoDis,
    EqualSize,
    MagnitudePruning,
    RandomSizes,
)
from sklearn_autorec.embedding._masks import bytes_for_masked, strongest_within
from sklearn_autorec.embedding._widths import bytes_for_widths, likeliest_within, mixed_bytes
from sklearn_autorec.feature_selection import AutoField
from sklearn_autorec.nn import (
    FORMS,
    MaskedEmbedding,
    MixedEmbedding,
    own_bytes,
    table_bytes,
)


def context(seed=0, **changes):
    options = {
        "n_ids": (40, 90),
        "sequences": ((30, 3),),
        "embedding_dim": 8,
        "numeric_embedding": "piecewise",
        "n_numeric_bins": 4,
        "embedding_init": 1.0,
    }
    return small_context(seed, **{**options, **changes})


def stored(part):
    """Bytes of a part that serves, counted tensor by tensor."""
    return sum((part.nbytes() if hasattr(part, "nbytes") else own_bytes(part)).values())


def served(mask, c):
    return stored(MaskedEmbedding(c, mask).compact())


# masks
# --------------------------------------------------------------------------------------------------


def scores_of(kind, c, seed):
    """Scores that favour single elements, columns, the first values of each field, or values."""
    r = np.random.default_rng(seed)
    scores = r.random((c.n_rows, c.embedding_dim))
    if kind == "columns":
        scores += 5 * r.random(c.embedding_dim)
    if kind == "prefixes":
        scores -= np.concatenate([np.arange(n) for n in c.table_sizes])[:, None] / 5
        scores -= np.arange(c.embedding_dim)
    if kind == "values":
        scores += 9 * r.random((c.n_rows, 1))
    return scores


@pytest.mark.parametrize("kind", ["elements", "columns", "prefixes", "values"])
@pytest.mark.parametrize("budget", [0.7, 0.5, 0.2, 0.1, 900])
def test_as_many_elements_as_the_served_form_can_store(kind, budget):
    c = context()
    whole = table_bytes(c)
    limit = budget if isinstance(budget, int) else int(budget * whole)
    scores = scores_of(kind, c, seed=1)
    scores[5:9] = -np.inf
    mask = strongest_within(scores, bytes_for_masked(budget, c), c)
    assert not mask[5:9].any() and 0 < mask.sum() < mask.size
    # The vectors of the number are stored, too.
    assert served(mask, c) <= limit
    # They are the strongest, and one more would be too many.
    assert scores[mask].min() > scores[~mask].max()
    one_more = scores >= scores[~mask].max()
    assert one_more.sum() == mask.sum() + 1 and served(one_more, c) > limit


def test_forms_differ_by_what_is_kept_and_all_of_them_are_asked():
    c, forms = context(), set()
    for kind in ("elements", "columns", "prefixes"):
        for budget in (0.6, 0.15):
            scores = scores_of(kind, c, seed=2)
            mask = strongest_within(scores, bytes_for_masked(budget, c), c)
            forms.add(MaskedEmbedding(c, mask).compact().form)
    assert len(forms) >= 3 and forms <= set(FORMS)


def test_a_whole_budget_keeps_what_was_trained():
    c = context()
    scores = scores_of("elements", c, seed=3)
    for budget in (1.0, table_bytes(c), 10**9):
        assert strongest_within(scores, bytes_for_masked(budget, c), c).all()
    scores[:30] = -np.inf
    mask = strongest_within(scores, bytes_for_masked(1.0, c), c)
    assert not mask[:30].any() and mask[30:].all()


def test_bytes_too_few_for_anything_are_refused_by_name():
    c = context()  # 6 vectors of 8 numbers for the number
    single = np.zeros((160, 8), bool)
    single[0, 0] = True
    least = served(single, c)
    assert bytes_for_masked(least, c) == least - 6 * 8 * 4
    assert strongest_within(np.ones((160, 8)), least - 6 * 8 * 4, c).sum() == 1
    with pytest.raises(
        ValueError, match=rf"budget={least - 1} leaves .* fewer than 192 of the num"
    ):
        bytes_for_masked(least - 1, c)
    # A number of the list takes four bytes, one of the fields a single one and a scale.
    mixed = context(storage={"a": "int8", "b": "int8"})
    assert bytes_for_masked(1.0, mixed) < bytes_for_masked(1.0, c)
    for method in (PEP(budget=0.001), MagnitudePruning(budget=0.001)):
        with pytest.raises(ValueError, match=r"budget=0\.001 leaves"):
            method.build(c)


# widths
# --------------------------------------------------------------------------------------------------


def widths_of(method, c):
    return method.search(types.SimpleNamespace(context=c))["widths"]


def test_bytes_of_widths_are_those_of_the_part():
    for c in (context(), context(shared=(1,), sequences=((90, 3),))):
        r = np.random.default_rng(0)
        for _ in range(6):
            widths = r.integers(0, 9, 4).tolist()
            for f, owner in c.sharers:
                widths[f] = widths[owner]
            assert mixed_bytes(widths, c) == stored(MixedEmbedding(c, widths))


@pytest.mark.parametrize("budget", [0.9, 0.5, 0.2, 0.15, 2000])
def test_equal_size_takes_the_largest_width_that_fits(budget):
    c = context()
    limit = budget if isinstance(budget, int) else int(budget * table_bytes(c))
    (width,) = set(widths_of(EqualSize(budget=budget), c))
    sizes = {w: stored(MixedEmbedding(c, [w] * 4)) for w in range(1, 9)}
    assert width == max(w for w, n_bytes in sizes.items() if n_bytes <= limit) < 8
    assert set(widths_of(EqualSize(budget=1.0), c)) == {8}
    with pytest.raises(ValueError, match="budget=400 leaves 400 bytes; with the width 1"):
        widths_of(EqualSize(budget=400), c)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("budget", [0.5, 0.25, 2500])
def test_random_sizes_are_drawn_within_the_budget(budget, shared):
    shape = {"shared": (1,), "sequences": ((90, 3),)} if shared else {}
    candidates, seen = (1, 2, 5, 8), set()
    for seed in range(20):
        c = context(seed, **shape)
        limit = budget if isinstance(budget, int) else int(budget * table_bytes(c))
        widths = widths_of(RandomSizes(candidates, budget=budget), c)
        assert widths == widths_of(RandomSizes(candidates, budget=budget), context(seed, **shape))
        assert set(widths) <= set(candidates)
        assert stored(MixedEmbedding(c, widths)) <= limit
        # No field could be wider.
        for f, w in itertools.product(range(4), candidates):
            other = [*widths]
            other[f] = w
            for sharer, owner in c.sharers:
                other[sharer] = other[owner]
            if other[f] > widths[f]:
                assert stored(MixedEmbedding(c, other)) > limit
        seen.add(tuple(widths))
    assert len(seen) > 1
    with pytest.raises(ValueError, match="budget=40 leaves 40 bytes; with the width 1"):
        widths_of(RandomSizes(candidates, budget=40), context())


def test_a_budget_that_fits_every_draw_changes_none():
    for seed in range(4):
        free, bound = (widths_of(RandomSizes(budget=b), context(seed)) for b in (None, 0.9))
        assert all(b >= a for a, b in zip(free, bound, strict=True))


def test_the_width_that_costs_least_probability_per_byte_goes_first():
    # Rows 10, 20, 6 and 30; by hand: the likeliest widths take 4 * 66 * 4 bytes without projection.
    c = small_context(
        n_ids=(10, 20), sequences=((30, 3),), numeric_embedding="piecewise", n_numeric_bins=4
    )
    p = np.array([[0.45, 0.55], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    limit = table_bytes(c) - 1
    found = likeliest_within(np.log(p), [2, 4], limit, c)
    # Per number saved: .010, .055, .071 and .023.
    assert found == [2, 4, 4, 4]
    limit = mixed_bytes([2, 4, 4, 4], c) - 1
    assert likeliest_within(np.log(p), [2, 4], limit, c) == [4, 4, 4, 2]  # the first fits again
    assert likeliest_within(np.log(p), [2, 4], mixed_bytes([2] * 4, c), c) == [2] * 4
    assert likeliest_within(np.log(p), [2, 4], table_bytes(c), c) == [4] * 4


@pytest.mark.parametrize("seed", range(6))
def test_likeliest_widths_fit_and_come_near_the_best_of_all(seed):
    c, r = context(), np.random.default_rng(seed)
    p = r.dirichlet(np.ones(4), 4)
    candidates = [0, 2, 5, 8]
    limit = bytes_for_widths(0.4, 0, c)
    found = likeliest_within(np.log(p), candidates, limit, c)
    assert stored(MixedEmbedding(c, found)) <= limit

    def log_p(widths):
        return sum(np.log(p[f, candidates.index(w)]) for f, w in enumerate(widths))

    every = [w for w in itertools.product(candidates, repeat=4) if mixed_bytes(w, c) <= limit]
    best = max(map(log_p, every))
    spread = best - np.mean([*map(log_p, every)])
    assert log_p(found) > best - 0.5 * spread
    # No field alone could be likelier.
    for f, w in itertools.product(range(4), candidates):
        other = (*found[:f], w, *found[f + 1 :])
        assert log_p(other) <= log_p(found) or stored(MixedEmbedding(c, other)) > limit


def test_autodim_keeps_to_its_budget_and_leaves_what_it_does_not_want():
    c = context()
    alpha = torch.tensor([[0.0, 1.0], [0.0, 0.2], [0.5, 0.0], [0.0, 3.0]])

    def derived(budget):
        method = AutoDim((2, 8), budget=budget)
        module = method.build(c)
        with torch.no_grad():
            module.alpha.copy_(alpha)
        return method.derive(module, c)

    free, bound = derived(None), derived(0.8)
    assert free["widths"] == [8, 8, 2, 8] and bound["widths"] == [8, 2, 2, 8]
    assert free["weights"] == bound["weights"]
    assert stored(MixedEmbedding(c, bound["widths"])) < 0.8 * table_bytes(c)
    assert derived(1.0)["widths"] == [8, 8, 2, 8]
    with pytest.raises(ValueError, match="budget=0.1 leaves .* with the width 2 for every field"):
        AutoDim((2, 8), budget=0.1).build(c)


# fitted models
# --------------------------------------------------------------------------------------------------

SMALL = {"network": "fm", "embedding_dim": 8, "lr": 0.01, "max_epochs": 1, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    return mixed_clicks(600, n_fields=3, cardinality=30, zipf=0.5, pairs=1)


@pytest.fixture(scope="module")
def whole(table):
    dense = CTRClassifier(**SMALL).fit(*table)
    return dense.nbytes_["embedding"]


BUDGETED = [PEP(), MagnitudePruning(), EqualSize(), RandomSizes(), AutoDim()]


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("method", BUDGETED, ids=lambda m: type(m).__name__)
def test_one_grid_of_budgets_for_all(method, members, table, whole):
    model = CTRClassifier(**SMALL, members=members)
    for budget in (0.6, 0.4):
        model.set_params(search=method, search__budget=budget).fit(*table)
        n_bytes = model.nbytes_["total"] - model.nbytes_["network"]
        assert n_bytes <= budget * whole * members
        assert model.compression_ratio_ >= 1 / budget
        if not isinstance(method, AutoDim):
            assert n_bytes > 0.8 * budget * whole * members
        assert model.predict_proba(table[0]).std() > 0
    method.set_params(budget=None)


@pytest.mark.parametrize(
    "method, old",
    [(PEP, "target_sparsity"), (MagnitudePruning, "target_sparsity"), (EqualSize, "width")],
)
def test_a_budget_stands_in_place_of_the_other_parameter(method, old, table):
    both = method(**{old: 0.5, "budget": 0.25})
    name = method.__name__
    message = rf"{name} takes {old} or budget, not both, got {old}=0\.5 and budget=0\.25"
    with pytest.raises(ValueError, match=message):
        CTRClassifier(search=both, **SMALL).fit(*table)
    default = {"width": 0.25, "target_sparsity": 0.8}[old]
    one, other = (
        CTRClassifier(search=search, **SMALL).fit(*table)
        for search in (method(), method(**{old: default}))
    )
    for size, same in zip(
        one.embedding_sizes_.values(), other.embedding_sizes_.values(), strict=True
    ):
        np.testing.assert_array_equal(size, same)


@pytest.mark.parametrize("method", BUDGETED, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("budget", [0, 0.0, 1.5, -3, "half"])
def test_other_budgets_are_refused_by_name(method, budget, table):
    with pytest.raises(ValueError, match=f"'budget' parameter of {type(method).__name__} must be"):
        CTRClassifier(search=type(method)(budget=budget), **SMALL).fit(*table)


# sparsity_
# --------------------------------------------------------------------------------------------------


METHODS = [
    cls()
    for cls in map(vars(embedding).get, embedding.__all__)
    if getattr(cls, "slot", None) == "embedding"
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_sparsity_is_the_share_that_is_not_stored(method, table, whole):
    model = CTRClassifier(search=method, **SMALL).fit(*table)
    part = model.net_.module_.embedding
    numbers = sum(p.numel() for n, p in part.named_parameters() if "projection" not in n)
    assert model.sparsity_ == pytest.approx(1 - 4 * numbers / whole)
    assert 0 <= model.sparsity_ < 1
    assert isinstance(model.sparsity_, float)


@pytest.mark.parametrize("members", [1, 3])
def test_sparsity_goes_by_elements_and_not_by_bytes(members, table):
    model = CTRClassifier(search=EqualSize(2), **SMALL, members=members).fit(*table)
    assert model.sparsity_ == 0.75 and model.compression_ratio_ < 4
    pruned = CTRClassifier(search=MagnitudePruning(0.9), **SMALL, members=members).fit(*table)
    kept = sum(int(size.sum()) for size in pruned.embedding_sizes_.values())
    rows = sum(len(size) for size in pruned.embedding_sizes_.values())
    numbers = 26 * 8
    expected = 1 - (kept + numbers) / (8 * rows + numbers)
    assert pruned.sparsity_ == pytest.approx(expected)


def test_numbers_with_a_part_of_their_own_do_not_count(table):
    model = CTRClassifier(search=[AutoDis(), EqualSize(2)], **SMALL).fit(*table)
    assert model.sparsity_ == 0.75


def test_no_sparsity_where_nobody_chose_sizes(table):
    X, y = table
    for search in (None, AutoDis(), AutoField()):
        model = CTRClassifier(search=search, **SMALL).fit(X, y)
        with pytest.raises(AttributeError, match="does not choose embedding sizes"):
            _ = model.sparsity_
    with pytest.warns(UserWarning, match="single class"):
        model = CTRClassifier(search=NIS(), **SMALL).fit(X[:50], np.zeros(50, int))
    with pytest.raises(AttributeError, match="does not choose embedding sizes"):
        _ = model.sparsity_
