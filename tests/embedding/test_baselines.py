import numpy as np
import pytest
import torch
from small_tables import mixed_clicks

from sklearn_autorec import CTRClassifier
from sklearn_autorec.embedding import EqualSize, MagnitudePruning, RandomSizes
from sklearn_autorec.nn import mask_from_text


@pytest.fixture(scope="module")
def table():
    return mixed_clicks(1500, cardinality=12, zipf=0.5, pairs=2)


def fit(table, search, seed=0, **options):
    options = {
        "network": "fm",
        "embedding_dim": 8,
        "lr": 0.01,
        "max_epochs": 2,
        "id_dropout": 0.0,
        **options,
    }
    return CTRClassifier(search=search, random_state=seed, **options).fit(*table)


@pytest.mark.parametrize(
    "width, expected", [(1, 1), (3, 3), (8, 8), (0.25, 2), (0.01, 1), (1.0, 8), (0.4, 3), (0.45, 4)]
)
def test_equal_size_gives_every_field_the_width(table, width, expected):
    model = fit(table, EqualSize(width))
    assert list(model.embedding_sizes_.values()) == [expected] * 6
    embedding = model.net_.module_.embedding
    # Knots of a number.
    n_values = sum(model.encoder_.n_ids_) + sum(model.encoder_.sequence_n_ids_) + 24 + 2
    assert model.nbytes_["embedding"] == 4 * n_values * expected
    assert model.nbytes_["projection"] == (0 if expected == 8 else 4 * expected * 8)
    assert model.compression_ratio_ == pytest.approx(
        4 * n_values * 8 / (model.nbytes_["embedding"] + model.nbytes_["projection"])
    )
    assert (
        sum(p.numel() for p in embedding.parameters())
        == (n_values * expected) + (expected < 8) * expected * 8
    )


def test_equal_size_takes_a_quarter_where_nothing_is_said(table):
    assert set(fit(table, EqualSize(), max_epochs=1).embedding_sizes_.values()) == {2}


def test_equal_size_refuses_what_does_not_fit(table):
    with pytest.raises(ValueError, match="between 0 and embedding_dim=8, got"):
        fit(table, EqualSize(9))
    with pytest.raises(ValueError, match="'width' parameter of EqualSize"):
        fit(table, EqualSize(0))
    with pytest.raises(ValueError, match="'width' parameter of EqualSize"):
        fit(table, EqualSize(1.5))


def test_random_sizes_are_seeded_and_from_the_candidates(table):
    def drawn(seed, candidates):
        model = fit(table, RandomSizes(candidates), seed, max_epochs=1)
        assert model.architecture_["embedding"]["candidates"] == sorted(
            {1, 2, 4, 8} if candidates == "auto" else candidates
        )
        return list(model.embedding_sizes_.values())

    assert drawn(0, "auto") == drawn(0, "auto")
    seen = [drawn(seed, (0, 5, 8)) for seed in range(6)]
    assert {w for widths in seen for w in widths} == {0, 5, 8}
    assert len({tuple(widths) for widths in seen}) > 3
    assert {w for seed in range(6) for w in drawn(seed, "auto")} == {1, 2, 4, 8}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("target", [0.0, 0.5, 0.9, 1.0])
def test_magnitude_pruning_keeps_the_largest_of_the_rows_seen(table, target, lazy, monkeypatch):
    from sklearn_autorec.estimators import _context

    if lazy:
        monkeypatch.setattr(_context, "LAZY_TABLE_FACTOR", 0)
    searched = []
    real = MagnitudePruning.derive

    def spy(self, module, context):
        searched.append(module)
        return real(self, module, context)

    monkeypatch.setattr(MagnitudePruning, "derive", spy)
    model = fit(table, MagnitudePruning(target))
    (module,) = searched
    mask = mask_from_text(model.architecture_["embedding"]["mask"])
    size = module.weight.detach().abs().numpy()
    encoder = model.encoder_
    # Missing and unknown values are in no row; padding stands for the missing value of a list.
    unseen = np.concatenate(
        [np.arange(n) < 2 for n in encoder.n_ids_]
        + [np.arange(n) == 1 for n in encoder.sequence_n_ids_]
    )
    assert module.sparse == lazy
    assert np.array_equal(~module.seen.numpy(), unseen)
    assert not mask[unseen].any()
    assert mask.sum() == min(round((1 - target) * mask.size), (~unseen).sum() * 8)
    dropped = ~mask & ~unseen[:, None]
    if mask.any() and dropped.any():
        assert size[mask].min() >= size[dropped].max()
    assert isinstance(module.weight, torch.nn.Parameter) and size.std() > 0


def test_magnitude_pruning_is_named_in_messages(table):
    with pytest.raises(ValueError, match="'target_sparsity' parameter of MagnitudePruning"):
        fit(table, MagnitudePruning(-0.1))
