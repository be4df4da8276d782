import copy

import numpy as np
import pytest
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.base import FixedArchitecture
from sklearn_autorec.datasets import make_ctr
from sklearn_autorec.embedding import MDE, EqualSize
from sklearn_autorec.embedding._mixed_dimensions import mixed_widths


def test_widths_are_a_power_of_the_popularity():
    n = np.array([1, 4, 9, 100, 10_000])
    assert mixed_widths(1 / n, 0.5, 12, 16).tolist() == [12, 6, 4, 1, 1]
    assert mixed_widths(1 / n, 0.5, 40, 16).tolist() == [16, 16, 13, 4, 1]
    assert mixed_widths(1 / n, 0.0, 5.5, 16).tolist() == [5] * 5
    assert mixed_widths(1 / n, 1.0, 200, 12).tolist() == [12, 12, 12, 2, 1]
    # Powers of two, or all columns.
    assert mixed_widths(1 / n, 0.5, 40, 12, True).tolist() == [12, 12, 12, 4, 1]
    assert mixed_widths(1 / n, 0.5, 12, 16, True).tolist() == [8, 4, 4, 1, 1]


PLANTED = {"n_fields": 5, "cardinality": [15, 15, 120, 120, 120], "zipf": 0.0, "pair_effect": 3.0}
OPTIONS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.02,
    "embedding_init": 0.1,
    "batch_size": 200,
    "max_epochs": 8,
    "early_stopping": False,
    "device": "cpu",
}


@pytest.mark.parametrize("seed", range(5))
def test_small_fields_of_high_rank_are_what_the_rule_is_made_for(seed):
    X, y, _ = make_ctr(
        9000, **PLANTED, pairs=[(0, 1), (2, 3)], rank=[6, 6, 1, 1, 1], random_state=seed
    )

    def fitted(search):
        model = CTRClassifier(search=search, random_state=seed, **OPTIONS).fit(X[:5000], y[:5000])
        return log_loss(y[5000:], model.predict_proba(X[5000:])[:, 1]), model

    loss, model = fitted(MDE(0.2, alpha=0.6))
    assert list(model.embedding_sizes_.values()) == [6, 6, 1, 1, 1]
    equal, other = fitted(EqualSize(2))
    assert loss < equal - 0.06
    assert model.nbytes_["embedding"] < 0.2 * 4 * 8 * 400 < other.nbytes_["embedding"]
    # The control: the same widths, of fields of which they are not true.
    entry = copy.deepcopy(model.architecture_["embedding"])
    entry["widths"] = entry["widths"][2:] + entry["widths"][:2]
    assert fitted(FixedArchitecture(entry))[0] > loss + 0.15


@pytest.fixture(scope="module")
def mixed():
    X, y, _ = make_ctr(
        600,
        n_fields=3,
        cardinality=[3, 20, 60],
        pairs=1,
        n_numeric=1,
        n_sequences=1,
        missing_rate=0.05,
        random_state=0,
    )
    return X.assign(constant="x"), y


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("budget", [0.15, 0.5, 0.8, 2500])
def test_the_largest_scale_that_fits_is_taken(alpha, budget, mixed):
    X, y = mixed
    model = CTRClassifier(
        network="fm", search=MDE(budget, alpha), embedding_dim=16, max_epochs=1, random_state=0
    ).fit(X, y)
    sizes = model.embedding_sizes_
    assert sizes["x0"] == 16  # numbers are left whole
    names = ["f0", "f1", "f2", "constant", "s0"]
    n = np.array([*model.encoder_.n_ids_, *model.encoder_.sequence_n_ids_])
    widths = np.array([sizes[name] for name in names])
    limit = budget if budget > 1 else budget * 4 * 16 * n.sum()
    assert 4 * (n * widths).sum() <= limit
    # With a scale that is larger by no more than it takes for one width to grow, nothing fits.
    next_scales = (widths + 1) * n**alpha * (1 + 1e-9)
    grown = mixed_widths(1 / n, alpha, next_scales[widths < 16].min(), 16)
    assert (grown >= widths).all() and 4 * (n * grown).sum() > limit
    order = np.argsort(n)
    assert (np.diff(widths[order]) <= 0).all()
    assert model.nbytes_["embedding"] == 4 * ((n * widths).sum() + 16 * 26)


@pytest.mark.parametrize("cls", [CTRClassifier, RatingRegressor])
def test_it_predicts_rows_that_are_new(cls, mixed):
    X, y = mixed
    model = cls(network="deepfm", search=MDE(), members=2, max_epochs=1, random_state=0)
    model.fit(X, y * 1.0)
    new = X[:4].assign(f1=["unseen", None, "1", "2"])
    assert np.isfinite(model.predict(new).astype(float)).all() and len(model.predict(new[:1])) == 1


def test_numbers_alone_are_left_whole():
    X = np.random.default_rng(0).normal(size=(100, 2))
    model = CTRClassifier(network="fm", search=MDE(), max_epochs=1, random_state=0)
    assert set(model.fit(X, X[:, 0] > 0).embedding_sizes_.values()) == {16}


def test_lists_have_the_width_of_the_table_that_they_read():
    X, y, _ = make_ctr(300, n_fields=2, cardinality=9, pairs=1, n_sequences=1, random_state=0)
    encoder = {"encoder__shared_vocabularies": {"s0": "f0"}}
    model = CTRClassifier(network="fm", search=MDE(), max_epochs=1, random_state=0)
    sizes = model.set_params(**encoder).fit(X, y).embedding_sizes_
    assert sizes["s0"] == sizes["f0"] < 16


def test_what_does_not_fit_is_refused(mixed):
    with pytest.raises(ValueError, match=r"budget=0.01 is \d+ bytes, but a column for every"):
        CTRClassifier(network="fm", search=MDE(0.01), max_epochs=1).fit(*mixed)
    for search, name in ((MDE(0.0), "budget"), (MDE(alpha=2), "alpha"), (MDE(0.5, 0, 1), "powers")):
        with pytest.raises(ValueError, match=f"'{name}.*' parameter of MDE"):
            CTRClassifier(network="fm", search=search, max_epochs=1).fit(*mixed)
