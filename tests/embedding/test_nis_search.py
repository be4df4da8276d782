"""NIS: what it finds, tables of all kinds, and what is refused."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from nis_cases import context
from size_cases import planted
from sklearn.metrics import log_loss

from sklearn_autorec import CTRClassifier, RatingRegressor
from sklearn_autorec.embedding import NIS, EqualSize
from sklearn_autorec.nn import mask_from_text
from sklearn_autorec.serving import load, save

OPTIONS = {
    "network": "fm",
    "embedding_dim": 8,
    "lr": 0.02,
    "batch_size": 256,
    "max_epochs": 6,
    "search_epochs": 40,
    "device": "cpu",
}

WHOLE = 4 * 8 * (102 + 10 + 102)
BUDGET = 0.165  # a share of .15, and what says where the blocks are


def by_block(model):
    """Mean size of the values of each block, by column; the rare values that an encoder drops are
    not there.
    """
    return {
        name: [block.mean() for block in np.array_split(np.asarray(sizes)[2:], 5)]
        for name, sizes in model.embedding_sizes_.items()
    }


@functools.cache
def fitted(mode, seed, shuffled=False, task="clicks"):
    X, y, _, _ = planted(seed, task=task)
    if shuffled:
        y = np.random.default_rng(seed).permutation(y)
    cls = CTRClassifier if task == "clicks" else RatingRegressor
    options = OPTIONS if task == "clicks" and not shuffled else {**OPTIONS, "max_epochs": 1}
    return cls(search=NIS(mode, budget=BUDGET), random_state=seed, **options).fit(X, y)


@functools.cache
def loss_of_two_columns(seed):
    """Log loss of new rows and bytes where all values have two columns, nearly twice the budget."""
    X, y, X_new, y_new = planted(seed)
    model = CTRClassifier(search=EqualSize(2), random_state=seed, **OPTIONS).fit(X, y)
    return log_loss(y_new, model.predict_proba(X_new)), model.nbytes_["embedding"]


def finds_the_truth(model):
    sizes = by_block(model)
    rich, noise = sizes["rich"], sizes["noise"]
    return (
        rich[0] >= 2  # of four columns that the truth has
        and max(rich[2:]) < rich[0] / 2
        and min(sizes["partner"]) >= 2
        and sum(noise) <= sum(rich)
        and max(noise[2:]) == 0
    )


# What is found
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("seed", range(5))
def test_blocks_that_say_something_are_kept_within_the_budget(mode, seed):
    model = fitted(mode, seed)
    assert finds_the_truth(model), by_block(model)
    stored = 4 * sum(np.sum(sizes) for sizes in model.embedding_sizes_.values())
    assert stored <= BUDGET * WHOLE
    assert model.nbytes_["embedding"] == stored
    _, _, X_new, y_new = planted(seed)
    loss, n_bytes = loss_of_two_columns(seed)
    assert stored < 0.7 * n_bytes
    assert log_loss(y_new, model.predict_proba(X_new)) < loss - 0.03


@pytest.mark.filterwarnings("ignore:NIS.* keeps no number of the embedding tables")
@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_find_nothing(seed):
    assert not finds_the_truth(fitted("single", seed, shuffled=True))


def test_ratings_decide_as_well():
    model = fitted("single", 0, task="ratings")
    assert finds_the_truth(model), by_block(model)


def test_a_budget_of_everything_without_a_price_keeps_more():
    X, y, _, _ = planted(0, n=1500)
    options = {**OPTIONS, "search_epochs": 20, "max_epochs": 1, "random_state": 0}
    kept = [
        CTRClassifier(search=NIS(budget=budget, cost_weight=price), **options).fit(X, y)
        for budget, price in ((1.0, 0.0), (0.1, 1.0))
    ]
    free, dear = (4 * sum(np.sum(s) for s in m.embedding_sizes_.values()) for m in kept)
    assert free > 1.5 * dear


@pytest.mark.parametrize("mode", ["single", "multi"])
def test_the_price_alone_moves_the_policy_under_the_budget(mode):
    """Where nothing is to be learned from the losses: all rows have the same."""
    c = context(sequences=(), n_numeric=0)
    module = NIS(mode, budget=0.5, cost_weight=1.0, arch_lr=0.2).build(c)
    optimizer, used = module.arch_optimizer(100), []
    for _ in range(100):
        module.sample()
        used.append(float(module.choices.bytes_of(module.actions).mean()))
        loss = module.policy_loss(torch.zeros(64)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert used[0] > module.budget and used[-1] < 1.1 * module.budget


def odd_table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "a": rng.integers(0, 9, n).astype(str),
            "constant": ["x"] * n,
            "number": rng.normal(size=n),
            "list": [[str(i) for i in rng.integers(0, 5, rng.integers(0, 4))] for _ in range(n)],
        }
    )
    X.loc[rng.random(n) < 0.2, "a"] = None
    return X, rng.integers(0, 2, n)


# Tables of all kinds, and what is refused
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("cls", [CTRClassifier, RatingRegressor])
def test_odd_tables_fit_predict_and_come_back(mode, cls, tmp_path):
    X, y = odd_table()
    model = cls(
        network="deepfm", search=NIS(mode), embedding_dim=6, max_epochs=1, random_state=0
    ).fit(X, y)
    new = X[:5].assign(a=["unseen", None, "1", "2", "3"])
    predictions = model.predict(new)
    assert np.isfinite(predictions.astype(float)).all() and len(model.predict(new[:1])) == 1
    save(model, tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(new), predictions)
    sizes = model.embedding_sizes_
    assert sizes.keys() == {"a", "constant", "list"} or sizes["number"] is not None
    mask = mask_from_text(model.architecture_["embedding"]["mask"])
    assert 4 * mask.sum() <= 0.5 * 4 * mask.size


def test_numbers_alone_have_no_table_to_search():
    X = np.random.default_rng(0).normal(size=(100, 3))
    model = CTRClassifier(network="fm", search=NIS(), max_epochs=1, random_state=0)
    assert model.fit(X, X[:, 0] > 0).predict(X).shape == (100,)


def test_an_int_is_a_budget_in_bytes():
    X, y, _, _ = planted(0, n=500)
    options = {**OPTIONS, "search_epochs": 2, "max_epochs": 1, "random_state": 0}
    model = CTRClassifier(search=NIS(budget=600), **options).fit(X, y)
    assert 300 <= model.nbytes_["embedding"] <= 600


@pytest.mark.parametrize("budget, told", [(4, "4 bytes"), (0.0001, "0 bytes")])
def test_a_budget_of_less_than_a_block_is_refused(budget, told):
    X, y = odd_table()
    with pytest.raises(ValueError, match=rf"budget={budget!r} is {told}, but the smallest block"):
        CTRClassifier(network="fm", search=NIS(budget=budget), max_epochs=1).fit(X, y)


@pytest.mark.parametrize("budget, error", [(3, ValueError), (True, TypeError)])
def test_what_is_no_budget_is_refused(budget, error):
    X, y = odd_table(40)
    with pytest.raises(error, match=f"budget.*{budget!r}"):
        CTRClassifier(network="fm", search=NIS(budget=budget), max_epochs=1).fit(X, y)


def test_searched_weights_may_serve_as_they_are():
    X, y, X_new, y_new = planted(0)
    options = {**OPTIONS, "random_state": 0}
    model = CTRClassifier(search=NIS(budget=0.15, retrain="none"), **options).fit(X, y)
    anew = fitted("single", 0)
    assert model.architecture_["embedding"]["mask"] == anew.architecture_["embedding"]["mask"]
    own, other, full = (
        log_loss(y_new, m.predict_proba(X_new))
        for m in (model, anew, CTRClassifier(**options).fit(X, y))
    )
    assert own < full and own < other + 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "both"},
        {"budget": 1.5},
        {"budget": -10},
        {"cost_weight": -1.0},
        {"n_row_blocks": 0},
        {"n_col_blocks": 0},
        {"arch_lr": 0.0},
        {"arch_every": 0},
        {"search_fraction": 1.0},
        {"warmup": 1.0},
        {"entropy": -0.1},
        {"n_actions": 1},
        {"retrain": "again"},
    ],
)
def test_bad_parameters_are_named(options):
    X, y = odd_table(40)
    (name,) = options
    with pytest.raises(ValueError, match=f"'{name}' parameter"):
        CTRClassifier(network="fm", search=NIS(**options), max_epochs=1).fit(X, y)


@pytest.mark.parametrize(
    "mask", [None, {}, {"shape": [3, 2], "bits": "AA=="}, {"shape": [2], "bits": ""}]
)
def test_a_mask_of_another_table_is_refused(mask):
    with pytest.raises(ValueError, match="mask"):
        NIS().check({"mask": mask}, context())
